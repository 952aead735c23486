//! One worker's forwarding between scripted links.

mod backlog;
mod held;
mod network;
mod oddities;
mod priority;
mod resend;
mod streams;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::wire::{Allowance, Head, Terminal, Wire};
use super::{Arrival, Forwarder, Settings};
use crate::codec::{DeliveryState, Error};
use crate::control::address::{AddressKey, Identity};
use crate::control::table::{
    AddressEntry, AddressId, ConnectorId, Destination, Direction, Outlet, Side, Slot, TableUpdate,
    Treatment, WorkerId,
};
use crate::forwarding::links::{IncomingTraits, OutgoingTraits, Target};
use crate::forwarding::replies::Replies;
use crate::forwarding::stats::Party;
use crate::forwarding::window::Places;

/// What links were told, in order, in words.
#[derive(Default)]
struct Script {
    said: VecDeque<String>,
    credit: std::collections::HashMap<u32, u32>,
    room: bool,
    /// Receivers ask for all there is.
    drains: bool,
    window_left: u32,
    next: u32,
    /// Links opened for messages that are not complete.
    streams: u32,
    /// There can be none.
    refuses_streams: bool,
    /// Beside which link each of them was opened.
    beside: Vec<u32>,
    /// Bytes that the session's window lets through before it closes.
    window: Option<usize>,
    /// Octets that leave at once.
    join: usize,
    /// Conditions of what was rejected.
    conditions: Vec<String>,
}

impl Script {
    fn say(&mut self, text: String) {
        self.said.push_back(text);
    }
}

impl Wire for Script {
    fn update(
        &mut self,
        at: Terminal,
        delivery: u32,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        let word = word(state);
        if let Some(DeliveryState::Rejected(Some(error))) = state {
            self.conditions.push(error.condition.to_string());
        }
        self.say(format!(
            "{}: {delivery} {word}{}",
            at.link,
            if settled { " settled" } else { "" }
        ));
    }

    fn watch(&mut self, _: Terminal, _: u32, _: u32) {}

    fn forget(&mut self, at: Terminal, delivery: u32) {
        self.say(format!("{}: forget {delivery}", at.link));
    }

    fn release_window(&mut self, at: Terminal, places: Places) {
        let frames = places.frames;
        if frames > 0 {
            self.window_left += frames;
            self.say(format!("{}: release {frames}", at.link));
        }
    }

    fn window_left(&self, _: Terminal) -> u32 {
        self.window_left
    }

    fn credit(&self, at: Terminal) -> u32 {
        self.credit.get(&at.link).copied().unwrap_or(0)
    }

    fn set_credit(&mut self, at: Terminal, credit: u32) {
        self.credit.insert(at.link, credit);
        self.say(format!("{}: credit {credit}", at.link));
    }

    fn drain(&mut self, at: Terminal) {
        self.say(format!("{}: drain", at.link));
    }

    fn detach(&mut self, at: Terminal, _: Error) {
        self.say(format!("{}: detach", at.link));
    }

    fn allowance(&self, at: Terminal) -> Allowance {
        Allowance {
            credit: self.credit(at),
            room: self.room && self.window != Some(0),
            drain: self.drains,
            join: self.join,
        }
    }

    fn start(&mut self, at: Terminal, head: Head<'_>, payload: &mut Bytes, more: bool) -> u32 {
        let number = self.next;
        self.next += 1;
        *self.credit.entry(at.link).or_default() -= 1;
        let text = self.take(payload);
        let settled = if head.settled { " settled" } else { "" };
        let more = if more { "…" } else { "" };
        let ahead = network::describe(head.prefix);
        self.say(format!("{}: start {ahead}{text}{more}{settled}", at.link));
        number
    }

    fn proceed(&mut self, at: Terminal, payload: &mut Bytes, more: bool) {
        let text = self.take(payload);
        self.say(format!(
            "{}: go on {text}{}",
            at.link,
            if more { "…" } else { "" }
        ));
    }

