//! The jobs.

use super::{
    Client, Failure, Report,
    message::{build, describe, request},
    value,
};
use crate::job::{Job, Outcome};
use fe2o3_amqp::{
    Delivery, Receiver, Sender,
    link::receiver::{CreditMode, TerminalDeliveryState},
    types::{
        definitions::{self, SenderSettleMode},
        messaging::{
            self, Accepted, Body, Message, Modified, Properties, Rejected, Released, Source, Target,
        },
    },
};
use serde_amqp::{
    Value,
    primitives::{OrderedMap, Symbol},
};
use serde_json::json;
use tokio::time::timeout;

type Received = Delivery<Body<Value>>;

pub(super) async fn run(client: Client, job: &Job, report: &Report) -> Result<(), Failure> {
    let mut client = client;
    let done = match job.operation {
        "connect" => {
            report.event("opened", json!({}));
            json!({})
        }
        "send" => send(&mut client, job, report).await?,
        "receive" => receive(&mut client, job, report).await?,
        "request" => request_all(&mut client, job, report).await?,
        "respond" => respond(&mut client, job, report).await?,
        "reattach" => reattach(&mut client, job, report).await?,
        other => return Err(Failure::other("job", &format!("fe2o3-amqp cannot {other}"))),
    };
    client.close().await?;
    report.event("done", done);
    Ok(())
}

async fn send(
    client: &mut Client,
    job: &Job,
    report: &Report,
) -> Result<serde_json::Value, Failure> {
    let mut sender = attach_sender(client, job, job.address.as_deref()).await?;
    let address = sender
        .target()
        .as_ref()
        .and_then(|target| target.address.clone());
    report.event("attached", json!({"address": address}));
    let mut outcomes = Vec::new();
    for index in 0..job.count {
        outcomes.push(sender.send_batchable(build(job, index)).await?);
    }
    for (index, outcome) in outcomes.into_iter().enumerate() {
        let outcome = outcome.await?;
        if !job.settled {
            report.event("outcome", described_outcome(index, outcome));
        }
    }
    sender.close().await?;
    Ok(json!({"sent": job.count}))
}

async fn receive(
    client: &mut Client,
    job: &Job,
    report: &Report,
) -> Result<serde_json::Value, Failure> {
    let mut receiver = attach_receiver(client, job).await?;
    report_attached(&receiver, report);
    let received = receive_some(&mut receiver, job, report).await?;
    receiver.close().await?;
    Ok(json!({"received": received}))
}

/// Receives `count` deliveries, or for ever when that is 0.
async fn receive_some(
    receiver: &mut Receiver,
    job: &Job,
    report: &Report,
) -> Result<usize, Failure> {
    let mut received = 0;
    while job.count == 0 || received < job.count {
        let delivery: Received = receiver.recv().await?;
        report.event("message", describe(job, delivery.message()));
        dispose(receiver, job, received, &delivery).await?;
        received += 1;
    }
    Ok(received)
}

async fn dispose(
    receiver: &Receiver,
    job: &Job,
    index: usize,
    delivery: &Received,
) -> Result<(), Failure> {
    let state: TerminalDeliveryState = match &job.outcomes[index % job.outcomes.len()] {
        Outcome::None => return Ok(()),
        Outcome::Accepted => Accepted {}.into(),
        Outcome::Released => Released {}.into(),
        Outcome::Rejected {
            condition,
            description,
        } => {
            let condition = definitions::ErrorCondition::Custom(Symbol::from(condition.as_str()));
            let error = definitions::Error {
                condition,
                description: Some(description.clone()),
                info: None,
            };
            Rejected { error: Some(error) }.into()
        }
        Outcome::Modified {
            delivery_failed,
            undeliverable_here,
            annotations,
        } => {
            let pairs = annotations
                .iter()
                .map(|(k, v)| (Symbol::from(k.as_str()), value::from_plain(v)));
            Modified {
                delivery_failed: Some(*delivery_failed),
                undeliverable_here: Some(*undeliverable_here),
                message_annotations: Some(OrderedMap::from_iter(pairs)),
            }
            .into()
        }
    };
    receiver
        .dispose(delivery, state)
        .await
        .map_err(|e| Failure::other("link", &e))
}

async fn request_all(
    client: &mut Client,
    job: &Job,
    report: &Report,
) -> Result<serde_json::Value, Failure> {
    let dynamic = Job {
        dynamic: true,
        ..job.clone()
    };
    let mut receiver = attach_receiver(client, &dynamic).await?;
    report_attached(&receiver, report);
    let reply_to = receiver
        .source()
        .as_ref()
        .and_then(|source| source.address.clone())
        .unwrap_or_default();
    let mut sender = attach_sender(client, job, job.address.as_deref()).await?;
    let mut outcomes = Vec::new();
    for asked in &job.requests {
        outcomes.push(
            sender
                .send_batchable(request(job, asked, &reply_to))
                .await?,
        );
    }
    let received = receive_some(&mut receiver, job, report).await?;
    for outcome in outcomes {
        outcome.await?;
    }
    sender.close().await?;
    receiver.close().await?;
    Ok(json!({"received": received}))
}

