use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::codec::{Body, MessageId, Properties};

mod descriptions;
mod queries;
mod refusals;

/// A router with three addresses and nothing else; what it has heard of refusals, and how often it
/// has shown an entity.
#[derive(Default)]
struct Fake(Vec<Entity>, Vec<String>, Cell<usize>);

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
    fn entities(&mut self, schema: &'static Schema, see: &mut See<'_>) -> ControlFlow<()> {
        let rows = self.0.iter();
        let rows = rows.filter(|entity| entity.schema().name == schema.name);
        see_each(rows, see, |entity| {
            self.2.set(self.2.get() + 1);
            (*entity).clone()
        })
    }

    fn candidates(&mut self, schema: &'static Schema, _subject: &Subject) -> Vec<Entity> {
        let rows = self.0.iter();
        let rows = rows.filter(|entity| entity.schema().name == schema.name);
        rows.cloned().collect()
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

    fn refused(&mut self, operation: &'static str, refusal: &Refusal) {
        self.1.push(format!("{operation}: {refusal}"));
    }

    fn nodes(&mut self) -> Vec<String> {
        vec!["amqp:/_topo/0/R/$management".into()]
    }

    fn profile(&mut self, step: Option<ProfileStep>) -> Option<Value> {
        match step {
            Some(ProfileStep::Start) => {
                self.1.push("profiling".into());
                Some(Value::Null)
            }
            _ => self.1.first().map(|text| text.as_str().into()),
        }
    }

    fn log(&mut self, _: usize) -> Vec<Value> {
        Vec::new()
    }
}

fn request_message(properties: &[(&str, Value)], body: Value) -> Message {
    Message {
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
    }
}

fn ask(backend: &mut Fake, properties: &[(&str, Value)], body: Value) -> Message {
    match parse(&request_message(properties, body)) {
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

fn description(message: &Message) -> &str {
    message
        .application_property("statusDescription")
        .and_then(Value::as_str)
        .expect("always there")
}

fn entity(kind: &str, attributes: &[(&str, Value)]) -> Entity {
    let schema = Schema::find(kind).expect("known");
    let attributes = attributes
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone()));
    Entity::create(schema, attributes).expect("valid")
}

fn words<const N: usize>(words: [&str; N]) -> Value {
    Value::List(words.into_iter().map(Value::from).collect())
}

fn names<const N: usize>(names: [&str; N]) -> Value {
    Value::Map(vec![("attributeNames".into(), words(names))])
}

