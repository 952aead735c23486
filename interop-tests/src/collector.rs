//! A collector of flow telemetry on Proton.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::{Event, Job, Peer, Router, Running};

/// What a collector has understood so far.
#[derive(Debug)]
pub struct Collector {
    running: Running,
    /// By identity: what every attribute says now, by its code.
    pub records: BTreeMap<String, Map<String, Value>>,
    pub heard: Vec<Event>,
}

impl Collector {
    /// Starts to follow all routers of the network that this one is of.
    pub fn start(router: &Router) -> Self {
        Self {
            running: Peer::Proton.start(router, Job::collect()),
            records: BTreeMap::new(),
            heard: Vec::new(),
        }
    }

    /// Listens until a record fits; gives its identity and all that it says.
    ///
    /// # Panics
    ///
    /// When there is none for too long.
    #[track_caller]
    pub fn record(
        &mut self,
        kind: u32,
        fits: impl Fn(&Map<String, Value>) -> bool,
    ) -> (String, Map<String, Value>) {
        self.until(|collector| {
            let records = collector.records.iter();
            let mut fitting = records.filter(|(_, r)| r["0"] == kind && fits(r));
            fitting.next().map(|(name, r)| (name.clone(), r.clone()))
        })
    }

    /// Listens until `found` finds something in what is known.
    ///
    /// # Panics
    ///
    /// When it does not for too long.
    #[track_caller]
    pub fn until<T>(&mut self, found: impl Fn(&Self) -> Option<T>) -> T {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(found) = found(self) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "the collector knows {:#?}",
                self.records
            );
            let Some(event) = self.running.poll(100) else {
                continue;
            };
            assert_ne!(event["event"], "failed", "{event}");
            if let Some(record) = event["record"].as_object() {
                let name = record["1"].as_str().expect("an identity").to_owned();
                let known = self.records.entry(name).or_default();
                known.extend(record.clone());
            }
            self.heard.push(event);
        }
    }

    /// Everything of one kind that was heard.
    pub fn named(&self, name: &str) -> Vec<&Event> {
        let events = self.heard.iter();
        events.filter(|event| event["event"] == name).collect()
    }
}

/// How long something may take to be told.
const LIMIT: Duration = Duration::from_secs(25);
