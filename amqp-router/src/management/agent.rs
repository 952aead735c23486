//! The management protocol: requests to `$management`, and their answers
//! (`reference/router/config-and-management.md` §3).
//!
//! [`parse`] reads a request, [`answer()`] carries it out; in between its owner may collect what
//! workers know. Every request that says where to answer is answered, once.

mod answer;
mod describe;
mod find;
mod operation;
mod query;
mod request;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;

use crate::codec::{Message, Value};
use crate::management::entity::Entity;
use crate::management::schema::Schema;

pub(crate) use answer::Refusal;
pub(crate) use operation::{ProfileStep, Request, Subject};

use answer::{CREATED, NO_CONTENT, OK, Reply, reason};
use find::{connection_to_update, find};
use operation::Operation;
use query::query;

/// Looks at entities one after the other until it has seen enough. What there is to show of one is
/// worked out when it is asked for: a page of many costs little more than a page of few.
pub(crate) type See<'a> = dyn FnMut(&dyn Fn() -> Entity) -> ControlFlow<()> + 'a;

/// Has the entities of these rows looked at.
pub(crate) fn see_each<T>(
    rows: impl IntoIterator<Item = T>,
    see: &mut See<'_>,
    show: impl Fn(&T) -> Entity,
) -> ControlFlow<()> {
    rows.into_iter().try_for_each(|row| see(&|| show(&row)))
}

/// The router, as its management agent sees it.
pub(crate) trait Backend {
    /// Has the entities of one type looked at, as they are now and in an order that stays.
    fn entities(&mut self, schema: &'static Schema, see: &mut See<'_>) -> ControlFlow<()>;