    fn abort(&mut self, at: Terminal) {
        self.say(format!("{}: abort", at.link));
    }

    fn open_stream(&mut self, beside: Terminal, presettled: bool) -> Option<Terminal> {
        if self.refuses_streams {
            return None;
        }
        self.streams += 1;
        let link = 100 + self.streams;
        let settled = if presettled { " settled" } else { "" };
        self.say(format!("{link}: open{settled}"));
        self.beside.push(beside.link);
        Some(Terminal { link, ..beside })
    }

    fn bind(&mut self, _: Terminal, _: Direction, _: Slot) {}

    fn dial(&mut self, connector: ConnectorId, _: Option<String>) -> Terminal {
        let link = 200 + connector.0;
        self.say(format!("{link}: dial"));
        self.credit.insert(link, 1);
        Terminal {
            connection: 0,
            session: 0,
            link,
        }
    }

    fn close(&mut self, at: Terminal) {
        self.say(format!("{}: close", at.link));
    }

    fn update_sent(
        &mut self,
        at: Terminal,
        delivery: u32,
        state: Option<&DeliveryState>,
        settled: bool,
    ) {
        let settled = if settled { " settled" } else { "" };
        self.say(format!(
            "{}: sent {delivery} {}{settled}",
            at.link,
            word(state)
        ));
    }

    fn forget_sent(&mut self, _: Terminal, _: u32) {}

    fn drained(&mut self, at: Terminal) {
        self.say(format!("{}: drained", at.link));
    }
}

impl Script {
    fn take(&mut self, payload: &mut Bytes) -> String {
        let size = self
            .window
            .map_or(payload.len(), |window| window.min(payload.len()));
        if let Some(window) = &mut self.window {
            *window -= size;
        }
        let taken = payload.split_to(size);
        // Three octets of section constructor, then the text.
        String::from_utf8_lossy(taken.strip_prefix(BODY).unwrap_or(&taken)).into_owned()
    }
}

fn word(state: Option<&DeliveryState>) -> &'static str {
    match state {
        None => "nothing",
        Some(DeliveryState::Accepted) => "accepted",
        Some(DeliveryState::Released) => "released",
        Some(DeliveryState::Rejected(_)) => "rejected",
        Some(DeliveryState::Modified(modified)) if modified.delivery_failed => "failed",
        Some(DeliveryState::Modified(_)) => "modified",
        Some(_) => "other",
    }
}

/// One worker with links numbered as they are made, on addresses named by a number.
struct Scene {
    forwarder: Forwarder,
    script: Script,
    now: Instant,
    links: u32,
    consumers: Vec<(AddressId, Destination)>,
    treatment: Treatment,
    /// What addresses have as theirs when they are published.
    priority: Option<u8>,
}

const WORKER: WorkerId = WorkerId(0);
/// The start of a message with one data section; tests only look at what follows.
const BODY: &[u8] = &[0x00, 0x53, 0x75];

impl Scene {
    fn new(treatment: Treatment) -> Self {
        let identity = Identity {
            id: "R".into(),
            edge: false,
            ..Identity::default()
        };
        let settings = Settings {
            worker: WORKER,
            workers: 1,
            identity: Arc::new(identity),
            default_treatment: Treatment::Balanced,
            replies: Replies::new([0; 16]),
            patience: Default::default(),
        };
        Self {
            forwarder: Forwarder::new(settings),
            script: Script {
                room: true,
                ..Script::default()
            },
            now: Instant::now(),
            links: 0,
            consumers: Vec::new(),
            treatment,
            priority: None,
        }
    }

    fn terminal(&mut self) -> Terminal {
        self.links += 1;
        Terminal {
            connection: 0,
            session: 0,
            link: self.links,
        }
    }

    fn publish(&mut self, id: AddressId) {
        let destinations = self
            .consumers
            .iter()
            .filter(|(at, _)| *at == id)
            .map(|(_, to)| to.clone())
            .collect();
        let entry = AddressEntry {
            id,
            key: AddressKey::mobile(&id.0.to_string()),
            treatment: self.treatment,
            priority: self.priority,
            destinations,
            remotes: Vec::new(),
        };
        self.forwarder
            .update_table(TableUpdate::Set(Arc::new(entry)));
    }

