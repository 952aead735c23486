//! TLS and SASL: who gets in, and that what they send arrives.

use interop_tests::{
    Certificates, Job, Peer, Router, RouterBuilder, Sasl, Shared, Tls, clients, pairings,
    write_user,
};
use serde_json::json;
use std::sync::Arc;
use tempfile::TempDir;

pairings!(messages_pass_over_tls);
pairings!(messages_pass_after_a_login);
clients!(a_server_of_another_authority_is_not_trusted);
clients!(a_server_whose_certificate_does_not_hold_is_not_trusted);
clients!(a_client_certificate_that_does_not_hold_is_refused);
clients!(tls_at_a_plain_port_is_refused);
clients!(a_listener_that_requires_tls_refuses_plain_text);
clients!(a_client_certificate_is_an_identity);
clients!(external_without_a_certificate_is_refused);
clients!(the_right_password_opens);
clients!(a_wrong_password_is_refused);
clients!(an_unknown_user_is_refused);
clients!(anonymous_is_refused_where_plain_is_asked_for);

fn messages_pass_over_tls(sender: Peer, receiver: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let tls = secured.certificates.nobody();
    messages_pass(&secured, "tls", (sender, receiver), |job| {
        job.tls(tls.clone())
    });
}

fn messages_pass_after_a_login(sender: Peer, receiver: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let login = |job: Job| job.sasl(Sasl::plain(USER, PASSWORD));
    messages_pass(&secured, "plain", (sender, receiver), login);
}

fn messages_pass(
    secured: &Secured,
    listener: &str,
    (sender, receiver): (Peer, Peer),
    secure: impl Fn(Job) -> Job,
) {
    let address = format!("{listener}.{sender}.{receiver}");
    let receive = secure(Job::receive(&address).count(5));
    let mut receiving = receiver.start_at(&secured.router, listener, receive);
    receiving.expect("attached");
    let send = secure(Job::send(&address).count(5).sizes(&[10, 100_000]));
    let sent = sender.start_at(&secured.router, listener, send).finish();
    assert_eq!(sent.named("outcome").len(), 5, "{sent}");
    assert_eq!(receiving.finish().named("message").len(), 5);
}

fn a_server_of_another_authority_is_not_trusted(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let others = Certificates::generate();
    let job = Job::connect().tls(others.nobody());
    let refused = peer.start_at(&secured.router, "tls", job).failure();
    assert_eq!(refused["scope"], "transport", "{refused}");
}

fn a_server_whose_certificate_does_not_hold_is_not_trusted(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    for listener in UNTRUSTED {
        let job = Job::connect().tls(secured.certificates.nobody());
        let refused = peer.start_at(&secured.router, listener, job).failure();
        assert_eq!(refused["scope"], "transport", "{listener}: {refused}");
    }
}

fn a_client_certificate_that_does_not_hold_is_refused(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    for client in ["late-alice", "early-alice", "own-alice"] {
        let tls = secured.certificates.client(client);
        let job = Job::connect().tls(tls).sasl(Sasl::external());
        let refused = peer.start_at(&secured.router, "external", job).failure();
        assert_eq!(refused["scope"], "transport", "{client}: {refused}");
    }
}

fn tls_at_a_plain_port_is_refused(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let job = Job::connect().tls(secured.certificates.nobody());
    let refused = peer.start_at(&secured.router, "plain", job).failure();
    assert_eq!(refused["scope"], "transport", "{refused}");
}

fn a_listener_that_requires_tls_refuses_plain_text(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    peer.start_at(&secured.router, "tls", Job::connect())
        .failure();
}

fn a_client_certificate_is_an_identity(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let alice = secured.certificates.alice();
    let job = Job::connect().tls(alice).sasl(Sasl::external());
    peer.start_at(&secured.router, "external", job).finish();
}

fn external_without_a_certificate_is_refused(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let nobody: Tls = secured.certificates.nobody();
    let job = Job::connect().tls(nobody).sasl(Sasl::external());
    peer.start_at(&secured.router, "external", job).failure();
}

fn the_right_password_opens(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let job = Job::connect().sasl(Sasl::plain(USER, PASSWORD));
    peer.start_at(&secured.router, "plain", job).finish();
}

fn a_wrong_password_is_refused(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let job = Job::connect().sasl(Sasl::plain(USER, "guessed"));
    peer.start_at(&secured.router, "plain", job).failure();
}

fn an_unknown_user_is_refused(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    let job = Job::connect().sasl(Sasl::plain("mallory", PASSWORD));
    peer.start_at(&secured.router, "plain", job).failure();
}

fn anonymous_is_refused_where_plain_is_asked_for(peer: Peer) {
    let Some(secured) = Secured::shared() else {
        return;
    };
    peer.start_at(&secured.router, "plain", Job::connect())
        .failure();
}

/// A router with a listener for each kind of security, and the files it needs.
struct Secured {
    router: Router,
    certificates: Certificates,
    _users: TempDir,
}

impl Secured {
    /// `None`, said loudly, when a router runs already.
    fn shared() -> Option<Arc<Self>> {
        static SHARED: Shared<Secured> = Shared::new(Secured::start);
        Router::is_ours_to_configure().then(|| SHARED.get())
    }

    fn start() -> Self {
        let certificates = Certificates::generate();
        let users = TempDir::new().expect("a temporary directory");
        let sasl = write_user(users.path(), USER, PASSWORD);
        let profile = |name: &str| {
            json!({
                "name": name,
                "certFile": certificates.path(&format!("{name}.pem")),
                "privateKeyFile": certificates.path(&format!("{name}.key")),
                "caCertFile": certificates.path("ca.pem"),
            })
        };
        let tls =
            json!({"sslProfile": "server", "requireSsl": true, "saslMechanisms": "ANONYMOUS"});
        let external = json!({
            "sslProfile": "server",
            "requireSsl": true,
            "saslMechanisms": "EXTERNAL",
            "authenticatePeer": true,
        });
        let plain = json!({"saslMechanisms": "PLAIN", "authenticatePeer": true});
        let mut router = RouterBuilder::new();
        for name in UNTRUSTED {
            let listener = json!({"sslProfile": name, "requireSsl": true});
            router = router
                .entity("sslProfile", profile(name))
                .listener(name, listener);
        }
        let router = router
            .router(json!({"saslConfigDir": sasl}))
            .entity("sslProfile", profile("server"))
            .listener("tls", tls)
            .listener("external", external)
            .listener("plain", plain)
            .start();
        Self {
            router,
            certificates,
            _users: users,
        }
    }
}

/// Servers whose certificates are not valid any more, not yet, or nobody else's word.
const UNTRUSTED: [&str; 3] = ["expired", "early", "own"];
const USER: &str = "alice";
const PASSWORD: &str = "correct horse battery";
