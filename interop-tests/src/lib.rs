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
mod collector;
mod fe2o3;
mod install;
mod job;
mod manage;
mod message;
mod peer;
mod programs;
mod rabbit;
pub mod raw;
mod router;
mod running;
mod scrape;
mod services;

pub use certificates::Certificates;
pub use collector::Collector;
pub use install::browser_client;
pub use job::{Job, Outcome, Request, Sasl, Tls};
pub use manage::{ask, ask_at, create, delete, eventually, rows, update};
pub use message::{body, fields, hex, sha256_hex, unhex};
pub use peer::{PEERS, Peer, available};
pub use programs::Program;
pub use rabbit::RabbitMq;
pub use router::{Listener, Router, RouterBuilder, Shared, skip, write_user};
pub use running::{Event, Running, Transcript};
pub use scrape::{Scrape, get};
pub use services::{
    BlackHole, check_echo, connect, echo, exchange, free_port, noise, tcp_connector, tcp_listener,
};

/// Makes nine tests of one story, a function of sender and receiver, in a module of its name:
/// `story::proton_to_rhea` and so on.
#[macro_export]
macro_rules! pairings {
    ($story:ident) => {
        mod $story {
            use $crate::Peer::{Fe2o3, Proton, Rhea};
            $crate::pairings! {
                $story:
                proton_to_proton Proton Proton, proton_to_rhea Proton Rhea, proton_to_fe2o3 Proton Fe2o3,
                rhea_to_proton Rhea Proton, rhea_to_rhea Rhea Rhea, rhea_to_fe2o3 Rhea Fe2o3,
                fe2o3_to_proton Fe2o3 Proton, fe2o3_to_rhea Fe2o3 Rhea, fe2o3_to_fe2o3 Fe2o3 Fe2o3
            }
        }
    };
    ($story:ident: $($name:ident $sender:ident $receiver:ident),*) => {
        $(
            #[test]
            fn $name() {
                if $crate::available(&[$sender, $receiver]) {
                    super::$story($sender, $receiver);
                }
            }
        )*
    };
}

/// Makes three tests of one story, a function of the client, in a module of its name:
/// `story::proton` and so on.
#[macro_export]
macro_rules! clients {
    ($story:ident) => {
        $crate::clients!($story: proton Proton, rhea Rhea, fe2o3 Fe2o3);
    };
    ($story:ident: $($name:ident $peer:ident),*) => {
        mod $story {
            $(
                #[test]
                fn $name() {
                    if $crate::available(&[$crate::Peer::$peer]) {
                        super::$story($crate::Peer::$peer);
                    }
                }
            )*
        }
    };
}
