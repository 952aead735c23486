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
    /// Ask this router of the network, through the one that we connect to
    #[arg(short, long, value_name = "ID", global = true, conflicts_with = "edge")]
    router: Option<String>,

    /// Ask this edge router, through the interior router that we connect to
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
    /// Show the links that the router attaches to brokers
    AutoLinks(Watch),
    /// Show TCP listeners, connectors and connections
    Tcp(Watch),
    /// Show the memory that is in use
    Memory(Watch),
    /// Show or set what is logged
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
    Create {
        #[command(flatten)]
        subject: Subject,
        /// Its attributes, as NAME=VALUE; secrets as NAME=@FILE
        #[arg(value_name = "ATTR=VALUE")]
        attributes: Vec<String>,
    },
    /// Change attributes of an entity
    Update {
        #[command(flatten)]
        subject: Subject,
        /// Its new attributes, as NAME=VALUE; secrets as NAME=@FILE
        #[arg(value_name = "ATTR=VALUE", required = true)]
        attributes: Vec<String>,
    },
    /// Delete an entity
    Delete(Subject),
    /// List the types of entities, and what can be done with them
    Types,
    /// List the attributes of a type
    Attributes {
        /// The type: listener, tcpListener, link, …
        #[arg(value_name = "TYPE")]
        kind: String,
    },
    /// Have the router read its configuration file again, and do what is different
    Reload,
    /// Show what addresses and links carry now, the busiest first
    Top(Top),
    /// Show which routers a message to an address crosses, and at which cost
    Path {
        /// The address, as clients know it
        address: String,
    },
    /// Send messages to an address, and show their outcomes
    Send(Send),
    /// Receive messages from an address
    Recv(Receive),
    /// Measure how long the router takes to answer
    Ping(Ping),
    /// Write completions for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum LogCommand {
    /// Show the latest lines that the router has logged; it keeps about 1000
    Show {
        /// How many
        #[arg(long, value_name = "N", default_value = "50")]
        limit: u32,
    },
    /// Show the levels of a module, or of all
    Get {
        /// The module: SERVER, ROUTER, TCP_ADAPTOR, DEFAULT, …
        module: Option<String>,
    },
    /// Set the levels of a module
    Set {
        /// The module: SERVER, ROUTER, TCP_ADAPTOR, DEFAULT, …
        module: String,
        /// none, debug, info, warning, error or critical; `+` adds those above; several with commas
        level: String,
    },
}

/// How a report is repeated.
#[derive(Clone, Debug, Args)]
pub(crate) struct Watch {
    /// Refresh after so many seconds (2), until interrupted
    #[arg(short, long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2")]
    #[arg(value_parser = seconds)]
    pub(crate) watch: Option<Duration>,

    /// Stop after so many reports
    #[arg(long, value_name = "N", requires = "watch")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Query {
    /// The type: listener, tcpListener, link, …
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,

    /// Show only this attribute (repeatable)
    #[arg(short, long = "attribute", value_name = "NAME")]
    pub(crate) attributes: Vec<String>,

    /// Show only entities like this: NAME=VALUE, NAME!=VALUE, NAME~SUBSTRING (repeatable, all hold)
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) filters: Vec<Filter>,

    #[command(flatten)]
    pub(crate) watch: Watch,
}

#[derive(Debug, Args)]
pub(crate) struct Subject {
    /// The type: listener, tcpListener, link, …
    #[arg(value_name = "TYPE")]
    pub(crate) kind: String,

    /// Its name, or its identity
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

#[derive(Debug, Args)]
pub(crate) struct Ping {
    /// How many requests
    #[arg(long, value_name = "N", default_value = "4")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,

    /// Seconds between them
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Stop after so many looks
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,

    /// Seconds between two looks
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    pub(crate) interval: Duration,

    /// How many addresses and links to show
    #[arg(long, value_name = "N", default_value = "20")]
    pub(crate) rows: usize,
}

#[derive(Debug, Args)]
pub(crate) struct Send {
    /// The address to send to
    pub(crate) address: String,

    /// A message each; without any, standard input is the message
    #[arg(value_name = "BODY", conflicts_with = "file")]
    pub(crate) bodies: Vec<String>,

    /// Send all of them so many times
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: u64,

    /// Send what this file has, as data
    #[arg(long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,

    /// Send settled, and learn no outcome
    #[arg(long)]
    pub(crate) settled: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Receive {
    /// The address to receive from
    pub(crate) address: String,

    /// How many messages; 0 for no end. --timeout is the time to wait for each, if there is an end
    #[arg(long, value_name = "N", default_value = "1")]
    pub(crate) count: u64,

    /// Write bodies alone, and no end of line after each
    #[arg(long, conflicts_with = "json")]
    pub(crate) raw: bool,
}

const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  the router refused or closed a link, or there is nothing of that kind
  2  the command line makes no sense, or a file that it names cannot be used
  3  there is no connection to the router, or it broke
  4  no answer, message or credit came in time";
