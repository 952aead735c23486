//! `routerctl`: what operators of AMQP routers ask them, and tell them.
//!
//! [`client`] speaks the management protocol, [`report`] turns rows into text, and [`commands`]
//! joins the two as the command line asks.

mod client;
mod commands;
mod connection;
mod ended;
mod failure;
mod files;
mod filter;
mod options;
mod output;
mod report;
mod sasl;
mod schema;
mod table;
mod tls;
mod value;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // clap itself prints usage errors, and ends with 2.
    let options = options::Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(text) = failure.text() {
                eprintln!("routerctl: {text}");
            }
            failure.exit_code()
        }
    }
}

fn run(options: options::Options) -> failure::Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(commands::run(options));
    // A read of standard input that goes on must not keep us.
    runtime.shutdown_background();
    outcome
}
