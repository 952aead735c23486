//! One run: connect, attach, send, measure, settle, close.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::Waker;

use crate::clock;
use crate::connection::Connection;
use crate::driver::{Driver, Peer};
use crate::error::Error;
use crate::handshake::{Established, Handshake};
use crate::latency::Latency;
use crate::options::{Mode, Options};
use crate::process::{Usage, thread_cpu};
use crate::receiver::{Receiver, Terms};
use crate::report::{GeneratorUse, Messages, Percentiles, Report, RouterUse};
use crate::sender::{Load, Sender};
use crate::tally::{Phase, Stage, Tally, Totals};

/// Does what the options say and returns what was measured. It blocks, but never longer than
/// `--timeout`.
pub fn run(options: &Options) -> Result<Report, Error> {
    options.validate()?;
    let before = Usage::of_all(&options.pid)?;
    let mut run = Run::new(options);
    let measured = run.measure();
    let peers = run.finish();
    // A thread's error is the cause of what the main thread saw.
    let (peers, (start, end)) = (peers?, measured?);
    run.check()?;
    Ok(run.report(before, start, end, peers))
}

/// A driver's thread, which ends with its peers or an error.
type Thread = (Waker, JoinHandle<Result<Vec<Peer>, Error>>);

struct Run<'a> {
    options: &'a Options,
    stage: Arc<Stage>,
    tallies: Vec<Arc<Tally>>,
    threads: Vec<Thread>,
    deadline: Instant,
}

