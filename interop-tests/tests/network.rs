//! Several routers as one network.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use interop_tests::{
    Job, Outcome, Peer, Router, RouterBuilder, Running, Transcript, available, body, clients,
    eventually, pairings, rows, sha256_hex,
};
use serde_json::{Value, json};

pairings!(outcomes_cross_the_network);
clients!(large_messages_cross_the_network);
clients!(a_request_is_answered_across_the_network);
clients!(the_network_goes_around_a_router_that_dies);
clients!(the_network_goes_around_a_connection_that_falls_silent);

/// An interior router, and connectors to others by their port and cost. It misses a neighbour after
/// two seconds, and a connection after ten.
fn router(id: &str, neighbours: &[(u16, u32)]) -> Router {
    router_with(id, neighbours, &[])
}

fn router_with(id: &str, neighbours: &[(u16, u32)], entities: &[(&str, Value)]) -> Router {
    let listener = json!({
        "role": "inter-router",
        "saslMechanisms": "ANONYMOUS",
        "idleTimeoutSeconds": 10,
    });
    let mut builder = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": id, "helloMaxAgeSeconds": 2}))
        .listener("routers", listener);
    for (number, (port, cost)) in neighbours.iter().enumerate() {
        let connector = json!({
            "name": format!("neighbour {number}"),
            "host": "127.0.0.1",
            "port": port.to_string(),
            "role": "inter-router",
            "idleTimeoutSeconds": 10,
            "cost": cost,
        });
        builder = builder.entity("connector", connector);
    }
    for (kind, attributes) in entities {
        builder = builder.entity(kind, attributes.clone());
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
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let a = router("A", &[]);
    let c = router("C", &[(a.port("routers"), 10)]);
    let between = || router("B", &[(a.port("routers"), 1), (c.port("routers"), 1)]);
    let b = between();
    eventually("A reaches C by B", || next_hop(&a, "C") == "B");
    let mut receiving = peer.start(&c, Job::receive("far").count(0).time_limit(LIMIT));
    receiving.expect("attached");
    let flood = Job::send("far").count(3000).sizes(&[2000]);
    let mut flooding = peer.start(&a, flood.time_limit(LIMIT));
    for _ in 0..200 {
        flooding.expect("outcome");
    }
    drop(b);
    nothing_accepted_is_lost(&flooding.finish(), &mut receiving);
    assert_eq!(next_hop(&a, "C"), "(none)");

    let _b = between();
    eventually("A reaches C by B again", || next_hop(&a, "C") == "B");
    let after = peer.start(&a, Job::send("far").count(20).time_limit(LIMIT));
    let outcomes = after.finish();
    let outcomes = outcomes.named("outcome");
    let accepted = |event: &&&Value| event["outcome"] == "accepted";
    assert_eq!(outcomes.iter().filter(accepted).count(), 20);
}

/// The same triangle, but the connection between A and B carries nothing any more, and nobody is
/// told: it is neither closed nor reset.
fn the_network_goes_around_a_connection_that_falls_silent(peer: Peer) {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let a = router("A", &[]);
    let between = Between::start(a.port("routers"));
    let b = router("B", &[(between.port, 1)]);
    let c = router("C", &[(b.port("routers"), 1), (a.port("routers"), 10)]);
    eventually("A reaches C by B", || next_hop(&a, "C") == "B");
    let mut receiving = peer.start(&c, Job::receive("far").count(0).time_limit(LIMIT));
    receiving.expect("attached");
    // Nobody takes these, so they are on their way when it happens.
    let slow = Job::receive("slow").count(0).credit(20).hold_credit();
    let slow = slow.outcomes(&[Outcome::None]).time_limit(LIMIT);
    let mut holding = peer.start(&c, slow);
    holding.expect("attached");
    let held = peer.start(&a, Job::send("slow").count(40).time_limit(LIMIT));
    let flood = Job::send("far").count(3000).sizes(&[2000]);
    let mut flooding = peer.start(&a, flood.time_limit(LIMIT));
    for _ in 0..200 {
        flooding.expect("outcome");
    }
    holding.expect("message");
    between.fall_silent();

    // What comes now goes the other way, although the connection to B is there yet.
    eventually("A reaches C directly", || next_hop(&a, "C") == "(none)");
    assert!(is_connected(&a, "B"), "it was to be missed, not closed");
    let after = peer
        .start(&a, Job::send("far").count(20).time_limit(LIMIT))
        .finish();
    let outcomes = after.named("outcome");
    let accepted = |event: &&&Value| event["outcome"] == "accepted";
    assert_eq!(outcomes.iter().filter(accepted).count(), 20, "{after}");

    // What was on its way by it has an outcome when the connection is given up at last.
    nothing_accepted_is_lost(&flooding.finish(), &mut receiving);
    let held = held.finish();
    assert_eq!(held.named("outcome").len(), 40, "{held}");
}

/// Each of 3000 messages has an outcome, one that a loss on the way explains, and those that were
/// accepted have arrived.
fn nothing_accepted_is_lost(flooded: &Transcript, receiving: &mut Running) {
    let outcomes = flooded.named("outcome");
    assert_eq!(outcomes.len(), 3000, "each has an outcome, and one");
    let told = |of: &Value| of["outcome"].as_str().unwrap_or_default().to_owned();
    let lost = outcomes.iter().filter(|event| told(event) != "accepted");
    assert!({ lost }.all(|event| ["modified", "released"].contains(&&*told(event))));
    let accepted: BTreeSet<u64> = outcomes
        .iter()
        .filter(|event| told(event) == "accepted")
        .filter_map(|event| event["index"].as_u64())
        .collect();
    let got = received(receiving);
    let missing: Vec<_> = accepted.difference(&got).collect();
    assert!(missing.is_empty(), "accepted and lost: {missing:?}");
}

/// The numbers of all large messages that a receiver has got.
fn received(receiving: &mut Running) -> BTreeSet<u64> {
    while receiving.poll(500).is_some() {}
    let transcript = receiving.transcript();
    let messages = transcript.named("message").into_iter();
    let large = messages.filter(|event| event["size"] == 2000);
    let number = |event: &Value| event["subject"].as_str()?.parse().ok();
    large.filter_map(number).collect()
}

/// Between routers each priority has a link of its own: where a connection is busy, the higher
/// leaves first.
#[test]
fn a_message_goes_by_the_link_of_its_priority_and_that_of_an_address_counts_for_more() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let a = router("A", &[]);
    let urgent = json!({"prefix": "urgent", "distribution": "balanced", "priority": 8});
    let b = router_with("B", &[(a.port("routers"), 1)], &[("address", urgent)]);
    for (address, header, expected) in [("plain", 6, 6), ("plain", 1, 1), ("urgent", 2, 8)] {
        let mut receiving = Peer::Proton.start(&a, Job::receive(address).count(3));
        receiving.expect("attached");
        let before = by_priority(&b);
        let message = json!({"data": "00", "properties": {}, "header": {"priority": header}});
        let send = Job::send(address).messages(vec![message; 3]);
        Peer::Proton.start(&b, send).finish();
        receiving.finish();
        let after = by_priority(&b);
        let sent = (0..10).map(|priority| after[priority] - before[priority]);
        let mut only = [0; 10];
        only[expected] = 3;
        assert_eq!(sent.collect::<Vec<_>>(), only, "{address} {header}");
    }
}

