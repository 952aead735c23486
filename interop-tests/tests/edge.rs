//! Edge routers: clients and services that reach the network, and are reached, through one interior
//! router at a time.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::time::Duration;

use interop_tests::{
    Job, Outcome, Peer, Request, Router, RouterBuilder, Running, ask_at, available, check_echo,
    clients, echo, eventually, free_port, rows, sha256_hex, skip, tcp_connector, tcp_listener,
};
use serde_json::{Value, json};

clients!(outcomes_come_back_from_an_edge);
clients!(a_request_is_answered_from_edge_to_edge);
clients!(everyone_gets_a_multicast_once_wherever_it_comes_from);
clients!(anonymous_messages_find_their_way_up_and_down);
clients!(large_messages_go_from_edge_to_edge);
clients!(an_edge_changes_its_uplink);

fn builder(id: &str, mode: &str, entities: &[(&str, Value)]) -> RouterBuilder {
    let router = RouterBuilder::plain().router(json!({"mode": mode, "id": id}));
    entities.iter().fold(router, |router, (kind, attributes)| {
        router.entity(kind, attributes.clone())
    })
}

fn interior(id: &str, neighbour: Option<u16>, entities: &[(&str, Value)]) -> Router {
    let mut router = builder(id, "interior", entities);
    for role in ["inter-router", "edge"] {
        router = router.listener(role, json!({"role": role, "saslMechanisms": "ANONYMOUS"}));
    }
    if let Some(port) = neighbour {
        router = router.entity("connector", towards(port, "inter-router"));
    }
    router.start()
}

fn edge(id: &str, uplinks: &[u16], entities: &[(&str, Value)]) -> Router {
    let uplinks = uplinks.iter().map(|port| towards(*port, "edge"));
    uplinks
        .fold(builder(id, "edge", entities), |router, uplink| {
            router.entity("connector", uplink)
        })
        .start()
}

fn towards(port: u16, role: &str) -> Value {
    let (name, port) = (format!("to {port}"), port.to_string());
    json!({"name": name, "host": "127.0.0.1", "port": port, "role": role})
}

/// E1 – A – B – E2, and E3 at A.
struct Network {
    a: Router,
    b: Router,
    edges: [Router; 3],
}

impl Network {
    /// With these entities at E1 and E2.
    fn start(first: &[(&str, Value)], second: &[(&str, Value)]) -> Self {
        let a = interior("A", None, &[]);
        let b = interior("B", Some(a.port("inter-router")), &[]);
        let edges = [
            edge("E1", &[a.port("edge")], first),
            edge("E2", &[b.port("edge")], second),
            edge("E3", &[a.port("edge")], &[]),
        ];
        let network = Self { a, b, edges };
        for router in &network.edges {
            eventually("an uplink", || is_up(router));
        }
        network
    }

    fn all(&self) -> [&Router; 5] {
        let [e1, e2, e3] = &self.edges;
        [&self.a, &self.b, e1, e2, e3]
    }
}

fn is_up(edge: &Router) -> bool {
    rows(edge, "connection")
        .iter()
        .any(|row| row["role"] == "edge" && row["opened"] == true)
}

/// Configures routers, and asks them by Proton.
fn is_possible() -> bool {
    Router::is_ours_to_configure() && available(&[Peer::Proton])
}

fn receive(peer: Peer, router: &Router, job: Job) -> Running {
    let mut receiving = peer.start(router, job.time_limit(LIMIT));
    receiving.expect("attached");
    receiving
}

fn outcomes_come_back_from_an_edge(peer: Peer) {
    if !is_possible() {
        return;
    }
    let network = Network::start(&[], &[]);
    let outcomes = [
        Outcome::Accepted,
        Outcome::rejected("interop:refused", "not today"),
        Outcome::Released,
    ];
    let [e1, e2, _] = &network.edges;
    for (number, (from, to)) in [(e1, e2), (&network.b, e1), (e2, &network.a)]
        .into_iter()
        .enumerate()
    {
        let address = format!("queue{number}");
        // One at a time: rhea would answer deliveries of one read with the first one's outcome.
        let job = Job::receive(&address).count(3).credit(1);
        let receiving = receive(peer, to, job.outcomes(&outcomes));
        let sent = peer.start(from, Job::send(&address).count(3)).finish();
        let mut events = sent.named("outcome");
        events.sort_by_key(|event| event["index"].as_u64());
        let told: Vec<&Value> = events.iter().map(|event| &event["outcome"]).collect();
        assert_eq!(told, ["accepted", "rejected", "released"], "{sent}");
        receiving.finish();
    }
}

