//! Deliveries to and from other routers.

mod figures;
mod second_step;
mod settling_whole;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;

use super::*;
use crate::codec::RouterAnnotations;
use crate::control::table::{LinkLoad, Remote};
use crate::control::topology::{
    Hop, NeighbourIndex, NeighbourRow, PRIORITIES, RouterIndex, RouterRow, RouterSet, Topology,
};
use crate::forwarding::limits::Limits;
use crate::policy::granted;

/// Annotations in words: `to|ingress|trace `.
pub(super) fn describe(prefix: &[u8]) -> String {
    if prefix.is_empty() {
        return String::new();
    }
    let annotations = RouterAnnotations::decode(prefix).expect("it is well formed");
    let trace: Vec<&str> = annotations.trace.iter().collect();
    format!(
        "{}|{}|{} ",
        annotations.to.unwrap_or("-"),
        annotations.ingress.unwrap_or("-"),
        trace.join(",")
    )
}

fn annotated(to: &str, ingress: &str, trace: &[&str], flags: u32) -> Vec<u8> {
    let mut section = BytesMut::new();
    let mut annotations = RouterAnnotations {
        flags,
        to: Some(to),
        ingress: Some(ingress),
        ..RouterAnnotations::default()
    };
    let (last, others) = trace.split_last().expect("it came from somewhere");
    let mut before;
    for hop in others {
        let mut out = BytesMut::new();
        annotations.encode(Some(hop), &mut out);
        before = out.to_vec().leak();
        annotations = RouterAnnotations::decode(before).expect("just written");
    }
    annotations.encode(Some(last), &mut section);
    section.to_vec()
}

/// A scene whose address 7 has consumers at router 0, behind a neighbour.
struct Net {
    scene: Scene,
    load: Arc<LinkLoad>,
    /// The link to the neighbour.
    out: Slot,
    /// Those of connections for messages that take long.
    streams: Vec<(WorkerId, Slot)>,
}

impl Net {
    fn new(credit: u32) -> Self {
        let mut scene = Scene::new(Treatment::Balanced);
        let terminal = scene.terminal();
        let traits = OutgoingTraits {
            capacity: 250,
            to_router: true,
            ..OutgoingTraits::default()
        };
        let (out, _) = scene.forwarder.add_outgoing(terminal, traits);
        scene.script.credit.insert(terminal.link, credit);
        let load = Arc::new(LinkLoad::default());
        let mut net = Self {
            scene,
            load,
            out,
            streams: Vec::new(),
        };
        net.connect(&[RouterIndex(1)]);
        net.address();
        net
    }

    fn connect(&mut self, valid_origins: &[RouterIndex]) {
        let row = |hop| RouterRow {
            name: "0/X".into(),
            hop,
            valid_origins: Arc::new(valid_origins.iter().copied().collect::<RouterSet>()),
        };
        let hop = Hop {
            neighbour: NeighbourIndex(0),
            cost: 1,
        };
        let neighbour = NeighbourRow {
            router: Some(RouterIndex(0)),
            worker: WORKER,
            links: [self.out; PRIORITIES],
            capacity: 250,
            streams: Arc::from(&*self.streams),
        };
        let topology = Topology {
            mesh: None,
            me: "0/R".into(),
            routers: vec![Some(row(Some(hop))), Some(row(None))],
            by_name: [
                ("0/B".into(), RouterIndex(0)),
                ("0/C".into(), RouterIndex(1)),
            ]
            .into(),
            neighbours: vec![Some(neighbour)],
            radius: 2,
        };
        self.scene
            .forwarder
            .update_table(TableUpdate::Topology(Arc::new(topology)));
    }

    fn address(&mut self) {
        let entry = AddressEntry {
            id: AddressId(7),
            key: AddressKey::mobile("7"),
            treatment: Treatment::Balanced,
            priority: None,
            destinations: Vec::new(),
            remotes: vec![Remote {
                side: Side::NONE,
                prompt: false,
                router: RouterIndex(0),
                load: Arc::clone(&self.load),
            }],
        };
        self.scene
            .forwarder
            .update_table(TableUpdate::Set(Arc::new(entry)));
    }