    /// The entities of one type that may be the one that is meant: at least all that have its name
    /// or its identity, each once.
    fn candidates(&mut self, schema: &'static Schema, subject: &Subject) -> Vec<Entity>;

    /// Puts an entity to work; returns it with its identity.
    fn create(&mut self, entity: Entity) -> Result<Entity, Refusal>;

    /// Makes an entity what it is to be.
    fn update(
        &mut self,
        entity: &Entity,
        attributes: &[(String, Value)],
    ) -> Result<Entity, Refusal>;

    /// Takes an entity out of work.
    fn delete(&mut self, entity: &Entity) -> Result<(), Refusal>;

    /// Hears that a change is not made.
    fn refused(&mut self, operation: &'static str, refusal: &Refusal);

    /// The management addresses of all routers that this one knows, its own included.
    fn nodes(&mut self) -> Vec<String>;

    /// Begins to look at how busy the router is, or tells of it; none if nothing has begun. Without
    /// a step it only gives something if something has begun.
    fn profile(&mut self, step: Option<ProfileStep>) -> Option<Value>;

    /// The last lines of the log, the oldest first.
    fn log(&mut self, limit: usize) -> Vec<Value>;
}

/// Reads a request. One that nobody awaits an answer to is `Ok(None)`.
///
/// # Errors
/// The answer, where the request makes no sense.
pub(crate) fn parse(message: &Message) -> Result<Option<Request>, Box<Message>> {
    let properties = message.properties.as_ref();
    let to = properties.and_then(|properties| properties.reply_to.clone());
    let Some(to) = to.filter(|to| !to.is_empty()) else {
        return Ok(None);
    };
    let correlation = properties.and_then(|properties| properties.correlation_id.clone());
    let reply = Reply { to, correlation };
    let name = message.application_property("operation");
    let name = name.and_then(Value::as_str).unwrap_or_default();
    let name = name.chars().take(MAX_NAME).collect();
    match request::operation(message) {
        Ok(operation) => Ok(Some(Request {
            reply,
            operation,
            name,
        })),
        Err(refusal) => Err(Box::new(reply.refuse(refusal))),
    }
}

/// What a request that makes no sense was to change, and why it does not, if that is worth telling.
pub(crate) fn refused_change(request: &Message, answer: &Message) -> Option<(String, String)> {
    let operation = request.application_property("operation")?.as_str()?;
    let operation = operation.to_ascii_uppercase();
    let why = answer.application_property("statusDescription")?.as_str()?;
    // It repeats what the client wrote, which may be long.
    let why = why.chars().take(MAX_REASON).collect();
    matches!(&*operation, "CREATE" | "UPDATE" | "DELETE").then_some((operation, why))
}

/// Looks at what carrying the request out would look at, for its owner to see what that is.
pub(crate) fn look(request: &Request, backend: &mut dyn Backend) {
    match &request.operation {
        Operation::Query {
            schema,
            names,
            offset,
            count,
        } => {
            let _ = query(*schema, names.clone(), *offset, *count, backend);
        }
        Operation::Read(subject)
        | Operation::Delete(subject)
        | Operation::Update { subject, .. }
        | Operation::Call { subject, .. }
        | Operation::Unknown { subject, .. }
        | Operation::Profile { subject, .. } => {
            let _ = find(subject, backend);
        }
        Operation::Create { .. }
        | Operation::Describe { .. }
        | Operation::Nodes
        | Operation::Log { .. }
        | Operation::Reload => {}
    }
}

/// Carries a request out and words the answer.
pub(crate) fn answer(request: Request, backend: &mut dyn Backend) -> Message {
    let change = request.operation.change();
    match perform(request.operation, backend) {
        Ok((code, body)) => request.reply.message(code, reason(code), body),
        Err(refusal) => {
            if let Some(operation) = change {
                backend.refused(operation, &refusal);
            }
            request.reply.refuse(refusal)
        }
    }
}

/// Words the answer to a request that its owner has carried out.
pub(crate) fn answer_with(request: Request, outcome: Result<Value, Refusal>) -> Message {
    match outcome {
        Ok(body) => request.reply.message(OK, reason(OK), body),
        Err(refusal) => request.reply.refuse(refusal),
    }
}

fn perform(operation: Operation, backend: &mut dyn Backend) -> Result<(i32, Value), Refusal> {
    match operation {
        Operation::Query {
            schema,
            names,
            offset,
            count,
        } => Ok((OK, query(schema, names, offset, count, backend)?)),
        Operation::Create { schema, attributes } => {
            allowed(schema, "CREATE")?;
            let entity = Entity::create_asked(schema, attributes).map_err(Refusal::of_all)?;
            Ok((CREATED, backend.create(entity)?.to_map()))
        }
        Operation::Read(subject) => Ok((OK, find(&subject, backend)?.to_map())),
        Operation::Update {
            subject,
            attributes,
        } => {
            let entity = match subject.schema {
                Some(schema) if schema.name == "connection" => {
                    connection_to_update(&subject, &attributes, backend)?
                }
                _ => find(&subject, backend)?,
            };
            allowed(entity.schema(), "UPDATE")?;
            Ok((OK, backend.update(&entity, &attributes)?.to_map()))
        }
        Operation::Delete(subject) => {
            let entity = find(&subject, backend)?;
            allowed(entity.schema(), "DELETE")?;
            backend.delete(&entity)?;
            Ok((NO_CONTENT, Value::Map(Vec::new())))
        }
        Operation::Call {
            subject,
            properties,
        } => {
            allowed(find(&subject, backend)?.schema(), "CALLME")?;
            let properties = properties.into_iter();
            let properties = properties.map(|(key, value)| (Value::from(key), value));
            Ok((OK, Value::Map(properties.collect())))
        }
        Operation::Unknown { subject, name } => {
            Err(not_implemented(find(&subject, backend)?.schema(), &name))
        }
        Operation::Describe { schema, aspect } => Ok((OK, describe::describe(schema, aspect))),
        Operation::Nodes => {
            let nodes = backend.nodes().into_iter().map(Value::from).collect();
            Ok((OK, Value::List(nodes)))
        }
        Operation::Log { limit } => Ok((OK, Value::List(backend.log(limit)))),
        Operation::Profile { subject, step } => {
            allowed(find(&subject, backend)?.schema(), "PROFILE")?;
            let Some(body) = backend.profile(step) else {
                return Err(Refusal::bad_request("Profiler not started"));
            };
            match step {
                Some(_) => Ok((OK, body)),
                None => Err(Refusal::bad_request(
                    "Bad profile request: it has neither 'start' nor 'stop'",
                )),
            }
        }
        // Its owner does that, which takes time: see `answer_with`.
        Operation::Reload => Err(Refusal::new(501, "RELOAD is not possible here")),
    }
}

fn allowed(schema: &Schema, operation: &str) -> Result<(), Refusal> {
    match schema.allows(operation) {
        true => Ok(()),
        false => Err(not_implemented(schema, operation)),
    }
}

fn not_implemented(schema: &Schema, operation: &str) -> Refusal {
    let possible: Vec<&str> = schema.listed_operations().collect();
    Refusal::new(
        501,
        format!(
            "Operation '{operation}' not implemented for '{}' ['{}']",
            schema.full_name(),
            possible.join("', '")
        ),
    )
}

/// The name and identity of the agent as an entity.
const SELF: &str = "self";
/// Characters of an operation's name that the log repeats.
const MAX_NAME: usize = 64;
/// Characters of the reason against a request that the log repeats.
const MAX_REASON: usize = 200;
