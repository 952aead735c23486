//! TCP services across routers, with programs that know nothing of AMQP.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use interop_tests::{
    Certificates, Peer, Router, RouterBuilder, available, check_echo, connect, create, delete,
    echo, eventually, exchange, free_port, noise, rows, sha256_hex, skip, tcp_connector,
    tcp_listener,
};
use serde_json::{Value, json};

/// A router whose entities of TCP are given as (kind, attributes).
fn start(router: Value, entities: &[(&str, Value)], neighbours: &[u16]) -> Router {
    let mut builder = RouterBuilder::plain().router(router).listener(
        "routers",
        json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"}),
    );
    for (number, port) in neighbours.iter().enumerate() {
        let name = format!("neighbour {number}");
        let port = port.to_string();
        let connector =
            json!({"name": name, "host": "127.0.0.1", "port": port, "role": "inter-router"});
        builder = builder.entity("connector", connector);
    }
    for (kind, attributes) in entities {
        builder = builder.entity(kind, attributes.clone());
    }
    builder.start()
}

fn interior(id: &str) -> Value {
    json!({"mode": "interior", "id": id})
}

/// A port at which nobody listens, and nobody else will.
struct Refusing(std::net::TcpStream, u16);

impl Refusing {
    fn new() -> Self {
        // A bound port of an open connection is nobody's to listen on.
        let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let stream = TcpStream::connect(socket.local_addr().expect("an address"));
        let stream = stream.expect("a connection");
        let port = stream.local_addr().expect("an address").port();
        Self(stream, port)
    }

    fn port(&self) -> u16 {
        let _open = &self.0;
        self.1
    }
}

#[test]
fn octets_go_both_ways_through_one_router_and_ends_are_told() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let (service, port) = (echo("BYE"), free_port());
    let router = interior("one");
    let entities = [tcp_listener(port, "svc"), tcp_connector(service, "svc")];
    let router = start(router, &entities, &[]);
    for size in [0, 1, 100_000, 20_000_000] {
        check_echo(port, size, "BYE");
    }
    let listener = &rows(&router, "tcpListener")[0];
    assert_eq!(listener["operStatus"], "up");
    assert_eq!(listener["connectionsOpened"], 4);
    assert_eq!(listener["connectionsClosed"], 4);
    assert_eq!(listener["bytesIn"], 20_100_001);
    assert_eq!(listener["bytesOut"], 20_100_001 + 4 * 3);
    let connector = &rows(&router, "tcpConnector")[0];
    assert_eq!(connector["bytesOut"], 20_100_001);
}

#[test]
fn octets_cross_three_routers_and_several_workers() {
    let (service, port) = (echo("BYE"), free_port());
    let ends = |id: &str| json!({"mode": "interior", "id": id, "workerThreads": 3});
    let a = start(ends("A"), &[tcp_connector(service, "svc")], &[]);
    let b = start(interior("B"), &[], &[a.port("routers")]);
    let _c = start(
        ends("C"),
        &[tcp_listener(port, "svc")],
        &[b.port("routers")],
    );
    for size in [0, 1, 100_000, 20_000_000] {
        check_echo(port, size, "BYE");
    }
    let crowd: Vec<_> = (0..40)
        .map(|n| thread::spawn(move || check_echo(port, n * 20_000, "BYE")))
        .collect();
    for one in crowd {
        one.join().expect("it was served");
    }
}

#[test]
fn a_listener_listens_while_its_address_is_served_and_follows_the_service() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let (first, second, port) = (echo("FIRST"), echo("SECOND"), free_port());
    let a = start(interior("A"), &[tcp_listener(port, "svc")], &[]);
    let b = start(interior("B"), &[], &[a.port("routers")]);
    eventually("the routers know each other", || {
        rows(&a, "router.node").len() == 2
    });
    let refused = TcpStream::connect(("127.0.0.1", port));
    assert_eq!(
        refused.map_err(|error| error.kind()).err(),
        Some(ErrorKind::ConnectionRefused)
    );
    assert_eq!(rows(&a, "tcpListener")[0]["operStatus"], "down");

    let (kind, at_b) = tcp_connector(first, "svc");
    assert_eq!(create(&b, kind, &at_b), 201);
    check_echo(port, 1000, "FIRST");
    let mut old = connect(port);
    old.write_all(b"before").expect("it is taken");
    let mut buffer = [0; 6];
    old.read_exact(&mut buffer).expect("it comes back");

    // The service moves to the other site; a connection that is open is cut, as the router's
    // dropTcpConnections says, and new ones go where it is now.
    let (kind, at_a) = tcp_connector(second, "svc");
    assert_eq!(create(&a, kind, &at_a), 201);
    let name = at_b["name"].as_str().expect("a name");
    assert_eq!(delete(&b, "tcpConnector", name), 204);
    let ended = old.read(&mut buffer);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    check_echo(port, 1000, "SECOND");
    let name = at_a["name"].as_str().expect("a name");
    assert_eq!(delete(&a, "tcpConnector", name), 204);
    eventually("nobody listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_err()
    });
}

