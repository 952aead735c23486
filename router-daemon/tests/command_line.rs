//! The command line, as scripts around skrouterd use it.

// Processes live in real time.
#![allow(clippy::disallowed_methods)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn an_unknown_option_or_a_stray_argument_prints_the_usage_and_fails() {
    for arguments in [&["--nonsense"][..], &["stray"], &["-d", "stray"]] {
        let output = run(arguments, "");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(text(&output.stderr).contains("Usage: "), "{arguments:?}");
    }
}

#[test]
fn help_and_version_succeed() {
    for option in ["-v", "--version", "-h", "--help"] {
        let output = run(&[option], "");
        assert_eq!(output.status.code(), Some(0), "{option}");
        assert!(!output.stdout.is_empty(), "{option}");
    }
    assert!(text(&run(&["-v"], "").stdout).contains(env!("CARGO_PKG_VERSION")));
}

#[test]
fn users_are_added_listed_verified_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("skrouterd.users");
    let file = file.to_str().unwrap();
    let user = |command: &str, name: &str, password: &str| {
        run(&["user", command, "--file", file, name], password)
    };
    assert!(user("add", "alice", "secret\n").status.success());
    assert!(user("add", "bob", "other").status.success());
    assert_eq!(
        text(&run(&["user", "list", "--file", file], "").stdout),
        "alice\nbob\n"
    );
    assert!(user("verify", "alice", "secret\n").status.success());
    let wrong = user("verify", "alice", "other\n");
    assert_eq!(wrong.status.code(), Some(1));
    assert!(text(&wrong.stderr).contains("unknown user or wrong password"));
    assert!(user("remove", "alice", "").status.success());
    assert!(!user("remove", "alice", "").status.success());
    assert!(!user("verify", "alice", "secret\n").status.success());
    assert!(
        !user("add", "carol", "\n").status.success(),
        "an empty password"
    );
    let add = |mechanisms: &str| {
        let args = [
            "user",
            "add",
            "--file",
            file,
            "--mechanism",
            mechanisms,
            "dave",
        ];
        run(&args, "secret").status.success()
    };
    assert!(add("SCRAM-SHA-1,scram-sha-512"));
    assert!(!add("DIGEST-MD5"));
    let listed = run(&["user", "list", "--mechanisms", "--file", file], "");
    assert_eq!(
        text(&listed.stdout),
        "bob\tSCRAM-SHA-256\ndave\tSCRAM-SHA-512 SCRAM-SHA-1\n"
    );
}

#[test]
fn signals_stop_the_router_in_order_and_hangup_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = any_port(directory.path());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut router = start(&["-c", &configuration]);
        signal_it(&router, Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(50));
        assert!(router.try_wait().unwrap().is_none());
        signal_it(&router, signal);
        assert_eq!(wait(&mut router).code(), Some(0), "{signal}");
    }
}

#[test]
fn hangup_has_the_router_read_its_file_again() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("router.conf");
    let log = directory.path().join("router.log");
    let write = |more: &str| {
        let log = log.display();
        let text = format!(
            "router {{\n id: R\n}}\nlistener {{\n name: l\n host: 127.0.0.1\n port: 0\n}}\n\
             log {{\n module: DEFAULT\n outputFile: {log}\n}}\n{more}"
        );
        fs::write(&file, text).unwrap();
    };
    let logged = |text: &str| {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let lines = fs::read_to_string(&log).unwrap_or_default();
            if lines.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "no '{text}' in: {lines}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    write("");
    let mut router = start(&["-c", file.to_str().unwrap()]);
    logged("Operational");
    write("address {\n prefix: news\n distribution: multicast\n}\n");
    signal_it(&router, Signal::SIGHUP);
    logged("New configuration: 1 added, 0 changed, 0 removed, 0 not applied");
    write("listener {\n colour: red\n}\n");
    signal_it(&router, Signal::SIGHUP);
    logged("The configuration stays as it is");
    logged("Unknown attribute 'colour'");
    signal_it(&router, Signal::SIGTERM);
    assert_eq!(wait(&mut router).code(), Some(0));
}

