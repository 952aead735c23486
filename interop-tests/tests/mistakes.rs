//! What operators get wrong, and change: the log names it, and what works goes on working.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use interop_tests::{
    Certificates, Job, Peer, Router, RouterBuilder, ask, available, create, delete,
};
use serde_json::{Value, json};

/// Each of them is told what suits, and the log has one line of it.
#[test]
fn a_protocol_at_the_wrong_port_is_named() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let certificates = Certificates::generate();
    // It answers a TLS handshake as a router without TLS does.
    let plain = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let plain_port = plain.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in plain.incoming().flatten() {
            let _ = stream.write_all(b"AMQP\0\x01\0\0");
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    let router = RouterBuilder::new()
        .entity("sslProfile", profile("server", &certificates))
        .listener("plain", json!({"authenticatePeer": "no"}))
        .listener("secure", json!({"sslProfile": "server", "requireSsl": true}))
        .listener("strict", json!({"saslMechanisms": "EXTERNAL", "authenticatePeer": true, "sslProfile": "server"}))
        .entity(
            "connector",
            json!({"name": "misled", "host": "127.0.0.1", "port": plain_port, "role": "normal", "sslProfile": "server"}),
        )
        .start();
    for (listener, sent, told) in [
        (
            "plain",
            &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
            "began with a TLS handshake, where none is expected",
        ),
        (
            "plain",
            b"GET / HTTP/1.1\r\n\r\n",
            "began with an HTTP request, where AMQP is expected",
        ),
        (
            "plain",
            b"AMQP\0\0\x09\x01",
            "began with AMQP 0-9-1, and not 1.0",
        ),
        (
            "plain",
            b"EHLO example.org\r\n",
            "began with what is no AMQP header: 0x45484c4f20657861",
        ),
        ("strict", b"AMQP\0\x01\0\0", "began with AMQP without SASL"),
        (
            "secure",
            b"AMQP\x03\x01\0\0",
            "Listener 'secure': connection from",
        ),
    ] {
        say(router.port(listener), sent);
        wait_for(&router, told, 1);
    }
    // One of the listener, one of the connector.
    wait_for(&router, "failed: the peer does not speak TLS", 2);
    wait_for(&router, "Connector 'misled': Connection to", 1);
}

#[test]
fn a_profile_that_is_updated_is_for_new_connections() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let (before, after) = (Certificates::generate(), Certificates::generate());
    let router = RouterBuilder::new()
        .entity("sslProfile", profile("server", &before))
        .listener("manage", json!({}))
        .listener(
            "secure",
            json!({"sslProfile": "server", "requireSsl": true, "saslMechanisms": "ANONYMOUS"}),
        )
        .start();
    let connect = |with: &Certificates| {
        let job = Job::connect().tls(with.nobody());
        Peer::Proton.start_at(&router, "secure", job)
    };
    let receive = Job::receive("kept").count(1).tls(before.nobody());
    let mut old = Peer::Proton.start_at(&router, "secure", receive);
    old.expect("attached");
    connect(&after).failure();

    // What cannot be used changes nothing.
    let reply = update(&router, &json!({"certFile": before.path("missing.pem")}));
    assert_eq!(reply["statusCode"], 400, "{reply}");
    let description = reply["statusDescription"].as_str().unwrap_or_default();
    assert!(description.contains("certFile"), "{description}");
    connect(&before).finish();

    let reply = update(&router, &profile("server", &after));
    assert_eq!(reply["statusCode"], 200, "{reply}");
    connect(&after).finish();
    connect(&before).failure();
    // The connection from before has its link still.
    Peer::Proton
        .start(&router, Job::send("kept").count(1))
        .finish();
    assert_eq!(old.finish().named("message").len(), 1);
}

