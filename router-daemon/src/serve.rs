//! Starting and stopping the router.

use std::fs;
use std::path::PathBuf;

use amqp_router::runtime::log::{Format, Log};
use amqp_router::runtime::shutdown::Signals;
use tracing::{error, info};

use crate::{LogFormat, Options, detach};

/// What a router starts from.
pub(crate) struct Startup {
    config: Option<PathBuf>,
    log_format: Format,
}

impl Startup {
    pub(crate) fn of(options: &Options) -> Result<Self, String> {
        let log_format = match options.log_format {
            LogFormat::Text => Format::Text,
            LogFormat::Json => Format::Json,
        };
        let config = options
            .config
            .as_deref()
            .map(detach::absolute)
            .transpose()?;
        Ok(Self { config, log_format })
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
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(serve(startup, ready)));
    if let Err(error) = &outcome {
        error!(target: "ROUTER", critical = true, "Router start-up failed: {error}");
    }
    outcome
}

async fn serve(startup: Startup, ready: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let mut signals = Signals::install().map_err(|error| format!("signals: {error}"))?;
    if let Some(file) = &startup.config {
        fs::read_to_string(file).map_err(|error| {
            let file = file.display();
            format!("Exception: Cannot load configuration file {file}: {error}")
        })?;
    }
    let port = std::env::var("PORT").unwrap_or_else(|_| "5672".into());
    let workers = std::env::var("WORKERS").ok().and_then(|w| w.parse().ok()).unwrap_or(4);
    let router = amqp_router::runtime::Router::plain("Standalone", "127.0.0.1", &port, workers)
        .map_err(|error| error.to_string())?;
    ready()?;
    let signal = signals.stop().await;
    info!(target: "ROUTER", "Stopping on {signal}");
    router.stop().await;
    Ok(())
}
