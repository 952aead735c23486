//! Tables of entities.

use std::ops::ControlFlow;

use super::find::{entities, family};
use super::{Backend, Refusal};
use crate::codec::Value;
use crate::management::schema::Schema;

/// Rows `offset` to `offset + count` of a type and those that refine it, or of all types one after
/// the other.
pub(super) fn query(
    schema: Option<&'static Schema>,
    names: Vec<String>,
    offset: usize,
    count: usize,
    backend: &mut dyn Backend,
) -> Result<Value, Refusal> {
    let names = columns(schema, names)?;
    let mut results = Vec::new();
    let mut skip = offset;
    let always_there = |name: &String| Schema::is_common(name);
    for schema in family(schema) {
        if results.len() == count {
            break;
        }
        // Only those count that have something to say, which the core's always have.
        let each_counts = schema.is_core() || names.iter().any(always_there);
        let _ = entities(schema, backend, &mut |show| {
            if skip > 0 && each_counts {
                skip -= 1;
                return ControlFlow::Continue(());
            }
            let entity = show();
            let row: Vec<Value> = names.iter().map(|name| entity.shown(name)).collect();
            if each_counts || row.iter().any(|value| !value.is_null()) {
                match skip {
                    0 => results.push(Value::List(row)),
                    _ => skip -= 1,
                }
            }
            match results.len() < count {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        });
    }
    let names = names.into_iter().map(Value::from).collect();
    Ok(Value::Map(vec![
        ("attributeNames".into(), Value::List(names)),
        ("results".into(), Value::List(results)),
    ]))
}

/// The columns of a query: those that were asked for, or all.
fn columns(schema: Option<&'static Schema>, names: Vec<String>) -> Result<Vec<String>, Refusal> {
    let schemas = match schema {
        Some(schema) => std::slice::from_ref(schema),
        None => Schema::all(),
    };
    let mut all: Vec<String> = Vec::new();
    for column in schemas.iter().flat_map(|schema| &schema.columns) {
        if !all.iter().any(|name| name == column) {
            all.push((*column).to_owned());
        }
    }
    if names.is_empty() {
        return Ok(all);
    }
    if names.len() > all.len() + SPARE_COLUMNS {
        return Err(Refusal::bad_request(
            "'attributeNames' has more names than there are attributes",
        ));
    }
    let unknown: Vec<&String> = names.iter().filter(|name| !all.contains(name)).collect();
    if unknown.is_empty() || schema.is_some_and(Schema::is_core) {
        return Ok(names);
    }
    let list: Vec<String> = unknown.iter().map(|name| format!("'{name}'")).collect();
    let of = schema.map(|schema| format!(" for type {}", schema.full_name()));
    Err(Refusal::not_found(format!(
        "Unknown attributes [{}]{}.",
        list.join(", "),
        of.unwrap_or_default()
    )))
}

/// Names of attributes that we do not know, which a query may have beside those that we do.
const SPARE_COLUMNS: usize = 64;
