//! A new configuration for a router that is running: from its file again, or from its owner.

use std::fmt;

use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use crate::codec::{Message, Value};
use crate::management::agent::{self, Refusal};
use crate::management::config::Source;
use crate::management::{Config, Entity};
use crate::runtime::router::{Request, StartError};

/// What became of a new configuration: entities by type and name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reloaded {
    /// Entities that are new.
    pub added: Vec<String>,
    /// Entities that are what they say now.
    pub changed: Vec<String>,
    /// Entities that are gone.
    pub removed: Vec<String>,
    /// What could not be, a sentence each; it is tried again with the next configuration.
    pub not_applied: Vec<String>,
}

impl fmt::Display for Reloaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} added, {} changed, {} removed, {} not applied",
            self.added.len(),
            self.changed.len(),
            self.removed.len(),
            self.not_applied.len()
        )
    }
}

impl Reloaded {
    /// Tells the log.
    pub(crate) fn report(&self) {
        info!(target: "AGENT", "New configuration: {self}");
        for (what, labels) in [
            ("added", &self.added),
            ("changed", &self.changed),
            ("removed", &self.removed),
        ] {
            for label in labels {
                info!(target: "AGENT", "New configuration: {label} {what}");
            }
        }
        for problem in &self.not_applied {
            warn!(target: "AGENT", "New configuration: not applied: {problem}");
        }
    }

    /// As `RELOAD` answers.
    fn to_map(&self) -> Value {
        let list = |texts: &[String]| {
            let texts = texts.iter().map(|text| Value::from(text.as_str()));
            Value::List(texts.collect())
        };
        Value::Map(vec![
            ("added".into(), list(&self.added)),
            ("changed".into(), list(&self.changed)),
            ("removed".into(), list(&self.removed)),
            ("notApplied".into(), list(&self.not_applied)),
        ])
    }

    pub(crate) fn labels(entities: &[Entity]) -> Vec<String> {
        entities.iter().map(Entity::label).collect()
    }
}

/// Reads every file that a configuration names, without a hold-up for anybody.
///
/// # Errors
/// The first that cannot be used.
pub(crate) async fn checked(config: Config) -> Result<Config, StartError> {
    // Whatever is odd is told when it is put to work.
    let check = move || config.examine();
    let stopped = |_| StartError::Stopped("the router is stopping".into());
    spawn_blocking(check).await.map_err(stopped)?
}

/// Carries out a client's `RELOAD`.
pub(crate) async fn on_request(
    request: agent::Request,
    source: Option<Source>,
    control: UnboundedSender<Request>,
    reply: oneshot::Sender<Message>,
) {
    let outcome = match source {
        Some(source) => from_source(source, &control).await,
        None => Err(Refusal::bad_request(
            "this router was not started from a file: there is nothing to read again",
        )),
    };
    if let Err(refusal) = &outcome {
        warn!(target: "AGENT", "The configuration stays as it is: {refusal}");
    }
    let outcome = outcome.map(|reloaded| reloaded.to_map());
    // An error means that the agent has ended: the router is stopping.
    let _ = reply.send(agent::answer_with(request, outcome));
}

async fn from_source(
    source: Source,
    control: &UnboundedSender<Request>,
) -> Result<Reloaded, Refusal> {
    let read = spawn_blocking(move || source.read()).await;
    let config = read
        .map_err(|_| Refusal::stopping())?
        .map_err(Refusal::bad_request)?;
    let config = checked(config)
        .await
        .map_err(|error| Refusal::bad_request(error.to_string()))?;
    apply(config, control).await.ok_or_else(Refusal::stopping)
}

/// Has the control plane take a configuration on; none if it has stopped.
pub(crate) async fn apply(config: Config, control: &UnboundedSender<Request>) -> Option<Reloaded> {
    let (reply, done) = oneshot::channel();
    let config = Box::new(config);
    control.send(Request::Apply { config, reply }).ok()?;
    done.await.ok()
}
