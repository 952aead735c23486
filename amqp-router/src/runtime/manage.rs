//! The management agent at work: requests that arrive at `$management`, and the router that they
//! are about.

use std::sync::Arc;

use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};
use tokio::sync::oneshot;
use tracing::debug;

use crate::codec::{Error, Message, Value};
use crate::management::agent::{self, Backend, Refusal, Subject};
use crate::management::{Config, Entity, Schema, Unique};
use crate::policy::Grant;
use crate::runtime::driver::ToWorker;
use crate::runtime::local::{LinkError, Receiver, Sender};
use crate::runtime::log::{Level, Log, Module};
use crate::runtime::router::Request;
use crate::runtime::service::Service;
use crate::worker::WorkerStatus;

mod apply;
mod change;
mod rows;

pub(crate) use change::{configure_log, scope};

/// Receives requests, one after another, until the router stops.
pub(crate) async fn serve(
    worker: UnboundedSender<ToWorker>,
    requests: WeakUnboundedSender<Request>,
) {
    // An error means that the router is stopping.
    let _ = receive(worker, &requests).await;
}

async fn receive(
    worker: UnboundedSender<ToWorker>,
    requests: &WeakUnboundedSender<Request>,
) -> Result<(), LinkError> {
    let mobile = Receiver::attach(worker.clone(), Some("$management"), CREDIT).await?;
    let local = Receiver::attach(worker.clone(), Some("_local/$management"), CREDIT).await?;
    let [mut mobile, mut local] = [mobile, local].map(|one| one.limited_to(REQUEST_MAX));
    let mut replies = Sender::attach(worker, None).await?;
    ask(requests, Request::Manageable)?;
    loop {
        let delivery = tokio::select! {
            delivery = mobile.recv() => delivery?,
            delivery = local.recv() => delivery?,
        };
        let message = match Message::decode_bodiless(delivery.payload()) {
            Ok(message) => message,
            Err(error) => {
                debug!(target: "AGENT", "A request is not a message: {error}");
                delivery.reject(Error::new("amqp:decode-error", error.to_string()));
                continue;
            }
        };
        let barred = delivery.barred.clone();
        delivery.accept();
        let answer = match agent::parse(&message) {
            Ok(None) => continue,
            Err(answer) => *answer,
            Ok(Some(request)) => {
                let (reply, answer) = oneshot::channel();
                let asked = Box::new(Asked { request, barred });
                let request = Request::Manage { asked, reply };
                ask(requests, request)?;
                answer.await.map_err(|_| LinkError::Stopped)?
            }
        };
        replies.send_settled(&answer).await?;
    }
}

/// Octets of the longest request that is read.
const REQUEST_MAX: usize = 1024 * 1024;

fn ask(requests: &WeakUnboundedSender<Request>, request: Request) -> Result<(), LinkError> {
    let requests = requests.upgrade().ok_or(LinkError::Stopped)?;
    requests.send(request).map_err(|_| LinkError::Stopped)
}

/// A request, and whose.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request: agent::Request,
    /// What policy has granted to whoever asks, if that is not to close connections.
    pub(crate) barred: Option<Arc<Grant>>,
}

/// The router at one moment, for one request.
pub(crate) struct Manager<'a> {
    pub(crate) service: &'a mut Service,
    pub(crate) config: &'a mut Config,
    pub(crate) log: Option<&'a Log>,
    pub(crate) statuses: Vec<WorkerStatus>,
    pub(crate) myself: &'a WeakUnboundedSender<Request>,
    /// See [`Asked`].
    pub(crate) barred: Option<Arc<Grant>>,
}

