//! What can be configured and seen, told on the terminal.

use std::io::{self, Write};

use amqp_router::reference;
use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// What to explain, like listener or listener.host; without it, all entities are listed
    #[arg(value_name = "ENTITY[.ATTRIBUTE]")]
    name: Option<String>,

    /// Write all of it as a page of Markdown
    #[arg(long, conflicts_with = "name")]
    markdown: bool,
}

/// Prints what was asked for.
///
/// # Errors
///
/// There is no entity or attribute of this name.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let text = match options.markdown {
        true => reference::markdown(),
        false => reference::explain(options.name.as_deref(), width())
            .map_err(|error| error.to_string())?,
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever has seen enough may close a pipe.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.to_string()),
        _ => Ok(()),
    }
}

/// Columns of the terminal.
fn width() -> usize {
    let terminal = terminal_size::terminal_size_of(io::stdout());
    terminal.map_or(WITHOUT_TERMINAL, |(width, _)| usize::from(width.0))
}

const WITHOUT_TERMINAL: usize = 80;
