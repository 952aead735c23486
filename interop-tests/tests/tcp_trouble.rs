//! TCP services that go wrong, have limits, or change.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use interop_tests::{
    BlackHole, Certificates, Job, Peer, Router, RouterBuilder, Scrape, ask, available, check_echo,
    connect, create, echo, eventually, free_port, rows, tcp_connector, tcp_listener, update,
};
use serde_json::{Value, json};

type Entity = (&'static str, Value);

/// A router with these entities.
fn start(entities: Vec<Entity>) -> Router {
    start_with(json!({}), entities, &[])
}

fn start_with(router: Value, entities: Vec<Entity>, neighbours: &[&Router]) -> Router {
    let builder = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": format!("R{}", neighbours.len())}))
        .router(router)
        .listener("http", json!({"http": "true"}))
        .listener("routers", json!({"role": "inter-router"}));
    let connectors = neighbours.iter().map(|neighbour| {
        let port = neighbour.port("routers").to_string();
        let attributes = json!({"host": "127.0.0.1", "port": port, "role": "inter-router"});
        ("connector", attributes)
    });
    let entities = entities.into_iter().chain(connectors);
    let add = |builder: RouterBuilder, (kind, of): Entity| builder.entity(kind, of);
    entities.fold(builder, add).start()
}

/// A row, by the start of its name.
fn row(router: &Router, kind: &str, name: &str) -> BTreeMap<String, Value> {
    let mut rows = rows(router, kind).into_iter();
    let found = rows.find(|row| row["name"].as_str().is_some_and(|n| n.starts_with(name)));
    found.expect("it is there")
}

fn message(router: &Router, kind: &str, name: &str) -> String {
    let row = row(router, kind, name);
    row["connectionMsg"].as_str().unwrap_or_default().to_owned()
}

fn with(mut entity: Entity, attributes: Value) -> Entity {
    for (name, value) in attributes.as_object().expect("attributes") {
        entity.1[name] = value.clone();
    }
    entity
}

/// Connects, and has the service say something.
fn open(port: u16) -> TcpStream {
    let mut stream = connect(port);
    assert!(answers(&mut stream));
    stream
}

fn answers(stream: &mut TcpStream) -> bool {
    let mut octet = [0];
    stream.write_all(b"?").is_ok() && stream.read_exact(&mut octet).is_ok() && octet == *b"?"
}

/// Whether a client that connects is cut off before anybody answers.
fn is_cut_off(port: u16) -> bool {
    let mut stream = connect(port);
    // It may be cut off by now.
    let _ = stream.write_all(b"?");
    match stream.read(&mut [0]) {
        Ok(octets) => octets == 0,
        Err(error) => {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "it hangs");
            true
        }
    }
}

#[test]
fn a_listener_lets_in_as_many_as_it_may() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let port = free_port();
    let limited = with(tcp_listener(port, "svc"), json!({"maxConnections": "2"}));
    let router = start(vec![limited, tcp_connector(echo("BYE"), "svc")]);
    let [mut first, second] = [open(port), open(port)];
    for _ in 0..3 {
        let refused = connect(port).read(&mut [0]);
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    let told = message(&router, "tcpListener", "listener of svc");
    assert!(told.contains("maxConnections"), "{told}");
    let line = "connections are refused, now from";
    assert_eq!(router.log().matches(line).count(), 1);
    let refused = [("name", "listener of svc"), ("event", "refused")];
    let scrape = Scrape::of(&router, "http");
    let value = scrape.value("amqp_router_tcp_connections_total", &refused);
    assert_eq!(value as u32, 3);
    assert!(answers(&mut first), "who is in stays");

    drop(second);
    eventually("there is a place again", || !is_cut_off(port));
    let unlimited = json!({"maxConnections": "0"});
    assert_eq!(
        update(&router, "tcpListener", "listener of svc", &unlimited),
        200
    );
    let crowd: Vec<_> = (0..10).map(|_| open(port)).collect();
    assert!(answers(&mut first) && crowd.len() == 10);
}

