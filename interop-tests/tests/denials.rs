//! Whoever is refused: one line of the log says who it was, from where, and why, and no secret.

#![allow(clippy::disallowed_methods)] // peers wait a moment for what they are told

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use interop_tests::raw::{
    self, AMQP, SASL, attach_coordinator, attach_dynamic, attach_long, attach_receiver,
    attach_sender, begin, frame, message, opened, sasl_init, transfer, transfer_of,
};
use interop_tests::{
    Certificates, Job, Peer, Router, RouterBuilder, Tls, ask, available, eventually, rows, skip,
    write_user,
};
use serde_json::{Value, json};

#[test]
fn every_refusal_says_in_one_line_who_from_where_and_why() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let certificates = Certificates::generate();
    let directory = tempfile::tempdir().expect("a directory");
    let users = write_user(directory.path(), "alice", SECRET);
    let router = router(&certificates)
        .router(json!({"saslConfigDir": users}))
        .start();
    let mut held = Vec::new();
    for (listener, parts, expected) in refusals() {
        held.push(say(router.port(listener), &parts));
        is_told_once(&router, &expected);
    }
    if available(&[Peer::Proton]) {
        let stats = rows(&router, "vhostStats");
        let denied = |hostname: &str, what: &str| {
            let row = stats.iter().find(|row| row["hostname"] == hostname);
            row.expect("it has statistics")[what].clone()
        };
        assert_eq!(denied("lax", "maxMessageSizeDenied"), 1);
        assert_eq!(denied("strict", "sessionDenied"), 1);
    }
    let other = Certificates::generate();
    let of = |files: &Certificates, name: &str| Tls {
        ca: certificates.path("ca.pem"),
        certificate: Some(files.path(&format!("{name}.pem"))),
        key: Some(files.path(&format!("{name}.key"))),
    };
    for (tls, expected) in [
        (
            of(&certificates, "expired"),
            "seconds ago): subject 'CN=server', issuer 'CN=interop tests'",
        ),
        (
            of(&other, "alice"),
            ": subject 'CN=alice', issuer 'CN=interop tests'",
        ),
        (certificates.nobody(), "peer sent no certificates"),
    ] {
        Peer::Fe2o3
            .start_at(&router, "external", Job::connect().tls(tls))
            .failure();
        let start = "Listener 'external': connection from 127.0.0.1:";
        is_told_once(&router, &[start, expected]);
    }
    assert!(!router.log().contains(SECRET) && !router.log().contains(WRONG));
}

#[test]
fn who_may_not_close_connections_by_management_is_told_so_and_the_log_says_who() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return skip("it needs Proton, and a router of ours");
    }
    let group = json!({
        "users": "*",
        "remoteHosts": "*",
        "targets": "$management",
        "allowDynamicSource": true,
        "allowAnonymousSender": true,
        "allowAdminStatusUpdate": false,
    });
    let router = RouterBuilder::new()
        .entity("policy", json!({"enableVhostPolicy": true}))
        .entity(
            "vhost",
            json!({"hostname": "$default", "groups": {"all": group}}),
        )
        .listener("normal", json!({}))
        .start();
    let victim = say(router.port("normal"), &[(opened(&[]), 0x10)]);
    let find = || {
        let all = rows(&router, "connection");
        let container = json!("x");
        let row = all
            .into_iter()
            .find(|row| row.get("container") == Some(&container))?;
        row["identity"].as_str().map(str::to_owned)
    };
    let identity = find().expect("it is open");
    let kind = [
        ("type", "io.skupper.router.connection"),
        ("identity", &*identity),
    ];
    let update = |attribute: &str, value: &str| {
        let attributes = json!(["map", [[["string", attribute], ["string", value]]]]);
        let reply = ask(&router, "UPDATE", &kind, attributes);
        reply["application_properties"]["statusCode"].clone()
    };
    assert_eq!(update("adminStatus", "deleted"), 403);
    assert_eq!(update("adminStatus", "enabled"), 200);
    let line = format!("DENY closing of connection {identity} by management");
    let rest = "for user 'anonymous', rhost '127.0.0.1', vhost '127.0.0.1' based on allowAdminStatusUpdate";
    is_told_once(&router, &[&line, rest]);
    assert_eq!(find(), Some(identity));
    drop(victim);
}

/// Listener; what a peer says, and the performative that it waits for after each part; and what
/// the log says of it.
type Refusal = (&'static str, Vec<(Vec<u8>, u8)>, Vec<&'static str>);

