//! Starting and stopping the router.

use std::path::{Path, PathBuf};

use amqp_router::runtime::log::{Format, Log};
use amqp_router::runtime::shutdown::{Asked, Signals};
use amqp_router::{Config, ConfigError, ConfigErrors, Router};
use tracing::{error, info, warn};

use crate::environment::{FromEnvironment, variable};
use crate::{LogFormat, Options, detach};

/// What a router starts from.
pub(crate) struct Startup {
    config: Source,
    log_format: Format,
    /// Housekeeping periods are to be short.
    test_hooks: bool,
}

/// Where its configuration is.
enum Source {
    File(PathBuf),
    Environment(FromEnvironment),
    BuiltIn,
}

impl Source {
    /// Reads it; again, if that is possible.
    fn load(&self) -> Result<Config, String> {
        match self {
            Self::File(file) => load(file),
            Self::Environment(found) => {
                let again = found.clone();
                let config = found.load(&variable)?;
                Ok(config.read_again_with(move || again.load(&variable)))
            }
            Self::BuiltIn => Ok(Config::built_in()),
        }
    }
}

impl Startup {
    pub(crate) fn of(options: &Options) -> Result<Self, String> {
        let log_format = match options.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        };
        let config = match &options.config {
            Some(file) => Source::File(detach::absolute(file)?),
            None => FromEnvironment::find(&variable).map_or(Source::BuiltIn, Source::Environment),
        };
        Ok(Self {
            config,
            log_format,
            test_hooks: options.test_hooks,
        })
    }
}

/// Runs a router until a signal stops it; calls `ready` once it is up.
///
/// # Errors
///
/// What keeps it from starting.
pub(crate) fn run(
    startup: Startup,
    ready: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let log = Log::new(startup.log_format);
    log.install();
    // Each connection takes a file descriptor; the usual soft limit is for programs that use
    // select(2). A system that refuses keeps what there is.
    if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
        warn!(target: "SERVER", "The limit on open files cannot be raised: {error}");
    }
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(serve(startup, log, ready)));
    if let Err(error) = &outcome {
        error!(target: "ROUTER", critical = true, "Router start-up failed: {error}");
    }
    outcome
}

/// Reads a configuration file and says what is wrong with it; what is only odd is a warning on
/// standard error.
///
/// # Errors
///
/// Every mistake in it, a line each.
pub(crate) fn check(file: &Path) -> Result<(), String> {
    Log::new(Format::Text).install();
    load(file)?.check().map_err(|error| error.to_string())?;
    println!("{}: valid", file.display());
    Ok(())
}

async fn serve(
    startup: Startup,
    log: Log,
    ready: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let mut signals = Signals::install().map_err(|error| format!("signals: {error}"))?;
    let mut config = startup.config.load()?;
    if startup.test_hooks {
        config.shorten_housekeeping();
    }
    let workers = config.worker_threads();
    info!(target: "ROUTER", "Router {} starting", config.router_id());
    let router = Router::start_with_log(config, Some(log)).map_err(|error| error.to_string())?;
    let process = std::process::id();
    info!(
        target: "SERVER",
        "Operational, {workers} Threads Running (process ID {process})"
    );
    if matches!(startup.config, Source::BuiltIn) {
        welcome(&router);
    }
    ready()?;
    loop {
        let asked = tokio::select! {
            asked = signals.next() => asked,
            thread = router.failed() => {
                let text = format!("the thread '{thread}' has panicked, which is a bug");
                error!(target: "ROUTER", critical = true, "Router failed: {text}");
                // What else runs can only do harm: whoever watches over the process starts it anew.
                std::process::exit(FAILED);
            }
        };
        match asked {
            Asked::Stop(signal) => {
                info!(target: "ROUTER", "Stopping on {signal}");
                router.stop().await;
                return Ok(());
            }
            Asked::Reload => reload(&router, &startup.config).await,
        }
    }
}

/// The log says what became of it.
async fn reload(router: &Router, source: &Source) {
    match source {
        Source::BuiltIn => {
            warn!(target: "ROUTER", "SIGHUP: the router has no configuration file to read again");
            return;
        }
        Source::Environment(_) => {
            info!(target: "ROUTER", "SIGHUP: reading what QDROUTERD_CONF names again");
        }
        Source::File(file) => {
            info!(target: "ROUTER", "SIGHUP: reading {} again", file.display());
        }
    }
    let outcome = match source.load() {
        Ok(config) => router.reload(config).await.map_err(|e| e.to_string()),
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        error!(target: "ROUTER", "The configuration stays as it is: {error}");
    }
}

fn load(file: &Path) -> Result<Config, String> {
    let name = file.display().to_string();
    Config::from_file(file).map_err(|errors| fault(&name, &errors))
}

/// What is wrong with a configuration, in skrouterd's words.
pub(crate) fn fault(name: &str, errors: &ConfigErrors) -> String {
    let mistakes: Vec<_> = errors.0.iter().map(ConfigError::within_file).collect();
    let text = match &mistakes[..] {
        [one] => format!(" {one}"),
        many => many.iter().map(|one| format!("\n  {one}")).collect(),
    };
    let of_kind = errors.0.iter().find_map(ConfigError::of_kind);
    of_kind.unwrap_or_else(|| format!("Exception: Cannot load configuration file {name}:{text}"))
}

/// Tells someone who has just started a router without configuring it what they have got.
fn welcome(router: &Router) {
    for (_, addresses) in router.listening() {
        for address in addresses {
            info!(
                target: "SERVER",
                "Attach any AMQP 1.0 client to amqp://{address} (SASL ANONYMOUS); every address \
                 exists, messages go to whoever receives from it"
            );
        }
    }
    info!(
        target: "SERVER",
        "Only this host can connect: -c FILE takes a configuration, --help tells more"
    );
}

/// How the process ends when a part of the router has, as after any other abnormal end.
const FAILED: i32 = 70;
