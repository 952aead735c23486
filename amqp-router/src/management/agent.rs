//! The management protocol: requests to `$management`, and their answers
//! (`reference/router/config-and-management.md` §3).
//!
//! [`parse`] reads a request, [`answer`] carries it out; in between its owner may collect what
//! workers know. Every request that says where to answer is answered, once.

use std::fmt;
use std::ops::ControlFlow;

use crate::codec::{Body, Message, MessageId, Properties, Value};
use crate::management::entity::{Entity, Invalid};
use crate::management::schema::Schema;

mod describe;
mod request;
#[cfg(test)]
mod tests;

/// A request that makes sense.
pub(crate) struct Request {
    reply: Reply,
    operation: Operation,
    /// What it is called by who asks.
    name: String,
}

/// Where an answer goes.
#[derive(Clone, Debug)]
struct Reply {
    to: String,
    correlation: Option<MessageId>,
}

enum Operation {
    Query {
        schema: Option<&'static Schema>,
        names: Vec<String>,
        offset: usize,
        count: usize,
    },
    Create {
        schema: &'static Schema,
        attributes: Vec<(String, Value)>,
    },
    Read(Subject),
    Update {
        subject: Subject,
        attributes: Vec<(String, Value)>,
    },
    Delete(Subject),
    /// Gives the properties of the request back.
    Call {
        subject: Subject,
        properties: Vec<(String, Value)>,
    },
    /// One that there is not.
    Unknown {
        subject: Subject,
        name: String,
    },
    /// GET-TYPES and its like: what the table of entities says.
    Describe {
        schema: Option<&'static Schema>,
        aspect: describe::Aspect,
    },
    Nodes,
    Log {
        limit: usize,
    },
    /// See how busy the router is.
    Profile {
        subject: Subject,
        step: Option<ProfileStep>,
    },
    /// Read the configuration file again.
    Reload,
}

/// What is asked of PROFILE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProfileStep {
    Start,
    /// Tell of what was seen since the start.
    Stop,
}

impl Operation {
    /// Its name, if it is to change something.
    fn change(&self) -> Option<&'static str> {
        match self {
            Self::Create { .. } => Some("CREATE"),
            Self::Update { .. } => Some("UPDATE"),
            Self::Delete(_) => Some("DELETE"),
            _ => None,
        }
    }
}

/// Which entity a request is about.
pub(crate) struct Subject {
    schema: Option<&'static Schema>,
    pub(crate) name: Option<String>,
    pub(crate) identity: Option<String>,
}

/// Why a request is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: i32,
    text: String,
}

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
            let entity = Entity::create(schema, attributes).map_err(Refusal::of_all)?;
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