/// Deliveries that have left for other routers, by the priority of their link.
fn by_priority(router: &Router) -> [i64; 10] {
    let mut sent = [0; 10];
    for row in rows(router, "router.link") {
        if row["linkType"] == "inter-router" && row["linkDir"] == "out" {
            let number = |attribute: &str| row[attribute].as_i64().expect("a number");
            sent[usize::try_from(number("priority")).expect("0 to 9")] += number("deliveryCount");
        }
    }
    sent
}

/// By which router one reaches another; `(none)` if by none.
fn next_hop(router: &Router, to: &str) -> String {
    let nodes = rows(router, "router.node");
    let node = nodes.iter().find(|row| row["id"] == to);
    let Some(node) = node.filter(|node| !node["cost"].is_null()) else {
        return "unknown".to_owned();
    };
    node["nextHop"].as_str().unwrap_or("(none)").to_owned()
}

fn is_connected(router: &Router, to: &str) -> bool {
    let is_it = |row: &std::collections::BTreeMap<String, Value>| {
        row["role"] == "inter-router" && row["container"] == to && row["opened"] == true
    };
    rows(router, "connection").iter().any(is_it)
}

/// Carries connections to a port, until it carries nothing any more and keeps them open.
struct Between {
    port: u16,
    silent: Arc<AtomicBool>,
}

impl Between {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("it is bound").port();
        let silent = Arc::new(AtomicBool::new(false));
        let for_all = Arc::clone(&silent);
        thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let Ok(far) = TcpStream::connect(("127.0.0.1", to)) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let streams = from
                        .try_clone()
                        .and_then(|from| Ok((from, to.try_clone()?)));
                    let (from, to) = streams.expect("sockets");
                    let silent = Arc::clone(&for_all);
                    thread::spawn(move || carry(from, to, &silent));
                }
            }
        });
        Self { port, silent }
    }

    fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, silent: &AtomicBool) {
    let mut octets = vec![0; 16 * 1024];
    loop {
        let count = from.read(&mut octets).unwrap_or(0);
        while silent.load(Ordering::SeqCst) {
            // Not even the end of the other connection is told.
            thread::park();
        }
        if count == 0 || to.write_all(&octets[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

const LIMIT: Duration = Duration::from_secs(60);
