//! A client at work, and what it has reported.

use serde_json::Value;
use std::{
    fmt,
    process::Child,
    sync::mpsc::{Receiver, RecvTimeoutError},
    thread::JoinHandle,
    time::Instant,
};

/// One line of a client: an object whose `event` says what happened.
pub type Event = Value;

/// A client at work. Dropping it stops the client.
#[derive(Debug)]
pub struct Running {
    pub(crate) title: String,
    pub(crate) events: Receiver<Event>,
    pub(crate) seen: Vec<Event>,
    pub(crate) deadline: Instant,
    pub(crate) worker: Worker,
}

/// Where the client runs.
#[derive(Debug)]
pub(crate) enum Worker {
    Process(Child),
    /// The client ends when the sender is dropped.
    Thread(
        Option<tokio::sync::oneshot::Sender<()>>,
        Option<JoinHandle<()>>,
    ),
}

/// All that a client reported.
#[derive(Clone, Debug)]
pub struct Transcript(pub Vec<Event>);

impl Running {
    /// Waits for the next event of that name, and returns it.
    ///
    /// # Panics
    ///
    /// When the client fails, ends or runs out of time before.
    #[track_caller]
    pub fn expect(&mut self, name: &str) -> Event {
        loop {
            let Some(event) = self.next() else {
                panic!(
                    "{} ended without '{name}'; it reported:{}",
                    self.title,
                    self.transcript()
                );
            };
            if event["event"] == name {
                return event;
            }
            assert!(
                !matches!(event["event"].as_str(), Some("failed" | "done")),
                "{} did not report '{name}' but:{}",
                self.title,
                self.transcript()
            );
        }
    }

    /// Waits until the client has done its job, closed its connection and ended.
    ///
    /// # Panics
    ///
    /// When it fails or runs out of time.
    #[track_caller]
    pub fn finish(mut self) -> Transcript {
        self.expect("done");
        while self.next().is_some() {}
        self.transcript()
    }

    /// Waits until the client fails, and returns the event with `scope` and `condition`.
    ///
    /// # Panics
    ///
    /// When it succeeds or runs out of time.
    #[track_caller]
    pub fn failure(mut self) -> Event {
        self.expect("failed")
    }

    /// The next event if one comes within `millis`.
    pub fn poll(&mut self, millis: u64) -> Option<Event> {
        let event = self
            .events
            .recv_timeout(std::time::Duration::from_millis(millis))
            .ok()?;
        self.seen.push(event.clone());
        Some(event)
    }

    pub fn transcript(&self) -> Transcript {
        Transcript(self.seen.clone())
    }

    #[track_caller]
    fn next(&mut self) -> Option<Event> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.events.recv_timeout(left) {
            Ok(event) => {
                self.seen.push(event.clone());
                Some(event)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!(
                    "{} ran out of time; it had reported:{}",
                    self.title,
                    self.transcript()
                )
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match &mut self.worker {
            Worker::Process(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Worker::Thread(stop, thread) => {
                drop(stop.take());
                let _ = thread.take().map(JoinHandle::join);
            }
        }
    }
}

impl Transcript {
    /// The events of that name, in order.
    pub fn named(&self, name: &str) -> Vec<&Event> {
        self.0
            .iter()
            .filter(|event| event["event"] == name)
            .collect()
    }
}

impl fmt::Display for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for event in &self.0 {
            let line = event.to_string();
            write!(
                f,
                "\n    {}",
                line.chars().take(LONGEST_LINE).collect::<String>()
            )?;
        }
        Ok(())
    }
}

/// Characters of an event that a failure message shows.
const LONGEST_LINE: usize = 600;
