//! Honest messages, one every few milliseconds, and how long they take.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{mem, sync::Arc};

use fe2o3_amqp::{Connection, Session};

/// Traffic that goes on until it is stopped.
pub(crate) struct Traffic {
    stopped: Arc<AtomicBool>,
    took: Receiver<Duration>,
    thread: Option<JoinHandle<()>>,
}

impl Traffic {
    /// From one connection to another, at a listener.
    pub(crate) fn start(port: u16) -> Self {
        let stopped = Arc::new(AtomicBool::new(false));
        let (report, took) = channel();
        let until = Arc::clone(&stopped);
        let thread = thread::spawn(move || run(port, &until, &report));
        Self {
            stopped,
            took,
            thread: Some(thread),
        }
    }

    /// How long the next messages took from sender to receiver and back.
    ///
    /// # Panics
    ///
    /// When one has not arrived in time, or was not accepted.
    pub(crate) fn next(&self, count: usize) -> Vec<Duration> {
        let next = || self.took.recv_timeout(LIMIT).expect("messages arrive");
        (0..count).map(|_| next()).collect()
    }

    /// How long those took that have arrived since they were last asked for.
    pub(crate) fn so_far(&self) -> Vec<Duration> {
        self.took.try_iter().collect()
    }

    /// Stops, once the last message has arrived.
    pub(crate) fn finish(mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let thread = mem::take(&mut self.thread).expect("it is finished once");
        thread.join().expect("all messages arrived");
    }
}

/// The time that only one message in a hundred took longer than.
pub(crate) fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() * 99 / 100]
}

fn run(port: u16, stopped: &AtomicBool, report: &Sender<Duration>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let url = format!("amqp://127.0.0.1:{port}");
        let (mut in_connection, mut out_connection) = (
            Connection::open("receiver", &*url).await.expect("it opens"),
            Connection::open("sender", &*url).await.expect("it opens"),
        );
        let mut inward = Session::begin(&mut in_connection).await.expect("a session");
        let mut outward = Session::begin(&mut out_connection)
            .await
            .expect("a session");
        let receiver = fe2o3_amqp::Receiver::attach(&mut inward, "receiver", "honest");
        let mut receiver = receiver.await.expect("a receiver");
        let sender = fe2o3_amqp::Sender::attach(&mut outward, "sender", "honest");
        let mut sender = sender.await.expect("a sender");
        let mut pace = tokio::time::interval(PACE);
        while !stopped.load(Ordering::Relaxed) {
            pace.tick().await;
            let began = Instant::now();
            let (outcome, ()) = tokio::join!(sender.send("honest"), async {
                let delivery = receiver.recv::<String>().await.expect("it is received");
                receiver.accept(&delivery).await.expect("it is accepted");
            });
            outcome
                .expect("it is sent")
                .accepted_or("it is not accepted")
                .expect("it is accepted");
            // Whoever listened has seen enough.
            let _ = report.send(began.elapsed());
        }
        sender.close().await.expect("it detaches");
        receiver.close().await.expect("it detaches");
    });
}

const PACE: Duration = Duration::from_millis(5);
/// How long a message may take before the test gives up.
const LIMIT: Duration = Duration::from_secs(20);
