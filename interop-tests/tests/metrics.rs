//! `/metrics`, as Prometheus's own parser reads it, `/healthz` and `/readyz`.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use interop_tests::{
    Certificates, Job, Outcome, Peer, Router, RouterBuilder, Sasl, Scrape, available, check_echo,
    connect, echo, eventually, free_port, get, rows, skip, tcp_connector, tcp_listener, write_user,
};
use serde_json::json;

fn is_possible() -> bool {
    Router::is_ours_to_configure() && available(&[Peer::Proton])
}

fn builder() -> RouterBuilder {
    RouterBuilder::plain().listener("http", json!({"http": true}))
}

#[test]
fn families_are_well_formed_and_those_of_skrouterd_are_there() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let router = builder().start();
    let scrape = Scrape::of(&router, "http");
    let mut seen = HashSet::new();
    for sample in scrape.all() {
        let series = format!("{}{}", sample["name"], sample["labels"]);
        assert!(seen.insert(series), "twice: {sample}");
        assert_ne!(sample["type"], "unknown", "{sample}");
        assert_ne!(sample["help"], "", "{sample}");
    }
    for (name, kind) in SKROUTERD {
        let sample = scrape.samples(name).next();
        let sample = sample.unwrap_or_else(|| panic!("no {name}"));
        assert_eq!(sample["type"], *kind, "{name}");
        assert_eq!(sample["labels"], json!({}), "{name}");
    }
    let metrics = &rows(&router, "routerMetrics")[0];
    let memory = scrape.value("qdr_router_rss_bytes", &[]);
    let shown = metrics["residentMemoryUsage"].as_f64().expect("a number");
    assert!(
        memory > 0.5 * shown && memory < 2.0 * shown,
        "{memory} {shown}"
    );
    assert!(scrape.value("amqp_router_start_time_seconds", &[]) > 1.7e9);
    let info = [("mode", "standalone"), ("router", "interop")];
    assert_eq!(scrape.value("amqp_router_build_info", &info), 1.0);
    let busy = scrape.samples("amqp_router_worker_busy_ratio");
    assert!(busy.count() >= 1);
}

#[test]
fn figures_move_with_what_they_count() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let router = builder().start();
    eventually("nobody is connected", || {
        Scrape::of(&router, "http").value("qdr_connections_total", &[]) == 0.0
    });
    let before = Scrape::of(&router, "http");
    let outcomes = [
        Outcome::Accepted,
        Outcome::rejected("interop:refused", "not today"),
        Outcome::Released,
        Outcome::modified("interop:note", "later"),
        Outcome::Accepted,
    ];
    let receive = Job::receive("a \"quoted\" one").count(5).credit(1);
    let mut receiving = Peer::Proton.start(&router, receive.outcomes(&outcomes));
    receiving.expect("attached");
    let during = Scrape::of(&router, "http");
    let sent = Peer::Proton.start(&router, Job::send("a \"quoted\" one").count(5));
    sent.finish();
    receiving.finish();
    let settled = Job::receive("settled").count(7);
    let mut receiving = Peer::Proton.start(&router, settled);
    receiving.expect("attached");
    let sent = Peer::Proton.start(&router, Job::send("settled").count(7).settled());
    sent.finish();
    receiving.finish();

    let after = Scrape::of(&router, "http");
    let moved = |name: &str| after.value(name, &[]) - before.value(name, &[]);
    for (name, by) in [
        ("qdr_accepted_deliveries_total", 2.0),
        ("qdr_rejected_deliveries_total", 1.0),
        ("qdr_released_deliveries_total", 1.0),
        ("qdr_modified_deliveries_total", 1.0),
        ("qdr_presettled_deliveries_total", 7.0),
        ("qdr_deliveries_ingress_total", 12.0),
        ("qdr_deliveries_egress_total", 12.0),
        ("amqp_router_delivery_seconds_count", 5.0),
    ] {
        assert_eq!(moved(name), by, "{name}");
    }
    assert!(moved("amqp_router_delivery_seconds_sum") > 0.0);
    let address = [("address", "Ma \"quoted\" one"), ("direction", "ingress")];
    // The address is gone with its last link, and its figures with it.
    assert_eq!(
        after.value("amqp_router_address_deliveries_total", &address),
        0.0
    );
    for (name, least) in [
        ("qdr_connections_total", 1.0),
        ("qdr_amqp_service_connections", 1.0),
        ("qdr_links_total", 1.0),
        ("qdr_addresses_total", 1.0),
    ] {
        let more = during.value(name, &[]) - before.value(name, &[]);
        assert!(more >= least, "{name}: {more}");
    }
}