impl Manager<'_> {
    pub(crate) fn answer(&mut self, request: agent::Request) -> Message {
        agent::answer(request, self)
    }

    fn logs(&self) -> Vec<Entity> {
        let Some(log) = self.log else {
            return Vec::new();
        };
        Module::all()
            .map(|module| {
                let settings = log.settings(module);
                let mut entity = of_type("log");
                entity.set("module", module.as_str());
                entity.identify(0);
                entity.set("enable", settings.enable.map(|levels| levels.to_string()));
                entity.set("includeTimestamp", settings.include_timestamp);
                entity.set("includeSource", settings.include_source);
                entity.set("outputFile", settings.output_file);
                entity
            })
            .collect()
    }

    /// How much each module has logged.
    fn log_stats(&self) -> Vec<Entity> {
        let Some(log) = self.log else {
            return Vec::new();
        };
        Module::all()
            .map(|module| {
                let mut entity = of_type("logStats");
                entity.set("name", module.as_str());
                entity.set("identity", format!("logStats/{}", module.as_str()));
                for (attribute, level) in [
                    ("debugCount", Level::Debug),
                    ("infoCount", Level::Info),
                    ("warningCount", Level::Warning),
                    ("errorCount", Level::Error),
                    ("criticalCount", Level::Critical),
                ] {
                    let count = log.count(module, level);
                    entity.set(attribute, i64::try_from(count).unwrap_or(i64::MAX));
                }
                entity
            })
            .collect()
    }

    /// A configured entity with what it has to show of itself at work.
    fn at_work(&self, entity: &Entity) -> Entity {
        let mut entity = entity.clone();
        match entity.schema().name {
            "router" => {
                entity.set("version", VERSION);
                entity.set("area", "0");
                entity.set("hostName", hostname());
            }
            "connector" => {
                if let Some(state) = self.service.connector(entity.name()) {
                    entity.set("connectionStatus", state.status().as_str());
                    entity.set("connectionMsg", state.message());
                    entity.set("failoverUrls", state.failover_urls());
                }
            }
            "policy" => self.service.fill_policy(&mut entity),
            "router.config.autoLink" => {
                if let Some(status) = self.service.control.auto_link(entity.name()) {
                    entity.set("operStatus", status.state);
                    entity.set("linkRef", status.link.map(|link| link.to_string()));
                    entity.set("lastError", status.last_error);
                }
            }
            "tcpListener" | "tcpConnector" | "listenerAddress" => {
                self.service.show_tcp(&mut entity);
            }
            _ => {}
        }
        entity
    }
}

impl Backend for Manager<'_> {
    fn entities(&mut self, schema: &'static Schema) -> Vec<Entity> {
        match schema.name {
            "connection" => self.connections(),
            "router.link" => self.links(),
            "router.address" => self.addresses(),
            "router.node" => self.routers(),
            "routerMetrics" => vec![self.metrics()],
            "log" => self.logs(),
            "allocator" => self.pools(),
            "logStats" => self.log_stats(),
            "vhostStats" => self.service.vhost_stats(),
            _ => {
                let configured = self.config.of(schema.name);
                configured.map(|entity| self.at_work(entity)).collect()
            }
        }
    }

    fn candidates(&mut self, schema: &'static Schema, subject: &Subject) -> Vec<Entity> {
        if schema.operational || schema.name == "log" {
            return self.entities(schema);
        }
        let find = |what, value: &Option<String>| {
            let value = value.as_deref()?;
            self.config.entities.find(schema.name, what, value)
        };
        let named = find(Unique::Name, &subject.name);
        let identified = find(Unique::Identity, &subject.identity);
        let both = named.filter(|named| {
            identified.is_none_or(|identified| identified.identity() != named.identity())
        });
        let candidates = both.into_iter().chain(identified);
        candidates.map(|entity| self.at_work(entity)).collect()
    }

    fn create(&mut self, entity: Entity) -> Result<Entity, Refusal> {
        self.add(entity)
    }

    fn update(
        &mut self,
        entity: &Entity,
        attributes: &[(String, Value)],
    ) -> Result<Entity, Refusal> {
        self.change(entity, attributes)
    }

    fn delete(&mut self, entity: &Entity) -> Result<(), Refusal> {
        self.drop_entity(entity)
    }

    fn nodes(&mut self) -> Vec<String> {
        let id = self
            .config
            .singleton("router")
            .word("id")
            .unwrap_or_default();
        let others = self.service.control.routers().into_iter();
        let others = others
            .filter(|router| !router.is_self)
            .map(|router| router.id);
        std::iter::once(id.to_owned())
            .chain(others)
            .map(|id| format!("amqp:/_topo/0/{id}/$management"))
            .collect()
    }

    fn log(&mut self, limit: usize) -> Vec<Value> {
        let Some(log) = self.log else {
            return Vec::new();
        };
        log.recent(limit)
            .into_iter()
            .map(|entry| {
                Value::List(vec![
                    entry.module.as_str().into(),
                    entry.level.as_str().into(),
                    entry.text.into(),
                    entry.file.into(),
                    Value::Long(entry.line.into()),
                    Value::Long(entry.time.as_second()),
                ])
            })
            .collect()
    }
}

fn of_type(name: &str) -> Entity {
    Entity::new(Schema::find(name).expect("the table has it"))
}

fn hostname() -> Option<String> {
    std::env::var("HOSTNAME").ok().or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
        Some(name.trim().to_owned())
    })
}

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// Requests that may wait.
const CREDIT: u32 = 250;