/// The answers go to addresses that only the clients' routers have.
fn a_request_is_answered_from_edge_to_edge(peer: Peer) {
    if !is_possible() {
        return;
    }
    let network = Network::start(&[], &[]);
    let [e1, e2, e3] = &network.edges;
    let mut responding = Peer::Proton.start(e2, Job::respond("service").count(5));
    responding.expect("attached");
    for client in [e1, e2, e3, &network.a, &network.b] {
        let request = Request::text("one", "question");
        let asked = peer
            .start(client, Job::request("service", vec![request]))
            .finish();
        assert_eq!(asked.named("message").len(), 1, "{asked}");
    }
    responding.finish();
}

fn everyone_gets_a_multicast_once_wherever_it_comes_from(peer: Peer) {
    if !is_possible() {
        return;
    }
    let network = Network::start(&[], &[]);
    let all = network.all();
    let receiving: Vec<Running> = all
        .iter()
        .map(|router| {
            receive(
                peer,
                router,
                Job::receive("multicast/news").count(all.len()),
            )
        })
        .collect();
    for router in &all {
        // Who has heard of all others is a matter of time: it shows in the counts.
        eventually("all routers know of each other's receivers", || {
            knows_all(router)
        });
    }
    for router in &all {
        let sent = peer.start(router, Job::send("multicast/news").count(1));
        let sent = sent.finish();
        assert_eq!(sent.named("outcome")[0]["outcome"], "accepted", "{sent}");
    }
    for receiver in receiving {
        let received = receiver.finish();
        // The job ends at the last one; one more would have come before others.
        assert_eq!(received.named("message").len(), all.len(), "{received}");
    }
}

fn knows_all(router: &Router) -> bool {
    let rows = rows(router, "router.address");
    let news = rows.iter().find(|row| {
        let key = row["key"].as_str().unwrap_or_default();
        key == "Mmulticast/news"
    });
    let Some(news) = news else { return false };
    let count = |name: &str| news[name].as_i64().unwrap_or(0);
    // Its own, and for an interior router the edges' of it and the other interior router.
    match rows.iter().any(|row| row["key"] == "L_edge") {
        true => count("subscriberCount") >= 1,
        false => count("remoteCount") == 1 && count("subscriberCount") >= 2,
    }
}

fn anonymous_messages_find_their_way_up_and_down(peer: Peer) {
    if !is_possible() {
        return;
    }
    let network = Network::start(&[], &[]);
    let all = network.all();
    for (number, to) in all.iter().enumerate() {
        let address = format!("anywhere{number}");
        let receiving = receive(peer, to, Job::receive(&address).count(all.len()));
        for from in &all {
            // The address is known here, or further up; until then there is nobody.
            eventually("a receiver is found", || {
                let sent = Peer::Proton.start(from, Job::send_anonymous(&address).count(1));
                sent.finish().named("outcome")[0]["outcome"] == "accepted"
            });
        }
        assert_eq!(receiving.finish().named("message").len(), all.len());
    }
}

fn large_messages_go_from_edge_to_edge(peer: Peer) {
    if !is_possible() {
        return;
    }
    let network = Network::start(&[], &[]);
    let [e1, e2, _] = &network.edges;
    let sizes = [0, 100, 40_000, 3_000_000];
    let receiving = receive(peer, e2, Job::receive("far").count(sizes.len()));
    let send = Job::send("far").count(sizes.len()).sizes(&sizes);
    let sent = peer.start(e1, send.time_limit(LIMIT)).finish();
    assert_eq!(sent.named("outcome").len(), sizes.len(), "{sent}");
    let received = receiving.finish();
    let mut messages = received.named("message");
    // A long message may be overtaken by a short one.
    messages.sort_by_key(|event| event["size"].as_u64());
    for (event, (index, size)) in messages.iter().zip(sizes.iter().enumerate()) {
        assert_eq!(event["size"], *size, "{received}");
        let expected = sha256_hex(&interop_tests::body(index, *size));
        assert_eq!(event["sha256"], expected, "{received}");
    }
    assert_eq!(messages.len(), sizes.len(), "{received}");
}

