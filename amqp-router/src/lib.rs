//! A complete AMQP 1.0 router to embed.

pub mod runtime;
