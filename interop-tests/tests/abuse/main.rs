//! Hostile peers beside honest ones: the honest ones notice nothing, and the router stays small.
//!
//! Bounded in count and time, and on the loopback interface only.

#![allow(clippy::disallowed_methods)] // the traffic takes its time

mod attacks;
mod memory;
mod traffic;

use attacks::{Attack, attacks};
use interop_tests::raw::{attach, begin, frame, opened};
use interop_tests::{Certificates, Job, Peer, Router, RouterBuilder, get};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;
use traffic::{Traffic, p99};

#[test]
fn traffic_passes_and_memory_stays_small_whatever_others_send() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let certificates = Certificates::generate();
    let everything = json!({
        "users": "*",
        "remoteHosts": "*",
        "sources": "*",
        "targets": "*",
    });
    let little = json!({
        "users": "*",
        "remoteHosts": "*",
        "sources": "allowed",
        "targets": "allowed",
        "allowAnonymousSender": true,
        "maxSessions": 2,
        "maxMessageSize": 1000,
    });
    let patience = |mut attributes: serde_json::Value| {
        attributes["idleTimeoutSeconds"] = json!(4);
        attributes["initialHandshakeTimeoutSeconds"] = json!(2);
        attributes
    };
    let router = RouterBuilder::new()
        .entity("policy", json!({"enableVhostPolicy": true}))
        .entity(
            "vhost",
            json!({"hostname": "$default", "groups": {"all": everything}}),
        )
        .entity(
            "vhost",
            json!({"hostname": "strict", "groups": {"all": little}}),
        )
        .entity(
            "sslProfile",
            json!({
                "name": "server",
                "certFile": certificates.path("server.pem"),
                "privateKeyFile": certificates.path("server.key"),
            }),
        )
        .listener("plain", patience(json!({})))
        .listener("strict", patience(json!({"policyVhost": "strict"})))
        .listener(
            "secure",
            patience(json!({"sslProfile": "server", "requireSsl": true})),
        )
        .listener("web", json!({"http": true}))
        .start();
    let traffic = Traffic::start(router.port("plain"));
    let undisturbed = p99(traffic.next(QUIET));

    let attacks = attacks();
    assert!(attacks.len() >= 50, "{}", attacks.len());
    let mut held = Vec::new();
    for one in &attacks {
        for _ in 0..ROUNDS {
            held.extend(attack(&router, one));
        }
        let memory = router.resident_memory().unwrap_or_default();
        assert!(memory < MOST_MEMORY, "{memory} bytes after '{}'", one.name);
        let (status, _) = get(&router, "web", "/healthz");
        assert_eq!(status, 200, "after '{}'", one.name);
    }
    for _ in 0..500 {
        drop(TcpStream::connect(("127.0.0.1", router.port("plain"))));
    }
    let disturbed = traffic.so_far();
    assert!(disturbed.len() >= QUIET, "{}", disturbed.len());
    traffic.finish();
    let (count, disturbed) = (disturbed.len(), p99(disturbed));
    eprintln!(
        "{} kinds of attacks: p99 of {QUIET} messages before them {undisturbed:?}, of {count} beside them {disturbed:?}",
        attacks.len(),
    );
    let bound = (undisturbed * MOST_TIMES_SLOWER).max(SHORTEST_TIME_OUT);
    assert!(disturbed < bound, "{disturbed:?} of {bound:?}");
    drop(held);
    // Whoever comes after them is served as well.
    check_service(&router);
    let memory = router.resident_memory().unwrap_or_default();
    assert!(memory < MOST_MEMORY, "{memory} bytes at the end");
}

/// Messages pass.
fn check_service(router: &Router) {
    let mut receiving = Peer::Fe2o3.start_at(router, "plain", Job::receive("after").count(1));
    receiving.expect("attached");
    Peer::Fe2o3
        .start_at(router, "plain", Job::send("after").count(1))
        .finish();
    receiving.finish();
}