#[test]
fn connections_live_on_where_they_are_not_to_be_dropped() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let (service, port) = (echo("BYE"), free_port());
    let router = json!({"mode": "interior", "id": "R", "dropTcpConnections": false});
    let entities = [tcp_listener(port, "svc"), tcp_connector(service, "svc")];
    let router = start(router, &entities, &[]);
    let open = connect(port);
    let mut first = open.try_clone().expect("a handle");
    first.write_all(b"x").expect("it is taken");
    first.read_exact(&mut [0]).expect("it comes back");
    for (kind, attributes) in &entities {
        let name = attributes["name"].as_str().expect("a name");
        assert_eq!(delete(&router, kind, name), 204);
    }
    assert_eq!(exchange(open, b"still here"), b"still hereBYE");
}

#[test]
fn a_service_that_refuses_is_passed_over_before_the_client_notices() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let (refusing, there, port) = (Refusing::new(), echo("THERE"), free_port());
    let entities = [
        tcp_listener(port, "svc"),
        tcp_connector(refusing.port(), "svc"),
    ];
    let a = start(interior("A"), &entities, &[]);
    let _b = start(
        interior("B"),
        &[tcp_connector(there, "svc")],
        &[a.port("routers")],
    );
    eventually("the address is known", || {
        rows(&a, "router.address")
            .iter()
            .any(|row| row["key"] == "Msvc" && row["remoteCount"] == 1)
    });
    for size in [0, 10, 200_000] {
        check_echo(port, size, "THERE");
    }
}

#[test]
fn a_client_is_cut_off_where_the_only_service_refuses() {
    let (refusing, port) = (Refusing::new(), free_port());
    let entities = [
        tcp_listener(port, "svc"),
        tcp_connector(refusing.port(), "svc"),
    ];
    let router = start(interior("A"), &entities, &[]);
    let mut client = connect(port);
    client.write_all(b"anybody?").expect("it is taken");
    let ended = client.read(&mut [0; 10]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    eventually("it says why", || router.log().contains("refused"));
}

#[test]
fn a_listener_with_several_addresses_takes_the_best_that_is_served() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let (low, high, port) = (echo("LOW"), echo("HIGH"), free_port());
    let listener = json!({
        "name": "multi", "host": "127.0.0.1", "port": port.to_string(),
        "multiAddressStrategy": "priority",
    });
    let address = |name: &str, value: u32| {
        let attributes =
            json!({"name": name, "address": name, "value": value, "listener": "multi"});
        ("listenerAddress", attributes)
    };
    let (kind, best) = tcp_connector(high, "best");
    let entities = [
        ("tcpListener", listener),
        address("good", 1),
        address("best", 9),
        tcp_connector(low, "good"),
    ];
    let router = start(interior("A"), &entities, &[]);
    check_echo(port, 10, "LOW");
    assert_eq!(create(&router, kind, &best), 201);
    check_echo(port, 10, "HIGH");
    let addresses = rows(&router, "listenerAddress");
    let opened: Vec<_> = addresses
        .iter()
        .map(|row| (row["name"].clone(), row["connectionsOpened"].clone()))
        .collect();
    assert!(opened.contains(&(json!("good"), json!(1))), "{opened:?}");
    assert!(opened.contains(&(json!("best"), json!(1))), "{opened:?}");
    assert_eq!(delete(&router, "tcpListener", "multi"), 400);
}

