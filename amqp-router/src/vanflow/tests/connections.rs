//! TCP connections, from one router or from two.

use super::collector::{Heard, Story, Told, of, told};
use crate::codec::Value;
use crate::vanflow::{
    Attribute, FlowEvent, FlowKey, Identity, Origin, RecordId, RecordType, Watched, updates,
};

const FLOWS: &str = "mc/sfe.abcde:0.flows";

impl Story {
    fn listener(&mut self) -> RecordId {
        let now = self.now();
        self.vanflow.begin(RecordType::Listener, now)
    }

    /// A client connects, if there may be a record of it.
    fn client(&mut self, listener: RecordId) -> Option<RecordId> {
        let origin = self.vanflow.origin();
        let record = origin.admit().then(|| origin.next_id())?;
        let at = self.now();
        self.vanflow.flow(FlowEvent::Began {
            record,
            listener,
            at,
        });
        Some(record)
    }

    /// A request is sent in a connection, if there may be a record of it.
    fn request(&mut self, connection: RecordId) -> Option<RecordId> {
        let origin = self.vanflow.origin();
        let record = origin.admit_request().then(|| origin.next_id())?;
        let at = self.now();
        self.vanflow.flow(FlowEvent::Asked {
            record,
            connection,
            at,
        });
        Some(record)
    }

    fn says(&mut self, key: FlowKey, attribute: Attribute, datum: u64) {
        let event = FlowEvent::Says(key, attribute, datum.into());
        self.vanflow.flow(event);
    }

    fn ends(&mut self, key: FlowKey) {
        let at = self.now();
        self.vanflow.flow(FlowEvent::Ended(key, at));
    }

    /// Takes over what another router has sent to this one's records.
    fn hear(&mut self, heard: &[Heard]) {
        for heard in heard.iter().filter(|heard| heard.to == "vfcr.abcde:0") {
            for update in updates(&heard.octets) {
                self.vanflow.update(update);
            }
        }
    }
}

fn foreign(id: RecordId) -> Identity {
    Identity::parse(&format!("abcde:{}", id.0)).unwrap()
}

fn only<'a>(records: &'a [Told], identity: &str) -> &'a Told {
    match of(records, identity)[..] {
        [record] => record,
        ref other => panic!("{other:?}"),
    }
}

#[test]
fn a_connection_is_told_from_its_client_to_its_end() {
    let mut story = Story::collected();
    let listener = story.listener();
    let client = story.client(listener).unwrap();
    let key = FlowKey::Own(client);
    let records = told(&story.run(1000), FLOWS);
    let began = only(&records, "abcde:2");
    assert_eq!(began[&0], Value::Uint(16));
    assert_eq!(began[&2], "abcde:1".into());
    assert_eq!(
        (&began[&23], &began[&58]),
        (&Value::Ulong(0), &Value::Ulong(0))
    );

    story.says(key, Attribute::Octets, 700);
    story.ends(key);
    assert!(
        told(&story.run(4800), FLOWS).is_empty(),
        "more may be known of it"
    );
    let records = told(&story.run(400), FLOWS);
    let ended = only(&records, "abcde:2");
    assert_eq!(ended.keys().copied().collect::<Vec<_>>(), [0, 1, 4, 23]);
    assert_eq!(story.vanflow.origin().live(), 0);
}

#[test]
fn two_routers_tell_a_connection_together() {
    let mut client_side = Story::collected();
    let listener = client_side.listener();
    let record = client_side.client(listener).unwrap();
    let identity = foreign(record);

    let mut service_side = other_router();
    let key = FlowKey::Of(identity);
    service_side.vanflow.flow(FlowEvent::Joined(identity));
    service_side.says(key, Attribute::ProcessLatency, 1234);
    let heard = service_side.run(1000);
    assert_eq!(heard.len(), 1, "whoever listens");
    assert_eq!(heard[0].to, "vfcr.abcde:0");
    let expected = [
        (0, Value::Uint(16)),
        (1, "abcde:2".into()),
        (61, Value::Ulong(1234)),
    ];
    assert_eq!(heard[0].records, [expected.into()]);
    client_side.run(1000);
    client_side.hear(&heard);
    let records = told(&client_side.run(1000), FLOWS);
    assert_eq!(only(&records, "abcde:2")[&61], Value::Ulong(1234));

    service_side.ends(key);
    assert!(
        service_side.run(3000).is_empty(),
        "there is nothing to say of its end"
    );
    assert_eq!(service_side.vanflow.origin().live(), 0);
    service_side.vanflow.flush();
    assert!(service_side.run(3000).is_empty());
}

