//! The management agent at work: requests that arrive at `$management`, and the router that they
//! are about.

use std::convert::Infallible;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender};
use tokio::sync::oneshot;
use tokio::time::sleep;
use tracing::{debug, error, info};

use crate::codec::{Error, Message, Value};
use crate::management::agent::{self, Backend, ProfileStep, Refusal, See, Subject, see_each};
use crate::management::{Config, Entity, Schema, Unique};
use crate::policy::Grant;
use crate::runtime::driver::ToWorker;
use crate::runtime::local::{LinkError, Receiver, Sender};
use crate::runtime::log::{Level, Levels, Log, Module};
use crate::runtime::router::Request;
use crate::runtime::service::Service;

mod apply;
mod change;
mod profile;
mod reports;
mod rows;

pub(crate) use change::scope;
pub(crate) use profile::Profile;
pub(crate) use reports::Reports;
pub(crate) use rows::{plain, show_closing};

/// Receives requests, one after another, until the router stops; whatever ends its links, it
/// attaches again.
pub(crate) async fn serve(
    worker: UnboundedSender<ToWorker>,
    requests: WeakUnboundedSender<Request>,
) {
    loop {
        let error = match receive(worker.clone(), &requests).await {
            Err(LinkError::Stopped) => return,
            Err(error) => error,
        };
        error!(target: "AGENT", "The router cannot be managed: {error}");
        if ask(&requests, Request::Unmanageable(error)).is_err() {
            return;
        }
        sleep(ATTACH_AGAIN).await;
    }
}

async fn receive(
    worker: UnboundedSender<ToWorker>,
    requests: &WeakUnboundedSender<Request>,
) -> Result<Infallible, LinkError> {
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
            Err(answer) => {
                if let Some((operation, why)) = agent::refused_change(&message, &answer) {
                    error!(target: "AGENT", "Error performing {operation}: {why}");
                }
                *answer
            }
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
    pub(crate) reports: Reports,
    pub(crate) myself: &'a WeakUnboundedSender<Request>,
    /// See [`Asked`].
    pub(crate) barred: Option<Arc<Grant>>,
}

