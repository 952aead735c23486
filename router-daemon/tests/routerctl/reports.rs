//! What is shown, and how.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use serde_json::{Value as Json, json};

use crate::support::{Router, free_port, routerctl, text};

#[test]
fn reports_are_text_and_json() {
    let router = Router::standalone();
    for report in [
        "status",
        "connections",
        "links",
        "addresses",
        "nodes",
        "tcp",
        "memory",
        "log",
    ] {
        assert!(!router.done(&[report]).is_empty(), "{report}");
        let json: Json = serde_json::from_str(&router.done(&[report, "--json"])).expect(report);
        assert!(json.is_array() || json.is_object(), "{report}");
    }
    let status = router.done(&["status"]);
    assert!(status.contains("router       Solo\n"), "{status}");
    assert!(status.contains("mode         standalone\n"), "{status}");
    let connections = router.json(&["connections"]);
    let container = connections[0]["container"].as_str().expect("we are one");
    assert!(container.starts_with("routerctl."), "{connections}");
}

#[test]
fn tcp_connections_are_listed_with_what_they_carry() {
    let service = TcpListener::bind("127.0.0.1:0").expect("a port");
    let to = service.local_addr().expect("it is bound").port();
    let port = free_port();
    let tcp = |kind: &str, port: u16| {
        let port = port.to_string();
        json!([kind, {"name": "shop", "address": "s", "host": "127.0.0.1", "port": port}])
    };
    let router = Router::with(|entities| {
        entities.extend([tcp("tcpListener", port), tcp("tcpConnector", to)]);
    });
    router.until(&["query", "tcpListener", "--where", "operStatus=up"]);
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    client.write_all(b"hello").expect("it takes five octets");
    let (mut served, _) = service.accept().expect("a connection");
    let mut octets = [0; 5];
    served.read_exact(&mut octets).expect("five octets");
    served.write_all(b"thanks").expect("it takes six octets");
    client.read_exact(&mut [0; 6]).expect("six octets");

    let report = router.json(&["tcp"]);
    let connections = report["connections"].as_array().expect("rows").iter();
    let mut carried: Vec<_> = connections
        .map(|row| {
            let of = |name: &str| row["properties"][name].to_string();
            let dir = row["dir"].as_str().unwrap_or_default().to_owned();
            (dir, of("qd.bytes-in"), of("qd.bytes-out"))
        })
        .collect();
    carried.sort();
    let row = |dir: &str, carried: [&str; 2]| (dir.into(), carried[0].into(), carried[1].into());
    assert_eq!(carried, [row("in", ["5", "6"]), row("out", ["6", "5"])]);
    let table = router.done(&["tcp"]);
    let (_, connections) = table.split_once("Connections\n").expect("a table");
    assert_eq!(connections.matches("shop").count(), 2, "{table}");
}

#[test]
fn tables_fit_the_width_and_have_colours_when_told() {
    let router = Router::standalone();
    let links = router.done(&["links", "--width", "60"]);
    assert!(
        links.lines().all(|line| line.chars().count() <= 60),
        "{links}"
    );
    assert!(!links.contains('\x1b'), "{links}");
    let links = router.done(&["links", "--color", "always"]);
    assert!(links.contains("\x1b[32mup"), "{links}");
}

#[test]
fn watching_prints_one_document_a_line() {
    let router = Router::standalone();
    let lines = router.done(&["status", "--json", "--watch", "0.05", "--count", "3"]);
    let ids = lines.lines().map(|line| {
        let json: Json = serde_json::from_str(line).expect("a document a line");
        json["router"]["id"].clone()
    });
    assert_eq!(ids.collect::<Vec<_>>(), ["Solo", "Solo", "Solo"]);
}

#[test]
fn types_attributes_and_completions_are_listed() {
    let router = Router::standalone();
    let types = router.json(&["types"]);
    let operations = types["io.skupper.router.listener"]
        .as_array()
        .expect("a type");
    assert!(operations.contains(&json!("CREATE")), "{types}");
    let attributes = router.done(&["attributes", "listener"]);
    assert!(attributes.contains("linkCapacity"), "{attributes}");
    assert!(
        attributes.contains("How many deliveries a link"),
        "{attributes}"
    );
    let output = routerctl(&["completions", "bash"], "");
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stdout).contains("tcp"));
}

#[test]
fn help_tells_a_new_name_from_the_name_of_what_there_is() {
    for (command, hint, not) in [
        (
            "create",
            "The name that the new entity is to have",
            "identity",
        ),
        (
            "read",
            "The name or the identity of the entity",
            "new entity",
        ),
        ("send", "`-` is standard input", "identity"),
    ] {
        let help = text(&routerctl(&[command, "--help"], "").stdout);
        assert!(help.contains(hint), "{help}");
        assert!(!help.contains(not), "{help}");
    }
}

#[test]
fn help_documents_the_exit_codes() {
    let output = routerctl(&["--help"], "");
    assert_eq!(output.status.code(), Some(0));
    let help = text(&output.stdout);
    assert!(
        help.contains("4  no answer, message or credit came in time"),
        "{help}"
    );
}
