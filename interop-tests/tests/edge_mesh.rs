//! Edge routers of one site that are connected to each other, and edge routers whose certificate is
//! renewed.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::time::Duration;

use interop_tests::{
    Certificates, Job, Peer, Request, Router, RouterBuilder, Running, available, check_echo,
    clients, connect, echo, eventually, free_port, rows, tcp_connector, tcp_listener, update,
};
use serde_json::{Value, json};

clients!(everyone_gets_a_multicast_once);
clients!(a_request_is_answered_within_the_mesh);

fn builder(id: &str, mode: &str, entities: &[(&str, Value)]) -> RouterBuilder {
    let router = RouterBuilder::plain().router(json!({"mode": mode, "id": id}));
    entities.iter().fold(router, |router, (kind, attributes)| {
        router.entity(kind, attributes.clone())
    })
}

fn towards(port: u16, role: &str) -> (&'static str, Value) {
    let (name, port) = (format!("to {port}"), port.to_string());
    let connector = json!({"name": name, "host": "127.0.0.1", "port": port, "role": role});
    ("connector", connector)
}

/// An interior router, beside another.
fn interior(id: &str, neighbour: Option<u16>) -> Router {
    let neighbour = neighbour.map(|port| towards(port, "inter-router"));
    let mut router = builder(id, "interior", neighbour.as_slice());
    for role in ["inter-router", "edge"] {
        router = router.listener(role, json!({"role": role, "saslMechanisms": "ANONYMOUS"}));
    }
    router.start()
}

/// Two interior routers, an edge router at each, and those connected to each other.
struct Site {
    a: Router,
    b: Router,
    edges: [Router; 2],
}

impl Site {
    /// With these entities at the edge routers.
    fn start(first: &[(&str, Value)], second: &[(&str, Value)]) -> Self {
        let a = interior("A", None);
        let b = interior("B", Some(a.port("inter-router")));
        let mesh = json!({"role": "inter-edge", "saslMechanisms": "ANONYMOUS"});
        let e1 = [first, &[towards(a.port("edge"), "edge")]].concat();
        let e1 = builder("E1", "edge", &e1).listener("mesh", mesh).start();
        let ways = [
            towards(b.port("edge"), "edge"),
            towards(e1.port("mesh"), "inter-edge"),
        ];
        let e2 = builder("E2", "edge", &[second, &ways].concat()).start();
        let site = Self {
            a,
            b,
            edges: [e1, e2],
        };
        for router in &site.edges {
            eventually("connections up and across", || {
                ["edge", "inter-edge"].iter().all(|role| {
                    let rows = rows(router, "connection");
                    let of_role = |row: &_| is_open(row, role);
                    rows.iter().any(of_role)
                })
            });
        }
        site
    }

    fn all(&self) -> [&Router; 4] {
        let [e1, e2] = &self.edges;
        [&self.a, &self.b, e1, e2]
    }

    /// The names of the meshes that interior routers know of.
    fn meshes(&self) -> Vec<String> {
        let connections = [&self.a, &self.b].map(|router| rows(router, "connection"));
        let of_edges = connections
            .iter()
            .flatten()
            .filter(|row| is_open(row, "edge"));
        of_edges
            .map(|row| row["meshId"].as_str().unwrap_or_default().to_owned())
            .collect()
    }
}

fn is_open(row: &std::collections::BTreeMap<String, Value>, role: &str) -> bool {
    row["role"] == role && row["opened"] == true
}

fn is_possible() -> bool {
    Router::is_ours_to_configure() && available(&[Peer::Proton])
}

fn receive(peer: Peer, router: &Router, job: Job) -> Running {
    let mut receiving = peer.start(router, job.time_limit(LIMIT));
    receiving.expect("attached");
    receiving
}

/// How many destinations a router has for an address: its own links, and other routers.
fn destinations(router: &Router, key: &str) -> i64 {
    let rows = rows(router, "router.address");
    let Some(row) = rows.iter().find(|row| row["key"] == key) else {
        return 0;
    };
    let count = |name: &str| row[name].as_i64().unwrap_or(0);
    count("subscriberCount") + count("remoteCount")
}

fn everyone_gets_a_multicast_once(peer: Peer) {
    if !is_possible() {
        return;
    }
    let site = Site::start(&[], &[]);
    let all = site.all();
    let receiving: Vec<Running> = all
        .iter()
        .map(|router| {
            receive(
                peer,
                router,
                Job::receive("multicast/news").count(2 * all.len()),
            )
        })
        .collect();
    for router in [&site.a, &site.b] {
        eventually("its own receiver, its edge's, and the other router", || {
            destinations(router, "Mmulticast/news") == 3
        });
    }
    for router in &site.edges {
        eventually("its own receiver, and its peer's", || {
            destinations(router, "Mmulticast/news") >= 2
        });
    }
    eventually("a name for the mesh", || {
        let meshes: BTreeSet<_> = site.meshes().into_iter().collect();
        meshes.len() == 1 && meshes.iter().all(|name| name.len() == 15)
    });
    let address = "multicast/news";
    for router in &all {
        for job in [Job::send(address), Job::send_anonymous(address)] {
            let sent = peer.start(router, job.count(1)).finish();
            assert_eq!(sent.named("outcome")[0]["outcome"], "accepted", "{sent}");
        }
    }
    for receiver in receiving {
        let received = receiver.finish();
        // The job ends at the last one; one more would have come before others.
        assert_eq!(received.named("message").len(), 2 * all.len(), "{received}");
    }
}

