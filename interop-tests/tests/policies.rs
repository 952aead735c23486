//! Policy: which connections, links and messages a vhost's groups let through.

use interop_tests::{
    Job, Peer, Router, RouterBuilder, Shared, ask, available, clients, eventually, rows,
};
use serde_json::{Value, json};
use std::sync::Arc;

clients!(what_the_group_may_use_passes);
clients!(a_source_that_the_group_lacks_is_refused);
clients!(a_target_that_the_group_lacks_is_refused);
clients!(anonymous_messages_go_where_the_group_may_send);
clients!(dynamic_sources_are_refused_unless_allowed);
clients!(a_host_that_the_group_lacks_is_turned_away);
clients!(a_message_that_is_too_large_ends_its_link);

fn what_the_group_may_use_passes(peer: Peer) {
    let Some(router) = governed() else { return };
    let address = format!("news.{peer}");
    let mut receiving = peer.start_at(&router, "open", Job::receive(&address).count(3));
    receiving.expect("attached");
    let sent = peer
        .start_at(&router, "open", Job::send(&address).count(3))
        .finish();
    assert_eq!(sent.named("outcome").len(), 3, "{sent}");
    assert_eq!(receiving.finish().named("message").len(), 3);
}

fn a_source_that_the_group_lacks_is_refused(peer: Peer) {
    let Some(router) = governed() else { return };
    let job = Job::receive("secrets").count(1);
    let refused = peer.start_at(&router, "open", job).failure();
    assert_eq!(
        refused["condition"], "amqp:unauthorized-access",
        "{refused}"
    );
}

fn a_target_that_the_group_lacks_is_refused(peer: Peer) {
    let Some(router) = governed() else { return };
    let refused = peer
        .start_at(&router, "open", Job::send("secrets").count(1))
        .failure();
    assert_eq!(
        refused["condition"], "amqp:unauthorized-access",
        "{refused}"
    );
}

fn anonymous_messages_go_where_the_group_may_send(peer: Peer) {
    let Some(router) = governed() else { return };
    let address = format!("news.anonymous.{peer}");
    let mut receiving = peer.start_at(&router, "open", Job::receive(&address).count(1));
    receiving.expect("attached");
    let outcome = |to: &str| {
        let job = Job::send_anonymous(to).count(1);
        let sent = peer.start_at(&router, "open", job).finish();
        sent.named("outcome")[0].clone()
    };
    assert_eq!(outcome(&address)["outcome"], "accepted");
    assert_eq!(outcome("secrets")["outcome"], "rejected");
    receiving.finish();
}

fn dynamic_sources_are_refused_unless_allowed(peer: Peer) {
    let Some(router) = governed() else { return };
    let refused = peer
        .start_at(&router, "open", Job::receive_dynamic())
        .failure();
    assert_eq!(
        refused["condition"], "amqp:unauthorized-access",
        "{refused}"
    );
}

fn a_host_that_the_group_lacks_is_turned_away(peer: Peer) {
    let Some(router) = governed() else { return };
    let job = Job::receive("news").count(1);
    let refused = peer.start_at(&router, "shut", job).failure();
    let text = refused.to_string();
    assert!(
        text.contains("connection disallowed by local policy"),
        "{text}"
    );
}

fn a_message_that_is_too_large_ends_its_link(peer: Peer) {
    let Some(router) = governed() else { return };
    let address = format!("news.large.{peer}");
    let mut receiving = peer.start_at(&router, "open", Job::receive(&address).count(1));
    receiving.expect("attached");
    let job = Job::send(&address).count(1).sizes(&[200_000]);
    // A client may notice by itself that the router takes no such messages.
    peer.start_at(&router, "open", job).failure();
    let arrived = receiving.poll(200);
    assert!(arrived.is_none_or(|event| event["event"] != "message"));
}

/// `None`, said loudly, when a router runs already.
fn governed() -> Option<Arc<Router>> {
    static SHARED: Shared<Router> = Shared::new(start);
    Router::is_ours_to_configure().then(|| SHARED.get())
}