#[test]
fn a_container_of_skupper_is_configured_by_its_environment() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("skrouterd.json");
    let text = r#"[["router", {"id": "west-${HOSTNAME}", "helloMaxAgeSeconds": "3"}],
                   ["listener", {"name": "amqp", "host": "127.0.0.1", "port": 0}]]"#;
    fs::write(&file, text).unwrap();
    let mut command = command(&[]);
    command.env("QDROUTERD_CONF", &file);
    command.env("QDROUTERD_CONF_TYPE", "json");
    command.env("HOSTNAME", "pod-1").stderr(Stdio::piped());
    let mut router = command.spawn().unwrap();
    let log = BufReader::new(router.stderr.take().unwrap());
    let is_up = |line: &String| line.contains("Operational");
    let lines = log.lines().map(Result::unwrap);
    let mut before: Vec<_> = lines.take_while(|line| !is_up(line)).collect();
    before.retain(|line| line.contains("Router west-pod-1 starting"));
    assert_eq!(before.len(), 1);
    signal_it(&router, Signal::SIGTERM);
    assert_eq!(wait(&mut router).code(), Some(0));
}

#[test]
fn a_missing_configuration_file_is_named_on_stderr_and_in_the_log() {
    let output = run(&["-c", "/absent/router.conf"], "");
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    let reason = "Exception: Cannot load configuration file /absent/router.conf: No such file";
    assert!(
        errors.contains(&format!("router-daemon: {reason}")),
        "{errors}"
    );
    let line = format!("ROUTER (critical) Router start-up failed: {reason}");
    assert!(errors.contains(&line), "{errors}");
}

/// Tools look for the kinds of faults that skrouterd names.
#[test]
fn a_failed_start_names_the_kind_of_fault() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("router.conf");
    let name = file.to_str().unwrap();
    let cannot = format!("Exception: Cannot load configuration file {name}: ");
    let absent = "sslProfile {\n name: p\n certFile: /absent/cert.pem\n}\n\
                  listener {\n port: 0\n sslProfile: p\n}\n";
    for (section, expected) in [
        (
            "listener {\n prot: 0\n}\n",
            format!("{cannot}line 1: listener"),
        ),
        (
            "router {\n id: a|b\n}\n",
            format!("{cannot}line 1: router: Router ID \"a|b\" contain"),
        ),
        (absent, "ValidationError: sslProfile 'p': ".to_owned()),
    ] {
        fs::write(&file, section).unwrap();
        fails_with(name, &expected);
    }
    let blank = directory.path().join("router.json");
    fs::write(&blank, r#"[["router", {"id": "a b"}]]"#).unwrap();
    let expected = "AttributeError: Router id attribute containing character ' ' in id 'a b'";
    fails_with(blank.to_str().unwrap(), expected);
}

#[test]
fn a_port_that_is_taken_is_named_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let file = directory.path().join("router.conf");
    for http in ["no", "yes"] {
        let port = address.port();
        let listener =
            format!("listener {{\n name: l\n host: 127.0.0.1\n port: {port}\n http: {http}\n}}\n");
        fs::write(&file, listener).unwrap();
        let expected = format!("listener 'l': cannot listen on {address}: Address already in use");
        fails_with(file.to_str().unwrap(), &expected);
    }
}

/// The reason is told on stderr, and in the log.
#[track_caller]
fn fails_with(file: &str, reason: &str) {
    let output = run(&["-c", file], "");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let line = format!("ROUTER (critical) Router start-up failed: {reason}");
    assert!(errors.contains(&line), "no '{line}' in: {errors}");
    let told = format!("router-daemon: {reason}");
    assert!(errors.contains(&told), "no '{told}' in: {errors}");
}

