//! Measures AMQP 1.0 routers from outside, over TCP.
//!
//! [`run`](run::run) is the load generator behind `router-bench`, [`Relay`](relay::Relay) the
//! yardstick behind `bare-relay`, and [`compare`] puts several routers side by side. The frames are
//! those of [`wire`], which shares nothing with the router's codec.
//!
//! A run has one thread that sends, one that receives and one that watches. The first two drive any
//! number of non-blocking connections each and count in atomics of their own; the watching thread
//! moves them through the phases, samples the counters, and fails the run when they stand still.

pub mod clock;
pub mod compare;
mod connection;
mod driver;
pub mod error;
pub mod handshake;
mod latency;
pub mod options;
pub mod outcomes;
mod process;
mod receiver;
pub mod relay;
pub mod report;
pub mod run;
mod sender;
mod session;
mod tally;
pub mod tcp;
pub mod verify;
pub mod wire;
