//! Flow telemetry at work: whom it is told to, and where it comes from
//! (`reference/router/vanflow.md`).
//!
//! The records are the control plane's. What workers, the log and entities have to tell comes to it
//! as everything does; what collectors are to be told leaves by a task with links of its own, which
//! also takes what collectors and other routers send.

use std::env;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::mpsc::{self, UnboundedSender, error::TrySendError};
use tokio::task::JoinHandle;
use tracing::{Level as TracingLevel, debug, enabled, info};

use crate::adaptors::amqp::{ConnectionSettings, ConnectionStatus};
use crate::control::address::AddressKey;
use crate::control::links::{AddressRule, Control, Scope};
use crate::control::role::Role;
use crate::control::table::Treatment;
use crate::management::{Config, Entity};
use crate::runtime::connect::ConnectorPlan;
use crate::runtime::driver::ToWorker;
use crate::runtime::local::{LinkError, Receiver, Sender};
use crate::runtime::log::{Entry, Level, Log, Module};
use crate::runtime::service::{ConnectionRow, Service};
use crate::runtime::tcp::TcpServices;
use crate::runtime::tls::TlsInfo;
use crate::runtime::workers::Workers;
use crate::vanflow::{
    Addresses, Attribute, FlowEvent, LogLine, Origin, Output, RecordId, RecordType, Settings,
    Source, Update, VanFlow, Watched, subject, updates,
};
use crate::worker::flows::Wanted;

/// The telemetry of a router, as its control plane keeps it.
pub(crate) struct Telemetry {
    vanflow: VanFlow,
    /// The addresses of collectors, once they are watched.
    watched: Vec<(AddressKey, Watched)>,
    outbox: mpsc::Sender<Bytes>,
    /// The other ends, until the task starts that has them.
    line: Option<Line>,
    task: Option<JoinHandle<()>>,
    log: Option<Log>,
    /// Lines of the log that have been looked at.
    seen: u64,
    ticks: u32,
    /// What workers are to tell.
    wanted: Wanted,
}

/// What has come for telemetry.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A collector wants everything told.
    Flush,
    /// Another router knows something of connections of this one's.
    Updates(Vec<Update>),
}

/// What the task that sends and receives has in hand.
struct Line {
    addresses: Addresses,
    outbox: mpsc::Receiver<Bytes>,
    heard: mpsc::Sender<Heard>,
}

