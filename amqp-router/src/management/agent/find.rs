//! Which entities a request means.

use std::ops::ControlFlow;

use super::{Backend, Refusal, SELF, See, Subject};
use crate::codec::Value;
use crate::management::entity::Entity;
use crate::management::schema::Schema;

pub(super) fn find(subject: &Subject, backend: &mut dyn Backend) -> Result<Entity, Refusal> {
    let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w == is);
    let (mut found, mut named_otherwise) = (Vec::new(), false);
    for schema in family(subject.schema) {
        for entity in candidates(schema, subject, backend) {
            let named = is(&subject.name, entity.name());
            let identified = is(&subject.identity, entity.identity());
            if named && identified {
                found.push(entity);
            } else {
                named_otherwise |= named && subject.name.is_some();
            }
        }
    }
    let only = found.pop();
    match only {
        Some(entity) if found.is_empty() => return Ok(entity),
        Some(_) => {
            return Err(Refusal::bad_request(format!(
                "{} entities have {subject}: the identity or the type is needed too",
                found.len() + 1
            )));
        }
        None if named_otherwise => {
            return Err(Refusal::bad_request(format!("Conflicting {subject}")));
        }
        None => {}
    }
    match subject.schema {
        None => Err(Refusal::not_found(format!("No entity with {subject}"))),
        Some(schema) if schema.is_core() => Err(Refusal::not_found(format!(
            "Not Found: no {} with {subject}",
            schema.short_name()
        ))),
        Some(schema) => Err(of_another_type(schema, subject, backend)),
    }
}

/// There is none of this type; perhaps there is one of another.
fn of_another_type(schema: &Schema, subject: &Subject, backend: &mut dyn Backend) -> Refusal {
    let untyped = Subject {
        schema: None,
        name: subject.name.clone(),
        identity: subject.identity.clone(),
    };
    match find(&untyped, backend) {
        Ok(other) => Refusal::bad_request(format!(
            "Entity type '{}' does not extend requested type '{}'",
            other.schema().full_name(),
            schema.full_name()
        )),
        Err(_) => Refusal::not_found(format!("No entity with {subject}")),
    }
}

/// As skrouterd has it, a connection that is not there, or nothing to change, makes a bad request.
pub(super) fn connection_to_update(
    subject: &Subject,
    attributes: &[(String, Value)],
    backend: &mut dyn Backend,
) -> Result<Entity, Refusal> {
    let changeable = ["adminStatus", "enableProtocolTrace"];
    let says = |(key, value): &(String, Value)| changeable.contains(&&**key) && !value.is_null();
    if !attributes.iter().any(says) {
        return Err(Refusal::bad_request(
            "Bad Request: neither 'adminStatus' nor 'enableProtocolTrace' is there, and nothing else can be updated",
        ));
    }
    let unknown = |refusal: Refusal| match refusal.code {
        404 => Refusal::bad_request(format!("Bad Request: no connection with {subject}")),
        _ => refusal,
    };
    find(subject, backend).map_err(unknown)
}

/// A type and those that refine it, or all; but of the core's only who is named.
pub(super) fn family(of: Option<&'static Schema>) -> impl Iterator<Item = &'static Schema> {
    let is_in = move |schema: &&Schema| match of {
        Some(of) if of.is_core() => schema.name == of.name,
        Some(of) => schema.is_a(of) && !schema.is_core(),
        None => !schema.is_core(),
    };
    Schema::all().iter().filter(is_in)
}

pub(super) fn entities(
    schema: &'static Schema,
    backend: &mut dyn Backend,
    see: &mut See<'_>,
) -> ControlFlow<()> {
    match schema.name {
        "management" => see(&|| agent_itself(schema)),
        _ => backend.entities(schema, see),
    }
}

fn candidates(
    schema: &'static Schema,
    subject: &Subject,
    backend: &mut dyn Backend,
) -> Vec<Entity> {
    match schema.name {
        "management" => vec![agent_itself(schema)],
        _ => backend.candidates(schema, subject),
    }
}

fn agent_itself(schema: &'static Schema) -> Entity {
    let mut agent = Entity::new(schema);
    agent.set("name", SELF);
    agent.set("identity", SELF);
    agent
}
