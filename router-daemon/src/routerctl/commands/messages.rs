//! `send` and `recv`: a small client, to try addresses out.

use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use fe2o3_amqp::link::receiver::CreditMode;
use fe2o3_amqp::types::definitions::SenderSettleMode;
use fe2o3_amqp::types::messaging::{
    AmqpValue, Body, Data, Message, Outcome as DeliveryOutcome, Source, Target,
};
use fe2o3_amqp::types::primitives::Binary;
use fe2o3_amqp::{Delivery, Receiver, Sender};
use serde_amqp::Value;
use serde_json::{Value as Json, json};
use tokio::time::timeout;

use crate::client::within;
use crate::connection::Connected;
use crate::ended::{Ended, describe, lost};
use crate::failure::{Failure, Outcome};
use crate::files;
use crate::options::{Receive, Send};
use crate::output::Output;
use crate::table::paint;
use crate::value::{text, to_json};

/// Sends messages one after the other, and says what became of each.
pub(crate) async fn send(
    connected: &mut Connected,
    limit: Duration,
    output: Output,
    send: &Send,
    bodies: &[Body<Value>],
) -> Outcome {
    let mut sender = attach_sender(connected, limit, send).await?;
    let mut told = Vec::new();
    let sent = send_all(&mut sender, limit, output, send, bodies, &mut told).await;
    if sent.is_ok() {
        let _ = timeout(limit, sender.close()).await;
    }
    // What has been sent has been, whatever came then.
    if output.json {
        output.document(&summary(&told))?;
    }
    sent?;
    match failures(&told) {
        0 => Ok(()),
        failed => Err(Failure::Refused(format!(
            "{failed} of {} not accepted",
            told.len()
        ))),
    }
}

async fn send_all(
    sender: &mut Sender,
    limit: Duration,
    output: Output,
    send: &Send,
    bodies: &[Body<Value>],
    told: &mut Vec<Json>,
) -> Outcome {
    for body in (0..send.count).flat_map(|_| bodies) {
        let message = Message::builder().body(body.clone()).build();
        let outcome = timeout(limit, sender.send(message)).await.map_err(|_| {
            let (address, limit) = (&send.address, limit.as_secs_f64());
            Failure::TimedOut(format!(
                "no credit or outcome for '{address}' within {limit} s: is anybody receiving \
                 there? {} sent before",
                told.len()
            ))
        })?;
        let outcome = described(send.settled, outcome.map_err(lost)?);
        if !output.json {
            let line = line_of(told.len() + 1, &outcome, output.style.colour);
            output.text(&line)?;
        }
        told.push(outcome);
    }
    Ok(())
}

fn line_of(number: usize, outcome: &Json, colour: bool) -> String {
    let word = text(&outcome["outcome"]);
    let why = outcome.get("reason").map(text).unwrap_or_default();
    let line = format!("{number} {} {why}", paint(&word, colour));
    format!("{}\n", line.trim_end())
}

fn summary(told: &[Json]) -> Json {
    json!({"sent": told.len(), "failed": failures(told), "outcomes": told})
}

fn failures(told: &[Json]) -> usize {
    let well =
        |outcome: &&Json| matches!(outcome["outcome"].as_str(), Some("accepted" | "settled"));
    told.len() - told.iter().filter(well).count()
}

/// Receives messages, and prints each on a line. A count of 0 has no end.
pub(crate) async fn receive(
    connected: &mut Connected,
    limit: Duration,
    output: Output,
    receive: &Receive,
) -> Outcome {
    let mut receiver = attach_receiver(connected, limit, receive).await?;
    let mut kept = Vec::new();
    let received = receive_all(&mut receiver, limit, output, receive, &mut kept).await;
    if received.is_ok() {
        let _ = timeout(limit, receiver.close()).await;
    }
    // What has come is nowhere else now, whatever came then.
    if output.json && receive.count > 0 {
        output.document(&json!(kept))?;
    }
    received
}