    fn producer(&mut self, address: u32) -> Slot {
        let terminal = self.terminal();
        let slot = self.forwarder.add_incoming(
            terminal,
            IncomingTraits {
                capacity: 250,
                ..IncomingTraits::default()
            },
        );
        self.publish(AddressId(address));
        self.forwarder
            .open_incoming(slot, Target::Address(AddressId(address)), None);
        slot
    }

    fn consumer(&mut self, address: u32, credit: u32) -> Slot {
        let traits = OutgoingTraits {
            capacity: 250,
            ..OutgoingTraits::default()
        };
        self.consumer_of(address, credit, traits)
    }

    fn consumer_of(&mut self, address: u32, credit: u32, traits: OutgoingTraits) -> Slot {
        let terminal = self.terminal();
        let (slot, load) = self.forwarder.add_outgoing(terminal, traits);
        self.script.credit.insert(terminal.link, credit);
        let destination = Destination {
            outlet: Outlet::Link {
                worker: WORKER,
                link: slot,
                to_router: false,
            },
            side: Side::NONE,
            prompt: false,
            capacity: 250,
            load,
        };
        self.consumers.push((AddressId(address), destination));
        self.publish(AddressId(address));
        slot
    }

    fn frame(
        &mut self,
        link: Slot,
        number: u32,
        first: bool,
        text: &str,
        more: bool,
        settled: bool,
    ) {
        let mut payload = Vec::new();
        if first {
            payload.extend_from_slice(BODY);
        }
        payload.extend_from_slice(text.as_bytes());
        let arrival = Arrival {
            link: link.index,
            number,
            first: first.then_some(0),
            settled,
            state: None,
            payload: payload.into(),
            more,
            aborted: false,
        };
        self.forwarder.transfer(&mut self.script, self.now, arrival);
    }

    /// A whole message, as its sections are written.
    fn message(&mut self, link: Slot, number: u32, sections: Vec<u8>) {
        self.whole(link, number, false, sections);
    }

    fn whole(&mut self, link: Slot, number: u32, settled: bool, sections: Vec<u8>) {
        let arrival = Arrival {
            link: link.index,
            number,
            first: Some(0),
            settled,
            state: None,
            payload: sections.into(),
            more: false,
            aborted: false,
        };
        self.forwarder.transfer(&mut self.script, self.now, arrival);
    }

    fn send(&mut self, link: Slot, number: u32, text: &str) {
        self.frame(link, number, true, text, false, false);
    }

    fn send_settled(&mut self, link: Slot, number: u32, text: &str) {
        self.frame(link, number, true, text, false, true);
    }

    fn abort(&mut self, link: Slot, number: u32) {
        let arrival = Arrival {
            link: link.index,
            number,
            first: None,
            settled: false,
            state: None,
            payload: Bytes::new(),
            more: false,
            aborted: true,
        };
        self.forwarder.transfer(&mut self.script, self.now, arrival);
    }

    fn outcome(&mut self, delivery: u32, state: DeliveryState) {
        self.forwarder
            .receiver_update(&mut self.script, self.now, delivery, Some(state), true);
    }

    fn turn(&mut self) -> Vec<String> {
        self.forwarder.end_turn(&mut self.script, self.now);
        self.script.said.drain(..).collect()
    }

    fn is_at_rest(&self) -> bool {
        let mut incoming = self.forwarder.incoming.iter();
        self.forwarder.in_flight() == 0
            && self.forwarder.kept == 0
            && incoming.all(|(_, link)| link.unreleased == Places::default() && link.kept == 0)
    }
}

#[test]
fn credit_comes_with_the_first_consumer() {
    let mut scene = Scene::new(Treatment::Balanced);
    scene.producer(7);
    assert!(scene.turn().is_empty());
    scene.consumer(7, 10);
    assert_eq!(scene.turn(), ["1: credit 250"]);
}

