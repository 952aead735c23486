//! A complete AMQP 1.0 router to embed.

#![allow(dead_code)]

mod adaptors;
#[allow(unreachable_pub, unused_imports)]
mod codec;
mod control;
#[allow(unused_imports)]
mod endpoint;
mod forwarding;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub mod runtime;
mod worker;
