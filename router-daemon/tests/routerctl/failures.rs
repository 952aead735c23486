//! What goes wrong, and the code that says so.

use std::io::Read;
use std::net::TcpListener;

use fe2o3_amqp::acceptor::{
    ConnectionAcceptor, LinkAcceptor, LinkEndpoint, SaslAnonymousMechanism, SessionAcceptor,
};
use fe2o3_amqp::types::definitions::{AmqpError, Error};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value as Json, json};

use crate::support::{Router, free_port, routerctl, text};

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

    let output = routerctl(&["status", "-b", "no..host"], "");
    assert_eq!(output.status.code(), Some(3));
    let errors = text(&output.stderr);
    assert!(
        errors.contains("cannot find the host 'no..host'"),
        "{errors}"
    );

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
fn numbers_that_cannot_be_are_refused_with_the_option() {
    let (seconds, at_least_0, at_least_1) = (
        "not a number of seconds from 0 to a year",
        "not a whole number from 0 on",
        "not a whole number from 1 on",
    );
    for (arguments, option, why) in [
        (&["status", "-t", "-1"][..], "--timeout <SECONDS>", seconds),
        (&["status", "-w", "-1"], "--watch [<SECONDS>]", seconds),
        (
            &["status", "--watch", "-0.5"],
            "--watch [<SECONDS>]",
            seconds,
        ),
        (
            &["status", "-w", "--count", "-1"],
            "--count <N>",
            at_least_1,
        ),
        (
            &["status", "--width", "-1"],
            "--width <COLUMNS>",
            at_least_0,
        ),
        (
            &["status", "--width", "70000"],
            "--width <COLUMNS>",
            "too large",
        ),
        (
            &["top", "--interval", "-1"],
            "--interval <SECONDS>",
            seconds,
        ),
        (&["top", "--rows", "-1"], "--rows <N>", at_least_0),
        (&["top", "--count", "0"], "--count <N>", at_least_1),
        (&["ping", "--count", "-1"], "--count <N>", at_least_1),
        (
            &["ping", "--interval", "-1"],
            "--interval <SECONDS>",
            seconds,
        ),
        (&["log", "show", "--limit", "-1"], "--limit <N>", at_least_0),
        (
            &["send", "q", "--count", "-1", "x"],
            "--count <N>",
            at_least_1,
        ),
        (&["recv", "q", "--count", "many"], "--count <N>", at_least_0),
    ] {
        let output = routerctl(arguments, "");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(
            errors.contains(&format!("for '{option}': {why}\n")),
            "{arguments:?}: {errors}"
        );
    }
}

#[test]
fn a_message_that_cannot_be_read_is_2_before_anybody_is_connected_to() {
    let bus = format!("127.0.0.1:{}", free_port());
    let output = routerctl(&["send", "q", "--file", "/absent", "-b", &bus], "");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("cannot read /absent"), "{errors}");
}

#[test]
fn a_router_that_stops_is_3_and_says_why() {
    // Of one that is killed the system says one thing or another.
    for (signal, why) in [
        (
            Signal::SIGTERM,
            "the router closed the connection: amqp:connection:forced: the router is stopping\n",
        ),
        (Signal::SIGKILL, "the connection to the router was lost: "),
    ] {
        let router = Router::standalone();
        let mut watching = router.start(&["status", "--json", "--watch", "0.05"]);
        let mut first = [0];
        let stdout = watching.stdout.as_mut().expect("it is piped");
        stdout.read_exact(&mut first).expect("a report");
        let receiving = ["0", "2"].map(|count| router.start(&["recv", "q", "--count", count]));
        let sending = router.start(&["send", "unserved", "x", "--timeout", "60"]);
        router.until(&[
            "query",
            "router.address",
            "--where",
            "key=Mq",
            "--where",
            "subscriberCount=2",
        ]);
        router.until(&["query", "router.address", "--where", "key=Munserved"]);
        let process = i32::try_from(router.process.id()).expect("a process id");
        kill(Pid::from_raw(process), signal).expect("it runs");
        for command in receiving.into_iter().chain([watching, sending]) {
            let output = command.wait_with_output().expect("it ends");
            let errors = text(&output.stderr);
            let expected = format!("routerctl: {why}");
            assert!(errors.starts_with(&expected), "{signal}: {errors}");
            assert_eq!(errors.lines().count(), 1, "{signal}: {errors}");
            assert_eq!(output.status.code(), Some(3), "{errors}");
        }
    }
}

#[test]
fn what_came_before_a_connection_broke_is_printed() {
    let mut router = Router::standalone();
    let receiver = router.start(&["recv", "q", "--count", "2", "--json", "--timeout", "60"]);
    router.until(&["query", "router.address", "--where", "key=Mq"]);
    router.done(&["send", "q", "one"]);
    router.process.kill().expect("it runs");
    let output = receiver.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
    let received: Json = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(received[0]["body"], "one", "{received}");

    let router = Router::standalone();
    let output = router.try_it(&["send", "q", "one", "--timeout", "0.1", "--json"]);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    let sent: Json = serde_json::from_slice(&output.stdout).expect("a document");
    assert_eq!(sent["sent"], 0, "{sent}");
}

