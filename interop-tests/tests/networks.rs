//! Two networks that share the addresses that auto links name, and nothing else.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use interop_tests::{
    Job, Outcome, Peer, Request, Router, RouterBuilder, available, check_echo, create, echo,
    eventually, free_port, rows, skip, tcp_connector, tcp_listener, update,
};
use serde_json::{Value, json};

fn is_possible() -> bool {
    Router::is_ours_to_configure() && available(&[Peer::Proton, Peer::Rhea])
}

fn builder(network: &str, id: &str, mode: &str) -> RouterBuilder {
    RouterBuilder::plain()
        .router(json!({"mode": mode, "id": id}))
        .entity("network", json!({"networkId": network}))
}

fn listener(role: &str) -> Value {
    json!({"role": role, "saslMechanisms": "ANONYMOUS"})
}

fn towards(name: &str, role: &str, port: u16) -> Value {
    json!({"name": name, "host": "127.0.0.1", "port": port.to_string(), "role": role})
}

/// An auto link on the connection to the other network.
fn pull(attributes: Value) -> Value {
    let mut link = attributes;
    link["connection"] = json!("abroad");
    link["direction"] = json!("in");
    link
}

/// Clients are in the west, at W1 and its edge router; services in the east, at E1 and its neighbour
/// E2. W1 and E1 are connected.
struct Networks {
    w1: Router,
    edge: Router,
    e1: Router,
    e2: Router,
}

