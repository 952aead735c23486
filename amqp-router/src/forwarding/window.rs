//! How long what has arrived holds its place in the session's window that it came through.

use crate::endpoint::FRAME_OVERHEAD;
use crate::forwarding::Forwarder;
use crate::forwarding::delivery::Origin;
use crate::forwarding::mailbox::{Branch, Mail};
use crate::forwarding::wire::Wire;

/// Places that transfer frames hold in a session's incoming window, and what they hold of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Places {
    pub(crate) frames: u32,
    /// Octets of messages that arrived in them.
    pub(crate) octets: u32,
}

impl Places {
    /// The place of one frame with so many octets of a message.
    #[inline]
    pub(crate) fn frame(octets: usize) -> Self {
        Self {
            frames: 1,
            octets: u32::try_from(octets).unwrap_or(u32::MAX),
        }
    }

    /// About how much memory they hold, in octets.
    pub(super) fn memory(self) -> usize {
        self.octets as usize + self.frames as usize * FRAME_OVERHEAD as usize
    }

    #[inline]
    pub(crate) fn add(&mut self, other: Self) {
        self.frames += other.frames;
        self.octets = self.octets.saturating_add(other.octets);
    }

    #[inline]
    pub(crate) fn remove(&mut self, other: Self) {
        self.frames = self.frames.saturating_sub(other.frames);
        self.octets = self.octets.saturating_sub(other.octets);
    }

    /// Takes places out that are free now: no more than there are, and with the last frame all
    /// octets, as what is left of a message may be shorter than what came.
    #[inline]
    pub(crate) fn take(&mut self, free: Self) -> Self {
        let taken = match free.frames < self.frames {
            true => Self {
                frames: free.frames,
                octets: free.octets.min(self.octets),
            },
            false => *self,
        };
        self.remove(taken);
        taken
    }
}

impl Forwarder {
    /// A frame of an outgoing half has left or been dropped.
    pub(super) fn chunk_through<W: Wire>(&mut self, wire: &mut W, origin: Origin, octets: usize) {
        match origin {
            Origin::Link(link) => {
                if self.incoming.get(link).is_some() {
                    self.release(wire, link.index, Places::frame(octets));
                }
            }
            Origin::Branch(branch) if branch.worker == self.settings.worker => {
                self.frame_through(wire, branch, octets);
            }
            Origin::Branch(branch) => {
                self.post(branch.worker, Mail::Through { branch, octets });
            }
            Origin::Gone => {}
        }
    }

    /// One copy is through with one more frame of a delivery.
    pub(super) fn frame_through<W: Wire>(&mut self, wire: &mut W, branch: Branch, octets: usize) {
        let Some(inbound) = self.inbound.get_mut(branch.delivery) else {
            return;
        };
        if !inbound.has(branch.copy) {
            return;
        }
        let copied = &mut inbound.copies[usize::from(branch.copy)];
        let frame = copied.through;
        copied.through = frame.wrapping_add(1);
        if copied.again > 0 {
            copied.again -= 1;
            return;
        }
        if inbound.early_pieces > 0 {
            // Frames leave in the order in which they came, so it is one of those that hold no
            // place any more.
            let octets = (octets + PIECE_OVERHEAD).min(inbound.early);
            inbound.early_pieces -= 1;
            inbound.early -= octets;
            self.incoming[inbound.link].early -= octets;
            return;
        }
        let places = match &mut inbound.multicast {
            None => Places::frame(octets),
            Some(multicast) => multicast.progress.through(frame),
        };
        let places = inbound.unreleased.take(places);
        let link = inbound.link;
        self.release(wire, link, places);
    }

    /// Lets a complete delivery's place in the window go although it waits, if it came from a
    /// router: its session is shared, and one slow consumer must not stop it for all. Up to a
    /// bound, for each link.
    pub(super) fn release_early<W: Wire>(&mut self, wire: &mut W, delivery: u32, octets: usize) {
        let inbound = &mut self.inbound[delivery];
        let incoming = &mut self.incoming[inbound.link];
        let octets = octets + EARLY_OVERHEAD;
        if incoming.from_router && incoming.early + octets <= EARLY_MAX {
            incoming.early += octets;
            inbound.early = octets;
            let (link, places) = (inbound.link, std::mem::take(&mut inbound.unreleased));
            self.release(wire, link, places);
        }
    }

    /// The same for a frame of a delivery that goes on for as long as its sender likes, and whose
    /// ends bound what is on its way.
    pub(super) fn release_piece_early<W: Wire>(
        &mut self,
        wire: &mut W,
        delivery: u32,
        octets: usize,
    ) {
        let inbound = &mut self.inbound[delivery];
        let incoming = &mut self.incoming[inbound.link];
        let place = Places::frame(octets);
        let octets = octets + PIECE_OVERHEAD;
        let single = inbound.multicast.is_none();
        if incoming.from_router && single && incoming.early + octets <= EARLY_STREAM_MAX {
            incoming.early += octets;
            inbound.early += octets;
            inbound.early_pieces += 1;
            inbound.unreleased.remove(place);
            let link = inbound.link;
            self.release(wire, link, place);
        }
    }

    /// Lets frames of an incoming link go: its session's window may advance.
    pub(super) fn release<W: Wire>(&mut self, wire: &mut W, link: u32, places: Places) {
        if places != Places::default() {
            let incoming = &mut self.incoming[link];
            incoming.unreleased.remove(places);
            wire.release_window(incoming.terminal, places);
        }
    }
}

/// Octets of unsettled deliveries from one link of a router that hold no place in its session's
/// window.
const EARLY_MAX: usize = 64 * 1024 * 1024;
/// What each of them counts beside its message.
const EARLY_OVERHEAD: usize = 256;
/// The same where a delivery is not complete: more than the ends of a TCP connection leave
/// unacknowledged (`reference/router/tcp-adaptor.md` §3).
const EARLY_STREAM_MAX: usize = 2 * 1024 * 1024;
const PIECE_OVERHEAD: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn places(frames: u32, octets: u32) -> Places {
        Places { frames, octets }
    }

    #[test]
    fn the_last_frame_takes_all_octets_with_it() {
        let mut held = places(3, 300);
        assert_eq!(held.take(places(1, 90)), places(1, 90));
        assert_eq!(held.take(places(1, 90)), places(1, 90));
        assert_eq!(held.take(places(1, 90)), places(1, 120));
        assert_eq!(held, Places::default());
        assert_eq!(held.take(places(1, 90)), Places::default());
    }

    #[test]
    fn no_more_octets_leave_than_came() {
        let mut held = places(2, 100);
        assert_eq!(held.take(places(1, 900)), places(1, 100));
        assert_eq!(held.take(Places::frame(1)), places(1, 0));
    }
}
