//! Flow telemetry, as a collector on Proton follows it.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use interop_tests::{
    Collector, Job, Peer, Request, Router, RouterBuilder, available, fields, free_port,
};
use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};

fn interior(id: &str) -> RouterBuilder {
    RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": id}))
        .listener(
            "routers",
            json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"}),
        )
}

fn tcp(kind: &str, port: u16) -> (&str, Value) {
    let port = port.to_string();
    let mut entity = json!({"name": "web", "host": "127.0.0.1", "port": port, "address": "web:80"});
    if kind == "tcpConnector" {
        entity["processId"] = "process 1".into();
    }
    (kind, entity)
}

/// A service that answers what it gets with as much again, and a word more.
fn service() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in socket.incoming().flatten() {
            thread::spawn(move || {
                let mut stream = stream;
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    let answer = [&buffer[..n], b" too"].concat();
                    if stream.write_all(&answer).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A service that says one word to each client, and waits until that one leaves.
fn quiet_service() -> u16 {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    socket.bind(&address.into()).expect("a free port");
    // The router connects to it on several threads at once: with a short queue, the system would lose
    // connections whose clients wait for the service to speak first.
    socket.listen(4096).expect("a service");
    let socket = TcpListener::from(socket);
    let port = socket.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            // A small stack each: there are thousands.
            let client = thread::Builder::new().stack_size(64 * 1024);
            let client = client.spawn(move || {
                let _ = stream.write_all(b"!");
                let _ = stream.read(&mut [0]);
            });
            client.expect("a thread");
        }
    });
    port
}

