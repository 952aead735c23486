//! Several connections between two routers: those for messages that take long, and those that are
//! made anew with another certificate.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::time::Duration;

use interop_tests::{
    Certificates, Job, Peer, Router, RouterBuilder, ask, available, check_echo, connect, echo,
    eventually, free_port, rows, tcp_connector, tcp_listener, update,
};
use serde_json::{Value, json};

type Row = BTreeMap<String, Value>;

/// Two routers whose connector makes two data connections; A has a listener for the service at B.
struct Pair {
    a: Router,
    b: Router,
    /// Where clients of the service connect to.
    port: u16,
    _certificates: Option<Certificates>,
}

impl Pair {
    fn start(service: u16, certificates: Option<Certificates>) -> Self {
        let security = certificates.as_ref().map(|files| {
            let profile = |name: &str| {
                json!({
                    "name": "network",
                    "caCertFile": files.path("ca.pem"),
                    "certFile": files.path(&format!("{name}.pem")),
                    "privateKeyFile": files.path(&format!("{name}.key")),
                })
            };
            [profile("server"), profile("alice")]
        });
        let secured = |mut attributes: Value| {
            if security.is_some() {
                attributes["sslProfile"] = json!("network");
            }
            attributes
        };
        let builder = |id: &str| {
            let settings = json!({
                "mode": "interior",
                "id": id,
                "dataConnectionCount": "2",
                "workerThreads": 2,
            });
            RouterBuilder::plain().router(settings)
        };
        let mechanisms = if security.is_some() {
            "EXTERNAL"
        } else {
            "ANONYMOUS"
        };
        let listener = json!({
            "role": "inter-router",
            "saslMechanisms": mechanisms,
            "authenticatePeer": security.is_some(),
        });
        let (kind, connector) = tcp_connector(service, "service");
        let mut b = builder("B").entity(kind, connector);
        if let Some([profile, _]) = &security {
            b = b.entity("sslProfile", profile.clone());
        }
        let b = b.listener("routers", secured(listener)).start();
        let port = free_port();
        let (kind, listener) = tcp_listener(port, "service");
        let mut a = builder("A").entity(kind, listener);
        if let Some([_, profile]) = &security {
            a = a.entity("sslProfile", profile.clone());
        }
        let connector = json!({
            "name": "to B",
            "host": "127.0.0.1",
            "port": b.port("routers").to_string(),
            "role": "inter-router",
        });
        let a = a.entity("connector", secured(connector)).start();
        let pair = Self {
            a,
            b,
            port,
            _certificates: certificates,
        };
        for router in [&pair.a, &pair.b] {
            eventually("all three connections", || trunks(router).len() == 3);
        }
        pair
    }
}

/// The connections between routers that are open.
fn trunks(router: &Router) -> Vec<Row> {
    let rows = rows(router, "connection").into_iter();
    rows.filter(|row| row["opened"] == true && row["role"].as_str().is_some_and(is_trunk))
        .collect()
}

fn is_trunk(role: &str) -> bool {
    role.starts_with("inter-router")
}

/// What the connections of one ordinal have in common.
fn groups(router: &Router) -> BTreeMap<u64, BTreeSet<(String, String)>> {
    let mut groups = BTreeMap::<_, BTreeSet<_>>::new();
    for row in trunks(router) {
        let text = |name: &str| row[name].as_str().unwrap_or_default().to_owned();
        let ordinal = row["groupOrdinal"].as_u64().expect("an ordinal");
        let of = groups.entry(ordinal).or_default();
        of.insert((text("role"), text("groupCorrelationId")));
    }
    groups
}

/// Deliveries that have left by connections of a role.
fn sent_by(router: &Router, role: &str) -> u64 {
    let of_role: BTreeSet<_> = trunks(router)
        .into_iter()
        .filter(|row| row["role"] == role)
        .map(|row| row["identity"].as_str().unwrap_or_default().to_owned())
        .collect();
    let links = rows(router, "router.link").into_iter();
    links
        .filter(|row| row["linkDir"] == "out")
        .filter(|row| of_role.contains(row["connectionId"].as_str().unwrap_or_default()))
        .map(|row| row["deliveryCount"].as_u64().unwrap_or_default())
        .sum()
}

/// Changes an attribute of a connection; returns the status code.
fn change(router: &Router, row: &Row, attribute: &str, value: &str) -> i64 {
    let entity = [
        ("type", "io.skupper.router.connection"),
        ("identity", row["identity"].as_str().expect("a number")),
    ];
    let body = json!(["map", [[["string", attribute], ["string", value]]]]);
    let reply = ask(router, "UPDATE", &entity, body);
    let status = &reply["application_properties"]["statusCode"];
    status.as_i64().expect("a status")
}

