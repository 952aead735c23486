//! What a neighbour can do by lying and by asking for too much: little, and it is told of once.

#![allow(clippy::disallowed_methods)] // tests start their clock somewhere

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::message::{AddressChange, AddressRecord, Message};
use super::{LocalAddress, Mesh, NeighbourId, Notice, Output, Settings, To};
use crate::control::address::AddressKey;
use crate::control::table::Treatment;

/// A router with a neighbour that says what it likes.
struct Victim {
    mesh: Mesh,
    now: Instant,
}

impl Victim {
    fn new(max_routers: usize) -> Self {
        let settings = Settings {
            id: "Me".to_owned(),
            instance: 1,
            hello_interval: Duration::from_secs(1),
            hello_max_age: Duration::from_secs(3),
            ra_interval: Duration::from_secs(30),
            ra_interval_flux: Duration::from_secs(4),
            remote_ls_max_age: Duration::from_secs(60),
            unreachable_holdoff: Duration::from_secs(1),
            max_routers,
        };
        let now = Instant::now();
        let mut mesh = Mesh::new(settings, now);
        mesh.neighbour_up(LIAR, 1, now);
        let mut victim = Self { mesh, now };
        victim.hello("Liar");
        victim.pass(Duration::from_secs(1));
        victim
    }

    fn hear(&mut self, message: &Message) {
        self.mesh.receive(
            LIAR,
            &message.encode("amqp:/_topo/0/all/qdrouter"),
            self.now,
        );
    }

    fn pass(&mut self, time: Duration) -> Vec<Output> {
        let end = self.now + time;
        let mut outputs = Vec::new();
        while let Some(due) = self.mesh.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.mesh.handle_timeout(self.now);
            outputs.extend(self.outputs());
        }
        self.now = end;
        outputs
    }

    fn outputs(&mut self) -> Vec<Output> {
        std::iter::from_fn(|| self.mesh.poll_output()).collect()
    }

    fn notices(&mut self) -> Vec<Notice> {
        notices(self.outputs())
    }

    fn link_state(&mut self, id: &str, sequence: u64, peers: BTreeMap<String, u32>) {
        self.hear(&Message::LinkStateUpdate {
            id: id.to_owned(),
            instance: Some(1),
            sequence,
            peers,
        });
    }

    fn hello(&mut self, id: &str) {
        self.hear(&Message::Hello {
            id: id.to_owned(),
            instance: Some(1),
            seen: vec!["Me".to_owned()],
        });
    }

    fn advertisement(&mut self, id: &str, link_state_sequence: u64, address_sequence: u64) {
        self.hear(&Message::RouterAdvertisement {
            id: id.to_owned(),
            instance: Some(1),
            link_state_sequence,
            address_sequence,
        });
    }

    /// All addresses of a router.
    fn addresses(&mut self, id: &str, sequence: u64, keys: &[&str]) {
        let records = keys.iter().map(|key| record((*key).to_owned()));
        self.hear(&Message::AddressUpdate {
            id: id.to_owned(),
            sequence,
            change: AddressChange::Absolute(records.collect()),
        });
    }

    /// How many connections are known of, this router's own too.
    fn connections(&self) -> usize {
        let routers = self.mesh.routers();
        routers.map(|router| router.link_state.len()).sum()
    }

    fn cost_of(&self, id: &str) -> Option<u32> {
        self.mesh.routers().find(|router| router.id == id)?.cost
    }
}

fn notices(outputs: Vec<Output>) -> Vec<Notice> {
    let notices = outputs.into_iter().filter_map(|output| match output {
        Output::Notice(notice) => Some(notice),
        _ => None,
    });
    notices.collect()
}

fn record(key: String) -> AddressRecord {
    AddressRecord {
        key,
        treatment: None,
        in_links: 1,
        mesh: None,
        prompt: false,
    }
}

/// How many addresses have been learnt.
fn learnt(outputs: &[Output]) -> usize {
    let is_new = |one: &&Output| matches!(one, Output::RemoteAddress { info: Some(_), .. });
    outputs.iter().filter(is_new).count()
}

/// What everybody is told.
fn told(outputs: &[Output]) -> Vec<Message> {
    let told = outputs.iter().filter_map(|output| match output {
        Output::Send {
            to: To::AllRouters,
            message,
        } => Some(Message::decode(message).expect("it can be read")),
        _ => None,
    });
    told.collect()
}

