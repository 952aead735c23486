//! Messages: built from the typed description in a job, described in the same form on arrival.

use super::value::{from_typed, to_typed};
use crate::{
    job::{Job, Request},
    message::{body, hex, sha256_hex, unhex},
};
use fe2o3_amqp::types::messaging::{
    AmqpSequence, AmqpValue, ApplicationProperties, Batch, Body, Data, DeliveryAnnotations, Footer,
    Header, Message, MessageAnnotations, MessageId, Priority, Properties,
    annotations::{Annotations, OwnedKey},
};
use serde_amqp::{
    Value,
    primitives::{Binary, OrderedMap, Symbol, Timestamp},
};
use serde_json::{Map, Value as Json, json};

pub(super) fn build(job: &Job, index: usize) -> Message<Body<Value>> {
    let empty = json!({});
    let template = match job.messages.len() {
        0 => &empty,
        len => &job.messages[index % len],
    };
    let mut properties = match template.get("properties") {
        Some(Json::Object(fields)) => build_properties(fields),
        _ => Properties {
            subject: Some(index.to_string()),
            ..Properties::default()
        },
    };
    if let Some(to) = &job.to {
        properties.to = Some(to.clone());
    }
    Message {
        header: template["header"].as_object().map(build_header),
        delivery_annotations: annotations(&template["delivery_annotations"])
            .map(DeliveryAnnotations),
        message_annotations: annotations(&template["message_annotations"]).map(MessageAnnotations),
        properties: Some(properties),
        application_properties: template["application_properties"]
            .as_object()
            .map(application_properties),
        body: build_body(job, template, index),
        footer: annotations(&template["footer"]).map(Footer),
    }
}

pub(super) fn request(job: &Job, request: &Request, reply_to: &str) -> Message<Body<Value>> {
    let properties = Properties {
        to: job.to.clone(),
        reply_to: Some(reply_to.to_owned()),
        correlation_id: Some(MessageId::String(request.correlation_id.clone())),
        subject: Some(request.subject.clone()),
        ..Properties::default()
    };
    let fields = Some(&request.application_properties).filter(|fields| !fields.is_empty());
    Message {
        header: None,
        delivery_annotations: None,
        message_annotations: None,
        properties: Some(properties),
        application_properties: fields.map(application_properties),
        body: Body::Value(AmqpValue(from_typed(&request.body))),
        footer: None,
    }
}

pub(super) fn describe(job: &Job, message: &Message<Body<Value>>) -> Json {
    let data = match &message.body {
        Body::Data(sections) => sections
            .iter()
            .map(|data| data.0.as_slice())
            .collect::<Vec<_>>()
            .concat(),
        _ => Vec::new(),
    };
    let properties = message.properties.clone().unwrap_or_default();
    let header = message
        .header
        .as_ref()
        .map(describe_header)
        .unwrap_or_else(|| json!({}));
    let mut fields = json!({
        "size": data.len(),
        "sha256": sha256_hex(&data),
        "header": header,
        "subject": properties.subject,
        "to": properties.to,
        "correlation_id": match &properties.correlation_id {
            Some(MessageId::String(id)) => json!(id),
            Some(MessageId::Ulong(id)) => json!(id),
            _ => Json::Null,
        },
    });
    if job.describe {
        fields["message"] = describe_fully(message, header, properties, &data);
    }
    fields
}

fn describe_fully(
    message: &Message<Body<Value>>,
    header: Json,
    properties: Properties,
    data: &[u8],
) -> Json {
    let mut described = json!({"header": header, "properties": describe_properties(properties)});
    if let Some(DeliveryAnnotations(fields)) = &message.delivery_annotations {
        described["delivery_annotations"] = describe_annotations(fields);
    }
    if let Some(MessageAnnotations(fields)) = &message.message_annotations {
        described["message_annotations"] = describe_annotations(fields);
    }
    if let Some(ApplicationProperties(fields)) = &message.application_properties {
        let pairs = fields
            .iter()
            .map(|(k, v)| (k.clone(), to_typed(&v.clone().into())));
        described["application_properties"] = Json::Object(Map::from_iter(pairs));
    }
    if let Some(Footer(fields)) = &message.footer {
        described["footer"] = describe_annotations(fields);
    }
    match &message.body {
        Body::Data(_) => described["data"] = json!(hex(data)),
        Body::Value(AmqpValue(value)) => described["value"] = to_typed(value),
        Body::Sequence(sections) => {
            let items = sections
                .iter()
                .flat_map(|AmqpSequence(items)| items.iter().map(to_typed));
            described["sequence"] = items.collect();
        }
        Body::Empty => {}
    }
    described
}

fn build_header(fields: &Map<String, Json>) -> Header {
    let number = |name: &str| fields.get(name).and_then(Json::as_u64);
    let flag = |name: &str| fields.get(name).and_then(Json::as_bool).unwrap_or_default();
    Header {
        durable: flag("durable"),
        priority: number("priority")
            .map_or_else(Priority::default, |priority| Priority(priority as u8)),
        ttl: number("ttl").map(|ttl| ttl as u32),
        first_acquirer: flag("first_acquirer"),
        delivery_count: number("delivery_count").unwrap_or_default() as u32,
    }
}

