//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;

use crate::client::Agent;
use crate::connection::{ConnectionOptions, seconds};
use crate::filter::Filter;
use crate::output::OutputOptions;

/// Shows and changes AMQP routers while they run, and tries them out.
#[derive(Debug, Parser)]
#[command(name = "routerctl", version, after_help = EXIT_CODES)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) connection: ConnectionOptions,

    #[command(flatten)]
    pub(crate) target: TargetOptions,

    #[command(flatten)]
    pub(crate) output: OutputOptions,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(crate) struct TargetOptions {
    /// Ask the router with this id, through the one that we connect to
    #[arg(short, long, value_name = "ID", global = true, conflicts_with = "edge")]
    router: Option<String>,

    /// Ask the edge router with this id, through the interior router that we connect to
    #[arg(short, long, value_name = "ID", global = true)]
    edge: Option<String>,
}

impl TargetOptions {
    /// Whether another router is meant than the one that we connect to.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.router.is_some() || self.edge.is_some()
    }

    pub(crate) fn agent(&self) -> Agent {
        match (&self.router, &self.edge) {
            (Some(id), _) => Agent::Router(id.clone()),
            (None, Some(id)) => Agent::Edge(id.clone()),
            (None, None) => Agent::Connected,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show what the router is and how it does
    Status(Watch),
    /// Show the connections
    Connections(Watch),
    /// Show the links
    Links(Watch),
    /// Show the addresses
    Addresses(Watch),
    /// Show the routers of the network, and the ways to them
    Nodes(Watch),
    /// Show the auto links: those that the router itself attaches to brokers
    AutoLinks(Watch),
    /// Show TCP listeners, connectors and connections
    Tcp(Watch),
    /// Show the memory that the router uses
    Memory(Watch),
    /// Show the levels that are logged, set them, or show what has been logged
    #[command(args_conflicts_with_subcommands = true)]
    Log {
        #[command(flatten)]
        watch: Watch,
        #[command(subcommand)]
        command: Option<LogCommand>,
    },
    /// List the entities of a type
    Query(Query),
    /// Show one entity
    Read(Subject),
    /// Create an entity
    Create(Create),
    /// Change attributes of an entity
    Update {
        #[command(flatten)]
        subject: Subject,
        /// The attributes to change, of those that `attributes` says can be; a secret as
        /// ATTRIBUTE=@FILE (`@-`: a line of standard input)
        #[arg(value_name = "ATTRIBUTE=VALUE", required = true)]
        attributes: Vec<String>,
    },
    /// Delete an entity
    Delete(Subject),
    /// List the types of entities, and what can be done with them
    Types,
    /// List the attributes of a type of entities, and what each is for
    Attributes {
        /// The type, as `types` lists it: listener, tcpListener, link, …
        #[arg(value_name = "TYPE")]
        kind: String,
    },
    /// Have the router read its configuration file again, and do what is different
    Reload,
    /// Show what addresses and links carry now, the busiest first
    Top(Top),
    /// Show which routers a message to an address crosses to each that has consumers, and the cost
    Path {
        /// The address, as clients know it
        address: String,
    },
    /// Send messages to an address, and show their outcomes
    Send(Send),
    /// Receive messages from an address
    Recv(Receive),
    /// Measure how long the management of the router takes to answer
    Ping(Ping),
    /// Write completions for a shell
    Completions {
        /// The shell that is to complete
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show the latest lines that the router has logged; it keeps about 1000
    Show {
        /// How many lines
        #[arg(
            long,
            value_name = "N",
            default_value = "50",
            allow_negative_numbers = true
        )]
        #[arg(value_parser = at_least_0::<u32>)]
        limit: u32,
    },
    /// Show the levels that are logged, of a module or of all; in JSON `followsDefault` lists what
    /// is DEFAULT's
    Get {
        /// The module: SERVER, ROUTER, TCP_ADAPTOR, DEFAULT, …; without it, all
        module: Option<String>,
    },
    /// Set the levels of a module that are logged, until the router stops
    Set {
        /// The module: SERVER, ROUTER, TCP_ADAPTOR, …; DEFAULT is for all that have none of their own
        module: String,
        /// debug, info, warning, error or critical, several with commas; a `+` after one adds those
        /// above it. Or none, or default for what DEFAULT has
        level: String,
    },
}

