//! The pages of a router over HTTP while it stops, and while there is very much to tell.

use std::net::SocketAddr;
use std::time::Duration;

use amqp_router::{Config, Router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A client that does not close its connection keeps a router from stopping for some seconds, in
/// which probes learn that it is about to.
#[test]
fn a_router_that_stops_says_that_it_is_not_ready() {
    with_router(|router, amqp, http| async move {
        assert!(get(http, "/readyz").await.ends_with("\r\n\r\nOK\n"));
        let mut client = TcpStream::connect(amqp).await.unwrap();
        client.write_all(HEADER_AND_OPEN).await.unwrap();
        let mut answer = [0; 64];
        client.read_exact(&mut answer).await.unwrap();
        let stopped = tokio::spawn(router.stop());
        let answer = loop {
            let answer = get(http, "/readyz").await;
            if !answer.ends_with("\r\n\r\nOK\n") {
                break answer;
            }
        };
        assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
        assert!(
            answer.ends_with("\r\n\r\nthe router is stopping\n"),
            "{answer}"
        );
        for path in ["/healthz", "/metrics"] {
            let answer = get(http, path).await;
            assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
        }
        TcpStream::connect(amqp)
            .await
            .expect_err("no new connections");
        drop(client);
        stopped.await.unwrap();
    });
}

#[test]
fn ten_thousand_addresses_have_a_hundred_rows() {
    with_router(|router, _, http| async move {
        let mut receivers = Vec::new();
        for number in 0..10_000 {
            let receiver = router.receiver(&format!("address {number}"), 1).await;
            receivers.push(receiver.unwrap());
        }
        for number in 0..150 {
            let mut sender = router.sender(&format!("address {number}")).await.unwrap();
            let message = amqp_router::Message::of_value("hello");
            sender.send_settled(&message).await.unwrap();
        }
        let mut sender = router.sender("address 149").await.unwrap();
        receivers[149].recv().await.unwrap().accept();
        let message = amqp_router::Message::of_value("again");
        sender.send_settled(&message).await.unwrap();
        receivers[149].recv().await.unwrap().accept();

        let scrapes = (0..20).map(|_| tokio::spawn(get(http, "/metrics")));
        for scrape in scrapes.collect::<Vec<_>>() {
            let text = scrape.await.unwrap();
            let rows = text
                .matches("amqp_router_address_deliveries_total{")
                .count();
            assert_eq!(rows, 101 * 3, "{text}");
            let busiest = "amqp_router_address_deliveries_total{address=\"Maddress 149\",direction=\"ingress\"} 2\n";
            assert!(text.contains(busiest), "{text}");
            assert!(
                text.contains("qdr_deliveries_ingress_total 151\n"),
                "{text}"
            );
        }
        drop(receivers);
        router.stop().await;
    });
}

/// Runs a story with a router that listens for AMQP and HTTP.
fn with_router<F>(story: impl FnOnce(Router, SocketAddr, SocketAddr) -> F)
where
    F: Future<Output = ()>,
{
    let text = r#"[
        ["router", {"mode": "standalone", "id": "probed"}],
        ["listener", {"name": "amqp", "host": "127.0.0.1", "port": "0"}],
        ["listener", {"name": "http", "host": "127.0.0.1", "port": "0", "http": true}]
    ]"#;
    let config = Config::from_text("router.json", text).unwrap();
    let router = Router::start(config).unwrap();
    let address = |name: &str| {
        let found = router
            .listening()
            .iter()
            .find(|(listener, _)| listener == name);
        found.unwrap().1[0]
    };
    let (amqp, http) = (address("amqp"), address("http"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let story = story(router, amqp, http);
        tokio::time::timeout(Duration::from_secs(60), story)
            .await
            .expect("in time");
    });
}

async fn get(http: SocketAddr, path: &'static str) -> String {
    let mut client = TcpStream::connect(http).await.unwrap();
    let request = format!("GET {path} HTTP/1.0\r\n\r\n");
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    answer
}

/// The header, and an open whose container-id is `c`.
const HEADER_AND_OPEN: &[u8] = b"AMQP\0\x01\0\0\0\0\0\x11\x02\0\0\0\0\x53\x10\xc0\x04\x01\xa1\x01c";
