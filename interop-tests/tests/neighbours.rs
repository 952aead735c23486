//! Who may become a neighbour of a router, and who says that it is another.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::time::Duration;

use interop_tests::{
    Certificates, Job, Peer, Router, RouterBuilder, available, eventually, rows, skip,
};
use serde_json::{Value, json};

/// A listener for routers that asks for certificates lets nobody in without one that it trusts,
/// whatever they call themselves: not as a router, nor with a further connection, nor as an edge
/// router.
#[test]
fn who_does_not_prove_who_it_is_becomes_no_neighbour() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return skip("it needs Proton, and a router of ours");
    }
    let certificates = Certificates::generate();
    let others = Certificates::generate();
    let secured = |role: &str| {
        json!({
            "role": role,
            "sslProfile": "network",
            "requireSsl": true,
            "saslMechanisms": "EXTERNAL",
            "authenticatePeer": true,
        })
    };
    let server = profile(&certificates, &certificates, Some("server"));
    let victim = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": "Victim"}))
        .entity("sslProfile", server)
        .listener("routers", secured("inter-router"))
        .listener("edges", secured("edge"))
        .start();
    let strangers = [
        (
            "no certificate",
            Some(profile(&certificates, &certificates, None)),
        ),
        (
            "of another",
            Some(profile(&certificates, &others, Some("alice"))),
        ),
        (
            "expired",
            Some(profile(&certificates, &certificates, Some("expired"))),
        ),
        ("no TLS", None),
    ];
    let mut routers = Vec::new();
    for (number, (what, profile)) in strangers.into_iter().enumerate() {
        for mode in ["interior", "edge"] {
            let id = format!("Stranger-{mode}-{number}");
            let router = neighbour(&id, mode, &victim, profile.clone());
            routers.push((format!("{what}, {mode}"), router));
        }
    }
    for (what, router) in &routers {
        eventually(&format!("{what}: it is refused"), || {
            let connector = rows(router, "connector").remove(0);
            let told = connector["connectionMsg"].as_str();
            connector["connectionStatus"] != "SUCCESS" && told.is_some_and(|told| !told.is_empty())
        });
    }
    let honest = profile(&certificates, &certificates, Some("alice"));
    let honest = neighbour("Honest", "interior", &victim, Some(honest));
    eventually("the honest one is let in", || nodes(&victim).len() == 2);
    assert_eq!(nodes(&victim), ["Honest", "Victim"]);
    let opened = rows(&victim, "connection").into_iter().filter(|row| {
        let role = row["role"].as_str().unwrap_or_default();
        role != "normal" && row["opened"] == true
    });
    let containers: Vec<_> = opened.map(|row| row["container"].clone()).collect();
    assert!(
        !containers.is_empty() && containers.iter().all(|of| of == "Honest"),
        "{containers:?}"
    );
    drop(honest);
}

/// A second router of a name is told of, and does not disturb the first.
#[test]
fn a_neighbour_of_the_same_name_is_told_of_and_traffic_goes_on() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return skip("it needs Proton, and a router of ours");
    }
    let listener = json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"});
    let victim = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": "Victim"}))
        .listener("routers", listener)
        .start();
    let friend = neighbour("Friend", "interior", &victim, None);
    eventually("they find each other", || nodes(&friend).len() == 2);
    let limit = Duration::from_secs(60);
    let mut receiving = Peer::Fe2o3.start(&friend, Job::receive("far").count(0).time_limit(limit));
    receiving.expect("attached");
    let impostor = neighbour("Victim", "interior", &victim, None);
    let line = "Detected Neighbor Router with a Duplicate ID - Victim";
    eventually("it is told of", || victim.log().contains(line));
    for _ in 0..5 {
        let sending = Job::send("far").count(100).time_limit(limit);
        let sent = Peer::Fe2o3.start(&victim, sending).finish();
        let accepted = |event: &&&Value| event["outcome"] == "accepted";
        let outcomes = sent.named("outcome");
        assert_eq!(outcomes.iter().filter(accepted).count(), 100, "{sent}");
    }
    assert_eq!(nodes(&victim), ["Friend", "Victim"]);
    assert_eq!(
        victim.log().matches(line).count(),
        1,
        "once for its connection"
    );
    drop(impostor);
}

/// A router with a connector to another.
fn neighbour(id: &str, mode: &str, to: &Router, profile: Option<Value>) -> Router {
    let listener = if mode == "edge" { "edges" } else { "routers" };
    let role = if mode == "edge" {
        "edge"
    } else {
        "inter-router"
    };
    let mut connector = json!({
        "name": "uplink",
        "host": "127.0.0.1",
        "port": to.port(listener).to_string(),
        "role": role,
        "verifyHostname": false,
    });
    let mut builder = RouterBuilder::plain().router(json!({"mode": mode, "id": id}));
    if let Some(profile) = profile {
        connector["sslProfile"] = json!("network");
        builder = builder.entity("sslProfile", profile);
    }
    builder.entity("connector", connector).start()
}

/// What trusts one authority, and shows a certificate of another.
fn profile(trusted: &Certificates, own: &Certificates, name: Option<&str>) -> Value {
    let mut profile = json!({"name": "network", "caCertFile": trusted.path("ca.pem")});
    if let Some(name) = name {
        profile["certFile"] = json!(own.path(&format!("{name}.pem")));
        profile["privateKeyFile"] = json!(own.path(&format!("{name}.key")));
    }
    profile
}

/// The routers that one knows.
fn nodes(router: &Router) -> Vec<String> {
    let rows = rows(router, "router.node").into_iter();
    let mut ids: Vec<String> = rows
        .filter_map(|row| Some(row["id"].as_str()?.to_owned()))
        .collect();
    ids.sort();
    ids
}