/// Its receiver is found through A, and when A dies, through B.
fn an_edge_changes_its_uplink(peer: Peer) {
    if !is_possible() {
        return;
    }
    let b = interior("B", None, &[]);
    let a = interior("A", Some(b.port("inter-router")), &[]);
    let e = edge("E", &[a.port("edge"), b.port("edge")], &[]);
    eventually("two connections", || {
        let open = rows(&e, "connection");
        open.iter()
            .filter(|row| row["role"] == "edge" && row["opened"] == true)
            .count()
            == 2
    });
    let receiving = receive(peer, &e, Job::receive("far").count(40));
    let send = || Job::send("far").count(20).time_limit(LIMIT);
    let before = peer.start(&b, send()).finish();
    assert_eq!(before.named("outcome").len(), 20, "{before}");
    drop(a);
    eventually("the address is known at B again", || {
        let rows = rows(&b, "router.address");
        let far = rows.iter().find(|row| row["key"] == "Mfar");
        far.is_some_and(|row| row["subscriberCount"] == 1)
    });
    let after = peer.start(&b, send()).finish();
    let outcomes = after.named("outcome");
    let accepted = outcomes.iter().filter(|e| e["outcome"] == "accepted");
    assert_eq!(accepted.count(), 20, "{after}");
    receiving.finish();
}

#[test]
fn tcp_services_are_served_through_edges() {
    if !is_possible() {
        return skip("it needs Proton, and routers of ours");
    }
    let (at_e1, at_e2, at_b) = (echo("E1"), echo("E2"), echo("B"));
    let ports: Vec<u16> = (0..6).map(|_| free_port()).collect();
    let first = [
        tcp_connector(at_e1, "one"),
        tcp_listener(ports[0], "two"),
        tcp_listener(ports[1], "one"),
        tcp_listener(ports[2], "bee"),
    ];
    let second = [tcp_connector(at_e2, "two"), tcp_listener(ports[3], "one")];
    let a = interior("A", None, &[tcp_listener(ports[4], "two")]);
    let b_entities = [tcp_connector(at_b, "bee"), tcp_listener(ports[5], "one")];
    let b = interior("B", Some(a.port("inter-router")), &b_entities);
    let _e1 = edge("E1", &[a.port("edge")], &first);
    let _e2 = edge("E2", &[b.port("edge")], &second);
    for size in [0, 1, 5_000, 3_000_000] {
        for (port, name) in ports.iter().zip(["E2", "E1", "B", "E1", "E2", "E1"]) {
            check_echo(*port, size, name);
        }
    }
}

#[test]
fn an_edge_is_managed_through_its_interior_router() {
    if !is_possible() {
        return skip("it needs Proton, and routers of ours");
    }
    let network = Network::start(&[], &[]);
    let body = json!(["map", [[["string", "attributeNames"], ["list", []]]]]);
    let properties = [("entityType", "io.skupper.router.router")];
    for from in [&network.a, &network.edges[0]] {
        let agent = "_edge/E3/$management";
        let reply = ask_at(from, agent, "QUERY", &properties, body.clone());
        let names = reply["body"]["attributeNames"].as_array().expect("names");
        let id = names.iter().position(|name| name == "id").expect("an id");
        assert_eq!(reply["body"]["results"][0][id], "E3", "{reply}");
    }
}

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn links_for_what_routers_tell_each_other_show_their_nodes() {
    if !is_possible() {
        return;
    }
    let network = Network::start(&[], &[]);
    let shown = |node: &str| {
        let links = rows(&network.a, "router.link");
        links
            .iter()
            .filter(|link| link["owningAddr"] == node)
            .count()
    };
    // E1 and E3.
    for node in ["M_$qd.edge_addr_tracking", "M_$qd.mesh_discovery"] {
        eventually(node, || shown(node) == 2);
    }
}
