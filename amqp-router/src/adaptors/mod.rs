//! Each adaptor turns one kind of peer into links and deliveries.
//!
//! [`amqp`] is a connection that speaks AMQP; [`local`] is a program in this process,
//! [`tcp`] a TCP connection. All end up as [`connections::Connections`], which is what forwarding
//! sends to.

pub(crate) mod amqp;
pub(crate) mod components;
pub(crate) mod connections;
pub(crate) mod local;
pub(crate) mod observed;
pub(crate) mod reading;
pub(crate) mod tcp;
pub(crate) mod trunk;