    fn producer(&mut self) -> Slot {
        self.client(Target::Address(AddressId(7)), false)
    }

    /// A link from a client that may or may not say something to routers.
    fn client(&mut self, target: Target, annotated: bool) -> Slot {
        let terminal = self.scene.terminal();
        let traits = IncomingTraits {
            capacity: 250,
            annotated,
            ..IncomingTraits::default()
        };
        let slot = self.scene.forwarder.add_incoming(terminal, traits);
        let address = (target != Target::Anonymous).then_some("7");
        self.scene.forwarder.open_incoming(slot, target, address);
        slot
    }

    /// The first link of a connection for messages that take long.
    fn home(&mut self) -> Slot {
        let terminal = self.scene.terminal();
        let traits = OutgoingTraits {
            capacity: 250,
            to_router: true,
            ..OutgoingTraits::default()
        };
        self.scene.forwarder.add_outgoing(terminal, traits).0
    }

    /// A link from a router.
    fn trunk(&mut self) -> Slot {
        self.trunk_of(false)
    }

    /// The same, which may be of another make.
    fn trunk_of(&mut self, foreign: bool) -> Slot {
        let terminal = self.scene.terminal();
        let traits = IncomingTraits {
            capacity: 250,
            from_router: true,
            settles_whole: foreign,
            ..IncomingTraits::default()
        };
        let slot = self.scene.forwarder.add_incoming(terminal, traits);
        self.scene
            .forwarder
            .open_incoming(slot, Target::Anonymous, None);
        slot
    }

    fn arrive(&mut self, link: Slot, number: u32, ahead: &[u8], text: &str, more: bool) {
        let payload = [ahead, BODY, text.as_bytes()].concat();
        let arrival = Arrival {
            link: link.index,
            number,
            first: Some(0),
            settled: false,
            state: None,
            payload: payload.into(),
            more,
            aborted: false,
        };
        let Scene {
            forwarder,
            script,
            now,
            ..
        } = &mut self.scene;
        forwarder.transfer(script, *now, arrival);
    }
}

#[test]
fn what_enters_here_is_annotated_for_the_neighbour() {
    let mut net = Net::new(10);
    let producer = net.producer();
    assert_eq!(net.scene.turn(), ["2: credit 250"]);
    net.scene.send(producer, 1, "x");
    assert_eq!(net.scene.turn(), ["1: start 7|0/R|0/R x", "2: release 1"]);
    assert_eq!(net.load.get(), 1);
    net.scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(net.scene.turn(), ["2: 1 accepted settled"]);
    assert_eq!(net.load.get(), 0);
    assert!(net.scene.is_at_rest());
}

/// Its connection may last for longer than anybody wants to wait.
#[test]
fn what_is_on_its_way_to_a_silent_neighbour_is_given_back() {
    let mut net = Net::new(1);
    let producer = net.producer();
    net.scene.turn();
    net.scene.send(producer, 1, "sent");
    net.scene.send(producer, 2, "waits");
    net.scene.send_settled(producer, 3, "nobody asks");
    net.scene.turn();
    assert_eq!(net.load.get(), 3);
    let Scene {
        forwarder,
        script,
        now,
        ..
    } = &mut net.scene;
    forwarder.give_back(script, *now, net.out);
    let said = net.scene.turn();
    for expected in ["2: 2 released settled", "2: 1 failed settled"] {
        assert!(said.iter().any(|said| said == expected), "{said:?}");
    }
    assert_eq!(net.load.get(), 1);
    assert!(!net.scene.is_at_rest());
}