/// Connects, as soon as somebody listens.
fn connect(port: u16) -> TcpStream {
    let deadline = Instant::now() + LIMIT;
    loop {
        match TcpStream::connect(("127.0.0.1", port)) {
            Ok(stream) => return stream,
            Err(error) => assert!(Instant::now() < deadline, "nobody listens: {error}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// Talks with the service.
fn talk(port: u16) {
    let mut stream = connect(port);
    stream.write_all(b"hello").expect("a client may write");
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).expect("an answer");
    stream.shutdown(Shutdown::Write).expect("a client may stop");
    stream.read_to_end(&mut Vec::new()).expect("an end");
}

/// Creates or deletes a connector.
fn manage(router: &Router, operation: &str, name: &str, attributes: &Value) {
    let text = |text: &str| json!(["string", text]);
    let pairs = attributes.as_object().expect("attributes").iter();
    let pairs: Vec<Value> = pairs
        .map(|(name, value)| json!([text(name), text(value.as_str().expect("a text"))]))
        .collect();
    let request = Request {
        body: json!(["map", pairs]),
        application_properties: fields([
            ("operation", text(operation)),
            ("type", text("io.skupper.router.connector")),
            ("name", text(name)),
        ]),
        ..Request::text("asked", "")
    };
    let job = Job::request("$management", vec![request]).plain_body();
    let answered = Peer::Proton.start(router, job).finish();
    let status = &answered.named("message")[0]["application_properties"]["statusCode"];
    assert!(matches!(status.as_u64(), Some(201 | 204)), "{answered}");
}

#[test]
fn a_collector_learns_what_a_router_is_and_has() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let site = json!({"name": "here", "location": "earth", "version": "7"});
    let port = free_port();
    let (kind, entity) = tcp("tcpListener", port);
    let router = interior("A")
        .entity("site", site)
        .entity(kind, entity)
        .start();
    let mut collector = Collector::start(&router);
    let (_, router_record) = collector.record(ROUTER, |_| true);
    assert_eq!(
        (&router_record["30"], &router_record["13"]),
        (&json!("0/A"), &json!("interior"))
    );
    let (site, record) = collector.record(SITE, |_| true);
    assert_eq!(
        (&record["30"], &record["9"], &record["32"]),
        (&json!("here"), &json!("earth"), &json!("7"))
    );
    assert_eq!(router_record["2"], site.as_str());
    let (_, listener) = collector.record(LISTENER, |_| true);
    assert_eq!(listener["2"], router_record["1"]);
    assert_eq!(
        (&listener["16"], &listener["18"], &listener["19"]),
        (&json!("tcp"), &json!(port.to_string()), &json!("web:80"))
    );
    let (_, access) = collector.record(ROUTER_ACCESS, |_| true);
    assert_eq!(
        (&access["30"], &access["54"], &access["52"]),
        (&json!("routers"), &json!("inter-router"), &json!(0))
    );
    // The beacon says where all of this can be had.
    let beacon = &collector.named("beacon")[0]["properties"];
    let id = router_record["1"].as_str().expect("a text");
    assert_eq!(beacon["id"], id);
    assert_eq!(beacon["sourceType"], "ROUTER");
    assert_eq!(beacon["address"], format!("mc/sfe.{id}"));
    assert_eq!(beacon["direct"], format!("sfe.{id}"));
    let heartbeat = collector.until(|collector| {
        let heartbeats = collector.named("heartbeat");
        heartbeats.first().map(|heartbeat| (*heartbeat).clone())
    });
    assert_eq!(heartbeat["properties"]["id"], id);
}

#[test]
fn a_connection_across_two_routers_is_one_record() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let port = free_port();
    let (kind, entity) = tcp("tcpListener", port);
    let a = interior("A").entity(kind, entity).start();
    let (kind, entity) = tcp("tcpConnector", service());
    let to_a = a.port("routers").to_string();
    let to_a = json!({"name": "to A", "host": "127.0.0.1", "port": to_a, "role": "inter-router"});
    let b = interior("B")
        .entity(kind, entity)
        .entity("connector", to_a)
        .start();
    // The collector is with the other router, and follows both.
    let mut collector = Collector::start(&b);
    let (listener, _) = collector.record(LISTENER, |_| true);
    let (connector, record) = collector.record(CONNECTOR, |_| true);
    assert_eq!(record["7"], "process 1");
    let (access, _) = collector.record(ROUTER_ACCESS, |r| r["52"] == 1);
    let (_, link) = collector.record(LINK, |r| r["53"] == "up");
    assert_eq!((&link["6"], &link["30"]), (&json!(access), &json!("to A")));
    assert!(link["55"].is_u64());

    talk(port);
    let (_, flow) = collector.record(BIFLOW, |r| r.contains_key("4"));
    assert_eq!(flow["2"], listener.as_str());
    assert_eq!((&flow["23"], &flow["58"]), (&json!(5), &json!(9)));
    assert_eq!(flow["60"], connector.as_str());
    assert_eq!(flow["31"], "0/A");
    assert_eq!(
        (&flow["14"], &flow["62"]),
        (&json!("127.0.0.1"), &json!("127.0.0.1"))
    );
    for port in ["17", "63"] {
        assert!(
            flow[port]
                .as_str()
                .is_some_and(|port| port.parse::<u16>().is_ok())
        );
    }
    let number = |code: &str| flow[code].as_u64().expect("a number");
    assert!(number("4") >= number("3"));
    assert!(number("24") >= number("61"), "the whole way takes longer");
    collector.record(LISTENER, |r| r["40"] == 1);
    collector.record(CONNECTOR, |r| r["40"] == 1);
}

#[test]
fn both_ends_say_why_a_connection_failed() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let port = free_port();
    let entities = [tcp("tcpListener", port), tcp("tcpConnector", free_port())];
    let router = entities
        .into_iter()
        .fold(interior("A"), |router, (kind, entity)| {
            router.entity(kind, entity)
        })
        .start();
    let mut collector = Collector::start(&router);
    let (connector, _) = collector.record(CONNECTOR, |_| true);
    let mut client = connect(port);
    // Its end, or its reset.
    let _ = client.read(&mut [0]);
    let (_, flow) = collector.record(BIFLOW, |r| r.contains_key("4"));
    let text = |code: &str| flow[code].as_str().expect("a text").to_owned();
    assert!(text("64").starts_with("delivery-failed ("), "{flow:?}");
    assert!(text("65").starts_with("connection-failed ("), "{flow:?}");
    assert_eq!(text("60"), connector);
}

#[test]
fn a_connector_that_reaches_nobody_says_why() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let nowhere = json!({
        "name": "nowhere", "host": "127.0.0.1", "port": free_port().to_string(),
        "role": "inter-router",
    });
    let router = interior("A").entity("connector", nowhere).start();
    let mut collector = Collector::start(&router);
    let (_, link) = collector.record(LINK, |r| r.contains_key("29"));
    let why = link["29"].as_str().expect("a text");
    assert!(why.contains("refused"), "{why}");
    assert_eq!(
        (&link["53"], &link["28"]),
        (&json!("down"), &json!("unknown"))
    );
    // It has never been up.
    assert_eq!(link["57"], 0);
}

#[test]
fn an_edge_router_is_followed_from_the_network() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let (kind, entity) = tcp("tcpConnector", service());
    let edges = json!({"role": "edge", "saslMechanisms": "ANONYMOUS"});
    let a = interior("A")
        .listener("edges", edges)
        .entity(kind, entity)
        .start();
    let port = free_port();
    let (kind, entity) = tcp("tcpListener", port);
    let to_a = a.port("edges").to_string();
    let to_a = json!({"name": "to A", "host": "127.0.0.1", "port": to_a, "role": "edge"});
    let _edge = RouterBuilder::plain()
        .router(json!({"mode": "edge", "id": "E"}))
        .entity(kind, entity)
        .entity("connector", to_a)
        .start();
    let mut collector = Collector::start(&a);
    collector.record(ROUTER, |r| r["13"] == "edge");
    let (connector, _) = collector.record(CONNECTOR, |_| true);
    talk(port);
    let (_, flow) = collector.record(BIFLOW, |r| r.contains_key("4"));
    assert_eq!((&flow["23"], &flow["58"]), (&json!(5), &json!(9)));
    assert_eq!(
        (&flow["31"], &flow["60"]),
        (&json!("Local"), &json!(connector))
    );
}

