//! Several routers and many clients, simulated.
//!
//! A seed decides the shape of the network and what becomes of it: in rough weather connections
//! between routers are cut, freeze and are made anew, routers restart, clients come and go; in calm
//! weather everything works and clients only send, receive and settle, and then edge routers connect
//! anew with newer credentials, too, which must lose and give back nothing. The laws are the ledger's;
//! those of calm weather are as strict as for one router. Besides: a message never enters a router
//! twice, an address is known where there is somebody who receives from it and nowhere else, and
//! when all clients have left, no router remembers them; when the connections are cut, nor each
//! other.
//!
//! ```sh
//! SIM_SEEDS=0..100000 cargo test -p amqp-router messages_across_networks
//! SIM_SEED=17 cargo test -p amqp-router messages_across_networks -- --nocapture   # with a trace
//! ```

mod play;
mod stories;
mod truth;
