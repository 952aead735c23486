//! Auto links: a router and a broker that Proton makes.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::collections::BTreeMap;
use std::time::Duration;

use interop_tests::{
    Job, Peer, Router, RouterBuilder, available, create, delete, eventually, free_port, rows, skip,
};
use serde_json::{Value, json};

fn is_possible() -> bool {
    Router::is_ours_to_configure() && available(&[Peer::Proton, Peer::Rhea])
}

/// A router with a queue of the broker behind two addresses: one to send to, one to receive from.
fn builder() -> RouterBuilder {
    let link = |name: &str, direction: &str, address: &str| {
        json!({
            "name": name,
            "direction": direction,
            "address": address,
            "externalAddress": "queue",
            "containerId": "broker",
        })
    };
    RouterBuilder::plain()
        .entity("autoLink", link("to", "out", "to/queue"))
        .entity("autoLink", link("from", "in", "from/queue"))
}

fn listening() -> RouterBuilder {
    let listener = json!({"role": "route-container", "saslMechanisms": "ANONYMOUS"});
    builder().listener("brokers", listener)
}

fn connecting(port: u16) -> RouterBuilder {
    let connector = json!({
        "name": "to the broker",
        "role": "route-container",
        "host": "127.0.0.1",
        "port": port.to_string(),
    });
    builder().entity("connector", connector)
}

fn auto_link(router: &Router, name: &str) -> BTreeMap<String, Value> {
    let mut rows = rows(router, "router.config.autoLink");
    rows.retain(|row| row["name"] == name);
    rows.pop().expect("it is there")
}

fn await_state(router: &Router, name: &str, state: &str) {
    eventually(&format!("{name} is {state}"), || {
        auto_link(router, name)["operStatus"] == state
    });
}

/// Messages that are sent at one router reach a receiver at another through the queue.
fn check_queue(from: &Router, to: &Router) {
    let receive = Job::receive("from/queue").count(5).time_limit(LIMIT);
    let mut receiving = Peer::Rhea.start(to, receive);
    receiving.expect("attached");
    let send = Job::send("to/queue").count(5).time_limit(LIMIT);
    let sent = Peer::Rhea.start(from, send).finish();
    let outcomes = sent.named("outcome");
    assert!(
        outcomes.len() == 5 && outcomes.iter().all(|event| event["outcome"] == "accepted"),
        "{sent}"
    );
    assert_eq!(receiving.finish().named("message").len(), 5);
}

#[test]
fn a_queue_is_reached_when_its_broker_connects() {
    if !is_possible() {
        return skip("it needs Proton and rhea, and a router of ours");
    }
    let router = listening().start();
    assert_eq!(auto_link(&router, "to")["operStatus"], "inactive");
    let broker = Job::broker("broker", None);
    let mut broker = Peer::Proton.start_at(&router, "brokers", broker);
    broker.expect("attached");
    broker.expect("attached");
    await_state(&router, "to", "active");
    await_state(&router, "from", "active");
    check_queue(&router, &router);

    let links = rows(&router, "router.link");
    let number = auto_link(&router, "to")["linkRef"].clone();
    let link = links.iter().find(|link| link["identity"] == number);
    assert_eq!(link.expect("its link")["owningAddr"], "Mto/queue");
    let metrics = &rows(&router, "routerMetrics")[0];
    for (attribute, count) in [
        ("autoLinkCount", 2),
        ("deliveriesEgressRouteContainer", 5),
        ("deliveriesIngressRouteContainer", 5),
    ] {
        assert_eq!(metrics[attribute], count, "{attribute}");
    }
    drop(broker);
    await_state(&router, "to", "inactive");
    await_state(&router, "from", "inactive");
}

#[test]
fn a_queue_is_reached_across_the_network_and_its_broker_is_connected_to_again() {
    if !is_possible() {
        return skip("it needs Proton and rhea, and routers of ours");
    }
    let port = free_port();
    let listener = json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"});
    let near = connecting(port)
        .router(json!({"mode": "interior", "id": "near"}))
        .listener("routers", listener)
        .start();
    let connector = json!({
        "name": "neighbour",
        "role": "inter-router",
        "host": "127.0.0.1",
        "port": near.port("routers").to_string(),
    });
    let far = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": "far"}))
        .entity("connector", connector)
        .start();
    for _ in 0..2 {
        let broker = Job::broker("broker", Some(port));
        let mut broker = Peer::Proton.start(&near, broker);
        broker.expect("listening");
        await_state(&near, "to", "active");
        await_state(&near, "from", "active");
        check_queue(&far, &far);
        drop(broker);
        await_state(&near, "to", "inactive");
    }
}

#[test]
fn auto_links_come_and_go_by_management_and_say_why_they_fail() {
    if !is_possible() {
        return skip("it needs Proton and rhea, and a router of ours");
    }
    let router = listening().start();
    let broker = Job::broker("broker", None);
    let mut broker = Peer::Proton.start_at(&router, "brokers", broker);
    broker.expect("attached");
    let kind = "router.config.autoLink";
    let mut wanted = json!({
        "name": "more",
        "direction": "in",
        "address": "more",
        "externalAddress": "missing",
        "containerId": "broker",
    });
    assert_eq!(create(&router, kind, &wanted), 201);
    await_state(&router, "more", "failed");
    let error = auto_link(&router, "more")["lastError"].clone();
    assert_eq!(error, "there is no queue of this name");
    assert_eq!(delete(&router, kind, "more"), 204);
    wanted["externalAddress"] = json!("queue");
    assert_eq!(create(&router, kind, &wanted), 201);
    await_state(&router, "more", "active");
    assert_eq!(delete(&router, kind, "more"), 204);
    eventually("its link is gone", || {
        let links = rows(&router, "router.link");
        links.iter().all(|link| link["owningAddr"] != "Mmore")
    });
    wanted["connection"] = json!("both");
    assert_eq!(create(&router, kind, &wanted), 400);
    assert_eq!(rows(&router, kind).len(), 2);
}

const LIMIT: Duration = Duration::from_secs(60);