#[test]
fn pools_have_what_is_in_use() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let router = builder().start();
    let used = |kind: &str| {
        let pools = rows(&router, "allocator");
        let pool = pools.iter().find(|row| row["typeName"] == kind);
        let pool = pool.unwrap_or_else(|| panic!("no {kind}: {pools:?}"));
        let number = |attribute: &str| pool[attribute].as_i64().expect("a number");
        assert!(number("typeSize") > 0, "{pool:?}");
        assert!(
            number("totalAllocFromHeap") >= number("heldByThreads"),
            "{pool:?}"
        );
        number("heldByThreads")
    };
    let before = used("outgoing_link");
    let receive = Job::receive("pool").count(1).time_limit(LIMIT);
    let mut receiving = Peer::Proton.start(&router, receive);
    receiving.expect("attached");
    eventually("a link more", || used("outgoing_link") == before + 1);
    assert!(used("connection") >= 2 && used("incoming_delivery") >= 0);
    let sent = Peer::Proton.start(&router, Job::send("pool").count(1));
    sent.finish();
    receiving.finish();
}

#[test]
fn what_waits_is_shown_while_it_waits() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let router = builder().impatient().start();
    // It takes one, and no more.
    let receive = Job::receive("slow").count(20).credit(1).hold_credit();
    let mut receiving = Peer::Proton.start(&router, receive.time_limit(LIMIT));
    receiving.expect("attached");
    let send = Job::send("slow").count(20).time_limit(LIMIT);
    let _sending = Peer::Proton.start(&router, send);
    eventually("messages wait", || {
        let scrape = Scrape::of(&router, "http");
        let is = |name: &str, value: f64| scrape.value(name, &[]) == value;
        is("amqp_router_deliveries_undelivered", 19.0)
            && is("amqp_router_deliveries_unsettled", 19.0)
            && is("qdr_links_blocked_total", 1.0)
    });
    let scrape = Scrape::of(&router, "http");
    let address = [("address", "Mslow"), ("direction", "ingress")];
    let name = "amqp_router_address_deliveries_total";
    assert_eq!(scrape.value(name, &address), 20.0);
    let address = [("address", "Mslow"), ("direction", "egress")];
    assert_eq!(scrape.value(name, &address), 1.0);
    // After a while they are stuck, in management as well.
    eventually("messages are stuck", || {
        let scrape = Scrape::of(&router, "http");
        scrape.value("qdr_deliveries_stuck_total", &[]) == 38.0
    });
    assert_eq!(rows(&router, "routerMetrics")[0]["deliveriesStuck"], 38);
    // They wait on the link that they came by, and on that which they are to leave by.
    let links = rows(&router, "router.link");
    let stuck = links.iter().filter(|row| row["deliveriesStuck"] == 19);
    let directions = stuck.map(|row| row["linkDir"].as_str());
    assert_eq!(
        directions.collect::<HashSet<_>>(),
        HashSet::from([Some("in"), Some("out")])
    );
    eventually("the log tells of it", || {
        let log = router.log();
        let told = |start: &str| log.lines().filter(|line| line.contains(start)).count();
        told("Stuck delivery: dir=in") == 1
            && told("Stuck delivery: dir=out") == 1
            && told("Link blocked with zero credit for") == 1
    });
}