#[test]
fn a_request_is_told_below_its_connection_and_ends_at_once() {
    let mut story = Story::collected();
    let listener = story.listener();
    let client = story.client(listener).unwrap();
    let request = story.request(client).unwrap();
    let key = FlowKey::Own(request);
    let method = FlowEvent::Says(key, Attribute::Method, "GET".into());
    story.vanflow.flow(method);
    let heard = story.run(1000);
    let records = told(&heard, FLOWS);
    let began = only(&records, "abcde:3");
    assert_eq!(
        (&began[&0], &began[&2]),
        (&Value::Uint(17), &"abcde:2".into())
    );
    assert_eq!(began[&27], "GET".into());
    assert_eq!(
        (&began[&23], &began[&58]),
        (&Value::Ulong(0), &Value::Ulong(0))
    );
    assert_eq!(story.vanflow.origin().live(), 2);
    story.says(key, Attribute::Latency, 70);
    story.ends(key);
    let records = told(&story.run(1000), FLOWS);
    let ended = only(&records, "abcde:3");
    assert_eq!(ended.keys().copied().collect::<Vec<_>>(), [0, 1, 4, 24]);
    assert_eq!(story.vanflow.origin().live(), 1);
    // Nobody elsewhere has anything to say of it.
    let next = story.request(client).unwrap();
    story.vanflow.update(crate::vanflow::Update {
        identity: foreign(next),
        attributes: vec![(Attribute::Trace, "0/B".into())],
    });
    let records = told(&story.run(1000), FLOWS);
    assert!(!only(&records, "abcde:4").contains_key(&31));
}

#[test]
fn requests_of_a_short_connection_are_told_after_it() {
    let mut story = Story::collected();
    let listener = story.listener();
    let client = story.client(listener).unwrap();
    let request = story.request(client).unwrap();
    story.ends(FlowKey::Own(request));
    story.ends(FlowKey::Own(client));
    assert!(told(&story.run(4800), FLOWS).is_empty());
    let records = told(&story.run(1400), FLOWS);
    let names: Vec<_> = records.iter().map(|record| record[&1].clone()).collect();
    assert_eq!(names, ["abcde:2".into(), "abcde:3".into()]);
    assert!(records.iter().all(|record| record.contains_key(&4)));
    assert_eq!(story.vanflow.origin().live(), 0);

    // A router that stops tells them in that order, too.
    let client = story.client(listener).unwrap();
    let request = story.request(client).unwrap();
    story.ends(FlowKey::Own(request));
    story.ends(FlowKey::Own(client));
    let now = story.now();
    story.vanflow.shut_down(now);
    let mut heard = Vec::new();
    story.listen(&mut heard);
    let records = told(&heard, FLOWS);
    let names: Vec<_> = records.iter().map(|record| record[&1].clone()).collect();
    assert_eq!(names, ["abcde:4".into(), "abcde:5".into()]);
}

#[test]
fn requests_leave_room_for_connections() {
    let mut story = Story::collected();
    let listener = story.listener();
    let client = story.client(listener).unwrap();
    let requests = (0..6000).filter(|_| story.request(client).is_some());
    assert_eq!(requests.count(), 3999);
    assert_eq!(story.vanflow.origin().refused_requests(), 2001);
    let clients = (0..6000).filter(|_| story.client(listener).is_some());
    assert_eq!(clients.count(), 1000);
    story.run(1000);
    let said = |of: &str| story.lines.iter().any(|line| line == of);
    assert!(said(
        "Too many requests at once: 2001 more are not recorded"
    ));
    assert!(said(
        "Too many connections at once: 5000 more of their ends are not recorded"
    ));
}

#[test]
fn the_log_has_requests_only_if_it_is_to_have_details() {
    for details in [false, true] {
        let mut story = Story::new();
        story.vanflow.set_logs(true, details);
        let listener = story.listener();
        let client = story.client(listener).unwrap();
        story.run(3000);
        let request = story.request(client).unwrap();
        story.ends(FlowKey::Own(request));
        story.run(1500);
        let mut lines = story
            .lines
            .iter()
            .map(|line| line.split(' ').next().unwrap());
        let connection = lines.any(|kind| kind == "BIFLOW_TPORT");
        let request = lines.any(|kind| kind == "BIFLOW_APP");
        assert_eq!(
            (connection, request),
            (details, details),
            "{:?}",
            story.lines
        );
    }
}

/// A router of another name, without collectors.
fn other_router() -> Story {
    let mut story = Story::new();
    let origin = Origin::new(crate::vanflow::Source::parse("other").unwrap());
    let settings = crate::vanflow::Settings::default();
    let now = story.now();
    story.vanflow = crate::vanflow::VanFlow::new(
        std::sync::Arc::new(origin),
        &settings,
        now,
        std::time::Duration::ZERO,
    );
    story.run(5000);
    assert!(story.vanflow.origin().admit());
    story
}