#[test]
fn an_outcome_travels_back_as_it_is() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.send(producer, 40, "x");
    assert_eq!(scene.turn(), ["2: start x", "1: release 1"]);
    scene.outcome(0, DeliveryState::Rejected(None));
    assert_eq!(scene.turn(), ["1: 40 rejected settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn without_a_consumer_a_delivery_is_released_and_the_link_drained() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.turn();
    scene.send(producer, 1, "x");
    assert_eq!(
        scene.turn(),
        ["1: drain", "1: 1 released settled", "1: release 1"]
    );
    assert!(scene.is_at_rest());
}

/// RabbitMQ 3.10 fails when it is to drain a queue.
#[test]
fn a_brokers_credit_is_taken_back_without_draining() {
    let mut scene = Scene::new(Treatment::Balanced);
    let terminal = scene.terminal();
    let traits = IncomingTraits {
        capacity: 250,
        party: Party::Container,
        ..IncomingTraits::default()
    };
    let broker = scene.forwarder.add_incoming(terminal, traits);
    scene.publish(AddressId(7));
    let target = Target::Address(AddressId(7));
    scene.forwarder.open_incoming(broker, target, None);
    scene.script.credit.insert(terminal.link, 249);
    scene.send(broker, 1, "x");
    let said = scene.turn();
    assert_eq!(
        said,
        ["1: credit 0", "1: 1 released settled", "1: release 1"]
    );
    scene.consumer(7, 10);
    assert_eq!(scene.turn(), ["1: credit 250"]);
}

#[test]
fn a_delivery_waits_for_the_receivers_credit() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    let consumer = scene.consumer(7, 0);
    scene.turn();
    scene.send(producer, 1, "x");
    assert!(scene.turn().is_empty());
    scene.script.credit.insert(2, 1);
    scene
        .forwarder
        .credit_changed(&mut scene.script, scene.now, consumer.index);
    assert_eq!(scene.turn(), ["2: start x", "1: release 1"]);
}

#[test]
fn a_drained_receiver_is_told_even_if_more_waits_than_it_has_credit_for() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    let consumer = scene.consumer(7, 1);
    scene.turn();
    scene.send(producer, 1, "x");
    scene.send(producer, 2, "y");
    assert_eq!(scene.turn(), ["2: start x", "1: release 1"]);
    scene.script.drains = true;
    scene
        .forwarder
        .credit_changed(&mut scene.script, scene.now, consumer.index);
    assert_eq!(scene.turn(), ["2: drained"]);
}

#[test]
fn an_address_without_anybody_is_treated_by_its_rule() {
    let mut scene = Scene::new(Treatment::Balanced);
    let key = |to: &str| AddressKey::mobile(to);
    let rule = Some(Treatment::Unavailable);
    scene.forwarder.set_rule("no/#", rule);
    scene.forwarder.set_rule("no/yes", Some(Treatment::Closest));
    let is_released =
        |scene: &Scene, to| scene.forwarder.nowhere(&key(to)) == DeliveryState::Released;
    assert!(!is_released(&scene, "no/where"));
    assert!(is_released(&scene, "no/yes") && is_released(&scene, "else/where"));
    scene.forwarder.set_rule("no/#", None);
    assert!(is_released(&scene, "no/where"));
}

#[test]
fn a_stream_is_cut_through_from_its_first_frame() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.frame(producer, 1, true, "a", true, false);
    assert_eq!(scene.turn(), ["2: start a…", "1: release 1"]);
    scene.frame(producer, 1, false, "b", true, false);
    assert_eq!(scene.turn(), ["2: go on b…", "1: release 1"]);
    scene.frame(producer, 1, false, "c", false, false);
    assert_eq!(scene.turn(), ["2: go on c", "1: release 1"]);
    scene.outcome(0, DeliveryState::Accepted);
    assert_eq!(scene.turn(), ["1: 1 accepted settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn an_abort_is_forwarded_as_an_abort() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.frame(producer, 1, true, "a", true, false);
    scene.turn();
    scene.abort(producer, 1);
    assert_eq!(scene.turn(), ["1: forget 1", "1: release 1", "2: abort"]);
    assert!(scene.is_at_rest());
}

#[test]
fn a_stream_that_was_never_started_vanishes_when_aborted() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 0);
    scene.turn();
    scene.frame(producer, 1, true, "a", true, false);
    scene.abort(producer, 1);
    scene.turn();
    assert!(scene.is_at_rest());
}

