//! Requests to a router's `$management`, and waiting for what they show.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{Job, Peer, Request, Router, fields};

/// Asks the agent of a router; returns its answer.
///
/// # Panics
///
/// When there is none.
pub fn ask(router: &Router, operation: &str, properties: &[(&str, &str)], body: Value) -> Value {
    ask_at(router, "$management", operation, properties, body)
}

/// The same of an agent elsewhere in the network.
///
/// # Panics
///
/// When there is no answer.
pub fn ask_at(
    router: &Router,
    agent: &str,
    operation: &str,
    properties: &[(&str, &str)],
    body: Value,
) -> Value {
    let mut application_properties = fields([("operation", json!(["string", operation]))]);
    for (name, value) in properties {
        application_properties.insert((*name).to_owned(), json!(["string", value]));
    }
    let request = Request {
        body,
        application_properties,
        ..Request::text("asked", "")
    };
    let job = Job::request(agent, vec![request]).plain_body();
    let answered = Peer::Proton.start(router, job).finish();
    answered.named("message")[0].clone()
}

/// Creates an entity; returns the status code.
///
/// # Panics
///
/// When there is no answer.
pub fn create(router: &Router, kind: &str, attributes: &Value) -> i64 {
    let name = attributes["name"].as_str().expect("a name");
    change(router, "CREATE", kind, name, attributes)
}

/// Changes attributes of an entity; returns the status code.
///
/// # Panics
///
/// When there is no answer.
pub fn update(router: &Router, kind: &str, name: &str, attributes: &Value) -> i64 {
    change(router, "UPDATE", kind, name, attributes)
}

/// Deletes an entity; returns the status code.
///
/// # Panics
///
/// When there is no answer.
pub fn delete(router: &Router, kind: &str, name: &str) -> i64 {
    change(router, "DELETE", kind, name, &json!({}))
}

fn change(router: &Router, operation: &str, kind: &str, name: &str, attributes: &Value) -> i64 {
    let kind = format!("io.skupper.router.{kind}");
    let pairs = attributes.as_object().expect("attributes").iter();
    let pairs: Vec<Value> = pairs
        .map(|(name, value)| match value.as_str() {
            Some(text) => json!([["string", name], ["string", text]]),
            None => json!([["string", name], ["string", value.to_string()]]),
        })
        .collect();
    let properties = [("type", &*kind), ("name", name)];
    let reply = ask(router, operation, &properties, json!(["map", pairs]));
    reply["application_properties"]["statusCode"]
        .as_i64()
        .expect("a status")
}

/// The entities of a type.
///
/// # Panics
///
/// When there is no answer.
pub fn rows(router: &Router, entity: &str) -> Vec<BTreeMap<String, Value>> {
    let kind = format!("io.skupper.router.{entity}");
    let body = json!(["map", [[["string", "attributeNames"], ["list", []]]]]);
    let reply = ask(router, "QUERY", &[("entityType", &kind)], body);
    let names = reply["body"]["attributeNames"].as_array().expect("names");
    let rows = reply["body"]["results"].as_array().expect("rows");
    let row = |row: &Value| {
        let names = names.iter().map(|name| name.as_str().unwrap_or_default());
        let values = row.as_array().cloned().unwrap_or_default();
        names.map(str::to_owned).zip(values).collect()
    };
    rows.iter().map(row).collect()
}

/// Waits until something is so.
///
/// # Panics
///
/// When it is not, for a minute.
#[track_caller]
pub fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

const LIMIT: Duration = Duration::from_secs(60);
