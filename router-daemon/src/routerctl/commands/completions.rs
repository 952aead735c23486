//! `completions`: what shells need to complete our command line.

use clap_complete::{Shell, generate};

use crate::failure::Outcome;
use crate::output::Output;

pub(crate) fn print(shell: Shell, command: &mut clap::Command, output: Output) -> Outcome {
    let mut script = Vec::new();
    generate(shell, command, "routerctl", &mut script);
    output.text(&String::from_utf8_lossy(&script))
}
