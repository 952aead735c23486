//! What is refused, and in which words.

use super::*;

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
fn a_change_that_makes_no_sense_is_worth_telling() {
    let told = |operation: &str, kind: &str| {
        let request = request_message(
            &strings(&[("operation", operation), ("type", kind), ("name", "n")]),
            Value::Null,
        );
        let Err(answer) = parse(&request) else {
            panic!("there is no '{kind}'");
        };
        refused_change(&request, &answer)
    };
    let (operation, why) = told("create", "nosuch").expect("told");
    assert_eq!(operation, "CREATE");
    assert_eq!(why, "No such entity type 'nosuch'");
    assert_eq!(told("READ", "nosuch"), None);
    let (_, why) = told("DELETE", &"x".repeat(10_000)).expect("told");
    assert_eq!(why.chars().count(), 200);
}
