//! One router and many clients, simulated: bytes, links and time are real, everything else is
//! played by chance. [`network`] has several routers, and [`services`] such that carry TCP
//! connections.
//!
//! A seed decides which clients connect, attach, send, settle, stall, detach and vanish, how their
//! bytes are cut into pieces, and how late workers hear of each other. [`ledger`] knows what
//! everybody did and was told, and panics when a law is broken: each unsettled delivery gets one
//! outcome, and it is the receiver's; order is kept on each link; bytes arrive as they were sent;
//! what was accepted was received; everybody gets a multicast; the router holds no more than it
//! allowed, and nothing when all have left.
//!
//! ```sh
//! SIM_SEEDS=0..100000 cargo test -p amqp-router a_thousand_seeds
//! SIM_SEED=17 cargo test -p amqp-router a_thousand_seeds -- --nocapture   # with a trace
//! ```

mod actions;
mod client;
mod lane;
mod laws;
mod ledger;
mod message;
mod network;
mod receiver;
mod router;
mod seeds;
mod sender;
mod services;
mod stories;
mod tap;
mod trunks;
mod wire;
mod world;
