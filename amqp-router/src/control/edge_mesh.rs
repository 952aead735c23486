//! Meshes of edge routers: who is in the same one, and how its members agree on a name for it
//! (`reference/router/inter-router-protocol.md` §7).
//!
//! Edge routers of one site are connected to each other besides to the network. The name tells
//! interior routers whom a message has reached already: it never goes back into the mesh that it
//! came from.

use std::collections::BTreeMap;
use std::fmt;

use bytes::{Bytes, BytesMut};
use rand::Rng;
use rand::distr::{Alphanumeric, SampleString};

use crate::codec::{Message, RouterAnnotations, Value};

/// The name of a mesh of edge routers: 15 characters of ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct MeshId([u8; 15]);

impl MeshId {
    /// Reads a name as routers write it; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let octets = text.as_bytes().try_into().ok()?;
        text.is_ascii().then_some(Self(octets))
    }

    pub(crate) fn as_str(&self) -> &str {
        // Nothing else is ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    fn random(rng: &mut impl Rng) -> Self {
        let text = Alphanumeric.sample_string(rng, 15);
        Self::parse(&text).unwrap_or(Self([b'0'; 15]))
    }

    /// What an edge router tells its interior router of its mesh.
    pub(super) fn announcement(&self) -> Bytes {
        message(vec![("meshid".to_owned(), Value::from(self.as_str()))])
    }

    /// Reads what an edge router tells of its mesh.
    pub(super) fn of_announcement(octets: &[u8]) -> Option<Self> {
        let properties = properties(octets)?;
        Self::parse(property(&properties, "meshid")?.as_str()?)
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What an edge router says to another when they agree on a name: the lowest number wins, which is
/// that of the router that has been up for longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bid {
    ordinal: i64,
    id: MeshId,
}

impl Bid {
    pub(super) fn encode(&self) -> Bytes {
        message(vec![
            ("ordinal".to_owned(), Value::Long(self.ordinal)),
            ("id".to_owned(), Value::from(self.id.as_str())),
        ])
    }

    pub(super) fn decode(octets: &[u8]) -> Option<Self> {
        let properties = properties(octets)?;
        let id = property(&properties, "id")?.as_str()?;
        Some(Self {
            ordinal: property(&properties, "ordinal")?.as_i64()?,
            id: MeshId::parse(id)?,
        })
    }
}

/// How an edge router finds the name of its mesh.
#[derive(Debug)]
pub(super) struct Election {
    /// When this router was started, in microseconds of the Unix epoch.
    started: i64,
    mine: Bid,
    /// The lowest number that has been heard.
    winner: i64,
    /// What each peer has bid, by its connection.
    heard: BTreeMap<u64, Heard>,
}

/// The bids of one peer.
#[derive(Debug, Default)]
struct Heard {
    /// The last that counts.
    ordinal: Option<i64>,
    /// How often it was another than before, or this router's own.
    changes: u32,
}

/// What follows from a bid, or from the loss of a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turn {
    /// The mesh has another name.
    pub(super) renamed: bool,
    /// Every peer is to have this router's bid again.
    pub(super) bids: bool,
    /// The peer has changed its bid so often that nothing it bids counts any more.
    pub(super) ignores: bool,
}

impl Election {
    pub(super) fn new(started: i64, rng: &mut impl Rng) -> Self {
        let mine = Bid {
            ordinal: ordinal(started, rng),
            id: MeshId::random(rng),
        };
        Self {
            started,
            mine,
            winner: mine.ordinal,
            heard: BTreeMap::new(),
        }
    }

    /// The name of the mesh as far as is known.
    pub(super) fn id(&self) -> MeshId {
        self.mine.id
    }

    pub(super) fn bid(&self) -> Bid {
        self.mine
    }

