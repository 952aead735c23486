use super::*;
use crate::runtime::{Router, local};
use crate::vanflow::tests::collector::{Heard as Message, read};

#[test]
fn a_reason_may_begin_with_a_condition() {
    for (reason, expected) in [
        (
            "amqp:connection:forced: the router is stopping",
            ("amqp:connection:forced", "the router is stopping"),
        ),
        ("closed by the peer", ("unknown", "closed by the peer")),
        (
            "Connection to a:1 failed: refused",
            ("unknown", "Connection to a:1 failed: refused"),
        ),
    ] {
        assert_eq!(split_reason(reason), expected);
    }
}

#[test]
fn a_router_that_stops_tells_its_neighbours_collector() {
    let near = router(
        "near",
        "listener {\n role: inter-router\n port: 0\n host: 127.0.0.1\n}\n",
    );
    let port = near.listening()[0].1[0].port();
    let connector =
        format!("connector {{\n role: inter-router\n host: 127.0.0.1\n port: {port}\n}}\n");
    let far = router("far", &connector);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let mut all = near.receiver("mc/sfe.all", 10).await.expect("a receiver");
        // Of the two that make themselves known, the one that has connected.
        let (mut records, source) = loop {
            let beacon = hear(&mut all).await;
            let [address, id] = ["address", "id"].map(|key| {
                let value = beacon.properties[key].as_str();
                value.expect("a text").to_owned()
            });
            let mut records = near.receiver(&address, 10).await.expect("a receiver");
            flush(&near, beacon.properties["direct"].as_str().expect("a text")).await;
            if has(&hear(&mut records).await, RecordType::Link) {
                break (records, id);
            }
        };
        far.stop().await;
        let link = format!("{}1", source.trim_end_matches('0'));
        loop {
            let heard = hear(&mut records).await;
            let mut told = heard.records.iter();
            if told.any(|r| r[&1].as_str() == Some(&*link) && r.contains_key(&4)) {
                break;
            }
        }
        near.stop().await;
    });
}

fn router(id: &str, more: &str) -> Router {
    let text = format!("router {{\n id: {id}\n mode: interior\n}}\n{more}");
    let config = Config::from_text("test.conf", &text).expect("a configuration");
    Router::start(config).expect("a router")
}

async fn flush(router: &Router, to: &str) {
    let mut sender = router.sender(to).await.expect("a sender");
    let message = crate::codec::Message {
        properties: Some(crate::codec::Properties {
            subject: Some("FLUSH".into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    sender.send(&message).await.expect("an outcome");
}

/// The next message that is not only a heartbeat.
async fn hear(receiver: &mut local::Receiver) -> Message {
    loop {
        let delivery = tokio::time::timeout(Duration::from_secs(30), receiver.recv());
        let delivery = delivery.await.expect("in time").expect("a delivery");
        let message = read(delivery.payload().clone(), 0);
        delivery.accept();
        if message.subject != "HEARTBEAT" {
            return message;
        }
    }
}

fn has(message: &Message, kind: RecordType) -> bool {
    let kind = crate::codec::Value::Uint(kind.code());
    message.records.iter().any(|record| record[&0] == kind)
}