fn answers(outputs: &[Output]) -> usize {
    let to_one = |output: &&Output| {
        matches!(
            output,
            Output::Send {
                to: To::Router(_, Some(_)),
                ..
            }
        )
    };
    outputs.iter().filter(to_one).count()
}

#[test]
fn who_asks_a_thousand_times_is_answered_once_in_a_while() {
    let mut victim = Victim::new(100);
    victim
        .mesh
        .set_local_address(AddressKey::mobile("a"), BALANCED);
    victim.pass(Duration::from_secs(1));
    victim.outputs();
    let id = || "Liar".to_owned();
    for _ in 0..1000 {
        victim.hear(&Message::LinkStateRequest { id: id() });
        victim.hear(&Message::AddressRequest { id: id(), have: 0 });
    }
    assert_eq!(answers(&victim.outputs()), 2, "one of each");
    // The last question is answered yet, for it may have been asked because the answer was lost.
    assert_eq!(answers(&victim.pass(Duration::from_secs(5))), 2);
    assert_eq!(answers(&victim.pass(Duration::from_secs(5))), 0);
}

#[test]
fn who_is_another_with_each_word_is_believed_once_a_second_and_told_of_once_a_minute() {
    let mut victim = Victim::new(100);
    victim.outputs();
    let mut restarts = 0;
    for instance in 0..12_000 {
        let id = || "Liar".to_owned();
        victim.hear(&Message::RouterAdvertisement {
            id: id(),
            instance: Some(instance),
            link_state_sequence: 1,
            address_sequence: 1,
        });
        let outputs = [victim.outputs(), victim.pass(Duration::from_millis(10))].concat();
        let restarted = Notice::Restarted { id: id() };
        restarts += notices(outputs)
            .iter()
            .filter(|one| **one == restarted)
            .count();
        let (instance, seen) = (None, vec!["Me".to_owned()]);
        victim.hear(&Message::Hello {
            id: id(),
            instance,
            seen,
        });
    }
    assert_eq!(restarts, 2, "in two minutes");
}

#[test]
fn more_connections_than_a_network_has_are_not_kept() {
    let mut victim = Victim::new(4096);
    victim.outputs();
    let peers: BTreeMap<String, u32> = (0..4096).map(|n| (format!("X{n}"), 1)).collect();
    for router in 0..100 {
        victim.link_state(&format!("X{router}"), 1, peers.clone());
    }
    let mut notices = victim.notices();
    notices.retain(|notice| matches!(notice, Notice::TooManyPeers { .. }));
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(victim.connections() <= 12_300, "{}", victim.connections());
}

/// The paths from thousands of routers along as many connections would take minutes to work out.
#[test]
fn a_network_too_large_to_find_ways_through_is_the_liars_loss() {
    let mut victim = Victim::new(4096);
    let (to_me, to_liar) = (("Me".to_owned(), 1), ("Liar".to_owned(), 1));
    for honest in 0..20 {
        let peers = BTreeMap::from([to_liar.clone()]);
        victim.link_state(&format!("Honest{honest}"), 1, peers);
    }
    let honest = (0..20).map(|n| (format!("Honest{n}"), 1));
    let phantoms = |count| (0..count).map(|n| (format!("X{n}"), 1));
    let all = { honest }.chain(phantoms(4000)).chain([to_me]).collect();
    victim.link_state("Liar", 1, all);
    for (n, phantom) in (0..100).zip(phantoms(4000)) {
        let peers = phantoms(2000).chain([to_liar.clone()]).collect();
        victim.link_state(&phantom.0, 1, peers);
        victim.pass(Duration::from_millis(if n % 10 == 0 { 100 } else { 1 }));
    }
    let known = victim.connections();
    assert!(known * 4096 <= 50_000_000 + 4096 * 30, "{known}");
    let told = victim.notices();
    let crowded = |notice: &&Notice| matches!(notice, Notice::TooManyPeers { .. });
    assert!(told.iter().filter(crowded).count() <= 1, "{told:?}");
    // Who is no longer believed may be honest, and is asked again.
    victim.hello("Liar");
    let outputs = victim.pass(Duration::from_millis(1500));
    let asks = |one: &Output| {
        matches!(
            one,
            Output::Send {
                to: To::Router(_, None),
                ..
            }
        )
    };
    assert!(outputs.iter().any(asks));
    // Honest routers have little to say, and are heard.
    for honest in 0..20 {
        let peers = BTreeMap::from([to_liar.clone(), ("Another".to_owned(), 2)]);
        victim.link_state(&format!("Honest{honest}"), 2, peers);
    }
    let mut routers = victim.mesh.routers();
    let honest = routers.find(|router| router.id == "Honest0");
    assert_eq!(honest.map(|router| router.link_state.len()), Some(2));
}