#[test]
fn both_sides_can_be_secured() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let certificates = Certificates::generate();
    let path = |name: &str| certificates.path(name).to_string_lossy().into_owned();
    let profile = json!({
        "name": "tls", "caCertFile": path("ca.pem"),
        "certFile": path("server.pem"), "privateKeyFile": path("server.key"),
    });
    let (service, outer, inner) = (echo("BYE"), free_port(), free_port());
    let mut secure_listener = tcp_listener(inner, "inner");
    secure_listener.1["sslProfile"] = json!("tls");
    let mut secure_connector = tcp_connector(inner, "outer");
    secure_connector.1["sslProfile"] = json!("tls");
    let entities = [
        ("sslProfile", profile),
        tcp_listener(outer, "outer"),
        secure_connector,
        secure_listener,
        tcp_connector(service, "inner"),
    ];
    let router = start(interior("A"), &entities, &[]);
    for size in [0, 10, 3_000_000] {
        check_echo(outer, size, "BYE");
    }
    let _open = connect(outer);
    eventually("four connections, two of them secured", || {
        let rows = rows(&router, "connection");
        let tcp: Vec<_> = rows.iter().filter(|row| row["protocol"] == "tcp").collect();
        let secured = tcp
            .iter()
            .filter(|row| row["sslProto"] == "TLSv1.3")
            .count();
        tcp.len() == 4 && secured == 2
    });
    let rows = rows(&router, "connection");
    for port in [outer, inner] {
        let local = format!("127.0.0.1:{port}");
        let mut clients = rows.iter().filter(|row| row["localSocket"] == local);
        assert_eq!(clients.next().expect("a client")["dir"], "in");
    }
    let mut tcp = rows.iter().filter(|row| row["protocol"] == "tcp");
    assert!(tcp.all(|row| row["localSocket"].is_string()), "{rows:?}");
    // Clear text to a secured listener ends, and nothing reaches the service.
    let mut plain = connect(inner);
    plain
        .write_all(b"GET / HTTP/1.0\r\n\r\n")
        .expect("it is taken");
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.ends_with(b"BYE"));
}

#[test]
fn a_client_that_is_cut_off_cuts_the_service_off() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let service = socket.local_addr().expect("an address").port();
    let (port, [a, b]) = tunnel(service);
    let mut client = connect(port);
    client.write_all(b"hello").expect("it is taken");
    let (mut server, _) = socket.accept().expect("a connection");
    server.set_read_timeout(Some(LIMIT)).expect("a time-out");
    let mut hello = [0; 5];
    server.read_exact(&mut hello).expect("it arrives");
    // Closing with something unread resets the connection.
    server.write_all(b"unread").expect("it is taken");
    let mut peeked = [0; 6];
    eventually("the answer is there", || {
        client.peek(&mut peeked).is_ok_and(|n| n == 6)
    });
    drop(client);
    let ended = server.read(&mut hello);
    assert_eq!(
        ended.map_err(|error| error.kind()).err(),
        Some(ErrorKind::ConnectionReset)
    );
    for router in [&a, &b] {
        eventually("nothing is left of it", || {
            let rows = rows(router, "connection");
            rows.iter().all(|row| row["protocol"] != "tcp")
        });
    }
}

#[test]
fn a_link_between_routers_that_is_lost_ends_its_connections() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let service = echo("BYE");
    let (port, [a, b]) = tunnel(service);
    let mut client = connect(port);
    client.write_all(b"hello").expect("it is taken");
    client.read_exact(&mut [0; 5]).expect("it comes back");
    drop(a);
    let ended = client.read(&mut [0; 5]);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    eventually("nobody listens", || {
        rows(&b, "tcpListener")[0]["operStatus"] == "down"
    });
}

#[test]
fn thousands_of_connections_are_open_at_once() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let wanted = 5000;
    let (_, most) = rlimit::Resource::NOFILE.get().expect("a limit");
    if most < 2 * wanted + 500 {
        return skip("too few files may be open for thousands of connections");
    }
    let service = echo("BYE");
    let (port, [_a, b]) = tunnel(service);
    drop(connect(port));
    let before = b.resident_memory();
    let mut open = Vec::new();
    while open.len() < wanted as usize {
        // No more at a time than the service's socket lets wait.
        let first = open.len();
        for _ in 0..100 {
            let mut stream = connect(port);
            stream.write_all(b"hello").expect("it is taken");
            open.push(stream);
        }
        for stream in &mut open[first..] {
            let mut back = [0; 5];
            stream.read_exact(&mut back).expect("it comes back");
            assert_eq!(&back, b"hello");
        }
    }
    if let (Some(before), Some(after)) = (before, b.resident_memory()) {
        let each = after.saturating_sub(before) / wanted;
        assert!(each < 20_000, "{each} bytes for each connection");
    }
    let count = || rows(&b, "routerMetrics")[0]["connectionCount"].as_u64();
    assert!(count() > Some(wanted));
    drop(open);
    eventually("all are gone", || count() < Some(10));
    check_echo(port, 100, "BYE");
}

