//! `/metrics`: what a router counts, gathered from the control plane and all workers at one moment
//! (`reference/router/config-and-management.md` §4; `docs/metrics.md` has every name).

mod expiries;
mod memory;
mod refusals;
mod router;
mod services;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::adaptors::tcp::Census;
use crate::adaptors::tcp::TcpService;
use crate::forwarding::stats::{AddressCounts, Backlog, Pool, WorkerCounts};
use crate::management::{Config, Exposition};
use crate::policy::PolicyCounts;
use crate::runtime::manage::Manager;
use crate::runtime::service::Service;
use crate::runtime::sources::SourceCounts;
use crate::runtime::workers::WorkerHandle;

pub(crate) use memory::Memory;

use expiries::first_expiries;

/// A router's totals, as management and metrics show them.
#[derive(Debug, Default)]
pub(crate) struct Totals {
    pub(crate) counts: WorkerCounts,
    pub(crate) amqp_connections: usize,
    /// TCP connections that are open.
    pub(crate) tcp: Census,
    pub(crate) links: usize,
    pub(crate) addresses: usize,
    /// Routers of the network besides this one.
    pub(crate) routers: usize,
    pub(crate) backlog: Backlog,
}

impl Totals {
    fn of(service: &Service) -> Self {
        Self {
            amqp_connections: service.connections.len(),
            links: service.control.link_count(),
            addresses: service.control.address_count(),
            routers: service.control.router_count(),
            ..Self::default()
        }
    }
}

impl Manager<'_> {
    pub(crate) fn totals(&self) -> Totals {
        let mut totals = Totals::of(self.service);
        for worker in self.reports.totals() {
            totals.counts.add(&worker.counts);
            totals.backlog.add(&worker.backlog);
            totals.tcp.add(worker.tcp);
        }
        totals
    }
}

/// Everything that a scrape shows, at one moment.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    pub(crate) totals: Totals,
    router: String,
    mode: String,
    started: Duration,
    /// Zero if the network has never changed.
    changed: Duration,
    route_changes: u64,
    policy: PolicyCounts,
    /// AMQP peers that were cut off because they did not read.
    pub(crate) cut_off: u64,
    pub(crate) senders_cut_off: u64,
    pub(crate) pools: Vec<Pool>,
    sources: SourceCounts,
    workers: Vec<WorkerLoad>,
    /// Connectors by name, and whether their connection is open.
    connectors: Vec<(String, bool)>,
    /// When the first certificate of a profile's attribute ends, seconds since 1970.
    expiries: BTreeMap<(Arc<str>, &'static str), u64>,
    /// The busiest addresses by their keys.
    pub(crate) addresses: Vec<(String, AddressCounts)>,
    pub(crate) other_addresses: AddressCounts,
    pub(crate) services: Vec<(&'static str, Arc<TcpService>)>,
}

#[derive(Debug)]
struct WorkerLoad {
    worked: Duration,
    busy_permille: u32,
}

impl Figures {
    /// What the control plane knows of it.
    pub(crate) fn of(service: &Service, config: &Config) -> Self {
        let router = config.singleton("router");
        let changed = service.control.last_change();
        let load = |worker: &WorkerHandle| WorkerLoad {
            worked: worker.load.worked(),
            busy_permille: worker.load.busy_permille(),
        };
        let services = service.tcp.services();
        Self {
            totals: Totals::of(service),
            router: config.router_id().to_owned(),
            mode: router.text("mode").unwrap_or_default().to_owned(),
            started: since_1970(service.started_at),
            // From one reading of the calendar, so that it is the same in every scrape.
            changed: changed.map_or(Duration::ZERO, |changed| {
                since_1970(service.started_at + changed.duration_since(service.started))
            }),
            route_changes: service.control.route_changes(),
            policy: service.governance.policies.counts(),
            sources: service.source_counts(),
            workers: service.workers.iter().map(load).collect(),
            expiries: first_expiries(service.profiles.expiries()),
            connectors: service.connector_states().take(MOST_SERVICES).collect(),
            services: services
                .map(|(kind, one)| (kind, Arc::clone(one)))
                .collect(),
            ..Self::default()
        }
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> String {
        let mut out = Exposition::default();
        self.expose_router(&mut out);
        self.expose_own(&mut out);
        self.expose_expiries(&mut out);
        self.expose_refusals(&mut out);
        self.expose_addresses(&mut out);
        self.expose_services(&mut out);
        out.into_text()
    }
}

fn since_1970(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// TCP listeners and connectors, and connectors, that have figures of their own.
const MOST_SERVICES: usize = 1000;