impl Telemetry {
    /// Telemetry of the router that is configured so, and what comes for it.
    pub(crate) fn new(config: &Config) -> (Self, mpsc::Receiver<Heard>) {
        let now = Instant::now();
        let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let router = config.singleton("router");
        let settings = Settings {
            id: router.word("id").unwrap_or_default().to_owned(),
            mode: router.text("mode").unwrap_or("standalone").to_owned(),
            site_id: variable("SKUPPER_SITE_ID"),
            hostname: variable("HOSTNAME"),
            namespace: variable("POD_NAMESPACE"),
            image_name: variable("APPLICATION_NAME"),
            image_version: variable("VERSION"),
            build_version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let origin = Origin::new(source(settings.hostname.as_deref()));
        let mut vanflow = VanFlow::new(origin.into(), &settings, now, since_1970());
        if let Some(site) = config.of("site").next() {
            begin_site(&mut vanflow, site, settings.site_id, now);
        }
        let (outbox, to_send) = mpsc::channel(OUTBOX);
        let (heard, inbox) = mpsc::channel(INBOX);
        let line = Line {
            addresses: vanflow.addresses().clone(),
            outbox: to_send,
            heard,
        };
        let telemetry = Self {
            vanflow,
            watched: Vec::new(),
            outbox,
            line: Some(line),
            task: None,
            log: None,
            seen: 0,
            ticks: 0,
            wanted: Wanted::default(),
        };
        (telemetry, inbox)
    }

    /// What workers name their records by.
    pub(crate) fn origin(&self) -> std::sync::Arc<Origin> {
        std::sync::Arc::clone(self.vanflow.origin())
    }

    /// Watches for collectors, and sends and receives by a worker's links.
    pub(crate) fn start(
        &mut self,
        control: &mut Control,
        worker: UnboundedSender<ToWorker>,
        log: Option<Log>,
    ) {
        let Some(line) = self.line.take() else { return };
        self.log = log;
        let rule = |treatment| AddressRule {
            treatment,
            priority: None,
        };
        control.prefer(Scope::Pattern("mc/sfe.#"), rule(Treatment::Multicast));
        for own in [&line.addresses.command, &line.addresses.co_records] {
            control.prefer(Scope::Pattern(own), rule(Treatment::Closest));
        }
        for watched in Watched::ALL {
            let key = control.watch(line.addresses.of(watched));
            self.watched.push((key, watched));
        }
        self.task = Some(tokio::spawn(async move {
            // An error means that the router is stopping.
            let _ = line.serve(worker).await;
        }));
    }

    /// An address has receivers, or no longer.
    pub(crate) fn reachability(&mut self, key: &AddressKey, reachable: bool, workers: &Workers) {
        let watched = self.watched.iter().find(|(of, _)| of == key);
        let Some(&(_, watched)) = watched else { return };
        self.vanflow.set_usable(watched, reachable, Instant::now());
        if watched == Watched::Logs
            && let Some(log) = &self.log
        {
            self.seen = log.since(u64::MAX, |_| false).1;
        }
        self.review(workers);
        self.pump();
    }

    /// Has the log and the workers tell what somebody wants to know.
    pub(crate) fn review(&mut self, workers: &Workers) {
        let logs = enabled!(target: "FLOW_LOG", TracingLevel::INFO);
        let logs_requests = enabled!(target: "FLOW_LOG", TracingLevel::DEBUG);
        self.vanflow.set_logs(logs, logs_requests);
        let flows = self.vanflow.is_usable(Watched::Flows);
        let wanted = Wanted {
            octets: flows || self.vanflow.is_usable(Watched::Entities),
            requests: flows || logs_requests,
        };
        if std::mem::replace(&mut self.wanted, wanted) != wanted {
            for worker in workers.iter() {
                let _ = worker.inbox.send(ToWorker::Wanted(wanted));
            }
        }
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.vanflow.poll_timeout()
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, tcp: &TcpServices, workers: &Workers, now: Instant) {
        if self.vanflow.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        if self.vanflow.ticks(now) {
            self.review(workers);
            self.take_log();
            self.ticks = (self.ticks + 1) % TICKS_PER_COUNT;
            if self.ticks == 0 && self.vanflow.is_usable(Watched::Entities) {
                self.count(tcp);
            }
        }
        self.vanflow.handle_timeout(now, since_1970());
        self.pump();
    }

    /// Takes what has come from collectors and other routers.
    pub(crate) fn hear(&mut self, heard: Heard, tcp: &TcpServices) {
        match heard {
            Heard::Flush => {
                debug!(target: "FLOW_LOG", "A collector asks for everything");
                self.count(tcp);
                self.vanflow.flush();
            }
            Heard::Updates(updates) => {
                for update in updates {
                    self.vanflow.update(update);
                }
            }
        }
    }

    /// Whether it is an address that telemetry itself receives from.
    pub(crate) fn receives_from(&self, address: &str) -> bool {
        let own = self.vanflow.addresses();
        address == own.command || address == own.co_records
    }

    /// Takes what a worker tells of TCP connections.
    pub(crate) fn flows(&mut self, events: Vec<FlowEvent>) {
        for event in events {
            self.vanflow.flow(event);
        }
    }

    /// Tells everything that waits to be told; returns when that has left, or soon after.
    pub(crate) async fn finish(&mut self) {
        self.vanflow.shut_down(Instant::now());
        let outbox = std::mem::replace(&mut self.outbox, mpsc::channel(1).0);
        while let Some(output) = self.vanflow.poll_output() {
            if let Output::Send(message) = output
                && outbox.try_send(message).is_err()
            {
                break;
            }
        }
        drop(outbox);
        if let Some(task) = self.task.take() {
            // Whether it has ended or not, the router stops.
            let _ = tokio::time::timeout(FAREWELL, task).await;
        }
        if self.wanted.octets {
            // Connections are about to be closed: what has been sent is to leave by them before.
            tokio::time::sleep(LAST_TURN).await;
        }
    }

    /// Begins the record of a listener for other routers; none of others.
    pub(crate) fn begin_access(&mut self, settings: &mut ConnectionSettings) -> Option<RecordId> {
        if !is_told(settings.role) {
            return None;
        }
        let vanflow = &mut self.vanflow;
        let id = vanflow.begin(RecordType::RouterAccess, Instant::now());
        vanflow.set(id, Attribute::Name, settings.name.as_str());
        vanflow.set(id, Attribute::Role, settings.role.as_str());
        vanflow.set(id, Attribute::LinkCount, 0);
        // By this the router that connects knows where it has come in.
        let identity = vanflow.origin().identity(id).to_string();
        let endpoint = std::sync::Arc::make_mut(&mut settings.endpoint);
        endpoint.properties.insert("qd.access-id", identity);
        Some(id)
    }

    /// Begins the record of a connector to another router; none of others.
    pub(crate) fn begin_link(&mut self, plan: &ConnectorPlan) -> Option<RecordId> {
        let settings = &plan.settings;
        if !is_told(settings.role) {
            return None;
        }
        let vanflow = &mut self.vanflow;
        let id = vanflow.begin(RecordType::Link, Instant::now());
        let protocol = if plan.tls.is_some() { "amqps" } else { "amqp" };
        let proxied = if plan.proxy.is_some() { "yes" } else { "no" };
        vanflow.set(id, Attribute::Name, settings.name.as_str());
        vanflow.set(id, Attribute::Role, settings.role.as_str());
        vanflow.set(id, Attribute::LinkCost, u64::from(settings.cost));
        vanflow.set(id, Attribute::OperStatus, "down");
        vanflow.set(id, Attribute::Protocol, protocol);
        vanflow.set(id, Attribute::DestPort, plan.server.port.as_str());
        vanflow.set(id, Attribute::HttpProxy, proxied);
        for count in [
            Attribute::DownCount,
            Attribute::Octets,
            Attribute::OctetsReverse,
        ] {
            vanflow.set(id, count, 0);
        }
        Some(id)
    }

    /// Begins the record of a TCP listener's way to an address.
    pub(crate) fn begin_listener(&mut self, listener: &TcpEntity<'_>) -> RecordId {
        self.begin_service(RecordType::Listener, listener)
    }

    /// Begins the record of a TCP service that an address leads to.
    pub(crate) fn begin_connector(
        &mut self,
        connector: &TcpEntity<'_>,
        process: Option<&str>,
    ) -> RecordId {
        let id = self.begin_service(RecordType::Connector, connector);
        self.vanflow.set_some(id, Attribute::Process, process);
        id
    }

    fn begin_service(&mut self, kind: RecordType, service: &TcpEntity<'_>) -> RecordId {
        let vanflow = &mut self.vanflow;
        let id = vanflow.begin(kind, Instant::now());
        vanflow.set(id, Attribute::Protocol, "tcp");
        vanflow.set(id, Attribute::Name, service.name);
        vanflow.set(id, Attribute::DestHost, service.host);
        vanflow.set(id, Attribute::DestPort, service.port);
        vanflow.set(id, Attribute::VanAddress, service.address);
        vanflow.set(id, Attribute::FlowCountL4, 0);
        id
    }

    pub(crate) fn end(&mut self, record: Option<RecordId>) {
        if let Some(record) = record {
            self.vanflow.end(record, Instant::now());
        }
    }

    /// A connection with another router is open.
    pub(crate) fn opened(&mut self, row: &ConnectionRow, status: &ConnectionStatus) {
        let Some(id) = row.record else { return };
        let (vanflow, now) = (&mut self.vanflow, Instant::now());
        let ordinal = row.tls.as_ref().map(|tls: &TlsInfo| tls.ordinal);
        vanflow.set_some(id, Attribute::ActiveTlsOrdinal, ordinal);
        if status.peer.incoming {
            let counts = status.role != Role::InterRouterData;
            return vanflow.add(id, Attribute::LinkCount, i64::from(counts));
        }
        if status.role == Role::InterRouterData {
            return;
        }
        vanflow.set(id, Attribute::OperStatus, "up");
        vanflow.stamp(id, Attribute::UpTimeStamp, now);
        let peer = status.properties.get("qd.access-id");
        vanflow.set_some(id, Attribute::Peer, peer.and_then(|peer| peer.as_str()));
    }

    /// A connection is gone; its connector may have `others` that keep it up.
    pub(crate) fn closed(&mut self, row: &ConnectionRow, others: bool, reason: &str) {
        let (Some(id), Some(status)) = (row.record, &row.status) else {
            return;
        };
        let (vanflow, now) = (&mut self.vanflow, Instant::now());
        if status.peer.incoming {
            let counts = status.role != Role::InterRouterData;
            return vanflow.add(id, Attribute::LinkCount, -i64::from(counts));
        }
        if others || !row.carries_record() {
            return;
        }
        let (condition, description) = split_reason(reason);
        vanflow.set(id, Attribute::OperStatus, "down");
        vanflow.add(id, Attribute::DownCount, 1);
        vanflow.stamp(id, Attribute::DownTimeStamp, now);
        vanflow.set(id, Attribute::Result, condition);
        vanflow.set(id, Attribute::Reason, description);
    }

    /// A connector fails to connect.
    pub(crate) fn unreached(&mut self, link: RecordId, why: &str) {
        let (condition, description) = split_reason(why);
        self.vanflow.set(link, Attribute::Result, condition);
        self.vanflow.set(link, Attribute::Reason, description);
    }

    /// A connection to another router has written and read so many octets.
    pub(crate) fn octets(&mut self, row: &mut ConnectionRow, octets: [u64; 2]) {
        let before = std::mem::replace(&mut row.octets, octets);
        let Some(id) = row.record else { return };
        let attributes = [Attribute::Octets, Attribute::OctetsReverse];
        for ((attribute, now), before) in attributes.into_iter().zip(octets).zip(before) {
            let more = i64::try_from(now.saturating_sub(before)).unwrap_or(i64::MAX);
            self.vanflow.add(id, attribute, more);
        }
    }

    /// Reads how many connections services have had.
    fn count(&mut self, tcp: &TcpServices) {
        for (record, connections) in tcp.flow_counts() {
            self.vanflow
                .set(record, Attribute::FlowCountL4, connections);
        }
    }

    /// Looks for lines of the log that collectors want.
    fn take_log(&mut self) {
        let Some(log) = self
            .log
            .as_ref()
            .filter(|_| self.vanflow.is_usable(Watched::Logs))
        else {
            return;
        };
        let wanted =
            |entry: &Entry| entry.level >= Level::Warning && entry.module != Module::FlowLog;
        let (entries, seen) = log.since(self.seen, wanted);
        self.seen = seen;
        for entry in entries {
            self.vanflow.log(LogLine {
                module: entry.module.as_str(),
                severity: entry.level as u64,
                text: &entry.text,
                file: entry.file,
                line: entry.line,
                at: u64::try_from(entry.time.as_microsecond()).unwrap_or(0),
            });
        }
    }

    /// Passes on what there is to say, as far as it can leave.
    fn pump(&mut self) {
        loop {
            let permit = match self.outbox.try_reserve() {
                Ok(permit) => Some(permit),
                Err(TrySendError::Closed(())) => None,
                Err(TrySendError::Full(())) => return,
            };
            match self.vanflow.poll_output() {
                // Without a permit the router is stopping.
                Some(Output::Send(message)) => {
                    if let Some(permit) = permit {
                        permit.send(message);
                    }
                }
                Some(Output::Line(line)) => info!(target: "FLOW_LOG", "{line}"),
                Some(Output::Detail(line)) => debug!(target: "FLOW_LOG", "{line}"),
                None => return,
            }
        }
    }
}

/// What the records of TCP listeners and connectors say.
pub(crate) struct TcpEntity<'a> {
    pub(crate) name: &'a str,
    pub(crate) host: &'a str,
    pub(crate) port: &'a str,
    pub(crate) address: &'a str,
}

