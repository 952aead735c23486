//! A configuration that changes while the router works.

use std::fs;
use std::net::{TcpListener, TcpStream};

use serde_json::{Value as Json, json};

use crate::support::{Router, add_user, free_port, text};

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
fn what_the_environment_names_is_read_again_with_values_for_variables() {
    let port = free_port();
    let entities = |more: Option<Json>| -> Vec<Json> {
        let port = port.to_string();
        let normal = json!(["listener", {"name": "normal", "host": "127.0.0.1", "port": port}]);
        let id = json!(["router", {"mode": "standalone", "id": "west-${HOSTNAME}"}]);
        [id, normal].into_iter().chain(more).collect()
    };
    let router = Router::in_container("pod-1", &entities(None), port);
    assert_eq!(router.done(&["reload"]), "nothing has changed\n");
    let address = json!(["address", {"name": "a", "prefix": "a-${HOSTNAME}"}]);
    router.configure(&entities(Some(address)));
    let added = router.done(&["reload"]);
    assert!(
        added.starts_with("added ") && added.ends_with("'a'\n"),
        "{added}"
    );
    let rows = router.json(&["query", "address"]);
    assert_eq!(rows[0]["prefix"], "a-pod-1", "{rows}");

    router.configure(&entities(Some(json!(["address", {"prefx": "b"}]))));
    let report = router.try_it(&["reload"]);
    let errors = text(&report.stderr);
    assert_eq!(report.status.code(), Some(1), "{errors}");
    assert!(
        errors.contains("QDROUTERD_CONF") && errors.contains("'prefx'"),
        "{errors}"
    );
}
