use std::collections::HashSet;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::control::role::Role;
use crate::control::topology::PRIORITIES;

/// What belongs to which end of a connection.
#[derive(Clone, Copy)]
enum End {
    Connector,
    Listener,
}

#[derive(Default)]
struct Scene {
    trunks: Trunks,
    /// Neighbours that the routing protocol knows of.
    up: HashSet<NeighbourIndex>,
    links: u32,
}

impl Scene {
    fn open(&mut self, connection: u64, ordinal: u64, end: End) {
        self.trunks
            .open(&opened(connection, Role::InterRouter, ordinal, end));
    }

    fn attach(&mut self, connection: u64, direction: Direction, purpose: Purpose) -> LinkRef {
        let link = self.link(connection, direction);
        self.trunks.add_link(connection, link, purpose, 250);
        link
    }

    fn link(&mut self, connection: u64, direction: Direction) -> LinkRef {
        self.links += 1;
        LinkRef {
            worker: WorkerId(0),
            direction,
            slot: Slot {
                index: u32::try_from(connection).unwrap() * 1000 + self.links,
                serial: 0,
            },
        }
    }

    /// Attaches what a connection between routers has; gives its control links.
    fn complete(&mut self, connection: u64) -> [LinkRef; 2] {
        let directions = [Direction::Incoming, Direction::Outgoing];
        let control = directions.map(|to| self.attach(connection, to, Purpose::Control));
        for priority in 0..PRIORITIES as u8 {
            for direction in directions {
                self.attach(connection, direction, Purpose::Data(priority));
            }
        }
        control
    }

    /// A connection with all its links, and what followed from it.
    fn connect(&mut self, connection: u64, ordinal: u64, end: End) -> [LinkRef; 2] {
        self.open(connection, ordinal, end);
        let control = self.complete(connection);
        self.settle();
        control
    }

    /// What follows, but for [`Change::Ways`].
    fn settle(&mut self) -> Vec<Change> {
        let changes: Vec<_> = std::iter::from_fn(|| self.trunks.poll_change()).collect();
        for change in &changes {
            match change {
                Change::Up(neighbour, _) => assert!(self.up.insert(*neighbour), "up twice"),
                Change::Down(neighbour) => assert!(self.up.remove(neighbour), "down twice"),
                _ => {}
            }
        }
        let telling = changes.into_iter().filter(|change| *change != Change::Ways);
        telling.collect()
    }

    /// The connection whose links messages to the first neighbour leave by.
    fn in_use(&self) -> Option<u64> {
        let row = self.trunks.rows().next()??;
        Some(u64::from(row.links[0].index) / 1000)
    }

    fn streams(&self) -> Vec<u32> {
        let row = self.trunks.rows().next().flatten();
        let row = row.expect("there is a neighbour");
        row.streams
            .iter()
            .map(|(_, slot)| slot.index / 1000)
            .collect()
    }

    fn open_data(&mut self, connection: u64, ordinal: u64) -> bool {
        let opened = opened(connection, Role::InterRouterData, ordinal, End::Connector);
        self.trunks.open_data(&opened, Ticket(connection as u32))
    }

    fn attach_data(&mut self, connection: u64) -> LinkRef {
        let link = self.link(connection, Direction::Outgoing);
        let ticket = Ticket(connection as u32);
        let attached = RouterLink {
            link,
            connection,
            name: String::new(),
            purpose: Purpose::Proxy(ticket),
            capacity: 250,
            load: None,
        };
        assert!(self.trunks.data_attached(ticket, &attached));
        link
    }
}

fn opened(connection: u64, role: Role, ordinal: u64, end: End) -> Opened {
    Opened {
        connection,
        role,
        cost: 1,
        container: "B".into(),
        connector: matches!(end, End::Connector).then(|| "b".into()),
        group: Some(Group {
            correlator: "abc".into(),
            ordinal,
        }),
        trunking: true,
        ..Opened::default()
    }
}

fn succeeded(old: u64, new: u64) -> Change {
    Change::Notice(TrunkNotice::Succeeded { old, new })
}

