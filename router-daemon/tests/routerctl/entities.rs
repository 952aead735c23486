//! Entities: made, read, changed, deleted.

use std::fs;
use std::io::Write;
use std::time::Duration;

use serde_json::{Value as Json, json};

use crate::support::{Router, free_port, routerctl, text};

#[test]
fn entities_are_created_read_queried_and_deleted() {
    let router = Router::standalone();
    let created = router.json(&["create", "address", "mine", "prefix=a", "priority=7"]);
    assert_eq!(created["priority"], 7);
    let read = router.json(&["read", "address", "mine"]);
    assert_eq!(read["prefix"], "a");
    let identity = read["identity"].as_str().expect("an identity");
    assert_eq!(router.json(&["read", "address", identity])["name"], "mine");

    router.done(&["create", "address", "other", "prefix=b"]);
    let query = |filter: &str| {
        let rows = router.json(&["query", "address", "-a", "name", "--where", filter]);
        rows.as_array().expect("rows").clone()
    };
    assert_eq!(query("prefix=a"), [json!({"name": "mine"})]);
    assert_eq!(query("name!=mine"), [json!({"name": "other"})]);
    assert_eq!(query("name~the"), [json!({"name": "other"})]);
    router.fails(
        &["query", "address", "--where", "prefix=c"],
        1,
        "there is no address that meets the condition",
    );
    router.fails(
        &["query", "address", "--where", "colour=red"],
        2,
        "no attribute 'colour'",
    );

    router.done(&["delete", "address", "mine"]);
    router.fails(
        &["read", "address", "mine"],
        1,
        "there is no address with the name",
    );
    router.fails(&["delete", "address", "mine"], 1, "there is no address");
}

#[test]
fn more_entities_than_a_page_are_all_listed_once() {
    let router = Router::with(|entities| {
        for number in 0..1003 {
            let address = json!({"name": format!("a{number}"), "prefix": format!("p{number}")});
            entities.push(json!(["address", address]));
        }
    });
    let rows = router.json(&["query", "address", "-a", "name"]);
    let rows = rows.as_array().expect("rows");
    let names: std::collections::BTreeSet<_> = rows.iter().map(Json::to_string).collect();
    assert_eq!((rows.len(), names.len()), (1003, 1003));
}

#[test]
fn what_the_router_refuses_is_told_and_changes_nothing() {
    let router = Router::standalone();
    let port = format!("port={}", router.port);
    router.fails(
        &["create", "listener", "again", "host=127.0.0.1", &port],
        1,
        "in use",
    );
    router.fails(
        &["create", "listener", "x", "prot=1"],
        1,
        "did you mean 'port'?",
    );
    router.fails(
        &["create", "listener", "x", "messageLoggingComponents=too"],
        1,
        "did you mean 'to'?",
    );
    router.fails(&["create", "nonsense", "x"], 1, "No such entity type");
    router.fails(&["update", "listener", "normal", "cost=2"], 1, "UPDATE");
    router.fails(&["attributes", "nonsense"], 1, "there is no type nonsense");
    let listeners = router.json(&["query", "listener", "-a", "name"]);
    assert_eq!(listeners, json!([{"name": "normal"}]));
}

