//! All records of a router, and when each is emitted (`reference/router/vanflow.md` §4, §6).

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::Output;
use super::attribute::{Attribute, Channel, Datum, RecordType};
use super::identity::{Identity, RecordId};
use super::message::{Entry, Update};
use super::origin::Origin;
use super::record::{Attributes, Place, Record};

/// Records, each in one of five slots while it has news; slots take turns.
#[derive(Debug)]
pub(super) struct Store {
    origin: Arc<Origin>,
    records: BTreeMap<RecordId, Record>,
    /// What this router knows of connections whose records are elsewhere, or not found yet.
    co_records: BTreeMap<Identity, CoRecord>,
    slots: [Slot; SLOTS],
    current: usize,
    tick: u64,
    /// Connections that have ended, and the tick at which that is told.
    ending: VecDeque<(u64, RecordId)>,
    /// What others know of connections that this router's workers have not told of yet, and the
    /// tick until which that is waited for.
    early: VecDeque<(u64, Update)>,
    /// The log wants lines.
    pub(super) logs: bool,
    /// And lines of requests.
    pub(super) logs_requests: bool,
}

#[derive(Debug, Default)]
struct Slot {
    records: Vec<RecordId>,
    co_records: Vec<Identity>,
}

/// The connector's side of a connection's record.
#[derive(Debug, Default)]
struct CoRecord {
    attributes: Attributes,
    slot: Option<usize>,
    queued: bool,
    /// Connections that it is of (a stream may have been tried twice), and those that have ended.
    opened: u32,
    closed: u32,
}

/// What is due.
#[derive(Debug, Default)]
pub(super) struct Due {
    pub(super) records: Vec<RecordId>,
    /// Of connections whose records are with other routers, by these.
    pub(super) co_records: Vec<Identity>,
}

impl Store {
    pub(super) fn new(origin: Arc<Origin>) -> Self {
        Self {
            origin,
            records: BTreeMap::new(),
            co_records: BTreeMap::new(),
            slots: Default::default(),
            current: 0,
            tick: 0,
            ending: VecDeque::new(),
            early: VecDeque::new(),
            logs: false,
            logs_requests: false,
        }
    }

    /// Files a record under its number.
    pub(super) fn insert(&mut self, id: RecordId, record: Record) {
        let parent = record.parent;
        self.records.insert(id, record);
        if let Some(parent) = parent {
            self.set(id, Attribute::Parent, self.name(parent).into());
        }
        self.queue(id);
    }

    /// Makes a record the parent of another.
    pub(super) fn adopt(&mut self, parent: RecordId, child: RecordId) {
        if let Some(record) = self.records.get_mut(&child) {
            record.parent = Some(parent);
            self.set(child, Attribute::Parent, self.name(parent).into());
        }
    }

    pub(super) fn get(&self, id: RecordId) -> Option<&Record> {
        self.records.get(&id)
    }

    /// What a record is called elsewhere.
    pub(super) fn name(&self, id: RecordId) -> String {
        let custom = self
            .records
            .get(&id)
            .and_then(|record| record.custom.as_deref());
        custom.map_or_else(|| self.origin.identity(id).to_string(), str::to_owned)
    }

    pub(super) fn set(&mut self, id: RecordId, attribute: Attribute, datum: Datum) {
        if let Some(record) = self.records.get_mut(&id)
            && record.attributes.set(attribute, datum)
            && record.place == Place::Idle
        {
            self.queue(id);
        }
    }

    /// A record's last emission is to follow.
    pub(super) fn end(&mut self, id: RecordId) {
        if let Some(record) = self.records.get_mut(&id)
            && !record.ended
        {
            record.ended = true;
            self.queue(id);
        }
    }

    /// A connection of this router's has a record with another router, or on another thread.
    pub(super) fn begin_co_record(&mut self, identity: Identity) {
        self.co_records.entry(identity).or_default().opened += 1;
    }

    pub(super) fn set_co_record(&mut self, identity: Identity, attribute: Attribute, datum: Datum) {
        if let Some(record) = self.co_records.get_mut(&identity)
            && record.attributes.set(attribute, datum)
        {
            self.queue_co_record(identity);
        }
    }

    pub(super) fn end_co_record(&mut self, identity: Identity) {
        if let Some(record) = self.co_records.get_mut(&identity) {
            record.closed += 1;
            self.queue_co_record(identity);
        }
    }