#[test]
fn what_a_client_says_to_routers_counts_where_it_may_say_something() {
    let says = |target, annotated, ahead: &[u8]| {
        let mut net = Net::new(10);
        let client = net.client(target, annotated);
        net.scene.turn();
        net.arrive(client, 1, ahead, "x", false);
        let said = net.scene.turn();
        said.into_iter().find(|said| !said.contains("release"))
    };
    let bound = Target::Address(AddressId(7));
    let passed = annotated("8", "0/X", &["0/X"], 0);
    let circled = annotated("8", "0/X", &["0/R"], 0);
    let malformed = [&passed[..10], &[0xc0, 2, 1, 0x43]].concat();
    for (target, annotated, ahead, expected) in [
        (bound, false, &passed, "1: start 7|0/R|0/R x"),
        (bound, true, &passed, "1: start 7|0/X|0/X,0/R x"),
        (bound, true, &circled, "1: start 7|0/X|0/R,0/R x"),
        (bound, true, &Vec::new(), "1: start 7|0/R|0/R x"),
        (bound, false, &malformed, "1: start 7|0/R|0/R x"),
        (bound, true, &malformed, "2: 1 rejected settled"),
    ] {
        let said = says(target, annotated, ahead);
        let case = format!("{target:?} {annotated} {ahead:?}");
        assert_eq!(said.as_deref(), Some(expected), "{case}");
    }
    // Where there is no other address.
    let to = annotated("7", "0/X", &["0/X"], 0);
    let said = says(Target::Anonymous, true, &to);
    assert_eq!(said.as_deref(), Some("1: start 7|0/X|0/X,0/R x"));
    let said = says(Target::Anonymous, false, &to);
    assert_eq!(said.as_deref(), Some("2: 1 rejected settled"));
}

#[test]
fn octets_that_are_no_message_go_where_the_link_leads() {
    let says = |net: &mut Net, link: Slot, ahead: &[u8]| {
        net.scene.turn();
        net.arrive(link, 1, ahead, "x", false);
        let said = net.scene.turn();
        said.into_iter().find(|said| !said.contains("release"))
    };
    let from_client = |target, ahead: &[u8]| {
        let mut net = Net::new(10);
        let client = net.client(target, false);
        says(&mut net, client, ahead).expect("it is heard of")
    };
    let bound = Target::Address(AddressId(7));
    for (target, ahead, expected) in [
        (bound, &b"raw"[..], "1: start 7|0/R|0/R raw"),
        (bound, b"\x00raw", "2: 1 rejected settled"),
        (Target::Anonymous, b"raw", "2: 1 rejected settled"),
    ] {
        let said = from_client(target, ahead);
        assert!(said.starts_with(expected), "{target:?} {ahead:?}: {said}");
    }
    let mut net = Net::new(10);
    let trunk = net.trunk();
    let ahead = [&annotated("7", "0/C", &["0/C"], 0)[..], b"raw"].concat();
    let said = says(&mut net, trunk, &ahead).expect("it is heard of");
    assert!(said.contains("start") && said.contains("raw"), "{said}");
}

#[test]
fn a_client_that_wants_to_sees_what_routers_say() {
    let mut net = Net::new(10);
    let traits = |annotated| OutgoingTraits {
        capacity: 250,
        annotated,
        ..OutgoingTraits::default()
    };
    net.scene.consumer_of(8, 10, traits(true));
    net.scene.consumer_of(9, 10, traits(false));
    let trunk = net.trunk();
    net.scene.turn();
    for (number, to) in [(1, "8"), (2, "9")] {
        let ahead = annotated(to, "0/C", &["0/C"], 0);
        net.arrive(trunk, number, &ahead, "x", false);
    }
    let said = net.scene.turn();
    let sent: Vec<_> = said.iter().filter(|said| said.contains("start")).collect();
    assert_eq!(sent, ["2: start 8|0/C|0/C,0/R x", "3: start x"]);
}

#[test]
fn in_transit_a_router_adds_itself() {
    let mut net = Net::new(10);
    let trunk = net.trunk();
    net.scene.turn();
    for number in [1, 2] {
        let ahead = annotated("7", "0/C", &["0/C"], 0);
        net.arrive(trunk, number, &ahead, "x", false);
        let said = net.scene.turn();
        assert_eq!(said[..], ["2: release 1", "1: start 7|0/C|0/C,0/R x"]);
    }
}

