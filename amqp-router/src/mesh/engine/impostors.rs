//! What is said in this router's own name, though not by it.
//!
//! Nothing in the protocol is signed: who is believed to be a router can speak for any other, and
//! with numbers that its true words do not reach. A router that hears such words says the truth at
//! once, under higher numbers than theirs, as link state protocols do.

use std::time::{Duration, Instant};

use super::Mesh;
use crate::mesh::NeighbourId;
use crate::mesh::message::Message;
use crate::mesh::notice::Notice;

/// When the truth is to be told again: at once, and more and more seldom where that does not help,
/// as with another router of the same name, which does the same.
#[derive(Debug)]
pub(super) struct Rebuttal {
    due: Option<Instant>,
    last: Option<Instant>,
    pause: Duration,
    /// The highest numbers heard that are not this router's.
    link_state: Option<u64>,
    addresses: Option<u64>,
}

impl Default for Rebuttal {
    fn default() -> Self {
        Self {
            due: None,
            last: None,
            pause: PAUSE,
            link_state: None,
            addresses: None,
        }
    }
}

impl Rebuttal {
    fn is_called_for(&mut self, now: Instant) {
        if self.last.is_some_and(|at| now.duration_since(at) > PEACE) {
            self.pause = PAUSE;
        }
        let earliest = self.last.map_or(now, |at| at + self.pause);
        self.due = self.due.or(Some(now.max(earliest)));
    }

    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Whether it is time to.
    fn take(&mut self, now: Instant) -> bool {
        let is_due = self.due.take_if(|at| *at <= now).is_some();
        if is_due {
            self.last = Some(now);
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
        is_due
    }
}

impl Mesh {
    /// Something came in this router's name. Its own words do not come back to it; but a neighbour
    /// may tell another what it last heard, which is older and does not matter.
    pub(super) fn on_own_name(&mut self, from: NeighbourId, message: Message, now: Instant) {
        let is_mine = |instance: Option<i64>| instance.is_none_or(|i| i == self.settings.instance);
        let rebuttal = &mut self.rebuttal;
        let is_false = match message {
            Message::RouterAdvertisement {
                instance,
                link_state_sequence,
                address_sequence,
                ..
            } if is_mine(instance) => {
                let (link_state, addresses) = (self.sequence, self.addresses.sequence);
                let is_false = link_state_sequence > link_state || address_sequence > addresses;
                // Nobody is asked for addresses that it has said there are none of.
                if !is_false && (address_sequence > 0 || addresses == 0) {
                    return;
                }
                is_false
            }
            Message::LinkStateUpdate {
                instance,
                sequence,
                peers,
                ..
            } if is_mine(instance) => {
                let is_told = sequence == self.sequence && peers == self.peers;
                if sequence < self.sequence || is_told {
                    return;
                }
                rebuttal.link_state = rebuttal.link_state.max(Some(sequence));
                true
            }
            Message::AddressUpdate { sequence, .. } => {
                if sequence < self.addresses.sequence {
                    return;
                }
                rebuttal.addresses = rebuttal.addresses.max(Some(sequence));
                true
            }
            _ => return,
        };
        rebuttal.is_called_for(now);
        if is_false && self.noticed.insert((from.0, "own name")) {
            self.notice(Notice::Impostor { neighbour: from });
        }
    }

    /// Says the truth, if it is time to.
    pub(super) fn rebut(&mut self, now: Instant) {
        if !self.rebuttal.take(now) {
            return;
        }
        // A number that leaves no room above it is not outdone: who has heard it sees from the
        // advertisement that it is named no more, and asks.
        let leaves_room = |claimed: &u64| *claimed < CLAIM_MAX;
        if let Some(claimed) = self.rebuttal.link_state.take().filter(leaves_room) {
            self.sequence = self.sequence.max(claimed + 1);
        }
        if let Some(claimed) = self.rebuttal.addresses.take().filter(leaves_room) {
            self.addresses.sequence = self.addresses.sequence.max(claimed + 1);
        }
        // With the link state; addresses are asked for by whoever has older ones.
        self.last_ra = None;
    }
}

/// The highest number that is outdone: half of what a `long` holds.
const CLAIM_MAX: u64 = 1 << 62;
/// Time between two rebuttals, at first and at most.
const PAUSE: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// How long it is quiet until the next one is the first again.
const PEACE: Duration = Duration::from_secs(60);
