//! Gathers what a scrape of `/metrics` shows.
//!
//! The control plane and the workers are asked for totals, which cost each of them little however
//! much there is; what takes longer (the busiest of many addresses, the text) is done on a thread
//! of its own.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::sync::{Mutex, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::adaptors::tcp::Census;
use crate::control::table::AddressId;
use crate::forwarding::stats::{AddressCounts, Backlog, Pool, WorkerCounts};
use crate::runtime::driver::ToWorker;
use crate::runtime::metrics::Figures;
use crate::runtime::router::Request;
use crate::runtime::service::Service;
use crate::worker::WorkerFigures;

/// Answers scrapes. There is one for all listeners of a router, and one gathering at a time: who
/// comes meanwhile gets the result of the next.
#[derive(Debug)]
pub(crate) struct Scrapes {
    control: WeakUnboundedSender<Request>,
    /// Gatherings that have begun.
    begun: AtomicU64,
    /// The number of the last gathering that has ended, and what came of it.
    last: Mutex<(u64, Option<Arc<str>>)>,
}

/// What the control plane has to tell, and the workers' answers to come.
#[derive(Debug)]
pub(crate) struct Overview {
    pub(crate) figures: Box<Figures>,
    pub(crate) workers: Vec<oneshot::Receiver<WorkerFigures>>,
}

impl Scrapes {
    pub(crate) fn new(control: WeakUnboundedSender<Request>) -> Self {
        Self {
            control,
            begun: AtomicU64::new(0),
            last: Mutex::default(),
        }
    }

    /// The figures as they are after this was called; `None` if the router does not answer.
    pub(crate) async fn text(self: Arc<Self>) -> Option<Arc<str>> {
        let seen = self.begun.load(Ordering::Acquire);
        // By itself, so that a gathering that has begun goes on if its client does not wait for it.
        let gathering = tokio::spawn(async move {
            let mut last = self.last.lock().await;
            if last.0 > seen {
                return last.1.clone();
            }
            let number = self.begun.fetch_add(1, Ordering::AcqRel) + 1;
            let text = timeout(TIME_OUT, gather(&self.control)).await;
            *last = (number, text.ok().flatten().map(Arc::from));
            last.1.clone()
        });
        gathering.await.ok().flatten()
    }
}

async fn gather(control: &WeakUnboundedSender<Request>) -> Option<String> {
    let overview = ask(control, Request::Overview).await?;
    let mut told = Vec::new();
    for worker in overview.workers {
        told.push(worker.await.ok()?);
    }
    let total = spawn_blocking(|| busiest(told)).await.ok()?;
    let mut figures = overview.figures;
    figures.totals.counts = total.counts;
    figures.totals.backlog = total.backlog;
    figures.totals.tcp = total.tcp;
    figures.cut_off = total.cut_off;
    figures.senders_cut_off = total.senders_cut_off;
    figures.pools = total.pools;
    figures.other_addresses = total.others;
    let (ids, counts): (Vec<_>, Vec<_>) = total.addresses.into_iter().unzip();
    let keys = ask(control, |reply| Request::Keys { ids, reply }).await?;
    for (key, counts) in keys.into_iter().zip(counts) {
        match key {
            Some(key) => figures.addresses.push((key, counts)),
            // It is gone since.
            None => figures.other_addresses.add(&counts),
        }
    }
    spawn_blocking(move || figures.text()).await.ok()
}

async fn ask<T>(
    control: &WeakUnboundedSender<Request>,
    request: impl FnOnce(oneshot::Sender<T>) -> Request,
) -> Option<T> {
    let (reply, answer) = oneshot::channel();
    control.upgrade()?.send(request(reply)).ok()?;
    answer.await.ok()
}

/// What all workers have told.
#[derive(Debug, Default)]
struct Total {
    counts: WorkerCounts,
    backlog: Backlog,
    tcp: Census,
    cut_off: u64,
    senders_cut_off: u64,
    pools: Vec<Pool>,
    addresses: Vec<(AddressId, AddressCounts)>,
    others: AddressCounts,
}

/// Adds up what workers have told, and finds the addresses that have had the most deliveries.
fn busiest(workers: Vec<WorkerFigures>) -> Total {
    let mut total = Total::default();
    let mut addresses: HashMap<AddressId, AddressCounts> = HashMap::new();
    for worker in workers {
        total.counts.add(&worker.totals.counts);
        total.backlog.add(&worker.totals.backlog);
        total.tcp.add(worker.totals.tcp);
        total.cut_off += worker.totals.cut_off;
        total.senders_cut_off += worker.totals.senders_cut_off;
        Pool::add_all(&mut total.pools, &worker.totals.pools);
        for (id, counts) in worker.addresses {
            if counts != AddressCounts::default() {
                addresses.entry(id).or_default().add(&counts);
            }
        }
    }
    let mut shown: Vec<_> = addresses.into_iter().collect();
    // Among equals the older one, so that it is the same one the next time.
    keep_first(&mut shown, MOST_ADDRESSES, |(id, counts)| {
        (Reverse(counts.total()), id.index())
    });
    // Those of addresses that are gone, and deliveries to nowhere, are among the others.
    let sum = |of: fn(&AddressCounts) -> u64| shown.iter().map(|(_, counts)| of(counts)).sum();
    total.others = AddressCounts {
        ingress: total
            .counts
            .ingress
            .saturating_sub(sum(|counts| counts.ingress)),
        egress: total
            .counts
            .egress
            .saturating_sub(sum(|counts| counts.egress)),
        transit: total
            .counts
            .transit
            .saturating_sub(sum(|counts| counts.transit)),
        ..AddressCounts::default()
    };
    total.addresses = shown;
    total
}