    /// A peer bids. An honest one changes its bid when another has the same, which hardly ever
    /// happens.
    pub(super) fn hear(&mut self, connection: u64, bid: Bid, rng: &mut impl Rng) -> Turn {
        let heard = self.heard.entry(connection).or_default();
        let same = bid.ordinal == self.mine.ordinal;
        if same || heard.ordinal.is_some_and(|last| last != bid.ordinal) {
            heard.changes = heard.changes.saturating_add(1);
        }
        if heard.changes > CHANGES_MAX {
            return Turn {
                ignores: heard.changes == CHANGES_MAX + 1,
                ..Turn::default()
            };
        }
        if same {
            self.mine.ordinal = ordinal(self.started, rng);
            self.mine.id = MeshId::random(rng);
            self.winner = self.mine.ordinal;
            return Turn {
                renamed: true,
                bids: true,
                ignores: false,
            };
        }
        heard.ordinal = Some(bid.ordinal);
        let wins = bid.ordinal < self.winner;
        let renamed = wins && bid.id != self.mine.id;
        if wins {
            self.winner = bid.ordinal;
            self.mine.id = bid.id;
        }
        Turn {
            renamed,
            ..Turn::default()
        }
    }

    /// A peer is gone. The mesh keeps its name, also if it was that peer's.
    pub(super) fn lose(&mut self, connection: u64) -> Turn {
        let lost = self.heard.remove(&connection);
        let won = lost.and_then(|lost| lost.ordinal) == Some(self.winner);
        if won {
            self.winner = self.mine.ordinal;
        }
        Turn {
            bids: won,
            ..Turn::default()
        }
    }
}

/// A number that no router started at another time has, nor most of those started just then.
fn ordinal(started: i64, rng: &mut impl Rng) -> i64 {
    started.saturating_add(rng.random_range(0..1_000_000))
}

fn message(application_properties: Vec<(String, Value)>) -> Bytes {
    let mut octets = BytesMut::new();
    RouterAnnotations::default().encode(None, &mut octets);
    let message = Message {
        application_properties,
        ..Message::default()
    };
    octets.extend_from_slice(&message.encode());
    octets.freeze()
}

fn properties(octets: &[u8]) -> Option<Vec<(String, Value)>> {
    let message = Message::decode_bodiless(octets).ok()?;
    Some(message.application_properties)
}

fn property<'a>(properties: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    let mut properties = properties.iter();
    properties
        .find(|(key, _)| key == name)
        .map(|(_, value)| value)
}

/// How often a peer may change its bid, for as long as it is connected.
const CHANGES_MAX: u32 = 8;

