//! Services of many protocols across routers, and what routers see of those that are HTTP.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::io::{Read, Write};

use interop_tests::{
    Certificates, Collector, Peer, Program, Router, RouterBuilder, Scrape, ask, available, connect,
    create, eventually, free_port, rows, tcp_connector, tcp_listener,
};
use serde_json::{Map, Value, json};

fn interior(id: &str) -> RouterBuilder {
    RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": id}))
        .listener(
            "routers",
            json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"}),
        )
}

/// Two routers with a service of a protocol at the second, which is to be had at a port of the
/// first: by this listener.
fn network(service: u16, listener: Value) -> [Router; 2] {
    let (kind, mut attributes) = tcp_listener(0, "svc");
    let attributes = attributes.as_object_mut().expect("attributes");
    attributes.extend(listener.as_object().cloned().unwrap_or_default());
    let a = interior("A")
        .entity(kind, Value::Object(attributes.clone()))
        .listener("http", json!({"http": true}))
        .start();
    let (kind, attributes) = tcp_connector(service, "svc");
    let to_a = a.port("routers").to_string();
    let to_a = json!({"name": "to A", "host": "127.0.0.1", "port": to_a, "role": "inter-router"});
    let b = interior("B")
        .entity(kind, attributes)
        .entity("connector", to_a)
        .start();
    [a, b]
}

fn at(port: u16) -> Value {
    json!({"name": "web", "port": port.to_string()})
}

/// The client of a protocol finds everything as it should be, though there are routers between.
fn works(protocol: &str) {
    if !Router::is_ours_to_configure() || !available(&[Peer::Rhea]) {
        return;
    }
    let (_service, service) = Program::serve(protocol);
    let port = free_port();
    let _network = network(service, at(port));
    drop(connect(port));
    Program::ask(protocol, port, &[]).succeed();
}

#[test]
fn grpc_works() {
    works("grpc");
}

#[test]
fn postgresql_works() {
    works("postgres");
}

#[test]
fn mqtt_works() {
    works("mqtt");
}

#[test]
fn ssh_works() {
    works("ssh");
}

/// Protocol, method, result, reason, octets of both bodies, stream and client of each request.
fn told(collector: &mut Collector, requests: usize) -> Vec<Value> {
    let records = collector.until(|collector| {
        let ended = collector.records.values();
        let ended = ended.filter(|record| record["0"] == REQUEST && record.contains_key("4"));
        let ended: Vec<_> = ended.cloned().collect();
        (ended.len() >= requests).then_some(ended)
    });
    let mut records: Vec<Map<String, Value>> = records;
    records.sort_by_key(|record| record["3"].as_u64());
    for record in &records {
        let parent = record["2"].as_str().expect("a parent");
        let connection = &collector.records[parent];
        assert_eq!(connection["0"], CONNECTION);
        assert!(record["4"].as_u64() >= record["3"].as_u64());
        assert!(record["24"].is_u64(), "the latency: {record:?}");
    }
    let of = |record: &Map<String, Value>, codes: &[&str]| {
        let value = |code: &&str| record.get(*code).cloned().unwrap_or_default();
        codes.iter().map(value).collect::<Value>()
    };
    let codes = ["16", "27", "28", "29", "23", "58", "47", "14"];
    records.iter().map(|record| of(record, &codes)).collect()
}

