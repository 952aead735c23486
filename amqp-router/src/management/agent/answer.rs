//! What the agent answers.

use std::fmt;

use crate::codec::{Body, Message, MessageId, Properties, Value};
use crate::management::entity::Invalid;

/// Where an answer goes.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) to: String,
    pub(super) correlation: Option<MessageId>,
}

/// Why a request is not granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(super) code: i32,
    text: String,
}

impl Reply {
    pub(super) fn refuse(&self, refusal: Refusal) -> Message {
        self.message(refusal.code, &refusal.text, Value::Map(Vec::new()))
    }

    pub(super) fn message(&self, code: i32, description: &str, body: Value) -> Message {
        Message {
            properties: Some(Properties {
                to: Some(self.to.clone()),
                correlation_id: self.correlation.clone(),
                ..Properties::default()
            }),
            application_properties: vec![
                ("statusCode".into(), Value::Int(code)),
                ("statusDescription".into(), description.into()),
            ],
            body: Body::Value(body),
            ..Message::default()
        }
    }
}

impl Refusal {
    pub(crate) fn bad_request(text: impl Into<String>) -> Self {
        Self::new(400, text)
    }

    pub(crate) fn forbidden(text: impl Into<String>) -> Self {
        Self::new(403, text)
    }

    pub(crate) fn stopping() -> Self {
        Self::new(500, "the router is stopping")
    }

    pub(super) fn not_found(text: impl Into<String>) -> Self {
        Self::new(404, text)
    }

    pub(super) fn of_all(problems: Vec<Invalid>) -> Self {
        let problems: Vec<String> = problems.iter().map(worded).collect();
        Self::bad_request(problems.join("; "))
    }

    pub(super) fn new(code: i32, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { code, text }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::bad_request(worded(&invalid))
    }
}

/// Clients of skrouterd know some problems by how their description begins.
fn worded(Invalid { entity, problem }: &Invalid) -> String {
    format!("{problem} ({entity})")
}

pub(super) fn reason(code: i32) -> &'static str {
    match code {
        CREATED => "Created",
        NO_CONTENT => "No Content",
        _ => "OK",
    }
}

pub(super) const OK: i32 = 200;
pub(super) const CREATED: i32 = 201;
pub(super) const NO_CONTENT: i32 = 204;