#[test]
fn a_storm_of_short_connections_is_served() {
    let service = echo("BYE");
    let (port, [_a, _b]) = tunnel(service);
    drop(connect(port));
    let served = Arc::new(AtomicUsize::new(0));
    let crowd: Vec<_> = (0..20)
        .map(|_| {
            let served = Arc::clone(&served);
            thread::spawn(move || {
                for _ in 0..50 {
                    if exchange(connect(port), b"quick") == b"quickBYE" {
                        served.fetch_add(1, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();
    for one in crowd {
        one.join().expect("no panic");
    }
    assert_eq!(served.load(Ordering::Relaxed), 1000);
}

/// A program that runs until this is dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a program of the system is there; if not, says so loudly.
fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    let there = found.is_ok();
    if !there {
        skip(&format!("'{program}' is not installed"));
    }
    there
}

fn run(program: &mut Command) -> Program {
    let program = program.stdout(Stdio::null()).stderr(Stdio::null());
    Program(program.spawn().expect("it is installed"))
}

/// Two routers with a service between them that listens on the port given.
fn tunnel(service: u16) -> (u16, [Router; 2]) {
    let port = free_port();
    let a = start(interior("A"), &[tcp_connector(service, "svc")], &[]);
    let b = start(
        interior("B"),
        &[tcp_listener(port, "svc")],
        &[a.port("routers")],
    );
    (port, [a, b])
}

#[test]
fn iperf3_measures_both_directions() {
    if !has("iperf3") {
        return;
    }
    let service = free_port();
    let _server = run(Command::new("iperf3").args(["-s", "-p", &service.to_string()]));
    drop(connect(service));
    let (port, _routers) = tunnel(service);
    drop(connect(port));
    for extra in [&["-R"][..], &["-P", "4"], &["--bidir"]] {
        // The server may be busy with whoever only looked whether it listens.
        eventually("a measurement", || {
            let mut client = Command::new("iperf3");
            client.args(["-c", "127.0.0.1", "-t", "1", "-p", &port.to_string()]);
            client
                .args(extra)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            client.status().expect("it is installed").success()
        });
    }
}

#[test]
fn redis_is_served_to_its_own_benchmark() {
    if !has("redis-server") || !has("redis-benchmark") {
        return;
    }
    let service = free_port();
    let arguments = [
        "--port",
        &service.to_string(),
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let _server = run(Command::new("redis-server").args(arguments));
    drop(connect(service));
    let (port, _routers) = tunnel(service);
    drop(connect(port));
    let port = port.to_string();
    let benchmark = Command::new("redis-benchmark")
        .args(["-p", &port, "-n", "5000", "-c", "20", "-d", "3000"])
        .args(["-t", "set,get,lpush", "-P", "4", "--csv"])
        .output()
        .expect("it is installed");
    let text = String::from_utf8_lossy(&benchmark.stdout).into_owned();
    assert!(benchmark.status.success(), "{text}");
    for command in ["SET", "GET", "LPUSH"] {
        assert!(text.contains(command), "{text}");
    }
}

#[test]
fn curl_gets_files_over_http_1_and_2() {
    if !has("curl") || !has("nginx") {
        return;
    }
    let directory = tempfile::TempDir::new().expect("a temporary directory");
    let at = |name: &str| directory.path().join(name);
    let content = noise(5_000_000);
    std::fs::write(at("large"), &content).expect("a temporary file");
    let service = free_port();
    let here = directory.path().display();
    let configuration = format!(
        "daemon off; user root; pid {here}/pid; error_log {here}/errors;\n\
         events {{}} http {{ access_log off; client_body_temp_path {here}/body;\n\
         proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;\n\
         uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n\
         server {{ listen 127.0.0.1:{service} http2; root {here}; }} }}"
    );
    let one = configuration.replace(" http2;", ";");
    for (version, configuration) in [
        ("--http1.1", one),
        ("--http2-prior-knowledge", configuration),
    ] {
        std::fs::write(at("nginx.conf"), configuration).expect("a temporary file");
        let server = run(Command::new("nginx").arg("-c").arg(at("nginx.conf")));
        drop(connect(service));
        let (port, _routers) = tunnel(service);
        drop(connect(port));
        let url = format!("http://127.0.0.1:{port}/large");
        for _ in 0..3 {
            let got = Command::new("curl")
                .args(["-sS", version, &url])
                .output()
                .expect("it is installed");
            let errors = String::from_utf8_lossy(&got.stderr).into_owned();
            assert!(got.status.success(), "{errors}");
            assert_eq!(sha256_hex(&got.stdout), sha256_hex(&content));
        }
        stop_nginx(server);
    }
}

/// Lets nginx end its workers, too.
fn stop_nginx(mut server: Program) {
    let id = server.0.id().to_string();
    let _ = Command::new("kill").args(["-QUIT", &id]).status();
    let _ = server.0.wait();
}

const LIMIT: Duration = Duration::from_secs(20);