impl Line {
    async fn serve(mut self, worker: UnboundedSender<ToWorker>) -> Result<(), LinkError> {
        let mut sender = Sender::attach(worker.clone(), None).await?;
        let receiver = |address| Receiver::attach(worker.clone(), Some(address), CREDIT);
        let commands = receiver(&self.addresses.command).await?;
        let mut commands = commands.limited_to(LONGEST_COMMAND);
        let co_records = receiver(&self.addresses.co_records).await?;
        let mut co_records = co_records.limited_to(LONGEST_UPDATE);
        loop {
            let heard = tokio::select! {
                message = self.outbox.recv() => match message {
                    Some(message) => {
                        sender.send_encoded(message).await?;
                        continue;
                    }
                    None => return Ok(()),
                },
                delivery = commands.recv() => {
                    let delivery = delivery?;
                    let flush = subject(delivery.payload()) == Some("FLUSH");
                    delivery.accept();
                    flush.then_some(Heard::Flush)
                }
                delivery = co_records.recv() => {
                    let delivery = delivery?;
                    let updates = updates(delivery.payload());
                    delivery.accept();
                    (!updates.is_empty()).then_some(Heard::Updates(updates))
                }
            };
            if let Some(heard) = heard {
                // Whoever sends too much waits for the control plane.
                self.heard
                    .send(heard)
                    .await
                    .map_err(|_| LinkError::Stopped)?;
            }
        }
    }
}

