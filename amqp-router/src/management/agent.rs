//! The management protocol: requests to `$management`, and their answers
//! (`reference/router/config-and-management.md` §3).

use crate::codec::{Body, Message, MessageId, Properties, Value};
use crate::management::entity::{Entity, Invalid, closest};
use crate::management::schema::{PREFIX, Schema};

/// A request that makes sense.
#[derive(Debug)]
pub(crate) struct Request {
    reply: Reply,
    operation: Operation,
}

/// Where an answer goes.
#[derive(Clone, Debug)]
struct Reply {
    to: String,
    correlation: Option<MessageId>,
}

#[derive(Debug)]
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
    Read {
        target: Subject,
    },
    Update {
        target: Subject,
        attributes: Vec<(String, Value)>,
    },
    Delete {
        target: Subject,
    },
    Types {
        schema: Option<&'static Schema>,
    },
    Attributes {
        schema: Option<&'static Schema>,
    },
    Operations {
        schema: Option<&'static Schema>,
    },
    Annotations {
        schema: Option<&'static Schema>,
    },
    Nodes,
    Log {
        limit: usize,
    },
}

/// Which entity a request is about.
#[derive(Debug)]
struct Subject {
    schema: Option<&'static Schema>,
    name: Option<String>,
    identity: Option<String>,
}

/// Why a request is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    code: i32,
    text: String,
}

impl Refusal {
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self {
            code: 400,
            text: text.into(),
        }
    }

    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self {
            code: 403,
            text: text.into(),
        }
    }

    fn not_found(text: impl Into<String>) -> Self {
        Self {
            code: 404,
            text: text.into(),
        }
    }

    fn not_implemented(text: impl Into<String>) -> Self {
        Self {
            code: 501,
            text: text.into(),
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::bad_request(invalid.to_string())
    }
}

/// The router, as its management agent sees it.
pub(crate) trait Backend {
    /// The entities of one type, as they are now.
    fn entities(&mut self, schema: &'static Schema) -> Vec<Entity>;

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

    /// The management addresses of all routers that this one knows, its own included.
    fn nodes(&mut self) -> Vec<String>;

    /// The last lines of the log, the oldest first.
    fn log(&mut self, limit: usize) -> Vec<Value>;
}

/// Reads a request. One that nobody awaits an answer to is `Ok(None)`.
///
/// # Errors
/// The answer, where the request makes no sense.
pub(crate) fn parse(message: &Message) -> Result<Option<Request>, Box<Message>> {
    let properties = message.properties.as_ref();
    let Some(to) = properties.and_then(|properties| properties.reply_to.clone()) else {
        return Ok(None);
    };
    let correlation = properties.and_then(|properties| properties.correlation_id.clone());
    let reply = Reply { to, correlation };
    match operation(message) {
        Ok(operation) => Ok(Some(Request { reply, operation })),
        Err(refusal) => Err(Box::new(reply.refuse(refusal))),
    }
}

/// Carries a request out and words the answer.
pub(crate) fn answer(request: Request, backend: &mut dyn Backend) -> Message {
    match perform(request.operation, backend) {
        Ok((code, body)) => request.reply.message(code, "", body),
        Err(refusal) => request.reply.refuse(refusal),
    }
}

fn operation(message: &Message) -> Result<Operation, Refusal> {
    let property = |key: &str| message.application_property(key);
    let text = |key: &str| property(key).and_then(Value::as_str).map(str::to_owned);
    let number = |key: &str| {
        property(key)
            .and_then(Value::as_u64)
            .and_then(|n| usize::try_from(n).ok())
    };
    let Some(name) = text("operation") else {
        return Err(Refusal::bad_request(
            "the application-property 'operation' is missing",
        ));
    };
    let schema = |key: &str| -> Result<Option<&'static Schema>, Refusal> {
        let Some(kind) = text(key).filter(|kind| !kind.is_empty()) else {
            return Ok(None);
        };
        match Schema::find(&kind) {
            Some(schema) => Ok(Some(schema)),
            None => Err(unknown_type(&kind)),
        }
    };
    let body = match &message.body {
        Body::Value(value) => value.as_map().unwrap_or_default(),
        _ => &[],
    };
    let attributes = || -> Vec<(String, Value)> {
        let pairs = body
            .iter()
            .filter_map(|(k, v)| Some((k.as_str()?.to_owned(), v.clone())));
        pairs.collect()
    };
    let subject = || -> Result<Subject, Refusal> {
        let schema = schema("type")?;
        let subject = Subject {
            schema,
            name: text("name"),
            identity: text("identity"),
        };
        if subject.name.is_none() && subject.identity.is_none() {
            return Err(Refusal::bad_request(
                "neither 'name' nor 'identity' is given",
            ));
        }
        Ok(subject)
    };
    Ok(match name.to_ascii_uppercase().as_str() {
        "QUERY" => {
            let names = body
                .iter()
                .find(|(key, _)| key.as_str() == Some("attributeNames"))
                .and_then(|(_, names)| names.as_list().or_else(|| names.as_array()))
                .unwrap_or_default()
                .iter()
                .filter_map(|name| name.as_str().map(str::to_owned));
            Operation::Query {
                schema: schema("entityType")?,
                names: names.collect(),
                offset: number("offset").unwrap_or(0),
                count: number("count").unwrap_or(usize::MAX),
            }
        }
        "CREATE" => {
            let schema = schema("type")?.ok_or_else(|| {
                Refusal::bad_request("the application-property 'type' is missing")
            })?;
            let mut attributes = attributes();
            if let Some(name) = text("name") {
                attributes.retain(|(key, _)| key != "name");
                attributes.push(("name".into(), Value::from(name)));
            }
            Operation::Create { schema, attributes }
        }
        "READ" => Operation::Read { target: subject()? },
        "UPDATE" => Operation::Update {
            target: subject()?,
            attributes: attributes(),
        },
        "DELETE" => Operation::Delete { target: subject()? },
        "GET-TYPES" => Operation::Types {
            schema: schema("entityType")?,
        },
        "GET-ATTRIBUTES" => Operation::Attributes {
            schema: schema("entityType")?,
        },
        "GET-OPERATIONS" => Operation::Operations {
            schema: schema("entityType")?,
        },
        "GET-ANNOTATIONS" => Operation::Annotations {
            schema: schema("entityType")?,
        },
        "GET-MGMT-NODES" => Operation::Nodes,
        "GET-LOG" => Operation::Log {
            limit: number("limit").unwrap_or(usize::MAX),
        },
        other => {
            return Err(Refusal::not_implemented(format!(
                "operation '{other}' is not implemented"
            )));
        }
    })
}

