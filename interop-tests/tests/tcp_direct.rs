//! TCP services whose octets the system moves from socket to socket by itself, as listener and
//! connector are one router's.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use interop_tests::{
    Router, RouterBuilder, check_echo, connect, echo, eventually, free_port, get, noise,
    sha256_hex, tcp_connector, tcp_listener,
};
use serde_json::json;

/// A router with the service that listens on a port, and where clients get to it.
fn serve(service: u16) -> (Router, u16) {
    let port = free_port();
    let mut builder = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": "one", "workerThreads": 1}))
        .listener("http", json!({"http": true}));
    for (kind, attributes) in [tcp_listener(port, "svc"), tcp_connector(service, "svc")] {
        builder = builder.entity(kind, attributes);
    }
    (builder.start(), port)
}

fn listen() -> (TcpListener, u16) {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    (socket, port)
}

fn take(socket: &TcpListener) -> TcpStream {
    let (stream, _) = socket.accept().expect("a connection");
    stream.set_read_timeout(Some(LIMIT)).expect("a time-out");
    stream.set_write_timeout(Some(LIMIT)).expect("a time-out");
    stream
}

/// Writes as much as everything between here and who does not read holds.
fn write_until_blocked(stream: &mut TcpStream) {
    let octets = vec![7; 256 * 1024];
    let (mut sent, mut idle) = (0, 0);
    while idle < 20 {
        match stream.write(&octets) {
            Ok(length) => (sent, idle) = (sent + length, 0),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                thread::sleep(Duration::from_millis(20));
                idle += 1;
            }
        }
        assert!(sent < 200_000_000, "nobody reads this");
    }
    assert!(sent > 1_000_000, "{sent} octets are no stream");
}

/// What a router has counted under a name and these labels.
fn counted(router: &Router, name: &str, labels: &[&str]) -> u64 {
    let (_, text) = get(router, "http", "/metrics");
    let mut lines = text.lines().filter(|line| line.starts_with(name));
    let line = lines.find(|line| labels.iter().all(|label| line.contains(label)));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn octets(router: &Router, kind: &str, direction: &str) -> u64 {
    let labels = [
        format!("kind=\"{kind}\""),
        format!("direction=\"{direction}\""),
    ];
    let labels = labels.each_ref().map(|label| &**label);
    counted(router, "amqp_router_tcp_octets_total", &labels)
}

#[test]
fn much_arrives_as_it_was_sent_whatever_the_pace_of_the_reader() {
    let (router, port) = serve(echo("BYE"));
    let quick = [30_000_000, 7_000_001, 100_000].map(|size| {
        let client = thread::spawn(move || check_echo(port, size, "BYE"));
        (client, size)
    });
    let sent = noise(12_000_000);
    let mut slow = connect(port);
    let mut writer = slow.try_clone().expect("a handle");
    let copy = sent.clone();
    let sender = thread::spawn(move || {
        writer.write_all(&copy)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut got = Vec::new();
    let mut buffer = vec![0; 200_000];
    loop {
        let length = slow.read(&mut buffer).expect("an answer to its end");
        got.extend_from_slice(&buffer[..length]);
        if length == 0 {
            break;
        }
        thread::sleep(Duration::from_millis(3));
    }
    sender.join().expect("no panic").expect("it was taken");
    let ends = got.split_off(got.len() - 3);
    assert_eq!((ends.as_slice(), got.len()), (&b"BYE"[..], sent.len()));
    assert_eq!(sha256_hex(&got), sha256_hex(&sent));
    let mut passed = sent.len() as u64;
    for (client, size) in quick {
        client.join().expect("all of it came back");
        passed += size as u64;
    }
    for (kind, directions) in [("listener", ["in", "out"]), ("connector", ["out", "in"])] {
        let octets = directions.map(|direction| octets(&router, kind, direction));
        assert_eq!(octets, [passed, passed + 4 * 3], "{kind}");
    }
}

#[test]
fn who_does_not_read_holds_up_its_own_service_and_nobody_else() {
    let (socket, service) = listen();
    let (router, port) = serve(service);
    let client = connect(port);
    let mut server = take(&socket);
    server.set_nonblocking(true).expect("a socket");
    write_until_blocked(&mut server);
    // Others are served meanwhile, on the same worker.
    let answers = thread::spawn(move || {
        let mut other = take(&socket);
        let mut hello = [0; 5];
        other.read_exact(&mut hello).expect("a greeting");
        other.write_all(&hello).expect("it is taken");
        other
    });
    let mut other = connect(port);
    other.write_all(b"hello").expect("it is taken");
    let mut hello = [0; 5];
    other.read_exact(&mut hello).expect("an answer");
    drop((other, answers.join().expect("no panic")));
    // It leaves with much unread, which resets the connection.
    drop(client);
    eventually(
        "the service is told",
        || matches!(server.write(b"more"), Err(error) if error.kind() != ErrorKind::WouldBlock),
    );
    eventually("nothing is left of it", || {
        let closed = ["kind=\"listener\"", "event=\"closed\""];
        counted(&router, "amqp_router_tcp_connections_total", &closed) == 2
    });
}

#[test]
fn who_is_cut_off_while_nobody_reads_it_is_missed() {
    let (socket, service) = listen();
    let (router, port) = serve(service);
    let mut client = connect(port);
    client.write_all(b"hello").expect("it is taken");
    let mut server = take(&socket);
    server.read_exact(&mut [0; 5]).expect("a greeting");
    // What the client leaves unread has its connection reset when it goes.
    server.write_all(b"unread").expect("it is taken");
    let mut peeked = [0; 6];
    eventually("the answer is there", || {
        client.peek(&mut peeked).is_ok_and(|length| length == 6)
    });
    client.set_nonblocking(true).expect("a socket");
    write_until_blocked(&mut client);
    drop(client);
    for kind in ["listener", "connector"] {
        eventually("nothing is left of it", || {
            let closed = [&format!("kind=\"{kind}\""), "event=\"closed\""];
            counted(&router, "amqp_router_tcp_connections_total", &closed) == 1
        });
    }
}

fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut octet = [0];
        stream.read_exact(&mut octet).expect("a head");
        head.push(octet[0]);
    }
}

#[test]
fn bodies_of_http_pass_as_they_are_and_are_counted() {
    let (socket, service) = listen();
    let (router, port) = serve(service);
    let body = noise(6_000_000);
    let answer = body.clone();
    let server = thread::spawn(move || {
        let mut server = take(&socket);
        for _ in 0..3 {
            read_head(&mut server);
            let mut asked = vec![0; 2_000_000];
            server.read_exact(&mut asked).expect("its body");
            assert_eq!(sha256_hex(&asked), sha256_hex(&answer[..2_000_000]));
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            server.write_all(head.as_bytes()).expect("it is taken");
            server.write_all(&answer).expect("it is taken");
        }
    });
    let mut client = connect(port);
    for _ in 0..3 {
        let head = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n";
        client.write_all(head).expect("it is taken");
        client.write_all(&body[..2_000_000]).expect("it is taken");
        read_head(&mut client);
        let mut got = vec![0; body.len()];
        client.read_exact(&mut got).expect("its body");
        assert_eq!(sha256_hex(&got), sha256_hex(&body));
    }
    server.join().expect("all requests were answered");
    eventually("three answers", || {
        let labels = ["kind=\"listener\"", "class=\"2xx\""];
        counted(&router, "amqp_router_http_responses_total", &labels) == 3
    });
}

const LIMIT: Duration = Duration::from_secs(20);
