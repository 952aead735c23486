//! Our router against AMQP clients that others wrote.
//!
//! A test starts a [`Router`], gives [`Peer`]s their [`Job`]s and checks the events they
//! report. The peers share no code with us or with each other: Qpid Proton (C, driven from
//! Python), rhea (JavaScript) and fe2o3-amqp (Rust). What one peer cannot do is left to the
//! other two; the README says which.
//!
//! ```no_run
//! use interop_tests::{Job, Peer, Router};
//!
//! let router = Router::shared();
//! let mut receiver = Peer::Rhea.start(&router, Job::receive("greetings").count(1));
//! receiver.expect("attached");
//! let sent = Peer::Proton.start(&router, Job::send("greetings").count(1)).finish();
//! assert_eq!(sent.named("outcome")[0]["outcome"], "accepted");
//! assert_eq!(receiver.finish().named("message").len(), 1);
//! ```

// The whole crate is a test: it may ask the clock.
#![allow(clippy::disallowed_methods)]

mod certificates;
mod fe2o3;
mod install;
mod job;
mod message;
mod peer;
mod router;
mod running;

pub use certificates::Certificates;
pub use job::{Job, Outcome, Request, Sasl, Tls};
pub use message::{body, fields, hex, sha256_hex, unhex};
pub use peer::{PEERS, Peer, available};
pub use router::{Listener, Router, RouterBuilder, skip};
pub use running::{Event, Running, Transcript};