fn describe_header(header: &Header) -> Json {
    json!({
        "durable": header.durable,
        "priority": header.priority.0,
        "ttl": header.ttl,
        "first_acquirer": header.first_acquirer,
        "delivery_count": header.delivery_count,
    })
}

fn build_body(job: &Job, template: &Json, index: usize) -> Body<Value> {
    if let Some(data) = template["data"].as_str() {
        return data_body(unhex(data).expect("hexadecimal data"));
    }
    if let Some(items) = template["sequence"].as_array() {
        let items = items.iter().map(from_typed).collect();
        return Body::Sequence(Batch::new(vec![AmqpSequence(items)]));
    }
    if template["value"].is_array() {
        return Body::Value(AmqpValue(from_typed(&template["value"])));
    }
    let size = if job.sizes.is_empty() {
        DEFAULT_SIZE
    } else {
        job.sizes[index % job.sizes.len()]
    };
    data_body(body(index, size))
}

fn data_body(bytes: Vec<u8>) -> Body<Value> {
    Body::Data(Batch::new(vec![Data(Binary::from(bytes))]))
}

fn build_properties(fields: &Map<String, Json>) -> Properties {
    let text = |name: &str| {
        fields
            .get(name)
            .map(|typed| typed[1].as_str().unwrap_or_default().to_owned())
    };
    let time = |name: &str| {
        fields
            .get(name)
            .and_then(|typed| typed[1].as_i64())
            .map(Timestamp::from)
    };
    let id = |name: &str| fields.get(name).map(|typed| message_id(&from_typed(typed)));
    Properties {
        message_id: id("message_id"),
        user_id: text("user_id")
            .and_then(|user| unhex(&user))
            .map(Binary::from),
        to: text("to"),
        subject: text("subject"),
        reply_to: text("reply_to"),
        correlation_id: id("correlation_id"),
        content_type: text("content_type").map(Symbol::from),
        content_encoding: text("content_encoding").map(Symbol::from),
        absolute_expiry_time: time("absolute_expiry_time"),
        creation_time: time("creation_time"),
        group_id: text("group_id"),
        group_sequence: fields
            .get("group_sequence")
            .and_then(|typed| typed[1].as_u64())
            .map(|n| n as u32),
        reply_to_group_id: text("reply_to_group_id"),
    }
}

fn describe_properties(properties: Properties) -> Json {
    let mut fields = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            fields.insert(name.to_owned(), to_typed(&value));
        }
    };
    put("message_id", properties.message_id.map(id_value));
    put("user_id", properties.user_id.map(Value::Binary));
    put("to", properties.to.map(Value::String));
    put("subject", properties.subject.map(Value::String));
    put("reply_to", properties.reply_to.map(Value::String));
    put("correlation_id", properties.correlation_id.map(id_value));
    put("content_type", properties.content_type.map(Value::Symbol));
    put(
        "content_encoding",
        properties.content_encoding.map(Value::Symbol),
    );
    put(
        "absolute_expiry_time",
        properties.absolute_expiry_time.map(Value::Timestamp),
    );
    put(
        "creation_time",
        properties.creation_time.map(Value::Timestamp),
    );
    put("group_id", properties.group_id.map(Value::String));
    put("group_sequence", properties.group_sequence.map(Value::Uint));
    put(
        "reply_to_group_id",
        properties.reply_to_group_id.map(Value::String),
    );
    Json::Object(fields)
}

fn message_id(value: &Value) -> MessageId {
    match value {
        Value::Ulong(id) => MessageId::Ulong(*id),
        Value::Uuid(id) => MessageId::Uuid(id.clone()),
        Value::Binary(id) => MessageId::Binary(id.clone()),
        Value::String(id) => MessageId::String(id.clone()),
        other => panic!("not a message-id: {other:?}"),
    }
}

fn id_value(id: MessageId) -> Value {
    match id {
        MessageId::Ulong(id) => Value::Ulong(id),
        MessageId::Uuid(id) => Value::Uuid(id),
        MessageId::Binary(id) => Value::Binary(id),
        MessageId::String(id) => Value::String(id),
    }
}

fn annotations(fields: &Json) -> Option<Annotations> {
    let pairs = fields.as_object()?.iter();
    Some(
        pairs
            .map(|(k, v)| (OwnedKey::from(k.as_str()), from_typed(v)))
            .collect(),
    )
}

fn describe_annotations(fields: &Annotations) -> Json {
    let name = |key: &OwnedKey| match key {
        OwnedKey::Symbol(key) => key.as_str().to_owned(),
        OwnedKey::Ulong(key) => key.to_string(),
    };
    Json::Object(fields.iter().map(|(k, v)| (name(k), to_typed(v))).collect())
}

fn application_properties(fields: &Map<String, Json>) -> ApplicationProperties {
    let simple = |typed: &Json| from_typed(typed).try_into().expect("a simple value");
    let pairs = fields.iter().map(|(k, v)| (k.clone(), simple(v)));
    ApplicationProperties(OrderedMap::from_iter(pairs))
}

/// Bytes of a body when a job does not say.
const DEFAULT_SIZE: usize = 64;
