//! `reload`: the router reads its configuration file again.

use serde_json::Value as Json;

use super::Context;
use crate::failure::{Failure, Outcome};

pub(crate) async fn run(context: &mut Context) -> Outcome {
    let done = context.client.reload(&context.agent).await?;
    let texts = |key: &str| -> Vec<&str> {
        let list = done.get(key).and_then(Json::as_array);
        let texts = list.into_iter().flatten();
        texts.filter_map(Json::as_str).collect()
    };
    if context.output.json {
        context.output.document(&done)?;
    } else {
        let mut lines = String::new();
        for key in ["added", "changed", "removed"] {
            for label in texts(key) {
                lines.push_str(&format!("{key} {label}\n"));
            }
        }
        if lines.is_empty() {
            lines.push_str("nothing has changed\n");
        }
        context.output.text(&lines)?;
    }
    match texts("notApplied").as_slice() {
        [] => Ok(()),
        problems => Err(Failure::Refused(format!(
            "not applied: {}",
            problems.join("\nnot applied: ")
        ))),
    }
}