#[test]
fn nobody_is_let_in_while_memory_is_short() {
    let port = free_port();
    let entities = vec![tcp_listener(port, "svc"), tcp_connector(echo("BYE"), "svc")];
    let router = start_with(json!({"maxMemoryMegabytes": 1}), entities, &[]);
    let refused = connect(port).read(&mut [0]);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(
        router.log().contains("too little memory"),
        "{}",
        router.log()
    );
}

#[test]
fn a_port_that_somebody_has_is_told_and_listened_on_once_it_is_free() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let port = free_port();
    let taken = TcpListener::bind(("127.0.0.1", port)).expect("a free port");
    let router = start(vec![
        tcp_listener(port, "svc"),
        tcp_connector(echo("BYE"), "svc"),
    ]);
    let listener = || row(&router, "tcpListener", "listener");
    eventually("it says why", || {
        message(&router, "tcpListener", "listener").contains("in use")
    });
    assert_eq!(listener()["operStatus"], "down");
    drop(taken);
    eventually("it listens", || listener()["operStatus"] == "up");
    assert_eq!(listener()["connectionMsg"], Value::Null);
    check_echo(port, 1000, "BYE");
}

#[test]
fn why_a_service_cannot_be_connected_to_is_told_until_it_can() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let [lost, refusing] = [free_port(), free_port()];
    let service = free_port();
    let nowhere = with(tcp_connector(1, "lost"), json!({"host": "nowhere.invalid"}));
    let router = start(vec![
        tcp_listener(lost, "lost"),
        nowhere,
        tcp_listener(refusing, "refusing"),
        tcp_connector(service, "refusing"),
        tcp_listener(free_port(), "unserved"),
    ]);
    let connector = |name| row(&router, "tcpConnector", name);
    let told = message(&router, "tcpListener", "listener of unserved");
    assert_eq!(told, "nobody serves 'unserved'");
    assert_eq!(
        connector("connector of lost")["operStatus"],
        "up",
        "as far as is known"
    );
    assert!(is_cut_off(lost) && is_cut_off(refusing));
    for (name, why) in [
        ("connector of lost", "lookup"),
        ("connector of refusing", "refused"),
    ] {
        let row = connector(name);
        assert_eq!(row["operStatus"], "down");
        let told = row["connectionMsg"].as_str().unwrap_or_default();
        assert!(told.contains(why), "{told}");
        assert!(router.log().contains(told), "the log says so, too");
    }
    let socket = TcpListener::bind(("127.0.0.1", service)).expect("a free port");
    thread::spawn(move || {
        let (mut stream, _) = socket.accept().expect("a connection");
        stream.write_all(b"here")
    });
    let mut answer = String::new();
    let answered = connect(refusing).read_to_string(&mut answer);
    assert_eq!((answered.ok(), &*answer), (Some(4), "here"));
    let healed = connector("connector of refusing");
    assert_eq!(healed["operStatus"], "up");
    assert_eq!(healed["connectionMsg"], Value::Null);
}

#[test]
fn a_service_that_never_takes_a_connection_is_passed_over() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let _ = rlimit::increase_nofile_limit(20_000);
    let (port, hole) = (free_port(), BlackHole::new());
    let router = start(vec![
        tcp_listener(port, "svc"),
        tcp_connector(hole.port(), "svc"),
        tcp_connector(echo("BYE"), "svc"),
    ]);
    let clients: Vec<_> = (0..4)
        .map(|n| thread::spawn(move || check_echo(port, n * 70_000, "BYE")))
        .collect();
    for client in clients {
        client.join().expect("it was served");
    }
    let name = format!("connector of svc to {}", hole.port());
    let told = message(&router, "tcpConnector", &name);
    assert!(told.contains("timed out"), "{told}");
}

