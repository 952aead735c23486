//! A service and a client: the client receives from an address of its own and says so in
//! `reply-to`; the service answers there, with the request's correlation-id.
//!
//! `cargo run -p amqp-router --example request_response`

use amqp_router::{Body, Config, LinkError, Message, Properties, Receiver, Router, Sender, Value};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::start(Config::new("request-response"))?;
    let requests = router.receiver("doubler", 10).await?;
    let service = tokio::spawn(double(requests, router.anonymous_sender().await?));

    let mut answers = router.dynamic_receiver(10).await?;
    let mut client = router.sender("doubler").await?;
    for number in 1..=3i64 {
        let properties = Properties {
            reply_to: Some(answers.address().to_owned()),
            correlation_id: Some((number as u64).into()),
            ..Properties::default()
        };
        let request = Message {
            properties: Some(properties),
            ..Message::of_value(Value::Long(number))
        };
        client.send(&request).await?;
        let answer = answers.recv().await?;
        println!("{number} doubled is {:?}", answer.message()?.body);
        answer.accept();
    }

    router.stop().await;
    // The router has stopped under the service, which is how it learns that it is over.
    assert_eq!(service.await?, Err(LinkError::Stopped));
    Ok(())
}

/// Answers every request until the router stops.
async fn double(mut requests: Receiver, mut answers: Sender) -> Result<(), LinkError> {
    loop {
        let request = requests.recv().await?;
        let Ok(Message {
            properties: Some(asked),
            body: Body::Value(number),
            ..
        }) = request.message()
        else {
            drop(request);
            continue;
        };
        request.accept();
        let doubled = number.as_i64().map(|number| number * 2);
        let properties = Properties {
            to: asked.reply_to,
            correlation_id: asked.correlation_id,
            ..Properties::default()
        };
        let answer = Message {
            properties: Some(properties),
            ..Message::of_value(doubled)
        };
        answers.send(&answer).await?;
    }
}
