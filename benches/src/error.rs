//! Everything that can end a run early.

use std::io;
use std::time::Duration;

use crate::outcomes::OutcomeError;
use crate::verify::VerifyError;
use crate::wire::decode::{DecodeError, Fault};

/// Why a run failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The socket failed, or the peer went away.
    #[error("i/o: {0}")]
    Io(#[from] io::Error),
    /// The peer sent what is no AMQP.
    #[error("the peer sent a bad frame: {0}")]
    Decode(#[from] DecodeError),
    /// An outcome came twice, or for a delivery never sent.
    #[error("wrong outcome: {0}")]
    Outcome(#[from] OutcomeError),
    /// A message came damaged, twice or out of order.
    #[error("wrong message: {0}")]
    Verify(#[from] VerifyError),
    /// The peer ended a link, the session or the connection.
    #[error("the peer sent {performative}: {}", reason(.error))]
    Ended {
        /// Which performative it was.
        performative: &'static str,
        /// The error it carried.
        error: Option<Fault>,
    },
    /// The peer broke a rule of the protocol.
    #[error("the peer broke the protocol: {0}")]
    Protocol(&'static str),
    /// The peer wants what these tools do not do.
    #[error("unsupported: {0}")]
    Unsupported(&'static str),
    /// The security layer failed.
    #[error("SASL outcome {0}")]
    Sasl(u8),
    /// Nothing moved for too long.
    #[error("stalled for {after:?} while {doing}: {progress}")]
    Stalled {
        /// How long nothing moved.
        after: Duration,
        /// The phase of the run.
        doing: &'static str,
        /// Counters at the time.
        progress: String,
    },
    /// The whole run took too long.
    #[error("time-out after {after:?} while {doing}: {progress}")]
    TimeOut {
        /// The limit.
        after: Duration,
        /// The phase of the run.
        doing: &'static str,
        /// Counters at the time.
        progress: String,
    },
    /// The counters at the end contradict each other.
    #[error("wrong result: {0}")]
    Result(String),
    /// Options that cannot go together, or a target that cannot be used.
    #[error("{0}")]
    Usage(String),
}

fn reason(error: &Option<Fault>) -> String {
    match error {
        Some(fault) => fault.to_string(),
        None => "no error given".to_owned(),
    }
}