#[test]
fn in_the_background_the_command_returns_once_the_router_is_up() {
    let directory = tempfile::tempdir().unwrap();
    any_port(directory.path());
    let output = daemon(
        directory.path(),
        &["-d", "-P", "router.pid", "-c", "router.conf"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let pid = fs::read_to_string(directory.path().join("router.pid")).unwrap();
    let pid: i32 = pid.trim().parse().unwrap();
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/cwd")).unwrap(),
        Path::new("/")
    );
    assert_eq!(
        fs::read_link(format!("/proc/{pid}/fd/2")).unwrap(),
        Path::new("/dev/null")
    );
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while is_running(pid) {
        assert!(Instant::now() < deadline, "the router does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn in_the_background_a_failed_start_is_told_too() {
    let directory = tempfile::tempdir().unwrap();
    let output = daemon(
        directory.path(),
        &["-d", "-P", "router.pid", "-c", "absent.conf"],
    );
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(
        errors.contains("Cannot load configuration file /"),
        "{errors}"
    );
    assert!(errors.contains("/absent.conf: No such file"), "{errors}");
    assert!(!directory.path().join("router.pid").exists());

    let output = daemon(directory.path(), &["-d", "-U", "no-such-user"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("'no-such-user': there is no such user"));
}

#[test]
fn a_configuration_is_checked_without_starting() {
    let directory = tempfile::tempdir().unwrap();
    let good = any_port(directory.path());
    let output = run(&["check", &good], "");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let bad = directory.path().join("bad.conf");
    fs::write(&bad, "listener {\n name: a\n prot: 0\n}\n").unwrap();
    let output = run(&["check", bad.to_str().unwrap()], "");
    assert_eq!(output.status.code(), Some(1));
    let errors = text(&output.stderr);
    assert!(errors.contains("did you mean 'port'?"), "{errors}");
    assert_eq!(errors.matches("bad.conf").count(), 1, "{errors}");
    assert!(errors.contains("bad.conf: line 1: "), "{errors}");

    fs::write(&bad, "listener {\n prot: 0\n}\nconnector {\n cots: 1\n}\n").unwrap();
    let output = run(&["check", bad.to_str().unwrap()], "");
    let errors = text(&output.stderr);
    assert_eq!(errors.matches("bad.conf").count(), 1, "{errors}");
    for line in ["\n  line 1: listener", "\n  line 4: connector"] {
        assert!(errors.contains(line), "{errors}");
    }
}

#[test]
fn entities_and_attributes_are_explained() {
    let output = run(&["explain", "listener.host"], "");
    assert!(output.status.success());
    assert_eq!(
        text(&output.stdout),
        "listener.host: text; empty by default; set when created\n  \
         Where it listens: an address, a name, which means all of its addresses, or\n  \
         nothing, which means every address of this host.\n"
    );
    let all = text(&run(&["explain"], "").stdout);
    assert!(all.contains("\n  tcpListener "), "{all}");
    let page = text(&run(&["explain", "--markdown"], "").stdout);
    assert!(page.contains("\n## tcpListener\n"), "{page}");
}

#[test]
fn what_cannot_be_explained_fails_with_what_may_be_meant() {
    let output = run(&["explain", "listener.hots"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let error = text(&output.stderr);
    assert!(error.contains("there is no attribute 'hots' of listener; did you mean listener.host"));
}

#[test]
fn what_has_no_effect_is_a_warning_of_check() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("router.conf");
    let listener = "listener {\n host: 127.0.0.1\n port: 0\n}\n";
    let group = "vhost {\n hostname: shop\n groups: {\n  \"clerks\": {\n   \"users\": \"ann\",\n   \
                 \"maxSenderz\": 1\n  }\n }\n}\n";
    let former = "router {\n vanId: blue\n}\n";
    fs::write(&file, [listener, group, former].concat()).unwrap();
    let output = run(&["check", file.to_str().unwrap()], "");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    assert!(text(&output.stdout).ends_with("router.conf: valid\n"));
    for warning in [
        "POLICY (warning) vhost 'shop': 'maxSenderz' of group 'clerks' has no effect",
        "ROUTER (warning) router: 'vanId' is the former name of 'tenantId'",
    ] {
        assert_eq!(errors.matches(warning).count(), 1, "{warning}: {errors}");
    }
}

#[test]
fn a_listener_that_lets_nobody_in_is_a_warning_of_check() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("router.conf");
    let listener = |name: &str, attributes: &str| {
        format!("listener {{\n name: {name}\n port: 0\n{attributes}\n}}\n")
    };
    let external = " saslMechanisms: EXTERNAL\n authenticatePeer: yes";
    let listeners = [
        listener("clear", " requireEncryption: yes"),
        listener("external", external),
        listener("pages", &format!("{external}\n http: yes\n websockets: no")),
        listener("open", ""),
    ];
    fs::write(&file, listeners.concat()).unwrap();
    let output = run(&["check", file.to_str().unwrap()], "");
    let errors = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    for warning in [
        "Listener 'clear': nobody can attach: requireEncryption is set, but there is no sslProfile",
        "Listener 'external': nobody can attach: no mechanism can be offered. EXTERNAL needs an",
    ] {
        assert_eq!(errors.matches(warning).count(), 1, "{warning}: {errors}");
    }
    assert_eq!(errors.matches("nobody can attach").count(), 2, "{errors}");
}

#[test]
fn what_the_log_cannot_do_is_found_before_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("router.conf");
    for (section, expected) in [
        (
            "log {\n module: SERVER\n enable: loud\n}\n",
            "the attribute 'enable': 'loud' is not a",
        ),
        (
            "router {\n timestampFormat: %!\n}\n",
            "router: timestampFormat '%!': ",
        ),
    ] {
        fs::write(&file, section).unwrap();
        for arguments in [&["check"][..], &["-c"]] {
            let arguments = [arguments, &[file.to_str().unwrap()]].concat();
            let output = run(&arguments, "");
            let errors = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
            assert!(errors.contains(expected), "{arguments:?}: {errors}");
        }
    }
}

#[test]
fn the_time_is_logged_as_the_router_entity_says() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("router.conf");
    fs::write(
        &file,
        "router {\n id: R\n timestampFormat: at %Y it is\n timestampsInUTC: yes\n}\n\
         listener {\n name: l\n host: 127.0.0.1\n port: 0\n}\n",
    )
    .unwrap();
    let mut router = start(&["-c", file.to_str().unwrap()]);
    signal_it(&router, Signal::SIGTERM);
    assert_eq!(wait(&mut router).code(), Some(0));
    let mut log = String::new();
    let errors = router.stderr.as_mut().expect("it is ours");
    errors.read_to_string(&mut log).unwrap();
    let stopping = log
        .lines()
        .find(|line| line.contains("Stopping on SIGTERM"));
    let stopping = stopping.unwrap_or_else(|| panic!("not in: {log}"));
    assert!(stopping.starts_with("at 20"), "{stopping}");
    assert!(stopping.contains(" it is ROUTER (info) "), "{stopping}");
}

/// A configuration that gets in nobody's way.
fn any_port(directory: &Path) -> String {
    let file = directory.join("router.conf");
    fs::write(
        &file,
        "listener {\n name: a\n host: 127.0.0.1\n port: 0\n}\n",
    )
    .unwrap();
    file.to_str().unwrap().to_owned()
}

/// Starts a router and waits until signals find it ready.
fn start(arguments: &[&str]) -> Child {
    let router = command(arguments).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while !catches_hangup(&router) {
        assert!(Instant::now() < deadline, "the router does not start");
        std::thread::sleep(Duration::from_millis(5));
    }
    router
}

fn catches_hangup(process: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 1 != 0
}

fn is_running(pid: i32) -> bool {
    // Nobody may be there to reap it.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn signal_it(process: &Child, signal: Signal) {
    kill(Pid::from_raw(process.id().try_into().unwrap()), signal).unwrap();
}

fn wait(process: &mut Child) -> std::process::ExitStatus {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait().unwrap() {
            return status;
        }
        assert!(Instant::now() < deadline, "the router does not stop");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn daemon(directory: &Path, arguments: &[&str]) -> Output {
    let mut child = command(arguments).current_dir(directory).spawn().unwrap();
    let status = wait(&mut child);
    let mut stderr = Vec::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_end(&mut stderr)
        .unwrap();
    Output {
        status,
        stdout: Vec::new(),
        stderr,
    }
}

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = command(arguments).stdin(Stdio::piped()).spawn().unwrap();
    // A command that reads nothing may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_router-daemon"));
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

const PATIENCE: Duration = Duration::from_secs(20);
