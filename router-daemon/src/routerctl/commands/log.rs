//! `log get`, `log set` and `log show`.

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::Context;
use crate::client::{Rows, Subject};
use crate::failure::{Failure, Outcome};
use crate::options::LogCommand;
use crate::report::Report;
use crate::value::{Row, text};

pub(crate) async fn run(context: &mut Context, command: LogCommand) -> Outcome {
    let rows = match command {
        LogCommand::Show { limit } => return show(context, limit).await,
        LogCommand::Get { module } => get(context, module.as_deref()).await?,
        LogCommand::Set { module, level } => set(context, &module, &level).await?,
    };
    let (output, found) = (&context.output, [rows]);
    match output.json {
        true => output.document(&Report::Log.json(&found)),
        false => output.text(&Report::Log.text(&found, output.style)),
    }
}

/// Lines as the log has them, or in JSON objects.
async fn show(context: &mut Context, limit: u32) -> Outcome {
    let entries = context.client.log(&context.agent, limit).await?;
    let entries = entries.as_array().into_iter().flatten();
    let rows: Vec<Json> = entries.map(entry).collect();
    if context.output.json {
        return context.output.document(&Json::from(rows));
    }
    let line = |row: &Json| {
        let field = |name: &str| row.get(name).map(text).unwrap_or_default();
        let (module, level, text) = (field("module"), field("level"), field("text"));
        format!("{} {module} ({level}) {text}\n", field("time"))
    };
    let lines: String = rows.iter().map(line).collect();
    context.output.text(&lines)
}

/// An entry of GET-LOG by names: module, level, text, file, line, seconds since 1970.
fn entry(entry: &Json) -> Json {
    let field = |at: usize| entry.get(at).cloned().unwrap_or(Json::Null);
    let time = field(5)
        .as_i64()
        .and_then(|at| Timestamp::from_second(at).ok());
    json!({
        "time": time.map(|time| time.to_string()),
        "module": field(0), "level": field(1), "text": field(2),
        "file": field(3), "line": field(4),
    })
}

async fn get(context: &mut Context, module: Option<&str>) -> Outcome<Rows> {
    let mut found = context.client.query(&context.agent, "log", &[]).await?;
    let Some(module) = module else {
        return Ok(found);
    };
    let name = |row: &Row| row.get("module").map(text).unwrap_or_default();
    let modules: Vec<String> = found.rows.iter().map(name).collect();
    found
        .rows
        .retain(|row| name(row).eq_ignore_ascii_case(module));
    if found.rows.is_empty() {
        let modules = modules.join(", ");
        return Err(Failure::Refused(format!(
            "there is no module {module}; those of the router: {modules}"
        )));
    }
    Ok(found)
}

async fn set(context: &mut Context, module: &str, level: &str) -> Outcome<Rows> {
    let mut found = get(context, Some(module)).await?;
    let name = found.rows[0].get("identity").map(text).unwrap_or_default();
    let subject = Subject {
        kind: "log",
        name: &name,
    };
    let levels = Row::from_iter([("enable".to_owned(), Json::from(level))]);
    let updated = context
        .client
        .update(&context.agent, subject, &levels)
        .await?;
    found.rows = vec![updated];
    Ok(found)
}