#[test]
fn tcp_services_are_counted() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let (served, refused) = (free_port(), free_port());
    let nobody = free_port();
    let mut router = builder();
    for (kind, attributes) in [
        tcp_listener(served, "echo"),
        tcp_listener(refused, "nobody"),
        tcp_connector(echo("E"), "echo"),
        tcp_connector(nobody, "nobody"),
    ] {
        router = router.entity(kind, attributes);
    }
    let router = router.start();
    for _ in 0..3 {
        check_echo(served, 1000, "E");
    }
    let failing = interop_tests::connect(refused);
    let connector = format!("connector of nobody to {nobody}");
    let total = |labels: &[(&str, &str)]| {
        let scrape = Scrape::of(&router, "http");
        scrape.value("amqp_router_tcp_connections_total", labels)
    };
    eventually("the failure is counted", || {
        total(&[
            ("kind", "connector"),
            ("name", &connector),
            ("event", "failed"),
        ]) >= 1.0
    });
    drop(failing);
    let listener = [("kind", "listener"), ("name", "listener of echo")];
    eventually("the connections are over", || {
        total(&[listener[0], listener[1], ("event", "closed")]) == 3.0
    });
    assert_eq!(total(&[listener[0], listener[1], ("event", "opened")]), 3.0);
    let scrape = Scrape::of(&router, "http");
    let octets = |direction: &str| {
        let labels = [listener[0], listener[1], ("direction", direction)];
        scrape.value("amqp_router_tcp_octets_total", &labels)
    };
    assert_eq!((octets("in"), octets("out")), (3000.0, 3003.0));
    // Nobody's connection was never made, and its client got no octet.
    for name in [
        "amqp_router_tcp_connect_seconds",
        "amqp_router_tcp_first_octet_seconds",
    ] {
        assert_eq!(scrape.value(&format!("{name}_count"), &[]), 3.0, "{name}");
        assert!(scrape.value(&format!("{name}_sum"), &[]) > 0.0, "{name}");
    }
}

#[test]
fn refusals_are_counted_by_reason() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let certificates = Certificates::generate();
    let directory = tempfile::tempdir().expect("a directory");
    let users = write_user(directory.path(), "alice", "secret");
    let port = free_port();
    let (kind, mut tcp) = tcp_listener(port, "service");
    tcp["sslProfile"] = json!("tls");
    let (_, connector) = tcp_connector(echo("service"), "service");
    let hasty = |required| {
        json!({
            "sslProfile": "tls",
            "requireSsl": required,
            "initialHandshakeTimeoutSeconds": 1,
        })
    };
    let router = builder()
        .router(json!({"saslConfigDir": users}))
        .entity(
            "sslProfile",
            json!({
                "name": "tls",
                "certFile": certificates.path("server.pem"),
                "privateKeyFile": certificates.path("server.key"),
            }),
        )
        .entity(kind, tcp)
        .entity("tcpConnector", connector)
        .listener("secure", json!({"sslProfile": "tls", "requireSsl": true}))
        .listener(
            "https",
            json!({"sslProfile": "tls", "http": true, "requireSsl": true}),
        )
        .listener("hasty", json!({"initialHandshakeTimeoutSeconds": 1}))
        .listener("hasty secure", hasty(true))
        .listener("hasty either", hasty(false))
        .listener(
            "users",
            json!({"saslMechanisms": "PLAIN", "authenticatePeer": true}),
        )
        .start();
    // TLS is part of the time to open.
    let silent = ["hasty secure", "hasty either"].map(|listener| connect(router.port(listener)));
    for (mut stream, name) in silent.into_iter().zip(["hasty secure", "hasty either"]) {
        assert_eq!(stream.read(&mut [0]).expect("an end"), 0, "{name}");
        let line = format!("Listener '{name}': connection from 127.0.0.1:");
        eventually("the log says why", || {
            let log = router.log();
            let mut lines = log.lines();
            lines.any(|told| told.contains(&line) && told.ends_with("failed: timed out"))
        });
    }
    let say = |port: u16, what: &[u8]| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
        stream.write_all(what).expect("it is taken");
        stream
    };
    let junk = b"this is no TLS at all";
    let mut client = connect(port);
    client.write_all(junk).expect("it is taken");
    let _streams = [
        say(router.port("secure"), junk),
        say(router.port("https"), junk),
        say(router.port("normal"), b"GET / HTTP/1.1\r\n\r\n"),
        say(router.port("hasty"), b"AMQP"),
        say(
            router.port("normal"),
            b"AMQP\x00\x01\x00\x00\x00\x00\x00\x08\x02\x07\x00\x00",
        ),
    ];
    let wrong = Job::connect().sasl(Sasl::plain("alice", "wrong"));
    Peer::Proton.start_at(&router, "users", wrong).failure();
    let name = "amqp_router_connections_refused_total";
    eventually("all are counted", || {
        let scrape = Scrape::of(&router, "http");
        let of = |reason: &str| scrape.value(name, &[("reason", reason)]);
        let counts = ["tls", "header", "timeout", "opening"].map(of);
        counts == [3.0, 1.0, 3.0, 1.0] && of("login") >= 1.0
    });
    for line in [
        "Listener 'secure': connection from 127.0.0.1:",
        "Listener 'https': connection from 127.0.0.1:",
        "tcpListener 'listener of service': connection from 127.0.0.1:",
    ] {
        assert!(router.log().contains(line), "{line}");
    }
    let scrape = Scrape::of(&router, "http");
    assert_eq!(scrape.value(name, &[("reason", "rate")]), 0.0);
    assert_eq!(scrape.value(name, &[("reason", "memory")]), 0.0);
    assert_eq!(scrape.value(name, &[("reason", "logins")]), 0.0);
    assert_eq!(scrape.samples(name).count(), 12);
}

