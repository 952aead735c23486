//! AMQP over WebSocket as rhea speaks it, plain and over TLS.

use interop_tests::{Certificates, Job, Peer, Router, RouterBuilder, available};
use serde_json::json;

#[test]
fn messages_pass_from_a_websocket_to_a_socket_and_back() {
    let Some((router, _)) = router() else { return };
    let mut receiving = Peer::Rhea.start_at(&router, "plain", Job::receive("there").count(5));
    receiving.expect("attached");
    let job = Job::send("there").count(5).sizes(&[10, 300_000]);
    let sent = Peer::Rhea
        .start_at(&router, "web", job.over_websocket())
        .finish();
    assert_eq!(sent.named("outcome").len(), 5, "{sent}");
    assert_eq!(receiving.finish().named("message").len(), 5);

    let job = Job::receive("back").count(5).over_websocket();
    let mut receiving = Peer::Rhea.start_at(&router, "web", job);
    receiving.expect("attached");
    let job = Job::send("back").count(5).sizes(&[10, 300_000]);
    Peer::Rhea.start_at(&router, "plain", job).finish();
    assert_eq!(receiving.finish().named("message").len(), 5);
}

#[test]
fn a_websocket_over_tls_is_as_good() {
    let Some((router, certificates)) = router() else {
        return;
    };
    let job = Job::receive("secure").count(2).tls(certificates.nobody());
    let mut receiving = Peer::Rhea.start_at(&router, "secure", job.over_websocket());
    receiving.expect("attached");
    let job = Job::send("secure").count(2);
    Peer::Rhea.start_at(&router, "plain", job).finish();
    assert_eq!(receiving.finish().named("message").len(), 2);
}

fn router() -> Option<(Router, Certificates)> {
    if !available(&[Peer::Rhea]) || !Router::is_ours_to_configure() {
        return None;
    }
    let certificates = Certificates::generate();
    let profile = json!({
        "name": "server",
        "certFile": certificates.path("server.pem"),
        "privateKeyFile": certificates.path("server.key"),
    });
    let router = RouterBuilder::new()
        .entity("sslProfile", profile)
        .listener("plain", json!({}))
        .listener("web", json!({"http": true}))
        .listener(
            "secure",
            json!({"http": true, "sslProfile": "server", "requireSsl": true}),
        )
        .start();
    Some((router, certificates))
}