fn refusals() -> Vec<Refusal> {
    let begun = |more: &[u8]| opened(&[&begin(0), more]);
    let attach = |of: Vec<u8>, why: &'static str| -> Refusal {
        let line = "for user 'anonymous', rhost '127.0.0.1', vhost 'strict' based on";
        (
            "strict",
            vec![(begun(&of), DETACH)],
            vec!["DENY AMQP Attach", line, why],
        )
    };
    let sends = |message: Vec<u8>, why: &'static str| -> Refusal {
        let transfer = transfer_of(0, 0, false, false, &message);
        let parts = vec![(begun(&attach_sender(0, None)), FLOW), (transfer, ANY)];
        let line = "DENY message for user 'anonymous', rhost '127.0.0.1', vhost 'lax' based on";
        ("lax", parts, vec![line, why])
    };
    let login = |listener, mechanism, response: &str, who: &'static str, why: &'static str| {
        let parts = vec![
            (SASL.to_vec(), MECHANISMS),
            (sasl_init(mechanism, response.as_bytes()), OUTCOME),
        ];
        let expected = vec!["Authentication of 127.0.0.1:", who, why];
        (listener, parts, expected)
    };
    let wrong = format!("\0alice\0{WRONG}");
    let stranger = format!("\0mallory\0{WRONG}");
    let refused = |listener, mechanism, why: &'static str| {
        let parts = vec![
            (SASL.to_vec(), MECHANISMS),
            (sasl_init(mechanism, SECRET.as_bytes()), OUTCOME),
        ];
        (listener, parts, vec!["Connection from 127.0.0.1:", why])
    };
    vec![
        // TLS and headers
        (
            "external",
            vec![(AMQP.to_vec(), ANY)],
            vec![
                "Listener 'external': connection from 127.0.0.1:",
                "the peer does not speak TLS",
            ],
        ),
        (
            "users",
            vec![(AMQP.to_vec(), ANY)],
            vec![
                "Connection from 127.0.0.1:",
                "the peer began with AMQP without SASL",
            ],
        ),
        (
            "users",
            vec![(vec![22, 3, 1, 2, 0, 1, 0, 1], ANY)],
            vec![
                "Connection from 127.0.0.1:",
                "a TLS handshake, where none is expected",
            ],
        ),
        // mechanisms and users
        refused(
            "users",
            "NONE",
            "authentication by 'NONE' failed: the mechanism is not offered",
        ),
        login(
            "users",
            "PLAIN",
            &wrong,
            "as 'alice' by PLAIN failed",
            "unknown user or wrong password",
        ),
        login(
            "users",
            "PLAIN",
            &stranger,
            "as 'mallory' by PLAIN failed",
            "unknown user or wrong password",
        ),
        // Without TLS it offers none at all.
        refused(
            "encrypted",
            "PLAIN",
            "the peer began without TLS, which requireEncryption or requireSsl demands here",
        ),
        // connections
        (
            "elsewhere",
            vec![(opened(&[]), CLOSE)],
            vec![
                "DENY AMQP Open for user 'anonymous', rhost '127.0.0.1', vhost 'elsewhere'",
                "User is not allowed to connect from this network host",
            ],
        ),
        (
            "named",
            vec![(opened(&[]), CLOSE)],
            vec![
                "DENY AMQP Open for user 'anonymous', rhost '127.0.0.1', vhost 'named'",
                "User is not in a user group and unknown users are denied",
            ],
        ),
        (
            "revoked",
            vec![(opened(&[]), CLOSE)],
            vec![
                "DENY AMQP Open for user 'anonymous', rhost '127.0.0.1', vhost 'revoked'",
                "'anonymous' is revoked",
            ],
        ),
        // sessions and links
        (
            "strict",
            vec![(opened(&[&begin(0), &begin(1), &begin(2)]), CLOSE)],
            vec![
                "DENY AMQP Begin for user 'anonymous', rhost '127.0.0.1', vhost 'strict'",
                "based on maxSessions limit 2",
            ],
        ),
        attach(attach_receiver(0, "secret"), "link source name 'secret'"),
        attach(
            attach_sender(0, Some("secret")),
            "link target name 'secret'",
        ),
        attach(attach_dynamic(0), "allowDynamicSource"),
        attach(attach_sender(0, None), "allowAnonymousSender"),
        attach(
            [
                attach_sender(0, Some("allowed")),
                attach_sender(1, Some("allowed")),
            ]
            .concat(),
            "maxSenders limit",
        ),
        attach(
            [attach_receiver(0, "allowed"), attach_receiver(1, "allowed")].concat(),
            "maxReceivers limit",
        ),
        // messages
        sends(message(None, Some("secret"), 9), "target 'secret'"),
        sends(
            message(Some("root"), Some("allowed"), 9),
            "allowUserIdProxy, its user-id is 'root'",
        ),
        sends(
            [
                message(None, Some("allowed"), 250),
                message(None, None, 250).repeat(4),
            ]
            .concat(),
            "maxMessageSize, it is larger than 1000 bytes",
        ),
        // Twice, and told of once.
        (
            "open",
            vec![
                (begun(&attach_sender(0, Some("allowed"))), FLOW),
                (transfer_of(0, 0, false, false, NO_MESSAGE), ANY),
                (transfer_of(0, 1, false, false, NO_MESSAGE), ANY),
            ],
            vec!["Message rejected: the message's sections are malformed"],
        ),
    ]
}

