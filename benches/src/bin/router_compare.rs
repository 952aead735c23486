//! Compares routers under the same loads; `--help` tells the options.

use std::process::ExitCode;

use benches::compare::{CompareOptions, Trial, compare, markdown};
use benches::error::Error;
use clap::Parser;

fn main() -> ExitCode {
    match print_comparison(&CompareOptions::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("router-compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_comparison(options: &CompareOptions) -> Result<bool, Error> {
    let comparison = compare(options, tell)?;
    print!("{}", markdown(&comparison));
    if let Some(path) = &options.json {
        let json = serde_json::to_vec_pretty(&comparison).expect("a comparison is plain data");
        std::fs::write(path, json)?;
    }
    Ok(comparison.is_complete())
}

fn tell(trial: &Trial) {
    let Trial {
        target,
        case,
        round,
        report,
        error,
    } = trial;
    match (report, error) {
        (Some(report), _) => eprintln!(
            "round {round}, {case}, {target}: {:.0}/s",
            report.messages_per_second
        ),
        (None, error) => eprintln!(
            "round {round}, {case}, {target}: {}",
            error.as_deref().unwrap_or("failed")
        ),
    }
}
