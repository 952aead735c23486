//! Ten thousand entities come and go while messages flow.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::net::TcpStream;
use std::time::{Duration, Instant};

use interop_tests::{
    Job, Peer, Request, Router, RouterBuilder, ask, available, check_echo, echo, eventually,
    fields, free_port, skip, tcp_connector,
};
use serde_json::{Value, json};

#[test]
fn ten_thousand_listeners_and_addresses_come_and_go_while_messages_flow() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return skip("it needs Proton, and a router of ours");
    }
    let service = echo("many");
    let ports: Vec<u16> = (0..SERVED).map(|_| free_port()).collect();
    let router = RouterBuilder::plain().start();
    let before = router.resident_memory();
    let mut receiving = Peer::Proton.start(&router, traffic(Job::receive("flow")));
    receiving.expect("attached");

    let started = Instant::now();
    create_first(MANY, &router, &ports);
    let created = started.elapsed();
    assert_eq!(count(&router, "tcpListener"), MANY);
    assert_eq!(count(&router, "router.config.address"), MANY + OTHERS);
    for number in 0..SERVED {
        let address = format!("service {number}");
        let (kind, mut connector) = tcp_connector(service, &address);
        connector["name"] = json!(format!("connector {number}"));
        assert_eq!(interop_tests::create(&router, kind, &connector), 201);
    }
    for port in &ports {
        check_echo(*port, 1000, "many");
    }
    let with_all = router.resident_memory();

    let started = Instant::now();
    delete_first(MANY, &router);
    let deleted = started.elapsed();
    for port in &ports {
        eventually("nobody listens", || {
            TcpStream::connect(("127.0.0.1", *port)).is_err()
        });
    }
    let after = router.resident_memory();
    eprintln!(
        "{} entities created in {created:?}, deleted in {deleted:?}; octets of memory before, \
         with them and after: {before:?}, {with_all:?}, {after:?}",
        2 * MANY,
    );

    // The memory is there for those who come next.
    create_first(AGAIN, &router, &ports);
    delete_first(AGAIN, &router);
    let received = receiving.finish();
    assert_eq!(received.named("message").len(), MESSAGES);
    let again = router.resident_memory();
    if let (Some(before), Some(with_all), Some(after), Some(again)) =
        (before, with_all, after, again)
    {
        let each = with_all.saturating_sub(before) / (2 * MANY as u64);
        assert!(each < EACH_AT_MOST, "{each} octets each");
        for (later, earlier) in [(after, with_all), (again, after)] {
            let ratio = later as f64 / earlier as f64;
            assert!(ratio < GROWTH_AT_MOST, "{ratio} times the memory of before");
        }
    }
}

fn create_first(count: usize, router: &Router, ports: &[u16]) {
    in_batches(router, 201, count, |n| {
        create("tcpListener", listener(n, ports))
    });
    in_batches(router, 201, count, |n| {
        create("router.config.address", address(n))
    });
}

fn delete_first(many: usize, router: &Router) {
    in_batches(router, 204, many, |n| {
        delete("tcpListener", format!("listener {n}"))
    });
    in_batches(router, 204, many, |n| {
        delete("router.config.address", format!("address {n}"))
    });
    assert_eq!(count(router, "tcpListener"), 0);
    assert_eq!(count(router, "router.config.address"), OTHERS);
}

/// All messages, of which some pass beside each batch of requests.
fn traffic(job: Job) -> Job {
    job.count(MESSAGES).time_limit(Duration::from_secs(900))
}

/// The first have a port of their own, and are served. Nobody serves the addresses of the others,
/// so that no port is taken.
fn listener(number: usize, ports: &[u16]) -> Vec<(&'static str, String)> {
    let unserved = || u16::try_from(10_000 + number).expect("a port");
    let port = ports.get(number).copied().unwrap_or_else(unserved);
    vec![
        ("name", format!("listener {number}")),
        ("host", "127.0.0.1".into()),
        ("port", port.to_string()),
        ("address", format!("service {number}")),
    ]
}

fn address(number: usize) -> Vec<(&'static str, String)> {
    vec![
        ("name", format!("address {number}")),
        ("prefix", format!("topic{number}/news")),
        ("distribution", "multicast".into()),
    ]
}

fn create(kind: &str, attributes: Vec<(&'static str, String)>) -> Request {
    let name = attributes[0].1.clone();
    let pairs = attributes.into_iter();
    let pairs: Vec<Value> = pairs
        .map(|(name, value)| json!([["string", name], ["string", value]]))
        .collect();
    request("CREATE", kind, &name, json!(["map", pairs]))
}

fn delete(kind: &str, name: String) -> Request {
    request("DELETE", kind, &name, json!(["map", []]))
}

fn request(operation: &str, kind: &str, name: &str, body: Value) -> Request {
    let kind = format!("io.skupper.router.{kind}");
    Request {
        body,
        application_properties: fields([
            ("operation", json!(["string", operation])),
            ("type", json!(["string", kind])),
            ("name", json!(["string", name])),
        ]),
        ..Request::text(name, "")
    }
}

/// Makes requests, some at a time, which all must have this answer, while messages pass.
#[track_caller]
fn in_batches(router: &Router, status: i64, many: usize, make: impl Fn(usize) -> Request) {
    for first in (0..many).step_by(BATCH) {
        let sending = Peer::Fe2o3.start(router, Job::send("flow").count(BESIDE));
        let requests = (first..first + BATCH).map(&make).collect();
        let job = Job::request("$management", requests).describe();
        let answered = Peer::Fe2o3.start(router, job).finish();
        let answers = answered.named("message");
        assert_eq!(answers.len(), BATCH);
        for answer in answers {
            let properties = &answer["message"]["application_properties"];
            assert_eq!(properties["statusCode"], json!(["int", status]), "{answer}");
        }
        let sent = sending.finish();
        let outcomes = sent.named("outcome");
        let accepted = outcomes.iter().filter(|e| e["outcome"] == "accepted");
        assert_eq!(accepted.count(), BESIDE);
    }
}

/// How many entities there are of a type, by as many pages as it takes.
fn count(router: &Router, kind: &str) -> usize {
    const PAGE: usize = 500;
    let kind = format!("io.skupper.router.{kind}");
    let body = json!([
        "map",
        [[["string", "attributeNames"], ["list", [["string", "name"]]]]]
    ]);
    let mut total = 0;
    loop {
        let offset = total.to_string();
        let properties = [
            ("entityType", &*kind),
            ("offset", &offset),
            ("count", "500"),
        ];
        let reply = ask(router, "QUERY", &properties, body.clone());
        let rows = reply["body"]["results"].as_array().expect("rows").len();
        total += rows;
        if rows < PAGE {
            return total;
        }
    }
}

const MANY: usize = 10_000;
/// So many come and go once more.
const AGAIN: usize = 4000;
const BATCH: usize = 200;
/// Messages that pass beside a batch.
const BESIDE: usize = 100;
const MESSAGES: usize = 4 * ((MANY + AGAIN) / BATCH) * BESIDE;
/// Listeners whose addresses are served.
const SERVED: usize = 20;
/// Octets of memory that a listener or an address may take.
const EACH_AT_MOST: u64 = 8192;
/// How much more memory the router may hold once they are gone, and when others were there.
const GROWTH_AT_MOST: f64 = 1.15;
/// Addresses that every router of these tests has.
const OTHERS: usize = 4;
