//! TLS, and who users are.

use std::fs;

use serde_json::{Value as Json, json};

use crate::support::{Router, add_user, add_user_of, free_port, routerctl, text};

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
    let router = Router::with(|entities| {
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
    // The password is the first line of standard input, whatever else is read of it.
    let receiver = router.start(&["recv", "q", "--raw"]);
    router.until(&["query", "router.address", "--where", "key=Mq"]);
    let send = ["send", "q", "--file", "-", "-b", &bus];
    let send = [&send[..], &user("-")].concat();
    let output = routerctl(&send, "hunter2\nthe body");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let received = receiver.wait_with_output().expect("it ends").stdout;
    assert_eq!(text(&received), "the body");
    for (more, hint) in [
        (&user(&wrong)[..], "does not let 'me' in"),
        (&user(&right)[2..], "--ssl-trustfile names others"),
        (&user(&right)[..2], "give"),
    ] {
        let (code, told) = status(more);
        assert_eq!(code, Some(3), "{told}");
        assert!(told.contains(hint), "{told}");
        assert!(!told.contains("hunter"), "{told}");
    }
}

#[test]
fn what_is_wrong_with_tls_is_told_in_words() {
    let files = tempfile::tempdir().expect("a directory");
    let file = |name: &str| files.path().join(name).to_str().expect("a path").to_owned();
    for name in ["server", "client"] {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("made");
        fs::write(file(name), made.cert.pem()).expect("a file");
        let key = made.signing_key.serialize_pem();
        fs::write(file(&format!("{name}.key")), key).expect("a file");
    }
    let port = free_port();
    let router = Router::with(|entities| {
        entities.push(json!(["sslProfile", {
            "name": "tls", "certFile": file("server"), "privateKeyFile": file("server.key"),
            "caCertFile": file("server"),
        }]));
        entities.push(json!(["listener", {
            "name": "secure", "host": "127.0.0.1", "port": port.to_string(),
            "sslProfile": "tls", "requireSsl": true, "authenticatePeer": true,
            "saslMechanisms": "EXTERNAL",
        }]));
    });
    let none = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    fs::write(file("none"), none).expect("a file");
    let no_trust = format!("--ssl-trustfile={}", file("none"));
    let trust = format!("--ssl-trustfile={}", file("server"));
    let certificate = format!("--ssl-certificate={}", file("client"));
    let key = |name: &str| format!("--ssl-key={}", file(name));
    let (right, wrong) = (key("client.key"), key("server.key"));
    let secure = |host: &str| format!("amqps://{host}:{port}");
    for (bus, options, code, hint) in [
        (
            secure("localhost"),
            &[&certificate, &right][..],
            3,
            "the authorities that we trust",
        ),
        (
            secure("127.0.0.1"),
            &[&trust, &certificate, &right],
            3,
            "not for the name '127.0.0.1'",
        ),
        (
            secure("localhost"),
            &[&trust],
            3,
            "may want --ssl-certificate and --ssl-key",
        ),
        (
            secure("localhost"),
            &[&trust, &certificate, &right],
            3,
            "may not trust the certificate of --ssl-certificate",
        ),
        (
            secure("localhost"),
            &[&trust, &certificate, &wrong],
            2,
            "is not the key of",
        ),
        (
            secure("localhost"),
            &[&no_trust],
            2,
            "what it calls a certificate is none",
        ),
        (router.bus(), &[&trust], 3, "TLS with amqps://127.0.0.1"),
        (router.bus(), &[&trust], 3, "what is no TLS"),
    ] {
        let options = options.iter().map(|option| option.as_str());
        let arguments: Vec<&str> = ["status", "-b", &bus].into_iter().chain(options).collect();
        let output = routerctl(&arguments, "");
        let told = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(hint), "{arguments:?}: {told}");
        let types = ["Issuer", "DnsName", "Certificate", "Invalid", "Mismatch"];
        assert!(
            !types.iter().any(|name| told.contains(name)),
            "{arguments:?}: {told}"
        );
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
