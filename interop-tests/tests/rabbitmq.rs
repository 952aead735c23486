//! Queues of RabbitMQ as addresses of the network.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::time::Duration;

use interop_tests::{
    Job, Peer, RabbitMq, Router, RouterBuilder, available, eventually, rows, skip,
};
use serde_json::{Value, json};

/// What is sent to `proton` is put into a queue, and what is received from `proton/next` is taken from
/// it; and another queue for rhea.
fn start(broker: &RabbitMq) -> Router {
    let connector = json!({
        "name": "broker",
        "role": "route-container",
        "host": "127.0.0.1",
        "port": broker.port.to_string(),
        "saslMechanisms": "PLAIN",
        "saslUsername": "guest",
        "saslPassword": "pass:guest",
    });
    let link = |direction: &str, address: &str, queue: &str| {
        json!({
            "name": address,
            "connection": "broker",
            "direction": direction,
            "address": address,
            "externalAddress": format!("/queue/{queue}"),
        })
    };
    let mut router = RouterBuilder::plain().entity("connector", connector);
    for queue in ["proton", "rhea"] {
        router = router
            .entity("autoLink", link("out", queue, queue))
            .entity("autoLink", link("in", &format!("{queue}/next"), queue));
    }
    let router = router.start();
    eventually("all links are there", || is_well(&router));
    router
}

/// All auto links are there, and have never failed.
fn is_well(router: &Router) -> bool {
    let links = rows(router, "router.config.autoLink");
    let mut links = links.iter();
    links.all(|row| row["operStatus"] == "active" && row["lastError"] == Value::Null)
}

#[test]
fn a_queue_keeps_what_nobody_wants_yet() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton, Peer::Rhea]) {
        return skip("it needs Proton and rhea, and a router of ours");
    }
    let Some(broker) = RabbitMq::start() else {
        return;
    };
    let router = start(&broker);
    for (consumer, queue, sizes) in [
        (Peer::Proton, "proton", &[1000][..]),
        (Peer::Rhea, "rhea", &[10, 300_000]),
    ] {
        let send = Job::send(queue).count(MESSAGES).sizes(sizes);
        let sent = Peer::Proton.start(&router, send.time_limit(LIMIT)).finish();
        let outcomes = sent.named("outcome");
        let accepted = outcomes
            .iter()
            .filter(|event| event["outcome"] == "accepted");
        assert_eq!(accepted.count(), MESSAGES, "{sent}");
        // Consumers go with messages that they have not settled, and some that have not come yet.
        for (round, credit) in [(0, 50), (1, 1), (2, 100)] {
            let receive = Job::receive(&format!("{queue}/next")).count(MESSAGES / 6);
            let receive = receive.credit(credit).time_limit(LIMIT);
            let received = consumer.start(&router, receive).finish();
            let messages = received.named("message");
            assert!(messages.len() >= MESSAGES / 6, "{received}");
            if round == 0 {
                assert_eq!(messages[0]["subject"], "0");
            }
            let links = rows(&router, "router.config.autoLink");
            assert!(is_well(&router), "{links:?}");
        }
    }
}

const MESSAGES: usize = 600;
const LIMIT: Duration = Duration::from_secs(60);