#[test]
fn modules_of_the_log_go_by_the_names_that_are_shown() {
    let router = Router::standalone();
    for name in ["SERVER", "log/SERVER", "server"] {
        assert_eq!(router.json(&["read", "log", name])["module"], "SERVER");
        let updated = router.json(&["update", "log", name, "enable=warning+"]);
        assert_eq!(updated["enable"], "warning+");
        let got = router.json(&["log", "get", name]);
        assert_eq!(
            (&got[0]["module"], &got[0]["enable"]),
            (&json!("SERVER"), &json!("warning+"))
        );
        router.done(&["log", "set", name, "default"]);
        let told = router.done(&["log", "get", name]);
        assert!(told.contains("SERVER  (info+)  (yes)"), "{told}");
        assert!(told.contains("is what DEFAULT says"), "{told}");
        let got = &router.json(&["log", "get", name])[0];
        assert_eq!(got["enable"], "info+", "{got}");
        let followed = got["followsDefault"].as_array().expect("names");
        assert!(followed.contains(&json!("enable")), "{got}");
        let set = router.json(&["log", "set", name, "error"]);
        assert_eq!(set[0]["enable"], "error", "{set}");
        let followed = set[0]["followsDefault"].as_array().expect("names");
        assert!(!followed.contains(&json!("enable")), "{set}");
        router.done(&["log", "set", name, "default"]);
    }
    let default = router.json(&["log", "get", "DEFAULT"]);
    assert_eq!(default[0]["followsDefault"], json!([]), "{default}");
    for module in ["SERVER", "DEFAULT"] {
        router.done(&["update", "log", module, "enable=error"]);
        let updated = router.json(&["update", "log", module, "enable=default"]);
        assert_eq!(updated, router.json(&["read", "log", module]));
    }
    router.done(&["log", "set", "DEFAULT", "error+"]);
    let told = router.done(&["log", "get"]);
    assert!(told.contains("(error+)"), "{told}");
    router.fails(
        &["read", "log", "NOPE"],
        1,
        "'routerctl query log' lists what there is",
    );
}

#[test]
fn who_means_the_other_kind_of_address_is_told() {
    let router = Router::standalone();
    let in_use = "'routerctl addresses' shows those in use (router.address)";
    router.fails(&["query", "address"], 1, in_use);
    router.fails(&["read", "address", "orders"], 1, in_use);
    router.fails(&["delete", "address", "orders"], 1, in_use);
    let configured = "'address' (router.config.address)";
    let told = router.fails(&["read", "router.address", "orders"], 1, configured);
    assert!(told.contains("such as 'Morders'"), "{told}");
    router.fails(&["create", "router.address", "orders"], 1, configured);
    router.fails(&["delete", "router.address", "M$management"], 1, configured);
    let told = router.fails(&["read", "listener", "orders"], 1, "there is no listener");
    assert!(!told.contains("router.address"), "{told}");
}

#[test]
fn an_entity_of_another_type_with_the_name_is_not_meant() {
    let router = Router::with(|entities| entities.push(json!(["sslProfile", {"name": "p"}])));
    for operation in ["read", "delete"] {
        router.fails(
            &[operation, "listener", "p"],
            1,
            "there is no listener with the name or identity 'p'",
        );
    }
}

#[test]
fn attributes_that_a_type_does_not_have_are_named() {
    let router = Router::standalone();
    for (more, name) in [
        (&["-a", "colour"][..], "colour"),
        (&["-a", "name", "--where", "colour=red"], "colour"),
        (&["-a", "colour", "--where", "name=x"], "colour"),
        (&["-a", "name", "-a", "size"], "size"),
    ] {
        let hint = format!("link has no attribute '{name}'; 'routerctl attributes link' lists");
        router.fails(&[&["query", "link"], more].concat(), 2, &hint);
    }
    router.done(&["query", "listener", "-a", "name", "-a", "sslProfile"]);
    let twice = router.done(&["query", "listener", "-a", "name", "-a", "name"]);
    assert_eq!(twice, "name\nnormal\n");
    router.fails(
        &["query", "autoLink", "-a", "type", "--where", "name=x"],
        1,
        "no autoLink",
    );
}