/// Counters and clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    totals: Totals,
    router: Option<Usage>,
    senders: Duration,
    receivers: Duration,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options) -> Self {
        Run {
            options,
            stage: Arc::new(Stage::new()),
            tallies: Vec::new(),
            threads: Vec::new(),
            deadline: clock::now() + options.time_out(),
        }
    }

    fn measure(&mut self) -> Result<(Sample, Sample), Error> {
        match self.options.mode {
            Mode::Throughput => self.connect()?,
            Mode::Direct => self.connect_directly()?,
            Mode::Latency => self.connect_coupled()?,
            Mode::Idle => return self.hold_idle(),
        }
        let links = 2 * (self.options.connections * self.options.links) as u64;
        self.watch("attaching", |totals| totals.attached == links)?;
        match self.options.count {
            Some(count) => self.measure_count(count * links / 2),
            None => self.measure_duration(),
        }
    }

    fn measure_duration(&mut self) -> Result<(Sample, Sample), Error> {
        self.enter(Phase::WarmUp)?;
        // A network may take a while to know of a new receiver.
        self.watch("waiting for the first message", |totals| {
            totals.received > 0
        })?;
        self.watch_for("warming up", self.options.warmup)?;
        self.enter(Phase::Measure)?;
        let start = self.sample()?;
        self.watch_for("measuring", self.options.duration)?;
        let end = self.sample()?;
        self.enter(Phase::Settle)?;
        self.settle()?;
        Ok((start, end))
    }

    fn measure_count(&mut self, count: u64) -> Result<(Sample, Sample), Error> {
        let start = self.sample()?;
        self.enter(Phase::Measure)?;
        self.watch("sending", |totals| totals.sent == count)?;
        let last = self.settle()?;
        let mut end = self.sample()?;
        end.at = last;
        Ok((start, end))
    }

    /// Waits until all that was sent is accounted for, and says when the last of it came.
    fn settle(&self) -> Result<Instant, Error> {
        let mut watch = Watch::new(self, "settling");
        loop {
            let totals = watch.look()?;
            let arrived = totals.received + totals.aborted >= totals.sent;
            let quiet = clock::now().duration_since(watch.moved) >= QUIET;
            let done = match self.options.settled {
                true => arrived || quiet,
                false => {
                    totals.settled() == totals.sent && (totals.received >= totals.accepted || quiet)
                }
            };
            if done {
                return Ok(watch.moved);
            }
            std::thread::sleep(SHORT_NAP);
        }
    }

    fn hold_idle(&mut self) -> Result<(Sample, Sample), Error> {
        let start = self.sample()?;
        let target = self.options.target()?;
        let all: Vec<usize> = (0..self.options.connections).collect();
        // Each group has a thread as soon as it is connected, which keeps it alive.
        for group in all.chunks(CONNECTIONS_PER_THREAD) {
            let peers: Result<Vec<Peer>, Error> = group
                .iter()
                .map(|&index| {
                    self.receiver(target, index)
                        .map(|r| Peer::Receiver(Box::new(r)))
                })
                .collect();
            self.start("bench-recv", peers?, false)?;
        }
        let links = (self.options.connections * self.options.links) as u64;
        self.watch("attaching", |totals| totals.attached == links)?;
        let deadline = clock::now() + Duration::from_secs_f64(self.options.duration);
        while clock::now() < deadline && !self.stage.has_failed() {
            std::thread::sleep(NAP);
        }
        Ok((start, self.sample()?))
    }

    /// Receivers first, so that no message finds an address without consumer.
    fn connect(&mut self) -> Result<(), Error> {
        let (target, receivers_target) = (self.options.target()?, self.options.receivers_target()?);
        let connections = 0..self.options.connections;
        let receivers: Result<Vec<_>, _> = connections
            .clone()
            .map(|index| self.receiver(receivers_target, index))
            .collect();
        let senders: Result<Vec<_>, _> = connections
            .map(|index| self.sender(target, index, None))
            .collect();
        self.start_both(receivers?, senders?)
    }

    /// The receivers listen themselves, and take the senders' links as a router would.
    fn connect_directly(&mut self) -> Result<(), Error> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let target = listener.local_addr()?;
        let mut receivers = Vec::new();
        let mut senders = Vec::new();
        for index in 0..self.options.connections {
            let handshake = self.handshake("receiver", index);
            let established: Result<Established, Error> = std::thread::scope(|scope| {
                let accepting = scope.spawn(|| handshake.accept(listener.accept()?.0));
                senders.push(self.sender(target, index, None)?);
                accepting.join().expect("a handshake does not panic")
            });
            let connection = Connection::new(established?, clock::now())?;
            receivers.push(Receiver::serving(connection, self.terms()));
        }
        self.start_both(receivers, senders)
    }

    /// One thread for both ends: its wake-ups are then no part of what is measured.
    fn connect_coupled(&mut self) -> Result<(), Error> {
        let target = self.options.target()?;
        let receiver = self.receiver(self.options.receivers_target()?, 0)?;
        let latency = Latency::new(receiver.tally.clone());
        let sender = self.sender(target, 0, Some(latency))?;
        let peers = vec![
            Peer::Receiver(Box::new(receiver)),
            Peer::Sender(Box::new(sender)),
        ];
        self.start("bench-send", peers, true)
    }

    fn receiver(&self, target: SocketAddr, index: usize) -> Result<Receiver, Error> {
        let established = self.handshake("receiver", index).connect(target)?;
        let connection = Connection::new(established, clock::now())?;
        let addresses = self.options.link_addresses(index);
        let first_link = (index * self.options.links) as u64;
        Ok(Receiver::new(
            connection,
            &addresses,
            first_link,
            self.terms(),
        ))
    }

    fn sender(
        &self,
        target: SocketAddr,
        index: usize,
        latency: Option<Latency>,
    ) -> Result<Sender, Error> {
        let options = self.options;
        let established = self.handshake("sender", index).connect(target)?;
        let connection = Connection::new(established, clock::now())?;
        let load = Load {
            size: options.size,
            settled: options.settled,
            count: options.count,
            batch: options.batch(),
        };
        let addresses = options.link_addresses(index);
        let first_link = (index * options.links) as u64;
        Ok(Sender::new(
            connection, &addresses, first_link, load, latency,
        ))
    }

    fn terms(&self) -> Terms {
        let Options {
            credit,
            settled,
            verify,
            size,
            ..
        } = *self.options;
        Terms {
            credit,
            settled,
            verify: verify.then_some(size),
        }
    }

    fn handshake(&self, role: &str, index: usize) -> Handshake {
        let pid = std::process::id();
        Handshake {
            container_id: format!("router-bench-{pid}-{role}-{index}"),
            sasl: !self.options.no_sasl,
            max_frame_size: self.options.frame_size,
            incoming_window: self.options.window,
            time_out: self.options.stall(),
        }
    }

    fn start_both(&mut self, receivers: Vec<Receiver>, senders: Vec<Sender>) -> Result<(), Error> {
        let receivers = receivers.into_iter().map(|r| Peer::Receiver(Box::new(r)));
        let senders = senders.into_iter().map(|s| Peer::Sender(Box::new(s)));
        for peers in deal(receivers, self.options.threads) {
            self.start("bench-recv", peers, false)?;
        }
        for peers in deal(senders, self.options.threads) {
            self.start("bench-send", peers, false)?;
        }
        Ok(())
    }

    fn start(&mut self, name: &str, peers: Vec<Peer>, coupled: bool) -> Result<(), Error> {
        self.tallies.extend(peers.iter().map(|peer| match peer {
            Peer::Sender(sender) => sender.tally.clone(),
            Peer::Receiver(receiver) => receiver.tally.clone(),
        }));
        let (driver, waker) = Driver::new(peers, self.stage.clone(), coupled)?;
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(|| driver.run())?;
        self.threads.push((waker, thread));
        Ok(())
    }

    fn enter(&self, phase: Phase) -> Result<(), Error> {
        self.stage.enter(phase);
        for (waker, _) in &self.threads {
            waker.wake()?;
        }
        Ok(())
    }

    /// Ends all threads and returns their peers, or the first error among them.
    fn finish(&mut self) -> Result<Vec<Peer>, Error> {
        // A thread that has ended already cannot be woken, and need not be.
        let _ = self.enter(Phase::Close);
        let ended: Vec<_> = self
            .threads
            .drain(..)
            .map(|(_, thread)| {
                thread
                    .join()
                    .expect("drivers report errors, they do not panic")
            })
            .collect();
        let peers: Result<Vec<Vec<Peer>>, Error> = ended.into_iter().collect();
        Ok(peers?.into_iter().flatten().collect())
    }

    fn watch(&self, doing: &'static str, done: impl Fn(&Totals) -> bool) -> Result<(), Error> {
        let mut watch = Watch::new(self, doing);
        while !done(&watch.look()?) {
            std::thread::sleep(SHORT_NAP);
        }
        Ok(())
    }

    fn watch_for(&self, doing: &'static str, seconds: f64) -> Result<(), Error> {
        let end = clock::now() + Duration::from_secs_f64(seconds);
        let mut watch = Watch::new(self, doing);
        loop {
            watch.look()?;
            let left = end.saturating_duration_since(clock::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(NAP));
        }
    }

    fn sample(&self) -> Result<Sample, Error> {
        Ok(Sample {
            at: clock::now(),
            totals: Totals::of(&self.tallies),
            router: Usage::of_all(&self.options.pid)?,
            senders: thread_cpu("bench-send"),
            receivers: thread_cpu("bench-recv"),
        })
    }

    /// Everything sent came to a good end, and came once.
    fn check(&self) -> Result<(), Error> {
        let totals = Totals::of(&self.tallies);
        let Totals {
            sent,
            received,
            accepted,
            missing,
            rejected,
            released,
            modified,
            ..
        } = totals;
        let fail = |what: String| Err(Error::Result(what));
        if received > sent {
            return fail(format!("{received} messages received of {sent} sent"));
        }
        if self.options.settled || self.options.mode == Mode::Idle {
            return Ok(());
        }
        if accepted < sent {
            return fail(format!(
                "of {sent} messages {rejected} were rejected, {released} released, {modified} modified"
            ));
        }
        if received < accepted {
            return fail(format!(
                "{accepted} messages accepted, but only {received} received"
            ));
        }
        if missing > 0 && self.options.links_are_paired() {
            return fail(format!(
                "{missing} messages accepted, but missing from their link"
            ));
        }
        Ok(())
    }

    fn report(
        &self,
        before: Option<Usage>,
        start: Sample,
        end: Sample,
        peers: Vec<Peer>,
    ) -> Report {
        let totals = Totals::of(&self.tallies);
        let seconds = end.at.duration_since(start.at).as_secs_f64();
        let received = end.totals.received - start.totals.received;
        let octets = received as f64 * self.options.size as f64;
        let connections = self.options.connections
            * if self.options.mode == Mode::Idle {
                1
            } else {
                2
            };
        let router = |before: Usage, start: Usage, end: Usage| {
            let cpu = (end.cpu - start.cpu).as_secs_f64();
            RouterUse {
                cpu_us_per_message: (received > 0).then(|| cpu * 1e6 / received as f64),
                cpu_s_per_gb: (received > 0).then(|| cpu * 1e9 / octets),
                cores: cpu / seconds,
                rss_before: before.rss,
                rss_after: end.rss,
                rss_per_connection: (end.rss as f64 - before.rss as f64) / connections as f64,
            }
        };
        let histogram = peers.into_iter().find_map(|peer| match peer {
            Peer::Sender(sender) => sender.into_latency(),
            Peer::Receiver(_) => None,
        });
        Report {
            seconds,
            messages_per_second: received as f64 / seconds,
            megabytes_per_second: octets / seconds / 1e6,
            messages: Messages {
                sent: totals.sent,
                received: totals.received,
                lost: totals.sent - totals.received,
                aborted: totals.aborted,
                accepted: totals.accepted,
            },
            latency: histogram.map(|latency| Percentiles::of(&latency.histogram)),
            router: before
                .zip(start.router)
                .zip(end.router)
                .map(|((b, s), e)| router(b, s, e)),
            generator: GeneratorUse {
                senders: end.senders.saturating_sub(start.senders).as_secs_f64() / seconds,
                receivers: end.receivers.saturating_sub(start.receivers).as_secs_f64() / seconds,
            },
            ..Report::new(self.options)
        }
    }
}