/// In TLS 1.3 a server says what it misses only when the client takes the handshake for done.
#[test]
fn a_connector_without_the_certificate_that_is_asked_for_is_told_so() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let certificates = Certificates::generate();
    let server = RouterBuilder::new()
        .entity("sslProfile", profile("server", &certificates))
        .listener(
            "strict",
            json!({"saslMechanisms": "EXTERNAL", "authenticatePeer": true, "sslProfile": "server"}),
        )
        .start();
    let mut bare = profile("bare", &certificates);
    let bare = bare.as_object_mut().expect("a map of attributes");
    bare.retain(|name, _| ["name", "caCertFile"].contains(&&**name));
    let port = server.port("strict");
    let client = RouterBuilder::new()
        .entity("sslProfile", Value::Object(bare.clone()))
        .entity(
            "connector",
            json!({"name": "bare", "host": "127.0.0.1", "port": port, "role": "normal", "sslProfile": "bare"}),
        )
        .start();
    let told = format!(
        "Connector 'bare': Connection to 127.0.0.1:{port} failed: the connection broke: \
         received fatal alert: "
    );
    wait_for(&client, &told, 1);
}

fn profile(name: &str, certificates: &Certificates) -> Value {
    json!({
        "name": name,
        "certFile": certificates.path("server.pem"),
        "privateKeyFile": certificates.path("server.key"),
        "caCertFile": certificates.path("ca.pem"),
    })
}

/// Who has changed what can be read afterwards, but not to which secret.
#[test]
fn changes_by_management_are_logged() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let router = RouterBuilder::plain().start();
    let address = json!({"name": "mine", "prefix": "mine"});
    assert_eq!(create(&router, "router.config.address", &address), 201);
    wait_for(&router, "AGENT (info) CREATE address 'mine'", 1);
    assert_eq!(create(&router, "router.config.address", &address), 400);
    wait_for(&router, "AGENT (error) Error performing CREATE: ", 1);
    let proxy =
        json!({"name": "p", "host": "h", "port": "1", "username": "u", "password": "pass:hunter2"});
    assert_eq!(create(&router, "proxyProfile", &proxy), 201);
    let password = json!({"password": "pass:hunter3"});
    assert_eq!(
        interop_tests::update(&router, "proxyProfile", "p", &password),
        200
    );
    wait_for(&router, "AGENT (info) UPDATE proxyProfile 'p': password", 1);
    assert_eq!(delete(&router, "router.config.address", "mine"), 204);
    wait_for(&router, "AGENT (info) DELETE address 'mine'", 1);
    assert!(!router.log().contains("hunter"), "{}", router.log());
}

/// Updates the sslProfile 'server'; returns the properties of the answer.
fn update(router: &Router, attributes: &Value) -> Value {
    let attributes = attributes.as_object().expect("attributes").iter();
    let attributes = attributes.filter(|(name, _)| *name != "name");
    let pairs: Vec<Value> = attributes
        .map(|(name, value)| json!([["string", name], ["string", value]]))
        .collect();
    let kind = [("type", "io.skupper.router.sslProfile"), ("name", "server")];
    let reply = ask(router, "UPDATE", &kind, json!(["map", pairs]));
    reply["application_properties"].clone()
}

/// Sends that to a port, and waits until the other end hangs up.
fn say(port: u16, what: &[u8]) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream.write_all(what).expect("it takes that");
    let mut answer = Vec::new();
    // A reset says as much as an end.
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 1024, "{} octets for nonsense", answer.len());
}

/// Waits until so many lines of a router's log contain a text; there are no more of them.
#[track_caller]
fn wait_for(router: &Router, text: &str, lines: usize) {
    let until = Instant::now() + PATIENCE;
    loop {
        let log = router.log();
        let found = log.lines().filter(|line| line.contains(text)).count();
        if found == lines {
            return;
        }
        assert!(
            found < lines && Instant::now() < until,
            "{found} lines of '{text}' in {log}"
        );
        thread::sleep(Duration::from_millis(20));
    }
}

const PATIENCE: Duration = Duration::from_secs(10);
