//! `routerctl` against routers that run.

// Processes live in real time.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

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
fn a_changed_file_is_taken_on_while_the_router_works() {
    let router = Router::standalone();
    let (kept, moved, taken) = (free_port(), free_port(), free_port());
    let listener = |name: &str, port: u16| {
        let port = port.to_string();
        json!(["listener", {"name": name, "host": "127.0.0.1", "port": port}])
    };
    let id = json!(["router", {"mode": "standalone", "id": "Solo"}]);
    let normal = listener("normal", router.port);
    assert_eq!(router.done(&["reload"]), "nothing has changed\n");

    router.configure(&[
        id.clone(),
        normal.clone(),
        listener("a", kept),
        listener("b", moved),
    ]);
    let added = "added listener 'a'\nadded listener 'b'\n";
    assert_eq!(router.done(&["reload"]), added);
    for port in [kept, moved] {
        TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    }
    router.done(&["create", "address", "mine", "prefix=mine"]);

    // The listeners trade their ports, and a third wants one that another program has.
    let other = TcpListener::bind(("127.0.0.1", taken)).expect("free");
    router.configure(&[
        id.clone(),
        normal.clone(),
        listener("a", moved),
        listener("b", kept),
        listener("c", taken),
    ]);
    let report = router.try_it(&["reload", "--json"]);
    let errors = text(&report.stderr);
    assert_eq!(report.status.code(), Some(1), "{errors}");
    assert!(errors.contains("not applied: listener 'c'"), "{errors}");
    assert!(errors.contains("in use"), "{errors}");
    let report: Json = serde_json::from_slice(&report.stdout).expect("a document");
    assert_eq!(report["changed"], json!(["listener 'a'", "listener 'b'"]));
    assert_eq!(report["added"], json!([]));
    for (name, port) in [("a", moved), ("b", kept)] {
        let entity = router.json(&["read", "listener", name]);
        assert_eq!(entity["port"], port.to_string(), "{name}");
        TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    }
    drop(other);
    assert_eq!(router.done(&["reload"]), "added listener 'c'\n");

    // A mistake in the file changes nothing.
    router.configure(&[id.clone(), normal.clone(), json!(["listener", {"prot": 1}])]);
    let hint = "Unknown attribute 'prot' for 'io.skupper.router.listener'; did you mean 'port'?";
    router.fails(&["reload"], 1, hint);
    TcpStream::connect(("127.0.0.1", kept)).expect("it still listens");

    router.configure(&[id, normal]);
    let removed = "removed listener 'a'\nremoved listener 'b'\nremoved listener 'c'\n";
    assert_eq!(router.done(&["reload"]), removed);
    assert_eq!(router.json(&["read", "address", "mine"])["prefix"], "mine");
}

#[test]
fn a_changed_policy_is_taken_on_while_the_router_works() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let output = log.path().to_str().expect("a path").to_owned();
    let router = Router::with(|entities| {
        entities.push(json!(["log", {"module": "DEFAULT", "outputFile": output}]));
    });
    let with = |policy: Json, vhost: Json| {
        let mut entities = router.entities();
        entities.extend([json!(["policy", policy]), json!(["vhost", vhost])]);
        router.configure(&entities);
        router.done(&["reload"])
    };
    // A setting that no group has is told once, and keeps nothing from being put to work.
    let everybody = json!({
        "remoteHosts": "*", "sources": "*", "targets": "*", "allowDynamicSource": true,
        "allowAnonymousSender": true, "maxSenderz": 1,
    });
    let open = json!({
        "hostname": "$default", "allowUnknownUser": true, "groups": {"$default": everybody},
    });
    let changes = with(json!({"enableVhostPolicy": true}), open);
    assert_eq!(changes, "added vhost 'vhost/$default'\nchanged policy\n");
    let lines = fs::read_to_string(log.path()).expect("the log");
    let told = lines.matches("'maxSenderz' of group '$default' has no effect");
    assert_eq!(told.count(), 1, "{lines}");
    router.done(&["status"]);
    let closed = json!({"hostname": "$default"});
    let changes = with(
        json!({"enableVhostPolicy": true, "maxMessageSize": 7}),
        closed,
    );
    assert!(changes.contains("changed policy\n"), "{changes}");
    router.fails(&["status"], 3, "disallowed by local policy");

    // Who cannot get in any more has the signal.
    router.configure(&router.entities());
    let process = nix::unistd::Pid::from_raw(router.process.id().cast_signed());
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGHUP).expect("it runs");
    router.until(&["status"]);
}

