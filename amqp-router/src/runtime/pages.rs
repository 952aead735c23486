//! What a router tells over HTTP, by asking its control plane and its workers.

use tokio::sync::mpsc::WeakUnboundedSender;
use tokio::sync::{Mutex, oneshot};

use crate::runtime::driver::ToWorker;
use crate::runtime::http::{Answer, Pages};
use crate::runtime::plan::HttpPlan;
use crate::runtime::router::Request;
use crate::runtime::service::Workers;

/// The pages of one listener.
pub(crate) struct RouterPages {
    healthz: bool,
    metrics: bool,
    control: WeakUnboundedSender<Request>,
    workers: Workers,
    /// Figures are gathered for one at a time.
    gathering: Mutex<()>,
}

impl RouterPages {
    pub(crate) fn new(
        plan: &HttpPlan,
        control: WeakUnboundedSender<Request>,
        workers: Workers,
    ) -> Self {
        Self {
            healthz: plan.healthz,
            metrics: plan.metrics,
            control,
            workers,
            gathering: Mutex::new(()),
        }
    }

    /// None: the router is stopping.
    async fn ask<T>(&self, request: impl FnOnce(oneshot::Sender<T>) -> Request) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.control.upgrade()?.send(request(reply)).ok()?;
        answer.await.ok()
    }

    async fn is_healthy(&self) -> bool {
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
            .then(|| -> Answer<'_, _> { Box::pin(self.ask(Request::Missing)) })
    }

    fn metrics(&self) -> Option<Answer<'_, Option<String>>> {
        let gather = async {
            let _mine = self.gathering.lock().await;
            self.ask(Request::Metrics).await
        };
        self.metrics.then(|| -> Answer<'_, _> { Box::pin(gather) })
    }
}