#[test]
fn a_governed_router_sends_to_its_targets_and_answers() {
    let mut net = Net::new(10);
    let trunk = net.trunk();
    let answers = net.scene.consumer(8, 10);
    let reply = net.scene.forwarder.reply_address(answers);
    let grant = granted(&[("targets", "7")]);
    let limits = Limits {
        grant: Some(Arc::clone(&grant)),
        ..Limits::default()
    };
    net.scene.forwarder.limit_incoming(trunk, limits);
    net.scene.turn();
    for (number, to, expected) in [
        (1, "7", "1: start 7|0/C|0/C,0/R x"),
        (2, "8", "2: 2 rejected settled"),
        (3, "8", "2: 3 rejected settled"),
        (4, &*reply, "3: start x"),
        (5, "7", "1: start 7|0/C|0/C,0/R x"),
    ] {
        let ahead = annotated(to, "0/C", &["0/C"], 0);
        net.arrive(trunk, number, &ahead, "x", false);
        let said = net.scene.turn();
        assert!(said.iter().any(|line| line == expected), "{to}: {said:?}");
    }
    assert_eq!(grant.counts.message_targets.load(Ordering::Relaxed), 2);
    let denied = std::iter::from_fn(|| net.scene.forwarder.poll_denied());
    let told: Vec<_> = denied.map(|one| (one.connection, one.reason)).collect();
    assert_eq!(told, [(0, "target '8'".to_owned())], "once for the link");
}

#[test]
fn what_came_the_wrong_way_is_not_sent_on() {
    let mut net = Net::new(10);
    let trunk = net.trunk();
    net.connect(&[]);
    net.scene.turn();
    let ahead = annotated("7", "0/C", &["0/C"], 0);
    net.arrive(trunk, 1, &ahead, "x", false);
    let said = net.scene.turn();
    assert_eq!(said, ["2: 1 released settled", "2: release 1"]);
    assert!(net.scene.is_at_rest());
}

#[test]
fn a_consumer_here_sees_no_annotations() {
    let mut net = Net::new(10);
    let trunk = net.trunk();
    net.scene.consumer(7, 10);
    net.scene.turn();
    let ahead = annotated("7", "0/C", &["0/C"], 0);
    net.arrive(trunk, 1, &ahead, "x", false);
    assert_eq!(net.scene.turn(), ["2: release 1", "3: start x"]);
}

#[test]
fn a_consumer_of_another_network_learns_where_it_goes_and_not_how() {
    let mut net = Net::new(10);
    let traits = OutgoingTraits {
        capacity: 250,
        annotated: true,
        party: Party::Network,
        ..OutgoingTraits::default()
    };
    net.scene.consumer_of(7, 10, traits);
    let trunk = net.trunk();
    let producer = net.producer();
    net.scene.turn();
    let ahead = annotated("7", "0/C", &["0/C"], 0);
    net.arrive(trunk, 1, &ahead, "x", false);
    assert_eq!(net.scene.turn(), ["3: release 1", "2: start 7|-| x"]);
    net.scene.send(producer, 1, "y");
    let said = net.scene.turn();
    assert!(said.contains(&"2: start 7|-| y".into()), "{said:?}");
    let counts = net.scene.forwarder.counts();
    assert_eq!(
        (counts.networks.egress, counts.egress, counts.transit),
        (2, 2, 0)
    );
}

#[test]
fn a_message_that_has_been_here_is_released() {
    let mut net = Net::new(10);
    let trunk = net.trunk();
    net.scene.turn();
    let been_here = annotated("7", "0/C", &["0/R", "0/C"], 0);
    let too_far = annotated("7", "0/C", &["0/C", "0/D", "0/E", "0/F"], 0);
    for (number, ahead) in [(1, been_here), (2, too_far)] {
        net.arrive(trunk, number, &ahead, "x", false);
        let released = format!("2: {number} released settled");
        assert_eq!(net.scene.turn(), [&*released, "2: release 1"]);
    }
    assert!(net.scene.is_at_rest());
}