fn start() -> Router {
    let policy = json!({"enableVhostPolicy": true, "maxConnections": 100});
    let open = json!({
        "hostname": "$default",
        "groups": {
            "all": {
                "users": "*",
                "remoteHosts": "127.0.0.1",
                "sources": "news*",
                "targetPattern": "news/#",
                "allowAnonymousSender": true,
                "maxMessageSize": 100_000,
            }
        }
    });
    let shut = json!({
        "hostname": "shut",
        "groups": {"all": {"users": "*", "remoteHosts": "10.0.0.1"}},
    });
    RouterBuilder::new()
        .entity("policy", policy)
        .entity("vhost", open)
        .entity("vhost", shut)
        .listener("open", json!({}))
        .listener("shut", json!({"policyVhost": "shut"}))
        .start()
}

/// One neighbour that is revoked goes, and stays away, while the other goes on working.
#[test]
fn a_neighbour_is_revoked_and_the_other_is_not() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let hub = interior("hub")
        .entity("policy", json!({"enableVhostPolicy": true}))
        .entity(
            "vhost",
            json!({"hostname": "$default", "groups": {"all": everything()}}),
        )
        .listener(
            "routers",
            json!({"role": "inter-router", "saslMechanisms": "ANONYMOUS"}),
        )
        .start();
    let site = |id: &str| {
        let connector = json!({
            "name": "hub",
            "host": "127.0.0.1",
            "port": hub.port("routers").to_string(),
            "role": "inter-router",
        });
        interior(id).entity("connector", connector).start()
    };
    let (trusted, stolen) = (site("trusted"), site("stolen"));
    let neighbours = || {
        let mut ids: Vec<String> = rows(&hub, "connection")
            .iter()
            .filter(|row| row["role"] == "inter-router")
            .filter_map(|row| Some(row.get("container")?.as_str()?.to_owned()))
            .collect();
        ids.sort();
        ids
    };
    eventually("the hub knows both", || {
        neighbours() == ["stolen", "trusted"]
    });
    let receive = Job::receive("kept").count(2);
    let mut receiving = Peer::Proton.start(&trusted, receive);
    receiving.expect("attached");
    let send = || {
        Peer::Proton
            .start(&hub, Job::send("kept").count(1))
            .finish()
    };
    send();

    let kind = [
        ("type", "io.skupper.router.vhost"),
        ("name", "vhost/$default"),
    ];
    let revoked = json!([
        "map",
        [[["string", "revoked"], ["string", "router:stolen"]]]
    ]);
    let reply = ask(&hub, "UPDATE", &kind, revoked);
    assert_eq!(
        reply["application_properties"]["statusCode"], 200,
        "{reply}"
    );
    eventually("the hub is rid of it", || neighbours() == ["trusted"]);
    send();
    receiving.finish();
    // It tries again, in vain.
    eventually("its next attempt is refused", || {
        hub.log()
            .contains("DENY AMQP Open: 'router:stolen' is revoked")
    });
    assert_eq!(neighbours(), ["trusted"]);
    drop(stolen);
}

/// A site and an edge router whose listeners have a `policyVhost` are in the network, and use there
/// what their group may use.
#[test]
fn governed_routers_reach_their_targets_and_no_others() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let sites = json!({
        "users": "*",
        "remoteHosts": "*",
        "sources": "offered",
        "targets": "wanted",
    });
    let governed =
        |role: &str| json!({"role": role, "saslMechanisms": "ANONYMOUS", "policyVhost": "sites"});
    let hub = interior("hub")
        .entity("policy", json!({"enableVhostPolicy": true}))
        .entity(
            "vhost",
            json!({"hostname": "sites", "groups": {"all": sites}}),
        )
        .entity(
            "vhost",
            json!({"hostname": "$default", "groups": {"all": everything()}}),
        )
        .listener("inter-router", governed("inter-router"))
        .listener("edge", governed("edge"))
        .start();
    for (mode, role) in [("interior", "inter-router"), ("edge", "edge")] {
        let connector = json!({
            "name": "hub",
            "host": "127.0.0.1",
            "port": hub.port(role).to_string(),
            "role": role,
        });
        let site =
            RouterBuilder::plain().router(json!({"mode": mode, "id": format!("site.{role}")}));
        let site = site.entity("connector", connector).start();
        uses_its_targets_alone(&hub, &site);
    }
}