impl Service {
    /// Watches for collectors from now on.
    pub(crate) fn start_telemetry(&mut self, log: Option<Log>) {
        let worker = self.workers.get(0).inbox.clone();
        self.telemetry.start(&mut self.control, worker, log);
        self.review_telemetry();
        self.send_commands();
    }

    /// The log is to have other lines than before.
    pub(crate) fn review_telemetry(&mut self) {
        self.telemetry.review(&self.workers);
    }

    /// Does what is due in telemetry.
    pub(crate) fn handle_telemetry(&mut self, now: Instant) {
        self.tell_unreached();
        self.telemetry.handle_timeout(&self.tcp, &self.workers, now);
    }

    /// Takes what has come for telemetry.
    pub(crate) fn heard_telemetry(&mut self, heard: Heard) {
        self.telemetry.hear(heard, &self.tcp);
    }
}

fn begin_site(vanflow: &mut VanFlow, site: &Entity, identity: Option<String>, now: Instant) {
    let id = vanflow.begin_site(identity, now);
    for (attribute, name) in [
        (Attribute::Name, "name"),
        (Attribute::BuildVersion, "version"),
        (Attribute::Location, "location"),
        (Attribute::Provider, "provider"),
        (Attribute::Platform, "platform"),
        (Attribute::Namespace, "namespace"),
    ] {
        vanflow.set_some(id, attribute, site.word(name));
    }
}