#[test]
fn without_memory_left_nobody_connects_and_everybody_may_look() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let router = builder().router(json!({"maxMemoryMegabytes": 1})).start();
    eventually("the log says so", || {
        router
            .log()
            .contains("of 1 MB are in use; new connections are closed")
    });
    Peer::Fe2o3.start(&router, Job::connect()).failure();
    let name = "amqp_router_connections_refused_total";
    let scrape = Scrape::of(&router, "http");
    assert!(scrape.value(name, &[("reason", "memory")]) >= 1.0);
}

#[test]
fn what_policy_and_limits_refuse_is_counted() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let groups = |hosts: &str| json!({"all": {"users": "*", "remoteHosts": hosts, "sources": "news", "targets": "*"}});
    let router = builder()
        .entity(
            "policy",
            json!({"enableVhostPolicy": true, "maxConnections": 5}),
        )
        .entity(
            "vhost",
            json!({"hostname": "$default", "groups": groups("*")}),
        )
        .entity(
            "vhost",
            json!({"hostname": "shut", "groups": groups("10.0.0.1")}),
        )
        .listener("shut", json!({"policyVhost": "shut"}))
        .start();
    let value = |name: &str| Scrape::of(&router, "http").value(name, &[]);
    let refused = |reason: &str| {
        let name = "amqp_router_connections_refused_total";
        Scrape::of(&router, "http").value(name, &[("reason", reason)])
    };
    // Policy turns away what is open already.
    let shut = Job::receive("news").count(1);
    Peer::Proton.start_at(&router, "shut", shut).failure();
    eventually("policy's refusal is counted", || refused("policy") == 1.0);
    Peer::Proton
        .start(&router, Job::receive("secrets").count(1))
        .failure();
    let links = || value("amqp_router_links_refused_total");
    eventually("a link's refusal is counted", || links() == 1.0);

    let connections = || value("qdr_amqp_service_connections");
    eventually("all are gone", || connections() == 0.0);
    let connect = || interop_tests::connect(router.port("normal"));
    let crowd: Vec<_> = (0..7).map(|_| connect()).collect();
    eventually("two are too many", || refused("limit") == 2.0);
    eventually("five are open", || connections() == 5.0);
    drop(crowd);
    // However fast this machine is: some come in the moments between two looks.
    eventually("so many at once are too fast", || {
        for _ in 0..3000 {
            drop(connect());
        }
        // Who looks comes from the same host, and would be too fast as well.
        thread::sleep(Duration::from_secs(1));
        refused("rate") > 0.0
    });
}

#[test]
fn a_late_settlement_is_counted_by_its_delay_and_a_dry_sender_as_blocked() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let router = builder().start();
    let job = Job::receive("late").outcomes(&[Outcome::None]);
    let mut keeping = Peer::Proton.start(&router, job);
    keeping.expect("attached");
    let sending = Peer::Proton.start(&router, Job::send("late").count(1));
    keeping.expect("message");
    thread::sleep(Duration::from_millis(2500));
    drop(keeping);
    sending.finish();
    let scrape = Scrape::of(&router, "http");
    for (name, count) in [
        ("qdr_modified_deliveries_total", 1.0),
        ("qdr_deliveries_delayed_1sec_total", 1.0),
        ("qdr_deliveries_delayed_10sec_total", 0.0),
    ] {
        assert_eq!(scrape.value(name, &[]), count, "{name}");
    }

    let send = Job::send("nobody").count(1).time_limit(LIMIT);
    let waiting = Peer::Proton.start(&router, send);
    let blocked = |direction| {
        let labels = [("direction", direction)];
        Scrape::of(&router, "http").value("amqp_router_links_blocked", &labels)
    };
    eventually("it has no credit", || blocked("in") == 1.0);
    assert_eq!(blocked("out"), 0.0);
    drop(waiting);
    eventually("it is gone", || blocked("in") == 0.0);
}