#[test]
fn the_window_is_released_as_frames_leave() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.script.room = false;
    for number in 0..3 {
        scene.send(producer, number, "x");
    }
    assert!(scene.turn().is_empty());
    scene.script.room = true;
    scene.forwarder.room_changed(0);
    assert_eq!(
        scene
            .turn()
            .iter()
            .filter(|said| said.ends_with("release 1"))
            .count(),
        3
    );
}

/// What waits is not counted as less because small messages pass it.
#[test]
fn what_waits_counts_in_full_however_much_passes_it() {
    // What does not go on counts no longer than its message.
    let annotations = [0, 0x53, 0x71, 0xc1, 1, 0];
    for settled in [false, true] {
        let mut scene = Scene::new(Treatment::Balanced);
        scene.consumer(7, 0);
        let producer = scene.producer(7);
        scene.turn();
        let text = "x".repeat(10_000);
        scene.frame(producer, 0, true, &text, false, settled);
        scene.turn();
        let consumer = scene.consumer(7, 1000);
        for number in 1..100 {
            let message = [&annotations[..], BODY, b"small"].concat();
            scene.whole(producer, number, settled, message);
            let said = scene.turn();
            assert!(said.iter().any(|said| said.starts_with("3: start small")));
            let sent = &scene.forwarder.outgoing[consumer.index].sent;
            for delivery in scene.forwarder.outbound.chained(sent) {
                scene.outcome(delivery, DeliveryState::Accepted);
            }
        }
        let held = scene.forwarder.incoming[producer.index].unreleased;
        assert_eq!(held, Places::frame(BODY.len() + text.len()), "{settled}");
    }
}

#[test]
fn frames_are_joined_for_a_receiver_that_is_short_of_them() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.frame(producer, 1, true, "a", true, false);
    assert_eq!(scene.turn(), ["2: start a…", "1: release 1"]);
    scene.script.join = 6;
    for text in ["bb", "cc"] {
        scene.frame(producer, 1, false, text, true, false);
        assert!(scene.turn().is_empty(), "it waits for more");
    }
    scene.frame(producer, 1, false, "dd", true, false);
    let joined = [
        "2: go on bbccdd…",
        "1: release 1",
        "1: release 1",
        "1: release 1",
    ];
    assert_eq!(scene.turn(), joined);
    // Nothing more comes for a while: what waits is not kept back for long.
    scene.frame(producer, 1, false, "e", true, false);
    assert!(scene.turn().is_empty());
    scene.forwarder.tick(&mut scene.script, scene.now);
    assert!(scene.turn().is_empty(), "this tick still saw frames leave");
    scene.forwarder.tick(&mut scene.script, scene.now);
    assert_eq!(scene.turn(), ["2: go on e…", "1: release 1"]);
    scene.frame(producer, 1, false, "f", true, false);
    scene.frame(producer, 1, false, "g", false, false);
    assert_eq!(
        scene.turn(),
        ["2: go on fg", "1: release 1", "1: release 1"]
    );
}

#[test]
fn what_a_window_cuts_off_follows_later() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.script.window = Some(BODY.len() + 2);
    scene.send_settled(producer, 1, "abcd");
    assert_eq!(scene.turn(), ["2: start ab settled"]);
    scene.script.window = None;
    scene.forwarder.room_changed(0);
    assert_eq!(scene.turn(), ["2: go on cd", "1: release 1"]);
    assert!(scene.is_at_rest());
}