impl Networks {
    /// The east takes these addresses; entities for the edge router of the west and for E2.
    fn start(
        addresses: &[&str],
        at_edge: Option<(&'static str, Value)>,
        at_e2: Option<(&'static str, Value)>,
    ) -> Self {
        let answers = json!({"name": "answers", "externalAddress": "_xtopo/west"});
        let w1 = builder("west", "W1", "interior")
            .listener("abroad", listener("inter-network"))
            .listener("edge", listener("edge"))
            .entity("autoLink", pull(answers))
            .start();
        let uplink = towards("uplink", "edge", w1.port("edge"));
        let mut edge = builder("west", "WE", "edge").entity("connector", uplink);
        if let Some((kind, attributes)) = at_edge {
            edge = edge.entity(kind, attributes);
        }
        let abroad = towards("abroad", "inter-network", w1.port("abroad"));
        let mut e1 = builder("east", "E1", "interior")
            .listener("inter-router", listener("inter-router"))
            .entity("connector", abroad);
        for address in addresses {
            let link = json!({"name": address, "address": address});
            e1 = e1.entity("autoLink", pull(link));
        }
        let e1 = e1.start();
        let near = towards("near", "inter-router", e1.port("inter-router"));
        let mut e2 = builder("east", "E2", "interior").entity("connector", near);
        if let Some((kind, attributes)) = at_e2 {
            e2 = e2.entity(kind, attributes);
        }
        let networks = Self {
            w1,
            edge: edge.start(),
            e1,
            e2: e2.start(),
        };
        eventually("E2 knows the way to the west", || {
            let mut known = rows(&networks.e2, "router.address").into_iter();
            known.any(|row| row["name"] == "Nwest" && row["remoteCount"] == 1)
        });
        networks
    }

    /// Somebody receives in the east, and it is known there that an address of the west's leads there.
    fn await_service(&self, address: &str) {
        let name = format!("M{address}");
        for (router, count) in [(&self.e1, "remoteCount"), (&self.w1, "subscriberCount")] {
            eventually(&format!("{address} is reached from abroad"), || {
                let mut known = rows(router, "router.address").into_iter();
                known.any(|row| row["name"] == name.as_str() && row[count] == 1)
            });
        }
    }
}

#[test]
fn requests_from_one_network_are_answered_in_another() {
    if !is_possible() {
        return skip("it needs Proton and rhea, and a router of ours");
    }
    let networks = Networks::start(&["asked"], None, None);
    for service in [Peer::Proton, Peer::Rhea] {
        let mut serving = service.start(&networks.e2, Job::respond("asked").count(2));
        serving.expect("attached");
        networks.await_service("asked");
        for router in [&networks.w1, &networks.edge] {
            let request = Request::text("one", "question");
            let job = Job::request("asked", vec![request]);
            let asked = Peer::Proton.start(router, job).finish();
            assert_eq!(asked.named("message").len(), 1, "{asked}");
        }
        serving.finish();
    }
    // Each network has routers of its own.
    for (router, nodes) in [(&networks.w1, 1), (&networks.e1, 2)] {
        assert_eq!(rows(router, "router.node").len(), nodes);
        let connections = rows(router, "connection");
        let abroad =
            |row: &&std::collections::BTreeMap<String, Value>| row["role"] == "inter-network";
        assert_eq!(connections.iter().filter(abroad).count(), 1);
        let metrics = &rows(router, "routerMetrics")[0];
        for count in [
            "deliveriesIngressInterNetwork",
            "deliveriesEgressInterNetwork",
        ] {
            assert_eq!(metrics[count], 4, "{count}");
        }
    }
}

#[test]
fn outcomes_and_long_messages_cross_between_networks() {
    if !is_possible() {
        return skip("it needs Proton and rhea, and a router of ours");
    }
    let networks = Networks::start(&["taken"], None, None);
    let outcomes = [
        Outcome::Accepted,
        Outcome::rejected("interop:refused", "not here"),
        Outcome::Released,
    ];
    let receive = Job::receive("taken").count(6).outcomes(&outcomes);
    let mut receiving = Peer::Rhea.start(&networks.e2, receive.credit(1));
    receiving.expect("attached");
    networks.await_service("taken");
    let send = Job::send("taken").count(6).sizes(&[10, 2_000_000]);
    let sent = Peer::Proton.start(&networks.edge, send).finish();
    let mut words: Vec<_> = sent
        .named("outcome")
        .iter()
        .map(|event| event["outcome"].as_str().unwrap_or_default().to_owned())
        .collect();
    words.sort();
    let expected = [
        "accepted", "accepted", "rejected", "rejected", "released", "released",
    ];
    assert_eq!(words, expected, "{sent}");
    let received = receiving.finish();
    let large = received
        .named("message")
        .iter()
        .filter(|event| event["size"] == 2_000_000)
        .count();
    assert_eq!(large, 3, "{received}");
}

#[test]
fn a_tcp_service_of_one_network_is_used_in_another() {
    if !is_possible() {
        return skip("it needs Proton and rhea, and a router of ours");
    }
    let (service, port) = (echo("abroad"), free_port());
    let networks = Networks::start(
        &["echo"],
        Some(tcp_listener(port, "echo")),
        Some(tcp_connector(service, "echo")),
    );
    networks.await_service("echo");
    eventually("the listener is served", || {
        rows(&networks.edge, "tcpListener")[0]["operStatus"] == "up"
    });
    for size in [1, 100_000, 5_000_000] {
        check_echo(port, size, "abroad");
    }
}

/// Receivers have addresses of the new name, and the other network has a way to it once an auto link
/// asks for that.
#[test]
fn a_network_may_be_renamed() {
    if !is_possible() {
        return skip("it needs Proton and rhea, and a router of ours");
    }
    let networks = Networks::start(&["asked"], None, None);
    let name = rows(&networks.w1, "network")[0]["name"].clone();
    let name = name.as_str().expect("a text");
    for router in [&networks.w1, &networks.edge] {
        assert_eq!(
            update(router, "network", name, &json!({"networkId": "sunset"})),
            200
        );
    }
    let renamed = pull(json!({"name": "more answers", "externalAddress": "_xtopo/sunset"}));
    assert_eq!(
        create(&networks.w1, "router.config.autoLink", &renamed),
        201
    );
    let mut serving = Peer::Rhea.start(&networks.e2, Job::respond("asked").count(1));
    serving.expect("attached");
    networks.await_service("asked");
    eventually("E2 knows the new way to the west", || {
        let mut known = rows(&networks.e2, "router.address").into_iter();
        known.any(|row| row["name"] == "Nsunset" && row["remoteCount"] == 1)
    });
    let request = Request::text("one", "question");
    let job = Job::request("asked", vec![request]);
    let asked = Peer::Proton.start(&networks.edge, job).finish();
    assert_eq!(asked.named("message").len(), 1, "{asked}");
    serving.finish();
}