/// How a report is repeated.
#[derive(Clone, Debug, Args)]
pub(crate) struct Watch {
    /// Show it again every so many seconds (2 if none are given), until interrupted
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) watch: Option<Duration>,

    /// With --watch, stop after so many times
    #[arg(long, value_name = "N", requires = "watch")]
    #[arg(value_parser = at_least_1, allow_negative_numbers = true)]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// The type, as `types` lists it: listener, tcpListener, link, …
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,

    /// Show only this attribute (repeatable)
    #[arg(short, long = "attribute", value_name = "NAME")]
    pub(crate) attributes: Vec<String>,

    /// Show only entities with ATTRIBUTE=VALUE, ATTRIBUTE!=VALUE or ATTRIBUTE~SUBSTRING (repeatable:
    /// those that meet all). Values are written as the query shows them
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filters: Vec<Filter>,

    #[command(flatten)]
    pub(crate) watch: Watch,
}

#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// The type, as `types` lists it: tcpListener, sslProfile, vhost, …
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,

    /// The name or the identity of the entity, as `query` shows them
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The type, as `types` lists it: listener, tcpListener, address, …
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,

    /// The name that the new entity is to have
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    /// Its other attributes, as `attributes` lists them; a secret as ATTRIBUTE=@FILE (`@-`: a line
    /// of standard input)
    #[arg(value_name = "ATTRIBUTE=VALUE")]
    pub(crate) attributes: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// How many requests
    #[arg(long, value_name = "N", default_value = "4")]
    #[arg(value_parser = at_least_1, allow_negative_numbers = true)]
    pub(crate) count: u64,

    /// Seconds between an answer and the next request
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    #[arg(value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) interval: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Stop after so many times; without it, go on until interrupted
    #[arg(long, value_name = "N")]
    #[arg(value_parser = at_least_1, allow_negative_numbers = true)]
    pub(crate) count: Option<u64>,

    /// Seconds over which rates are taken, and after which they are shown again
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    #[arg(value_parser = seconds, allow_negative_numbers = true)]
    pub(crate) interval: Duration,

    /// How many addresses, and how many links, to show; --json has all
    #[arg(long, value_name = "N", default_value = "20")]
    #[arg(value_parser = at_least_0::<usize>, allow_negative_numbers = true)]
    pub(crate) rows: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The address to send to
    pub(crate) address: String,

    /// A message each, as text; without any, what standard input has is the message
    #[arg(
        value_name = "BODY",
        conflicts_with = "file",
        allow_negative_numbers = true
    )]
    pub(crate) bodies: Vec<String>,

    /// Send all of them so many times
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = at_least_1, allow_negative_numbers = true)]
    pub(crate) count: u64,

    /// Send what this file has, as data; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Send the messages settled: nobody says what becomes of them
    #[arg(long)]
    pub(crate) settled: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Receive {
    /// The address to receive from
    pub(crate) address: String,

    /// How many messages, each of which --timeout waits for; with 0, all that ever come
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = at_least_0::<u64>, allow_negative_numbers = true)]
    pub(crate) count: u64,

    /// Write no end of line after each body
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}

/// A whole number from 0 on, as far as the type goes.
pub(crate) fn at_least_0<T: TryFrom<u64>>(text: &str) -> Result<T, &'static str> {
    let number: u64 = text.parse().map_err(|_| "not a whole number from 0 on")?;
    T::try_from(number).map_err(|_| "too large")
}

fn at_least_1(text: &str) -> Result<u64, &'static str> {
    match at_least_0(text) {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("not a whole number from 1 on"),
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the router refused or closed a link, or there is nothing of that kind
  2  the command line makes no sense, or a file that it names cannot be used
  3  there is no connection to the router, or it broke
  4  no answer, message or credit came in time";
