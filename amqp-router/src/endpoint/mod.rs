//! One AMQP connection as a state machine (AMQP 2): bytes and `now` in; events, bytes and a next
//! deadline out.
//!
//! The owner reads sockets and calls [`Connection::handle_input`], takes events with
//! [`Connection::poll_event`] until there is none, tells the connection what to do, calls
//! [`Connection::flush`] at the end of its turn and writes what is in [`Connection::out`]. It
//! calls [`Connection::handle_timeout`] when [`Connection::poll_timeout`] has come.
//!
//! Whatever a peer sends is answered at the smallest scope that the standard allows: its link is
//! detached, its session ended or its connection closed. Nothing it sends makes a connection
//! panic, or use memory beyond its limits.
//!
//! Links are never resumed. A peer that suspends a link loses its unsettled state at our end,
//! and is told so by the absence of an `unsettled` map when it attaches again (AMQP 2.6.13).

mod close;
mod config;
mod connection;
mod credit;
mod deliveries;
mod error;
mod event;
mod flush;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod input;
mod link;
mod links;
mod number_map;
mod output;
mod receive;
mod refusals;
mod sasl;
mod send;
mod session;
mod sessions;
mod timer;
pub(crate) mod trace;
mod unsettled;

#[cfg(test)]
mod tests;

pub(crate) use config::{ClientChoice, ClientSasl, Config, Limits, Opening, SaslPolicy};
pub(crate) use connection::Connection;
pub(crate) use error::{ConnectionError, LimitReached, NoCredit};
pub(crate) use event::{DeliveryRef, Event, First, LinkId, SessionId, TransferEvent};
pub(crate) use links::AttachReply;
pub(crate) use output::OutBuf;
pub(crate) use send::{Departure, Sendable};
pub(crate) use session::{FRAME_OVERHEAD, held_by_frame};
pub(crate) use trace::Trace;
