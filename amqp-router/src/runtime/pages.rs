//! What a router tells over HTTP, by asking its control plane and its workers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::sync::oneshot;

use crate::runtime::driver::ToWorker;
use crate::runtime::http::{Answer, Pages};
use crate::runtime::plan::HttpPlan;
use crate::runtime::router::Request;
use crate::runtime::scrapes::Scrapes;
use crate::runtime::workers::Workers;

/// The pages of one listener.
pub(crate) struct RouterPages {
    healthz: bool,
    /// `None` leaves `/metrics` out.
    scrapes: Option<Arc<Scrapes>>,
    stopping: Arc<AtomicBool>,
    control: WeakUnboundedSender<Request>,
    workers: Workers,
}

impl RouterPages {
    pub(crate) fn new(
        plan: &HttpPlan,
        control: WeakUnboundedSender<Request>,
        workers: Workers,
        scrapes: &Arc<Scrapes>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self {
            healthz: plan.healthz,
            scrapes: plan.metrics.then(|| Arc::clone(scrapes)),
            stopping,
            control,
            workers,
        }
    }

    /// None: the router is stopping.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.control.upgrade()?.send(request(reply)).ok()?;
        answer.await.ok()
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    async fn missing_now(&self) -> Option<Vec<String>> {
        let stopping = || Some(vec!["the router is stopping".to_owned()]);
        if self.is_stopping() {
            return stopping();
        }
        match self.ask(Request::Missing).await {
            // It has begun to stop meanwhile.
            None if self.is_stopping() => stopping(),
            missing => missing,
        }
    }

    async fn is_healthy(&self) -> bool {
        if self.is_stopping() {
            return false;
        }
        for worker in self.workers.iter() {
            let (reply, answer) = oneshot::channel();
            if worker.inbox.send(ToWorker::Ping(reply)).is_err() || answer.await.is_err() {
                return false;
            }
        }
        self.ask(Request::Ping).await.is_some()
    }
}

impl Pages for RouterPages {
    fn healthy(&self) -> Option<Answer<'_, bool>> {
        self.healthz
            .then(|| -> Answer<'_, bool> { Box::pin(self.is_healthy()) })
    }

    fn missing(&self) -> Option<Answer<'_, Option<Vec<String>>>> {
        self.healthz
            .then(|| -> Answer<'_, _> { Box::pin(self.missing_now()) })
    }

    fn metrics(&self) -> Option<Answer<'_, Option<Arc<str>>>> {
        let scrapes = Arc::clone(self.scrapes.as_ref()?);
        Some(Box::pin(async {
            match self.is_stopping() {
                true => None,
                false => scrapes.text().await,
            }
        }))
    }
}
