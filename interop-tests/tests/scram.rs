//! SCRAM: fe2o3-amqp as client and as server, and two routers that make a network by it.

use std::{
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use fe2o3_amqp::{
    acceptor::{
        ConnectionAcceptor, SaslAcceptor, sasl_acceptor::SaslServerFrame,
        scram::SingleScramCredential,
    },
    auth::scram::{ScramAuthenticator, ScramVersion},
    types::{
        primitives::{Array, Binary, Symbol},
        sasl::{SaslChallenge, SaslCode, SaslInit, SaslOutcome, SaslResponse},
    },
};
use interop_tests::{Job, Peer, Router, RouterBuilder, Sasl, Shared, eventually, rows, write_user};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;

const MECHANISMS: [&str; 3] = ["SCRAM-SHA-1", "SCRAM-SHA-256", "SCRAM-SHA-512"];

#[test]
fn the_right_password_opens_by_each_mechanism() {
    let Some(guarded) = Guarded::shared() else {
        return;
    };
    for mechanism in MECHANISMS {
        let job = Job::connect().sasl(Sasl::password(mechanism, USER, PASSWORD));
        Peer::Fe2o3.start_at(&guarded.router, "scram", job).finish();
    }
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_refused_alike() {
    let Some(guarded) = Guarded::shared() else {
        return;
    };
    let refusal = |user, password| {
        let job = Job::connect().sasl(Sasl::password("SCRAM-SHA-256", user, password));
        let failure = Peer::Fe2o3
            .start_at(&guarded.router, "scram", job)
            .failure();
        (
            failure["scope"].clone(),
            failure["condition"].clone(),
            failure["description"].clone(),
        )
    };
    assert_eq!(refusal(USER, "guessed"), refusal("mallory", PASSWORD));
}

#[test]
fn a_listener_without_plain_is_not_told_passwords() {
    let Some(guarded) = Guarded::shared() else {
        return;
    };
    let job = Job::connect().sasl(Sasl::plain(USER, PASSWORD));
    Peer::Fe2o3
        .start_at(&guarded.router, "scram", job)
        .failure();
}

#[test]
fn a_router_joins_the_network_with_its_password_and_not_with_another() {
    let Some(guarded) = Guarded::shared() else {
        return;
    };
    let port = guarded.router.port("routers");
    let joining = |id: &str, password: &str| {
        RouterBuilder::plain()
            .router(json!({"mode": "interior", "id": id}))
            .entity("connector", connector(port, "inter-router", password))
            .start()
    };
    let good = joining("good", PASSWORD);
    let bad = joining("bad", "guessed");
    let neighbours = || {
        let rows = rows(&guarded.router, "connection").into_iter();
        // One that is not open yet is none.
        rows.filter(|row| row["role"] == json!("inter-router") && row["opened"] == true)
            .map(|row| {
                (
                    row["container"].clone(),
                    row["sasl"].clone(),
                    row["user"].clone(),
                )
            })
            .collect::<Vec<_>>()
    };
    let expected = [(json!("good"), json!("SCRAM-SHA-512"), json!(USER))];
    eventually("the router with the right password is here", || {
        neighbours() == expected
    });
    eventually("the other is refused", || {
        bad.log().contains("authentication failed")
    });
    assert_eq!(neighbours(), expected);

    let mut receiving = Peer::Fe2o3.start(&good, Job::receive("far").count(3));
    receiving.expect("attached");
    let sent = Peer::Fe2o3
        .start(&guarded.router, Job::send("far").count(3))
        .finish();
    assert_eq!(sent.named("outcome").len(), 3);
    assert_eq!(receiving.finish().named("message").len(), 3);
}

#[test]
fn a_connector_proves_its_password_to_another_server() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let versions = [
        ScramVersion::Sha1,
        ScramVersion::Sha256,
        ScramVersion::Sha512,
    ];
    for version in versions {
        let credential = SingleScramCredential::new(USER, PASSWORD, version);
        let credential = Arc::new(credential.expect("a credential"));
        let (port, outcomes) = serve(ScramAuthenticator::new(credential));
        let _router = RouterBuilder::plain()
            .entity("connector", connector(port, "normal", PASSWORD))
            .start();
        assert_eq!(outcomes.recv_timeout(LIMIT), Ok(true));
    }
}

#[test]
fn a_server_that_does_not_know_the_password_is_not_opened_to() {
    if !Router::is_ours_to_configure() {
        return;
    }
    let (port, outcomes) = serve(Impostor);
    let router = RouterBuilder::plain()
        .entity("connector", connector(port, "normal", PASSWORD))
        .start();
    assert_eq!(outcomes.recv_timeout(LIMIT), Ok(false));
    eventually("the log says why", || {
        router.log().contains("the server has not proved")
    });
    assert!(!router.log().contains(PASSWORD));
}

/// Says that every password is right, without knowing one.
#[derive(Clone, Debug)]
struct Impostor;

impl SaslAcceptor for Impostor {
    fn mechanisms(&self) -> Array<Symbol> {
        Array::from(vec![Symbol::from("PLAIN"), Symbol::from("SCRAM-SHA-256")])
    }

    fn on_init(&mut self, init: SaslInit) -> SaslServerFrame {
        let first = init.initial_response.expect("a first message").into_vec();
        let first = String::from_utf8(first).expect("text");
        let (_, nonce) = first.split_once(",r=").expect("a nonce");
        let challenge = format!("r={nonce}more,s=c2FsdHNhbHQ=,i=4096");
        SaslServerFrame::Challenge(SaslChallenge {
            challenge: Binary::from(challenge.into_bytes()),
        })
    }

    fn on_response(&mut self, _response: SaslResponse) -> SaslServerFrame {
        SaslServerFrame::Outcome(SaslOutcome {
            code: SaslCode::Ok,
            additional_data: None,
        })
    }
}

/// A server of fe2o3-amqp on a free port, and whether each connection was opened.
fn serve<S>(sasl: S) -> (u16, mpsc::Receiver<bool>)
where
    S: SaslAcceptor + Clone + Send + Sync + 'static,
{
    let (ports, port) = mpsc::channel();
    let (outcomes, told) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = listener.local_addr().expect("an address");
            ports.send(address.port()).expect("somebody waits");
            let acceptor = ConnectionAcceptor::builder()
                .container_id("server")
                .sasl_acceptor(sasl)
                .build();
            while let Ok((stream, _)) = listener.accept().await {
                let opened = acceptor.accept(stream).await;
                // The test may have seen enough.
                if outcomes.send(opened.is_ok()).is_err() {
                    return;
                }
            }
        });
    });
    (port.recv().expect("the server listens"), told)
}

