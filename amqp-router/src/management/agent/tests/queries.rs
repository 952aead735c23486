//! QUERY: pages, columns and types.

use super::*;

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
fn a_page_costs_what_is_on_it() {
    let mut backend = Fake::default();
    for number in 0..1000 {
        let name = format!("p{number}");
        backend
            .0
            .push(entity("sslProfile", &[("name", name.into())]));
    }
    let mut page = |columns: &[&str], offset: u32, count: u32| {
        let query = [
            ("operation", "QUERY".into()),
            ("entityType", "sslProfile".into()),
            ("offset", offset.into()),
            ("count", count.into()),
        ];
        backend.2.set(0);
        let columns = columns.iter().map(|name| Value::from(*name)).collect();
        let columns = Value::Map(vec![("attributeNames".into(), Value::List(columns))]);
        let answer = ask(&mut backend, &query, columns);
        let rows = body(&answer).get("results").and_then(Value::as_list);
        (rows.expect("rows").len(), backend.2.get())
    };
    assert_eq!(page(&[], 0, 10), (10, 10));
    assert_eq!(page(&["name"], 500, 10), (10, 10));
    assert_eq!(page(&["name"], 995, 10), (5, 5));
    assert_eq!(page(&["name"], 2000, 10), (0, 0));
    assert_eq!(page(&[], 0, 0), (0, 0));
    // Whether it has a row at all must be seen of each.
    assert_eq!(page(&["certFile"], 0, 10), (0, 1000));
}