#[test]
fn malformed_annotations_are_rejected() {
    let mut net = Net::new(10);
    let trunk = net.trunk();
    net.scene.turn();
    // As with skrouterd: who sends no list at all, or half a section, cannot encode.
    for (number, section, condition) in [
        (1, &b"\xc0\x02\x01\x43"[..], "amqp:invalid-field"),
        (2, b"\x45", "amqp:invalid-field"),
        (3, b"\xc1\x07\x02\xa1\x01a\xa1\x01b", "amqp:decode-error"),
        (4, b"\x40", "amqp:decode-error"),
        (5, b"\xd0\x00\x00\x01\x00", "amqp:decode-error"),
    ] {
        let ahead = [b"\x00\x80SKPR--RA", section].concat();
        net.arrive(trunk, number, &ahead, "x", false);
        let said = net.scene.turn();
        let rejected = format!("2: {number} rejected settled");
        assert_eq!(said, [&*rejected, "2: release 1"]);
        assert_eq!(
            net.scene.script.conditions.pop().as_deref(),
            Some(condition),
            "{section:?}"
        );
    }
    assert!(net.scene.is_at_rest());
}

#[test]
fn a_routers_credit_does_not_wait_for_settlement() {
    let mut net = Net::new(1000);
    let trunk = net.trunk();
    net.scene.turn();
    let ahead = annotated("7", "0/C", &["0/C"], 0);
    for number in 0..300 {
        let credit = net.scene.script.credit.get_mut(&2).expect("it has credit");
        *credit -= 1;
        net.arrive(trunk, number, &ahead, "x", false);
        net.scene.turn();
    }
    assert!(net.scene.script.credit[&2] > 100);
}

#[test]
fn an_incomplete_message_does_not_hold_up_others() {
    let mut net = Net::new(10);
    let producers = [net.producer(), net.producer()];
    net.scene.turn();
    net.scene.frame(producers[0], 1, true, "a", true, false);
    assert_eq!(net.scene.turn(), ["101: open"]);
    net.scene.send(producers[1], 2, "x");
    assert_eq!(net.scene.turn(), ["1: start 7|0/R|0/R x", "3: release 1"]);
    net.scene.frame(producers[0], 1, false, "b", false, false);
    let said = net.scene.turn();
    assert_eq!(said[0], "1: start 7|0/R|0/R a…");
    assert!(said.contains(&"1: go on b".to_owned()), "{said:?}");
}

#[test]
fn a_long_message_gets_a_link_of_its_own() {
    let mut net = Net::new(10);
    let producer = net.producer();
    net.scene.turn();
    net.scene.frame(producer, 1, true, "a", true, false);
    net.scene.turn();
    net.scene.script.credit.insert(101, 10);
    let long = "b".repeat(300 * 1024);
    net.scene.frame(producer, 1, false, &long, true, false);
    let said = net.scene.turn();
    assert_eq!(said[0], "101: start 7|0/R|0/R a…");
    net.scene.frame(producer, 1, false, "c", false, false);
    assert_eq!(net.scene.turn(), ["101: go on c", "2: release 1"]);
    net.scene.outcome(0, DeliveryState::Accepted);
    net.scene.turn();
    // The link is free again, and has credit: the next one need not wait.
    net.scene.frame(producer, 2, true, "d", true, false);
    assert_eq!(
        net.scene.turn(),
        ["101: start 7|0/R|0/R d…", "2: release 1"]
    );
}

#[test]
fn a_stream_does_not_wait_to_be_complete() {
    let mut net = Net::new(10);
    let trunk = net.trunk();
    net.scene.turn();
    let ahead = annotated("7", "0/C", &["0/C"], RouterAnnotations::STREAMING);
    net.arrive(trunk, 1, &ahead, "a", true);
    assert_eq!(net.scene.turn(), ["101: open"]);
    net.scene.script.credit.insert(101, 1);
    let stream = net.scene.forwarder.outgoing.iter().map(|(n, _)| n).max();
    net.scene.forwarder.credit_changed(
        &mut net.scene.script,
        net.scene.now,
        stream.expect("it is there"),
    );
    let said = net.scene.turn();
    assert_eq!(said, ["101: start 7|0/C|0/C,0/R a…", "2: release 1"]);
}

/// Beside which links streams from another router are sent on.
fn ways_of_streams(net: &mut Net, streams: u32) -> Vec<u32> {
    let before = net.scene.script.beside.len();
    for number in 1..=streams {
        let link = net.trunk();
        net.scene.turn();
        let ahead = annotated("7", "0/C", &["0/C"], RouterAnnotations::STREAMING);
        net.arrive(link, number, &ahead, "a", true);
        net.scene.turn();
    }
    net.scene.script.beside.split_off(before)
}

