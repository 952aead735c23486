//! The only home of tokio, rustls, sockets and the clock.
//!
//! Everything below this module is handed bytes and `now`; everything here turns the outside
//! world (sockets, files, certificates, signals, the console) into those.

// Time is an argument everywhere else; it comes from here.
#![allow(clippy::disallowed_methods)]

mod budget;
mod connect;
mod connectors;
mod driver;
pub(crate) mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
pub(crate) mod http;
mod link_log;
mod listen;
pub(crate) mod listener;
mod local;
pub mod log;
mod login;
mod manage;
mod messages;
mod metrics;
mod pages;
mod plan;
mod policies;
mod proxy;
mod ready;
pub(crate) mod reconnect;
mod reload;
mod router;
pub use local::{Delivery, LinkError, Receiver, Sender};
pub use reload::Reloaded;
pub use router::{Router, StartError};
pub(crate) mod sasl;
pub(crate) mod scram;
mod scrapes;
pub(crate) mod secret;
mod service;
pub mod shutdown;
mod sources;
#[cfg_attr(not(target_os = "linux"), path = "no_splice.rs")]
mod splice;
mod stream;
mod tcp;
mod threads;
pub(crate) mod tls;
mod told;
mod trace;
mod unstalled;
pub mod users;
mod vanflow;
mod websocket;
mod workers;
