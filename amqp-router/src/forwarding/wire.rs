//! What forwarding asks of the connections.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DeliveryState, DeliveryTag, Error};
use crate::control::table::{ConnectorId, Direction, Slot};
use crate::forwarding::window::Places;
use crate::policy::Grant;

/// Where a link ends: a connection of this worker, a session of that connection, and the link, in
/// the numbers of whoever implements [`Wire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Terminal {
    pub(crate) connection: u32,
    pub(crate) session: u16,
    pub(crate) link: u32,
}

/// What a link may send right now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// Deliveries that may be started.
    pub(crate) credit: u32,
    /// Whether a transfer frame fits the session's window and the connection's output buffer.
    pub(crate) room: bool,
    /// Whether the receiver wants its credit spent or returned (AMQP 2.6.7).
    pub(crate) drain: bool,
    /// Octets of a delivery that is being sent which had better wait to leave in one frame: the
    /// receiver's session lets its window run down. 0: send what comes as it comes.
    pub(crate) join: usize,
}

/// How an outgoing delivery starts.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    /// Comes back with every disposition of the delivery.
    pub(crate) token: u32,
    pub(crate) tag: DeliveryTag,
    pub(crate) message_format: u32,
    pub(crate) settled: bool,
    pub(crate) state: Option<&'a DeliveryState>,
    /// Sections of ours that go before the payload.
    pub(crate) prefix: &'a [u8],
    /// Of a sender that policy does not let close connections by management.
    pub(crate) barred: Option<&'a Arc<Grant>>,
}

/// The connections of a worker, as forwarding sees them. Each call takes effect at once or at the
/// end of the worker's turn; none blocks and none calls back.
pub(crate) trait Wire {
    /// Tells a sender the state of its delivery, numbered `delivery` in its session.
    fn update(&mut self, at: Terminal, delivery: u32, state: Option<&DeliveryState>, settled: bool);

    /// Remembers `token` with a sender's delivery, to come back with what the sender says of it.
    fn watch(&mut self, at: Terminal, delivery: u32, token: u32);

    /// Forgets a sender's delivery without a word.
    fn forget(&mut self, at: Terminal, delivery: u32);

    /// Lets the sender's session window advance by so many places.
    fn release_window(&mut self, at: Terminal, places: Places);

    /// Frames that a sender's session may still send.
    fn window_left(&self, at: Terminal) -> u32;

    /// The credit that a sender has left.
    fn credit(&self, at: Terminal) -> u32;

    /// Sets the credit that a sender has left.
    fn set_credit(&mut self, at: Terminal, credit: u32);

    /// Takes back what credit a sender has left.
    fn drain(&mut self, at: Terminal);

    /// Ends a link with an error.
    fn detach(&mut self, at: Terminal, error: Error);

    /// What a receiver's link may be sent.
    fn allowance(&self, at: Terminal) -> Allowance;

    /// Starts a delivery to a receiver and returns its number in the session. What did not fit the
    /// session's window stays in `payload`.
    fn start(&mut self, at: Terminal, head: Head<'_>, payload: &mut Bytes, more: bool) -> u32;

    /// Sends more of the delivery that is being sent on this link.
    fn proceed(&mut self, at: Terminal, payload: &mut Bytes, more: bool);

    /// Gives up the delivery that is being sent on this link.
    fn abort(&mut self, at: Terminal);

    /// Tells a receiver the state of a delivery that was sent to it.
    fn update_sent(
        &mut self,
        at: Terminal,
        delivery: u32,
        state: Option<&DeliveryState>,
        settled: bool,
    );

    /// Forgets a delivery that was sent to a receiver without a word.
    fn forget_sent(&mut self, at: Terminal, delivery: u32);

    /// Attaches a sending link for messages that are not complete, to the peer that `beside` leads
    /// to, perhaps for settled ones alone. None if that cannot be done.
    fn open_stream(&mut self, beside: Terminal, presettled: bool) -> Option<Terminal>;

    /// Makes a connection to a TCP service, or begins to; says where its receiving link ends.
    /// `trace` names the routers that the stream has passed; none if it comes from this one.
    fn dial(&mut self, connector: ConnectorId, trace: Option<String>) -> Terminal;

    /// Ends a link that has done its work.
    fn close(&mut self, at: Terminal);

    /// Tells which of forwarding's links a terminal is of.
    fn bind(&mut self, at: Terminal, direction: Direction, link: Slot);

    /// Spends what credit is left on a link whose receiver asked it to drain.
    fn drained(&mut self, at: Terminal);
}
