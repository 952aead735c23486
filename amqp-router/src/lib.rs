//! A complete AMQP 1.0 router to embed.

#![allow(dead_code)]

mod adaptors;
#[cfg(feature = "benchmarks")]
#[doc(hidden)]
pub mod benchmarks;
#[allow(unreachable_pub, unused_imports)]
mod codec;
mod control;
#[allow(unused_imports)]
mod endpoint;
mod forwarding;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod management;
mod mesh;
mod policy;
pub mod runtime;
#[cfg(test)]
mod simulation;
mod vanflow;
mod worker;

pub use codec::condition;
pub use codec::{
    Array, Body, DecodeError, DeliveryState, Described, Error, Fields, Header, Message, MessageId,
    Modified, Properties, Symbol, Value,
};
pub use management::{Config, ConfigError, ConfigErrors, Distribution};
pub use runtime::{Delivery, LinkError, Receiver, Reloaded, Router, Sender, StartError};