fn strings(properties: &[(&'static str, &str)]) -> Vec<(&'static str, Value)> {
    properties
        .iter()
        .map(|(key, value)| (*key, Value::from(*value)))
        .collect()
}

#[test]
fn every_form_of_correlation_id_comes_back() {
    let ids = [
        MessageId::Ulong(7),
        MessageId::Uuid([1; 16]),
        MessageId::Binary(bytes::Bytes::from_static(b"x")),
        MessageId::String("7".into()),
    ];
    for id in ids.into_iter().map(Some).chain([None]) {
        for operation in ["GET-MGMT-NODES", "nonsense"] {
            let message = Message {
                properties: Some(Properties {
                    reply_to: Some("me".into()),
                    correlation_id: id.clone(),
                    ..Properties::default()
                }),
                application_properties: vec![("operation".into(), operation.into())],
                ..Message::default()
            };
            let answer = match parse(&message) {
                Ok(request) => answer(request.expect("to answer"), &mut Fake::default()),
                Err(answer) => *answer,
            };
            assert_eq!(answer.properties.expect("always there").correlation_id, id);
        }
    }
}

#[test]
fn create_takes_name_and_type_from_where_they_are() {
    let mut backend = Fake::default();
    let map = |entries: &[(&str, &str)]| {
        let entries = entries
            .iter()
            .map(|(k, v)| (Value::from(*k), Value::from(*v)));
        Value::Map(entries.collect())
    };
    let create = strings(&[("operation", "CREATE")]);
    let whole = map(&[
        ("type", "io.skupper.router.listener"),
        ("name", "l"),
        ("host", "h"),
    ]);
    let made = ask(&mut backend, &create, whole.clone());
    assert_eq!((status(&made), description(&made)), (201, "Created"));
    assert_eq!(body(&made).get("name"), Some(&"l".into()));
    assert_eq!(
        body(&made).get("identity"),
        Some(&"listener/h:amqp:l".into())
    );
    for (key, value) in [("name", "m"), ("type", "connector")] {
        let create = strings(&[("operation", "CREATE"), (key, value)]);
        let answer = ask(&mut backend, &create, whole.clone());
        assert_eq!(
            description(&answer),
            format!("Conflicting values for '{key}'")
        );
    }
    let own = map(&[("type", "listener"), ("identity", "mine")]);
    assert_eq!(
        description(&ask(&mut backend, &create, own)),
        "Cannot set attribute 'identity' in CREATE: it is the router's to say (listener)"
    );
}

#[test]
fn a_query_says_what_it_is_about_in_one_of_two_places() {
    let all = ask(
        &mut Fake::with_addresses(),
        &[("operation", "QUERY".into())],
        Value::Null,
    );
    for (properties, same_as_all) in [
        (&[("type", "org.amqp.management")][..], true),
        (
            &[("type", "io.skupper.router.router.config.address")],
            false,
        ),
        (&[("entityType", "address"), ("type", "listener")], false),
    ] {
        let mut asked = strings(properties);
        asked.push(("operation", "QUERY".into()));
        let answer = ask(&mut Fake::with_addresses(), &asked, Value::Null);
        assert_eq!(status(&answer), 200, "{properties:?}");
        let names = body(&answer).get("attributeNames").expect("names");
        assert_eq!(
            body(&all).get("attributeNames") == Some(names),
            same_as_all,
            "{properties:?}"
        );
        if !same_as_all {
            let Value::List(names) = names else {
                panic!("no list: {names:?}")
            };
            assert!(names.contains(&"distribution".into()), "{properties:?}");
        }
    }
    let unknown = strings(&[("operation", "QUERY"), ("type", "nonsense")]);
    let refused = ask(&mut Fake::with_addresses(), &unknown, Value::Null);
    assert_eq!(status(&refused), 400);
}

#[test]
fn a_dummy_can_be_called() {
    let mut backend = Fake::default();
    let dummy = [("type", Value::from("dummy")), ("name", "d".into())];
    let with = |operation: &str| {
        let mut properties = vec![("operation", Value::from(operation))];
        properties.extend(dummy.iter().cloned());
        properties
    };
    let made = ask(
        &mut backend,
        &with("CREATE"),
        Value::Map(vec![("num1".into(), 7u32.into())]),
    );
    assert_eq!(status(&made), 201);
    assert_eq!(body(&made).get("identity"), Some(&"dummy/0".into()));
    let called = ask(&mut backend, &with("CALLME"), Value::Null);
    assert_eq!(
        (status(&called), body(&called).get("name")),
        (200, Some(&"d".into()))
    );
    let agent = strings(&[("operation", "callme")]);
    assert_eq!(status(&ask(&mut backend, &agent, Value::Null)), 501);
}

#[test]
fn profiling_starts_and_stops() {
    let mut backend = Fake::default();
    let mut profile = |step: &[(&'static str, &'static str)]| {
        let request = [&[("operation", "PROFILE")], step].concat();
        let answer = ask(&mut backend, &strings(&request), Value::Null);
        let text = answer.application_property("statusDescription");
        let text = text.and_then(Value::as_str).unwrap_or_default().to_owned();
        (status(&answer), text, body(&answer).clone())
    };
    for step in [&[][..], &[("stop", "")]] {
        let (status, text, _) = profile(step);
        assert_eq!((status, &*text), (400, "Profiler not started"));
    }
    let (status, _, body) = profile(&[("start", "")]);
    assert_eq!((status, body), (200, Value::Null));
    let (status, text, _) = profile(&[]);
    assert_eq!(status, 400);
    assert!(text.starts_with("Bad profile request"), "{text}");
    let (status, _, body) = profile(&[("stop", "")]);
    assert_eq!((status, body), (200, "profiling".into()));
}

#[test]
fn secrets_never_leave() {
    let mut backend = Fake::default();
    let create = strings(&[
        ("operation", "CREATE"),
        ("type", "connector"),
        ("name", "c"),
    ]);
    let password = Value::Map(vec![("saslPassword".into(), "hush".into())]);
    let message = request_message(&create, password.clone());
    let parsed = parse(&message).expect("valid").expect("to answer");
    assert!(!format!("{parsed:?} {parsed}").contains("hush"));
    assert_eq!(parsed.to_string(), "CREATE io.skupper.router.connector");
    let mut answers = vec![ask(&mut backend, &create, password)];
    let of = |operation| {
        strings(&[
            ("operation", operation),
            ("type", "connector"),
            ("name", "c"),
        ])
    };
    answers.push(ask(&mut backend, &of("READ"), Value::Null));
    answers.push(ask(&mut backend, &of("QUERY"), Value::Null));
    answers.push(ask(
        &mut backend,
        &of("QUERY"),
        names(["name", "saslPassword"]),
    ));
    assert_eq!(backend.0[0].text("saslPassword"), Some("hush"));
    for answer in answers {
        assert!(status(&answer) < 300);
        assert!(!format!("{answer:?}").contains("hush"));
    }
}

#[test]
fn the_agent_is_an_entity_too() {
    let mut backend = Fake::default();
    for subject in [
        &[][..],
        &[("name", "self")],
        &[("type", "org.amqp.management"), ("identity", "self")],
    ] {
        let mut properties = strings(&[("operation", "READ")]);
        properties.extend(strings(subject));
        let answer = ask(&mut backend, &properties, Value::Null);
        assert_eq!(
            body(&answer).get("type"),
            Some(&"io.skupper.router.management".into())
        );
    }
}

proptest! {
    #[test]
    fn every_request_is_answered_once(
        operation in "(QUERY|CREATE|READ|UPDATE|DELETE|GET-[A-Z]{3,10}|[a-z]{0,4})",
        kind in "(address|listener|log|management|org.amqp.management|[a-z]{0,3})",
        name in "[a-c]?",
        offset in any::<i8>(),
        keys in proptest::collection::vec(("(name|type|prefix|attributeNames|[a-z]{2})", any::<u8>()), 0..4),
    ) {
        let properties = [
            ("operation", Value::from(operation)),
            ("type", kind.as_str().into()),
            ("entityType", kind.into()),
            ("name", name.into()),
            ("offset", Value::Byte(offset)),
        ];
        let body = keys.into_iter().map(|(key, n)| (Value::from(key), Value::from(n)));
        let answer = ask(&mut Fake::with_addresses(), &properties, Value::Map(body.collect()));
        prop_assert!((200..600).contains(&status(&answer)));
    }
}