#[test]
fn a_service_that_resets_resets_its_client() {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let service = socket.local_addr().expect("an address").port();
    let port = free_port();
    let a = start(vec![tcp_connector(service, "svc")]);
    let _b = start_with(json!({}), vec![tcp_listener(port, "svc")], &[&a]);
    thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            // Closing with something unread resets the connection.
            let _ = stream.peek(&mut [0]);
        }
    });
    let mut client = connect(port);
    client.write_all(b"hello").expect("it is taken");
    let ended = client.read(&mut [0]);
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::ConnectionReset);
}

#[test]
fn connections_are_spread_over_the_connectors_of_an_address() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let port = free_port();
    let services = [echo("A"), echo("B"), echo("C")];
    let connectors = services.map(|service| tcp_connector(service, "svc"));
    let listener = std::iter::once(tcp_listener(port, "svc"));
    let router = start(listener.chain(connectors).collect());
    let _open: Vec<_> = (0..30).map(|_| open(port)).collect();
    for connector in rows(&router, "tcpConnector") {
        let opened = connector["connectionsOpened"].as_i64().unwrap_or_default();
        assert!((8..=12).contains(&opened), "{connector:?}");
    }
}

#[test]
fn a_stream_that_is_not_of_tcp_is_rejected_told_and_counted() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let router = start(vec![tcp_connector(echo("BYE"), "svc")]);
    // It says that it is a TCP stream, and not where the answer is to go.
    let kind = b"application/octet-stream";
    let mut message = b"\x00\x53\x73\xc0\x21\x07\x40\x40\x40\x40\x40\x40\xa1\x18".to_vec();
    message.extend_from_slice(kind);
    message.extend_from_slice(b"\x00\x53\x77\x40");
    let job = Job::send("svc").raw(&message).count(3);
    let sent = Peer::Proton.start(&router, job).finish();
    let outcomes = sent.named("outcome");
    let rejected = outcomes.iter().filter(|one| one["outcome"] == "rejected");
    assert_eq!(rejected.count(), 3, "{sent}");
    let line = "tcpConnector 'connector of svc";
    assert_eq!(router.log().matches(line).count(), 1, "{}", router.log());
    let labels = [("kind", "connector"), ("event", "malformed")];
    let scrape = Scrape::of(&router, "http");
    let count = scrape.value("amqp_router_tcp_connections_total", &labels);
    assert_eq!(count as u32, 3);
}

#[test]
fn services_of_a_tenant_are_reached_under_its_name() {
    let [own, other, outside] = [free_port(), free_port(), free_port()];
    let tenant = ("network", json!({"tenantId": "acme"}));
    let a = start(vec![
        tenant,
        tcp_connector(echo("BYE"), "svc"),
        tcp_listener(own, "svc"),
    ]);
    let listeners = vec![
        tcp_listener(other, "acme/svc"),
        tcp_listener(outside, "svc"),
    ];
    let _b = start_with(json!({}), listeners, &[&a]);
    check_echo(own, 1000, "BYE");
    check_echo(other, 1000, "BYE");
    assert!(TcpStream::connect(("127.0.0.1", outside)).is_err());
}

/// The profiles `server`, `elsewhere`, `expired` and `alice`, by the certificates that they have,
/// and `nobody` without any.
fn profiles(certificates: &Certificates) -> Vec<Entity> {
    let path = |name: &str| certificates.path(name).to_string_lossy().into_owned();
    let ca = path("ca.pem");
    let of = |name: &str| {
        let (certificate, key) = (path(&format!("{name}.pem")), path(&format!("{name}.key")));
        let profile = json!({
            "name": name, "caCertFile": ca, "certFile": certificate, "privateKeyFile": key,
        });
        ("sslProfile", profile)
    };
    let nobody = ("sslProfile", json!({"name": "nobody", "caCertFile": ca}));
    let named = ["server", "elsewhere", "expired", "alice"].map(of);
    named.into_iter().chain([nobody]).collect()
}

