//! Connectors: where they connect, again, elsewhere, and what they tell of it.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::time::Duration;

use interop_tests::{
    Job, Peer, Router, RouterBuilder, available, eventually, free_port, rows, skip,
};
use serde_json::{Value, json};

fn is_possible() -> bool {
    Router::is_ours_to_configure() && available(&[Peer::Fe2o3])
}

/// An interior router whose neighbours connect to `port`, and are told to go to `failover` when
/// they lose it.
fn interior(id: &str, port: u16, failover: &str) -> Router {
    let mut listener = json!({
        "name": "routers",
        "role": "inter-router",
        "host": "127.0.0.1",
        "port": port.to_string(),
        "saslMechanisms": "ANONYMOUS",
    });
    if !failover.is_empty() {
        listener["failoverUrls"] = json!(failover);
    }
    RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": id}))
        .entity("listener", listener)
        .start()
}

/// An interior router with a connector of these attributes.
fn connecting(id: &str, mut connector: Value) -> Router {
    connector["name"] = json!("out");
    connector["role"] = json!("inter-router");
    RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": id}))
        .entity("connector", connector)
        .start()
}

fn to(port: u16) -> Value {
    json!({"host": "127.0.0.1", "port": port.to_string()})
}

fn connector(router: &Router, attribute: &str) -> String {
    let connector = rows(router, "connector").swap_remove(0);
    connector[attribute].as_str().unwrap_or_default().to_owned()
}

fn is_connected(router: &Router) -> bool {
    connector(router, "connectionStatus") == "SUCCESS"
}

/// A message gets from one router to another.
fn check_path(from: &Router, to: &Router, address: &str) {
    let receive = Job::receive(address).count(1).time_limit(LIMIT);
    let mut receiving = Peer::Fe2o3.start(to, receive);
    receiving.expect("attached");
    let send = Job::send(address).count(1).time_limit(LIMIT);
    Peer::Fe2o3.start(from, send).finish();
    receiving.finish();
}

#[test]
fn a_connector_tries_until_somebody_listens() {
    if !is_possible() {
        return skip("it needs routers of ours");
    }
    let port = free_port();
    let a = connecting("A", to(port));
    eventually("it says why it is not connected", || {
        let text = connector(&a, "connectionMsg");
        let place = format!("Connection to 127.0.0.1:{port} failed");
        text.contains(&place) && !is_connected(&a)
    });
    let b = interior("B", port, "");
    eventually("it is connected", || is_connected(&a));
    check_path(&a, &b, "late");
    drop(b);
    eventually("the loss is shown", || !is_connected(&a));
    let b = interior("B", port, "");
    eventually("it is connected again", || is_connected(&a));
    check_path(&a, &b, "again");
}

#[test]
fn a_connector_goes_where_its_peer_has_said_when_it_loses_it() {
    if !is_possible() {
        return skip("it needs routers of ours");
    }
    let (first, second) = (free_port(), free_port());
    let b = interior("B", first, &format!("amqp://127.0.0.1:{second}"));
    let c = interior("C", second, "");
    let a = connecting("A", to(first));
    eventually("it is connected", || is_connected(&a));
    check_path(&a, &b, "before");
    let listed = connector(&a, "failoverUrls");
    assert!(listed.contains(&second.to_string()), "{listed}");
    drop(b);
    eventually("it is connected to the other", || {
        is_connected(&a)
            && rows(&c, "connection")
                .iter()
                .any(|row| row["container"] == "A")
    });
    check_path(&a, &c, "after");
}

#[test]
fn a_connector_uses_addresses_of_its_family() {
    if !is_possible() {
        return skip("it needs routers of ours");
    }
    let port = free_port();
    let _b = interior("B", port, "");
    let mut six = to(port);
    six["socketAddressFamily"] = json!("IPv6");
    let a = connecting("A", six);
    eventually("it has no such address", || {
        connector(&a, "connectionMsg").contains("has no IPv6 address")
    });
    let four = json!({
        "host": "localhost",
        "port": port.to_string(),
        "socketAddressFamily": "IPv4",
    });
    let c = connecting("C", four);
    eventually("it is connected", || is_connected(&c));
}

const LIMIT: Duration = Duration::from_secs(60);