/// Prints what comes, or keeps it for one document.
async fn receive_all(
    receiver: &mut Receiver,
    limit: Duration,
    output: Output,
    receive: &Receive,
    kept: &mut Vec<Json>,
) -> Outcome {
    let mut number = 0;
    while receive.count == 0 || number < receive.count {
        let delivery = match receive.count {
            0 => receiver.recv().await,
            count => timeout(limit, receiver.recv()).await.map_err(|_| {
                let (address, limit) = (&receive.address, limit.as_secs_f64());
                Failure::TimedOut(format!(
                    "no message from '{address}' within {limit} s, after {number} of {count}"
                ))
            })?,
        };
        let delivery: Delivery<Body<Value>> = delivery.map_err(lost)?;
        let message = delivery.message();
        match (output.json, receive.count) {
            (false, _) => output.octets(&written(message, receive.raw))?,
            (true, 0) => output.line(&shown(message))?,
            (true, _) => kept.push(shown(message)),
        }
        // Only what was printed is accepted: what is lost with us goes to somebody else.
        receiver.accept(&delivery).await.map_err(lost)?;
        number += 1;
    }
    Ok(())
}

async fn attach_sender(connected: &mut Connected, limit: Duration, send: &Send) -> Outcome<Sender> {
    let mode = match send.settled {
        true => SenderSettleMode::Settled,
        false => SenderSettleMode::Unsettled,
    };
    let builder = Sender::builder()
        .name("routerctl-send")
        .target(Target::from(send.address.as_str()))
        .sender_settle_mode(mode);
    let attached = within(limit, builder.attach(&mut connected.session)).await?;
    attached.map_err(|error| refused("to", &send.address, error))
}

async fn attach_receiver(
    connected: &mut Connected,
    limit: Duration,
    receive: &Receive,
) -> Outcome<Receiver> {
    // No more credit than messages wanted: others may want the rest.
    let credit = match receive.count {
        0 => MOST_CREDIT,
        count => u32::try_from(count).unwrap_or(MOST_CREDIT).min(MOST_CREDIT),
    };
    let mode = match receive.count <= u64::from(MOST_CREDIT) && receive.count > 0 {
        true => CreditMode::Manual,
        false => CreditMode::Auto(credit),
    };
    let builder = Receiver::builder()
        .name("routerctl-recv")
        .source(Source::from(receive.address.as_str()))
        .credit_mode(mode.clone());
    let attached = within(limit, builder.attach(&mut connected.session)).await?;
    let mut receiver = attached.map_err(|error| refused("from", &receive.address, error))?;
    if matches!(mode, CreditMode::Manual) {
        let granted = receiver.set_credit(credit).await;
        granted.map_err(|error| refused("from", &receive.address, error))?;
    }
    Ok(receiver)
}

fn refused(way: &str, address: &str, error: impl Into<Ended>) -> Failure {
    let refused = format!("the router allows no link {way} '{address}'");
    error.into().refusal(&refused, None)
}

/// The messages of one round: those of the command line, a file's, or standard input.
pub(crate) fn bodies(send: &Send) -> Outcome<Vec<Body<Value>>> {
    let text = |text: String| Body::Value(AmqpValue(Value::String(text)));
    let data = |octets: Vec<u8>| vec![Body::Data(vec![Data(Binary::from(octets))].into())];
    if let Some(file) = &send.file {
        return Ok(data(files::octets(file)?));
    }
    if !send.bodies.is_empty() {
        return Ok(send.bodies.iter().cloned().map(text).collect());
    }
    match String::from_utf8(files::octets(Path::new("-"))?) {
        Ok(input) => Ok(vec![text(input)]),
        Err(error) => Ok(data(error.into_bytes())),
    }
}

fn described(settled: bool, outcome: DeliveryOutcome) -> Json {
    match outcome {
        _ if settled => json!({"outcome": "settled"}),
        DeliveryOutcome::Accepted(_) => json!({"outcome": "accepted"}),
        DeliveryOutcome::Released(_) => json!({"outcome": "released"}),
        DeliveryOutcome::Modified(_) => json!({"outcome": "modified"}),
        DeliveryOutcome::Rejected(rejected) => {
            let reason = rejected.error.as_ref().map(describe);
            json!({"outcome": "rejected", "reason": reason})
        }
    }
}

/// The body as it is written: the octets of what is binary as they are. Each is a line, unless
/// only bodies are wanted.
fn written(message: &Message<Body<Value>>, raw: bool) -> Vec<u8> {
    let mut octets = match binary(message) {
        Some(octets) => octets,
        None => text(&body_of(message)).into_bytes(),
    };
    if !raw {
        octets.push(b'\n');
    }
    octets
}