/// A router whose service `outer`, at the port, is secured on its way to `inner`.
fn secured(listener: Value, connector: Value) -> (u16, Router, Certificates) {
    let certificates = Certificates::generate();
    let [outer, passing, inner] = [free_port(), free_port(), free_port()];
    let mut entities = profiles(&certificates);
    entities.extend([
        tcp_listener(outer, "outer"),
        with(tcp_connector(passing, "outer"), connector),
        // What is secured passes through two that know nothing of it.
        tcp_listener(passing, "passing"),
        tcp_connector(inner, "passing"),
        with(tcp_listener(inner, "inner"), listener),
        tcp_connector(echo("BYE"), "inner"),
    ]);
    (outer, start(entities), certificates)
}

#[test]
fn tls_passes_through() {
    let server = json!({"sslProfile": "server"});
    let (outer, _router, _files) = secured(server, json!({"sslProfile": "nobody"}));
    for size in [0, 10, 3_000_000] {
        check_echo(outer, size, "BYE");
    }
}

#[test]
fn a_service_with_another_ones_certificate_is_not_trusted() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let elsewhere = json!({"sslProfile": "elsewhere"});
    let (outer, router, _files) = secured(elsewhere, json!({"sslProfile": "nobody"}));
    assert!(is_cut_off(outer));
    let connector = "connector of outer";
    let told = message(&router, "tcpConnector", connector);
    assert!(told.contains("elsewhere.example"), "{told}");
    let name = row(&router, "tcpConnector", connector)["name"].clone();
    let name = name.as_str().expect("a name");
    let anyone = json!({"verifyHostname": "false"});
    assert_eq!(update(&router, "tcpConnector", name, &anyone), 200);
    check_echo(outer, 1000, "BYE");
}

#[test]
fn a_service_whose_certificate_has_expired_is_not_trusted() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let expired = json!({"sslProfile": "expired"});
    let (outer, router, _files) = secured(expired, json!({"sslProfile": "nobody"}));
    assert!(is_cut_off(outer));
    let told = message(&router, "tcpConnector", "connector of outer");
    assert!(told.contains("expired"), "{told}");
    let renewed = json!({"sslProfile": "server"});
    assert_eq!(
        update(&router, "tcpListener", "listener of inner", &renewed),
        200
    );
    check_echo(outer, 1000, "BYE");
}

#[test]
fn clients_that_must_show_a_certificate_are_known_by_it() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let asking = json!({"sslProfile": "server", "authenticatePeer": "true"});
    let (outer, router, _files) = secured(asking, json!({"sslProfile": "nobody"}));
    assert!(is_cut_off(outer));
    let name = row(&router, "tcpConnector", "connector of outer")["name"].clone();
    let name = name.as_str().expect("a name");
    eventually("the connector says why", || {
        message(&router, "tcpConnector", name).contains("CertificateRequired")
    });
    let alice = json!({"sslProfile": "alice"});
    assert_eq!(update(&router, "tcpConnector", name, &alice), 200);
    let _open = open(outer);
    let secured: Vec<_> = rows(&router, "connection")
        .into_iter()
        .filter(|row| row["protocol"] == "tcp" && row["ssl"] == true)
        .collect();
    assert_eq!(secured.len(), 2);
    for row in &secured {
        assert_eq!(row["sslProto"], "TLSv1.3");
        assert!(
            row["sslCipher"]
                .as_str()
                .is_some_and(|c| c.starts_with("TLS_")),
            "{row:?}"
        );
        assert!(
            row["sslSsf"].as_i64().is_some_and(|bits| bits >= 128),
            "{row:?}"
        );
        assert_eq!(row["tlsOrdinal"], 0);
    }
    let client = secured
        .iter()
        .find(|row| row["dir"] == "in")
        .expect("one of them");
    assert_eq!(client["isAuthenticated"], true);
    assert!(
        client["user"]
            .as_str()
            .is_some_and(|user| user.contains("alice")),
        "{client:?}"
    );
}