/// The source of a router's records. Only one of several routers in a process can have the name of
/// its pod.
fn source(hostname: Option<&str>) -> Source {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    let hostname = hostname.filter(|_| !TAKEN.swap(true, Ordering::Relaxed));
    Source::of_host(hostname, rand::random)
}

/// Roles whose listeners and connectors have records.
fn is_told(role: Role) -> bool {
    matches!(role, Role::InterRouter | Role::Edge | Role::InterEdge)
}

/// The condition and the description of why a connection was lost.
fn split_reason(reason: &str) -> (&str, &str) {
    match reason.split_once(": ") {
        Some((condition, text)) if condition.contains(':') && !condition.contains(' ') => {
            (condition, text)
        }
        _ => ("unknown", reason),
    }
}

fn since_1970() -> Duration {
    let time = SystemTime::now().duration_since(UNIX_EPOCH);
    time.unwrap_or_default()
}

/// Messages that may wait to be sent.
const OUTBOX: usize = 256;
/// Messages of others that may wait for the control plane.
const INBOX: usize = 4;
/// Messages that may wait to be received.
const CREDIT: u32 = 50;
/// Octets of a message from a collector.
const LONGEST_COMMAND: usize = 64 * 1024;
/// Octets of a message from another router.
const LONGEST_UPDATE: usize = 256 * 1024;
/// Ticks between two readings of what services count: a second.
const TICKS_PER_COUNT: u32 = 5;
/// How long workers are given to send what they were given last.
const LAST_TURN: Duration = Duration::from_millis(20);
/// How long a router that stops waits for its last words to leave.
const FAREWELL: Duration = Duration::from_millis(500);

#[cfg(test)]
mod tests;