/// A – hub – site: the site offers and uses what it may, as others in the network see it, until it
/// is revoked.
#[test]
fn a_site_offers_to_the_network_what_it_may() {
    if !Router::is_ours_to_configure() || !available(&[Peer::Proton]) {
        return;
    }
    let site = json!({
        "neighbors": "site",
        "remoteHosts": "*",
        "sources": "offered",
        "targets": "wanted",
    });
    let others = json!({
        "users": "*",
        "remoteHosts": "*",
        "sources": "*",
        "targets": "*",
        "allowTransit": true,
    });
    let sites = json!({"hostname": "sites", "groups": {"site": site, "others": others}});
    let listener = json!({
        "role": "inter-router",
        "saslMechanisms": "ANONYMOUS",
        "policyVhost": "sites",
    });
    let hub = interior("hub")
        .entity("policy", json!({"enableVhostPolicy": true}))
        .entity("vhost", sites)
        .entity(
            "vhost",
            json!({"hostname": "$default", "groups": {"all": everything()}}),
        )
        .listener("routers", listener)
        .start();
    let connected = |id: &str| {
        let connector = json!({
            "name": "hub",
            "host": "127.0.0.1",
            "port": hub.port("routers").to_string(),
            "role": "inter-router",
        });
        interior(id).entity("connector", connector).start()
    };
    let (a, site) = (connected("A"), connected("site"));
    let mut stolen = Peer::Proton.start(&site, Job::receive("stolen").count(1));
    stolen.expect("attached");
    uses_its_targets_alone(&a, &site);
    let knows = |router: &Router, key: &str| {
        let mut addresses = rows(router, "router.address").into_iter();
        addresses.any(|row| row["key"] == key)
    };
    assert!(knows(&site, "Mstolen") && !knows(&hub, "Mstolen") && !knows(&a, "Mstolen"));
    assert!(hub.log().contains("based on source 'stolen'"));

    let kind = [("type", "io.skupper.router.vhost"), ("name", "vhost/sites")];
    let revoked = json!(["map", [[["string", "revoked"], ["string", "router:site"]]]]);
    let reply = ask(&hub, "UPDATE", &kind, revoked);
    assert_eq!(
        reply["application_properties"]["statusCode"], 200,
        "{reply}"
    );
    // It is forgotten when nobody has heard of it for a minute.
    eventually("A has no way to the site", || {
        let nodes = rows(&a, "router.node");
        let site = nodes.iter().find(|row| row["id"] == "site");
        site.is_none_or(|row| row["cost"].is_null())
    });
    assert!(rows(&a, "router.node").iter().any(|row| row["id"] == "hub"));
}

fn uses_its_targets_alone(hub: &Router, site: &Router) {
    let outcome = |from: &Router, address: &str| {
        let sent = Peer::Proton
            .start(from, Job::send_anonymous(address).count(1))
            .finish();
        sent.named("outcome")[0]["outcome"].clone()
    };
    let receive = |at: &Router, address: &str, count: usize| {
        let mut receiving = Peer::Proton.start(at, Job::receive(address).count(count));
        receiving.expect("attached");
        receiving
    };
    let wanted = receive(hub, "wanted", 1);
    eventually("it sends what it may", || {
        outcome(site, "wanted") == "accepted"
    });
    wanted.finish();
    let offered = receive(site, "offered", 1);
    eventually("it receives what it may", || {
        outcome(hub, "offered") == "accepted"
    });
    offered.finish();
    let mut secret = receive(hub, "secret", 1);
    eventually("it may not send elsewhere", || {
        outcome(site, "secret") == "rejected"
    });
    assert!(secret.poll(100).is_none(), "it has sent elsewhere");
    assert_eq!(outcome(hub, "secret"), "accepted");
    secret.finish();
}

fn everything() -> Value {
    json!({
        "users": "*",
        "remoteHosts": "*",
        "sources": "*",
        "targets": "*",
        "allowDynamicSource": true,
        "allowAnonymousSender": true,
    })
}

fn interior(id: &str) -> RouterBuilder {
    RouterBuilder::plain().router(json!({"mode": "interior", "id": id}))
}
