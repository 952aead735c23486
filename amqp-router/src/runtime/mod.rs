//! The only home of tokio, rustls, sockets and the clock.
//!
//! Everything below this module is handed bytes and `now`; everything here turns the outside
//! world (sockets, files, certificates, signals, the console) into those.

// The driver is what uses most of this; see ARCHITECTURE.md.
#![allow(dead_code)]
// Time is an argument everywhere else; it comes from here.
#![allow(clippy::disallowed_methods)]

pub(crate) mod http;
pub(crate) mod listener;
pub mod log;
pub(crate) mod reconnect;
pub(crate) mod sasl;
pub(crate) mod secret;
pub mod shutdown;
pub(crate) mod tls;
pub mod users;