#[test]
fn a_storm_of_connections_is_served_and_told_in_part() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let port = free_port();
    let router = [
        tcp("tcpListener", port),
        tcp("tcpConnector", quiet_service()),
    ];
    let router = router.into_iter();
    let router = router.fold(interior("A"), |router, (kind, entity)| {
        router.entity(kind, entity)
    });
    let router = router.start();
    let mut collector = Collector::start(&router);
    collector.record(CONNECTOR, |_| true);
    // Each has a record of either end at this router.
    let connections: Vec<TcpStream> = (0..2700).map(|_| connect(port)).collect();
    for mut connection in &connections {
        connection
            .read_exact(&mut [0])
            .expect("a word of the service");
    }
    collector.record(LISTENER, |r| r["40"] == 2700);
    let told = |collector: &Collector| {
        collector
            .records
            .values()
            .filter(|r| r["0"] == BIFLOW)
            .count()
    };
    collector.until(|collector| (told(collector) >= 2500).then_some(()));
    let most = told(&collector);
    assert!(most < 2700, "{most}");
    drop(connections);
    collector.until(|collector| {
        let flows = collector.records.values().filter(|r| r["0"] == BIFLOW);
        flows.clone().all(|r| r.contains_key("4")).then_some(())
    });
    // There is room again.
    connect(port)
        .read_exact(&mut [0])
        .expect("a word of the service");
    collector.until(|collector| (told(collector) > most).then_some(()));
}

#[test]
fn nonsense_does_not_stop_telemetry() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let router = interior("A").start();
    let mut collector = Collector::start(&router);
    let (name, _) = collector.record(ROUTER, |_| true);
    for address in [format!("sfe.{name}"), format!("vfcr.{name}")] {
        let outcome = |job: Job| {
            let sent = Peer::Proton.start(&router, job).finish();
            sent.named("outcome")[0]["outcome"].clone()
        };
        let large = Job::send(&address).count(1).sizes(&[2_000_000]);
        assert_eq!(outcome(large), "rejected", "{address}");
        let small = Job::send(&address).count(1).sizes(&[100]);
        assert_eq!(outcome(small), "accepted", "{address}");
    }
    // A collector that comes now is told everything all the same.
    drop(collector);
    Collector::start(&router).record(ROUTER, |_| true);
}

#[test]
fn what_ends_is_told() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let a = interior("A").start();
    let to_a = a.port("routers").to_string();
    let to_a = json!({"name": "to A", "host": "127.0.0.1", "port": to_a, "role": "inter-router"});
    let b = interior("B").entity("connector", to_a).start();
    let mut collector = Collector::start(&b);
    let (link, _) = collector.record(LINK, |r| r["53"] == "up");
    drop(a);
    let (_, down) = collector.record(LINK, |r| r["53"] == "down");
    assert_eq!(down["57"], 1);
    assert!(down["56"].is_u64() && down["28"].is_string() && down["29"].is_string());
    manage(&b, "DELETE", "to A", &json!({}));
    let (ended, _) = collector.record(LINK, |r| r.contains_key("4"));
    assert_eq!(ended, link);
}

#[test]
fn warnings_of_the_log_are_told() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let nobody = free_port().to_string();
    let connector =
        json!({"name": "c", "host": "127.0.0.1", "port": nobody, "role": "inter-router"});
    let router = interior("A").start();
    let mut collector = Collector::start(&router);
    collector.record(ROUTER, |_| true);
    manage(&router, "CREATE", "c", &connector);
    let (_, line) = collector.record(LOG, |_| true);
    let text = line["49"].as_str().expect("a text");
    assert!(text.starts_with("LOG_SERVER: Connector 'c'"), "{text}");
    assert_eq!((&line["48"], &line["3"]), (&json!(2), &line["4"]));
    assert!(line["50"].is_string() && line["51"].is_u64());
}

const SITE: u32 = 0;
const ROUTER: u32 = 1;
const LINK: u32 = 2;
const LISTENER: u32 = 4;
const CONNECTOR: u32 = 5;
const LOG: u32 = 14;
const ROUTER_ACCESS: u32 = 15;
const BIFLOW: u32 = 16;
const LIMIT: Duration = Duration::from_secs(25);
