//! Flow telemetry: what a router tells collectors of itself, its neighbours and the connections
//! that it carries (VanFlow, `reference/router/vanflow.md`).
//!
//! Everything that is told is a *record*, which begins, changes and ends. [`VanFlow`] keeps a
//! router's records; collectors that receive from its addresses get what has changed, each record
//! at most once a second, and everything when they ask for it. The two routers of a TCP connection
//! tell it as one: the client's has the record, and names it in the stream; the service's adds what
//! it knows in a *co-record*, which goes to the first.
//!
//! It is a state machine like the rest: records change and messages arrive, `now` is an argument;
//! [`Output`]s come out. How much there can be of it is bounded: see [`Origin`].

mod attribute;
mod flow;
mod identity;
mod message;
mod origin;
mod record;
mod store;
#[cfg(test)]
#[allow(clippy::disallowed_methods)] // tests start their clock somewhere
pub(crate) mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub(crate) use self::attribute::{Attribute, Datum, RecordType};
pub(crate) use self::flow::{Flow, FlowEvent, FlowKey};
pub(crate) use self::identity::{Identity, RecordId, Source};
pub(crate) use self::message::{Update, subject, updates};
pub(crate) use self::origin::Origin;

use self::attribute::Channel;
use self::message::{BATCH, Entry, Envelope};
use self::record::Record;
use self::store::Store;
use crate::codec::Value;

/// The records of a router, and what is to be told of them.
#[derive(Debug)]
pub(crate) struct VanFlow {
    origin: Arc<Origin>,
    router: RecordId,
    addresses: Addresses,
    store: Store,
    /// Which of [`Watched`] somebody in the network receives from.
    usable: [bool; Watched::ALL.len()],
    next_tick: Instant,
    /// There was nothing to tell at the last tick, so ticks have been left out since.
    rested: bool,
    heartbeat: Option<Instant>,
    /// Heartbeats since the last beacon.
    beats: u32,
    next_message: i64,
    /// Connections and requests without a record as the log was told of them, and when it may be
    /// told again.
    unrecorded: [(u64, Instant); 2],
    /// A moment, by both clocks.
    clocks: (Instant, Duration),
    outputs: VecDeque<Output>,
}

/// What a router says of itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// The router's id.
    pub(crate) id: String,
    pub(crate) mode: String,
    /// The identity of the site that the router is of.
    pub(crate) site_id: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) image_name: Option<String>,
    pub(crate) image_version: Option<String>,
    pub(crate) build_version: String,
}

/// Addresses whose receivers are collectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watched {
    /// Where every router, and whatever else has records, makes itself known.
    All,
    Entities,
    Flows,
    Logs,
}

impl Watched {
    pub(crate) const ALL: [Self; 4] = [Self::All, Self::Entities, Self::Flows, Self::Logs];
}

/// The addresses of one router.
#[derive(Clone, Debug)]
pub(crate) struct Addresses {
    watched: [String; Watched::ALL.len()],
    /// Where it takes commands.
    pub(crate) command: String,
    /// Where other routers tell what they know of its connections.
    pub(crate) co_records: String,
}

/// What a [`VanFlow`] wants done.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Output {
    /// A message, which says in its `to` where it goes; settled.
    Send(Bytes),
    /// A line for the log.
    Line(String),
    /// A line for a log that is to have details.
    Detail(String),
}

impl Output {
    fn is_message(&self) -> bool {
        matches!(self, Self::Send(_))
    }
}

impl Addresses {
    fn new(router: &str) -> Self {
        let of = |watched| match watched {
            Watched::All => "mc/sfe.all".to_owned(),
            Watched::Entities => format!("mc/sfe.{router}"),
            Watched::Flows => format!("mc/sfe.{router}.flows"),
            Watched::Logs => format!("mc/sfe.{router}.logs"),
        };
        Self {
            watched: Watched::ALL.map(of),
            command: format!("sfe.{router}"),
            co_records: format!("vfcr.{router}"),
        }
    }

    pub(crate) fn of(&self, watched: Watched) -> &str {
        &self.watched[watched as usize]
    }
}

