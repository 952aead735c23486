//! Routers inside a program: the same credit, settlement and limits for its links as for others'.

use std::time::Duration;

use amqp_router::{
    Body, Config, Delivery, DeliveryState, Distribution, Error, LinkError, Message, Receiver,
    Router, Value, condition,
};
use tokio::time::timeout;

fn router() -> Router {
    Router::start(Config::new("embedded")).expect("it starts")
}

async fn next(receiver: &mut Receiver) -> Delivery {
    let delivery = timeout(LIMIT, receiver.recv()).await.expect("in time");
    delivery.expect("a delivery")
}

fn value(delivery: &Delivery) -> Value {
    match delivery.message().expect("a message").body {
        Body::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_receivers_outcome_is_the_senders() {
    let router = router();
    let mut receiver = router.receiver("orders", 10).await.expect("attached");
    let mut sender = router.sender("orders").await.expect("attached");
    let receiving = tokio::spawn(async move {
        next(&mut receiver).await.accept();
        let why = Error::new(condition::NOT_ALLOWED, "not today");
        next(&mut receiver).await.reject(why);
        next(&mut receiver).await.release();
        next(&mut receiver).await.modify(true, true);
        // Dropped without a word.
        drop(next(&mut receiver).await);
    });
    let mut outcomes = Vec::new();
    for number in 0..5 {
        outcomes.push(sender.send(&Message::of_value(number)).await.expect("sent"));
    }
    receiving.await.expect("it receives");
    assert_eq!(outcomes[0], Some(DeliveryState::Accepted));
    let Some(DeliveryState::Rejected(Some(error))) = &outcomes[1] else {
        panic!("{outcomes:?}");
    };
    assert_eq!(error.description.as_deref(), Some("not today"));
    assert_eq!(outcomes[2], Some(DeliveryState::Released));
    let Some(DeliveryState::Modified(modified)) = &outcomes[3] else {
        panic!("{outcomes:?}");
    };
    assert!(modified.delivery_failed && modified.undeliverable_here);
    assert_eq!(outcomes[4], Some(DeliveryState::Released), "nobody took it");
    router.stop().await;
}

/// A program may wait for several things at once.
#[tokio::test]
async fn what_is_given_up_before_it_is_ready_loses_no_message() {
    let router = router();
    let mut receiver = router.receiver("orders", 3).await.expect("attached");
    let mut sender = router.sender("orders").await.expect("attached");
    let sending = tokio::spawn(async move {
        for number in 0..50 {
            let sent = sender.send(&Message::of_value(number)).await;
            assert_eq!(sent.expect("sent"), Some(DeliveryState::Accepted));
        }
    });
    let mut numbers = Vec::new();
    let all = async {
        while numbers.len() < 50 {
            match timeout(Duration::ZERO, receiver.recv()).await {
                Ok(delivery) => {
                    let delivery = delivery.expect("a delivery");
                    numbers.push(value(&delivery));
                    delivery.accept();
                }
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    timeout(LIMIT, all).await.expect("in time");
    sending.await.expect("it sends");
    let expected: Vec<Value> = (0..50).map(Value::from).collect();
    assert_eq!(numbers, expected);
    router.stop().await;
}

#[tokio::test]
async fn the_file_for_what_has_leaked_is_made_at_the_end_and_empty() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("leaks");
    let text = format!("router {{\n debugDumpFile: {}\n}}\n", file.display());
    let config = Config::from_text("router.conf", &text).expect("valid");
    let router = Router::start(config).expect("it starts");
    assert!(!file.exists());
    std::fs::write(&file, "of an earlier run").expect("a file");
    router.stop().await;
    assert_eq!(std::fs::read_to_string(&file).expect("a file"), "");
}

#[tokio::test]
async fn a_sender_waits_for_a_receiver_and_for_its_credit() {
    let router = router();
    let mut sender = router.sender("later").await.expect("attached");
    let message = Message::of_value(0);
    let early = timeout(Duration::from_millis(200), sender.send_settled(&message));
    assert!(early.await.is_err(), "there is nobody to send to");
    let mut receiver = router.receiver("later", 1).await.expect("attached");
    let sending = tokio::spawn(async move {
        for number in 1..=100 {
            sender.send(&Message::of_value(number)).await.expect("sent");
        }
    });
    for number in 1..=100 {
        let delivery = next(&mut receiver).await;
        assert_eq!(value(&delivery), Value::from(number));
        delivery.accept();
    }
    sending.await.expect("it sends");
    router.stop().await;
}

#[tokio::test]
async fn messages_of_any_size_pass_whole() {
    let router = router();
    let mut receiver = router.receiver("large", 10).await.expect("attached");
    let mut sender = router.sender("large").await.expect("attached");
    let sizes = [0, 1, 100_000, 20_000_000];
    let sending = tokio::spawn(async move {
        for size in sizes {
            let body = Value::Binary(vec![size as u8; size].into());
            let outcome = sender.send(&Message::of_value(body)).await;
            assert_eq!(outcome, Ok(Some(DeliveryState::Accepted)));
        }
    });
    for size in sizes {
        let delivery = next(&mut receiver).await;
        let Value::Binary(octets) = value(&delivery) else {
            panic!("no octets");
        };
        assert_eq!(octets, vec![size as u8; size]);
        delivery.accept();
    }
    sending.await.expect("it sends");
    router.stop().await;
}

#[tokio::test]
async fn a_request_is_answered_on_a_dynamic_address() {
    let router = router();
    let mut service = router.receiver("double", 10).await.expect("attached");
    let mut anywhere = router.anonymous_sender().await.expect("attached");
    let serving = tokio::spawn(async move {
        let request = next(&mut service).await;
        let message = request.message().expect("a message");
        request.accept();
        let properties = message.properties.expect("properties");
        let mut answer = Message::of_value("42");
        answer.properties = Some(amqp_router::Properties {
            to: properties.reply_to,
            correlation_id: properties.message_id,
            ..Default::default()
        });
        anywhere.send(&answer).await.expect("answered")
    });
    let mut answers = router.dynamic_receiver(1).await.expect("attached");
    let mut requests = router.sender("double").await.expect("attached");
    let mut request = Message::of_value("21");
    request.properties = Some(amqp_router::Properties {
        reply_to: Some(answers.address().into()),
        ..Default::default()
    });
    requests.send(&request).await.expect("sent");
    let answer = next(&mut answers).await;
    assert_eq!(value(&answer), Value::from("42"));
    answer.accept();
    let outcome = serving.await.expect("it serves");
    assert_eq!(outcome, Some(DeliveryState::Accepted));
    router.stop().await;
}

#[tokio::test]
async fn links_learn_that_the_router_has_stopped() {
    let router = router();
    let mut receiver = router.receiver("orders", 1).await.expect("attached");
    let mut sender = router.sender("nobody").await.expect("attached");
    let waiting = tokio::spawn(async move { receiver.recv().await.map(drop) });
    let sending = tokio::spawn(async move { sender.send(&Message::of_value(1)).await.map(drop) });
    router.stop().await;
    for ended in [waiting, sending] {
        let ended = timeout(LIMIT, ended).await.expect("in time").expect("told");
        let error = ended.expect_err("there is no router");
        assert!(
            matches!(error, LinkError::Stopped | LinkError::Detached(_)),
            "{error}"
        );
    }
}

#[tokio::test]
async fn an_address_that_is_unavailable_is_refused() {
    let config = Config::new("embedded").distribute("closed", Distribution::Unavailable);
    let router = Router::start(config).expect("it starts");
    let refused = router.sender("closed/door").await;
    let Err(LinkError::Refused(error)) = refused else {
        panic!("{refused:?}");
    };
    assert!(error.description.is_some(), "{error}");
    router.stop().await;
}

const LIMIT: Duration = Duration::from_secs(30);

/// Every router has an agent, also where no other address is to be had.
#[tokio::test]
async fn a_router_without_addresses_is_managed() {
    let text = "router {\n id: closed\n defaultDistribution: unavailable\n}\n\
                address {\n pattern: #\n distribution: unavailable\n}\n";
    let config = Config::from_text("closed.conf", text).expect("valid");
    let router = Router::start(config).expect("it starts");
    let refused = router.sender("orders").await;
    assert!(refused.is_err(), "nothing else is available");
    let mut agent = router.sender("$management").await.expect("attached");
    let outcome = agent.send(&Message::of_value("nonsense")).await;
    assert_eq!(outcome.expect("sent"), Some(DeliveryState::Accepted));
    let endless = "x".repeat(2 * 1024 * 1024);
    let outcome = agent.send(&Message::of_value(endless.as_str())).await;
    let outcome = outcome.expect("sent");
    let Some(DeliveryState::Rejected(Some(error))) = &outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(
        error.condition.to_string(),
        "amqp:link:message-size-exceeded"
    );
    router.stop().await;
}