/// A connection leads to one router.
#[test]
fn who_says_hello_by_many_names_is_one_neighbour_and_soon_none() {
    let mut victim = Victim::new(100);
    victim.outputs();
    let neighbours = |victim: &Victim| {
        let routers = victim.mesh.routers();
        routers.filter(|router| router.neighbour.is_some()).count()
    };
    for round in 0..5 {
        for name in 0..20 {
            victim.hello(&format!("X{round}-{name}"));
        }
        victim.pass(Duration::from_millis(500));
        assert_eq!(neighbours(&victim), 1);
    }
    // It no longer says what it was taken for.
    victim.pass(Duration::from_secs(4));
    for name in 0..20 {
        victim.hello(&format!("Y{name}"));
    }
    assert_eq!(neighbours(&victim), 1);
    victim.mesh.neighbour_down(LIAR, victim.now);
    assert_eq!(neighbours(&victim), 0);
    victim.pass(Duration::from_secs(120));
    assert_eq!(victim.mesh.router_count(), 0);
}

#[test]
fn addresses_of_a_router_that_has_none_go_when_it_says_so() {
    let mut victim = Victim::new(100);
    let to_honest = BTreeMap::from([("Me".to_owned(), 1), ("Honest".to_owned(), 3)]);
    victim.link_state("Liar", 1, to_honest);
    victim.link_state("Honest", 1, BTreeMap::from([("Liar".to_owned(), 3)]));
    victim.pass(Duration::from_secs(1));
    // Nobody is asked for what nobody has told of, and what nobody was asked for is not believed.
    victim.addresses("Honest", 9, &["Mforged"]);
    assert_eq!(learnt(&victim.outputs()), 0);
    victim.advertisement("Honest", 1, 9);
    victim.pass(Duration::from_millis(1));
    victim.addresses("Honest", 9, &["Mforged"]);
    assert_eq!(learnt(&victim.outputs()), 1);
    let mut outputs = Vec::new();
    for _ in 0..30 {
        victim.hello("Liar");
        victim.advertisement("Honest", 1, 0);
        outputs = victim.pass(Duration::from_secs(1));
        let is_loss = |one: &Output| matches!(one, Output::RemoteAddress { info: None, .. });
        if outputs.iter().any(is_loss) {
            break;
        }
    }
    assert!(!outputs.is_empty(), "nothing happens any more");
    let asked = victim.pass(Duration::from_secs(2));
    let asks = |one: &&Output| {
        matches!(
            one,
            Output::Send {
                to: To::Router(..),
                ..
            }
        )
    };
    assert_eq!(asked.iter().filter(asks).count(), 0, "{asked:?}");
}

#[test]
fn more_routers_and_addresses_than_a_network_has_are_not_kept() {
    let mut victim = Victim::new(10);
    victim.outputs();
    for router in 0..1000 {
        victim.link_state(
            &format!("X{router}"),
            1,
            BTreeMap::from([("Liar".to_owned(), 1)]),
        );
    }
    assert_eq!(victim.mesh.router_count(), 10);
    let told = victim.notices();
    let crowded = told
        .iter()
        .filter(|notice| matches!(notice, Notice::TooManyRouters { .. }));
    assert_eq!(crowded.count(), 1, "{told:?}");
    let record = |number: usize| record(format!("Ma{number}"));
    victim.hear(&Message::AddressUpdate {
        id: "Liar".to_owned(),
        sequence: 1,
        change: AddressChange::Differential {
            added: (0..500_010).map(record).collect(),
            removed: Vec::new(),
        },
    });
    let outputs = victim.outputs();
    assert_eq!(learnt(&outputs), 500_000);
    assert_eq!(notices(outputs).len(), 1);
}