impl VanFlow {
    /// `since_1970` is what the other clock says at `now`. Nobody has taken a number of `origin`
    /// before.
    pub(crate) fn new(
        origin: Arc<Origin>,
        settings: &Settings,
        now: Instant,
        since_1970: Duration,
    ) -> Self {
        let router = origin.next_id();
        let mut vanflow = Self {
            router,
            addresses: Addresses::new(&origin.identity(router).to_string()),
            store: Store::new(Arc::clone(&origin)),
            origin,
            usable: Default::default(),
            next_tick: now + FIRST_TICK,
            rested: false,
            heartbeat: None,
            beats: 0,
            next_message: 0,
            unrecorded: [(0, now); 2],
            clocks: (now, since_1970),
            outputs: VecDeque::new(),
        };
        vanflow.insert(router, Record::new(RecordType::Router, None), now);
        let texts = [
            (Attribute::Name, Some(format!("0/{}", settings.id))),
            (Attribute::Parent, settings.site_id.clone()),
            (Attribute::Hostname, settings.hostname.clone()),
            (Attribute::Namespace, settings.namespace.clone()),
            (Attribute::ImageName, settings.image_name.clone()),
            (Attribute::ImageVersion, settings.image_version.clone()),
            (
                Attribute::BuildVersion,
                Some(settings.build_version.clone()),
            ),
            (Attribute::Mode, Some(settings.mode.clone())),
        ];
        for (attribute, text) in texts {
            vanflow.set_some(router, attribute, text);
        }
        vanflow
    }

    pub(crate) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    pub(crate) fn origin(&self) -> &Arc<Origin> {
        &self.origin
    }

    /// Begins a record, a child of the router's.
    pub(crate) fn begin(&mut self, kind: RecordType, now: Instant) -> RecordId {
        let id = self.origin.next_id();
        self.insert(id, Record::new(kind, Some(self.router)), now);
        id
    }

    /// Begins the record of the site that the router is of, which may have a name of its own.
    pub(crate) fn begin_site(&mut self, identity: Option<String>, now: Instant) -> RecordId {
        let mut record = Record::new(RecordType::Site, None);
        let id = match identity {
            Some(identity) => {
                record.custom = Some(identity.into());
                SITE
            }
            None => self.origin.next_id(),
        };
        self.insert(id, record, now);
        self.store.adopt(id, self.router);
        id
    }

    /// A record says something. What it says already is no news.
    pub(crate) fn set(&mut self, id: RecordId, attribute: Attribute, datum: impl Into<Datum>) {
        self.store.set(id, attribute, datum.into());
    }

    /// The same, if there is something to say.
    pub(crate) fn set_some(
        &mut self,
        id: RecordId,
        attribute: Attribute,
        datum: Option<impl Into<Datum>>,
    ) {
        if let Some(datum) = datum {
            self.set(id, attribute, datum);
        }
    }

    /// A record says that something is at this moment.
    pub(crate) fn stamp(&mut self, id: RecordId, attribute: Attribute, now: Instant) {
        let micros = self.micros(now);
        self.store.set(id, attribute, micros.into());
    }

    /// Changes a count.
    pub(crate) fn add(&mut self, id: RecordId, attribute: Attribute, by: i64) {
        if let Some(record) = self.store.get(id) {
            let count = record
                .attributes
                .number(attribute)
                .saturating_add_signed(by);
            self.store.set(id, attribute, count.into());
        }
    }

    /// Ends a record.
    pub(crate) fn end(&mut self, id: RecordId, now: Instant) {
        if self.store.get(id).is_some_and(|record| !record.ended) {
            self.stamp(id, Attribute::EndTime, now);
            self.store.end(id);
        }
    }

    /// Tells a line of the log: `module: text`, how severe it is (0 debug to 4 critical), where in
    /// the source it comes from and when it was, in microseconds since 1970. Nothing is kept of it
    /// if nobody wants it.
    pub(crate) fn log(&mut self, line: LogLine<'_>) {
        if !self.is_usable(Watched::Logs) {
            return;
        }
        let id = self.origin.next_id();
        self.store
            .insert(id, Record::new(RecordType::Log, Some(self.router)));
        self.set(
            id,
            Attribute::LogText,
            format!("LOG_{}: {}", line.module, line.text),
        );
        self.set(id, Attribute::LogSeverity, line.severity);
        for attribute in [Attribute::StartTime, Attribute::EndTime] {
            self.set(id, attribute, line.at);
        }
        if !line.file.is_empty() {
            self.set(id, Attribute::SourceFile, line.file);
            self.set(id, Attribute::SourceLine, u64::from(line.line));
        }
        self.store.end(id);
    }

    /// Takes what a worker tells of a TCP connection.
    pub(crate) fn flow(&mut self, event: FlowEvent) {
        match event {
            FlowEvent::Began {
                record,
                listener,
                at,
            } => self.begin_flow(record, RecordType::BiflowTport, listener, at),
            FlowEvent::Asked {
                record,
                connection,
                at,
            } => self.begin_flow(record, RecordType::BiflowApp, connection, at),
            FlowEvent::Joined(identity) => self.store.begin_co_record(identity),
            FlowEvent::Says(FlowKey::Own(id), attribute, datum) => {
                self.store.set(id, attribute, datum);
            }
            FlowEvent::Says(FlowKey::Of(identity), attribute, datum) => {
                self.store.set_co_record(identity, attribute, datum);
            }
            FlowEvent::Ended(FlowKey::Own(id), at) => self.end(id, at),
            FlowEvent::Ended(FlowKey::Of(identity), _) => self.store.end_co_record(identity),
        }
    }

