//! Other routers, asked through one.

use serde_json::{Value as Json, json};

use crate::support::{Router, free_port, text};

#[test]
fn a_network_is_asked_through_one_router() {
    let a = Router::interior("A", None);
    let b = Router::interior("B", Some((a.inter_router, 3)));
    b.until(&["query", "router.node", "--where", "id=A"]);
    a.until(&["query", "router.node", "--where", "id=B"]);
    // Each knows the connection by a number, and tells the other.
    let of_routers = ["query", "connection", "--where", "role=inter-router"];
    let (at_a, at_b) = (a.json(&of_routers), b.json(&of_routers));
    for (one, other) in [(&at_a, &at_b), (&at_b, &at_a)] {
        let told = &one[0]["properties"]["qd.conn-id"].to_string();
        let mut others = other.as_array().expect("rows").iter();
        assert!(others.any(|row| row["identity"] == **told), "{one} {other}");
    }
    let nodes = a.done(&["nodes"]);
    assert!(
        nodes.contains("(self)") && nodes.contains("(neighbour)"),
        "{nodes}"
    );
    a.until(&["ping", "--router", "B", "--count", "1"]);
    let status = a.json(&["status", "--router", "B"]);
    assert_eq!(status["router"]["id"], "B");

    let receiver = b.start(&["recv", "far", "--timeout", "20"]);
    let remote = ["query", "router.address", "--where", "key=Mfar"];
    a.until(&[&remote[..], &["--where", "remoteHostRouters=B"]].concat());
    let path = a.json(&["path", "far"]);
    let hops = json!([{"router": "A", "cost": 0}, {"router": "B", "cost": 3}]);
    assert_eq!(path["paths"], json!([{"arrives": true, "hops": hops}]));
    assert!(a.done(&["path", "far"]).contains("A → B"));
    let here = b.json(&["path", "far"]);
    let hops = json!([{"router": "B", "cost": 0}]);
    assert_eq!(here["paths"], json!([{"arrives": true, "hops": hops}]));
    assert_eq!(a.done(&["send", "far", "hello"]), "1 accepted\n");
    let output = receiver.wait_with_output().expect("it ends");
    assert_eq!(text(&output.stdout), "hello\n");

    a.fails(&["path", "nowhere"], 1, "nobody receives from 'nowhere'");
    a.fails(&["status", "--router", "Z"], 1, "cannot be reached");
    a.fails(&["status", "--edge", "Z"], 1, "cannot be reached");
}

#[test]
fn a_path_leads_through_edge_routers() {
    let a = Router::interior("A", None);
    let b = Router::interior("B", Some((a.inter_router, 3)));
    let edges = [(&a, "E1"), (&b, "E2")].map(|(interior, id)| {
        let port = free_port().to_string();
        let at = format!("port={port}");
        let listener = [
            "create",
            "listener",
            "edges",
            "host=127.0.0.1",
            &at,
            "role=edge",
        ];
        interior.done(&[&listener[..], &["saslMechanisms=ANONYMOUS"]].concat());
        Router::with(|entities| {
            entities[0] = json!(["router", {"mode": "edge", "id": id}]);
            entities.push(json!(["connector", {
                "name": "up", "host": "127.0.0.1", "port": port, "role": "edge",
            }]));
        })
    });
    let mut far = edges[1].start(&["recv", "far", "--timeout", "60"]);
    let remote = ["query", "router.address", "--where", "key=Mfar"];
    a.until(&[&remote[..], &["--where", "remoteHostRouters=B"]].concat());
    edges[0].until(&[
        "query",
        "connection",
        "--where",
        "role=edge",
        "--where",
        "opened=true",
    ]);
    let hop = |router: &str, cost: i64| json!({"router": router, "cost": cost});
    let (e1, a_hop, e2) = (hop("E1", 0), hop("A", 0), hop("E2", 3));
    let path = |hops: Json| json!([{"arrives": true, "hops": hops}]);
    let from_a = path(json!([a_hop, hop("B", 3), e2]));
    assert_eq!(a.json(&["path", "far"])["paths"], from_a);
    let from_edge = path(json!([e1, a_hop, hop("B", 3), e2]));
    assert_eq!(edges[0].json(&["path", "far"])["paths"], from_edge);
    let here = path(json!([hop("E2", 0)]));
    assert_eq!(edges[1].json(&["path", "far"])["paths"], here);
    far.kill().expect("it has waited all the time");
    far.wait().expect("it ends");
}
