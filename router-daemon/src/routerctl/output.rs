//! Where answers go: text that suits the terminal, or JSON.

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};
use serde_json::Value as Json;

use crate::failure::Outcome;
use crate::options::at_least_0;
use crate::table::Style;

#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputOptions {
    /// Print one JSON document; with --watch, and what has no end, one a line
    #[arg(long, global = true)]
    pub(crate) json: bool,

    /// When to use colours; `auto` wants a terminal, and NO_COLOR unset
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", global = true)]
    color: When,

    /// How wide tables may be; without it, as wide as the terminal, or as they need where there is
    /// none
    #[arg(
        long,
        value_name = "COLUMNS",
        global = true,
        allow_negative_numbers = true
    )]
    #[arg(value_parser = at_least_0::<u16>)]
    width: Option<u16>,
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum When {
    #[default]
    Auto,
    Always,
    Never,
}

/// Standard output, as the options want it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) style: Style,
    terminal: bool,
}

impl OutputOptions {
    pub(crate) fn open(&self) -> Output {
        let terminal = io::stdout().is_terminal();
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = match self.color {
            When::Auto => terminal && !no_colour,
            When::Always => true,
            When::Never => false,
        };
        let of_terminal =
            || terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0);
        let width = self.width.or_else(of_terminal).map(usize::from);
        let style = Style { width, colour };
        let json = self.json;
        Output {
            json,
            style,
            terminal,
        }
    }
}

impl Output {
    /// Prints text that has its line ends.
    pub(crate) fn text(&self, text: &str) -> Outcome {
        self.octets(text.as_bytes())
    }

    /// Writes what may be no text.
    pub(crate) fn octets(&self, octets: &[u8]) -> Outcome {
        let mut stdout = io::stdout().lock();
        stdout.write_all(octets)?;
        Ok(stdout.flush()?)
    }

    /// Prints the only document.
    pub(crate) fn document(&self, json: &Json) -> Outcome {
        self.text(&format!("{json:#}\n"))
    }

    /// Prints one of many documents.
    pub(crate) fn line(&self, json: &Json) -> Outcome {
        self.text(&format!("{json}\n"))
    }

    /// Prints the next state of something watched, over the last one where that can be.
    pub(crate) fn refresh(&self, first: bool, text: &str) -> Outcome {
        match (self.terminal, first) {
            (true, _) => self.text(&format!("{CLEAR}{text}")),
            (false, true) => self.text(text),
            (false, false) => self.text(&format!("\n{text}")),
        }
    }
}

/// To the first place of an empty screen.
const CLEAR: &str = "\x1b[H\x1b[2J";
