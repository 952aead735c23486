//! The reports and `query`, once or again and again.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Context;
use crate::client::{Rows, hint_at_use};
use crate::failure::{Failure, Outcome};
use crate::options::{Query, Watch};
use crate::report::{self, Report};
use crate::schema::Schema;
use crate::table::wrap;
use crate::value::Row;

pub(crate) async fn show(context: &mut Context, report: Report, watch: &Watch) -> Outcome {
    let mut shown = 0;
    loop {
        let mut found = Vec::new();
        for kind in report.types() {
            found.push(context.client.query(&context.agent, kind, &[]).await?);
        }
        let json = || report.json(&found);
        let text = || report.text(&found, context.output.style);
        print(context, watch, shown, json, text)?;
        shown += 1;
        if is_last(watch, shown).await {
            return Ok(());
        }
    }
}

/// Lists entities. Without `--watch`, finding none is a failure, as for grep.
pub(crate) async fn query(context: &mut Context, query: &Query) -> Outcome {
    let mut shown = 0;
    loop {
        let found = filtered(context, query, shown == 0).await?;
        let names = match query.attributes.is_empty() {
            true => found.names.as_slice(),
            false => &once_each(&query.attributes),
        };
        let json = || -> Json { found.rows.iter().map(|row| projected(row, names)).collect() };
        let keep_empty = !query.attributes.is_empty();
        let style = context.output.style;
        let nothing = nothing(query);
        if found.rows.is_empty() && query.watch.watch.is_none() {
            if context.output.json {
                context.output.document(&json!([]))?;
            }
            return Err(Failure::Refused(nothing));
        }
        let text = || match found.rows.is_empty() {
            true => wrap(&nothing, style.width.unwrap_or(usize::MAX)),
            false => report::of_query(names, &found.rows, keep_empty, style),
        };
        print(context, &query.watch, shown, json, text)?;
        shown += 1;
        if is_last(&query.watch, shown).await {
            return Ok(());
        }
    }
}

fn once_each(names: &[String]) -> Vec<String> {
    let mut seen = HashSet::new();
    let names = names.iter().filter(|name| seen.insert(*name));
    names.cloned().collect()
}

/// That there are no rows.
fn nothing(query: &Query) -> String {
    let kind = &query.kind;
    match query.filters.as_slice() {
        [] => format!("there is no {kind}{}", hint_at_use(kind)),
        [_] => format!(
            "there is no {kind} that meets the condition{}",
            hint_at_use(kind)
        ),
        _ => format!(
            "there is no {kind} that meets all conditions{}",
            hint_at_use(kind)
        ),
    }
}

/// The rows that pass all filters, with the columns that these or the reader want; at first it is
/// looked at whether there are such columns.
async fn filtered(context: &mut Context, query: &Query, first: bool) -> Outcome<Rows> {
    let mut names = query.attributes.clone();
    if !names.is_empty() {
        names.extend(query.filters.iter().map(|filter| filter.name.clone()));
    }
    let names = once_each(&names);
    let mut found = context
        .client
        .query(&context.agent, &query.kind, &names)
        .await?;
    if first {
        let of_filters = query.filters.iter().map(|filter| &filter.name);
        let asked = of_filters.chain(&query.attributes);
        if let Some(name) = unknown(context, query, &found, asked).await? {
            let kind = &query.kind;
            return Err(Failure::Usage(format!(
                "{kind} has no attribute '{name}'; 'routerctl attributes {kind}' lists what it has"
            )));
        }
    }
    let admitted = |row: &Row| query.filters.iter().all(|filter| filter.admits(row));
    found.rows.retain(admitted);
    Ok(found)
}

/// The first of the attributes that the type does not have. Routers give back a column for whatever
/// is asked for, so one without values is looked up in the schema.
async fn unknown<'a>(
    context: &mut Context,
    query: &Query,
    found: &Rows,
    names: impl Iterator<Item = &'a String>,
) -> Outcome<Option<&'a String>> {
    let is_silent = |name: &&String| {
        if COMMON.contains(&name.as_str()) {
            return false;
        }
        let mut values = found.rows.iter().filter_map(|row| row.get(*name));
        values.all(|value| value.is_null())
    };
    let silent: Vec<&String> = names.filter(is_silent).collect();
    if silent.is_empty() {
        return Ok(None);
    }
    let schema = match context.client.schema(&context.agent).await {
        Err(Failure::Refused(_)) => Schema::default(),
        schema => schema?,
    };
    let is_unknown = |name: &&String| match schema.find(&query.kind) {
        Some(kind) => kind.attributes.iter().all(|one| one.name != **name),
        None => !found.names.contains(*name),
    };
    Ok(silent.into_iter().find(is_unknown))
}

fn projected(row: &Row, names: &[String]) -> Json {
    let pairs = names.iter().map(|name| {
        let value = row.get(name).cloned().unwrap_or_default();
        (name.clone(), value)
    });
    Json::Object(pairs.collect())
}

fn print(
    context: &Context,
    watch: &Watch,
    shown: u64,
    json: impl FnOnce() -> Json,
    text: impl FnOnce() -> String,
) -> Outcome {
    let output = &context.output;
    match (output.json, watch.watch) {
        (true, None) => output.document(&json()),
        (true, Some(_)) => output.line(&json()),
        (false, None) => output.text(&text()),
        (false, Some(_)) => output.refresh(shown == 0, &text()),
    }
}

/// Waits until it is time for the next report, if there is one.
async fn is_last(watch: &Watch, shown: u64) -> bool {
    let Some(period) = watch.watch else {
        return true;
    };
    if watch.count.is_some_and(|count| shown >= count) {
        return true;
    }
    tokio::time::sleep(period.max(SHORTEST)).await;
    false
}

/// What every entity has, whatever the schema says of its type.
const COMMON: &[&str] = &["name", "identity", "type"];
/// A router has better things to do than to be watched.
const SHORTEST: Duration = Duration::from_millis(50);
