//! Stories of routers and their collectors.

pub(crate) mod collector;
mod connections;
mod random;

use self::collector::{Story, of, told};
use crate::codec::Value;
use crate::vanflow::{Attribute, LogLine, RecordType, Settings, Watched};

const ENTITIES: &str = "mc/sfe.abcde:0";
const LOGS: &str = "mc/sfe.abcde:0.logs";

#[test]
fn a_router_says_who_it_is() {
    let mut story = Story::of(&Settings {
        id: "R".into(),
        mode: "edge".into(),
        site_id: Some("site 1".into()),
        hostname: Some("host".into()),
        namespace: Some("ns".into()),
        image_name: Some("image".into()),
        image_version: Some("2".into()),
        build_version: "1".into(),
    });
    story.usable(Watched::Entities, true);
    let started = story.micros();
    let heard = story.run(3200);
    let records = told(&heard, ENTITIES);
    assert_eq!(records.len(), 1);
    let expected: [(u32, Value); 11] = [
        (0, Value::Uint(1)),
        (1, "abcde:0".into()),
        (2, "site 1".into()),
        (3, Value::Ulong(started)),
        (12, "ns".into()),
        (13, "edge".into()),
        (20, "image".into()),
        (21, "2".into()),
        (22, "host".into()),
        (30, "0/R".into()),
        (32, "1".into()),
    ];
    assert_eq!(records[0], expected.into());
    assert_eq!((heard[0].subject.as_str(), heard[0].at), ("RECORD", 2000));
    assert_eq!(story.run(10_000).len(), 0, "nothing is news");
}

#[test]
fn a_site_is_its_routers_parent() {
    let mut story = Story::new();
    let now = story.now();
    let site = story.vanflow.begin_site(Some("site 1".into()), now);
    story.vanflow.set(site, Attribute::Name, "here");
    story.usable(Watched::Entities, true);
    let records = told(&story.run(3200), ENTITIES);
    assert_eq!(of(&records, "site 1")[0][&30], "here".into());
    assert_eq!(of(&records, "abcde:0")[0][&2], "site 1".into());

    let mut story = Story::new();
    let now = story.now();
    story.vanflow.begin_site(None, now);
    story.usable(Watched::Entities, true);
    let records = told(&story.run(3200), ENTITIES);
    assert_eq!(of(&records, "abcde:0")[0][&2], "abcde:1".into());
}

#[test]
fn heartbeats_and_beacons_are_for_whoever_collects() {
    let mut story = Story::new();
    assert!(story.run(20_000).is_empty());
    story.usable(Watched::All, true);
    let heard = story.run(11_900);
    let beacons: Vec<u64> = heard.iter().map(|heard| heard.at - 20_000).collect();
    assert_eq!(beacons, [0, 10_000], "and no heartbeat");
    let beacon = &heard[0];
    assert_eq!(
        (beacon.subject.as_str(), beacon.to.as_str()),
        ("BEACON", "mc/sfe.all")
    );
    let expected = [
        ("v".to_owned(), Value::Uint(1)),
        ("sourceType".to_owned(), "ROUTER".into()),
        ("id".to_owned(), "abcde:0".into()),
        ("address".to_owned(), ENTITIES.into()),
        ("direct".to_owned(), "sfe.abcde:0".into()),
    ];
    assert_eq!(beacon.properties, expected.into());

    story.usable(Watched::Entities, true);
    let heard = story.run(4000);
    let beats = heard.iter().filter(|heard| heard.subject == "HEARTBEAT");
    let beats: Vec<_> = beats.collect();
    assert_eq!(
        beats.iter().map(|beat| beat.at).collect::<Vec<_>>(),
        [32_000, 34_000]
    );
    assert_eq!(beats[0].to, ENTITIES);
    let expected = [
        ("v".to_owned(), Value::Uint(1)),
        ("now".to_owned(), Value::Ulong(1_700_000_032_000_000)),
        ("id".to_owned(), "abcde:0".into()),
    ];
    assert_eq!(beats[0].properties, expected.into());

    story.usable(Watched::All, false);
    story.usable(Watched::Entities, false);
    assert!(story.run(20_000).is_empty());
    assert_eq!(story.vanflow.poll_timeout(), None, "it sleeps");
}

