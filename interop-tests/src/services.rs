//! Programs that know nothing of AMQP, and the entities that lead to them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::sha256_hex;

/// A `tcpListener` of an address.
pub fn tcp_listener(port: u16, address: &str) -> (&'static str, Value) {
    let name = format!("listener of {address}");
    let attributes =
        json!({"name": name, "host": "127.0.0.1", "port": port.to_string(), "address": address});
    ("tcpListener", attributes)
}

/// A `tcpConnector` of an address.
pub fn tcp_connector(port: u16, address: &str) -> (&'static str, Value) {
    let name = format!("connector of {address} to {port}");
    let attributes =
        json!({"name": name, "host": "127.0.0.1", "port": port.to_string(), "address": address});
    ("tcpConnector", attributes)
}

/// A port of the loopback interface that nobody has.
///
/// # Panics
///
/// When there is none.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Not of those that connections are given: somebody's would have it before it is listened on.
    let from = std::process::id() as u16 % SPAN;
    for _ in 0..SPAN {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + from.wrapping_add(next) % SPAN;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

/// A service that sends back what it gets, then the name that it has, and ends.
///
/// # Panics
///
/// When there is no port for it.
pub fn echo(name: &'static str) -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = vec![0; 64 * 1024];
                loop {
                    match stream.read(&mut buffer) {
                        Ok(0) => break,
                        Ok(n) => {
                            if stream.write_all(&buffer[..n]).is_err() {
                                return;
                            }
                        }
                        Err(_) => return,
                    }
                }
                let _ = stream.write_all(name.as_bytes());
            });
        }
    });
    port
}

/// A port where a connection is not taken: nobody accepts those that wait there.
#[derive(Debug)]
pub struct BlackHole {
    socket: TcpListener,
    waiting: Vec<TcpStream>,
}

impl BlackHole {
    /// # Panics
    ///
    /// When there is no port for it.
    #[expect(clippy::new_without_default, reason = "it takes a port")]
    pub fn new() -> Self {
        let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = socket.local_addr().expect("an address");
        let patience = Duration::from_millis(300);
        let waits = |address: &SocketAddr| TcpStream::connect_timeout(address, patience).ok();
        let waiting = std::iter::from_fn(|| waits(&address)).collect();
        Self { socket, waiting }
    }

    /// # Panics
    ///
    /// Never: it has one.
    pub fn port(&self) -> u16 {
        self.socket.local_addr().expect("an address").port()
    }

    /// Takes connections from now on: the next one is the first that has found no place so far.
    ///
    /// # Panics
    ///
    /// When what waits cannot be taken.
    pub fn open(self) -> TcpListener {
        for _ in &self.waiting {
            self.socket.accept().expect("it waits");
        }
        self.socket
    }
}

/// Connects as soon as somebody listens.
///
/// # Panics
///
/// When nobody does in time.
#[track_caller]
pub fn connect(port: u16) -> TcpStream {
    let deadline = Instant::now() + LIMIT;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => {
                stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
                return stream;
            }
            Err(error) => assert!(Instant::now() < deadline, "nobody listens: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Sends octets, says that nothing follows, and gives what comes back.
///
/// # Panics
///
/// When the connection breaks, or is silent for too long.
#[track_caller]
pub fn exchange(stream: TcpStream, octets: &[u8]) -> Vec<u8> {
    let mut writer = stream.try_clone().expect("a handle");
    let copy = octets.to_vec();
    let sender = thread::spawn(move || {
        writer.write_all(&copy)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut back = Vec::new();
    let mut reader = stream;
    reader.read_to_end(&mut back).expect("an answer to its end");
    sender.join().expect("no panic").expect("it was taken");
    back
}

/// Octets without a pattern, the same each time.
pub fn noise(size: usize) -> Vec<u8> {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..size).map(|_| next()).collect()
}

/// Sends octets to an [`echo`] and checks what comes back.
///
/// # Panics
///
/// When it is something else, or from another service.
#[track_caller]
pub fn check_echo(port: u16, size: usize, name: &str) {
    let sent = noise(size);
    let mut back = exchange(connect(port), &sent);
    let tail = back.split_off(back.len().saturating_sub(name.len()));
    assert_eq!(String::from_utf8_lossy(&tail), name);
    assert_eq!(sha256_hex(&back), sha256_hex(&sent), "{size} octets");
}

const LIMIT: Duration = Duration::from_secs(60);

/// The ports that tests listen on.
const FIRST: u16 = 12_000;
const SPAN: u16 = 20_000;
