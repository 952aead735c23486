//! The data plane of one worker: link in, address, links out.
//!
//! A [`Forwarder`] owns the forwarding half of every link of its worker and every delivery that is
//! on its way. It reads the table that the control plane publishes, and speaks to connections
//! through [`Wire`](wire::Wire); it never sees a frame. A delivery has an incoming half
//! ([`delivery::Inbound`]) where it arrived and an outgoing half ([`delivery::Outbound`]) on every
//! link that it goes to; what couples them is a [`mailbox::Branch`], so that they may live on
//! different workers.

mod addresses;
mod aim;
mod arriving;
mod attempts;
mod backlog;
mod control_links;
mod deliver;
mod delivery;
mod direct;
mod dispatch;
mod finishing;
mod forward;
mod held;
mod inspect;
mod jam;
pub(crate) mod limits;
pub(crate) mod links;
mod loss;
pub(crate) mod mailbox;
mod passage;
pub(crate) mod replies;
mod resend;
mod settle;
pub(crate) mod stats;
mod stream;
mod streams;
mod table;
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // tests start their clock somewhere
mod tests;
mod treatment;
pub(crate) mod window;
pub(crate) mod wire;

pub(crate) use arriving::Arrival;
pub(crate) use forward::{Forwarder, Settings};