#[test]
fn messages_are_numbered_whatever_they_are() {
    let mut story = Story::new();
    for watched in Watched::ALL {
        story.usable(watched, true);
    }
    let heard = story.run(12_000);
    let ids: Vec<i64> = heard.iter().map(|heard| heard.id).collect();
    assert_eq!(ids, (0..heard.len() as i64).collect::<Vec<_>>());
    let subjects: std::collections::BTreeSet<_> = heard.iter().map(|h| &*h.subject).collect();
    assert_eq!(
        subjects.into_iter().collect::<Vec<_>>(),
        ["BEACON", "HEARTBEAT", "RECORD"]
    );
}

#[test]
fn a_record_is_told_once_a_second_with_what_has_changed() {
    let mut story = Story::collected();
    let now = story.now();
    let link = story.vanflow.begin(RecordType::Link, now);
    story.vanflow.set(link, Attribute::Name, "to the other");
    let mut heard = Vec::new();
    for octets in 0..30u64 {
        story.vanflow.set(link, Attribute::Octets, octets);
        heard.extend(story.run(100));
    }
    let records = told(&heard, ENTITIES);
    let records = of(&records, "abcde:1");
    assert_eq!(records.len(), 3);
    assert_eq!(
        records[0].keys().copied().collect::<Vec<_>>(),
        [0, 1, 2, 3, 23, 30]
    );
    assert_eq!(records[0][&2], "abcde:0".into());
    assert_eq!(records[1].keys().copied().collect::<Vec<_>>(), [0, 1, 23]);
    let at = heard.iter().filter(|heard| !heard.records.is_empty());
    let at: Vec<u64> = at.map(|heard| heard.at).collect();
    assert_eq!((at[1] - at[0], at[2] - at[1]), (1000, 1000));
    story.run(1000);
    story.vanflow.set(link, Attribute::Octets, 29);
    assert!(
        told(&story.run(3000), ENTITIES).is_empty(),
        "that is no news"
    );
}

#[test]
fn the_end_of_a_record_is_its_last_word() {
    let mut story = Story::collected();
    let now = story.now();
    let link = story.vanflow.begin(RecordType::Link, now);
    story.run(1000);
    let ended = story.micros();
    let now = story.now();
    story.vanflow.end(link, now);
    let records = told(&story.run(1000), ENTITIES);
    let expected = [
        (0, Value::Uint(2)),
        (1, "abcde:1".into()),
        (4, Value::Ulong(ended)),
    ];
    assert_eq!(records, [expected.into()]);
    story.vanflow.set(link, Attribute::Octets, 5);
    story.vanflow.flush();
    assert_eq!(of(&told(&story.run(3000), ENTITIES), "abcde:1").len(), 0);
}

#[test]
fn whoever_asks_is_told_everything_within_a_second() {
    let mut story = Story::collected();
    for _ in 0..120 {
        let now = story.now();
        let link = story.vanflow.begin(RecordType::Link, now);
        story.vanflow.set(link, Attribute::Name, "a");
        story.run(20);
    }
    story.run(1000);
    story.vanflow.flush();
    let heard = story.run(1000);
    let records = told(&heard, ENTITIES);
    assert_eq!(records.len(), 121);
    assert!(
        records
            .iter()
            .all(|record| record.contains_key(&3) && record.contains_key(&30))
    );
    assert!(heard.iter().all(|heard| heard.records.len() <= 50));
}

#[test]
fn records_go_fifty_to_a_message() {
    let mut story = Story::collected();
    for _ in 0..120 {
        let now = story.now();
        story.vanflow.begin(RecordType::Link, now);
    }
    let heard = story.run(1000);
    let sizes: Vec<usize> = heard.iter().map(|heard| heard.records.len()).collect();
    assert_eq!(
        sizes
            .into_iter()
            .filter(|size| *size > 0)
            .collect::<Vec<_>>(),
        [50, 50, 20]
    );
}

