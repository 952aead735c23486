//! The threads of a router: one for each worker, one for the control plane.

use std::io;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};
use std::time::Instant;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use crate::adaptors::tcp::WindowPool;
use crate::control::address::Identity;
use crate::control::table::{Treatment, WorkerId};
use crate::forwarding::Settings;
use crate::forwarding::replies::Replies;
use crate::forwarding::stats::Patience;
use crate::runtime::driver::{Driver, Load, ToWorker};
use crate::runtime::workers::{WorkerHandle, Workers};
use crate::vanflow::Origin;
use crate::worker::{Worker, WorkerEvent};

/// The events of all workers, for the control plane.
pub(crate) type Events = UnboundedReceiver<(WorkerId, Vec<WorkerEvent>)>;

/// What all workers of a router share.
#[derive(Clone)]
pub(crate) struct Shared {
    /// Numbers for connections.
    pub(crate) ids: Arc<AtomicU64>,
    /// Identities for records of telemetry.
    pub(crate) origin: Arc<Origin>,
    pub(crate) windows: Arc<WindowPool>,
    /// After how long what waits is told of.
    pub(crate) patience: Patience,
}

/// Starts `count` workers, each on a thread of its own.
///
/// # Errors
/// The system refuses a thread or what its runtime needs.
pub(crate) fn start_workers(
    count: u16,
    identity: &Arc<Identity>,
    default_treatment: Treatment,
    shared: &Shared,
    failures: &Failures,
) -> io::Result<(Workers, Events, Vec<JoinHandle<()>>)> {
    let count = count.max(1);
    let replies = Replies::new(rand::random());
    let (events, events_inbox) = unbounded_channel();
    let (inboxes, receivers): (Vec<UnboundedSender<ToWorker>>, Vec<_>) =
        (0..count).map(|_| unbounded_channel()).unzip();
    let mut handles = Vec::new();
    let mut threads = Vec::new();
    for (number, inbox) in (0..count).zip(receivers) {
        let id = WorkerId(number);
        let runtime = worker_runtime()?;
        let load = Arc::new(Load::default());
        handles.push(WorkerHandle {
            inbox: inboxes[usize::from(number)].clone(),
            load: Arc::clone(&load),
            runtime: runtime.handle().clone(),
        });
        let settings = Settings {
            worker: id,
            workers: count,
            identity: Arc::clone(identity),
            default_treatment,
            replies: replies.clone(),
            patience: shared.patience,
        };
        let shared = shared.clone();
        let (inboxes, events) = (inboxes.clone(), events.clone());
        let failures = failures.clone();
        let work = move || {
            let mut worker = Worker::new(settings, shared.ids, Instant::now());
            worker.tell_flows(shared.origin);
            worker.share_windows(shared.windows);
            runtime.block_on(async move {
                let driver = Driver::new(id, worker, inbox, inboxes, events, load);
                // It is the only task that matters here: it decides itself when to yield.
                tokio::task::coop::unconstrained(driver).await;
            });
        };
        threads.push(
            thread::Builder::new()
                .name(format!("worker-{number}"))
                .spawn(watched(format!("worker-{number}"), failures, work))?,
        );
    }
    Ok((Workers::new(handles), events_inbox, threads))
}

/// Where a thread that panics is named.
pub(crate) type Failures = Arc<watch::Sender<Option<String>>>;

/// The work of the thread `name`, which tells if it ends in a panic.
pub(crate) fn watched(name: String, failures: Failures, work: impl FnOnce()) -> impl FnOnce() {
    move || {
        // What the work owns is given up by then, and others learn that it is gone by its absence.
        let outcome = panic::catch_unwind(AssertUnwindSafe(work));
        if let Err(panic) = outcome {
            failures.send_replace(Some(name));
            panic::resume_unwind(panic);
        }
    }
}

/// A runtime for one thread that looks at its sockets between any two turns.
fn worker_runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .event_interval(1)
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_names_its_thread() {
        let failures = Failures::new(watch::Sender::new(None));
        let run = |name: &str, work: fn()| {
            let work = watched(name.into(), failures.clone(), work);
            thread::spawn(work).join()
        };
        run("good", || ()).expect("it ends as it should");
        assert_eq!(*failures.borrow(), None);
        run("bad", || panic!("on purpose")).expect_err("it is still a panic");
        assert_eq!(failures.borrow().as_deref(), Some("bad"));
    }
}
