//! A session: transfer-ids and windows (AMQP 2.5.6), delivery-numbers, handles.

use super::deliveries::Pending;
use super::number_map::{FreeNumbers, NumberMap};
use super::unsettled::Unsettled;
use crate::codec::{Begin, Flow, Serial};

/// A session in the table of its connection.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) state: SessionState,
    pub(super) window: Windows,
    /// The number that our next delivery gets.
    pub(super) next_delivery_id: u32,
    /// The number that the peer's next delivery must have; none before its first.
    pub(super) expected_delivery_id: Option<u32>,
    /// What the peer sent us and what we sent the peer.
    pub(super) incoming: Unsettled,
    pub(super) outgoing: Unsettled,
    /// Dispositions not written yet, for `incoming` and for `outgoing`.
    pub(super) pending_incoming: Option<Pending>,
    pub(super) pending_outgoing: Option<Pending>,
    pub(super) handles: Handles,
    /// Links that owe the peer a flow.
    pub(super) flows: Vec<u32>,
    /// Links that owe the peer the last frame of a delivery, for which there is no window.
    pub(super) endings: Vec<u32>,
    /// The receiving link that was busy last; a flow that opens the window goes there.
    pub(super) last_receiver: Option<u32>,
    /// The peer wants a flow, whatever there is to say.
    pub(super) echo: bool,
    /// It is in the connection's list of what `flush` must look at.
    pub(super) dirty: bool,
}

/// ```text
///  begin ──> BeginSent ──(begin)──> Mapped ──(end)──> gone
///                │                    │ ▲
///  end/error ────┴──────> EndSent <───┘ └── (begin), which we answer
///                            └──(end)──> gone
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SessionState {
    BeginSent,
    Mapped {
        remote: u16,
    },
    /// Whatever comes before the peer's end is ignored.
    EndSent {
        /// None if we ended before the peer had answered our begin.
        remote: Option<u16>,
        /// The owner still waits for `Ended`.
        notify: bool,
    },
}

/// Handles of a session: ours to links, and the peer's to links.
#[derive(Debug)]
pub(super) struct Handles {
    /// Links by our handle.
    local: NumberMap,
    free: FreeNumbers,
    /// Above all local handles in use.
    end: u32,
    pub(super) remote: NumberMap,
    /// The highest handle the peer takes.
    max: u32,
    /// The peer's handle of the link that we last detached with an error.
    pub(super) errant: Option<u32>,
}

impl Session {
    /// `incoming_window` is in frames; ids of ours start at `initial_id`.
    pub(super) fn new(state: SessionState, incoming_window: u32, initial_id: u32) -> Self {
        Self {
            state,
            window: Windows::new(incoming_window, initial_id),
            next_delivery_id: initial_id,
            expected_delivery_id: None,
            incoming: Unsettled::default(),
            outgoing: Unsettled::default(),
            pending_incoming: None,
            pending_outgoing: None,
            handles: Handles::new(),
            flows: Vec::new(),
            endings: Vec::new(),
            last_receiver: None,
            echo: false,
            dirty: false,
        }
    }

    /// Takes in the peer's begin.
    pub(super) fn on_begin(&mut self, begin: &Begin) {
        self.window.on_begin(begin);
        self.handles.max = begin.handle_max;
    }

    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.state, SessionState::Mapped { .. })
    }

    pub(super) fn take_delivery_id(&mut self) -> u32 {
        let id = self.next_delivery_id;
        self.next_delivery_id = id.wrapping_add(1);
        id
    }
}

impl Handles {
    fn new() -> Self {
        Self {
            local: NumberMap::default(),
            free: FreeNumbers::default(),
            end: 0,
            remote: NumberMap::default(),
            max: u32::MAX,
            errant: None,
        }
    }

    /// Gives a link the lowest free handle.
    pub(super) fn assign(&mut self, link: u32) -> Option<u32> {
        let handle = self.free.take(self.max)?;
        self.local.insert(handle, link);
        self.end = self.end.max(handle + 1);
        Some(handle)
    }

    pub(super) fn release(&mut self, handle: u32) {
        self.local.remove(handle);
        self.free.release(handle);
        if handle + 1 == self.end {
            while self.end > 0 && self.local.get(self.end - 1).is_none() {
                self.end -= 1;
            }
        }
    }

    /// The link with the highest handle.
    pub(super) fn last(&self) -> Option<u32> {
        self.local.get(self.end.checked_sub(1)?)
    }
}