#[test]
fn requests_of_http_1_are_told() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Rhea, Peer::Proton]) {
        return;
    }
    let (_service, service) = Program::serve("http1");
    let port = free_port();
    let [a, b] = network(service, at(port));
    let mut collector = Collector::start(&b);
    collector.record(LISTENER, |_| true);
    // It has to have come to the first router that somebody collects.
    collector.until(|collector| {
        drop(connect(port));
        let flows = collector.records.values();
        (flows.filter(|record| record["0"] == CONNECTION).count() > 0).then_some(())
    });
    Program::ask("http1", port, &[]).succeed();
    let requests = told(&mut collector, 6);
    let line = |method: &str, status: &str, reason: &str, octets: [u64; 2], client: Value| {
        json!([
            "HTTP/1.1", method, status, reason, octets[0], octets[1], null, client
        ])
    };
    let expected = [
        line("GET", "200", "OK", [0, 5], json!("10.7.7.7")),
        line("POST", "201", "Created", [300_000, 300_000], Value::Null),
        line("PUT", "201", "Created", [9, 9], Value::Null),
        line("HEAD", "200", "OK", [0, 0], Value::Null),
        line("DELETE", "204", "No Content", [0, 0], Value::Null),
        line("GET", "404", "Not Found", [0, 12], Value::Null),
    ];
    // What the frames of chunks take is not of the body.
    assert_eq!(requests, expected);

    let responses = |class| {
        let labels = [("kind", "listener"), ("name", "web"), ("class", class)];
        Scrape::of(&a, "http").value("amqp_router_http_responses_total", &labels)
    };
    assert_eq!((responses("2xx"), responses("4xx")), (5.0, 1.0));
    let answers = Scrape::of(&a, "http");
    let answers = answers.value("amqp_router_http_answer_seconds_count", &[]);
    assert!((answers - 6.0).abs() < 0.1, "{answers}");

    // A connection that is HTTP is counted as such while it is open.
    let slow = Program::ask("http1-slow", port, &[]);
    let counters = || rows(&a, "routerMetrics")[0]["connectionCounters"].clone();
    eventually("a connection of HTTP", || {
        let counters = counters();
        counters["http1"] == 1 && counters["tcp"] == 0
    });
    drop(slow);
    eventually("none", || counters()["http1"] == 0);

    // Nobody looks any more.
    let kind = [("type", "io.skupper.router.tcpListener"), ("name", "web")];
    let update = json!(["map", [[["string", "observer"], ["string", "none"]]]]);
    let reply = ask(&a, "UPDATE", &kind, update);
    assert_eq!(reply["application_properties"]["statusCode"], 200);
    let before = responses("2xx");
    Program::ask("http1", port, &[]).succeed();
    assert_eq!((responses("2xx"), responses("4xx")), (before, 1.0));
}

#[test]
fn requests_of_http_2_are_told() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Rhea, Peer::Proton]) {
        return;
    }
    let certificates = Certificates::generate();
    let path = |name: &str| certificates.path(name).to_string_lossy().into_owned();
    let (_service, service) = Program::serve("http2");
    let (plain, secured) = (free_port(), free_port());
    let [a, _b] = network(service, at(plain));
    let profile = json!({
        "name": "tls", "certFile": path("server.pem"), "privateKeyFile": path("server.key"),
    });
    let (kind, mut listener) = tcp_listener(secured, "svc");
    listener["name"] = json!("secured");
    listener["sslProfile"] = json!("tls");
    assert_eq!(create(&a, "sslProfile", &profile), 201);
    assert_eq!(create(&a, kind, &listener), 201);
    let mut collector = Collector::start(&a);
    collector.record(LISTENER, |_| true);
    collector.until(|collector| {
        drop(connect(plain));
        let flows = collector.records.values();
        (flows.filter(|record| record["0"] == CONNECTION).count() > 0).then_some(())
    });
    let ca = path("ca.pem");
    for (number, (protocol, port, more)) in [
        ("http2", plain, vec![]),
        ("https", secured, vec![ca.as_str()]),
    ]
    .into_iter()
    .enumerate()
    {
        Program::ask(protocol, port, &more).succeed();
        let mut requests = told(&mut collector, 4 * (number + 1)).split_off(4 * number);
        // Which of the first three began first is up to the client.
        requests.sort_by_key(|request| request[6].as_u64());
        let line = |method: &str, status: &str, octets: [u64; 2], stream: u64, client: Value| {
            json!([
                "HTTP/2", method, status, null, octets[0], octets[1], stream, client
            ])
        };
        let expected = [
            line("GET", "200", [0, 5], 1, json!("10.7.7.7")),
            line("POST", "201", [300_000, 300_000], 3, Value::Null),
            line("GET", "404", [0, 12], 5, Value::Null),
            line("GET", "200", [0, 5], 7, json!("10.7.7.7")),
        ];
        assert_eq!(requests, expected, "{protocol}");
    }
}

/// What is no HTTP, and what only begins like it, passes as if nobody looked.
#[test]
fn who_looks_changes_nothing() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let service = interop_tests::echo("BYE");
    let port = free_port();
    let _network = network(service, at(port));
    for said in [
        &b"GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x01\x04\0\0\0\x01nonsense",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        b"\x16\x03\x01\x02\x00\x01",
    ] {
        let mut stream = connect(port);
        stream.write_all(said).expect("it is taken");
        stream
            .shutdown(std::net::Shutdown::Write)
            .expect("it is open");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        assert_eq!(answer, [said, b"BYE"].concat());
    }
}

const LISTENER: u32 = 4;
const CONNECTION: u32 = 16;
const REQUEST: u32 = 17;