#[test]
fn types_with_short_names_have_a_schema_too() {
    let router = Router::standalone();
    for kind in [
        "address",
        "router.config.address",
        "io.skupper.router.router.config.address",
    ] {
        let attributes = router.done(&["attributes", kind]);
        assert!(attributes.contains("distribution"), "{attributes}");
    }
    let told = router.fails(
        &["create", "address", "x", "prefix=x", "priority=high"],
        2,
        "'priority' must be an integer, not 'high'",
    );
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn a_query_that_finds_nothing_says_so() {
    let router = Router::standalone();
    router.fails(&["query", "connector"], 1, "there is no connector");
    let two = ["--where", "name~n", "--where", "port=1"];
    router.fails(
        &[&["query", "listener"][..], &two].concat(),
        1,
        "there is no listener that meets all conditions",
    );
    let output = router.try_it(&["query", "connector", "--json"]);
    assert_eq!(text(&output.stdout), "[]\n");
    assert_eq!(output.status.code(), Some(1));
    let watch = ["query", "connector", "--watch", "0.05", "--count", "2"];
    let told = router.done(&watch);
    assert_eq!(told, "there is no connector\n\nthere is no connector\n");
    let told = router.done(&[&watch[..], &["--json"]].concat());
    assert_eq!(told, "[]\n[]\n");
}

/// Creates what has a secret that comes by standard input.
const CREATE_BY_INPUT: [&str; 7] = [
    "create",
    "proxyProfile",
    "p",
    "host=h",
    "port=1",
    "username=u",
    "password=@-",
];

#[test]
fn secrets_come_by_standard_input_a_line_each() {
    let router = Router::standalone();
    let bus = router.bus();
    let create = [&["-b", &bus][..], &CREATE_BY_INPUT].concat();
    let output = routerctl(&create, "hunter2\nmore\n");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_secret_may_be_typed_slower_than_the_router_waits_to_hear_of_us() {
    let router = Router::with(|entities| entities[1][1]["idleTimeoutSeconds"] = json!(1));
    let mut create = router.start(&CREATE_BY_INPUT);
    std::thread::sleep(Duration::from_secs(3));
    let mut typed = create.stdin.take().expect("it is piped");
    typed.write_all(b"hunter2\n").expect("it reads");
    let output = create.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn the_answer_to_an_update_shows_what_came_of_it() {
    let port = free_port();
    let router = Router::with(|entities| {
        let tcp = |kind: &str, name: &str, address: &str, port: u16| {
            let port = port.to_string();
            json!([kind, {"name": name, "address": address, "host": "127.0.0.1", "port": port}])
        };
        entities.push(tcp("tcpListener", "shop", "unserved", port));
        entities.push(tcp("tcpConnector", "shop", "served", 9));
    });
    let is = |row: &Json| (row["operStatus"].clone(), row["connectionMsg"].clone());
    let down = (json!("down"), json!("nobody serves 'unserved'"));
    assert_eq!(is(&router.json(&["read", "tcpListener", "shop"])), down);
    let update = |what: &str| router.json(&["update", "tcpListener", "shop", what]);
    let updated = update("address=served");
    assert_eq!(is(&updated), (json!("up"), Json::Null));
    assert_eq!(updated, router.json(&["read", "tcpListener", "shop"]));
    let moved = update(&format!("port={}", router.port));
    let (status, why) = is(&moved);
    assert_eq!(status, "down");
    assert!(
        why.as_str().is_some_and(|why| why.contains("in use")),
        "{why}"
    );
    assert_eq!(is(&update("address=unserved")), down);
}

#[test]
fn secrets_are_read_from_files_and_shown_nowhere() {
    let router = Router::standalone();
    let refused = router.fails(
        &["create", "sslProfile", "p", "password=hunter2"],
        2,
        "password=@FILE",
    );
    assert!(!refused.contains("hunter2"), "{refused}");
    let file = router.directory.path().join("secret");
    fs::write(&file, "hunter2\n").expect("a file");
    let proxy = format!("password=@{}", file.display());
    let create = [
        "create",
        "proxyProfile",
        "p",
        "host=h",
        "port=1",
        "username=u",
        &proxy,
    ];
    let shown = router.done(&create) + &router.done(&["read", "proxyProfile", "p", "--json"]);
    assert!(!shown.contains("hunter2"), "{shown}");
}