    fn begin_flow(&mut self, id: RecordId, kind: RecordType, parent: RecordId, at: Instant) {
        self.insert(id, Record::new(kind, Some(parent)), at);
        self.set(id, Attribute::Octets, 0);
        self.set(id, Attribute::OctetsReverse, 0);
    }

    /// Takes what another router knows of a connection of this one's.
    pub(crate) fn update(&mut self, update: Update) {
        self.store.merge(update);
    }

    /// A collector wants everything told once more.
    pub(crate) fn flush(&mut self) {
        self.store.repeat();
    }

    /// Somebody in the network receives from an address, or no longer.
    pub(crate) fn set_usable(&mut self, watched: Watched, usable: bool, now: Instant) {
        if std::mem::replace(&mut self.usable[watched as usize], usable) == usable {
            return;
        }
        let told = match watched {
            Watched::All => "beacons",
            Watched::Entities => "what changes in this router",
            Watched::Flows => "its flows",
            Watched::Logs => "its log",
        };
        let text = match usable {
            true => format!("Collectors want to hear {told}"),
            false => format!("No collector wants to hear {told} any more"),
        };
        self.outputs.push_back(Output::Line(text));
        if watched == Watched::All {
            // It need not wait for the beacon that would be due.
            self.beats = HEARTBEATS_PER_BEACON - 1;
            self.heartbeat = usable.then_some(now);
        }
    }

    pub(crate) fn is_usable(&self, watched: Watched) -> bool {
        self.usable[watched as usize]
    }

    /// Whether the log is to have a line of each record that begins and ends, and of each request.
    pub(crate) fn set_logs(&mut self, logs: bool, requests: bool) {
        self.store.logs = logs;
        self.store.logs_requests = requests;
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let watched = Watched::ALL.iter().any(|watched| self.is_usable(*watched));
        let tick = (watched || !self.store.is_idle()).then_some(self.next_tick);
        [tick, self.heartbeat].into_iter().flatten().min()
    }

    /// Whether a tick is due.
    pub(crate) fn ticks(&self, now: Instant) -> bool {
        now >= self.next_tick
    }

    /// Does what is due; `since_1970` is what the other clock says.
    pub(crate) fn handle_timeout(&mut self, now: Instant, since_1970: Duration) {
        self.clocks = (now, since_1970);
        // What has not left yet is not added to.
        let behind = self.outputs.iter().any(Output::is_message);
        if self.heartbeat.is_some_and(|due| due <= now) {
            self.heartbeat = Some(now + HEARTBEAT);
            if !behind {
                self.send_heartbeat(since_1970);
            }
        }
        if !self.ticks(now) {
            return;
        }
        // What begins after a rest is told when it has said all that it has to say at once.
        let resumes = std::mem::take(&mut self.rested) && now > self.next_tick;
        if !resumes && !behind {
            self.emit(false);
        }
        self.rested = self.store.is_idle();
        self.next_tick = now + TICK;
        self.report_unrecorded(now);
    }

    /// The next thing to do.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The router stops: all that it has ends, and everything is told that waits to be.
    pub(crate) fn shut_down(&mut self, now: Instant) {
        let ends = |kind| !matches!(kind, RecordType::Site | RecordType::Router);
        let records = self.store.records().filter(|(_, record)| ends(record.kind));
        for id in records.map(|(id, _)| id).collect::<Vec<_>>() {
            self.end(id, now);
        }
        self.emit(true);
    }

    /// Discretionary records and what waits to be told: for tests of how much there can be.
    #[cfg(test)]
    fn size(&self) -> usize {
        self.store.records().count() + self.store.co_record_count() + self.outputs.len()
    }

    /// Says in the log how many connections and requests have no record, now and then while there
    /// are more.
    fn report_unrecorded(&mut self, now: Instant) {
        let what = [
            (self.origin.refused(), "connections", " of their ends"),
            (self.origin.refused_requests(), "requests", ""),
        ];
        for ((unrecorded, of, ends), (before, next)) in what.into_iter().zip(&mut self.unrecorded) {
            if unrecorded > *before && now >= *next {
                let more = unrecorded - *before;
                (*before, *next) = (unrecorded, now + UNRECORDED_EVERY);
                let text = format!("Too many {of} at once: {more} more{ends} are not recorded");
                self.outputs.push_back(Output::Line(text));
            }
        }
    }