/// Watches the counters move, and gives up when they do not.
struct Watch<'a> {
    run: &'a Run<'a>,
    doing: &'static str,
    totals: Totals,
    /// When they last moved.
    moved: Instant,
}

impl<'a> Watch<'a> {
    fn new(run: &'a Run<'a>, doing: &'static str) -> Self {
        Watch {
            run,
            doing,
            totals: Totals::of(&run.tallies),
            moved: clock::now(),
        }
    }

    fn look(&mut self) -> Result<Totals, Error> {
        let totals = Totals::of(&self.run.tallies);
        let now = clock::now();
        if totals != self.totals {
            (self.totals, self.moved) = (totals, now);
        }
        let (doing, progress) = (self.doing, || totals.to_string());
        if self.run.stage.has_failed() {
            return Err(Error::Result(format!("a connection failed while {doing}")));
        }
        let after = self.run.options.stall();
        if now.duration_since(self.moved) > after {
            return Err(Error::Stalled {
                after,
                doing,
                progress: progress(),
            });
        }
        if now > self.run.deadline {
            let after = self.run.options.time_out();
            return Err(Error::TimeOut {
                after,
                doing,
                progress: progress(),
            });
        }
        Ok(totals)
    }
}

/// Deals peers out to threads in turn; no thread goes without.
fn deal(peers: impl Iterator<Item = Peer>, threads: usize) -> Vec<Vec<Peer>> {
    let mut hands: Vec<Vec<Peer>> = (0..threads).map(|_| Vec::new()).collect();
    for (index, peer) in peers.enumerate() {
        hands[index % threads].push(peer);
    }
    hands.retain(|hand| !hand.is_empty());
    hands
}

const NAP: Duration = Duration::from_millis(10);
const SHORT_NAP: Duration = Duration::from_millis(1);
/// Settled messages that have not come by now will not come.
const QUIET: Duration = Duration::from_secs(1);
const CONNECTIONS_PER_THREAD: usize = 1000;
