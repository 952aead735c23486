//! The least that can stand between a sender and a receiver: the yardstick for routers.

use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::process::ExitCode;

use benches::error::Error;
use benches::relay::{Relay, RelayOptions};
use clap::Parser;

#[derive(Debug, Parser)]
#[command(
    name = "bare-relay",
    version,
    about = "Joins one sender and one receiver per address"
)]
struct Arguments {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:5672")]
    listen: SocketAddr,
    /// Lose every so many settled messages.
    #[arg(long)]
    drop_every: Option<NonZeroU32>,
}

fn main() -> ExitCode {
    match serve(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bare-relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> Result<(), Error> {
    let options = RelayOptions {
        drop_every: arguments.drop_every,
        ..RelayOptions::default()
    };
    Relay::start(TcpListener::bind(arguments.listen)?, options)?.wait()
}