/// A list that ends within its header.
const NO_MESSAGE: &[u8] = &[0x00, 0x53, 0x70, 0xd0, 0xff];

fn router(certificates: &Certificates) -> RouterBuilder {
    let group = |hostname: &str, more: Value| {
        let mut group = json!({
            "users": "*",
            "remoteHosts": "*",
            "sources": "allowed",
            "targets": "allowed",
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            group[name] = value.clone();
        }
        json!({"hostname": hostname, "groups": {"all": group}})
    };
    let mut revoked = group("revoked", json!({}));
    revoked["revoked"] = json!("anonymous");
    let limits = json!({"maxSessions": 2, "maxSenders": 1, "maxReceivers": 1});
    let anonymous = json!({"allowAnonymousSender": true, "maxMessageSize": 1000});
    let mut builder = RouterBuilder::new()
        .entity("policy", json!({"enableVhostPolicy": true}))
        .entity(
            "sslProfile",
            json!({
                "name": "server",
                "certFile": certificates.path("server.pem"),
                "privateKeyFile": certificates.path("server.key"),
                "caCertFile": certificates.path("ca.pem"),
            }),
        );
    let everything = json!({
        "sources": "*",
        "targets": "*",
        "allowDynamicSource": true,
        "allowAnonymousSender": true,
    });
    for vhost in [
        group("open", everything),
        group("strict", limits),
        group("lax", anonymous),
        group("elsewhere", json!({"remoteHosts": "10.0.0.1"})),
        group("named", json!({"users": "alice"})),
        revoked,
    ] {
        let name = vhost["hostname"].as_str().expect("text").to_owned();
        let listener = json!({"policyVhost": name});
        builder = builder.entity("vhost", vhost).listener(&name, listener);
    }
    builder
        .listener(
            "users",
            json!({"saslMechanisms": "PLAIN", "authenticatePeer": true}),
        )
        .listener(
            "encrypted",
            json!({"saslMechanisms": "PLAIN", "requireEncryption": true}),
        )
        .listener(
            "external",
            json!({
                "sslProfile": "server",
                "requireSsl": true,
                "saslMechanisms": "EXTERNAL",
                "authenticatePeer": true,
            }),
        )
}

/// What ends alone for an error does not go without a word.
#[test]
fn a_session_and_a_link_that_fail_leave_a_line_each() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let router = RouterBuilder::plain().start();
    let port = router.port("normal");
    let no_such_handle = opened(&[&begin(0), &transfer(5, false)]);
    let session = say(port, &[(no_such_handle, END)]);
    let session_ended = "Session ended: amqp:session:unattached-handle";
    is_told_once(&router, &["ROUTER_CORE (info) [C", session_ended]);

    let attached = opened(&[&begin(0), &attach_sender(0, Some("nobody"))]);
    let link = say(port, &[(attached, ATTACH), (transfer(0, false), DETACH)]);
    let link_detached = ["[L", "Link detached: dir=in name=", "address=nobody (amqp:"];
    is_told_once(&router, &link_detached);
    drop((session, link));

    // Who does nothing else does not fill the log.
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(&opened(&[])).expect("it is taken");
    let failing = [begin(0), transfer(5, false), frame(0, raw::END)].concat();
    for _ in 0..300 {
        stream.write_all(&failing).expect("it is taken");
    }
    let marker = "more of these are only counted";
    is_told_once(&router, &[session_ended, marker]);
    drop(stream);
    let log = || router.log();
    eventually("it is gone", || log().contains("(the peer went away)"));
    let log = log();
    let last = log.lines().rfind(|line| line.contains(session_ended));
    assert!(last.is_some_and(|line| line.contains(marker)), "{log}");
}

