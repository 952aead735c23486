//! Who may connect, and what they may do: the `policy` and `vhost` entities as decisions.
//!
//! Nothing here has sockets, clocks or a log. [`Policies`] is asked when a peer opens its
//! connection and gives a [`Grant`] or a [`Denial`](policies::Denial); the grant is asked at every attach, and by a
//! worker where an anonymous link's messages go to an address that it has not seen before. A grant
//! is immutable and shared; what a vhost's rules become later concerns later connections, except
//! that a name that is `revoked` loses the connections it has.
//!
//! The rules are skrouterd's (`reference/router/config-and-management.md` §2 and its notes), with
//! attributes of our own: a group's `certificates`, `neighbors` and `allowTransit`, and a vhost's
//! `revoked`. What a group says of a router is also asked by the control plane, of every address
//! that the router announces.

mod grant;
mod group;
mod hosts;
mod names;
mod policies;
mod routers;
#[cfg(test)]
mod tests;
mod vhost;

pub(crate) use grant::{Grant, shown};
#[cfg(test)]
pub(crate) use group::GROUP_SETTINGS;
pub(crate) use policies::{Opening, Policies, PolicyCounts, PolicySettings};
#[cfg(test)]
pub(crate) use tests::granted;
pub(crate) use vhost::Vhost;