#[test]
fn what_nobody_collects_is_kept_for_whoever_asks_later() {
    let mut story = Story::new();
    let now = story.now();
    let link = story.vanflow.begin(RecordType::Link, now);
    story.vanflow.set(link, Attribute::Name, "a");
    assert!(story.run(5000).is_empty());
    story.usable(Watched::Entities, true);
    assert!(told(&story.run(3000), ENTITIES).is_empty());
    story.vanflow.flush();
    let records = told(&story.run(1000), ENTITIES);
    assert_eq!(of(&records, "abcde:1")[0][&30], "a".into());
}

#[test]
fn lines_of_the_log_are_records_while_somebody_collects_them() {
    let line = LogLine {
        module: "SERVER",
        severity: 3,
        text: "It broke",
        file: "src/server.rs",
        line: 7,
        at: 1_700_000_001_000_000,
    };
    let mut story = Story::new();
    story.vanflow.set_logs(true, false);
    story.vanflow.log(line);
    story.usable(Watched::Logs, true);
    story.run(3000);
    story.vanflow.log(line);
    let records = told(&story.run(1000), LOGS);
    let expected = [
        (0, Value::Uint(14)),
        (1, "abcde:1".into()),
        (2, "abcde:0".into()),
        (3, Value::Ulong(1_700_000_001_000_000)),
        (4, Value::Ulong(1_700_000_001_000_000)),
        (48, Value::Ulong(3)),
        (49, "LOG_SERVER: It broke".into()),
        (50, "src/server.rs".into()),
        (51, Value::Ulong(7)),
    ];
    assert_eq!(records, [expected.into()]);
    assert!(story.lines.iter().all(|line| !line.starts_with("LOG ")));
    story.vanflow.flush();
    assert!(told(&story.run(2000), LOGS).is_empty(), "it is over");
}

#[test]
fn the_log_has_a_line_of_each_beginning_and_end_after_the_parents() {
    let mut story = Story::new();
    story.vanflow.set_logs(true, false);
    let now = story.now();
    let link = story.vanflow.begin(RecordType::Link, now);
    story.vanflow.set(link, Attribute::Name, "a");
    story.run(3000);
    let router = "ROUTER [abcde:0] BEGIN mode=interior name=0/R buildVersion=1";
    assert_eq!(story.lines, [router]);
    let now = story.now();
    story.vanflow.end(link, now);
    story.run(1500);
    assert_eq!(
        story.lines[1..],
        ["LINK [abcde:1] BEGIN END parent=abcde:0 name=a"]
    );
    let quiet = Story::collected();
    assert!(quiet.lines.iter().all(|line| !line.starts_with("ROUTER")));
}

#[test]
fn what_has_not_left_is_not_added_to() {
    let mut story = Story::collected();
    for round in 0..50u64 {
        let now = story.now();
        let link = story.vanflow.begin(RecordType::Link, now);
        story.vanflow.set(link, Attribute::Octets, round);
    }
    // Nobody takes what it has to say.
    let mut now = story.now();
    for _ in 0..500 {
        now += std::time::Duration::from_millis(200);
        story.vanflow.handle_timeout(now, now - story.now());
    }
    let mut heard = Vec::new();
    story.listen(&mut heard);
    let records = heard.iter().filter(|heard| heard.subject == "RECORD");
    assert_eq!(records.count(), 1);
}

#[test]
fn when_the_router_stops_everything_is_told() {
    let mut story = Story::collected();
    let now = story.now();
    let links = [0; 3].map(|_| story.vanflow.begin(RecordType::Link, now));
    for link in links {
        story.run(150);
        story.vanflow.set(link, Attribute::Name, "a");
    }
    let now = story.now();
    story.vanflow.shut_down(now);
    let mut heard = Vec::new();
    story.listen(&mut heard);
    let ended = told(&heard, ENTITIES);
    let ended = ended.iter().filter(|record| record.contains_key(&4));
    assert_eq!(ended.count(), 3);
    assert!(told(&story.run(3000), ENTITIES).is_empty());
}