#[test]
fn a_link_that_is_refused_leaves_a_line_whoever_refuses_it() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let router = RouterBuilder::plain().start();
    let port = router.port("normal");
    // The control plane: nothing is sent to, or received from, such addresses.
    let sender = opened(&[&begin(0), &attach_sender(0, Some("unavailable/a"))]);
    let receiver = opened(&[&begin(0), &attach_receiver(0, "unavailable/b")]);
    let _refused = [sender, receiver].map(|attach| say(port, &[(attach, DETACH)]));
    let line = "ROUTER_CORE (info) [C";
    let incoming = "Link refused: dir=in name=aaaa address=unavailable/a (amqp:";
    is_told_once(&router, &[line, incoming]);
    let outgoing = "Link refused: dir=out name=aaaa address=unavailable/b (amqp:";
    is_told_once(&router, &[line, outgoing]);
    // There are no transactions here.
    let coordinator = opened(&[&begin(0), &attach_coordinator(0)]);
    let _refused = say(port, &[(coordinator, DETACH)]);
    let transactions = "address=(coordinator) (amqp:not-implemented: transactions";
    is_told_once(&router, &[line, "dir=in name=aaaa", transactions]);
    // The connection itself: the address is longer than any may be.
    let long = "x".repeat(5000);
    let attach = opened(&[&begin(0), &attach_long(0, &long)]);
    let _refused = say(port, &[(attach, DETACH)]);
    let shown = format!(
        "Link refused: dir=in name=aaaa address={} (amqp:",
        &long[..200]
    );
    is_told_once(&router, &[line, &shown, "an address"]);

    // Who does nothing else does not fill the log.
    let mut stream = say(port, &[(opened(&[&begin(0)]), BEGIN)]);
    for handle in 0..300 {
        let attach = attach_sender(handle, Some("unavailable/c"));
        stream.write_all(&attach).expect("it is taken");
    }
    let marker = "more of these are only counted";
    is_told_once(&router, &["address=unavailable/c", marker]);
    drop(stream);
    let log = || router.log();
    eventually("it is gone", || log().contains("(the peer went away)"));
    let log = log();
    let last = log.lines().rfind(|line| line.contains("unavailable/c"));
    assert!(last.is_some_and(|line| line.contains(marker)), "{log}");
}

/// Says this and that, and waits after each for a performative, or for the end.
fn say(port: u16, parts: &[(Vec<u8>, u8)]) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(LIMIT)).expect("a limit");
    for (part, awaited) in parts {
        // It may be over already.
        let _ = stream.write_all(part);
        let (mut heard, mut buffer) = (Vec::new(), [0; 4096]);
        let deadline = Instant::now() + LIMIT;
        let is_there = |heard: &[u8]| heard.windows(3).any(|three| three == [0, 0x53, *awaited]);
        while *awaited != ANY && !is_there(&heard) && Instant::now() < deadline {
            match stream.read(&mut buffer) {
                Ok(count) if count > 0 => heard.extend_from_slice(&buffer[..count]),
                _ => break,
            }
        }
    }
    stream
}

#[track_caller]
fn is_told_once(router: &Router, expected: &[&str]) {
    let lines = || {
        let log = router.log();
        let lines = log.lines();
        lines
            .filter(|line| expected.iter().all(|part| line.contains(part)))
            .count()
    };
    eventually(&format!("the log says {expected:?}"), || lines() > 0);
    assert_eq!(lines(), 1, "{expected:?}: {}", router.log());
}

const SECRET: &str = "correct horse battery";
const WRONG: &str = "staple";
const LIMIT: Duration = Duration::from_secs(5);
/// Nothing that is waited for.
const ANY: u8 = 0;
const FLOW: u8 = 0x13;
const ATTACH: u8 = 0x12;
const DETACH: u8 = 0x16;
const BEGIN: u8 = 0x11;
const END: u8 = 0x17;
const CLOSE: u8 = 0x18;
const MECHANISMS: u8 = 0x40;
const OUTCOME: u8 = 0x44;
