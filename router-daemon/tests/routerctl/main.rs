//! `routerctl` against routers that run.

// Processes live in real time.
#![allow(clippy::disallowed_methods)]

mod entities;
mod failures;
mod login;
mod messages;
mod network;
mod reload;
mod reports;
mod support;
mod traces;