fn perform(operation: Operation, backend: &mut dyn Backend) -> Result<(i32, Value), Refusal> {
    match operation {
        Operation::Query {
            schema,
            names,
            offset,
            count,
        } => query(schema, names, offset, count, backend).map(|body| (200, body)),
        Operation::Create { schema, attributes } => {
            allowed(schema, "CREATE")?;
            let entity = Entity::create(schema, attributes).map_err(|problems| {
                let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Refusal::bad_request(problems.join("; "))
            })?;
            backend.create(entity).map(|entity| (201, entity.to_map()))
        }
        Operation::Read { target } => find(&target, backend).map(|entity| (200, entity.to_map())),
        Operation::Update { target, attributes } => {
            let entity = find(&target, backend)?;
            allowed(entity.schema(), "UPDATE")?;
            backend
                .update(&entity, &attributes)
                .map(|entity| (200, entity.to_map()))
        }
        Operation::Delete { target } => {
            let entity = find(&target, backend)?;
            allowed(entity.schema(), "DELETE")?;
            backend
                .delete(&entity)
                .map(|()| (204, Value::Map(Vec::new())))
        }
        Operation::Types { schema } => {
            let bases = |_: &Schema| {
                Value::List(vec![
                    Value::from(format!("{PREFIX}configurationEntity")),
                    Value::from(format!("{PREFIX}entity")),
                ])
            };
            Ok((200, by_type(schema, bases)))
        }
        Operation::Attributes { schema } => Ok((
            200,
            by_type(schema, |schema| {
                Value::List(
                    schema
                        .attributes
                        .iter()
                        .map(|a| Value::from(a.name))
                        .collect(),
                )
            }),
        )),
        Operation::Operations { schema } => Ok((
            200,
            by_type(schema, |schema| {
                let others = schema.operations.iter().filter(|name| **name != "QUERY");
                Value::List(others.copied().chain(["READ"]).map(Value::from).collect())
            }),
        )),
        Operation::Annotations { schema } => Ok((200, by_type(schema, |_| Value::Map(Vec::new())))),
        Operation::Nodes => Ok((
            200,
            Value::List(backend.nodes().into_iter().map(Value::from).collect()),
        )),
        Operation::Log { limit } => Ok((200, Value::List(backend.log(limit)))),
    }
}

