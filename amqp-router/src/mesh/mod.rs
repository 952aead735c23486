//! The routing protocol: how interior routers find each other, and learn who has which address
//! (`reference/router/inter-router-protocol.md` §5).
//!
//! A pure state machine: messages of neighbours and `now` go in, [`Output`]s come out. It knows
//! neither links nor how a message reaches a router several hops away; who owns it sees to that,
//! with the [`Routes`] that it computes.
//!
//! * HELLO tells neighbours of each other. A router is a neighbour once each has heard the other.
//! * RA says how new a router's link state and addresses are; whoever has older ones asks with
//!   LSR and MAR, and is answered with LSU and MAU. Changes of addresses are told to everybody at
//!   once.
//! * From all link states every router computes the same shortest paths ([`paths`]).
//!
//! It is faster than what it is compatible with: there, everything waits for a tick of a second.
//! Here a change is told when it happens, and many changes in a short time together.

mod addresses;
mod engine;
#[cfg(any(test, feature = "fuzzing"))]
mod fuzzing;
#[cfg(test)]
mod liars;
mod message;
mod nodes;
mod notice;
mod paths;
mod screen;
#[cfg(test)]
pub(crate) mod simulation;

pub(crate) use addresses::{LocalAddress, RemoteAddress};
pub(crate) use engine::{Mesh, Output, RouterStatus, Settings, To};
#[cfg(feature = "fuzzing")]
pub(crate) use fuzzing::fuzz;
pub(crate) use notice::Notice;
pub(crate) use paths::Routes;
pub(crate) use screen::{Screened, screen};

/// A connection to a neighbour, as its owner numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NeighbourId(pub(crate) u32);

/// A router that is known, by a small number that is used again after it has been forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RouterIndex(pub(crate) u32);