/// The octets of a body that is binary.
fn binary(message: &Message<Body<Value>>) -> Option<Vec<u8>> {
    match &message.body {
        Body::Value(AmqpValue(Value::Binary(octets))) => Some(octets.to_vec()),
        Body::Data(parts) => {
            let parts: Vec<&[u8]> = parts.iter().map(|data| data.0.as_slice()).collect();
            Some(parts.concat())
        }
        _ => None,
    }
}

fn body_of(message: &Message<Body<Value>>) -> Json {
    match &message.body {
        Body::Value(AmqpValue(value)) => to_json(value),
        Body::Sequence(parts) => {
            let items = parts.iter().flat_map(|sequence| sequence.0.iter());
            items.map(to_json).collect()
        }
        _ => Json::Null,
    }
}

fn shown(message: &Message<Body<Value>>) -> Json {
    let (name, body) = match binary(message).map(String::from_utf8) {
        None => ("body", body_of(message)),
        Some(Ok(text)) => ("body", Json::from(text)),
        Some(Err(octets)) => ("body-base64", BASE64.encode(octets.as_bytes()).into()),
    };
    let properties = message.properties.as_ref();
    json!({
        "to": properties.and_then(|properties| properties.to.clone()),
        "subject": properties.and_then(|properties| properties.subject.clone()),
        name: body,
    })
}

const MOST_CREDIT: u32 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::golden::check;
    use fe2o3_amqp::types::definitions::{self, AmqpError};
    use fe2o3_amqp::types::messaging::{
        Accepted, AmqpSequence, Modified, Properties, Rejected, Released,
    };

    #[test]
    fn every_outcome_is_told() {
        let why = definitions::Error::new(AmqpError::NotAllowed, "not today".to_owned(), None);
        let modified = Modified {
            delivery_failed: Some(true),
            undeliverable_here: None,
            message_annotations: None,
        };
        let told = [
            described(false, DeliveryOutcome::Accepted(Accepted {})),
            described(true, DeliveryOutcome::Accepted(Accepted {})),
            described(false, DeliveryOutcome::Released(Released {})),
            described(false, DeliveryOutcome::Modified(modified)),
            described(
                false,
                DeliveryOutcome::Rejected(Rejected { error: Some(why) }),
            ),
        ];
        let lines = told.iter().enumerate();
        let lines = lines.map(|(index, outcome)| line_of(index + 1, outcome, false));
        check("send.txt", &lines.collect::<String>());
        check("send.json", &format!("{:#}\n", summary(&told)));
    }

    #[test]
    fn every_kind_of_body_is_shown() {
        let properties = Properties::builder()
            .to("orders".to_owned())
            .subject("new")
            .build();
        let value = Message::builder()
            .properties(properties)
            .body(Body::Value(AmqpValue(Value::from("a text"))))
            .build();
        let data = ["from ", "a file"].map(|part| Data(Binary::from(part.as_bytes())));
        let data = Message::builder()
            .body(Body::Data(data.to_vec().into()))
            .build();
        let sequence = AmqpSequence(vec![Value::from(7), Value::from("seven")]);
        let sequence = Message::builder()
            .body(Body::Sequence(vec![sequence].into()))
            .build();
        let messages = [value, data, sequence];
        let lines = messages.iter().flat_map(|message| written(message, false));
        let lines = String::from_utf8(lines.collect()).expect("they are texts");
        check("recv.txt", &lines);
        let messages: Vec<Json> = messages.iter().map(shown).collect();
        check("recv.json", &format!("{:#}\n", json!(messages)));
    }

    #[test]
    fn what_is_no_text_is_left_as_it_is() {
        let octets = [0xff, 0, b'\n', 0xc3];
        let data = octets.map(|octet| Data(Binary::from([octet])));
        let data = Body::Data(data.to_vec().into());
        let value = Body::Value(AmqpValue(Value::Binary(Binary::from(octets))));
        for body in [data, value] {
            let message = Message::builder().body(body).build();
            assert_eq!(written(&message, true), octets);
            assert_eq!(written(&message, false), [&octets[..], b"\n"].concat());
            let shown = shown(&message);
            assert_eq!(
                (&shown["body-base64"], &shown["body"]),
                (&json!("/wAKww=="), &Json::Null)
            );
        }
    }
}