/// Transfer-ids and windows of a session, all in transfer frames (AMQP 2.5.6).
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    next_incoming_id: Option<u32>,
    /// What the peer may still send, as we told it.
    incoming_window: u32,
    /// What we are ready to hold.
    capacity: u32,
    /// Frames that arrived and that the owner still holds.
    held: u32,
    /// Octets of messages in them, and [`FRAME_OVERHEAD`] for each.
    held_octets: u64,
    /// Frames that ever arrived, modulo 2^32.
    received: u32,
    initial_outgoing_id: u32,
    next_outgoing_id: u32,
    /// What we may still send, as the peer told us.
    remote_incoming_window: u32,
    /// The widest that the peer has opened it.
    remote_widest: u32,
}

impl Windows {
    pub(super) fn new(capacity: u32, initial_id: u32) -> Self {
        let capacity = capacity.max(1);
        Self {
            next_incoming_id: None,
            incoming_window: capacity,
            capacity,
            held: 0,
            held_octets: 0,
            received: 0,
            initial_outgoing_id: initial_id,
            next_outgoing_id: initial_id,
            remote_incoming_window: 0,
            remote_widest: 0,
        }
    }

    fn on_begin(&mut self, begin: &Begin) {
        self.next_incoming_id = Some(begin.next_outgoing_id);
        self.remote_incoming_window = begin.incoming_window;
        self.remote_widest = begin.incoming_window;
    }

    /// The begin that states these windows.
    pub(super) fn begin(&self, remote_channel: Option<u16>, handle_max: u32) -> Begin {
        Begin {
            remote_channel,
            next_outgoing_id: self.next_outgoing_id,
            incoming_window: self.incoming_window,
            outgoing_window: OUTGOING_WINDOW,
            handle_max,
            ..Begin::default()
        }
    }

    /// Counts an incoming frame with so many octets of a message; false when it had no place.
    #[inline]
    pub(super) fn receive(&mut self, octets: usize) -> bool {
        if self.incoming_window == 0 {
            return false;
        }
        self.incoming_window -= 1;
        self.held += 1;
        self.held_octets += octets as u64 + FRAME_OVERHEAD;
        self.received = self.received.wrapping_add(1);
        self.next_incoming_id = self.next_incoming_id.map(|id| id.wrapping_add(1));
        true
    }

    /// Frames that went either way, modulo 2^32.
    pub(super) fn moved(&self) -> u32 {
        let sent = self.next_outgoing_id.wrapping_sub(self.initial_outgoing_id);
        self.received.wrapping_add(sent)
    }

    /// The owner has moved on that many frames, with so many octets of messages in them. Says what
    /// they counted.
    #[inline]
    pub(super) fn release(&mut self, frames: u32, octets: u32) -> u64 {
        let frames = frames.min(self.held);
        let octets = u64::from(octets) + u64::from(frames) * FRAME_OVERHEAD;
        let octets = octets.min(self.held_octets);
        self.held -= frames;
        self.held_octets -= octets;
        debug_assert!(
            self.held > 0 || self.held_octets == 0,
            "nothing is held without a frame"
        );
        octets
    }

    /// What the owner holds, in octets.
    pub(super) fn held_octets(&self) -> u64 {
        self.held_octets
    }

    /// Whether the window can be opened by half of what the frames that are held leave free. Of
    /// the whole capacity it need not be half: what is held may be held for long.
    #[inline]
    pub(super) fn is_due(&self) -> bool {
        let open = self.capacity - self.held;
        let gain = open - self.incoming_window;
        gain > 0 && gain >= open.div_ceil(2)
    }

    /// The flow that opens the incoming window as far as it goes.
    pub(super) fn flow(&mut self) -> Flow {
        self.incoming_window = self.capacity - self.held;
        Flow {
            next_incoming_id: self.next_incoming_id,
            incoming_window: self.incoming_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: OUTGOING_WINDOW,
            ..Flow::default()
        }
    }

    /// Takes in the peer's flow; true when the outgoing window was shut and is open now.
    ///
    /// The flow may be older than our last frames. A peer that expects frames which we have not
    /// sent is taken to have seen all there are.
    pub(super) fn on_flow(&mut self, flow: &Flow) -> bool {
        let was_shut = self.remote_incoming_window == 0;
        self.next_incoming_id = Some(flow.next_outgoing_id);
        let seen = Serial(flow.next_incoming_id.unwrap_or(self.initial_outgoing_id));
        let in_flight = Serial(self.next_outgoing_id).since(seen).max(0);
        self.remote_incoming_window = flow
            .incoming_window
            .saturating_sub(in_flight.cast_unsigned());
        self.remote_widest = self.remote_widest.max(self.remote_incoming_window);
        was_shut && self.remote_incoming_window > 0
    }

