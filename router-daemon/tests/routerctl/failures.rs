//! What goes wrong, and the code that says so.

use std::io::Read;
use std::net::TcpListener;

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
