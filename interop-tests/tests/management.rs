//! `$management` as Proton sees it: names of attributes and types of values.

use interop_tests::{
    Job, Peer, Request, Router, RouterBuilder, Running, available, clients, eventually, fields,
    rows,
};
use serde_json::{Map, Value, json};

#[test]
fn listener_rows_show_the_configuration() {
    with_rows("listener", |rows| {
        let row = rows
            .iter()
            .find(|row| row["role"] == "normal")
            .expect("a normal listener");
        check(
            row,
            &["name", "identity", "type", "host", "port", "role"],
            Value::is_string,
        );
        check(
            row,
            &["cost", "maxFrameSize", "idleTimeoutSeconds"],
            Value::is_i64,
        );
        check(
            row,
            &[
                "authenticatePeer",
                "requireSsl",
                "requireEncryption",
                "http",
            ],
            Value::is_boolean,
        );
        assert_eq!(row["type"], "io.skupper.router.listener");
    });
}

#[test]
fn the_router_row_shows_mode_and_id() {
    with_rows("router", |rows| {
        assert_eq!(rows.len(), 1);
        check(
            &rows[0],
            &["id", "mode", "name", "identity", "type"],
            Value::is_string,
        );
        check(
            &rows[0],
            &["workerThreads", "helloIntervalSeconds"],
            Value::is_i64,
        );
        assert_eq!(rows[0]["type"], "io.skupper.router.router");
    });
}

#[test]
fn addresses_have_the_columns_that_tools_know() {
    let Some(router) = reachable() else { return };
    let kind = ("entityType", "io.skupper.router.router.address");
    let reply = ask(&router, "QUERY", &[kind], &[]);
    let columns = reply["body"]["attributeNames"].as_array().expect("names");
    assert_eq!(columns.len(), 23, "{columns:?}");
    assert_eq!(columns.last(), Some(&json!("watch")));
}

#[test]
fn profiling_tells_how_busy_the_threads_are() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let router = RouterBuilder::plain()
        .router(json!({"workerThreads": 2}))
        .start();
    let profile = |step: &[(&str, &str)]| ask(&router, "PROFILE", step, &[]);
    let early = profile(&[("stop", "")]);
    assert_eq!(status(&early), 400, "{early}");
    let started = profile(&[("start", "")]);
    assert_eq!(
        (status(&started), &started["body"]),
        (200, &Value::Null),
        "{started}"
    );
    let stopped = profile(&[("stop", "")]);
    assert_eq!(status(&stopped), 200, "{stopped}");
    let table = stopped["body"].as_str().expect("a text");
    for thread in ["worker 0", "worker 1", "in all"] {
        assert!(
            table.lines().any(|line| line.starts_with(thread)),
            "{table}"
        );
    }
}

#[test]
fn connection_rows_show_the_asker() {
    with_rows("connection", |rows| {
        let row = rows
            .iter()
            .find(|row| row["container"] == "proton")
            .expect("the asker's connection");
        check(
            row,
            &[
                "container",
                "host",
                "dir",
                "role",
                "identity",
                "operStatus",
                "adminStatus",
            ],
            Value::is_string,
        );
        check(
            row,
            &["opened", "isAuthenticated", "isEncrypted", "ssl"],
            Value::is_boolean,
        );
        check(row, &["uptimeSeconds"], Value::is_i64);
        assert_eq!(row["dir"], "in");
        assert_eq!(row["role"], "normal");
    });
}

#[test]
fn a_connection_shows_when_it_last_had_a_delivery() {
    let Some((router, receiver)) = with_receiver("rows.of.deliveries") else {
        return;
    };
    let links = rows(&router, "router.link");
    let link = links
        .iter()
        .find(|row| row["owningAddr"] == "Mrows.of.deliveries");
    let connection = link.expect("the receiver's link")["connectionId"].clone();
    let last = || {
        let rows = rows(&router, "connection");
        let row = rows.into_iter().find(|row| row["identity"] == connection);
        row.expect("the receiver's connection")["lastDlvSeconds"].clone()
    };
    assert_eq!(last(), Value::Null);
    let sent = Peer::Proton.start(&router, Job::send("rows.of.deliveries").count(1));
    assert_eq!(sent.finish().named("outcome").len(), 1);
    eventually("the delivery is noticed", || {
        last().as_i64().is_some_and(|s| s < 10)
    });
    drop(receiver);
}