fn query(
    schema: Option<&'static Schema>,
    names: Vec<String>,
    offset: usize,
    count: usize,
    backend: &mut dyn Backend,
) -> Result<Value, Refusal> {
    let schemas: Vec<&'static Schema> = match schema {
        Some(schema) => vec![schema],
        None => Schema::all().iter().collect(),
    };
    let names = if names.is_empty() {
        let mut all: Vec<String> = Vec::new();
        for attribute in schemas.iter().flat_map(|schema| &schema.attributes) {
            if !all.iter().any(|name| name == attribute.name) {
                all.push(attribute.name.to_owned());
            }
        }
        all
    } else {
        names
    };
    let mut left = count;
    let mut skip = offset;
    let mut results = Vec::new();
    for schema in schemas {
        let entities = backend.entities(schema);
        let skipped = skip.min(entities.len());
        skip -= skipped;
        for entity in entities.iter().skip(skipped).take(left) {
            results.push(Value::List(
                names.iter().map(|name| entity.shown(name)).collect(),
            ));
            left -= 1;
        }
    }
    let names = names.into_iter().map(Value::from).collect();
    Ok(Value::Map(vec![
        ("attributeNames".into(), Value::List(names)),
        ("results".into(), Value::List(results)),
    ]))
}

fn find(subject: &Subject, backend: &mut dyn Backend) -> Result<Entity, Refusal> {
    let schemas: Vec<&'static Schema> = match subject.schema {
        Some(schema) => vec![schema],
        None => Schema::all().iter().collect(),
    };
    let matches = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|w| w == is);
    for schema in schemas {
        let found = backend.entities(schema).into_iter().find(|entity| {
            matches(&subject.identity, entity.identity()) && matches(&subject.name, entity.name())
        });
        if let Some(entity) = found {
            return Ok(entity);
        }
    }
    let kind = subject
        .schema
        .map_or_else(|| "entity".to_owned(), Schema::full_name);
    let which = match (&subject.name, &subject.identity) {
        (Some(name), _) => format!("name '{name}'"),
        (None, identity) => format!("identity '{}'", identity.as_deref().unwrap_or_default()),
    };
    Err(Refusal::not_found(format!("No {kind} with {which}")))
}

fn allowed(schema: &Schema, operation: &str) -> Result<(), Refusal> {
    if schema.allows(operation) {
        return Ok(());
    }
    let text = format!(
        "Operation '{operation}' not implemented on {}",
        schema.full_name()
    );
    Err(Refusal::not_implemented(text))
}

fn by_type(schema: Option<&'static Schema>, of: impl Fn(&Schema) -> Value) -> Value {
    let schemas = Schema::all()
        .iter()
        .filter(|s| schema.is_none_or(|only| only.name == s.name));
    Value::Map(
        schemas
            .map(|schema| (Value::from(schema.full_name()), of(schema)))
            .collect(),
    )
}

fn unknown_type(kind: &str) -> Refusal {
    let short = kind.strip_prefix(PREFIX).unwrap_or(kind);
    let hint = closest(short, Schema::all().iter().map(|schema| schema.name))
        .map(|close| format!("; did you mean '{close}'?"))
        .unwrap_or_default();
    Refusal::not_found(format!("No such entity type '{kind}'{hint}"))
}

impl Reply {
    fn refuse(&self, refusal: Refusal) -> Message {
        self.message(refusal.code, &refusal.text, Value::Map(Vec::new()))
    }