    /// Takes what another router, or another worker, knows of a connection of this router's.
    pub(super) fn merge(&mut self, update: Update) {
        let Identity { source, id } = update.identity;
        if source != self.origin.source() || !self.origin.knows(id) {
            return;
        }
        match self.records.get(&id).map(|record| record.kind) {
            Some(RecordType::BiflowTport) => {
                for (attribute, datum) in update.attributes {
                    if attribute.is_of_service() {
                        self.set(id, attribute, datum);
                    }
                }
            }
            Some(_) => {}
            None => {
                if self.early.len() == EARLY_MOST {
                    self.early.pop_front();
                }
                self.early.push_back((self.tick + EARLY_TICKS, update));
            }
        }
    }

    fn merge_early(&mut self) {
        for (until, update) in std::mem::take(&mut self.early) {
            if self.records.contains_key(&update.identity.id) {
                self.merge(update);
            } else if until > self.tick {
                self.early.push_back((until, update));
            }
        }
    }

    /// Everything is to be told once more. What is known of others' connections is not: they have
    /// it.
    pub(super) fn repeat(&mut self) {
        for id in self.records.keys().copied().collect::<Vec<_>>() {
            if let Some(record) = self.records.get_mut(&id) {
                record.attributes.repeat();
            }
            self.queue(id);
        }
    }

    /// Whether there is nothing to tell, now or later.
    pub(super) fn is_idle(&self) -> bool {
        let empty = |slot: &Slot| slot.records.is_empty() && slot.co_records.is_empty();
        self.ending.is_empty() && self.early.is_empty() && self.slots.iter().all(empty)
    }

    /// Starts a new tick: what its slot holds is due, and what has ended long enough ago. `all`:
    /// everything that waits is.
    pub(super) fn take_due(&mut self, all: bool) -> Due {
        self.tick += 1;
        let mut due = Due::default();
        let slots = match all {
            true => 0..SLOTS,
            false => self.current..self.current + 1,
        };
        self.merge_early();
        for number in slots.clone() {
            let co_records = std::mem::take(&mut self.slots[number].co_records);
            due.co_records.extend(self.take_own(co_records));
        }
        for slot in &mut self.slots[slots] {
            due.records.append(&mut slot.records);
        }
        due.records.retain(|id| {
            let record = self.records.get(id);
            record.is_some_and(|record| record.place == Place::Slot)
        });
        due.records.retain(|id| !self.waits_for_its_connection(*id));
        while let Some((tick, id)) = self.ending.front()
            && (*tick <= self.tick || all)
        {
            due.records.push(*id);
            self.ending.pop_front();
        }
        self.current = (self.current + 1) % SLOTS;
        due
    }

    /// A request is not told ahead of its connection: if that one has ended before anything was
    /// told of it, both are told when it is.
    fn waits_for_its_connection(&mut self, id: RecordId) -> bool {
        let record = self.records.get(&id);
        let requested = record.filter(|record| record.kind == RecordType::BiflowApp);
        let parent = requested.and_then(|record| self.records.get(&record.parent?));
        let waits = parent.is_some_and(|parent| parent.place == Place::Ending && !parent.is_told());
        if waits && let Some(record) = self.records.get_mut(&id) {
            record.place = Place::Ending;
            self.ending.push_back((self.tick + ENDING_TICKS, id));
        }
        waits
    }