const FIRST: NeighbourIndex = NeighbourIndex(0);

#[test]
fn a_neighbour_is_up_while_its_control_links_are_there() {
    let mut scene = Scene::default();
    scene.open(1, 0, End::Listener);
    scene.attach(1, Direction::Incoming, Purpose::Control);
    assert_eq!(scene.settle(), []);
    let out = scene.attach(1, Direction::Outgoing, Purpose::Control);
    assert_eq!(scene.settle(), [Change::Up(FIRST, 1)]);
    assert_eq!(scene.trunks.control_out(FIRST), Some(out));
    scene.trunks.link_lost(1, out);
    assert_eq!(scene.settle(), [Change::Down(FIRST)]);
    scene.trunks.closed(1);
    assert_eq!(scene.settle(), []);
}

#[test]
fn a_higher_ordinal_succeeds_without_a_change_of_paths() {
    let mut scene = Scene::default();
    let control = scene.connect(1, 1, End::Connector);
    scene.open(2, 2, End::Connector);
    assert_eq!((scene.settle(), scene.in_use()), (vec![], Some(1)));
    scene.complete(2);
    let [incoming, outgoing] = control.map(Change::Detach);
    assert_eq!(scene.settle(), [succeeded(1, 2), incoming, outgoing]);
    assert_eq!(scene.in_use(), Some(2));
    for link in control {
        scene.trunks.link_lost(1, link);
    }
    scene.trunks.closed(1);
    assert_eq!((scene.settle(), scene.in_use()), (vec![], Some(2)));
}

#[test]
fn the_end_that_listens_leaves_the_old_links_to_the_other() {
    let mut scene = Scene::default();
    scene.connect(1, 1, End::Listener);
    scene.open(2, 2, End::Listener);
    scene.complete(2);
    assert_eq!(scene.settle(), [succeeded(1, 2)]);
}

#[test]
fn a_neighbour_that_has_moved_on_already_is_followed() {
    let mut scene = Scene::default();
    let control = scene.connect(1, 1, End::Listener);
    scene.open(2, 2, End::Listener);
    scene.attach(2, Direction::Incoming, Purpose::Control);
    scene.attach(2, Direction::Outgoing, Purpose::Control);
    assert_eq!(scene.settle(), []);
    scene.trunks.link_lost(1, control[0]);
    assert_eq!(scene.settle(), [succeeded(1, 2)]);
}

#[test]
fn a_connector_that_comes_back_has_lost_what_it_had() {
    let mut scene = Scene::default();
    scene.connect(1, 7, End::Listener);
    scene.open(2, 7, End::Listener);
    scene.complete(2);
    let text = "New inter-router connection takes precedence";
    let close = Change::Close(WorkerId(0), 1, text);
    assert_eq!(scene.settle(), [succeeded(1, 2), close]);
    assert_eq!(scene.in_use(), Some(2));
}

#[test]
fn a_lower_ordinal_is_turned_away() {
    let mut scene = Scene::default();
    scene.connect(1, 5, End::Listener);
    scene.open(2, 4, End::Listener);
    let outdated = TrunkNotice::Outdated {
        connection: 2,
        by: 1,
    };
    let close = Change::Close(WorkerId(0), 2, "Existing connection takes precedence");
    assert_eq!(scene.settle(), [Change::Notice(outdated), close]);
    // Its links are not taken for anything.
    scene.complete(2);
    scene.trunks.closed(2);
    assert_eq!((scene.settle(), scene.in_use()), (vec![], Some(1)));
}

#[test]
fn of_two_successors_the_newer_one_stays() {
    let mut scene = Scene::default();
    scene.connect(1, 1, End::Listener);
    scene.open(2, 2, End::Listener);
    scene.open(3, 3, End::Listener);
    let text = "New inter-router connection takes precedence";
    assert_eq!(scene.settle(), [Change::Close(WorkerId(0), 2, text)]);
    scene.complete(2);
    assert_eq!((scene.settle(), scene.in_use()), (vec![], Some(1)));
    scene.trunks.closed(2);
    scene.complete(3);
    assert_eq!(scene.settle(), [succeeded(1, 3)]);
}

