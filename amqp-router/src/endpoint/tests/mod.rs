//! Stories about connections: between two of ours, and with a peer that sends what it likes.

#![allow(clippy::disallowed_methods)] // tests may ask for a first instant

mod closing;
mod default_outcome;
mod deliveries;
mod framing;
mod headers;
mod links;
mod memory;
mod outcomes;
mod pair;
mod random;
mod raw;
mod refusals;
mod sessions;
mod time;
