//! A complete AMQP 1.0 router to embed.

#![allow(dead_code)]

mod adaptors;
#[allow(unreachable_pub, unused_imports)]
mod codec;
mod control;
mod endpoint;
mod forwarding;
#[allow(dead_code, unused_imports)] // until the modules above this one land
mod endpoint;
pub mod runtime;
mod worker;
