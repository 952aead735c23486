//! A complete AMQP 1.0 router to embed.
//!
//! A router brings messages from senders to receivers and stores none. Whoever attaches a link
//! names an *address*; the router takes each message to the nearest, to the least loaded or to
//! every receiver of its address, in this process, on another connection or many routers away. The
//! sender is given credit while there is somebody to receive, and the outcome that it learns is
//! the receiver's own (AMQP 2.6, 3.4): when [`Sender::send`] says *accepted*, the program at the
//! other end has said so.
//!
//! # A router in a dozen lines
//!
//! ```
//! use amqp_router::{Config, DeliveryState, Message, Router};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let router = Router::start(Config::new("my-router").listen("127.0.0.1", 0))?;
//!
//!     let mut receiver = router.receiver("greetings", 10).await?;
//!     let receiving = tokio::spawn(async move {
//!         let delivery = receiver.recv().await?;
//!         println!("{:?}", delivery.message());
//!         delivery.accept();
//!         Ok::<_, amqp_router::LinkError>(())
//!     });
//!
//!     let mut sender = router.sender("greetings").await?;
//!     let outcome = sender.send(&Message::of_value("hello")).await?;
//!     assert_eq!(outcome, Some(DeliveryState::Accepted));
//!
//!     receiving.await??;
//!     router.stop().await;
//!     Ok(())
//! }
//! ```
//!
//! [`Router::start`] returns when the router listens; until then it blocks, as it reads files and
//! opens sockets. The router runs on threads of its own, one for each worker and one for the control
//! plane, so it does not matter which executor the program uses, nor what that executor is busy
//! with: only [`Router::reload`] needs tokio. Any AMQP 1.0 client attaches to its listeners, and to
//! the same addresses as links of the program.
//!
//! What is awaited may be given up, in a `select!` or by a time-out of the program's: there are none
//! here. [`Receiver::recv`] loses no message then. A [`Sender::send`] that still waits for credit has
//! sent nothing; one that waits for its outcome has, and nobody hears what becomes of it.
//!
//! # Links of the program
//!
//! [`Router::sender`] and [`Router::receiver`] attach links that never leave the process. The rules
//! are those of remote links:
//!
//! - A [`Sender`] starts a delivery only with link-credit, which it has while its address has a
//!   receiver with credit: until then `send` waits. [`Sender::send_all`] keeps several deliveries
//!   under way; [`Sender::send_settled`] asks for no outcome.
//! - A [`Receiver`] is sent no more than its credit, which renews itself as deliveries are settled.
//!   A [`Delivery`] is accepted, rejected, released or modified; dropping one releases it, so that
//!   somebody else may get it.
//! - [`Router::dynamic_receiver`] has an address that the router makes up, for answers;
//!   [`Router::anonymous_sender`] sends to the address in each message's `to`.
//! - A [`LinkError`] says whether the link was refused or ended, and with which
//!   [condition], or the router has stopped.
//!
//! # How messages are distributed
//!
//! An address exists once somebody names it. How messages to it are distributed depends on the
//! longest prefix that the configuration names, or its best pattern:
//!
//! ```
//! use amqp_router::{Config, Distribution};
//!
//! let config = Config::new("my-router")
//!     .distribute("news", Distribution::Multicast) // to all
//!     .distribute("orders", Distribution::Closest) // to the nearest by cost
//!     .distribute("internal", Distribution::Unavailable); // links are refused
//! ```
//!
//! All else is [`Balanced`](Distribution::Balanced): to the receiver with the fewest deliveries
//! that await their outcome, where a distant one counts as busier by the cost of the way to it.
//!
//! # Configuration
//!
//! [`Config`] is written in code, or read from a file of skupper-router's `skrouterd`, in JSON or
//! conf syntax; a mistake is a [`ConfigError`] that names file, entity, attribute and what would be
//! right. TLS, SASL, policies, connectors, TCP services and the network are there:
//!
//! ```
//! use amqp_router::Config;
//!
//! let text = r#"[
//!     ["router", {"id": "R2", "mode": "interior"}],
//!     ["listener", {"name": "clients", "host": "127.0.0.1", "port": "amqp"}],
//!     ["connector", {"name": "to R1", "role": "inter-router", "host": "r1.example", "port": 55671}],
//!     ["tcpListener", {"name": "db", "address": "db", "host": "127.0.0.1", "port": 5432}]
//! ]"#;
//! let config = Config::from_text("router.json", text)?;
//! assert_eq!(config.router_id(), "R2");
//!
//! let wrong = Config::from_text("router.json", r#"[["listener", {"prot": "amqp"}]]"#);
//! assert!(wrong.unwrap_err().to_string().contains("'prot'"));
//! # Ok::<(), amqp_router::ConfigErrors>(())
//! ```
//!
//! [`Router::reload`] applies the difference that a changed configuration makes. While the router
//! runs its management agent answers on the address `$management`, to links of the program as to
//! any other: tools of skupper-router work on it as they are.
//!
//! # Logging
//!
//! A router logs through `tracing`, with the module of skupper-router's `log` entity as target
//! (`ROUTER_CORE`, `SERVER`, …) and the fields `conn` and `link`. A program that wants skrouterd's
//! own format and its levels by module, changeable while it runs, starts the router with a
//! [`runtime::log::Log`].
//!
//! # Failure
//!
//! Nothing that a peer sends can make a router panic, hang or use memory without bound: those are
//! bugs, looked for by fuzzing and by simulation. Should a thread of a router panic nevertheless,
//! [`Router::failed`] says so; the program had better end, or drop the router and start another.

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
mod observers;
mod policy;
#[cfg(test)]
mod recorded;
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
pub use management::{Config, ConfigError, ConfigErrors, Distribution, reference};
pub use runtime::{Delivery, LinkError, Receiver, Reloaded, Router, Sender, StartError};