/// Keeps the `limit` items with the least keys, in order.
fn keep_first<T, K: Ord>(items: &mut Vec<T>, limit: usize, key: impl Fn(&T) -> K) {
    if items.len() > limit {
        items.select_nth_unstable_by_key(limit, &key);
        items.truncate(limit);
    }
    items.sort_unstable_by_key(key);
}

impl Service {
    /// Has every worker report its totals.
    pub(crate) fn ask_for_figures(&self) -> Vec<oneshot::Receiver<WorkerFigures>> {
        let workers = self.workers.iter().map(|worker| {
            let (reply, figures) = oneshot::channel();
            // A worker that is gone drops the question, which is an answer.
            let _ = worker.inbox.send(ToWorker::Figures(reply));
            figures
        });
        workers.collect()
    }

    /// The keys of addresses that are still there.
    pub(crate) fn address_keys(&self, ids: &[AddressId]) -> Vec<Option<String>> {
        let key = |id: &AddressId| Some(self.control.address(*id)?.entry.key.to_string());
        ids.iter().map(key).collect()
    }
}

/// A router that is silent for so long has no figures to tell.
const TIME_OUT: Duration = Duration::from_secs(10);
/// Addresses that have figures of their own.
const MOST_ADDRESSES: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_addresses_are_shown_and_no_delivery_is_lost() {
        let worker = || {
            let counts = |n: u32| AddressCounts {
                ingress: u64::from(n),
                egress: 1,
                ..AddressCounts::default()
            };
            let addresses = (0..1000).map(|n| (AddressId(n), counts(n))).collect();
            let mut figures = WorkerFigures {
                addresses,
                ..WorkerFigures::default()
            };
            figures.totals.counts.ingress = (0..1000).sum::<u64>() + 7;
            figures.totals.counts.egress = 1000;
            figures
        };
        let total = busiest(vec![worker(), worker()]);
        assert_eq!(total.addresses.len(), MOST_ADDRESSES);
        assert_eq!(total.addresses[0].0, AddressId(999));
        assert_eq!(total.addresses[0].1.ingress, 1998);
        let last = total.addresses.last().map(|(id, _)| *id);
        assert_eq!(last, Some(AddressId(900)));
        let shown: u64 = total.addresses.iter().map(|(_, c)| c.ingress).sum();
        assert_eq!(shown + total.others.ingress, total.counts.ingress);
        assert_eq!(total.others.egress, 1800);
    }

    #[test]
    fn a_router_that_is_gone_has_no_figures() {
        let (requests, inbox) = tokio::sync::mpsc::unbounded_channel();
        let scrapes = Arc::new(Scrapes::new(requests.downgrade()));
        drop((requests, inbox));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let text = runtime.expect("a runtime").block_on(scrapes.text());
        assert_eq!(text, None);
    }

    /// What comes while one is under way waits for the next, and shares it.
    #[test]
    fn scrapes_share_a_gathering() {
        let (requests, mut inbox) = tokio::sync::mpsc::unbounded_channel();
        let scrapes = Arc::new(Scrapes::new(requests.downgrade()));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        runtime.expect("a runtime").block_on(async {
            let first = tokio::spawn(Arc::clone(&scrapes).text());
            let Some(Request::Overview(question)) = inbox.recv().await else {
                panic!("the first scrape asks");
            };
            let others: Vec<_> = (0..20)
                .map(|_| tokio::spawn(Arc::clone(&scrapes).text()))
                .collect();
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            inbox.try_recv().expect_err("one gathering at a time");
            answer(question, &mut inbox).await;
            assert!(first.await.expect("an answer").is_some());
            let Some(Request::Overview(question)) = inbox.recv().await else {
                panic!("the others ask once");
            };
            answer(question, &mut inbox).await;
            for other in others {
                assert!(other.await.expect("an answer").is_some());
            }
            inbox.try_recv().expect_err("they share");
        });

        async fn answer(
            question: oneshot::Sender<Overview>,
            inbox: &mut tokio::sync::mpsc::UnboundedReceiver<Request>,
        ) {
            let overview = Overview {
                figures: Box::default(),
                workers: Vec::new(),
            };
            question.send(overview).expect("it is waited for");
            let Some(Request::Keys { ids, reply }) = inbox.recv().await else {
                panic!("keys are asked for");
            };
            reply.send(vec![None; ids.len()]).expect("so are these");
        }
    }
}