    /// A record as it goes to collectors, if it has news.
    pub(super) fn entry(&self, id: RecordId) -> Option<Entry<'_>> {
        let record = self.records.get(&id)?;
        let news: Vec<_> = record.attributes.news().collect();
        (!news.is_empty()).then(|| Entry {
            kind: record.kind,
            identity: self.name(id),
            news,
        })
    }

    /// What this router knows of another's connection, as it goes there.
    pub(super) fn co_entry(&self, identity: Identity) -> Option<Entry<'_>> {
        let record = self.co_records.get(&identity)?;
        let news: Vec<_> = record.attributes.news().collect();
        (!news.is_empty()).then(|| Entry {
            kind: RecordType::BiflowTport,
            identity: identity.to_string(),
            news,
        })
    }

    /// What was due has been told, or there was nobody to tell. What has ended is forgotten; the
    /// log gets lines.
    pub(super) fn done(&mut self, due: Due, lines: &mut VecDeque<Output>) {
        for id in due.records {
            let name = self.is_logged(id).then(|| self.name(id));
            let Some(record) = self.records.get_mut(&id) else {
                continue;
            };
            record.place = Place::Idle;
            if record.ended || record.to_log {
                let line = name.map(|name| record.line(&name));
                lines.extend(line.map(match record.kind {
                    RecordType::BiflowApp => Output::Detail,
                    _ => Output::Line,
                }));
                record.logged = true;
                record.to_log = false;
            }
            record.attributes.told();
            if record.ended {
                self.forget(id);
            }
        }
        for identity in due.co_records {
            self.co_record_told(identity);
        }
    }

    /// Moves what is known of this router's own connections to their records; gives the rest.
    fn take_own(&mut self, identities: Vec<Identity>) -> Vec<Identity> {
        let source = self.origin.source();
        let (own, others): (Vec<_>, Vec<_>) = identities
            .into_iter()
            .partition(|identity| identity.source == source);
        for identity in own {
            if let Some(record) = self.co_records.get_mut(&identity) {
                let attributes = record.attributes.take();
                self.merge(Update {
                    identity,
                    attributes,
                });
            }
            self.co_record_told(identity);
        }
        others
    }

    fn co_record_told(&mut self, identity: Identity) {
        let Some(record) = self.co_records.get_mut(&identity) else {
            return;
        };
        record.queued = false;
        // Whoever has the record has them now.
        record.attributes.take();
        if record.closed >= record.opened {
            self.origin.release(record.opened);
            self.co_records.remove(&identity);
        }
    }

    /// Whether the log is to have lines of a record.
    fn is_logged(&self, id: RecordId) -> bool {
        match self.records.get(&id).map(|record| record.kind) {
            // It has them already.
            Some(RecordType::Log) | None => false,
            Some(RecordType::BiflowApp) => self.logs_requests,
            Some(_) => self.logs,
        }
    }

    fn forget(&mut self, id: RecordId) {
        let record = self.records.remove(&id);
        if record.is_some_and(|record| record.kind.is_discretionary()) {
            self.origin.release(1);
        }
    }

    /// Has a record emitted when its slot's turn comes; and its ancestors, if the log has not heard
    /// of them.
    fn queue(&mut self, id: RecordId) {
        let Some(record) = self.records.get(&id) else {
            return;
        };
        if let Some(parent) = record.parent
            && (record.kind != RecordType::BiflowApp || self.logs_requests)
            && let Some(above) = self.records.get_mut(&parent)
            && !above.logged
            && !above.to_log
        {
            above.to_log = true;
            self.queue(parent);
        }
        let Some(record) = self.records.get_mut(&id) else {
            return;
        };
        if record.ended && record.kind == RecordType::BiflowTport {
            if record.place != Place::Ending {
                record.place = Place::Ending;
                self.ending.push_back((self.tick + ENDING_TICKS, id));
            }
        } else if record.place == Place::Idle {
            record.place = Place::Slot;
            if record.to_log {
                // The next one, so that its line is ahead of its child's.
                record.slot = Some(self.current);
            }
            let slot = *record.slot.get_or_insert(self.current);
            self.slots[slot].records.push(id);
        }
    }

    fn queue_co_record(&mut self, identity: Identity) {
        if let Some(record) = self.co_records.get_mut(&identity)
            && !record.queued
        {
            record.queued = true;
            let slot = *record.slot.get_or_insert(self.current);
            self.slots[slot].co_records.push(identity);
        }
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (RecordId, &Record)> {
        self.records.iter().map(|(id, record)| (*id, record))
    }

    #[cfg(test)]
    pub(super) fn co_record_count(&self) -> usize {
        self.co_records.len() + self.early.len()
    }
}

impl Due {
    /// The records of one channel.
    pub(super) fn of(&self, channel: Channel, store: &Store) -> Vec<RecordId> {
        let records = self.records.iter().copied();
        let of_channel = |id: &RecordId| {
            let record = store.get(*id);
            record.is_some_and(|record| record.kind.channel() == channel)
        };
        records.filter(of_channel).collect()
    }
}

const SLOTS: usize = 5;
/// Ticks from a connection's end until it is told: five seconds.
const ENDING_TICKS: u64 = 25;
/// Ticks for which a connection is waited for that others know of already: a second.
const EARLY_TICKS: u64 = 5;
/// How many of those there may be.
const EARLY_MOST: usize = 1000;
