//! A complete AMQP 1.0 router to embed.

#[allow(unreachable_pub, dead_code, unused_imports)] // until the modules above this one land
mod codec;
#[allow(dead_code)]
mod control;
#[allow(dead_code)]
mod forwarding;
#[allow(dead_code, unused_imports)] // until the modules above this one land
mod endpoint;
pub mod runtime;