#[test]
fn a_lost_receiver_gives_back_what_it_had_and_what_waited() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    let consumer = scene.consumer(7, 1);
    scene.turn();
    scene.send(producer, 1, "started");
    scene.send(producer, 2, "queued");
    scene.turn();
    scene
        .forwarder
        .remove_outgoing(&mut scene.script, scene.now, consumer);
    assert_eq!(
        scene.turn(),
        [
            "1: release 1",
            "1: 2 released settled",
            "1: 1 failed settled"
        ]
    );
    assert!(scene.is_at_rest());
}

#[test]
fn a_lost_sender_leaves_complete_deliveries_behind() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.send(producer, 1, "x");
    scene.turn();
    scene.forwarder.remove_incoming(&mut scene.script, producer);
    scene.script.said.clear();
    scene.outcome(0, DeliveryState::Accepted);
    assert!(scene.turn().is_empty());
    assert!(scene.is_at_rest());
}

#[test]
fn multicast_reaches_each_consumer_once_and_combines_outcomes() {
    let mut scene = Scene::new(Treatment::Multicast);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.consumer(7, 10);
    scene.turn();
    scene.send(producer, 1, "x");
    assert_eq!(scene.turn(), ["2: start x", "3: start x", "1: release 1"]);
    scene.outcome(0, DeliveryState::Released);
    assert!(scene.turn().is_empty());
    scene.outcome(1, DeliveryState::Accepted);
    assert_eq!(scene.turn(), ["1: 1 accepted settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn a_multicast_stream_goes_on_when_one_consumer_is_lost() {
    let mut scene = Scene::new(Treatment::Multicast);
    let producer = scene.producer(7);
    let lost = scene.consumer(7, 10);
    scene.consumer(7, 10);
    scene.turn();
    scene.frame(producer, 1, true, "a", true, false);
    scene.turn();
    scene
        .forwarder
        .remove_outgoing(&mut scene.script, scene.now, lost);
    scene.frame(producer, 1, false, "b", false, false);
    assert_eq!(scene.turn(), ["3: go on b", "1: release 1"]);
    scene.outcome(1, DeliveryState::Accepted);
    assert_eq!(scene.turn(), ["1: 1 accepted settled"]);
    assert!(scene.is_at_rest());
}

#[test]
fn a_presettled_sender_waits_for_a_slow_receiver_but_not_for_a_stalled_one() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 0);
    scene.turn();
    scene.script.credit.insert(1, 0);
    for number in 0..250 {
        scene.send_settled(producer, number, "x");
    }
    assert!(
        scene.turn().is_empty(),
        "no credit comes back while the receiver may yet take them"
    );
    scene.now += Duration::from_secs(1);
    scene.forwarder.tick(&mut scene.script, scene.now);
    assert!(scene.turn().contains(&"1: credit 250".to_owned()));
}

#[test]
fn a_full_queue_drops_presettled_deliveries_except_its_head() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    let consumer = scene.consumer(7, 0);
    scene.turn();
    for number in 0..251 {
        scene.send_settled(producer, number, &number.to_string());
    }
    scene.turn();
    scene.script.credit.insert(2, 10);
    scene
        .forwarder
        .credit_changed(&mut scene.script, scene.now, consumer.index);
    let sent: Vec<String> = scene
        .turn()
        .into_iter()
        .filter(|said| said.contains("start"))
        .collect();
    assert_eq!(sent, ["2: start 0 settled", "2: start 250 settled"]);
    assert_eq!(scene.forwarder.counts().outcomes.dropped_presettled, 249);
}

#[test]
fn a_delivery_that_outlived_its_time_is_released() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    let consumer = scene.consumer(7, 0);
    scene.turn();
    // A header with a time to live of 100 ms: list of three, the first two null.
    let mut payload = vec![0x00, 0x53, 0x70, 0xc0, 0x05, 0x03, 0x40, 0x40, 0x52, 100];
    payload.extend_from_slice(&[0x00, 0x53, 0x77, 0x40]);
    scene.message(producer, 1, payload);
    scene.turn();
    scene.now += Duration::from_millis(101);
    scene.script.credit.insert(2, 1);
    scene
        .forwarder
        .credit_changed(&mut scene.script, scene.now, consumer.index);
    assert!(scene.turn().contains(&"1: 1 released settled".to_owned()));
    assert!(scene.is_at_rest());
}

