use bytes::Bytes;

use super::error::ConnectionError;
use crate::codec::{Attach, DeliveryState, DeliveryTag, Error, Role, Symbol};

/// A session of one connection, by the channel on which we send.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct SessionId(pub(crate) u16);

/// A link of one connection. It is not used again for another link until many have come and gone,
/// so that a late command for a link that is gone finds nothing.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct LinkId(pub(crate) u32);

/// A delivery from the peer, by its delivery-number in its session.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) struct DeliveryRef {
    pub(crate) session: SessionId,
    pub(crate) id: u32,
}

/// What a connection tells its owner.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client wants to authenticate; answer with `sasl_challenge` or `sasl_outcome`.
    SaslInit {
        mechanism: Symbol,
        response: Option<Bytes>,
    },
    /// A client's answer to our challenge.
    SaslResponse(Bytes),
    /// We are the client, and the server offers this mechanism, which is an exchange: answer with
    /// `sasl_begin`.
    SaslChosen(Symbol),
    /// The server's challenge in an exchange; answer with `sasl_respond` or `sasl_give_up`.
    SaslChallenge(Bytes),
    /// The server says that the exchange has succeeded, and may prove itself with this: answer
    /// with `sasl_confirm` or `sasl_give_up`.
    SaslSuccess(Option<Bytes>),
    /// The peer's open is here; a server answers with `open` or `close`.
    Opened,
    /// A session can be used from now on.
    Begun(SessionId),
    /// A session is gone, after a `Detached` for each of its links.
    Ended {
        session: SessionId,
        error: Option<Error>,
    },
    /// The peer attaches a link; answer with `accept_attach` or `refuse_attach`.
    Attach {
        link: LinkId,
        session: SessionId,
        attach: Box<Attach>,
    },
    /// The peer wanted a link that goes beyond our limits, or whose termini make no sense, and has
    /// its answer.
    Refused {
        attach: Box<Attach>,
        error: Error,
    },
    /// The peer's answer to our attach. A null terminus means that it refuses: `Detached` follows.
    Attached {
        link: LinkId,
        token: u32,
        attach: Box<Attach>,
    },
    /// A link is gone. The peer has its answer already.
    Detached {
        link: LinkId,
        token: u32,
        /// The peer's word; false where the link goes with its session.
        closed: bool,
        /// The peer's reason, or ours if the peer broke the rules.
        error: Option<Error>,
    },
    Transfer(TransferEvent),
    /// The peer changed the state of a delivery, or settled it.
    Updated {
        /// Of the peer: `Receiver` speaks of what we sent, `Sender` of what we received.
        role: Role,
        token: u32,
        #[cfg_attr(not(test), allow(dead_code, reason = "tests look at it"))]
        session: SessionId,
        #[cfg_attr(not(test), allow(dead_code, reason = "tests look at it"))]
        id: u32,
        state: Option<DeliveryState>,
        settled: bool,
    },
    /// Credit or drain of a sending link changed, or a receiving link was drained.
    Flow {
        #[cfg_attr(not(test), allow(dead_code, reason = "tests look at it"))]
        link: LinkId,
        token: u32,
    },
    /// The sending links of a session may move again: its outgoing window was shut and opened.
    Window,
    /// The last event: the peer closed, broke the protocol, fell silent or went away.
    Closed {
        /// What the peer gave as reason.
        error: Option<Error>,
        /// What went wrong at this end.
        local: Option<ConnectionError>,
    },
}

/// A frame of a delivery. The owner returns its place in the session's incoming window with
/// `release_window`.
#[derive(Debug)]
pub(crate) struct TransferEvent {
    #[cfg_attr(not(test), allow(dead_code, reason = "tests look at it"))]
    pub(crate) link: LinkId,
    pub(crate) token: u32,
    pub(crate) delivery: DeliveryRef,
    /// Present in the first frame of a delivery.
    pub(crate) first: Option<First>,
    pub(crate) settled: bool,
    pub(crate) state: Option<DeliveryState>,
    pub(crate) payload: Bytes,
    pub(crate) more: bool,
    /// The sender gave the delivery up; it counts as settled.
    pub(crate) aborted: bool,
}

/// What only the first frame of a delivery says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    pub(crate) format: u32,
}