#[test]
fn a_users_file_that_is_damaged_keeps_nobody_from_changing_other_things() {
    let files = tempfile::tempdir().expect("a directory");
    let users = files.path().join("skrouterd.users");
    add_user(users.to_str().expect("a path"), "me", "hunter2\n");
    let directory = files.path().to_str().expect("a path").to_owned();
    let router = Router::with(|entities| {
        entities[0][1]["saslConfigDir"] = json!(directory);
    });
    fs::write(&users, "no user at all\n").expect("it can be written");
    router.done(&["create", "address", "a", "prefix=a"]);
    let port = format!("port={}", free_port());
    router.done(&["create", "listener", "later", "host=127.0.0.1", &port]);
}

#[test]
fn the_frames_of_a_connection_are_shown_when_somebody_wants_to_see_them() {
    let files = tempfile::tempdir().expect("a directory");
    let log = files.path().join("log");
    let output = log.to_str().expect("a path").to_owned();
    let router = Router::with(|entities| {
        entities.push(json!(["log", {"module": "DEFAULT", "outputFile": output}]));
    });
    let logged = |text: &str| {
        let deadline = Instant::now() + PATIENCE;
        while !fs::read_to_string(&log).is_ok_and(|log| log.contains(text)) {
            assert!(Instant::now() < deadline, "nothing like {text} is logged");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let mut receiver = router.start(&["recv", "traced", "--timeout", "60"]);
    let links = ["query", "link", "--where", "owningAddr=Mtraced"];
    router.until(&links);
    let links = router.json(&links);
    let id = links[0]["connectionId"].as_str().expect("a number");
    let id = id.to_owned();
    let connection = router.json(&["read", "connection", &id]);
    assert_eq!(connection["enableProtocolTrace"], false);
    let traced = router.json(&["update", "connection", &id, "enableProtocolTrace=true"]);
    assert_eq!(traced["enableProtocolTrace"], true);
    router.done(&["send", "traced", "hello"]);
    assert!(receiver.wait().expect("it ends").success());
    logged(&format!(
        "PROTOCOL (info) [C{id}]:FRAME: 0 -> @transfer(20) [handle="
    ));
    logged(&format!(
        "PROTOCOL (info) [C{id}]:FRAME: 0 <- @close(24) []"
    ));
    logged(&format!("PROTOCOL (info) [C{id}]:FRAME:   -> EOS"));

    router.done(&["log", "set", "PROTOCOL", "debug+"]);
    router.done(&["ping", "--count", "1"]);
    logged(":FRAME:   <- SASL");
    logged(":FRAME: 0 -> @sasl-mechanisms(64) [sasl-server-mechanisms=");
    logged(":FRAME: 0 <- @open(16) [container-id=\"routerctl.");
    let lines = fs::read_to_string(&log).expect("the log");
    assert!(!lines.contains("initial-response=b"), "{lines}");

    // Of one of them nobody wants to see more.
    let mut receiver = router.start(&["recv", "silent", "--timeout", "60"]);
    let links = ["query", "link", "--where", "owningAddr=Msilent"];
    router.until(&links);
    let id = router.json(&links)[0]["connectionId"].clone();
    let id = id.as_str().expect("a number");
    let connection = router.json(&["read", "connection", id]);
    assert_eq!(connection["enableProtocolTrace"], true);
    let silent = router.json(&["update", "connection", id, "enableProtocolTrace=false"]);
    assert_eq!(silent["enableProtocolTrace"], false);
    router.done(&["send", "silent", "hello"]);
    assert!(receiver.wait().expect("it ends").success());
    let lines = fs::read_to_string(&log).expect("the log");
    assert!(
        lines.contains(&format!("[C{id}]:FRAME: 0 <- @attach(18)")),
        "{lines}"
    );
    assert!(
        !lines.contains(&format!("[C{id}]:FRAME: 0 -> @transfer(20)")),
        "{lines}"
    );
}

#[test]
fn the_messages_of_a_listener_are_logged_where_it_says_so() {
    let files = tempfile::tempdir().expect("a directory");
    let log = files.path().join("log");
    let output = log.to_str().expect("a path").to_owned();
    let port = free_port();
    let router = Router::with(|entities| {
        entities[1][1]["messageLoggingComponents"] = json!("to, app-properties");
        entities.push(json!(["listener", {
            "name": "silent", "host": "127.0.0.1", "port": port.to_string(),
        }]));
        entities.push(json!(["log", {"module": "DEFAULT", "outputFile": output}]));
    });
    let send = |bus: &str, address: &str| {
        let mut receiver = router.start(&["recv", address, "--timeout", "60"]);
        let link = format!("owningAddr=M{address}");
        router.until(&["query", "link", "--where", &link]);
        let sent = routerctl(&["--bus", bus, "send", address, "hush"], "");
        assert!(sent.status.success(), "{}", text(&sent.stderr));
        assert!(receiver.wait().expect("it ends").success());
    };
    let lines = |of: &str| {
        let log = fs::read_to_string(&log).unwrap_or_default();
        let lines = log
            .lines()
            .filter(|line| line.contains(" MESSAGE (debug) [C"));
        let lines = lines.filter(|line| line.contains(of));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let bus = router.bus();
    send(&bus, "unseen");
    router.done(&["log", "set", "MESSAGE", "debug+"]);
    send(&bus, "first");
    send(&format!("amqp://127.0.0.1:{port}"), "second");
    let deadline = Instant::now() + PATIENCE;
    while lines("(second -> ").is_empty() {
        assert!(Instant::now() < deadline, "{:?}", lines(""));
        std::thread::sleep(Duration::from_millis(20));
    }
    for (address, received) in [("unseen", 0), ("first", 1), ("second", 0)] {
        let lines = lines(&format!("-> {address})"));
        assert_eq!(lines.len(), received, "{lines:?}");
        let start = "]: Received Message{} on link '";
        assert!(lines.iter().all(|line| line.contains(start)), "{lines:?}");
    }
    for (address, sent) in [("unseen", 0), ("first", 1), ("second", 1)] {
        let lines = lines(&format!("({address} -> "));
        assert_eq!(lines.len(), sent, "{lines:?}");
        let start = "]: Sent Message{} on link '";
        assert!(lines.iter().all(|line| line.contains(start)), "{lines:?}");
    }
    let asked = lines("]: Received Message{to=\"");
    let operation = "app-properties={\"operation\"=\"QUERY\", ";
    assert!(
        asked.iter().any(|line| line.contains(operation)),
        "{asked:?}"
    );
    assert!(!lines("").iter().any(|line| line.contains("hush")));
}

#[test]
fn the_latest_lines_of_the_log_are_shown() {
    let router = Router::standalone();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let lines = router.done(&["log", "show"]);
        if lines.contains(" SERVER (info) Operational, ") {
            break;
        }
        // It listens a moment before it says so.
        assert!(Instant::now() < deadline, "{lines}");
    }
    let last = router.json(&["log", "show", "--limit", "2"]);
    let entries = last.as_array().expect("entries");
    assert_eq!(entries.len(), 2, "{last}");
    for entry in entries {
        assert!(
            entry["time"]
                .as_str()
                .is_some_and(|at| at.starts_with("20")),
            "{last}"
        );
        assert!(
            entry["text"].is_string() && entry["line"].is_i64(),
            "{last}"
        );
    }
}

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
        "there is no such address",
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
fn log_levels_are_shown_and_set() {
    let router = Router::standalone();
    router.done(&["log", "set", "server", "warning+"]);
    let log = router.json(&["log", "get", "SERVER"]);
    let levels = log[0]["enable"].as_str().expect("levels");
    assert!(levels.contains("warning"), "{log}");
    router.fails(&["log", "get", "COOKING"], 1, "there is no module COOKING");
    router.fails(&["log", "set", "SERVER", "loud"], 1, "'loud'");
}

#[test]
fn messages_are_sent_and_received() {
    let router = Router::standalone();
    let receiver = router.start(&["recv", "q", "--count", "3", "--json"]);
    router.until(&["query", "router.address", "--where", "key=Mq"]);
    let sent = router.json(&["send", "q", "one", "two", "three"]);
    assert_eq!((&sent["sent"], &sent["failed"]), (&json!(3), &json!(0)));
    let output = receiver.wait_with_output().expect("it ends");
    let received: Json = serde_json::from_slice(&output.stdout).expect("a document");
    let bodies = received
        .as_array()
        .expect("messages")
        .iter()
        .map(|m| &m["body"]);
    assert_eq!(bodies.collect::<Vec<_>>(), ["one", "two", "three"]);
    router.fails(
        &["recv", "q", "--timeout", "0.1"],
        4,
        "no message from 'q' within 0.1 s",
    );
    router.fails(&["send", "q", "one", "--timeout", "0.1"], 4, "no credit");
}

#[test]
fn standard_input_and_files_are_sent_too() {
    let router = Router::standalone();
    let file = router.directory.path().join("body");
    fs::write(&file, "from a file").expect("a file");
    let receiver = router.start(&["recv", "q", "--count", "2"]);
    router.until(&["query", "router.address", "--where", "key=Mq"]);
    let bus = router.bus();
    let output = routerctl(&["-b", &bus, "send", "q"], "from standard input");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let path = file.to_str().expect("a path");
    router.done(&["send", "q", "--file", path, "--settled"]);
    let output = receiver.wait_with_output().expect("it ends");
    assert_eq!(text(&output.stdout), "from standard input\nfrom a file\n");
}

#[test]
fn top_shows_rates_and_ping_times() {
    let router = Router::standalone();
    let lines = router.done(&["top", "--json", "--count", "2", "--interval", "0.05"]);
    assert_eq!(lines.lines().count(), 2);
    for line in lines.lines() {
        let json: Json = serde_json::from_str(line).expect("a document a line");
        assert!(
            json["links"].as_array().is_some_and(|l| !l.is_empty()),
            "{line}"
        );
    }
    let page = router.done(&["top", "--count", "1", "--interval", "0.05"]);
    assert!(page.contains("deliveries/s"), "{page}");
    let ping = router.json(&["ping", "--count", "3", "--interval", "0"]);
    assert_eq!(ping["times"].as_array().map(Vec::len), Some(3), "{ping}");
}

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

#[test]
fn usage_errors_are_2_and_no_connection_is_3() {
    for arguments in [&["nonsense"][..], &["status", "--bus", "http://x"], &[]] {
        let output = routerctl(arguments, "");
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
    let port = free_port();
    let output = routerctl(&["status", "-b", &format!("127.0.0.1:{port}")], "");
    assert_eq!(output.status.code(), Some(3));
    let errors = text(&output.stderr);
    assert!(errors.contains("is the router running?"), "{errors}");

    for target in ["--router", "--edge"] {
        for arguments in [["send", "q", "x"], ["recv", "q", "--count=1"]] {
            let output = routerctl(&[&arguments[..], &[target, "A"]].concat(), "");
            assert_eq!(output.status.code(), Some(2), "{arguments:?} {target}");
            assert!(text(&output.stderr).contains("have no use for --router"));
        }
    }

    let output = routerctl(&["status", "--sasl-username", "me"], "");
    assert_eq!(output.status.code(), Some(2));
    let output = routerctl(&["status", "--ssl-trustfile", "/absent"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("cannot read /absent"));
}

#[test]
fn tls_and_users_are_checked_and_failures_explained() {
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str| files.path().join(name).to_str().expect("a path").to_owned();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
    fs::write(file("crt"), made.cert.pem()).expect("a file");
    fs::write(file("key"), made.signing_key.serialize_pem()).expect("a file");
    fs::write(file("right"), "hunter2\n").expect("a file");
    fs::write(file("wrong"), "hunter3\n").expect("a file");
    add_user(&file("skrouterd.users"), "me", "hunter2\n");
    let port = free_port();
    let directory = files.path().to_str().expect("a path").to_owned();
    let _router = Router::with(|entities| {
        entities[0][1]["saslConfigDir"] = json!(directory);
        entities.push(json!(["sslProfile", {
            "name": "tls", "certFile": file("crt"), "privateKeyFile": file("key"),
        }]));
        entities.push(json!(["listener", {
            "name": "secure", "host": "127.0.0.1", "port": port.to_string(),
            "sslProfile": "tls", "requireSsl": true, "authenticatePeer": true,
            "saslMechanisms": "PLAIN",
        }]));
    });
    let bus = format!("amqps://localhost:{port}");
    let (trust, right, wrong) = (file("crt"), file("right"), file("wrong"));
    let status = |more: &[&str]| {
        let output = routerctl(&[&["status", "-b", bus.as_str()], more].concat(), "");
        (
            output.status.code(),
            text(&output.stdout) + &text(&output.stderr),
        )
    };
    let user = |password| {
        [
            "--ssl-trustfile",
            &trust,
            "--sasl-username",
            "me",
            "--sasl-password-file",
            password,
        ]
    };
    let (code, told) = status(&user(&right));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("Solo"), "{told}");
    for (more, hint) in [
        (&user(&wrong)[..], "does not let 'me' in"),
        (&user(&right)[2..], "--ssl-trustfile names the authority"),
        (&user(&right)[..2], "give"),
    ] {
        let (code, told) = status(more);
        assert_eq!(code, Some(3), "{told}");
        assert!(told.contains(hint), "{told}");
        assert!(!told.contains("hunter"), "{told}");
    }
}

#[test]
fn a_user_of_scram_alone_logs_in() {
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str| files.path().join(name).to_str().expect("a path").to_owned();
    fs::write(file("right"), "hunter2\n").expect("a file");
    fs::write(file("wrong"), "hunter3\n").expect("a file");
    let users = file("skrouterd.users");
    add_user_of(
        &["--mechanism", "SCRAM-SHA-256,SCRAM-SHA-512"],
        &users,
        "bob",
        "hunter2\n",
    );
    let directory = files.path().to_str().expect("a path").to_owned();
    let log = file("log");
    let port = free_port();
    let router = Router::with(|entities| {
        entities[0][1]["saslConfigDir"] = json!(directory);
        let enable = "debug+";
        entities.push(json!(["log", {"module": "SERVER", "enable": enable, "outputFile": log}]));
        entities.push(json!(["listener", {
            "name": "scram", "host": "127.0.0.1", "port": port.to_string(),
            "authenticatePeer": true,
            "saslMechanisms": "SCRAM-SHA-512 SCRAM-SHA-256",
        }]));
    });
    let bus = format!("127.0.0.1:{port}");
    let query = |password: &str, more: &[&str]| {
        let password = file(password);
        let user = ["--sasl-username", "bob", "--sasl-password-file", &password];
        let query = ["query", "connection", "-a", "user", "-a", "sasl", "--json"];
        routerctl(
            &[&["-b", bus.as_str()], &user[..], &query, more].concat(),
            "",
        )
    };
    for (more, mechanism) in [
        (&[][..], "SCRAM-SHA-512"),
        (
            &["--sasl-mechanisms", "plain,scram-sha-256"],
            "SCRAM-SHA-256",
        ),
    ] {
        let output = query("right", more);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let rows: Json = serde_json::from_slice(&output.stdout).expect("a document");
        assert_eq!(rows, json!([{"user": "bob", "sasl": mechanism}]));
    }
    // By one connection each, whatever it has to offer.
    let opened = fs::read_to_string(&log).expect("the log");
    assert_eq!(
        opened.matches("Accepted connection to scram").count(),
        2,
        "{opened}"
    );
    for (password, more, code, hint) in [
        ("wrong", &[][..], 3, "does not let 'bob' in"),
        (
            "right",
            &["--sasl-mechanisms", "PLAIN"],
            3,
            "does not offer PLAIN but SCRAM-SHA-512",
        ),
        (
            "right",
            &["--sasl-mechanisms", "SCRAM-SHA-1"],
            3,
            "does not offer SCRAM-SHA-1 but",
        ),
        (
            "right",
            &["--sasl-mechanisms", "EXTERNAL"],
            2,
            "EXTERNAL --ssl-certificate",
        ),
        (
            "right",
            &["--sasl-mechanisms", "GSSAPI"],
            2,
            "'GSSAPI' is not a mechanism",
        ),
    ] {
        let output = query(password, more);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{more:?}: {errors}");
        assert!(errors.contains(hint), "{more:?}: {errors}");
        assert!(!errors.contains("hunter"), "{errors}");
    }
    drop(router);
}

#[test]
fn a_connection_that_breaks_is_3() {
    let router = Router::standalone();
    let mut watching = router.start(&["status", "--json", "--watch", "0.05"]);
    let mut first = [0];
    let stdout = watching.stdout.as_mut().expect("it is piped");
    stdout.read_exact(&mut first).expect("a report");
    drop(router);
    let output = watching.wait_with_output().expect("it ends");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{errors}");
}

#[test]
fn a_peer_that_says_nothing_is_4() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let bus = format!("127.0.0.1:{}", silent.local_addr().expect("bound").port());
    let output = routerctl(&["status", "-b", &bus, "--timeout", "0.2"], "");
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
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

/// A router that runs until it is dropped.
struct Router {
    process: Child,
    port: u16,
    inter_router: u16,
    directory: TempDir,
}

impl Router {
    fn standalone() -> Self {
        Self::with(|_| {})
    }

    fn with(more: impl FnOnce(&mut Vec<Json>)) -> Self {
        let port = free_port();
        let mut entities = vec![
            json!(["router", {"mode": "standalone", "id": "Solo"}]),
            json!(["listener", {"name": "normal", "host": "127.0.0.1", "port": port.to_string()}]),
        ];
        more(&mut entities);
        Self::run(&entities, port, 0)
    }

    /// What the configuration file said at the start.
    fn entities(&self) -> Vec<Json> {
        let text = fs::read_to_string(self.directory.path().join("started.json"));
        serde_json::from_str(&text.expect("the file")).expect("JSON")
    }

    /// A router of a network, and the port and cost of its neighbour.
    fn interior(id: &str, neighbour: Option<(u16, u32)>) -> Self {
        let (port, inter_router) = (free_port(), free_port());
        let mut entities = vec![
            json!(["router", {"mode": "interior", "id": id}]),
            json!(["listener", {"name": "normal", "host": "127.0.0.1", "port": port.to_string()}]),
            json!(["listener", {
                "name": "routers", "host": "127.0.0.1", "port": inter_router.to_string(),
                "role": "inter-router", "saslMechanisms": "ANONYMOUS",
            }]),
        ];
        if let Some((port, cost)) = neighbour {
            entities.push(json!(["connector", {
                "name": "neighbour", "host": "127.0.0.1", "port": port.to_string(),
                "role": "inter-router", "cost": cost,
            }]));
        }
        Self::run(&entities, port, inter_router)
    }

    fn run(entities: &[Json], port: u16, inter_router: u16) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("router.json");
        fs::write(&file, Json::from(entities).to_string()).expect("a file");
        let kept = directory.path().join("started.json");
        fs::copy(&file, kept).expect("a copy");
        let mut command = Command::new(env!("CARGO_BIN_EXE_router-daemon"));
        command
            .arg("-c")
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let process = command.spawn().expect("the daemon starts");
        let router = Self {
            process,
            port,
            inter_router,
            directory,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the router does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        router
    }

    /// Writes the configuration file anew; the router does not know of it yet.
    fn configure(&self, entities: &[Json]) {
        let file = self.directory.path().join("router.json");
        fs::write(file, Json::from(entities).to_string()).expect("a file");
    }

    fn bus(&self) -> String {
        format!("amqp://127.0.0.1:{}", self.port)
    }

    fn try_it(&self, arguments: &[&str]) -> Output {
        let bus = self.bus();
        routerctl(&[&["--bus", bus.as_str()], arguments].concat(), "")
    }

    fn start(&self, arguments: &[&str]) -> Child {
        let bus = self.bus();
        command(&[&["--bus", bus.as_str()], arguments].concat())
            .spawn()
            .expect("routerctl starts")
    }

    /// What a command prints that succeeds.
    #[track_caller]
    fn done(&self, arguments: &[&str]) -> String {
        let output = self.try_it(arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {errors}");
        text(&output.stdout)
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Json {
        let output = self.done(&[arguments, &["--json"]].concat());
        serde_json::from_str(&output).expect("a document")
    }

    /// What a command says that fails, which has to have a code and a hint.
    #[track_caller]
    fn fails(&self, arguments: &[&str], code: i32, hint: &str) -> String {
        let output = self.try_it(arguments);
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {errors}");
        assert!(errors.contains(hint), "{arguments:?}: {errors}");
        errors
    }

    /// Repeats a command until it succeeds.
    #[track_caller]
    fn until(&self, arguments: &[&str]) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let output = self.try_it(arguments);
            if output.status.success() {
                return;
            }
            let errors = text(&output.stderr);
            assert!(Instant::now() < deadline, "{arguments:?}: {errors}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn routerctl(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments).spawn().expect("routerctl starts");
    // A command that reads nothing may be gone already.
    let mut stdin = child.stdin.take().expect("stdin is piped");
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_routerctl"));
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn add_user(file: &str, name: &str, password: &str) {
    add_user_of(&[], file, name, password);
}

fn add_user_of(more: &[&str], file: &str, name: &str, password: &str) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_router-daemon"));
    command
        .args(["user", "add", "--file", file, name])
        .args(more)
        .stdin(Stdio::piped());
    let mut process = command.spawn().expect("the daemon starts");
    let mut stdin = process.stdin.take().expect("stdin is piped");
    stdin.write_all(password.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(process.wait().expect("it ends").success());
}

fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Not of those that connections are given: somebody's would have it before it is listened on.
    let from = std::process::id() as u16 % SPAN;
    for _ in 0..SPAN {
        let next = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + from.wrapping_add(next) % SPAN;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free");
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const PATIENCE: Duration = Duration::from_secs(20);
/// The ports that tests listen on.
const FIRST: u16 = 12_000;
const SPAN: u16 = 20_000;
