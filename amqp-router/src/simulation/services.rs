//! Networks of whole routers that carry TCP connections, simulated.
//!
//! A seed decides the shape of the network, where listeners and services are, what clients and
//! services send and when they stop, who reads slowly, who is cut off, and which services refuse.
//! Laws: what arrives is what was sent, in order, from the start; unless somebody was cut off, all
//! of it arrives and each end learns that the other has ended; a client is served while any service
//! can be reached; buffers are bounded; and in the end no router remembers anything;
//! telemetry tells of each connection once, from its beginning to its end, with the octets that
//! passed and the service that had it.
//!
//! ```sh
//! SIM_SEEDS=0..10000 cargo test -p amqp-router streams_through
//! SIM_SEED=17 cargo test -p amqp-router streams_through -- --nocapture
//! ```

mod net;
mod program;
mod stories;
mod telemetry;