#[test]
fn a_successor_without_links_leaves_a_gap() {
    let mut scene = Scene::default();
    scene.connect(1, 1, End::Listener);
    scene.open(2, 2, End::Listener);
    scene.trunks.closed(1);
    assert_eq!(scene.settle(), [Change::Down(FIRST)]);
    scene.complete(2);
    assert_eq!(scene.settle(), [Change::Up(FIRST, 1)]);
    assert_eq!(scene.in_use(), Some(2));
}

#[test]
fn an_older_connection_serves_again_when_the_newer_is_lost() {
    let mut scene = Scene::default();
    scene.connect(1, 1, End::Listener);
    scene.connect(2, 2, End::Listener);
    scene.trunks.closed(2);
    assert_eq!((scene.settle(), scene.in_use()), (vec![], Some(1)));
}

#[test]
fn a_dearer_successor_changes_paths() {
    let mut scene = Scene::default();
    scene.connect(1, 1, End::Listener);
    scene.trunks.open(&Opened {
        cost: 9,
        ..opened(2, Role::InterRouter, 2, End::Listener)
    });
    scene.complete(2);
    let changes = [Change::Down(FIRST), Change::Up(FIRST, 9)];
    assert_eq!(scene.settle()[1..], changes);
}

#[test]
fn strangers_do_not_take_anybodys_place() {
    let mut scene = Scene::default();
    scene.connect(1, 1, End::Listener);
    let stranger = |connection| opened(connection, Role::InterRouter, 9, End::Listener);
    scene.trunks.open(&Opened {
        container: "C".into(),
        ..stranger(2)
    });
    scene.trunks.open(&Opened {
        user: Some("mallory".into()),
        ..stranger(3)
    });
    scene.trunks.open(&Opened {
        group: None,
        ..stranger(4)
    });
    for connection in 2..5 {
        scene.complete(connection);
    }
    let up = (1..4).map(|index| Change::Up(NeighbourIndex(index), 1));
    assert_eq!(scene.settle(), up.collect::<Vec<_>>());
    assert_eq!(scene.in_use(), Some(1));
}

#[test]
fn the_number_of_a_neighbour_that_is_gone_is_given_again() {
    let mut scene = Scene::default();
    scene.connect(1, 1, End::Listener);
    scene.connect(2, 2, End::Listener);
    scene.trunks.closed(2);
    scene.trunks.closed(1);
    assert_eq!(scene.settle(), [Change::Down(FIRST)]);
    scene.open(3, 0, End::Listener);
    scene.complete(3);
    assert_eq!(scene.settle(), [Change::Up(FIRST, 1)]);
}

#[test]
fn streams_have_the_connections_of_their_group() {
    let mut scene = Scene::default();
    assert!(scene.open_data(10, 1));
    scene.attach_data(10);
    scene.connect(1, 1, End::Connector);
    assert_eq!(scene.streams(), [10], "it has waited for the others");
    assert!(scene.open_data(11, 1));
    assert_eq!(scene.streams(), [10]);
    let home = scene.attach_data(11);
    assert_eq!(scene.streams(), [10, 11]);
    assert!(scene.open_data(20, 2));
    scene.attach_data(20);
    assert_eq!(scene.streams(), [10, 11], "of another ordinal");
    scene.trunks.link_lost(11, home);
    assert_eq!(scene.streams(), [10]);
    scene.connect(2, 2, End::Connector);
    assert_eq!(scene.streams(), [20]);
    scene.trunks.closed(20);
    assert!(scene.streams().is_empty());
}

