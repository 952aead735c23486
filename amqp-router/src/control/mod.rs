//! The control plane: the one owner of what changes slowly.
//!
//! Which links exist, which addresses they serve and how each address is treated. Workers ask for
//! attaches by [`AttachRequest`](links::AttachRequest)s; the control plane answers with
//! [`Command`](links::Command)s and publishes, address by address, what [`table`] describes.
//!
//! [`network`] and [`trunks`] are its part in a network of interior routers, [`edges`] what it does
//! for edge routers, [`uplink`] what it does as one, [`edge_mesh`] what such routers agree on.
//! [`auto_links`] are its links to brokers. `fence` has commands wait until all workers know the table.

pub(crate) mod address;
mod attaches;
pub(crate) mod auto_links;
mod commands;
pub(crate) mod edge_mesh;
mod edges;
mod fence;
pub(crate) mod guard;
pub(crate) mod links;
pub(crate) mod network;
pub(crate) mod pattern;
pub(crate) mod recent;
pub(crate) mod role;
mod rules;
pub(crate) mod services;
pub(crate) mod table;
pub(crate) mod topology;
pub(crate) mod trunk;
pub(crate) mod trunks;
pub(crate) mod uplink;
