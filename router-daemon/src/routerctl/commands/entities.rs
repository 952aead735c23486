//! One entity, and the types there are.

use serde_json::{Value as Json, json};

use tokio::task::spawn_blocking;

use super::Context;
use crate::client::{self, full_name};
use crate::failure::{Failure, Outcome};
use crate::options::{Create, Subject};
use crate::report;
use crate::schema::{Attribute, EntityType, Schema};
use crate::table::{Cell, Table};
use crate::value::{Row, text};

pub(crate) async fn read(context: &mut Context, subject: &Subject) -> Outcome {
    let row = context.client.read(&context.agent, subject.into()).await?;
    show(context, row)
}

pub(crate) async fn create(context: &mut Context, create: &Create) -> Outcome {
    let Create {
        kind,
        name,
        attributes,
    } = create;
    let attributes = parse(context, kind, attributes).await?;
    let subject = client::Subject { kind, name };
    let created = context.client.create(&context.agent, subject, &attributes);
    let row = created.await?;
    show(context, row)
}

pub(crate) async fn update(
    context: &mut Context,
    subject: &Subject,
    attributes: &[String],
) -> Outcome {
    let attributes = parse(context, &subject.kind, attributes).await?;
    let updated = context
        .client
        .update(&context.agent, subject.into(), &attributes);
    let row = updated.await?;
    show(context, row)
}

pub(crate) async fn delete(context: &mut Context, subject: &Subject) -> Outcome {
    context
        .client
        .delete(&context.agent, subject.into())
        .await?;
    let Subject { kind, name } = subject;
    match context.output.json {
        true => context
            .output
            .document(&json!({"deleted": {"type": full_name(kind), "name": name}})),
        false => context.output.text(&format!("deleted {kind} {name}\n")),
    }
}

pub(crate) async fn types(context: &mut Context) -> Outcome {
    let schema = context.client.schema(&context.agent).await?;
    if context.output.json {
        let entry = |kind: &EntityType| (full_name(&kind.name), json!(kind.operations));
        return context
            .output
            .document(&Json::Object(schema.types.iter().map(entry).collect()));
    }
    let mut table = Table::new(["type", "operations"]);
    for kind in &schema.types {
        table.push(vec![
            Cell::text(&kind.name),
            Cell::text(kind.operations.join(", ")),
        ]);
    }
    context.output.text(&table.render(context.output.style))
}

pub(crate) async fn attributes(context: &mut Context, kind: &str) -> Outcome {
    let schema = context.client.schema(&context.agent).await?;
    let Some(found) = schema.find(kind) else {
        let text = format!("there is no type {kind}; 'routerctl types' lists them");
        return Err(Failure::Refused(text));
    };
    if context.output.json {
        let attributes = found.attributes.iter().map(described);
        return context.output.document(&attributes.collect());
    }
    let mut table = Table::new([
        "attribute",
        "type",
        "default",
        "may be set",
        "what it is for",
    ]);
    for attribute in &found.attributes {
        table.push(vec![
            Cell::text(&attribute.name),
            Cell::text(kind_of(attribute)),
            Cell::text(text(&attribute.default)),
            Cell::text(settable(attribute)),
            Cell::text(&attribute.description),
        ]);
    }
    context.output.text(&table.render(context.output.style))
}

/// The values as the router wants them. A router without a schema gets guesses.
async fn parse(context: &mut Context, kind: &str, pairs: &[String]) -> Outcome<Row> {
    let schema = match context.client.schema(&context.agent).await {
        Err(Failure::Refused(_)) => Schema::default(),
        schema => schema?,
    };
    // Whoever types a secret may take longer than the router waits to hear of us.
    let (kind, pairs) = (kind.to_owned(), pairs.to_vec());
    let parsed = spawn_blocking(move || schema.attributes(&kind, &pairs)).await;
    parsed.expect("it does not panic, and nobody cancels it")
}

fn show(context: &Context, row: Row) -> Outcome {
    match context.output.json {
        true => context.output.document(&Json::Object(row)),
        false => context
            .output
            .text(&report::of_entity(&row, context.output.style)),
    }
}

fn described(attribute: &Attribute) -> Json {
    json!({
        "name": attribute.name,
        "description": attribute.description,
        "type": attribute.kind,
        "default": attribute.default,
        "required": attribute.required,
        "create": attribute.create,
        "update": attribute.update,
        "hidden": attribute.hidden,
    })
}

fn kind_of(attribute: &Attribute) -> String {
    match attribute.kind.as_array() {
        Some(words) => words.iter().map(text).collect::<Vec<_>>().join("|"),
        None => text(&attribute.kind),
    }
}

fn settable(attribute: &Attribute) -> &'static str {
    match attribute {
        Attribute {
            required: true,
            create: true,
            ..
        } => "at creation, and must be",
        Attribute {
            create: true,
            update: true,
            ..
        } => "always",
        Attribute { create: true, .. } => "at creation",
        Attribute { update: true, .. } => "later",
        _ => "never",
    }
}

impl<'a> From<&'a Subject> for client::Subject<'a> {
    fn from(subject: &'a Subject) -> Self {
        let Subject { kind, name } = subject;
        Self { kind, name }
    }
}
