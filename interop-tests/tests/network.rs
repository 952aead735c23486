//! Several routers as one network.

use std::time::Duration;

use interop_tests::{
    Job, Outcome, Peer, Router, RouterBuilder, available, body, clients, pairings, sha256_hex,
};
use serde_json::{Value, json};

pairings!(outcomes_cross_the_network);
clients!(large_messages_cross_the_network);
clients!(a_request_is_answered_across_the_network);
clients!(the_network_goes_around_a_router_that_dies);

/// An interior router, and connectors to others by their port and cost.
fn router(id: &str, neighbours: &[(u16, u32)]) -> Router {
    let mut builder = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": id}))
        .listener(
            "routers",
            json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"}),
        );
    for (number, (port, cost)) in neighbours.iter().enumerate() {
        let connector = json!({
            "name": format!("neighbour {number}"),
            "host": "127.0.0.1",
            "port": port.to_string(),
            "role": "inter-router",
            "cost": cost,
        });
        builder = builder.entity("connector", connector);
    }
    builder.start()
}

/// Three routers in a line.
fn line() -> [Router; 3] {
    let a = router("A", &[]);
    let b = router("B", &[(a.port("routers"), 1)]);
    let c = router("C", &[(b.port("routers"), 1)]);
    [a, b, c]
}

fn outcomes_cross_the_network(sender: Peer, receiver: Peer) {
    if !Router::is_ours_to_configure() {
        return;
    }
    let [a, _b, c] = line();
    let outcomes = [
        Outcome::Accepted,
        Outcome::rejected("interop:refused", "not today"),
        Outcome::Released,
    ];
    // One at a time: rhea would answer deliveries of one read with the first one's outcome.
    let receive = Job::receive("far").count(3).credit(1).outcomes(&outcomes);
    let mut receiving = receiver.start(&c, receive);
    receiving.expect("attached");
    let sent = sender.start(&a, Job::send("far").count(3)).finish();
    let mut events = sent.named("outcome");
    events.sort_by_key(|event| event["index"].as_u64());
    let told: Vec<_> = events
        .iter()
        .map(|event| event["outcome"].clone())
        .collect();
    assert_eq!(told, ["accepted", "rejected", "released"], "{sent}");
    receiving.finish();
}

fn large_messages_cross_the_network(peer: Peer) {
    if !Router::is_ours_to_configure() {
        return;
    }
    let [a, _b, c] = line();
    let sizes = [0, 100, 40_000, 3_000_000, 1];
    let receive = Job::receive("far").count(sizes.len()).time_limit(LIMIT);
    let mut receiving = peer.start(&c, receive);
    receiving.expect("attached");
    let send = Job::send("far").count(sizes.len()).sizes(&sizes);
    let sent = peer.start(&a, send.time_limit(LIMIT)).finish();
    assert_eq!(sent.named("outcome").len(), sizes.len(), "{sent}");
    let received = receiving.finish();
    // A message that is long on its way between routers may be overtaken by a short one.
    let mut messages = received.named("message");
    let number = |event: &Value| event["subject"].as_str().and_then(|text| text.parse().ok());
    messages.sort_by_key(|event| number(event).unwrap_or(usize::MAX));
    assert_eq!(messages.len(), sizes.len(), "{received}");
    for (index, event) in messages.iter().enumerate() {
        assert_eq!(event["size"], sizes[index], "{received}");
        let expected = sha256_hex(&body(index, sizes[index]));
        assert_eq!(event["sha256"], expected, "{received}");
    }
}

/// The answer goes to an address that only the client's router has.
fn a_request_is_answered_across_the_network(peer: Peer) {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let [a, _b, c] = line();
    let mut responding = Peer::Proton.start(&c, Job::respond("service").count(1));
    responding.expect("attached");
    let request = interop_tests::Request::text("one", "question");
    let asked = peer
        .start(&a, Job::request("service", vec![request]))
        .finish();
    assert_eq!(asked.named("message").len(), 1, "{asked}");
    responding.finish();
}

/// A triangle whose cheap way leads over B. When B dies, the dear way is left.
fn the_network_goes_around_a_router_that_dies(peer: Peer) {
    if !Router::is_ours_to_configure() {
        return;
    }
    let a = router("A", &[]);
    let b = router("B", &[(a.port("routers"), 1)]);
    let c = router("C", &[(b.port("routers"), 1), (a.port("routers"), 10)]);
    let mut receiving = peer.start(&c, Job::receive("far").count(40).time_limit(LIMIT));
    receiving.expect("attached");
    let send = || Job::send("far").count(20).time_limit(LIMIT);
    let before = peer.start(&a, send()).finish();
    assert_eq!(before.named("outcome").len(), 20, "{before}");
    drop(b);
    let after = peer.start(&a, send()).finish();
    let accepted = after.named("outcome");
    let accepted = accepted
        .iter()
        .filter(|event| event["outcome"] == "accepted");
    assert_eq!(accepted.count(), 20, "{after}");
    receiving.finish();
}

const LIMIT: Duration = Duration::from_secs(60);
