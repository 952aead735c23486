//! Load generator for AMQP 1.0 routers; `--help` tells the options.

use std::process::ExitCode;

use benches::error::Error;
use benches::options::Options;
use benches::run::run;
use clap::Parser;

fn main() -> ExitCode {
    match print_report(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("router-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn print_report(options: &Options) -> Result<(), Error> {
    let report = run(options)?;
    match options.json {
        true => println!(
            "{}",
            serde_json::to_string(&report).expect("a report is plain data")
        ),
        false => println!("{report}"),
    }
    Ok(())
}