    fn insert(&mut self, id: RecordId, record: Record, now: Instant) {
        self.store.insert(id, record);
        self.stamp(id, Attribute::StartTime, now);
    }

    /// Microseconds since 1970.
    fn micros(&self, at: Instant) -> u64 {
        let (instant, since_1970) = self.clocks;
        let time = match at.checked_duration_since(instant) {
            Some(later) => since_1970 + later,
            None => since_1970.saturating_sub(instant.duration_since(at)),
        };
        u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
    }

    /// Tells what is due.
    fn emit(&mut self, all: bool) {
        let due = self.store.take_due(all);
        let channels = [
            (Watched::Entities, Channel::Entities),
            (Watched::Flows, Channel::Flows),
            (Watched::Logs, Channel::Logs),
        ];
        for (watched, channel) in channels {
            if self.is_usable(watched) {
                let ids = due.of(channel, &self.store);
                let to = self.addresses.of(watched).to_owned();
                let entries = ids.iter().filter_map(|id| self.store.entry(*id));
                let entries: Vec<Entry<'_>> = entries.collect();
                for batch in entries.chunks(BATCH) {
                    send_records(&mut self.next_message, &mut self.outputs, &to, batch);
                }
            }
        }
        let mut by_source: BTreeMap<Source, Vec<Identity>> = BTreeMap::new();
        for identity in &due.co_records {
            by_source
                .entry(identity.source)
                .or_default()
                .push(*identity);
        }
        for (source, identities) in by_source {
            let to = format!("vfcr.{source}:0");
            let entries = identities
                .iter()
                .filter_map(|one| self.store.co_entry(*one));
            let entries: Vec<Entry<'_>> = entries.collect();
            for batch in entries.chunks(BATCH) {
                send_records(&mut self.next_message, &mut self.outputs, &to, batch);
            }
        }
        self.store.done(due, &mut self.outputs);
    }

    fn send_heartbeat(&mut self, since_1970: Duration) {
        let router = self.store.name(self.router);
        if self.is_usable(Watched::Entities) {
            let now = u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX);
            let properties = [
                ("v", Value::Uint(VERSION)),
                ("now", Value::Ulong(now)),
                ("id", router.as_str().into()),
            ];
            self.send_notice("HEARTBEAT", Watched::Entities, &properties);
        }
        self.beats += 1;
        if self.beats >= HEARTBEATS_PER_BEACON {
            self.beats = 0;
            let address = self.addresses.of(Watched::Entities);
            let properties = [
                ("v", Value::Uint(VERSION)),
                ("sourceType", "ROUTER".into()),
                ("id", router.as_str().into()),
                ("address", address.into()),
                ("direct", self.addresses.command.as_str().into()),
            ];
            self.send_notice("BEACON", Watched::All, &properties);
        }
    }

    fn send_notice(&mut self, subject: &str, to: Watched, properties: &[(&str, Value)]) {
        let envelope = Envelope {
            id: take_number(&mut self.next_message),
            to: self.addresses.of(to),
            subject,
        };
        let message = message::notice(&envelope, properties);
        self.outputs.push_back(Output::Send(message));
    }
}

/// A line of the log, as [`VanFlow::log`] takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogLine<'a> {
    pub(crate) module: &'a str,
    pub(crate) severity: u64,
    pub(crate) text: &'a str,
    pub(crate) file: &'a str,
    pub(crate) line: u32,
    pub(crate) at: u64,
}

fn send_records(
    next_message: &mut i64,
    outputs: &mut VecDeque<Output>,
    to: &str,
    entries: &[Entry<'_>],
) {
    let envelope = Envelope {
        id: take_number(next_message),
        to,
        subject: "RECORD",
    };
    outputs.push_back(Output::Send(message::records(&envelope, entries)));
}

fn take_number(next: &mut i64) -> i64 {
    let number = *next;
    *next += 1;
    number
}

/// How often a slot's turn comes.
const TICK: Duration = Duration::from_millis(200);
/// When it first does.
const FIRST_TICK: Duration = Duration::from_secs(2);
const HEARTBEAT: Duration = Duration::from_secs(2);
const HEARTBEATS_PER_BEACON: u32 = 5;
/// How often the log hears of connections without a record.
const UNRECORDED_EVERY: Duration = Duration::from_secs(10);
/// Of the protocol between routers and collectors.
const VERSION: u32 = 1;
/// A site with a name of its own needs no number; this one is no other record's.
const SITE: RecordId = RecordId(u64::MAX);