#[test]
fn a_router_is_ready_when_it_is_in_the_network() {
    if !is_possible() {
        return skip("it needs Proton, and a router of ours");
    }
    let port = free_port();
    let towards = json!({
        "name": "to B", "role": "inter-router", "host": "127.0.0.1", "port": port.to_string(),
    });
    let a = builder()
        .router(json!({"mode": "interior", "id": "A"}))
        .entity("connector", towards)
        .start();
    assert_eq!(get(&a, "http", "/healthz"), (200, "OK\n".into()));
    let (status, text) = get(&a, "http", "/readyz");
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("connector 'to B' is not connected"), "{text}");
    assert_eq!(Scrape::of(&a, "http").value("qdr_routers_total", &[]), 0.0);

    let listener = json!({
        "name": "routers", "role": "inter-router", "host": "127.0.0.1", "port": port.to_string(),
        "saslMechanisms": "ANONYMOUS",
    });
    let up = || {
        let labels = [("connector", "to B")];
        Scrape::of(&a, "http").value("amqp_router_connector_up", &labels)
    };
    assert_eq!(up(), 0.0);
    let b = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": "B"}))
        .entity("listener", listener)
        .start();
    eventually("it is ready", || get(&a, "http", "/readyz").0 == 200);
    assert_eq!(up(), 1.0);
    eventually("the other one is counted", || {
        let scrape = Scrape::of(&a, "http");
        scrape.value("qdr_routers_total", &[]) == 1.0
            && scrape.value("qdr_last_topology_change_timestamp", &[]) > 1.7e9
            && scrape.value("amqp_router_route_changes_total", &[]) >= 1.0
    });
    assert_eq!(rows(&a, "routerMetrics")[0]["nodeCount"], 1);

    let transit = || Scrape::of(&a, "http").value("qdr_deliveries_transit_total", &[]);
    let mut receiving = Peer::Proton.start(&b, Job::receive("far").count(3));
    receiving.expect("attached");
    let before = transit();
    Peer::Proton.start(&a, Job::send("far").count(3)).finish();
    receiving.finish();
    assert_eq!(
        transit() - before,
        3.0,
        "what routers tell each other does not count"
    );

    drop(b);
    eventually("it is cut off", || get(&a, "http", "/readyz").0 == 503);
    assert_eq!(up(), 0.0);
}

#[test]
fn pages_can_be_switched_off() {
    if !Router::is_ours_to_configure() {
        return skip("it needs a router of ours");
    }
    let off = json!({"http": true, "metrics": false, "healthz": false});
    let router = RouterBuilder::plain().listener("http", off).start();
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(&router, "http", path).0, 404, "{path}");
    }
}

/// `reference/router/config-and-management.md` §4.
const SKROUTERD: &[(&str, &str)] = &[
    ("qdr_connections_total", "gauge"),
    ("qdr_links_total", "gauge"),
    ("qdr_addresses_total", "gauge"),
    ("qdr_routers_total", "gauge"),
    ("qdr_deliveries_stuck_total", "gauge"),
    ("qdr_links_blocked_total", "gauge"),
    ("qdr_last_topology_change_timestamp", "gauge"),
    ("qdr_presettled_deliveries_total", "counter"),
    ("qdr_dropped_presettled_deliveries_total", "counter"),
    ("qdr_accepted_deliveries_total", "counter"),
    ("qdr_released_deliveries_total", "counter"),
    ("qdr_rejected_deliveries_total", "counter"),
    ("qdr_modified_deliveries_total", "counter"),
    ("qdr_deliveries_ingress_total", "counter"),
    ("qdr_deliveries_egress_total", "counter"),
    ("qdr_deliveries_transit_total", "counter"),
    ("qdr_deliveries_delayed_1sec_total", "counter"),
    ("qdr_deliveries_delayed_10sec_total", "counter"),
    ("qdr_tcp_service_connections", "gauge"),
    ("qdr_amqp_service_connections", "gauge"),
    ("qdr_http1_service_connections", "gauge"),
    ("qdr_http2_service_connections", "gauge"),
    ("qdr_alloc_pool_bytes", "gauge"),
    ("qdr_router_vmsize_bytes", "gauge"),
    ("qdr_router_rss_bytes", "gauge"),
];
const LIMIT: Duration = Duration::from_secs(60);
