//! Ten thousand entities come and go while messages flow.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::time::{Duration, Instant};

use interop_tests::{Job, Peer, Request, Router, RouterBuilder, ask, available, fields, skip};
use serde_json::{Value, json};

#[test]
fn ten_thousand_listeners_and_addresses_come_and_go_while_messages_flow() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return skip("it needs Proton, and a router of ours");
    }
    let router = RouterBuilder::plain().start();
    let before = router.resident_memory();
    let mut receiving = Peer::Fe2o3.start(&router, traffic(Job::receive("flow")));
    receiving.expect("attached");
    let sending = Peer::Proton.start(&router, traffic(Job::send("flow")));

    let started = Instant::now();
    in_batches(&router, 201, |n| create("tcpListener", listener(n)));
    in_batches(&router, 201, |n| {
        create("router.config.address", address(n))
    });
    let created = started.elapsed();
    assert_eq!(count(&router, "tcpListener"), MANY);
    assert_eq!(count(&router, "router.config.address"), MANY + OTHERS);
    let with_all = router.resident_memory();

    let started = Instant::now();
    in_batches(&router, 204, |n| {
        delete("tcpListener", format!("listener {n}"))
    });
    in_batches(&router, 204, |n| {
        delete("router.config.address", format!("address {n}"))
    });
    let deleted = started.elapsed();
    assert_eq!(count(&router, "tcpListener"), 0);
    assert_eq!(count(&router, "router.config.address"), OTHERS);

    let sent = sending.finish();
    let outcomes = sent.named("outcome");
    let accepted = outcomes.iter().filter(|e| e["outcome"] == "accepted");
    assert_eq!(accepted.count(), MESSAGES);
    let received = receiving.finish();
    assert_eq!(received.named("message").len(), MESSAGES);

    let octets_each = |after: Option<u64>| {
        let grown = after
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before));
        grown.map(|grown| grown / (2 * MANY as u64))
    };
    eprintln!(
        "{} entities created in {created:?}, deleted in {deleted:?}; {:?} octets each",
        2 * MANY,
        octets_each(with_all),
    );
}

/// Messages for as long as the rest takes, or about that.
fn traffic(job: Job) -> Job {
    job.count(MESSAGES).time_limit(Duration::from_secs(240))
}

fn listener(number: usize) -> Vec<(&'static str, String)> {
    // Nobody serves these addresses, so that no port is taken.
    vec![
        ("name", format!("listener {number}")),
        ("host", "127.0.0.1".into()),
        ("port", (10_000 + number).to_string()),
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

/// Makes [`MANY`] requests, some at a time, which all must have this answer.
#[track_caller]
fn in_batches(router: &Router, status: i64, make: impl Fn(usize) -> Request) {
    for first in (0..MANY).step_by(BATCH) {
        let requests = (first..first + BATCH).map(&make).collect();
        let job = Job::request("$management", requests).describe();
        let answered = Peer::Fe2o3.start(router, job).finish();
        let answers = answered.named("message");
        assert_eq!(answers.len(), BATCH);
        for answer in answers {
            let properties = &answer["message"]["application_properties"];
            assert_eq!(properties["statusCode"], json!(["int", status]), "{answer}");
        }
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
const BATCH: usize = 200;
const MESSAGES: usize = 20_000;
/// Addresses that every router of these tests has.
const OTHERS: usize = 4;
