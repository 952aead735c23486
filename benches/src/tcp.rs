//! Measures ways for TCP connections from outside: directly, through haproxy, through routers.
//!
//! Every way leads to the same service, which this process runs, and bears the same loads in
//! alternation; what counts is how the ways compare in one run.

mod load;
mod ways;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use ways::Way;

use load::{Load, Measured};

/// What is to be measured.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The router that is started for the ways through routers.
    #[arg(long, default_value = "target/release/router-daemon")]
    daemon: PathBuf,

    /// How often every way bears every load.
    #[arg(long, default_value_t = 3)]
    rounds: usize,

    /// How long each load lasts, in seconds.
    #[arg(long, default_value_t = 2.0)]
    duration: f64,

    /// Only ways that have this in their name; may be repeated.
    #[arg(long)]
    way: Vec<String>,

    /// Only loads that have this in their name; may be repeated.
    #[arg(long)]
    load: Vec<String>,

    /// A way that exists already, to a service that `--service-port` says where to run:
    /// `name=port@pid,pid`.
    #[arg(long)]
    target: Vec<String>,

    /// Where the service listens; 0 chooses.
    #[arg(long, default_value_t = 0)]
    service_port: u16,
}

/// Measures, and prints a table as Markdown.
///
/// # Errors
/// A router cannot be started, or a way does not work.
pub fn run(options: &Options) -> io::Result<()> {
    let service = load::serve(options.service_port)?;
    let mut ways = ways::start(&options.daemon, service)?;
    for target in &options.target {
        ways.push(Way::existing(target)?);
    }
    if !options.way.is_empty() {
        let wanted = |way: &Way| options.way.iter().any(|word| way.name.contains(word));
        ways.retain(wanted);
    }
    let duration = Duration::from_secs_f64(options.duration);
    let wanted = |load: &Load| {
        let name = load.name();
        options.load.is_empty() || options.load.iter().any(|word| name.contains(word))
    };
    let loads: Vec<Load> = Load::ALL.into_iter().filter(wanted).collect();
    let mut results: Vec<Vec<Vec<Measured>>> = vec![vec![Vec::new(); loads.len()]; ways.len()];
    for round in 0..options.rounds {
        for (load_number, load) in loads.iter().enumerate() {
            let mut order: Vec<usize> = (0..ways.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for way in order {
                let measured = ways[way].measure(*load, duration)?;
                results[way][load_number].push(measured);
            }
        }
    }
    print(&ways, &loads, &results);
    Ok(())
}

fn print(ways: &[Way], loads: &[Load], results: &[Vec<Vec<Measured>>]) {
    let names: Vec<String> = loads.iter().map(|load| load.name()).collect();
    println!("| way | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (way, measured) in ways.iter().zip(results) {
        let cells = loads.iter().zip(measured);
        let cells: Vec<String> = cells.map(|(load, all)| load.describe(all)).collect();
        println!("| {} | {} |", way.name, cells.join(" | "));
    }
}