#[test]
fn a_receiver_that_rejects_a_stream_early_is_spared_the_rest() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.frame(producer, 1, true, "a", true, false);
    scene.turn();
    scene.outcome(0, DeliveryState::Rejected(None));
    assert_eq!(scene.turn(), ["1: 1 rejected settled", "2: abort"]);
    scene.frame(producer, 1, false, "b", false, false);
    assert_eq!(scene.turn(), ["1: release 1"]);
    assert!(scene.is_at_rest());
}

#[test]
fn a_sender_that_settles_first_does_not_wait_for_a_second_step() {
    let mut scene = Scene::new(Treatment::Balanced);
    let producer = scene.producer(7);
    scene.consumer(7, 10);
    scene.turn();
    scene.send(producer, 1, "x");
    scene.turn();
    let accepted = Some(DeliveryState::Accepted);
    scene
        .forwarder
        .receiver_update(&mut scene.script, scene.now, 0, accepted, false);
    assert_eq!(
        scene.turn(),
        ["1: 1 accepted settled", "2: sent 0 accepted settled"]
    );
    assert!(scene.is_at_rest());
}

#[test]
fn a_session_that_waits_for_itself_gives_back_what_waits() {
    let mut scene = Scene::new(Treatment::Balanced);
    let (first, second) = (scene.producer(7), scene.producer(7));
    scene.consumer(7, 10);
    scene.turn();
    scene.frame(first, 1, true, "a", true, false);
    for number in 2..6 {
        scene.send(second, number, "x");
    }
    scene.turn();
    scene.script.window_left = 0;
    for _ in 0..2 {
        scene.forwarder.tick(&mut scene.script, scene.now);
    }
    let told = scene.turn();
    let released = told.iter().filter(|said| said.contains("released")).count();
    assert_eq!(released, 2, "{told:?}");
    scene.frame(first, 1, false, "b", false, false);
    let sent: Vec<String> = scene
        .turn()
        .into_iter()
        .filter(|said| said.starts_with("3:"))
        .collect();
    assert_eq!(sent, ["3: go on b", "3: start x", "3: start x"]);
}

#[test]
fn what_a_lost_sender_left_does_not_pile_up() {
    let mut scene = Scene::new(Treatment::Balanced);
    scene.consumer(7, 0);
    for _ in 0..10 {
        let producer = scene.producer(7);
        for number in 0..250 {
            scene.send(producer, number, "x");
        }
        scene.turn();
        scene.forwarder.remove_incoming(&mut scene.script, producer);
    }
    assert!(
        scene.forwarder.in_flight() <= 250,
        "{}",
        scene.forwarder.in_flight()
    );
}

/// A sender may come again and again, and leave as much each time as one session takes.
#[test]
fn what_lost_senders_left_is_bounded_in_octets() {
    let mut scene = Scene::new(Treatment::Balanced);
    scene.consumer(7, 0);
    let text = "x".repeat(3 << 20);
    for _ in 0..20 {
        let producer = scene.producer(7);
        scene.send(producer, 0, &text);
        scene.turn();
        scene.forwarder.remove_incoming(&mut scene.script, producer);
    }
    assert_eq!(scene.forwarder.in_flight(), 2);
    // Whatever its size, there is room for one.
    let mut scene = Scene::new(Treatment::Balanced);
    scene.consumer(7, 0);
    let producer = scene.producer(7);
    scene.send(producer, 0, &"x".repeat(20 << 20));
    scene.forwarder.remove_incoming(&mut scene.script, producer);
    assert_eq!(scene.forwarder.in_flight(), 1);
}