/// Rows `offset` to `offset + count` of a type and those that refine it, or of all types one after
/// the other.
fn query(
    schema: Option<&'static Schema>,
    names: Vec<String>,
    offset: usize,
    count: usize,
    backend: &mut dyn Backend,
) -> Result<Value, Refusal> {
    let names = columns(schema, names)?;
    let mut results = Vec::new();
    let mut skip = offset;
    let always_there = |name: &String| Schema::is_common(name);
    for schema in family(schema) {
        if results.len() == count {
            break;
        }
        // Only those count that have something to say, which the core's always have.
        let each_counts = schema.is_core() || names.iter().any(always_there);
        let _ = entities(schema, backend, &mut |show| {
            if skip > 0 && each_counts {
                skip -= 1;
                return ControlFlow::Continue(());
            }
            let entity = show();
            let row: Vec<Value> = names.iter().map(|name| entity.shown(name)).collect();
            if each_counts || row.iter().any(|value| !value.is_null()) {
                match skip {
                    0 => results.push(Value::List(row)),
                    _ => skip -= 1,
                }
            }
            match results.len() < count {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
    }
    let names = names.into_iter().map(Value::from).collect();
    Ok(Value::Map(vec![
        ("attributeNames".into(), Value::List(names)),
        ("results".into(), Value::List(results)),
    ]))
}

/// The columns of a query: those that were asked for, or all.
fn columns(schema: Option<&'static Schema>, names: Vec<String>) -> Result<Vec<String>, Refusal> {
    let schemas = match schema {
        Some(schema) => std::slice::from_ref(schema),
        None => Schema::all(),
    };
    let mut all: Vec<String> = Vec::new();
    for column in schemas.iter().flat_map(|schema| &schema.columns) {
        if !all.iter().any(|name| name == column) {
            all.push((*column).to_owned());
        }
    }
    if names.is_empty() {
        return Ok(all);
    }
    if names.len() > all.len() + SPARE_COLUMNS {
        return Err(Refusal::bad_request(
            "'attributeNames' has more names than there are attributes",
        ));
    }
    let unknown: Vec<&String> = names.iter().filter(|name| !all.contains(name)).collect();
    if unknown.is_empty() || schema.is_some_and(Schema::is_core) {
        return Ok(names);
    }
    let list: Vec<String> = unknown.iter().map(|name| format!("'{name}'")).collect();
    let of = schema.map(|schema| format!(" for type {}", schema.full_name()));
    Err(Refusal::not_found(format!(
        "Unknown attributes [{}]{}.",
        list.join(", "),
        of.unwrap_or_default()
    )))
}

fn find(subject: &Subject, backend: &mut dyn Backend) -> Result<Entity, Refusal> {
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
fn connection_to_update(
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
fn family(of: Option<&'static Schema>) -> impl Iterator<Item = &'static Schema> {
    let is_in = move |schema: &&Schema| match of {
        Some(of) if of.is_core() => schema.name == of.name,
        Some(of) => schema.is_a(of) && !schema.is_core(),
        None => !schema.is_core(),
    };
    Schema::all().iter().filter(is_in)
}

fn entities(
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

impl Request {
    /// Whether it asks to read the configuration file again.
    pub(crate) fn is_reload(&self) -> bool {
        matches!(self.operation, Operation::Reload)
    }

    /// Whether it is about what is at work, so that workers have to be asked for it.
    pub(crate) fn needs_figures(&self) -> bool {
        let schema = match &self.operation {
            Operation::Query { schema, .. } => schema,
            Operation::Read(subject)
            | Operation::Delete(subject)
            | Operation::Update { subject, .. }
            | Operation::Call { subject, .. }
            | Operation::Unknown { subject, .. } => &subject.schema,
            Operation::Create { .. }
            | Operation::Describe { .. }
            | Operation::Nodes
            | Operation::Profile { .. }
            | Operation::Reload
            | Operation::Log { .. } => return false,
        };
        schema.is_none_or(|schema| schema.operational)
    }
}

impl fmt::Display for Request {
    /// The operation, and what it is about; not what it says of it, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let (schema, subject) = match &self.operation {
            Operation::Query { schema, .. } | Operation::Describe { schema, .. } => (*schema, None),
            Operation::Create { schema, .. } => (Some(*schema), None),
            Operation::Read(subject)
            | Operation::Delete(subject)
            | Operation::Update { subject, .. }
            | Operation::Call { subject, .. }
            | Operation::Unknown { subject, .. } => (subject.schema, Some(subject)),
            Operation::Nodes
            | Operation::Log { .. }
            | Operation::Profile { .. }
            | Operation::Reload => (None, None),
        };
        if let Some(schema) = schema {
            write!(f, " {}", schema.full_name())?;
        }
        match subject {
            Some(subject) => write!(f, " {subject}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Request {
    /// Who asks; not what, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("reply", &self.reply)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.identity) {
            (Some(name), None) => write!(f, "name={name}"),
            (None, Some(identity)) => write!(f, "identity={identity}"),
            (Some(name), Some(identity)) => write!(f, "name={name} identity={identity}"),
            (None, None) => Ok(()),
        }
    }
}

impl Reply {
    fn refuse(&self, refusal: Refusal) -> Message {
        self.message(refusal.code, &refusal.text, Value::Map(Vec::new()))
    }

    fn message(&self, code: i32, description: &str, body: Value) -> Message {
        Message {
            properties: Some(Properties {
                to: Some(self.to.clone()),
                correlation_id: self.correlation.clone(),
                ..Properties::default()
            }),
            application_properties: vec![
                ("statusCode".into(), Value::Int(code)),
                ("statusDescription".into(), description.into()),
            ],
            body: Body::Value(body),
            ..Message::default()
        }
    }
}

impl Refusal {
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(400, text)
    }

    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(403, text)
    }

    pub(crate) fn stopping() -> Self {
        Self::new(500, "the router is stopping")
    }

    fn not_found(text: impl Into<String>) -> Self {
        Self::new(404, text)
    }

    fn of_all(problems: Vec<Invalid>) -> Self {
        let problems: Vec<String> = problems.iter().map(worded).collect();
        Self::bad_request(problems.join("; "))
    }

    fn new(code: i32, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::bad_request(worded(&invalid))
    }
}

/// Clients of skrouterd know some problems by how their description begins.
fn worded(Invalid { entity, problem }: &Invalid) -> String {
    format!("{problem} ({entity})")
}

fn reason(code: i32) -> &'static str {
    match code {
        CREATED => "Created",
        NO_CONTENT => "No Content",
        _ => "OK",
    }
}

const OK: i32 = 200;
const CREATED: i32 = 201;
const NO_CONTENT: i32 = 204;
/// The name and identity of the agent as an entity.
const SELF: &str = "self";
/// Characters of an operation's name that the log repeats.
const MAX_NAME: usize = 64;
/// Characters of the reason against a request that the log repeats.
const MAX_REASON: usize = 200;
/// Names of attributes that we do not know, which a query may have beside those that we do.
const SPARE_COLUMNS: usize = 64;