#[test]
fn streams_do_not_go_where_they_are_not_wanted() {
    let mut scene = Scene::default();
    let data = |connection| opened(connection, Role::InterRouterData, 0, End::Connector);
    let unable = Opened {
        trunking: false,
        ..data(10)
    };
    assert!(!scene.trunks.open_data(&unable, Ticket(10)));
    let alone = Opened {
        group: None,
        ..data(11)
    };
    assert!(!scene.trunks.open_data(&alone, Ticket(11)));
    scene.connect(1, 0, End::Connector);
    let elsewhere = Opened {
        container: "C".into(),
        ..data(12)
    };
    assert!(scene.trunks.open_data(&elsewhere, Ticket(12)));
    let split = TrunkNotice::Split {
        connection: 12,
        container: "C".into(),
        other: 1,
        others: "B".into(),
    };
    assert_eq!(scene.settle(), [Change::Notice(split)]);
    scene.attach_data(12);
    assert!(scene.streams().is_empty());
}

#[test]
fn an_operator_learns_once_of_a_neighbour_that_cannot_know_all() {
    let mut scene = Scene::default();
    scene.connect(1, 0, End::Listener);
    scene.trunks.open(&Opened {
        foreign: true,
        container: "C".into(),
        ..opened(2, Role::InterRouter, 0, End::Listener)
    });
    scene.complete(2);
    scene.settle();
    assert_eq!(scene.trunks.crowded(127), []);
    let crowded = TrunkNotice::Crowded {
        connection: 2,
        container: "C".into(),
        routers: 128,
    };
    assert_eq!(scene.trunks.crowded(128), [crowded]);
    assert_eq!(scene.trunks.crowded(129), []);
}

#[test]
fn correlators_are_read_as_routers_write_them() {
    let mut properties = Fields::new();
    assert_eq!(Group::of_peer(&properties), None);
    properties.insert("qd.group-correlator", "abc");
    let group = |ordinal| {
        Some(Group {
            correlator: "abc".into(),
            ordinal,
        })
    };
    assert_eq!(Group::of_peer(&properties), group(0));
    properties.insert("qd.group-ordinal", 7_u64);
    assert_eq!(Group::of_peer(&properties), group(7));
    properties.insert("qd.group-ordinal", "eight");
    assert_eq!(Group::of_peer(&properties), group(0));
    properties.insert("qd.group-correlator", "x".repeat(65));
    assert_eq!(Group::of_peer(&properties), None);
    properties.insert("qd.group-correlator", 5);
    assert_eq!(Group::of_peer(&properties), None);
}

/// Whatever happens in whatever order: what the routing protocol is told alternates, and agrees
/// with what there is; nothing is left in the end.
#[test]
fn anything_may_happen() {
    for seed in 0..500 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut scene = Scene::default();
        let mut connections: Vec<(u64, Vec<LinkRef>)> = Vec::new();
        for connection in 1..60 {
            match rng.random_range(0..4) {
                0 | 1 => {
                    let end = match rng.random() {
                        true => End::Connector,
                        false => End::Listener,
                    };
                    let container = ["B", "C"][rng.random_range(0..2)].to_owned();
                    let ordinal = rng.random_range(0..5);
                    scene.trunks.open(&Opened {
                        container,
                        ..opened(connection, Role::InterRouter, ordinal, end)
                    });
                    let links = match rng.random() {
                        true => scene.complete(connection).to_vec(),
                        false => Vec::new(),
                    };
                    connections.push((connection, links));
                }
                2 if !connections.is_empty() => {
                    let at = rng.random_range(0..connections.len());
                    let (gone, _) = connections.swap_remove(at);
                    scene.trunks.closed(gone);
                }
                _ => {
                    for (connection, links) in &mut connections {
                        if let Some(link) = links.pop_if(|_| rng.random()) {
                            scene.trunks.link_lost(*connection, link);
                        }
                    }
                }
            }
            scene.settle();
            let speaking = (0..scene.trunks.neighbours.len() as u32).map(NeighbourIndex);
            let speaking = speaking.filter(|index| {
                let active = scene.trunks.active(*index);
                active.is_some_and(|trunk| trunk.up)
            });
            assert_eq!(speaking.collect::<HashSet<_>>(), scene.up, "seed {seed}");
        }
        for (connection, _) in connections {
            scene.trunks.closed(connection);
        }
        scene.settle();
        assert!(scene.up.is_empty() && scene.trunks.by_connection.is_empty());
        assert!(scene.trunks.rows().all(|row| row.is_none()), "seed {seed}");
    }
}
