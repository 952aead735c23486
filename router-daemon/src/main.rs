//! The AMQP 1.0 router as a process: `router-daemon` takes skrouterd's command line.

mod detach;
mod environment;
mod explain;
mod serve;
mod users;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};

/// An AMQP 1.0 router.
///
/// Without a configuration file it is what QDROUTERD_CONF says, as in a container of skupper-router,
/// or else a standalone router on 127.0.0.1:5672.
#[derive(Debug, Parser)]
#[command(name = "router-daemon", version, disable_version_flag = true)]
#[command(args_conflicts_with_subcommands = true)]
struct Options {
    /// Configuration of the router, in JSON (*.json) or skrouterd's conf syntax
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,

    /// Accepted for compatibility with skrouterd, and ignored
    #[arg(short = 'I', long, value_name = "DIR")]
    include: Option<PathBuf>,

    /// Run in the background; returns once the router is up
    #[arg(short, long)]
    daemon: bool,

    /// Where to write the process id (with --daemon)
    #[arg(short = 'P', long, value_name = "FILE")]
    pidfile: Option<PathBuf>,

    /// The user to run as (with --daemon)
    #[arg(short = 'U', long, value_name = "NAME")]
    user: Option<String>,

    /// Shorten housekeeping periods, for tests
    #[arg(short = 'T', long)]
    test_hooks: bool,

    /// How the log is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,

    /// Print the version
    #[arg(short, long, action = clap::ArgAction::Version)]
    version: Option<bool>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say what is wrong with a configuration file, and exit
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Explain an entity, or an attribute, of configuration files and management
    Explain(explain::Options),
    /// Manage the file of users that SASL PLAIN checks passwords against
    #[command(subcommand)]
    User(users::Command),
}

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum LogFormat {
    #[default]
    Text,
    Json,
}

fn main() -> ExitCode {
    let options = match Options::try_parse() {
        Ok(options) => options,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let outcome = match &options.command {
        Some(Command::Check { file }) => serve::check(file),
        Some(Command::Explain(options)) => explain::run(options),
        Some(Command::User(command)) => users::run(command),
        None if options.daemon => run_in_background(&options),
        None => run(&options, || Ok(())),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", own_name());
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options, ready: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    serve::run(serve::Startup::of(options)?, ready)
}

/// The process that was called starts another one and waits for it to be up; the other one is
/// the router.
fn run_in_background(options: &Options) -> Result<(), String> {
    let Some(detached) = detach::Detached::current() else {
        return detach::launch();
    };
    // File names are resolved before the directory changes.
    let outcome = serve::Startup::of(options).and_then(|startup| {
        let pidfile = options
            .pidfile
            .as_deref()
            .map(detach::absolute)
            .transpose()?;
        detached.settle(pidfile.as_deref(), options.user.as_deref())?;
        serve::run(startup, || detached.ready())
            .inspect_err(|_| pidfile.as_deref().map_or((), detach::forget))
    });
    match outcome {
        Err(error) if !detached.is_ready() => {
            // The process that was called says why.
            detached.failed(&error);
            std::process::exit(1)
        }
        outcome => outcome,
    }
}

fn own_name() -> String {
    let name = std::env::args_os()
        .next()
        .unwrap_or_else(|| OsString::from("router-daemon"));
    name.to_string_lossy().into_owned()
}
