//! The only home of tokio, rustls, sockets and the clock.
//!
//! Everything below this module is handed bytes and `now`; everything here turns the outside
//! world (sockets, files, certificates, signals, the console) into those.

// The driver is what uses most of this; see ARCHITECTURE.md.
#![allow(dead_code)]

pub(crate) mod sasl;
pub(crate) mod secret;
pub(crate) mod tls;
pub mod users;