#[test]
fn link_rows_show_links_and_their_counters() {
    let Some((router, _receiver)) = with_receiver("rows.of.links") else {
        return;
    };
    let rows = query(&router, "router.link");
    let mine = |row: &&Map<String, Value>| {
        row["owningAddr"]
            .as_str()
            .is_some_and(|a| a.ends_with("rows.of.links"))
    };
    let row = rows.iter().find(mine).expect("the receiver's link");
    check(
        row,
        &[
            "linkType",
            "linkDir",
            "owningAddr",
            "operStatus",
            "linkName",
            "identity",
        ],
        Value::is_string,
    );
    check(
        row,
        &[
            "deliveryCount",
            "acceptedCount",
            "rejectedCount",
            "releasedCount",
            "modifiedCount",
        ],
        Value::is_i64,
    );
    check(
        row,
        &[
            "presettledCount",
            "undeliveredCount",
            "unsettledCount",
            "capacity",
            "priority",
        ],
        Value::is_i64,
    );
    assert_eq!(row["linkDir"], "out");
    assert_eq!(row["linkType"], "endpoint");
}

#[test]
fn address_rows_show_subscribers() {
    let Some((router, _receiver)) = with_receiver("rows.of.addresses") else {
        return;
    };
    let rows = query(&router, "router.address");
    let row = rows
        .iter()
        .find(|row| row["key"] == "Mrows.of.addresses")
        .expect("the receiver's address");
    check(
        row,
        &["key", "distribution", "name", "identity"],
        Value::is_string,
    );
    check(
        row,
        &[
            "deliveriesIngress",
            "deliveriesEgress",
            "remoteCount",
            "priority",
        ],
        Value::is_i64,
    );
    assert_eq!(row["subscriberCount"], 1);
    assert_eq!(row["distribution"], "balanced");
}

#[test]
fn the_metrics_row_counts() {
    with_rows("routerMetrics", |rows| {
        let counts = [
            "connectionCount",
            "linkCount",
            "addrCount",
            "acceptedDeliveries",
            "deliveriesIngress",
        ];
        check(&rows[0], &counts, Value::is_i64);
        assert!(rows[0]["connectionCount"].as_i64() >= Some(1));
    });
}

#[test]
fn the_answers_of_the_agent_are_not_counted_as_clients_messages() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let router = RouterBuilder::plain().start();
    let count = |of: &str| rows(&router, "routerMetrics")[0][of].as_i64();
    let before = count("deliveriesIngress").expect("a count");
    assert_eq!(count("deliveriesIngress"), Some(before + 1), "a request");
    // Only the answers leave by clients' links; requests end in the router.
    let before = count("deliveriesEgress").expect("a count");
    assert_eq!(count("deliveriesEgress"), Some(before + 1), "an answer");
}

#[test]
fn log_rows_count_what_was_logged() {
    with_rows("logStats", |rows| {
        let of = |module: &str| {
            let row = rows.iter().find(|row| row["name"] == module);
            row.unwrap_or_else(|| panic!("no row of {module}"))
        };
        let server = of("SERVER");
        assert_eq!(server["identity"], "logStats/SERVER");
        check(server, &["debugCount", "errorCount"], Value::is_i64);
        // It has said that it listens.
        assert!(server["infoCount"].as_i64() > Some(0), "{server:?}");
        assert_eq!(of("HTTP")["criticalCount"], 0);
    });
}

#[test]
fn query_answers_only_the_attributes_asked_for() {
    let Some(router) = reachable() else { return };
    let names = ["linkDir", "identity"].map(|name| json!(["string", name]));
    let reply = ask(
        &router,
        "QUERY",
        &[("entityType", "io.skupper.router.router.link")],
        &names,
    );
    assert_eq!(
        reply["body"]["attributeNames"],
        json!(["linkDir", "identity"]),
        "{reply}"
    );
    let rows = reply["body"]["results"].as_array().expect("rows");
    assert!(
        rows.iter()
            .all(|row| row.as_array().is_some_and(|row| row.len() == 2)),
        "{reply}"
    );
}

clients!(every_client_can_ask);

/// Creates, reads and deletes an address, and is told why it cannot do so again.
fn every_client_can_ask(peer: Peer) {
    let Some(router) = reachable() else { return };
    let name = format!("asked by {peer:?}");
    let prefix = format!("asked/{peer:?}");
    let kind = "io.skupper.router.router.config.address";
    let request = |operation: &str, body: Value| Request {
        body,
        application_properties: fields([
            ("operation", json!(["string", operation])),
            ("type", json!(["string", kind])),
            ("name", json!(["string", name])),
        ]),
        ..Request::text(operation, "")
    };
    let none = || json!(["map", []]);
    let attributes = json!([
        "map",
        [
            [["string", "prefix"], ["string", prefix]],
            [["string", "distribution"], ["string", "closest"]],
        ]
    ]);
    let story = [
        ("CREATE", attributes.clone(), 201),
        ("CREATE", attributes, 400),
        ("READ", none(), 200),
        ("DELETE", none(), 204),
        ("DELETE", none(), 404),
    ];
    for (operation, body, status) in story {
        let job = Job::request("$management", vec![request(operation, body)]).describe();
        let answered = peer.start(&router, job).finish();
        let answer = answered.named("message")[0];
        assert_eq!(answer["correlation_id"], operation, "{answered}");
        let properties = &answer["message"]["application_properties"];
        assert_eq!(
            properties["statusCode"],
            json!(["int", status]),
            "{answered}"
        );
        if status == 200 {
            let text = answer["message"].to_string();
            assert!(
                text.contains(&prefix) && text.contains("closest"),
                "{answered}"
            );
        }
    }
}