    /// Frames that may be sent.
    #[inline]
    pub(super) fn incoming_window(&self) -> u32 {
        self.incoming_window
    }

    pub(super) fn sendable(&self) -> u32 {
        self.remote_incoming_window
    }

    /// Whether the peer lets its incoming window run down: less than a quarter of it is
    /// left, where others open it again at half.
    #[inline]
    pub(super) fn is_scarce(&self) -> bool {
        self.remote_incoming_window < self.remote_widest / 4
    }

    /// Counts an outgoing frame, for which there is a place.
    #[inline]
    pub(super) fn send(&mut self) {
        self.remote_incoming_window -= 1;
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
    }
}

/// We never wait for a window of our own; some peers read it as a signed number.
const OUTGOING_WINDOW: u32 = i32::MAX.cast_unsigned();

/// What a frame that is held counts beside its octets: about what a delivery of one frame takes.
pub(crate) const FRAME_OVERHEAD: u64 = 512;

/// What a frame counts at most where frames have up to `max_frame_size` octets.
pub(crate) fn held_by_frame(max_frame_size: u32) -> u64 {
    u64::from(max_frame_size) + FRAME_OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begun(incoming_window: u32, initial_id: u32) -> Windows {
        let mut windows = Windows::new(8, initial_id);
        windows.on_begin(&Begin {
            next_outgoing_id: u32::MAX,
            incoming_window,
            ..Begin::default()
        });
        windows
    }

    fn flow(next_incoming_id: Option<u32>, incoming_window: u32) -> Flow {
        Flow {
            next_incoming_id,
            incoming_window,
            ..Flow::default()
        }
    }

    #[test]
    fn a_flow_counts_from_the_frames_it_has_seen() {
        let mut windows = begun(5, u32::MAX - 1);
        for _ in 0..4 {
            windows.send();
        }
        assert_eq!(windows.sendable(), 1);
        windows.on_flow(&flow(Some(0), 5)); // has seen two of the four
        assert_eq!(windows.sendable(), 3);
        windows.on_flow(&flow(None, 5)); // has not even seen our begin
        assert_eq!(windows.sendable(), 1);
        windows.on_flow(&flow(Some(0), 1));
        assert_eq!(windows.sendable(), 0);
        assert!(windows.on_flow(&flow(Some(2), u32::MAX)));
        assert_eq!(windows.sendable(), u32::MAX);
    }

    #[test]
    fn a_peer_from_the_future_is_held_to_the_present() {
        let mut windows = begun(5, 0);
        windows.on_flow(&flow(Some(1000), 7));
        assert_eq!(windows.sendable(), 7);
    }

    #[test]
    fn frames_that_are_held_do_not_keep_the_rest_of_the_window_shut() {
        let mut windows = begun(0, 0);
        for _ in 0..8 {
            assert!(windows.receive(10));
        }
        windows.release(2, 20);
        assert!(windows.is_due());
        assert_eq!(windows.flow().incoming_window, 2);
        for _ in 0..2 {
            assert!(windows.receive(10));
            windows.release(1, 10);
        }
        assert!(windows.is_due());
    }

    #[test]
    fn octets_are_held_until_their_frames_are_let_go() {
        let mut windows = begun(0, 0);
        for octets in [1, 10, 100] {
            assert!(windows.receive(octets));
        }
        assert_eq!(windows.held_octets(), 111 + 3 * FRAME_OVERHEAD);
        assert_eq!(windows.release(1, 10), 10 + FRAME_OVERHEAD);
        assert!(windows.receive(7));
        let others = 108 + 3 * FRAME_OVERHEAD;
        assert_eq!(windows.held_octets(), others, "they are still here");
        assert_eq!(windows.release(3, 108), others);
        assert_eq!(windows.release(1, 1), 0, "there was no more");
        assert_eq!(windows.held_octets(), 0);
    }

    #[test]
    fn the_incoming_window_covers_only_released_frames() {
        let mut windows = begun(0, 0);
        for _ in 0..8 {
            assert!(windows.receive(10));
        }
        assert!(!windows.receive(10));
        assert!(!windows.is_due());
        windows.release(4, 40);
        assert!(windows.is_due());
        let flow = windows.flow();
        assert_eq!((flow.next_incoming_id, flow.incoming_window), (Some(7), 4));
        assert!(!windows.is_due());
        windows.release(3, 30);
        assert!(!windows.is_due());
        windows.release(1, 10);
        assert!(windows.is_due());
    }
}