async fn respond(
    client: &mut Client,
    job: &Job,
    report: &Report,
) -> Result<serde_json::Value, Failure> {
    let mut sender = attach_sender(client, job, None).await?;
    let mut receiver = attach_receiver(client, job).await?;
    report_attached(&receiver, report);
    for index in 0..job.count {
        let delivery: Received = receiver.recv().await?;
        report.event("message", describe(job, delivery.message()));
        dispose(&receiver, job, index, &delivery).await?;
        let asked = delivery.message().properties.clone().unwrap_or_default();
        let properties = Properties {
            to: asked.reply_to,
            correlation_id: asked.correlation_id.or(asked.message_id),
            subject: asked.subject,
            ..Properties::default()
        };
        let answer = Message {
            properties: Some(properties),
            ..Message::builder().body(delivery.into_body()).build()
        };
        let outcome = sender.send(answer).await?;
        report.event("outcome", described_outcome(index, outcome));
    }
    sender.close().await?;
    receiver.close().await?;
    Ok(json!({"received": job.count}))
}

async fn reattach(
    client: &mut Client,
    job: &Job,
    report: &Report,
) -> Result<serde_json::Value, Failure> {
    let mut receiver = attach_receiver(client, job).await?;
    report_attached(&receiver, report);
    receive_some(&mut receiver, job, report).await?;
    let mut receiver = if job.closed {
        receiver.close().await?;
        report.event("detached", json!({}));
        attach_receiver(client, job).await?
    } else {
        let detached = receiver
            .detach()
            .await
            .map_err(|(_, error)| Failure::from(error))?;
        report.event("detached", json!({}));
        let resumed = timeout(job.time_limit, detached.resume())
            .await
            .map_err(|e| Failure::other("link", &e))?;
        resumed
            .map_err(|e| Failure::other("link", &e))?
            .into_receiver()
    };
    report_attached(&receiver, report);
    receive_some(&mut receiver, job, report).await?;
    receiver.close().await?;
    Ok(json!({"received": job.count * 2}))
}

async fn attach_sender(
    client: &mut Client,
    job: &Job,
    address: Option<&str>,
) -> Result<Sender, Failure> {
    let mode = if job.settled {
        SenderSettleMode::Settled
    } else {
        SenderSettleMode::Mixed
    };
    let target = Target {
        address: address.map(str::to_owned),
        ..Target::default()
    };
    let builder = Sender::builder()
        .name("interop-sender")
        .target(target)
        .sender_settle_mode(mode);
    Ok(builder.attach(&mut client.session).await?)
}

async fn attach_receiver(client: &mut Client, job: &Job) -> Result<Receiver, Failure> {
    let source = Source {
        address: job.address.clone().filter(|_| !job.dynamic),
        dynamic: job.dynamic,
        ..Source::default()
    };
    let name = job
        .link
        .clone()
        .unwrap_or_else(|| "interop-receiver".into());
    let credit = if job.hold_credit {
        CreditMode::Manual
    } else {
        CreditMode::Auto(job.credit)
    };
    let builder = Receiver::builder()
        .name(name)
        .source(source)
        .credit_mode(credit);
    let mut receiver = builder.attach(&mut client.session).await?;
    if job.hold_credit {
        receiver
            .set_credit(job.credit)
            .await
            .map_err(|e| Failure::other("link", &e))?;
    }
    Ok(receiver)
}

fn report_attached(receiver: &Receiver, report: &Report) {
    let address = receiver
        .source()
        .as_ref()
        .and_then(|source| source.address.clone());
    report.event("attached", json!({"address": address}));
}

fn described_outcome(index: usize, outcome: messaging::Outcome) -> serde_json::Value {
    let mut fields = match outcome {
        messaging::Outcome::Accepted(_) => json!({"outcome": "accepted"}),
        messaging::Outcome::Released(_) => json!({"outcome": "released"}),
        messaging::Outcome::Rejected(rejected) => {
            let error = rejected
                .error
                .map(|error| Failure::from_peer("delivery", error));
            let condition = error.as_ref().and_then(|error| error.condition.clone());
            let description = error.and_then(|error| error.description);
            json!({"outcome": "rejected", "condition": condition, "description": description})
        }
        messaging::Outcome::Modified(modified) => {
            let annotations = modified.message_annotations.unwrap_or_default();
            let pairs = annotations
                .iter()
                .map(|(k, v)| (k.as_str().to_owned(), value::to_plain(v)));
            json!({
                "outcome": "modified",
                "delivery_failed": modified.delivery_failed.unwrap_or_default(),
                "undeliverable_here": modified.undeliverable_here.unwrap_or_default(),
                "annotations": serde_json::Map::from_iter(pairs),
            })
        }
    };
    fields["index"] = json!(index);
    fields
}
