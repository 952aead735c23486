//! The yardstick: the least that can stand between a sender and a receiver.
//!
//! One thread joins the first sending and the first receiving link of each address. Transfers get
//! another handle and delivery-id and keep their payload; credit is the receiver's, passed back;
//! dispositions are translated in ranges. There are no annotations, no policy and no choice of
//! receiver, so what it costs is what codec and I/O cost.

mod link;
mod node;

use std::net::{SocketAddr, TcpListener as StdListener};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token, Waker};

use crate::clock;
use crate::connection::{Connection, TICK};
use crate::error::Error;
use crate::handshake::{Established, Handshake};
use node::Node;

/// How a relay behaves.
#[derive(Debug, Clone)]
pub struct RelayOptions {
    /// Largest frame taken, in octets. Receivers must take frames a little larger.
    pub max_frame_size: u32,
    /// Transfer frames taken per session before saying more.
    pub incoming_window: u32,
    /// Lose every so many settled messages, to see whether a generator copes.
    pub drop_every: Option<NonZeroU32>,
}

impl Default for RelayOptions {
    fn default() -> Self {
        RelayOptions {
            max_frame_size: 65_536,
            incoming_window: 2048,
            drop_every: None,
        }
    }
}

/// A relay on a thread of its own.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    waker: Arc<Waker>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Relay {
    /// Serves what connects to `listener`, until dropped.
    pub fn start(listener: StdListener, options: RelayOptions) -> Result<Self, Error> {
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let server = Server::new(listener, options, stop.clone())?;
        let waker = server.waker.clone();
        let thread = std::thread::Builder::new()
            .name("bare-relay".into())
            .spawn(|| server.run())?;
        Ok(Relay {
            address,
            stop,
            waker,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until it fails; it does not end by itself.
    pub fn wait(mut self) -> Result<(), Error> {
        let thread = self.thread.take().expect("a relay is waited for once");
        thread
            .join()
            .expect("the relay reports errors, it does not panic")
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take()
            && self.waker.wake().is_ok()
        {
            // Its errors concern nobody any more.
            let _ = thread.join();
        }
    }
}

/// The event loop around a [`Node`].
struct Server {
    poll: Poll,
    waker: Arc<Waker>,
    listener: TcpListener,
    handshake: Arc<Handshake>,
    /// Handshakes under way, each on a thread of its own.
    handshaking: Arc<AtomicUsize>,
    established: (mpsc::Sender<Established>, mpsc::Receiver<Established>),
    node: Node,
    stop: Arc<AtomicBool>,
}

impl Server {
    fn new(
        listener: StdListener,
        options: RelayOptions,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, Error> {
        listener.set_nonblocking(true)?;
        let mut listener = TcpListener::from_std(listener);
        let poll = Poll::new()?;
        poll.registry()
            .register(&mut listener, LISTENER, Interest::READABLE)?;
        let handshake = Handshake {
            container_id: "bare-relay".into(),
            sasl: false,
            max_frame_size: options.max_frame_size,
            incoming_window: options.incoming_window,
            time_out: HANDSHAKE_TIME_OUT,
        };
        Ok(Server {
            waker: Arc::new(Waker::new(poll.registry(), WAKER)?),
            poll,
            listener,
            handshake: Arc::new(handshake),
            handshaking: Arc::default(),
            established: mpsc::channel(),
            node: Node::new(options.drop_every),
            stop,
        })
    }

    fn run(mut self) -> Result<(), Error> {
        let mut events = Events::with_capacity(256);
        let mut next_tick = clock::now();
        while !self.stop.load(Relaxed) {
            let now = clock::now();
            if now >= next_tick {
                next_tick = now + TICK;
                self.node.tick(now);
            }
            let time_out = match self.node.turn() {
                true => Duration::ZERO,
                false => next_tick.saturating_duration_since(now),
            };
            match self.poll.poll(&mut events, Some(time_out)) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                    return Err(error.into());
                }
                _ => {}
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    WAKER => self.admit()?,
                    Token(id) => self.node.ready(
                        id,
                        event.is_readable() || event.is_read_closed() || event.is_error(),
                        event.is_writable(),
                    ),
                }
            }
        }
        Ok(())
    }

    /// Hands new connections to threads for their handshake. Beyond a bound they are dropped.
    fn accept(&mut self) -> Result<(), Error> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => std::net::TcpStream::from(stream),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(_) => continue,
            };
            if self.handshaking.load(Relaxed) >= MAX_HANDSHAKES
                || stream.set_nonblocking(false).is_err()
            {
                continue;
            }
            self.handshaking.fetch_add(1, Relaxed);
            let (handshake, handshaking) = (self.handshake.clone(), self.handshaking.clone());
            let (established, waker) = (self.established.0.clone(), self.waker.clone());
            std::thread::Builder::new()
                .name("handshake".into())
                .spawn(move || {
                    if let Ok(ready) = handshake.accept(stream) {
                        // Neither can fail but when the relay has ended.
                        let _ = established.send(ready);
                        let _ = waker.wake();
                    }
                    handshaking.fetch_sub(1, Relaxed);
                })?;
        }
    }

    fn admit(&mut self) -> Result<(), Error> {
        while let Ok(established) = self.established.1.try_recv() {
            let mut connection = Connection::new(established, clock::now())?;
            connection.register(self.poll.registry(), Token(self.node.next_id()))?;
            self.node
                .add(connection, self.handshake.max_frame_size as usize);
        }
        Ok(())
    }
}

const LISTENER: Token = Token(usize::MAX);
const WAKER: Token = Token(usize::MAX - 1);
const HANDSHAKE_TIME_OUT: Duration = Duration::from_secs(5);
const MAX_HANDSHAKES: usize = 64;