#[test]
fn streams_take_turns_on_connections_of_their_own() {
    let mut net = Net::new(10);
    let homes = [net.home(), net.home()];
    net.streams = homes.map(|home| (WORKER, home)).to_vec();
    net.connect(&[RouterIndex(1)]);
    assert_eq!(ways_of_streams(&mut net, 4), [3, 2, 3, 2]);
}

#[test]
fn what_can_stay_on_its_worker_does() {
    let mut net = Net::new(10);
    let home = net.home();
    net.streams = vec![(WorkerId(9), home)];
    net.connect(&[RouterIndex(1)]);
    assert_eq!(ways_of_streams(&mut net, 1), [1]);
    net.streams.push((WORKER, home));
    net.connect(&[RouterIndex(1)]);
    assert_eq!(ways_of_streams(&mut net, 1), [2]);
    let producer = net.producer();
    net.scene.turn();
    net.scene.send(producer, 2, "x");
    let said = net.scene.turn();
    assert!(said[0].starts_with("1: start"), "{said:?}");
}

#[test]
fn what_is_held_and_given_up_leaves_nothing() {
    let mut net = Net::new(10);
    let producer = net.producer();
    net.scene.turn();
    net.scene.frame(producer, 1, true, "a", true, false);
    net.scene.abort(producer, 1);
    net.scene.turn();
    assert!(net.scene.is_at_rest());
    net.scene.frame(producer, 2, true, "a", true, false);
    net.scene
        .forwarder
        .remove_outgoing(&mut net.scene.script, net.scene.now, net.out);
    net.scene.frame(producer, 2, false, "b", false, false);
    let said = net.scene.turn();
    assert!(
        said.contains(&"2: 2 released settled".to_owned()),
        "{said:?}"
    );
    assert!(net.scene.is_at_rest());
    assert_eq!(net.load.get(), 0);
}

#[test]
fn what_is_complete_before_its_own_link_has_credit_keeps_its_place() {
    let mut net = Net::new(10);
    let producer = net.producer();
    net.scene.turn();
    net.scene.frame(producer, 1, true, "a", true, false);
    let long = "b".repeat(300 * 1024);
    net.scene.frame(producer, 1, false, &long, true, false);
    assert_eq!(net.scene.turn(), ["101: open"]);
    net.scene.frame(producer, 1, false, "c", false, false);
    net.scene.send(producer, 2, "x");
    let said = net.scene.turn();
    let started: Vec<&str> = said
        .iter()
        .filter(|line| line.contains("start"))
        .map(|line| &**line)
        .collect();
    assert_eq!(started, ["1: start 7|0/R|0/R a…", "1: start 7|0/R|0/R x"]);
}

#[test]
fn an_incomplete_message_does_not_overtake_what_waits_for_its_link() {
    let mut net = Net::new(10);
    let producer = net.producer();
    net.scene.turn();
    // From here on a link of its own is free, and has credit.
    net.scene.frame(producer, 1, true, "a", true, false);
    assert_eq!(net.scene.turn(), ["101: open"]);
    net.scene.script.credit.insert(101, 10);
    net.scene.frame(producer, 1, false, "b", false, false);
    net.scene.turn();
    net.scene.script.credit.insert(1, 0);
    net.scene.send(producer, 2, "x");
    net.scene.frame(producer, 3, true, "y", true, false);
    let said = net.scene.turn();
    assert!(!said.iter().any(|line| line.contains("start")), "{said:?}");
    net.scene.script.credit.insert(1, 10);
    let Scene {
        forwarder,
        script,
        now,
        ..
    } = &mut net.scene;
    forwarder.credit_changed(script, *now, net.out.index);
    net.scene.frame(producer, 3, false, "z", false, false);
    let mut said = net.scene.turn();
    said.retain(|line| line.contains("start"));
    assert_eq!(said, ["1: start 7|0/R|0/R x", "1: start 7|0/R|0/R y…"]);
}