#[test]
fn a_port_for_other_routers_is_told_as_one() {
    let router = Router::interior("A", None);
    let bus = format!("127.0.0.1:{}", router.inter_router);
    for arguments in [&["status", "-b", &bus][..], &["recv", "q", "-b", &bus]] {
        let output = routerctl(arguments, "");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{errors}");
        assert!(
            errors.contains("the port may be for other routers"),
            "{errors}"
        );
    }
}

#[test]
fn what_policy_denies_is_told_with_its_condition() {
    let group = json!({"users": "*", "remoteHosts": "*", "sources": "a", "targets": "a"});
    let denied = "amqp:unauthorized-access: link disallowed by local policy";
    let router = Router::with(|entities| entities.extend(governed(group.clone())));
    for arguments in [&["recv", "b"][..], &["send", "b", "x"]] {
        let told = router.fails(arguments, 1, denied);
        assert!(told.starts_with("routerctl: the router allows no link"));
        assert_eq!(told.lines().count(), 1, "{told}");
    }
    router.fails(&["status"], 1, &format!("{denied}; may this user have"));

    let mut dynamic = group.clone();
    dynamic["allowDynamicSource"] = true.into();
    let router = Router::with(|entities| entities.extend(governed(dynamic)));
    let told = router.fails(&["status"], 1, &format!("{denied}; may this user send"));
    assert!(told.contains("no requests to $management"), "{told}");
    router.fails(&["status", "-r", "B"], 1, "allowAnonymousSender");

    let mut elsewhere = group;
    elsewhere["remoteHosts"] = "192.0.2.1".into();
    let router = Router::with(|entities| entities.extend(governed(elsewhere)));
    for arguments in [&["status"][..], &["recv", "a"]] {
        let told = router.fails(
            arguments,
            3,
            "the router closed the connection: amqp:resource",
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn a_message_larger_than_the_router_takes_is_refused_as_that() {
    let group = json!({
        "users": "*", "remoteHosts": "*", "sources": "*", "targets": "*", "maxMessageSize": 100,
    });
    let router = Router::with(|entities| entities.extend(governed(group)));
    let mut receiver = router.start(&["recv", "q"]);
    let large = "x".repeat(200);
    let told = router.fails(&["send", "q", &large, "--timeout", "20"], 1, "100 octets");
    assert!(told.contains("too large"), "{told}");
    drop(router);
    receiver.wait().expect("it ends");
}

/// A policy with one group, of everybody.
fn governed(group: Json) -> [Json; 2] {
    [
        json!(["policy", {"enableVhostPolicy": true}]),
        json!(["vhost", {
            "hostname": "$default", "allowUnknownUser": true, "groups": {"$default": group},
        }]),
    ]
}

#[test]
fn a_peer_without_management_is_no_router() {
    for gives_addresses in [false, true] {
        let bus = broker(gives_addresses);
        let output = routerctl(&["status", "-b", &bus], "");
        let errors = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(
            errors.contains("is it a router, which has $management?"),
            "{errors}"
        );
        assert!(!errors.contains('{'), "{errors}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
    }
}

/// A peer that is no router: it attaches nothing, except dynamic sources if it gives addresses.
fn broker(gives_addresses: bool) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
    let listener = listener.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    std::thread::spawn(move || {
        runtime.block_on(async {
            let (stream, _) = listener.accept().await.expect("a peer");
            let acceptor = ConnectionAcceptor::builder()
                .container_id("broker")
                .sasl_acceptor(SaslAnonymousMechanism {})
                .build();
            let mut connection = acceptor.accept(stream).await.expect("a connection");
            let mut session = SessionAcceptor::new().accept(&mut connection).await;
            let session = session.as_mut().expect("a session");
            let links = LinkAcceptor::builder().on_dynamic_source(move |mut source| {
                source.address = Some("temporary".to_owned());
                gives_addresses.then_some(source)
            });
            let links = links.build();
            let mut kept = Vec::new();
            while let Ok(link) = links.accept(session).await {
                match link {
                    LinkEndpoint::Receiver(receiver) => {
                        let error =
                            Error::new(AmqpError::NotFound, "no such node".to_owned(), None);
                        let _ = receiver.close_with_error(error).await;
                    }
                    sender => kept.push(sender),
                }
            }
        });
    });
    format!("127.0.0.1:{port}")
}

#[test]
fn a_peer_that_says_nothing_is_4() {
    let silent = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let bus = format!("127.0.0.1:{}", silent.local_addr().expect("bound").port());
    let output = routerctl(&["status", "-b", &bus, "--timeout", "0.2"], "");
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
}