#[test]
fn both_ends_at_one_router_are_one_record() {
    for client_first in [true, false] {
        let mut story = Story::collected();
        let listener = story.listener();
        assert!(story.vanflow.origin().admit());
        let record = story.vanflow.origin().next_id();
        let key = FlowKey::Of(foreign(record));
        let at = story.now();
        let began = FlowEvent::Began {
            record,
            listener,
            at,
        };
        let joined = FlowEvent::Joined(foreign(record));
        match client_first {
            true => {
                story.vanflow.flow(began);
                story.vanflow.flow(joined);
                story.says(key, Attribute::ProcessLatency, 9);
            }
            false => {
                story.vanflow.flow(joined);
                story.says(key, Attribute::ProcessLatency, 9);
                story.run(300);
                story.vanflow.flow(began);
            }
        }
        let heard = story.run(2000);
        assert!(heard.iter().all(|heard| !heard.to.starts_with("vfcr")));
        let records = told(&heard, FLOWS);
        let latencies = of(&records, "abcde:2");
        let latencies = latencies.iter().filter_map(|record| record.get(&61));
        assert_eq!(latencies.collect::<Vec<_>>(), [&Value::Ulong(9)]);
    }
}

#[test]
fn what_is_known_late_is_told_with_the_end() {
    let mut story = Story::collected();
    let listener = story.listener();
    let record = story.client(listener).unwrap();
    story.ends(FlowKey::Own(record));
    story.run(4000);
    story.vanflow.update(crate::vanflow::Update {
        identity: foreign(record),
        attributes: vec![
            (Attribute::Trace, "0/B".into()),
            (Attribute::StartTime, 0.into()),
            (Attribute::SourceHost, "elsewhere".into()),
        ],
    });
    let records = told(&story.run(1500), FLOWS);
    let ended = only(&records, "abcde:2");
    assert_eq!(ended[&31], "0/B".into());
    assert!(ended.contains_key(&4));
    assert_ne!(ended[&3], Value::Ulong(0), "that is not another's to say");
    assert!(!ended.contains_key(&14), "nor is that");
}

#[test]
fn nobody_speaks_of_records_that_are_not_there() {
    let mut story = Story::collected();
    let before = story.vanflow.size();
    for identity in ["abcde:0", "abcde:77", "other:1"] {
        story.vanflow.update(crate::vanflow::Update {
            identity: Identity::parse(identity).unwrap(),
            attributes: vec![(Attribute::Trace, "0/B".into())],
        });
    }
    assert_eq!(story.vanflow.size(), before);
    assert!(told(&story.run(3000), "mc/sfe.abcde:0").is_empty());
}

#[test]
fn a_stream_that_is_tried_twice_is_known_once() {
    let mut story = other_router();
    let identity = foreign(RecordId(5));
    assert!(story.vanflow.origin().admit());
    let key = FlowKey::Of(identity);
    for latency in [1, 2] {
        story.vanflow.flow(FlowEvent::Joined(identity));
        story.says(key, Attribute::ProcessLatency, latency);
    }
    story.ends(key);
    assert_eq!(story.run(1000).len(), 1);
    assert_eq!(story.vanflow.origin().live(), 2);
    story.ends(key);
    story.run(1000);
    assert_eq!(story.vanflow.origin().live(), 0);
}

#[test]
fn a_storm_of_connections_is_told_in_part() {
    let mut story = Story::collected();
    let listener = story.listener();
    let (mut made, mut most) = (0, 0);
    // Fifty thousand a second for four seconds, each over at once.
    for _ in 0..20 {
        for _ in 0..10_000 {
            if let Some(record) = story.client(listener) {
                made += 1;
                story.ends(FlowKey::Own(record));
            }
        }
        most = most.max(story.vanflow.size());
        story.run(200);
    }
    assert_eq!(made, 5000);
    assert!(most <= 5000 + 100, "{most}");
    assert_eq!(story.vanflow.origin().refused(), 195_000);
    let said = |lines: &[String]| {
        let lines = lines.iter();
        let lines = lines.filter(|line| line.starts_with("Too many connections"));
        lines.cloned().collect::<Vec<_>>()
    };
    let text = "Too many connections at once: 5000 more of their ends are not recorded";
    assert_eq!(said(&story.lines), [text]);
    story.client(listener);
    story.run(10_000);
    assert_eq!(said(&story.lines).len(), 2, "now and then");
    story.run(6000);
    assert_eq!(story.vanflow.origin().live(), 0);
    assert!(story.client(listener).is_some());
}

#[test]
fn without_a_collector_a_connection_leaves_nothing_behind() {
    let mut story = Story::new();
    let listener = story.listener();
    let before = story.vanflow.size();
    for _ in 0..100 {
        let record = story.client(listener).unwrap();
        story.says(FlowKey::Own(record), Attribute::Latency, 7);
        story.ends(FlowKey::Own(record));
        assert!(story.run(100).is_empty());
    }
    story.run(6000);
    assert_eq!(story.vanflow.size(), before);
    assert_eq!(story.vanflow.poll_timeout(), None);
}

#[test]
fn a_connection_that_lives_on_is_told_to_whoever_comes_later() {
    let mut story = Story::new();
    let listener = story.listener();
    let record = story.client(listener).unwrap();
    story.says(FlowKey::Own(record), Attribute::Latency, 7);
    story.run(60_000);
    story.usable(Watched::Flows, true);
    story.vanflow.flush();
    let records = told(&story.run(1000), FLOWS);
    assert_eq!(only(&records, "abcde:2")[&24], Value::Ulong(7));
}