fn connector(port: u16, role: &str, password: &str) -> Value {
    json!({
        "name": "out",
        "host": "127.0.0.1",
        "port": port.to_string(),
        "role": role,
        "saslUsername": USER,
        "saslPassword": format!("pass:{password}"),
    })
}

/// A router whose listeners take SCRAM.
struct Guarded {
    router: Router,
    _users: TempDir,
}

impl Guarded {
    /// `None`, said loudly, when a router runs already.
    fn shared() -> Option<Arc<Self>> {
        static SHARED: Shared<Guarded> = Shared::new(Guarded::start);
        Router::is_ours_to_configure().then(|| SHARED.get())
    }

    fn start() -> Self {
        let users = TempDir::new().expect("a temporary directory");
        let sasl = write_user(users.path(), USER, PASSWORD);
        let scram = json!({
            "saslMechanisms": MECHANISMS.join(" "),
            "authenticatePeer": true,
        });
        let mut routers = scram.clone();
        routers["role"] = json!("inter-router");
        let router = RouterBuilder::plain()
            .router(json!({"mode": "interior", "id": "guarded", "saslConfigDir": sasl}))
            .listener("scram", scram)
            .listener("routers", routers)
            .start();
        Self {
            router,
            _users: users,
        }
    }
}

const USER: &str = "alice";
const PASSWORD: &str = "correct horse battery";
const LIMIT: Duration = Duration::from_secs(60);
