//! `log get` and `log set`.

use serde_json::Value as Json;

use super::Context;
use crate::client::{Rows, Subject};
use crate::failure::{Failure, Outcome};
use crate::options::LogCommand;
use crate::report::Report;
use crate::value::{Row, text};

pub(crate) async fn run(context: &mut Context, command: LogCommand) -> Outcome {
    let rows = match command {
        LogCommand::Get { module } => get(context, module.as_deref()).await?,
        LogCommand::Set { module, level } => set(context, &module, &level).await?,
    };
    let (output, found) = (&context.output, [rows]);
    match output.json {
        true => output.document(&Report::Log.json(&found)),
        false => output.text(&Report::Log.text(&found, output.style)),
    }
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
