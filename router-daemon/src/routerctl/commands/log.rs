//! `log get`, `log set` and `log show`.

use jiff::Timestamp;
use serde_json::{Value as Json, json};

use super::Context;
use crate::client::{Rows, Subject, module_of};
use crate::failure::{Failure, Outcome};
use crate::options::LogCommand;
use crate::report::Report;
use crate::value::{Row, text};

pub(crate) async fn run(context: &mut Context, command: LogCommand) -> Outcome {
    let found = match command {
        LogCommand::Show { limit } => return show(context, limit).await,
        LogCommand::Get { module } => get(context, module.as_deref()).await?,
        LogCommand::Set { module, level } => set(context, &module, &level).await?,
    };
    let output = &context.output;
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

/// The module, or all; and all, for what it follows.
async fn get(context: &mut Context, module: Option<&str>) -> Outcome<[Rows; 2]> {
    let all = context.client.query(&context.agent, "log", &[]).await?;
    let mut found = all.clone();
    if let Some(module) = module {
        let wanted = module_of(module);
        let name = |row: &Row| row.get("module").map(text).unwrap_or_default();
        found.rows.retain(|row| name(row) == wanted);
        if found.rows.is_empty() {
            let modules: Vec<String> = all.rows.iter().map(name).collect();
            let modules = modules.join(", ");
            return Err(Failure::Refused(format!(
                "there is no module {module}; those of the router: {modules}"
            )));
        }
    }
    Ok([found, all])
}

async fn set(context: &mut Context, module: &str, level: &str) -> Outcome<[Rows; 2]> {
    let [mut found, _] = get(context, Some(module)).await?;
    let subject = Subject {
        kind: "log",
        name: module,
    };
    let levels = Row::from_iter([("enable".to_owned(), Json::from(level))]);
    let updated = context
        .client
        .update(&context.agent, subject, &levels)
        .await?;
    found.rows = vec![updated];
    let all = context.client.query(&context.agent, "log", &[]).await?;
    Ok([found, all])
}
