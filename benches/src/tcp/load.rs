//! The service, and what is asked of it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::now;

/// One kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Load {
    /// So many streams, each as fast as it goes, to the service.
    Streams(usize),
    /// Requests and answers on so many connections that stay open.
    KeepAlive(usize),
    /// Requests and answers on a connection each.
    Connect,
    /// Requests and answers on one connection beside a stream as fast as it goes.
    Beside,
    /// Connections that are open and silent.
    Idle(usize),
}

/// What has been measured in one run.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Measured {
    /// Octets, requests or connections.
    pub(super) count: u64,
    pub(super) seconds: f64,
    /// Seconds of CPU that the way's processes used.
    pub(super) cpu: f64,
    /// Microseconds that requests took.
    pub(super) p50: u64,
    pub(super) p99: u64,
    /// Bytes of memory that the processes got more.
    pub(super) memory: u64,
    /// How many processes the way leads through.
    pub(super) processes: usize,
}

impl Load {
    pub(super) const ALL: [Self; 7] = [
        // First, while the processes have no memory left over from anything else.
        Self::Idle(1000),
        Self::Streams(1),
        Self::Streams(8),
        Self::KeepAlive(50),
        Self::KeepAlive(1),
        Self::Connect,
        Self::Beside,
    ];

    pub(super) fn name(self) -> String {
        match self {
            Self::Streams(1) => "1 stream".into(),
            Self::Streams(n) => format!("{n} streams"),
            Self::KeepAlive(1) => "request, 1 connection: p50, p99".into(),
            Self::KeepAlive(n) => format!("requests, {n} connections: /s, CPU-µs, p99"),
            Self::Connect => "connection each: /s, CPU-µs, p99".into(),
            Self::Beside => "request beside a stream: p50, p99".into(),
            Self::Idle(_) => "idle connection, each process".into(),
        }
    }

    /// The median of several runs in words; of memory, the most, as a later run uses again what an
    /// earlier one has left.
    pub(super) fn describe(self, runs: &[Measured]) -> String {
        let median = |of: &dyn Fn(&Measured) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let rate = median(&|m| m.count as f64 / m.seconds);
        let micros = median(&|m| m.cpu * 1e6 / m.count.max(1) as f64);
        let (p50, p99) = (median(&|m| m.p50 as f64), median(&|m| m.p99 as f64));
        let through = runs.first().is_some_and(|m| m.processes > 0);
        let cpu = |text: String| if through { text } else { "–".into() };
        match self {
            Self::Streams(_) => {
                let each = median(&|m| m.cpu * 1e9 / m.count.max(1) as f64);
                let each = cpu(format!("{each:.2} CPU-s/GB"));
                format!("{:.1} Gb/s, {each}", rate * 8e-9)
            }
            Self::KeepAlive(1) | Self::Beside => format!("{p50:.0} µs, {p99:.0} µs"),
            Self::KeepAlive(_) | Self::Connect => {
                let micros = cpu(format!("{micros:.1}"));
                format!("{:.1} k/s, {micros}, {:.1} ms", rate / 1e3, p99 / 1e3)
            }
            Self::Idle(_) => {
                let each = |m: &Measured| m.memory / (m.count * m.processes.max(1) as u64).max(1);
                let most = runs.iter().map(each).max().unwrap_or(0);
                cpu(format!("{:.1} KiB", most as f64 / 1024.0))
            }
        }
    }

    /// Puts the load on whatever leads from a port to the service.
    ///
    /// `usage` is asked at the right moments for CPU seconds and bytes of memory.
    pub(super) fn put(
        self,
        port: u16,
        duration: Duration,
        usage: impl Fn() -> io::Result<(f64, u64)>,
    ) -> io::Result<Measured> {
        exchange(&mut connect(port)?)?;
        thread::sleep(SETTLE);
        let (cpu, memory) = usage()?;
        let start = now();
        let mut measured = match self {
            Self::Streams(streams) => stream(port, streams, duration)?,
            Self::KeepAlive(connections) => requests(port, connections, duration, true)?,
            Self::Connect => requests(port, CONNECTING, duration, false)?,
            Self::Beside => {
                let streaming = thread::spawn(move || stream(port, 1, duration));
                let measured = requests(port, 1, duration, true)?;
                streaming.join().map_err(|_| io::Error::other("panic"))??;
                measured
            }
            Self::Idle(connections) => {
                let mut open = Vec::new();
                for _ in 0..connections {
                    let mut stream = connect(port)?;
                    exchange(&mut stream)?;
                    open.push(stream);
                }
                thread::sleep(SETTLE);
                let more = usage()?.1.saturating_sub(memory);
                Measured {
                    count: connections as u64,
                    memory: more,
                    ..Measured::default()
                }
            }
        };
        measured.seconds = now().duration_since(start).as_secs_f64();
        measured.cpu = usage()?.0 - cpu;
        Ok(measured)
    }
}