/// Attaches and detaches one link as fast as the router takes it, and lets it have its say or not:
/// all of that needs the control plane, which others need, too.
#[test]
fn who_attaches_for_ever_keeps_nobody_out() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let router = RouterBuilder::new().listener("plain", json!({})).start();
    let connect = |_| TcpStream::connect(("127.0.0.1", router.port("plain"))).expect("it listens");
    let streams: Vec<TcpStream> = (0..4).map(connect).collect();
    std::thread::scope(|scope| {
        let _over: Vec<_> = streams.iter().map(HangUp).collect();
        for (at, stream) in streams.iter().enumerate() {
            scope.spawn(move || attach_for_ever(stream));
            if at % 2 == 0 {
                scope.spawn(move || std::io::copy(&mut &*stream, &mut std::io::sink()));
            }
        }
        for round in 0..3 {
            let address = format!("between {round}");
            let receive = Job::receive(&address).count(1);
            let mut receiving = Peer::Fe2o3.start_at(&router, "plain", receive);
            receiving.expect("attached");
            Peer::Fe2o3
                .start_at(&router, "plain", Job::send(&address).count(1))
                .finish();
            receiving.finish();
        }
        let memory = router.resident_memory().unwrap_or_default();
        assert!(memory < LITTLE_MEMORY, "{memory} bytes");
    });
}

/// Ends who attaches for ever, also where the test has failed.
struct HangUp<'a>(&'a TcpStream);

impl Drop for HangUp<'_> {
    fn drop(&mut self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

fn attach_for_ever(mut stream: &TcpStream) {
    let detach = frame(0, &[0, 0x53, 0x16, 0xc0, 4, 2, 0x52, 1, 0x41]);
    let flood = [attach(1), detach].concat().repeat(500);
    let mut more = stream.write_all(&opened(&[&begin(0)]));
    while more.is_ok() {
        more = stream.write_all(&flood);
    }
}

/// So that the attacks from within a session are what they claim to be.
#[test]
fn what_the_attackers_begin_with_is_well_formed() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let router = RouterBuilder::new().listener("plain", json!({})).start();
    let mut stream = TcpStream::connect(("127.0.0.1", router.port("plain"))).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .expect("a limit");
    stream
        .write_all(&opened(&[&begin(0), &attach(1)]))
        .expect("the router reads");
    let mut answer = Vec::new();
    while !answer.windows(3).any(|bytes| bytes == [0, 0x53, 0x12]) {
        let mut buffer = [0; 512];
        let count = stream.read(&mut buffer).expect("an attach in answer");
        assert_ne!(count, 0, "{answer:?}");
        answer.extend_from_slice(&buffer[..count]);
    }
}

/// Sends what an attacker sends, as far as the router takes it, and keeps the connection.
fn attack(router: &Router, attack: &Attack) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(("127.0.0.1", router.port(attack.listener))).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    for part in &attack.parts {
        // An error is the router's good right.
        let _ = stream.write_all(part);
        let _ = stream.read(&mut [0; 512]);
    }
    Some(stream)
}

/// Honest messages before there are attacks.
const QUIET: usize = 300;
/// How much slower the slowest of a hundred honest messages may be beside attacks, which also take
/// processors away from router and clients.
const MOST_TIMES_SLOWER: u32 = 50;
/// What they may take anyhow: less than the router waits for anybody, so that no honest message
/// has waited for an attacker.
const SHORTEST_TIME_OUT: Duration = Duration::from_secs(2);
/// How often each attack is made.
const ROUNDS: usize = 3;
/// How long an attacker waits for the router to take or to say something.
const PATIENCE: Duration = Duration::from_millis(30);
/// Bytes that a router holds which nobody has anything waiting in.
const LITTLE_MEMORY: u64 = 80 * 1024 * 1024;
/// Bytes that the router may hold meanwhile.
const MOST_MEMORY: u64 = 300 * 1024 * 1024;