/// What is told of this router by another is not believed, and what is absurd is not taken in.
#[test]
fn lies_about_others_go_when_the_truth_is_told() {
    let mut victim = Victim::new(100);
    let to_honest = BTreeMap::from([("Me".to_owned(), 1), ("Honest".to_owned(), 3)]);
    let to_liar = BTreeMap::from([("Liar".to_owned(), 3)]);
    victim.link_state("Liar", 1, to_honest.clone());
    victim.link_state("Honest", 5, to_liar.clone());
    victim.pass(Duration::from_secs(1));
    assert_eq!(victim.cost_of("Honest"), Some(4));
    // In the name of this router, and of the other with a number that none comes after.
    victim.link_state("Me", u64::from(u32::MAX), BTreeMap::new());
    victim.link_state("Honest", i64::MAX as u64, BTreeMap::new());
    victim.pass(Duration::from_secs(1));
    assert_eq!(victim.cost_of("Liar"), Some(1));
    for _ in 0..30 {
        victim.hello("Liar");
        victim.advertisement("Honest", 6, 0);
        victim.link_state("Honest", 6, to_liar.clone());
        victim.pass(Duration::from_secs(1));
    }
    assert_eq!(victim.cost_of("Honest"), Some(4));
}

/// Who believes the lie hears the truth under a higher number, and no number is left without one.
#[test]
fn a_lie_in_this_routers_name_is_outdone_at_once() {
    let mut victim = Victim::new(100);
    victim.outputs();
    for claimed in [1 << 40, 1 << 50] {
        victim.link_state("Me", claimed, BTreeMap::new());
        victim.addresses("Me", claimed + 7, &[]);
        let outputs = victim.pass(Duration::from_secs(1));
        let said = told(&outputs);
        let mut states = said.iter().filter_map(|message| match message {
            Message::LinkStateUpdate {
                sequence, peers, ..
            } => Some((*sequence, peers.len())),
            _ => None,
        });
        assert_eq!(states.next_back(), Some((claimed + 1, 1)), "{said:?}");
        let mut advertised = said.iter().filter_map(|message| match message {
            Message::RouterAdvertisement {
                link_state_sequence,
                address_sequence,
                ..
            } => Some((*link_state_sequence, *address_sequence)),
            _ => None,
        });
        assert_eq!(advertised.next_back(), Some((claimed + 1, claimed + 8)));
        let impostors = notices(outputs);
        let first = claimed == 1 << 40;
        assert_eq!(impostors.len(), usize::from(first), "{impostors:?}");
    }
    // No room is left above this, and what changes next must have a number.
    victim.hello("Liar");
    victim.link_state("Me", i64::MAX as u64, BTreeMap::new());
    let said = told(&victim.pass(Duration::from_secs(2)));
    let unchanged = |message: &Message| matches!(message, Message::LinkStateUpdate { sequence, .. } if *sequence == (1 << 50) + 1);
    assert!(said.iter().any(unchanged), "{said:?}");
}

/// Another router of the same name does the same.
#[test]
fn whoever_goes_on_lying_is_outdone_more_and_more_seldom() {
    let mut victim = Victim::new(100);
    let mut rebuttals = 0;
    for lie in 0..6000 {
        victim.link_state("Me", 1_000_000 + lie * 1000, BTreeMap::new());
        victim.hello("Liar");
        let said = told(&victim.pass(Duration::from_millis(10)));
        let state = |message: &&Message| matches!(message, Message::LinkStateUpdate { .. });
        rebuttals += said.iter().filter(state).count();
    }
    assert!((5..=10).contains(&rebuttals), "{rebuttals} in a minute");
}

/// What a neighbour last heard of this router, and tells another, is no lie.
#[test]
fn what_is_old_is_no_reason_to_say_anything() {
    let mut victim = Victim::new(100);
    for key in ["a", "b"] {
        let key = AddressKey::mobile(key);
        victim.mesh.set_local_address(key, BALANCED);
        victim.pass(Duration::from_secs(1));
    }
    victim.pass(Duration::from_secs(10));
    victim.outputs();
    victim.advertisement("Me", 0, 1);
    victim.link_state("Me", 0, BTreeMap::new());
    assert!(told(&victim.outputs()).is_empty());
    // Who believes that there are no addresses does not ask.
    victim.advertisement("Me", 0, 0);
    assert_eq!(told(&victim.outputs()).len(), 2);
    assert!(victim.notices().is_empty());
}

const LIAR: NeighbourId = NeighbourId(0);
const BALANCED: LocalAddress = LocalAddress {
    treatment: Treatment::Balanced,
    in_links: 0,
    mesh: None,
    prompt: false,
};