/// Runs the service: it swallows streams, and answers requests. Gives its port.
pub(super) fn serve(port: u16) -> io::Result<u16> {
    let socket = TcpListener::bind(("127.0.0.1", port))?;
    let port = socket.local_addr()?.port();
    thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            thread::spawn(move || {
                // The client measures; it is the one that complains.
                let _ = answer(stream);
            });
        }
    });
    Ok(port)
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 128 * 1024];
    let mut kind = [0; 1];
    stream.read_exact(&mut kind)?;
    if kind[0] == STREAM {
        while stream.read(&mut buffer)? > 0 {}
        return stream.write_all(&[STREAM]);
    }
    stream.read_exact(&mut buffer[1..REQUEST.len()])?;
    let answer = [ANSWER_HEAD, &[b' '; ANSWER - ANSWER_HEAD.len()]].concat();
    loop {
        stream.write_all(&answer)?;
        if stream.read_exact(&mut buffer[..REQUEST.len()]).is_err() {
            return Ok(());
        }
    }
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Sends as fast as it goes; the time counts until the service has got all of it.
fn stream(port: u16, streams: usize, duration: Duration) -> io::Result<Measured> {
    let end = now() + duration;
    let one = move || -> io::Result<u64> {
        let mut stream = connect(port)?;
        let octets = vec![STREAM; 128 * 1024];
        let mut sent = 0;
        while now() < end {
            stream.write_all(&octets)?;
            sent += octets.len() as u64;
        }
        stream.shutdown(Shutdown::Write)?;
        stream.read_exact(&mut [0])?;
        Ok(sent)
    };
    let running: Vec<_> = (0..streams).map(|_| thread::spawn(one)).collect();
    let mut count = 0;
    for one in running {
        count += one.join().map_err(|_| io::Error::other("panic"))??;
    }
    Ok(Measured {
        count,
        ..Measured::default()
    })
}

fn exchange(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(REQUEST)?;
    stream.read_exact(&mut [0; ANSWER])
}

/// Asks and waits for the answer, again and again, by so many clients at once.
fn requests(port: u16, clients: usize, duration: Duration, keep: bool) -> io::Result<Measured> {
    let stop = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU64::new(0));
    let one = || {
        let (stop, count) = (Arc::clone(&stop), Arc::clone(&count));
        move || -> io::Result<Histogram<u64>> {
            let mut times = histogram();
            let mut kept = if keep { Some(connect(port)?) } else { None };
            while !stop.load(Ordering::Relaxed) {
                let start = now();
                match &mut kept {
                    Some(stream) => exchange(stream)?,
                    None => exchange(&mut connect(port)?)?,
                }
                let took = now().duration_since(start).as_micros();
                times.saturating_record(u64::try_from(took).unwrap_or(u64::MAX));
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok(times)
        }
    };
    let running: Vec<_> = (0..clients).map(|_| thread::spawn(one())).collect();
    thread::sleep(duration);
    stop.store(true, Ordering::Relaxed);
    let mut times = histogram();
    for one in running {
        let more = one.join().map_err(|_| io::Error::other("panic"))??;
        times.add(more).map_err(io::Error::other)?;
    }
    Ok(Measured {
        count: count.load(Ordering::Relaxed),
        p50: times.value_at_quantile(0.5),
        p99: times.value_at_quantile(0.99),
        ..Measured::default()
    })
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order")
}

const STREAM: u8 = b'S';
/// A request of HTTP, which is what most services get.
const REQUEST: &[u8; 100] = b"GET /items/1234567 HTTP/1.1\r\nHost: service.example\r\n\
    Accept: application/json\r\nX: xxxxxxxxxxxxxxx\r\n\r\n";
const ANSWER_HEAD: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 128\r\n\r\n";
/// Octets of an answer.
const ANSWER: usize = 200;
/// Clients that connect anew for every request.
const CONNECTING: usize = 20;
/// How long a way may keep a client waiting.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long what was before is given to end.
const SETTLE: Duration = Duration::from_millis(200);
