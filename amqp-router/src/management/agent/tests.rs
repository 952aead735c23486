use proptest::prelude::*;

use super::*;

/// A router with three addresses and nothing else; and what it has heard of refusals.
#[derive(Default)]
struct Fake(Vec<Entity>, Vec<String>);

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

    fn candidates(&mut self, schema: &'static Schema, _subject: &Subject) -> Vec<Entity> {
        self.entities(schema)
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
        (&[("operation", "FLY"), ("type", "address")], 400),
        (&[("operation", "FLY"), ("name", "z")], 404),
        (&[("operation", "QUERY"), ("entityType", "nonsense")], 400),
        (&[("operation", "CREATE")], 400),
        (&[("operation", "CREATE"), ("type", "router.node")], 501),
        // Nobody may, whether or not there is one.
        (&[("operation", "CREATE"), ("type", "connection")], 403),
        (&[("operation", "DELETE"), ("type", "connection")], 403),
        (
            &[
                ("operation", "DELETE"),
                ("type", "connection"),
                ("identity", "1"),
            ],
            403,
        ),
        (&[("operation", "CREATE"), ("type", "router.link")], 403),
        (&[("operation", "UPDATE"), ("type", "router.link")], 403),
        (&[("operation", "DELETE"), ("type", "router.link")], 403),
        (&[("operation", "READ"), ("type", "routerMetrics")], 403),
        (
            &[
                ("operation", "READ"),
                ("type", "routerMetrics"),
                ("name", "1"),
            ],
            403,
        ),
        (&[("operation", "CREATE"), ("type", "routerMetrics")], 403),
        (&[("operation", "UPDATE"), ("type", "routerMetrics")], 403),
        (&[("operation", "DELETE"), ("type", "routerMetrics")], 403),
        (
            &[("operation", "QUERY"), ("entityType", "routerMetrics")],
            200,
        ),
        (
            &[
                ("operation", "UPDATE"),
                ("type", "connection"),
                ("identity", "9"),
            ],
            400,
        ),
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
fn the_owner_hears_of_changes_that_are_refused() {
    let mut backend = Fake::with_addresses();
    for operation in ["READ", "UPDATE", "DELETE"] {
        let properties = [
            ("operation", Value::from(operation)),
            ("type", "address".into()),
            ("name", "z".into()),
        ];
        let answer = ask(&mut backend, &properties, Value::Map(Vec::new()));
        assert_eq!(answer.application_properties[0].1, Value::Int(404));
    }
    let names: Vec<_> = backend
        .1
        .iter()
        .map(|text| text.split(':').next())
        .collect();
    assert_eq!(names, [Some("UPDATE"), Some("DELETE")], "{:?}", backend.1);
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

/// Application properties of a request, and the answer's status and description.
type Case = (&'static [(&'static str, &'static str)], i64, &'static str);

#[test]
fn the_refusals_have_their_words() {
    let mut backend = Fake::with_addresses();
    backend
        .0
        .push(entity("sslProfile", &[("name", "p".into())]));
    let cases: &[Case] = &[
        (&[], 400, "No 'operation' property"),
        (
            &[("operation", "FLY")],
            501,
            "Operation 'FLY' not implemented for 'io.skupper.router.management' ['GET-SCHEMA', \
             'GET-JSON-SCHEMA', 'GET-LOG', 'PROFILE', 'RELOAD', 'QUERY', 'GET-TYPES', \
             'GET-ANNOTATIONS', 'GET-OPERATIONS', 'GET-ATTRIBUTES', 'GET-MGMT-NODES', 'READ']",
        ),
        (
            &[("operation", "QUERY"), ("entityType", "listner")],
            400,
            "No such entity type 'listner'; did you mean 'listener'?",
        ),
        (
            &[("operation", "QUERY"), ("offset", "-1")],
            400,
            "the application-property 'offset' must be a number, and not negative",
        ),
        (
            &[("operation", "CREATE")],
            400,
            "No 'type' attribute in the body, nor a 'type' property",
        ),
        (
            &[("operation", "CREATE"), ("type", "router")],
            501,
            "Operation 'CREATE' not implemented for 'io.skupper.router.router' ['READ']",
        ),
        (
            &[("operation", "CREATE"), ("type", "autoLink"), ("name", "a")],
            400,
            "direction field is mandatory (autoLink 'a')",
        ),
        (
            &[("operation", "READ"), ("type", "address")],
            400,
            "io.skupper.router.router.config.address: No name or identity provided",
        ),
        (
            &[("operation", "READ"), ("name", "z")],
            404,
            "No entity with name=z",
        ),
        (
            &[("operation", "READ"), ("type", "address"), ("name", "z")],
            404,
            "Not Found: no address with name=z",
        ),
        (
            &[("operation", "READ"), ("name", "p"), ("identity", "2")],
            400,
            "Conflicting name=p identity=2",
        ),
        // The name comes first.
        (
            &[("operation", "READ"), ("name", "q"), ("identity", "self")],
            404,
            "No entity with name=q identity=self",
        ),
        (
            &[
                ("operation", "READ"),
                ("type", "sslProfile"),
                ("name", "self"),
            ],
            400,
            "Entity type 'io.skupper.router.management' does not extend requested type \
             'io.skupper.router.sslProfile'",
        ),
        // Who names no type does not mean one of the core's.
        (
            &[("operation", "READ"), ("name", "a")],
            404,
            "No entity with name=a",
        ),
        (
            &[("operation", "DELETE"), ("type", "connection")],
            403,
            "Forbidden: DELETE is not for io.skupper.router.connection; UPDATE with \
             'adminStatus' deleted closes one",
        ),
        (
            &[
                ("operation", "UPDATE"),
                ("type", "sslProfile"),
                ("name", "p"),
            ],
            200,
            "OK",
        ),
        (
            &[("operation", "DELETE"), ("type", "log"), ("name", "p")],
            400,
            "Entity type 'io.skupper.router.sslProfile' does not extend requested type \
             'io.skupper.router.log'",
        ),
    ];
    for (properties, code, text) in cases {
        let answer = ask(&mut backend, &strings(properties), Value::Null);
        assert_eq!((status(&answer), description(&answer)), (*code, *text));
        if *code >= 300 {
            assert_eq!(body(&answer), &Value::Map(vec![]));
        }
    }
}

#[test]
fn a_malformed_request_is_refused() {
    let mut backend = Fake::default();
    let list = |value: Value| Value::Map(vec![("attributeNames".into(), value)]);
    let query = strings(&[("operation", "QUERY"), ("entityType", "listener")]);
    let bodies = [
        (Value::from("x"), "the body must be a map"),
        (list(5u32.into()), "'attributeNames' must be a list"),
        (
            list(Value::List(vec![5u32.into()])),
            "'attributeNames' must be strings",
        ),
        (
            names(["prot", "host"]),
            "Unknown attributes ['prot'] for type io.skupper.router.listener.",
        ),
        (
            list(words(["host"; 200])),
            "'attributeNames' has more names than there are attributes",
        ),
    ];
    for (body, text) in bodies {
        assert_eq!(description(&ask(&mut backend, &query, body)), text);
    }
    let create = [
        ("operation", "CREATE".into()),
        ("type", "listener".into()),
        ("name", Value::from(5u32)),
    ];
    assert_eq!(
        description(&ask(&mut backend, &create, Value::Null)),
        "the application-property 'name' must be a string"
    );
    let body = Value::Map(vec![(5u32.into(), 6u32.into())]);
    assert_eq!(
        description(&ask(&mut backend, &create[..2], body)),
        "the keys of the body must be strings"
    );
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
fn pages_go_on_over_types() {
    let mut backend = Fake::with_addresses();
    for (kind, name) in [("listener", "l"), ("sslProfile", "p"), ("sslProfile", "q")] {
        backend.0.push(entity(kind, &[("name", name.into())]));
    }
    let mut seen = Vec::new();
    for offset in 0..6u32 {
        let page = [
            ("operation", "QUERY".into()),
            ("offset", offset.into()),
            ("count", 1u32.into()),
        ];
        let answer = ask(&mut backend, &page, names(["name"]));
        let rows = body(&answer)
            .get("results")
            .and_then(Value::as_list)
            .expect("rows");
        seen.extend(
            rows.iter()
                .map(|row| row.as_list().expect("a row")[0].clone()),
        );
    }
    // Those of the core are only there for who names their type.
    assert_eq!(Value::List(seen), words(["l", "p", "q", "self"]));
    let none = [("operation", "QUERY".into()), ("count", 0u32.into())];
    let answer = ask(&mut backend, &none, Value::Null);
    assert_eq!(body(&answer).get("results"), Some(&Value::List(vec![])));
}

#[test]
fn a_query_of_all_types_shows_only_those_that_know_the_attribute() {
    let mut backend = Fake::with_addresses();
    backend.0.push(entity(
        "sslProfile",
        &[("name", "p".into()), ("certFile", "c".into())],
    ));
    backend
        .0
        .push(entity("sslProfile", &[("name", "q".into())]));
    let query = strings(&[
        ("operation", "QUERY"),
        ("entityType", "io.skupper.router.sslProfile"),
    ]);
    let answer = ask(&mut backend, &query, names(["certFile"]));
    assert_eq!(
        body(&answer).get("results"),
        Some(&Value::List(vec![words(["c"])]))
    );
    let answer = ask(&mut backend, &query[..1], names(["certFil"]));
    assert_eq!(status(&answer), 404);
    // As in skrouterd's core.
    let query = strings(&[("operation", "QUERY"), ("entityType", "address")]);
    let answer = ask(&mut backend, &query, names(["prefix", "phase"]));
    let row = |name: &str| Value::List(vec![name.into(), Value::Null]);
    let rows = Value::List(vec![row("a"), row("b"), row("c")]);
    assert_eq!(body(&answer).get("results"), Some(&rows));
}

#[test]
fn a_type_stands_for_those_that_refine_it() {
    let mut backend = Fake::with_addresses();
    backend.0.push(entity("listener", &[("name", "l".into())]));
    let mut query = |kind: &str| {
        let query = strings(&[("operation", "QUERY"), ("entityType", kind)]);
        let answer = ask(&mut backend, &query, names(["name"]));
        assert_eq!(status(&answer), 200, "{kind}");
        body(&answer).get("results").cloned().expect("always there")
    };
    let rows = |names: &[&str]| {
        let row = |name: &&str| Value::List(vec![Value::from(*name)]);
        Value::List(names.iter().map(row).collect())
    };
    assert_eq!(query("entity"), rows(&["l", "self"]));
    assert_eq!(query("configurationEntity"), rows(&["l"]));
    assert_eq!(query("operationalEntity"), rows(&["self"]));
    assert_eq!(query("org.amqp.management"), rows(&["self"]));
    assert_eq!(query("dummy"), rows(&[]));
    let read = strings(&[
        ("operation", "READ"),
        ("type", "configurationEntity"),
        ("name", "l"),
    ]);
    let answer = ask(&mut backend, &read, Value::Null);
    assert_eq!(body(&answer).get("cost"), Some(&Value::Int(1)));
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
fn the_core_shows_what_is_not_set() {
    let mut backend = Fake::with_addresses();
    let read = strings(&[("operation", "READ"), ("type", "address"), ("name", "a")]);
    let answer = ask(&mut backend, &read, Value::Null);
    assert_eq!(body(&answer).get("pattern"), Some(&Value::Null));
    backend.0.push(entity("listener", &[("name", "l".into())]));
    let read = strings(&[("operation", "READ"), ("type", "listener"), ("name", "l")]);
    let answer = ask(&mut backend, &read, Value::Null);
    assert_eq!(body(&answer).get("sslProfile"), None);
}

#[test]
fn columns_stand_in_the_order_of_the_schema() {
    let query = strings(&[("operation", "QUERY"), ("entityType", "address")]);
    let answer = ask(&mut Fake::with_addresses(), &query, Value::Map(vec![]));
    let columns = [
        "name",
        "identity",
        "type",
        "prefix",
        "distribution",
        "pattern",
        "priority",
    ];
    assert_eq!(body(&answer).get("attributeNames"), Some(&words(columns)));
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
fn an_ambiguous_name_is_no_name() {
    let mut backend = Fake::default();
    for host in ["a", "b"] {
        let mut connection = Entity::new(Schema::find("connection").expect("known"));
        connection.set("name", "same");
        connection.set("identity", host);
        backend.0.push(connection);
    }
    let update = strings(&[
        ("operation", "UPDATE"),
        ("type", "connection"),
        ("name", "same"),
    ]);
    let deleted = Value::Map(vec![("adminStatus".into(), "deleted".into())]);
    let answer = ask(&mut backend, &update, deleted.clone());
    assert_eq!(status(&answer), 400);
    assert!(description(&answer).starts_with("2 entities have name=same"));
    let update = strings(&[
        ("operation", "UPDATE"),
        ("type", "connection"),
        ("identity", "b"),
    ]);
    let answer = ask(&mut backend, &update, deleted);
    assert_eq!(body(&answer).get("adminStatus"), Some(&"deleted".into()));
    for nothing in [vec![], vec![("adminStatus".into(), Value::Null)]] {
        let answer = ask(&mut backend, &update, Value::Map(nothing));
        assert_eq!(status(&answer), 400);
        assert!(description(&answer).starts_with("Bad Request"));
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

#[test]
fn types_describe_themselves() {
    let mut backend = Fake::default();
    let mut about = |operation, kind: &str| {
        let request = strings(&[("operation", operation), ("entityType", kind)]);
        let answer = ask(&mut backend, &request, Value::Null);
        assert_eq!((status(&answer), description(&answer)), (200, "OK"));
        body(&answer).clone()
    };
    let bases = words([
        "io.skupper.router.configurationEntity",
        "io.skupper.router.entity",
    ]);
    assert_eq!(
        about("GET-TYPES", "site").get("io.skupper.router.site"),
        Some(&bases)
    );
    let management = about("GET-TYPES", "org.amqp.management");
    let bases = words([
        "io.skupper.router.org.amqp.management",
        "io.skupper.router.operationalEntity",
        "io.skupper.router.entity",
    ]);
    assert_eq!(management.get("io.skupper.router.management"), Some(&bases));
    let own = about("GET-ATTRIBUTES", "network");
    let attributes = words(["networkId", "tenantId", "name", "identity", "type"]);
    assert_eq!(own.get("io.skupper.router.network"), Some(&attributes));
    let own = about("GET-OPERATIONS", "sslProfile");
    let operations = words(["CREATE", "UPDATE", "DELETE", "READ"]);
    assert_eq!(own.get("io.skupper.router.sslProfile"), Some(&operations));
    let own = about("GET-OPERATIONS", "entity");
    assert_eq!(own.get("io.skupper.router.entity"), Some(&words([])));
    let own = about("GET-ATTRIBUTES", "address");
    let attributes = words([
        "prefix",
        "pattern",
        "distribution",
        "priority",
        "name",
        "identity",
        "type",
    ]);
    let full = "io.skupper.router.router.config.address";
    assert_eq!(own.get(full), Some(&attributes));
    assert_eq!(
        about("GET-TYPES", "").as_map().map(<[_]>::len),
        Some(Schema::all().len())
    );
    assert_eq!(about("GET-ANNOTATIONS", "site"), Value::Map(vec![]));
    let schema = about("GET-SCHEMA", "");
    let role = schema
        .get("entityTypes")
        .and_then(|types| types.get("listener")?.get("attributes")?.get("role"));
    let role = role.expect("a listener has a role");
    assert_eq!(role.get("default"), Some(&"normal".into()));
    assert_eq!(role.get("create"), Some(&true.into()));
    let described = |schema: &Value| {
        let text = schema.get("description").and_then(Value::as_str);
        text.map(str::to_owned).expect("a description")
    };
    assert!(described(role).starts_with("Who is at the other end"));
    let site = schema
        .get("entityTypes")
        .and_then(|types| types.get("site"));
    assert!(described(site.expect("there are sites")).starts_with("The site that"));
    let text = about("GET-JSON-SCHEMA", "");
    let json: serde_json::Value =
        serde_json::from_str(text.as_str().expect("a text")).expect("JSON");
    assert_eq!(json["prefix"], "io.skupper.router");
    assert_eq!(
        json["entityTypes"]["listener"]["attributes"]["cost"]["default"],
        1
    );
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
