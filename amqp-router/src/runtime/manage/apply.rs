//! The steps to a new configuration.

use std::time::Duration;

use tokio::time::sleep;

use super::{Manager, configure_log};
use crate::codec::Value;
use crate::management::agent::Refusal;
use crate::management::reload::{Plan, Step, key};
use crate::management::{Entity, Unique};
use crate::runtime::reload::Reloaded;

impl Manager<'_> {
    /// Takes every step that can be taken; returns what became of them, and the entities that are
    /// not what they should be.
    pub(crate) async fn apply(&mut self, plan: &Plan) -> (Reloaded, Vec<Entity>) {
        let mut failed: Vec<Entity> = Vec::new();
        let mut not_applied = plan.not_now.clone();
        let mut ports_may_be_busy = false;
        for step in &plan.steps {
            let (entity, outcome) = match step {
                Step::Update(entity) => (entity, self.make(entity)),
                Step::Stop(entity) => {
                    ports_may_be_busy = true;
                    (entity, self.end(entity))
                }
                Step::Start { entity, instead_of } => {
                    let mut outcome = self.begin(entity);
                    // What listened there a moment ago lets go when its task gets to it.
                    let mut tries = if ports_may_be_busy { TRIES } else { 0 };
                    while outcome.is_err() && tries > 0 {
                        sleep(WAIT).await;
                        outcome = self.begin(entity);
                        tries -= 1;
                    }
                    if outcome.is_err() {
                        ports_may_be_busy = false;
                        if let Some(before) = instead_of {
                            // Better the old one than none; if not even that, both are reported.
                            if let Err(refusal) = self.begin(before) {
                                not_applied.push(format!("{refusal} (as it was before)"));
                            }
                        }
                    }
                    (entity, outcome)
                }
            };
            if let Err(refusal) = outcome {
                let label = entity.label();
                let text = refusal.to_string();
                let text = text.strip_suffix(&format!(" ({label})")).unwrap_or(&text);
                not_applied.push(match text.starts_with(&label) {
                    true => text.to_owned(),
                    false => format!("{label}: {text}"),
                });
                failed.push(entity.clone());
            }
        }
        let done = |entities: &[Entity]| {
            let mut labels = Reloaded::labels(entities);
            labels.retain(|label| !failed.iter().any(|entity| entity.label() == *label));
            labels
        };
        let reloaded = Reloaded {
            added: done(&plan.added),
            changed: done(&plan.changed),
            removed: done(&plan.removed),
            not_applied,
        };
        (reloaded, failed)
    }

    fn begin(&mut self, entity: &Entity) -> Result<(), Refusal> {
        self.add(unidentified(entity)).map(drop)
    }

    /// One that is gone already is no failure.
    fn end(&mut self, entity: &Entity) -> Result<(), Refusal> {
        if entity.schema().name == "log" {
            let mut default = Entity::new(entity.schema());
            default.set("module", entity.get("module").clone());
            return self.set_log(&default);
        }
        match self.counterpart(entity) {
            Some(live) => self.drop_entity(&live),
            None => Ok(()),
        }
    }

    /// One that has been deleted in between is made anew.
    fn make(&mut self, entity: &Entity) -> Result<(), Refusal> {
        if entity.schema().name == "log" {
            return self.set_log(entity);
        }
        let Some(live) = self.counterpart(entity) else {
            return self.begin(entity);
        };
        let mut updated = entity.clone();
        for attribute in ["name", "identity"] {
            updated.set(attribute, live.get(attribute).clone());
        }
        self.put(updated).map(drop)
    }

    fn set_log(&self, entity: &Entity) -> Result<(), Refusal> {
        match self.log {
            Some(log) => configure_log(log, entity),
            None => Ok(()),
        }
    }

    /// The entity at work that another configuration means.
    fn counterpart(&self, entity: &Entity) -> Option<Entity> {
        let schema = entity.schema();
        if schema.singleton {
            return self.config.of(schema.name).next().cloned();
        }
        if schema.name == "router.config.autoLink" {
            let mut live = self.config.of(schema.name);
            return live.find(|live| key(live) == key(entity)).cloned();
        }
        let entities = &self.config.entities;
        let found = match crate::management::special(entity) {
            Some(value) => entities.find(schema.name, Unique::Special, &value),
            None => entities.find(schema.name, Unique::Name, entity.name()),
        };
        found.cloned()
    }
}

/// Without the identity that it has in another configuration, and the name that stands for it.
fn unidentified(entity: &Entity) -> Entity {
    let mut entity = entity.clone();
    if entity.name() == entity.identity() {
        entity.set("name", Value::Null);
    }
    entity.set("identity", Value::Null);
    entity
}

/// How long a port that was just given up may take to be free.
const WAIT: Duration = Duration::from_millis(10);
const TRIES: u32 = 20;