#[test]
fn an_address_is_created_read_and_deleted() {
    let Some(router) = reachable() else { return };
    let kind = ("type", "io.skupper.router.router.config.address");
    let name = ("name", "interop-created");
    let attributes = json!([
        "map",
        [
            [["string", "name"], ["string", "interop-created"]],
            [["string", "prefix"], ["string", "interop.created"]],
            [["string", "distribution"], ["string", "multicast"]]
        ]
    ]);
    let created = ask_with(&router, "CREATE", &[kind, name], attributes);
    assert_eq!(status(&created), 201, "{created}");
    assert_eq!(created["body"]["distribution"], "multicast", "{created}");
    let read = ask(&router, "READ", &[kind, name], &[]);
    assert_eq!(status(&read), 200, "{read}");
    assert_eq!(read["body"]["prefix"], "interop.created", "{read}");
    let deleted = ask(&router, "DELETE", &[kind, name], &[]);
    assert_eq!(status(&deleted), 204, "{deleted}");
    let gone = ask(&router, "READ", &[kind, name], &[]);
    assert_eq!(status(&gone), 404, "{gone}");
}

#[test]
fn an_unknown_type_is_an_error() {
    let Some(router) = reachable() else { return };
    let reply = ask(
        &router,
        "CREATE",
        &[("type", "io.skupper.router.nonsense"), ("name", "x")],
        &[],
    );
    assert!((400..=599).contains(&status(&reply)), "{reply}");
    assert!(
        reply["application_properties"]["statusDescription"].is_string(),
        "{reply}"
    );
}

/// Runs `story` on the rows of an entity type, by its short name.
fn with_rows(entity: &str, story: impl Fn(&[Map<String, Value>])) {
    if let Some(router) = reachable() {
        story(&query(&router, entity));
    }
}

fn with_receiver(address: &str) -> Option<(std::sync::Arc<Router>, Running)> {
    let router = reachable()?;
    let mut receiver = Peer::Fe2o3.start(&router, Job::receive(address));
    receiver.expect("attached");
    Some((router, receiver))
}

fn reachable() -> Option<std::sync::Arc<Router>> {
    available(&[Peer::Proton]).then(Router::shared)
}

fn check(row: &Map<String, Value>, names: &[&str], is: impl Fn(&Value) -> bool) {
    for name in names {
        let value = row
            .get(*name)
            .unwrap_or_else(|| panic!("no attribute '{name}' in {row:?}"));
        assert!(is(value), "'{name}' is {value}");
    }
}

fn query(router: &Router, entity: &str) -> Vec<Map<String, Value>> {
    let kind = format!("io.skupper.router.{entity}");
    let reply = ask(router, "QUERY", &[("entityType", &kind)], &[]);
    assert_eq!(status(&reply), 200, "{reply}");
    let names = reply["body"]["attributeNames"].as_array().expect("names");
    let rows = reply["body"]["results"].as_array().expect("rows");
    let row = |row: &Value| {
        let values = row.as_array().expect("a row").iter().cloned();
        names
            .iter()
            .map(|name| name.as_str().expect("a name").to_owned())
            .zip(values)
            .collect()
    };
    rows.iter().map(row).collect()
}

/// Asks with a body `{attributeNames: names}`.
fn ask(router: &Router, operation: &str, properties: &[(&str, &str)], names: &[Value]) -> Value {
    let body = json!(["map", [[["string", "attributeNames"], ["list", names]]]]);
    ask_with(router, operation, properties, body)
}

fn ask_with(router: &Router, operation: &str, properties: &[(&str, &str)], body: Value) -> Value {
    let mut application_properties = fields([("operation", json!(["string", operation]))]);
    let more = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), json!(["string", value])));
    application_properties.extend(more);
    let request = Request {
        body,
        application_properties,
        ..Request::text("asked", "")
    };
    let job = Job::request("$management", vec![request]).plain_body();
    let answered = Peer::Proton.start(router, job).finish();
    let reply = answered.named("message")[0].clone();
    assert_eq!(reply["correlation_id"], "asked", "{answered}");
    reply
}

fn status(reply: &Value) -> i64 {
    reply["application_properties"]["statusCode"]
        .as_i64()
        .expect("a status code")
}