fn is_possible() -> bool {
    Router::is_ours_to_configure() && available(&[Peer::Proton])
}

#[test]
fn streams_have_connections_of_their_own() {
    if !is_possible() {
        return;
    }
    let pair = Pair::start(echo("trunks"), None);
    let [at_a, at_b] = [groups(&pair.a), groups(&pair.b)];
    assert_eq!(at_a, at_b, "both ends call the connections the same");
    let roles: Vec<_> = at_a[&0].iter().map(|(role, _)| &**role).collect();
    assert_eq!(roles, ["inter-router", "inter-router-data"]);
    let correlators: BTreeSet<_> = at_a[&0].iter().map(|(_, name)| name.len()).collect();
    assert_eq!(correlators, BTreeSet::from([15]));
    for _ in 0..8 {
        check_echo(pair.port, 200_000, "trunks");
    }
    assert!(sent_by(&pair.a, "inter-router-data") >= 8, "requests");
    assert!(sent_by(&pair.b, "inter-router-data") >= 8, "answers");
    // Messages go by the connection by which routers speak.
    let before = sent_by(&pair.a, "inter-router-data");
    for row in trunks(&pair.a) {
        assert_eq!(change(&pair.a, &row, "enableProtocolTrace", "true"), 200);
        assert_eq!(change(&pair.a, &row, "adminStatus", "deleted"), 403);
    }
    let mut receiving = Peer::Proton.start(&pair.b, Job::receive("queue").count(20));
    receiving.expect("attached");
    let sent = Peer::Proton
        .start(&pair.a, Job::send("queue").count(20))
        .finish();
    assert_eq!(sent.named("outcome").len(), 20, "{sent}");
    receiving.finish();
    assert_eq!(sent_by(&pair.a, "inter-router-data"), before);
}

/// A certificate is renewed under load: streams go on, no message is lost, the network is the same.
#[test]
fn connections_are_made_anew_without_loss() {
    if !is_possible() {
        return;
    }
    let pair = Pair::start(echo("rotation"), Some(Certificates::generate()));
    let changed = || {
        let nodes = rows(&pair.a, "router.node");
        let node = nodes.iter().find(|row| row["id"] == "B").cloned();
        node.map(|node| (node["lastTopoChange"].clone(), node["cost"].clone()))
    };
    eventually("B in the network", || changed().is_some());
    let topology = changed();

    let mut stream = connect(pair.port);
    let mut answer = [0; 6];
    stream.write_all(b"before").expect("a stream");
    stream.read_exact(&mut answer).expect("an answer");
    let receive = Job::receive("queue").count(MESSAGES).time_limit(LIMIT);
    let mut receiving = Peer::Proton.start(&pair.b, receive);
    receiving.expect("attached");
    let send = Job::send("queue").count(MESSAGES).time_limit(LIMIT);
    let sending = Peer::Proton.start(&pair.a, send);

    for ordinal in [5, 6] {
        let status = update(
            &pair.a,
            "sslProfile",
            "network",
            &json!({"ordinal": ordinal}),
        );
        assert_eq!(status, 200);
        for router in [&pair.a, &pair.b] {
            eventually("new connections", || {
                groups(router).get(&ordinal).is_some_and(|of| of.len() == 2)
            });
        }
    }
    assert_eq!(groups(&pair.a).len(), 3, "those of 0, 5 and 6");
    check_echo(pair.port, 100_000, "rotation");
    stream.write_all(b"during").expect("a stream");
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"during");

    let sent = sending.finish();
    let outcomes = sent.named("outcome");
    assert_eq!(outcomes.len(), MESSAGES, "{sent}");
    assert!(
        outcomes.iter().all(|event| event["outcome"] == "accepted"),
        "{sent}"
    );
    receiving.finish();
    assert_eq!(changed(), topology, "no path has changed");

    let oldest = json!({"oldestValidOrdinal": 6});
    assert_eq!(update(&pair.a, "sslProfile", "network", &oldest), 200);
    for router in [&pair.a, &pair.b] {
        eventually("no old connections", || {
            groups(router).keys().eq([6].iter()) && trunks(router).len() == 3
        });
    }
    check_echo(pair.port, 100_000, "rotation");
    assert_eq!(changed(), topology, "no path has changed");
}

const MESSAGES: usize = 3000;
const LIMIT: Duration = Duration::from_secs(60);
