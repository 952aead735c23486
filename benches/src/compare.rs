//! Several routers under the same loads, in alternation, so that what else the machine does falls on
//! all of them alike.

mod chain;
mod table;
mod target;

use clap::Parser;
use serde::Serialize;

use crate::error::Error;
use crate::options::Options;
use crate::report::Report;
use crate::run::run;
pub use chain::Chain;
pub use table::{Summary, markdown, summarize};
pub use target::{Launch, Target};

/// Runs a matrix of loads over several routers and prints a table of medians.
#[derive(Debug, Clone, Parser)]
#[command(name = "router-compare", version)]
pub struct CompareOptions {
    /// A running router, as `name=host:port@pid`; without `@pid` its CPU time is not known. Of a
    /// network, `name=host:port>host:port@pid,pid`: where senders attach, and where receivers do.
    #[arg(long, value_parser = Target::parse)]
    pub target: Vec<Target>,
    /// A router to start and end, as `name=command with {port}`, for a shell. A command of several
    /// parts must `exec` the router last, so that the process seen is the router's.
    #[arg(long, value_parser = Launch::parse)]
    pub launch: Vec<Launch>,
    /// Interior routers in a line to start and end, as `name=length*daemon`; the daemon takes
    /// `-c FILE` with a configuration of skrouterd's. Senders are at one end, receivers at the other.
    #[arg(long, value_parser = Chain::parse)]
    pub chain: Vec<Chain>,
    /// The one others are compared with; the first by default.
    #[arg(long)]
    pub baseline: Option<String>,
    /// Times each load is put on each router.
    #[arg(long, default_value_t = 5)]
    pub rounds: u32,
    /// Seconds measured in each run.
    #[arg(long, default_value_t = 5.0)]
    pub duration: f64,
    /// Seconds before measuring in each run.
    #[arg(long, default_value_t = 1.0)]
    pub warmup: f64,
    /// Only the cases whose name contains this; may be given several times.
    #[arg(long)]
    pub case: Vec<String>,
    /// Options of router-bench for every run, such as "--credit 250".
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    pub with: String,
    /// Write everything measured to this file.
    #[arg(long)]
    pub json: Option<std::path::PathBuf>,
    /// Seconds a router may take to listen.
    #[arg(long, default_value_t = 15.0)]
    pub start_timeout: f64,
}

/// One load, as options of `router-bench`.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// Its name in the table.
    pub name: &'static str,
    /// Its options.
    pub arguments: &'static str,
}

/// The matrix.
pub const CASES: &[Case] = &[
    Case {
        name: "100 B settled",
        arguments: "--size 100 --settled",
    },
    Case {
        name: "100 B unsettled",
        arguments: "--size 100 --unsettled",
    },
    Case {
        name: "1 KiB unsettled",
        arguments: "--size 1024 --unsettled",
    },
    Case {
        name: "64 KiB unsettled",
        arguments: "--size 65536 --unsettled",
    },
    Case {
        name: "latency 100 B",
        arguments: "--size 100 --mode latency",
    },
];

/// One run of one case against one target.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// The target's name.
    pub target: String,
    /// The case's name.
    pub case: &'static str,
    /// Rounds count from 0.
    pub round: u32,
    /// What was measured.
    pub report: Option<Report>,
    /// Why nothing was.
    pub error: Option<String>,
}

/// Everything measured.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Processors of the machine.
    pub processors: usize,
    /// The target others are compared with.
    pub baseline: String,
    /// Medians and ratios.
    pub summaries: Vec<Summary>,
    /// Every run.
    pub trials: Vec<Trial>,
}

impl Comparison {
    /// Whether every run gave a result.
    pub fn is_complete(&self) -> bool {
        self.trials.iter().all(|trial| trial.report.is_some())
    }
}

/// Runs the matrix. A run that fails is recorded and the others go on; `progress` hears of each.
pub fn compare(
    options: &CompareOptions,
    mut progress: impl FnMut(&Trial),
) -> Result<Comparison, Error> {
    let cases = options.cases()?;
    // Launched routers live as long as this vector.
    let launches = options.launch.iter();
    let launches = launches.map(|launch| launch.start(options.start_timeout));
    let chains = options.chain.iter();
    let chains = chains.map(|chain| chain.start(options.start_timeout));
    let launched: Vec<target::Launched> = launches.chain(chains).collect::<Result<_, _>>()?;
    let started = launched.iter().map(|launched| launched.target.clone());
    let targets: Vec<Target> = options.target.iter().cloned().chain(started).collect();
    let baseline = options.baseline(&targets)?;
    let mut trials = Vec::new();
    for round in 0..options.rounds {
        for (index, case) in cases.iter().enumerate() {
            for target in in_turn(&targets, round) {
                let address = format!("compare-{round}-{index}");
                let trial = options.try_case(target, *case, round, &address)?;
                progress(&trial);
                trials.push(trial);
            }
        }
    }
    Ok(Comparison {
        processors: std::thread::available_parallelism().map_or(0, usize::from),
        summaries: summarize(&trials, &baseline),
        baseline,
        trials,
    })
}

impl CompareOptions {
    fn cases(&self) -> Result<Vec<Case>, Error> {
        let wanted = |case: &&Case| {
            self.case.is_empty()
                || self
                    .case
                    .iter()
                    .any(|part| case.name.contains(part.as_str()))
        };
        let cases: Vec<Case> = CASES.iter().filter(wanted).copied().collect();
        match cases.is_empty() {
            true => Err(Error::Usage("no case has such a name".into())),
            false => Ok(cases),
        }
    }

    fn baseline(&self, targets: &[Target]) -> Result<String, Error> {
        let first = targets
            .first()
            .ok_or_else(|| Error::Usage("no --target, --launch or --chain".into()))?;
        let name = self.baseline.clone().unwrap_or_else(|| first.name.clone());
        match targets.iter().any(|target| target.name == name) {
            true => Ok(name),
            false => Err(Error::Usage(format!(
                "--baseline {name} is none of the targets"
            ))),
        }
    }

    fn try_case(
        &self,
        target: &Target,
        case: Case,
        round: u32,
        address: &str,
    ) -> Result<Trial, Error> {
        let options = self.options(target, case, address)?;
        let (report, error) = match run(&options) {
            Ok(report) => (Some(report), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Ok(Trial {
            target: target.name.clone(),
            case: case.name,
            round,
            report,
            error,
        })
    }

    fn options(&self, target: &Target, case: Case, address: &str) -> Result<Options, Error> {
        let own = format!(
            "router-bench --url {} --address {address} --duration {} --warmup {} {}",
            target.address, self.duration, self.warmup, self.with
        );
        let receivers = target.receivers.iter();
        let receivers = receivers.map(|address| format!("--receivers-url {address}"));
        let pids = target.pids.iter().map(|pid| format!("--pid {pid}"));
        let place: Vec<String> = receivers.chain(pids).collect();
        let arguments = [own.as_str(), case.arguments, &place.join(" ")];
        Options::try_parse_from(arguments.iter().flat_map(|part| part.split_whitespace()))
            .map_err(|error| Error::Usage(error.to_string()))
    }
}

/// Every other round goes backwards, so that none always follows the same one.
fn in_turn(targets: &[Target], round: u32) -> Box<dyn Iterator<Item = &Target> + '_> {
    match round % 2 {
        0 => Box::new(targets.iter()),
        _ => Box::new(targets.iter().rev()),
    }
}
