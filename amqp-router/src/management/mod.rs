//! Entities: what a router is configured with and what it shows of itself.
//!
//! [`schema`] says, once, which entities there are and which attributes each has. An [`Entity`] is
//! a checked set of values for one of them, and serves the configuration file, CREATE, READ,
//! UPDATE and QUERY alike. [`config`] reads configuration files, [`agent`] speaks the management
//! protocol of `$management`, [`mod@reference`] tells people of the schema.

pub(crate) mod agent;
pub(crate) mod config;
mod descriptions;
mod entities;
mod entity;
mod exposition;
pub mod reference;
pub(crate) mod reload;
mod schema;
mod syntax;

pub use config::{Config, ConfigError, ConfigErrors, Distribution};
pub(crate) use entities::{Unique, special};
pub(crate) use entity::{Entity, Invalid, closest};
pub(crate) use exposition::{Exposition, Metric};
pub(crate) use schema::{Schema, Width};
pub(crate) use syntax::json as read_json;