    fn message(&self, code: i32, description: &str, body: Value) -> Message {
        let description = if description.is_empty() {
            reason(code)
        } else {
            description
        };
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

fn reason(code: i32) -> &'static str {
    match code {
        200 => "OK",
        201 => "Created",
        204 => "No Content",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A router with three addresses and nothing else.
    #[derive(Default)]
    struct Fake(Vec<Entity>);

    impl Fake {
        fn with_addresses() -> Self {
            let mut fake = Self::default();
            for name in ["a", "b", "c"] {
                let schema = Schema::find("address").expect("known");
                let attributes = [
                    ("name".into(), name.into()),
                    ("prefix".into(), Value::from(name)),
                ];
                fake.create(Entity::create(schema, attributes).expect("valid"))
                    .expect("made");
            }
            fake
        }
    }

    impl Backend for Fake {
        fn entities(&mut self, schema: &'static Schema) -> Vec<Entity> {
            self.0
                .iter()
                .filter(|entity| entity.schema().name == schema.name)
                .cloned()
                .collect()
        }

        fn create(&mut self, mut entity: Entity) -> Result<Entity, Refusal> {
            entity.identify(self.0.len());
            self.0.push(entity.clone());
            Ok(entity)
        }

        fn update(
            &mut self,
            entity: &Entity,
            attributes: &[(String, Value)],
        ) -> Result<Entity, Refusal> {
            let mut entity = entity.clone();
            entity.update(attributes)?;
            Ok(entity)
        }

        fn delete(&mut self, entity: &Entity) -> Result<(), Refusal> {
            self.0.retain(|other| other.identity() != entity.identity());
            Ok(())
        }

        fn nodes(&mut self) -> Vec<String> {
            vec!["amqp:/_topo/0/R/$management".into()]
        }

        fn log(&mut self, _: usize) -> Vec<Value> {
            Vec::new()
        }
    }

    fn ask(backend: &mut Fake, properties: &[(&str, Value)], body: Value) -> Message {
        let message = Message {
            properties: Some(Properties {
                reply_to: Some("me".into()),
                correlation_id: Some(7u64.into()),
                ..Properties::default()
            }),
            application_properties: properties
                .iter()
                .map(|(key, value)| ((*key).to_owned(), value.clone()))
                .collect(),
            body: Body::Value(body),
            ..Message::default()
        };
        match parse(&message) {
            Ok(Some(request)) => answer(request, backend),
            Ok(None) => panic!("it has a reply-to"),
            Err(answer) => *answer,
        }
    }

    fn status(message: &Message) -> i64 {
        message
            .application_property("statusCode")
            .and_then(Value::as_i64)
            .expect("always there")
    }

    fn body(message: &Message) -> &Value {
        match &message.body {
            Body::Value(value) => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_goes_where_it_was_asked_from() {
        let answer = ask(
            &mut Fake::default(),
            &[("operation", "GET-MGMT-NODES".into())],
            Value::Null,
        );
        let properties = answer.properties.as_ref().expect("always there");
        assert_eq!(properties.to.as_deref(), Some("me"));
        assert_eq!(properties.correlation_id, Some(MessageId::Ulong(7)));
        assert_eq!(status(&answer), 200);
        let silent = Message::of_value(Value::Null);
        assert!(matches!(parse(&silent), Ok(None)));
    }

    #[test]
    fn a_query_is_paged() {
        let mut backend = Fake::with_addresses();
        let rows = |backend: &mut Fake, offset: u32, count: u32| {
            let answer = ask(
                backend,
                &[
                    ("operation", "QUERY".into()),
                    (
                        "entityType",
                        "io.skupper.router.router.config.address".into(),
                    ),
                    ("offset", offset.into()),
                    ("count", count.into()),
                ],
                Value::Map(vec![(
                    "attributeNames".into(),
                    Value::List(vec!["prefix".into()]),
                )]),
            );
            assert_eq!(status(&answer), 200);
            body(&answer).get("results").cloned().expect("always there")
        };
        let row = |name: &str| Value::List(vec![name.into()]);
        assert_eq!(
            rows(&mut backend, 0, 2),
            Value::List(vec![row("a"), row("b")])
        );
        assert_eq!(rows(&mut backend, 2, 2), Value::List(vec![row("c")]));
        assert_eq!(rows(&mut backend, 5, 2), Value::List(vec![]));
    }

    #[test]
    fn an_entity_is_made_read_changed_and_deleted() {
        let mut backend = Fake::default();
        let kind = ("type", Value::from("sslProfile"));
        let name = ("name", Value::from("p"));
        let create = [("operation", "CREATE".into()), kind.clone(), name.clone()];
        let map = |key: &str, value: &str| Value::Map(vec![(key.into(), value.into())]);
        let answer = ask(&mut backend, &create, map("certFile", "/c"));
        assert_eq!(status(&answer), 201);
        assert_eq!(body(&answer).get("identity"), Some(&"sslProfile/p".into()));
        let update = [("operation", "update".into()), kind.clone(), name.clone()];
        let answer = ask(&mut backend, &update, map("certFile", "/d"));
        assert_eq!(body(&answer).get("certFile"), Some(&"/d".into()));
        assert_eq!(
            status(&ask(&mut backend, &update, map("uidFormat", "c"))),
            400
        );
        let delete = [("operation", "DELETE".into()), kind, name];
        assert_eq!(status(&ask(&mut backend, &delete, Value::Null)), 204);
        assert_eq!(status(&ask(&mut backend, &delete, Value::Null)), 404);
    }

    #[test]
    fn what_makes_no_sense_is_said_so() {
        let mut backend = Fake::with_addresses();
        let cases: &[(&[(&str, &str)], i64)] = &[
            (&[], 400),
            (&[("operation", "FLY")], 501),
            (&[("operation", "QUERY"), ("entityType", "nonsense")], 404),
            (&[("operation", "CREATE")], 400),
            (&[("operation", "CREATE"), ("type", "connection")], 501),
            (&[("operation", "READ"), ("type", "address")], 400),
            (
                &[("operation", "READ"), ("type", "address"), ("name", "z")],
                404,
            ),
            (
                &[("operation", "UPDATE"), ("type", "address"), ("name", "a")],
                501,
            ),
        ];
        for (properties, code) in cases {
            let properties: Vec<(&str, Value)> = properties
                .iter()
                .map(|(key, value)| (*key, Value::from(*value)))
                .collect();
            assert_eq!(
                status(&ask(&mut backend, &properties, Value::Null)),
                *code,
                "{properties:?}"
            );
        }
    }
}