#[test]
fn what_changes_of_a_listener_or_connector_is_for_new_connections() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let [first, second] = [free_port(), free_port()];
    let services = [echo("A"), echo("B"), echo("C")];
    let router = start(vec![
        tcp_listener(first, "one"),
        with(tcp_connector(services[0], "one"), json!({"name": "a"})),
        with(tcp_connector(services[1], "two"), json!({"name": "b"})),
    ]);
    let mut old = open(first);
    let change = |kind, name, attributes: Value| update(&router, kind, name, &attributes);
    let listener = "listener of one";
    assert_eq!(
        change("tcpListener", listener, json!({"address": "two"})),
        200
    );
    check_echo(first, 10, "B");
    let port = json!({"port": services[2].to_string()});
    assert_eq!(change("tcpConnector", "b", port), 200);
    check_echo(first, 10, "C");
    let port = json!({"port": second.to_string()});
    assert_eq!(change("tcpListener", listener, port), 200);
    check_echo(second, 10, "C");
    eventually("nobody listens there", || {
        TcpStream::connect(("127.0.0.1", first)).is_err()
    });
    // An address that nobody serves any more, and one that somebody does now.
    assert_eq!(
        change("tcpConnector", "b", json!({"address": "three"})),
        200
    );
    eventually("nobody serves it", || {
        message(&router, "tcpListener", listener) == "nobody serves 'two'"
    });
    assert_eq!(change("tcpConnector", "a", json!({"address": "two"})), 200);
    check_echo(second, 10, "A");
    assert!(answers(&mut old), "what was open is open");
    let opened = &row(&router, "tcpListener", listener)["connectionsOpened"];
    assert_eq!(*opened, 5, "it is the same listener");
    let of_a = &row(&router, "tcpConnector", "a")["connectionsOpened"];
    assert_eq!(*of_a, 2);
    assert_eq!(interop_tests::delete(&router, "tcpListener", listener), 204);
    assert!(!answers(&mut old), "it went with its listener");
}

#[test]
fn what_cannot_change_is_refused_by_name() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let port = free_port();
    let router = start(vec![
        tcp_listener(port, "svc"),
        tcp_connector(echo("BYE"), "svc"),
    ]);
    let kind = [
        ("type", "io.skupper.router.tcpListener"),
        ("name", "listener of svc"),
    ];
    for (attribute, value) in [
        ("multiAddressStrategy", "priority"),
        ("backlog", "7"),
        ("sslProfile", "missing"),
        ("port", "nonsense"),
        ("maxConnections", "-1"),
    ] {
        let body = json!(["map", [[["string", attribute], ["string", value]]]]);
        let reply = ask(&router, "UPDATE", &kind, body);
        let properties = &reply["application_properties"];
        assert_eq!(properties["statusCode"], 400, "{reply}");
        let told = properties["statusDescription"].as_str().unwrap_or_default();
        assert!(told.contains(attribute), "{told}");
        check_echo(port, 10, "BYE");
    }
}

#[test]
fn much_goes_both_ways_as_it_was() {
    let port = free_port();
    let a = start(vec![tcp_connector(echo("BYE"), "svc")]);
    let _b = start_with(json!({}), vec![tcp_listener(port, "svc")], &[&a]);
    let two = [150_000_000, 100_000_000];
    let clients = two.map(|size| thread::spawn(move || check_echo(port, size, "BYE")));
    for client in clients {
        client.join().expect("all of it came back");
    }
}

#[test]
fn a_connector_may_be_made_and_changed_without_a_listener() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let router = start(vec![]);
    let (kind, connector) = tcp_connector(1, "svc");
    assert_eq!(create(&router, kind, &connector), 201);
    let name = connector["name"].as_str().expect("a name");
    assert_eq!(
        update(&router, kind, name, &json!({"host": "localhost"})),
        200
    );
    assert_eq!(row(&router, kind, name)["host"], "localhost");
}