/// Also when there is no network any more.
fn a_request_is_answered_within_the_mesh(peer: Peer) {
    if !is_possible() {
        return;
    }
    let Site { a, b, edges } = Site::start(&[], &[]);
    drop((a, b));
    let [e1, e2] = &edges;
    for (client, service) in [(e1, e2), (e2, e1)] {
        let mut responding = Peer::Proton.start(service, Job::respond("service").count(1));
        responding.expect("attached");
        let request = Request::text("one", "question");
        let asked = peer
            .start(client, Job::request("service", vec![request]))
            .finish();
        assert_eq!(asked.named("message").len(), 1, "{asked}");
        responding.finish();
    }
}

#[test]
fn tcp_services_stay_in_the_mesh_and_survive_the_network() {
    if !is_possible() {
        return;
    }
    let (at_e1, at_e2) = (echo("E1"), echo("E2"));
    let ports: Vec<u16> = (0..2).map(|_| free_port()).collect();
    let first = [tcp_connector(at_e1, "one"), tcp_listener(ports[0], "two")];
    let second = [tcp_connector(at_e2, "two"), tcp_listener(ports[1], "one")];
    let Site { a, b, edges } = Site::start(&first, &second);
    let exchange = || {
        for size in [0, 1, 5_000, 3_000_000] {
            check_echo(ports[0], size, "E2");
            check_echo(ports[1], size, "E1");
        }
    };
    exchange();
    let across: Vec<i64> = rows(&edges[0], "router.link")
        .iter()
        .filter(|row| row["owningAddr"] == "Mtwo" && row["linkDir"] == "out")
        .map(|row| row["deliveryCount"].as_i64().unwrap_or(0))
        .collect();
    assert_eq!(across.len(), 1, "to the other edge router alone");
    drop((a, b));
    exchange();
}

/// An edge router with a certificate, and what is sent through it while that is renewed.
#[test]
fn a_certificate_is_renewed_without_loss() {
    if !is_possible() {
        return;
    }
    let files = Certificates::generate();
    let profile = |name: &str| {
        json!({
            "name": "network",
            "caCertFile": files.path("ca.pem"),
            "certFile": files.path(&format!("{name}.pem")),
            "privateKeyFile": files.path(&format!("{name}.key")),
        })
    };
    let (at_a, port) = (echo("A"), free_port());
    let (kind, connector) = tcp_connector(at_a, "service");
    let edge_listener = json!({
        "role": "edge",
        "sslProfile": "network",
        "saslMechanisms": "EXTERNAL",
        "authenticatePeer": true,
    });
    let a = builder("A", "interior", &[("sslProfile", profile("server"))])
        .entity(kind, connector)
        .listener("edge", edge_listener)
        .start();
    let (kind, mut uplink) = towards(a.port("edge"), "edge");
    uplink["sslProfile"] = json!("network");
    let entities = [
        ("sslProfile", profile("alice")),
        (kind, uplink),
        tcp_listener(port, "service"),
    ];
    let e = builder("E", "edge", &entities).start();
    let uplinks = || -> Vec<(u64, bool)> {
        let rows = rows(&e, "connection").into_iter();
        let open = rows.filter(|row| is_open(row, "edge"));
        open.map(|row| {
            (
                row["tlsOrdinal"].as_u64().unwrap_or(0),
                row["active"] == true,
            )
        })
        .collect()
    };
    eventually("an uplink", || uplinks() == [(0, true)]);

    let mut stream = connect(port);
    let mut answer = [0; 6];
    stream.write_all(b"before").expect("a stream");
    stream.read_exact(&mut answer).expect("an answer");
    // Some take several frames, which arrive one by one while connections change.
    let sizes = [10, 10, 10, 50_000];
    let job = |job: Job| job.count(MESSAGES).sizes(&sizes).time_limit(LIMIT);
    let receiving = receive(Peer::Proton, &a, job(Job::receive("up")));
    let sending = Peer::Proton.start(&e, job(Job::send("up")));
    let downwards = receive(Peer::Proton, &e, job(Job::receive("down")));
    let sending_down = Peer::Proton.start(&a, job(Job::send("down")));
    assert_eq!(
        update(&e, "sslProfile", "network", &json!({"ordinal": 7})),
        200
    );
    eventually("a newer uplink", || uplinks() == [(0, false), (7, true)]);
    for (sending, receiving) in [(sending, receiving), (sending_down, downwards)] {
        let sent = sending.finish();
        let outcomes = sent.named("outcome");
        let accepted = outcomes.iter().filter(|one| one["outcome"] == "accepted");
        assert_eq!(accepted.count(), MESSAGES, "{sent}");
        let received = receiving.finish();
        assert_eq!(received.named("message").len(), MESSAGES, "{received}");
    }
    stream.write_all(b"during").expect("a stream");
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"during");
    check_echo(port, 100_000, "A");

    let oldest = json!({"oldestValidOrdinal": 7});
    assert_eq!(update(&e, "sslProfile", "network", &oldest), 200);
    eventually("only the newer uplink", || uplinks() == [(7, true)]);
    check_echo(port, 100_000, "A");
}

const MESSAGES: usize = 3000;
const LIMIT: Duration = Duration::from_secs(60);