/// The node where edge routers bid for the name of their mesh.
pub(crate) const NEGOTIATION: &str = "_$qd.mesh_id_negotiation";
/// The node where an interior router is told of meshes.
pub(crate) const DISCOVERY: &str = "_$qd.mesh_discovery";

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn election(started: i64, seed: u64) -> (Election, StdRng) {
        let mut rng = StdRng::seed_from_u64(seed);
        (Election::new(started, &mut rng), rng)
    }

    #[test]
    fn the_router_that_has_been_up_for_longest_names_the_mesh() {
        let (mut old, mut rng) = election(0, 1);
        let (mut new, _) = election(5_000_000, 2);
        assert_eq!(old.hear(1, new.bid(), &mut rng), Turn::default());
        let turn = new.hear(1, old.bid(), &mut rng);
        assert!(turn.renamed && !turn.bids);
        assert_eq!(old.id(), new.id());
        assert!(new.bid().ordinal >= 5_000_000, "it bids its own number");
    }

    #[test]
    fn the_mesh_keeps_its_name_when_its_oldest_router_goes() {
        let (old, mut rng) = election(0, 1);
        let (mut new, _) = election(5_000_000, 2);
        let (mut newer, _) = election(9_000_000, 3);
        for (connection, bid) in [(1, old.bid()), (2, newer.bid())] {
            new.hear(connection, bid, &mut rng);
        }
        newer.hear(1, old.bid(), &mut rng);
        newer.hear(2, new.bid(), &mut rng);
        for election in [&mut new, &mut newer] {
            let turn = election.lose(1);
            assert!(turn.bids && !turn.renamed);
        }
        assert_eq!(newer.hear(2, new.bid(), &mut rng), Turn::default());
        assert_eq!((new.id(), newer.id()), (old.id(), old.id()));
        assert_eq!(new.lose(2), Turn::default(), "it was not the winner");
    }

    #[test]
    fn whoever_bids_the_same_makes_up_another() {
        let (mut one, mut rng) = election(0, 1);
        let (other, _) = election(0, 1);
        let before = one.id();
        let turn = one.hear(1, other.bid(), &mut rng);
        assert!(turn.renamed && turn.bids);
        assert_ne!(one.id(), before);
    }

    #[test]
    fn a_peer_that_bids_what_it_has_heard_is_soon_ignored() {
        let (mut honest, mut rng) = election(0, 1);
        let turns: Vec<Turn> = (0..100)
            .map(|_| {
                let echo = honest.bid();
                honest.hear(1, echo, &mut rng)
            })
            .collect();
        assert_eq!(turns.iter().filter(|turn| turn.bids).count(), 8);
        assert_eq!(turns.iter().filter(|turn| turn.ignores).count(), 1);
        // Others are heard.
        let (older, _) = election(-5_000_000, 2);
        assert!(honest.hear(2, older.bid(), &mut rng).renamed);
        assert_eq!(honest.id(), older.id());
    }

    #[test]
    fn a_peer_cannot_rename_the_mesh_for_ever() {
        let (mut honest, mut rng) = election(0, 1);
        let turns: Vec<Turn> = (1..100)
            .map(|number| {
                let (lower, _) = election(-5_000_000 * number, 100 + number as u64);
                honest.hear(1, lower.bid(), &mut rng)
            })
            .collect();
        assert_eq!(turns.iter().filter(|turn| turn.renamed).count(), 9);
        assert_eq!(turns.iter().filter(|turn| turn.ignores).count(), 1);
        assert!(honest.lose(1).bids, "what it has won goes with it");
    }

    #[test]
    fn all_agree_in_whatever_order_they_meet() {
        for seed in 0..200 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut mesh: Vec<Election> = (0..5)
                .map(|_| Election::new(rng.random_range(0..10), &mut rng))
                .collect();
            let mut bids: Vec<(usize, usize)> = (0..25).map(|n| (n / 5, n % 5)).collect();
            bids.retain(|(from, to)| from != to);
            while !bids.is_empty() {
                let (from, to) = bids.swap_remove(rng.random_range(0..bids.len()));
                let bid = mesh[from].bid();
                if mesh[to].hear(from as u64, bid, &mut rng).bids {
                    bids.extend((0..5).filter(|other| *other != to).map(|other| (to, other)));
                }
            }
            let id = mesh[0].id();
            assert!(mesh.iter().all(|one| one.id() == id), "seed {seed}");
        }
    }

    #[test]
    fn messages_are_read_as_they_are_written() {
        let (election, _) = election(7, 1);
        let bid = election.bid();
        assert_eq!(Bid::decode(&bid.encode()), Some(bid));
        let id = election.id();
        assert_eq!(MeshId::of_announcement(&id.announcement()), Some(id));
        assert_eq!(Bid::decode(&id.announcement()), None);
        assert_eq!(MeshId::of_announcement(b"nonsense"), None);
        assert_eq!(MeshId::parse("too short"), None);
        assert_eq!(MeshId::parse("abcdefghijklmn\u{e9}"), None);
    }

    #[test]
    fn what_real_edge_routers_say_is_understood() {
        let [connector, listener] = crate::recorded::mesh();
        for recording in [&connector, &listener] {
            let messages = recording.messages();
            let mut bids = messages
                .iter()
                .filter(|one| one.target() == Some(NEGOTIATION));
            let bid = bids.next().expect("both bid");
            assert!(Bid::decode(&bid.octets).expect("a bid").ordinal > 1 << 50);
        }
        let [edge, _] = crate::recorded::edge();
        let messages = edge.messages();
        let mut names = messages
            .iter()
            .filter(|one| one.target() == Some(DISCOVERY));
        let name = names.next_back().expect("it tells of its mesh");
        assert!(MeshId::of_announcement(&name.octets).is_some());
    }
}
