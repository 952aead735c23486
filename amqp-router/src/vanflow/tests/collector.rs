//! A router's telemetry, a clock, and whoever listens.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::codec::view::{APPLICATION_PROPERTIES, PROPERTIES, section};
use crate::codec::{Reader, Value};
use crate::vanflow::{Origin, Output, Settings, Source, VanFlow, Watched};

/// A router named `abcde:0`, at a time that it is told.
pub(super) struct Story {
    pub(super) vanflow: VanFlow,
    start: Instant,
    at: Duration,
    pub(super) lines: Vec<String>,
}

/// A message, read.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    /// Milliseconds since the start.
    pub(crate) at: u64,
    pub(crate) id: i64,
    pub(crate) to: String,
    pub(crate) subject: String,
    pub(crate) properties: BTreeMap<String, Value>,
    pub(crate) records: Vec<Told>,
    pub(crate) octets: Bytes,
}

/// A record as it is told: codes and values.
pub(crate) type Told = BTreeMap<u32, Value>;

impl Story {
    pub(super) fn new() -> Self {
        Self::of(&Settings {
            id: "R".into(),
            mode: "interior".into(),
            build_version: "1".into(),
            ..Settings::default()
        })
    }

    pub(super) fn of(settings: &Settings) -> Self {
        let start = Instant::now();
        let origin = Origin::new(Source::parse("abcde").expect("five characters"));
        let vanflow = VanFlow::new(Arc::new(origin), settings, start, EPOCH);
        Self {
            vanflow,
            start,
            at: Duration::ZERO,
            lines: Vec::new(),
        }
    }

    /// The same, with collectors of everything, after the first two seconds.
    pub(super) fn collected() -> Self {
        let mut story = Self::new();
        for watched in Watched::ALL {
            story.usable(watched, true);
        }
        story.run(2400);
        story
    }

    pub(super) fn now(&self) -> Instant {
        self.start + self.at
    }

    /// Microseconds since 1970.
    pub(super) fn micros(&self) -> u64 {
        (EPOCH + self.at).as_micros() as u64
    }

    pub(super) fn usable(&mut self, watched: Watched, usable: bool) {
        let now = self.now();
        self.vanflow.set_usable(watched, usable, now);
    }

    /// Lets time pass; gives what was said meanwhile.
    pub(super) fn run(&mut self, millis: u64) -> Vec<Heard> {
        let end = self.at + Duration::from_millis(millis);
        let mut heard = Vec::new();
        loop {
            self.listen(&mut heard);
            let due = self.vanflow.poll_timeout();
            let due = due.map(|due| due.saturating_duration_since(self.start).max(self.at));
            match due.filter(|due| *due <= end) {
                Some(due) => self.at = due,
                None => break,
            }
            let now = self.now();
            self.vanflow.handle_timeout(now, EPOCH + self.at);
        }
        self.at = end;
        heard
    }

    pub(super) fn listen(&mut self, heard: &mut Vec<Heard>) {
        while let Some(output) = self.vanflow.poll_output() {
            match output {
                Output::Send(octets) => heard.push(read(octets, self.at.as_millis() as u64)),
                Output::Line(line) | Output::Detail(line) => self.lines.push(line),
            }
        }
    }
}

/// The records that were told at an address, in order.
pub(super) fn told(heard: &[Heard], to: &str) -> Vec<Told> {
    let at = heard.iter().filter(|heard| heard.to == to);
    at.flat_map(|heard| heard.records.clone()).collect()
}

/// What is told of one record, by its name.
pub(super) fn of<'a>(records: &'a [Told], identity: &str) -> Vec<&'a Told> {
    let named = |record: &&Told| record[&1] == Value::from(identity);
    records.iter().filter(named).collect()
}

/// Reads a message of a router to a collector.
pub(crate) fn read(octets: Bytes, at: u64) -> Heard {
    let mut reader = Reader::new(&octets);
    assert_eq!(section(&mut reader), Ok(PROPERTIES));
    let Ok(Value::List(fields)) = Value::decode(&mut reader) else {
        panic!("properties are a list");
    };
    let [
        Value::Long(id),
        Value::Null,
        Value::String(to),
        Value::String(subject),
    ] = &fields[..]
    else {
        panic!("{fields:?}");
    };
    let mut heard = Heard {
        at,
        id: *id,
        to: to.clone(),
        subject: subject.clone(),
        properties: BTreeMap::new(),
        records: Vec::new(),
        octets: octets.clone(),
    };
    while !reader.is_empty() {
        let code = section(&mut reader).expect("a section");
        let value = Value::decode(&mut reader).expect("a value");
        match (code, value) {
            (APPLICATION_PROPERTIES, Value::Map(pairs)) => {
                let pairs = pairs.into_iter();
                let text = |key: Value| key.as_symbol().expect("a symbol").as_str().to_owned();
                heard.properties = pairs.map(|(key, value)| (text(key), value)).collect();
            }
            (_, Value::List(records)) => heard.records = records.iter().map(record).collect(),
            (_, body) => assert_eq!(body, Value::Null),
        }
    }
    heard
}

fn record(record: &Value) -> Told {
    let pairs = record.as_map().expect("a record is a map");
    let codes: Vec<u32> = pairs
        .iter()
        .map(|(key, _)| match key {
            Value::Uint(code) => *code,
            other => panic!("{other:?} is no uint"),
        })
        .collect();
    assert!(codes.is_sorted(), "{codes:?}");
    assert_eq!(codes[..2], [0, 1]);
    assert!(matches!(pairs[0].1, Value::Uint(_)));
    let values = pairs.iter().map(|(_, value)| value.clone());
    codes.into_iter().zip(values).collect()
}

const EPOCH: Duration = Duration::from_secs(1_700_000_000);