impl Manager<'_> {
    pub(crate) fn answer(&mut self, request: agent::Request) -> Message {
        debug!(target: "AGENT", "Agent request {request}");
        agent::answer(request, self)
    }

    fn logs(&self) -> Vec<Entity> {
        let Some(log) = self.log else {
            return Vec::new();
        };
        Module::all()
            .map(|module| {
                let settings = log.settings(module);
                let settings = match module {
                    Module::Default => settings.or_default(),
                    _ => settings,
                };
                let mut entity = of_type("log");
                entity.set("module", module.as_str());
                entity.identify(0);
                entity.set("enable", settings.enable.map(|levels| levels.to_string()));
                entity.set("includeTimestamp", settings.include_timestamp);
                entity.set("includeSource", settings.include_source);
                entity.set("outputFile", settings.output_file);
                if module == Module::Default {
                    fill_log_defaults(&mut entity);
                }
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

    /// All entities of a type of which there are [few](is_few).
    fn few(&self, schema: &Schema) -> Vec<Entity> {
        match schema.name {
            "router.node" => self.routers(),
            "routerMetrics" => vec![self.metrics()],
            "log" => self.logs(),
            "allocator" => self.pools(),
            "logStats" => self.log_stats(),
            "vhostStats" => self.service.vhost_stats(),
            _ => Vec::new(),
        }
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
            "log" => {
                let mut logs = self.logs().into_iter();
                return logs
                    .find(|log| log.identity() == entity.identity())
                    .unwrap_or(entity);
            }
            "policy" => self.service.fill_policy(&mut entity),
            "router.config.address" if entity.get("priority").is_null() => {
                entity.set("priority", NO_PRIORITY);
            }
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
    fn entities(&mut self, schema: &'static Schema, see: &mut See<'_>) -> ControlFlow<()> {
        match schema.name {
            "connection" => self.connections(see),
            "router.link" => self.links(see),
            "router.address" => self.addresses(see),
            _ if is_few(schema) => see_each(self.few(schema), see, Entity::clone),
            _ => see_each(self.config.of(schema.name), see, |entity| {
                self.at_work(entity)
            }),
        }
    }

    fn candidates(&mut self, schema: &'static Schema, subject: &Subject) -> Vec<Entity> {
        match schema.name {
            "connection" => return self.connections_meant(subject),
            "router.link" => return self.links_meant(subject),
            "router.address" => return self.addresses_meant(subject),
            _ if is_few(schema) => return self.few(schema),
            _ => {}
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
        let created = self.add(entity)?;
        info!(target: "AGENT", "CREATE {}", created.label());
        Ok(self.at_work(&created))
    }

    fn update(
        &mut self,
        entity: &Entity,
        attributes: &[(String, Value)],
    ) -> Result<Entity, Refusal> {
        let updated = self.change(entity, attributes)?;
        let updated = self.at_work(&updated);
        // Their values may be secrets.
        let names: Vec<&str> = attributes.iter().map(|(name, _)| &**name).collect();
        info!(target: "AGENT", "UPDATE {}: {}", updated.label(), names.join(", ").escape_debug());
        Ok(updated)
    }

    fn delete(&mut self, entity: &Entity) -> Result<(), Refusal> {
        self.drop_entity(entity)?;
        info!(target: "AGENT", "DELETE {}", entity.label());
        Ok(())
    }

    fn refused(&mut self, operation: &'static str, refusal: &Refusal) {
        error!(target: "AGENT", "Error performing {operation}: {refusal}");
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

    fn profile(&mut self, step: Option<ProfileStep>) -> Option<Value> {
        if step == Some(ProfileStep::Start) {
            info!(target: "AGENT", "PROFILE started");
            self.service.profile = Some(Profile::start(self.service));
            return Some(Value::Null);
        }
        let profile = self.service.profile.as_ref()?;
        Some(profile.report(self.service).into())
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

/// Whether what there is of this type shows the router at work, and never grows with what passes.
fn is_few(schema: &Schema) -> bool {
    schema.operational || schema.name == "log"
}

/// What every module goes by of which nobody has said otherwise.
fn fill_log_defaults(entity: &mut Entity) {
    for (attribute, value) in [
        ("enable", Value::from(Levels::default().to_string())),
        ("includeTimestamp", true.into()),
        ("includeSource", false.into()),
        ("outputFile", "stderr".into()),
    ] {
        if entity.get(attribute).is_null() {
            entity.set(attribute, value);
        }
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
/// How an address says that it has none.
const NO_PRIORITY: i64 = -1;
/// Requests that may wait.
const CREDIT: u32 = 250;
/// How long the agent waits before it attaches again.
const ATTACH_AGAIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::adaptors::local::{LocalEvent, LocalLinkId};
    use crate::runtime::driver::LocalRequest;
    use crate::runtime::router::Request;
    use crate::worker::ConnectionId;

    /// Refuses every link.
    async fn refuse(mut inbox: tokio::sync::mpsc::UnboundedReceiver<ToWorker>) {
        let mut program = None;
        while let Some(message) = inbox.recv().await {
            match message {
                ToWorker::AddLocal { events, reply } => {
                    program = Some(events);
                    let _ = reply.send(ConnectionId(0));
                }
                ToWorker::Local {
                    request: LocalRequest::Attach { reply, .. },
                    ..
                } => {
                    let link = LocalLinkId(0);
                    let _ = reply.send(link);
                    let error = Error::new("amqp:not-found", "no such address");
                    let events = program.as_ref().expect("it was added");
                    let _ = events.send(LocalEvent::Refused { link, error });
                }
                _ => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_cannot_attach_says_so_and_tries_again() {
        let (worker, inbox) = unbounded_channel();
        tokio::spawn(refuse(inbox));
        let (requests, mut asked) = unbounded_channel();
        tokio::spawn(serve(worker, requests.downgrade()));
        for _ in 0..3 {
            match asked.recv().await {
                Some(Request::Unmanageable(error)) => {
                    assert!(error.to_string().contains("no such address"), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
}
