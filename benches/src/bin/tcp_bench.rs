//! Measures TCP services: directly, through haproxy, through one and two routers.

use std::process::ExitCode;

use benches::tcp::{self, Options};
use clap::Parser;

/// Puts loads on several ways to one service, in alternation, and prints a table.
#[derive(Debug, Parser)]
#[command(name = "tcp-bench", version)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match tcp::run(&Arguments::parse().options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tcp-bench: {error}");
            ExitCode::FAILURE
        }
    }
}
