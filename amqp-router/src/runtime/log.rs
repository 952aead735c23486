//! The log, as skrouterd writes it and as its `log` entities steer it.
//!
//! ```text
//! 2026-11-23 03:48:39.774844 +0000 SERVER (info) [C1] Accepted from 127.0.0.1:40312
//! ```
//!
//! Code logs with `tracing`: `info!(target: "SERVER", conn = 1, "Accepted from {peer}")`. The
//! target is the name of a [`Module`]; without one the path of the Rust module decides
//! ([`Module::of_target`]). The fields `conn` and `link`, on the event or on spans around it,
//! become the prefix `[C1][L2]`; an `error!` with a field `critical` is of level critical; other
//! fields follow the text as `key=value`.
//!
//! What no module lets through costs one load of an atomic where it would have been logged: the
//! decision is kept at the call site until [`Log::configure`] changes it.

mod file;
mod line;
mod module;
mod output;
#[cfg(unix)]
mod syslog;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jiff::Timestamp;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber, span};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use line::{Identity, Line};
pub use line::{TimeFormat, TimeFormatError};
pub use module::{Level, Levels, Module, UnknownLevel};
use output::Output;

/// The log of a router; clones share it.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    format: Format,
    /// The levels of each module: what call sites ask.
    levels: [AtomicU8; Module::COUNT],
    config: RwLock<Config>,
    recent: Mutex<Recent>,
    counts: [[AtomicU64; Level::COUNT]; Module::COUNT],
}

/// The latest entries.
#[derive(Default)]
struct Recent {
    entries: VecDeque<Entry>,
    /// How many there have ever been.
    total: u64,
}

struct Config {
    settings: [Settings; Module::COUNT],
    outputs: [Arc<Output>; Module::COUNT],
    time: TimeFormat,
}

impl Log {
    /// A log with the defaults of skrouterd: `info+` of every module to stderr, with timestamps
    /// and without source.
    pub fn new(format: Format) -> Self {
        let stderr = Arc::new(Output::Stderr);
        Self(Arc::new(Shared {
            format,
            levels: std::array::from_fn(|_| AtomicU8::new(Levels::default().bits())),
            config: RwLock::new(Config {
                settings: std::array::from_fn(|_| Settings::default()),
                outputs: std::array::from_fn(|_| stderr.clone()),
                time: TimeFormat::default(),
            }),
            recent: Mutex::default(),
            counts: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
        }))
    }

    /// Makes this the log of the whole process; false if it has one already.
    pub fn install(&self) -> bool {
        let subscriber = tracing_subscriber::registry().with(self.layer());
        tracing::subscriber::set_global_default(subscriber).is_ok()
    }

    /// This log as a part of an embedder's own subscriber.
    pub fn layer<S>(&self) -> impl Layer<S> + Send + Sync + 'static
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        Writer(self.clone()).with_filter(Gate(self.clone()))
    }

    /// Sets how a module logs, in place of all that was set for it; what is absent follows
    /// [`Module::Default`], and what is absent there is skrouterd's default.
    ///
    /// # Errors
    ///
    /// The output cannot be opened; nothing has changed then.
    pub fn configure(&self, module: Module, settings: Settings) -> Result<(), LogError> {
        let mut config = self
            .0
            .config
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut changed = config.settings.clone();
        changed[module as usize] = settings;
        let mut outputs = Vec::with_capacity(Module::COUNT);
        for of in Module::all() {
            let name = pick(&changed, of, |settings| settings.output_file.as_deref());
            let name = name.unwrap_or("stderr");
            let known = outputs
                .iter()
                .chain(&config.outputs)
                .find(|known| known.is_named(name));
            let output = match known {
                Some(output) => output.clone(),
                None => Arc::new(Output::open(name).map_err(|reason| LogError {
                    module,
                    output_file: name.into(),
                    reason: reason.to_string(),
                })?),
            };
            outputs.push(output);
        }
        config.outputs = outputs
            .try_into()
            .unwrap_or_else(|_| unreachable!("one per module"));
        for of in Module::all() {
            let levels = pick(&changed, of, |settings| settings.enable).unwrap_or_default();
            self.0.levels[of as usize].store(levels.bits(), Ordering::Relaxed);
        }
        config.settings = changed;
        drop(config);
        tracing::callsite::rebuild_interest_cache();
        Ok(())
    }

    /// What was set for a module.
    pub fn settings(&self, module: Module) -> Settings {
        self.0
            .config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .settings[module as usize]
            .clone()
    }

    /// Sets how the router writes the time.
    pub fn set_time_format(&self, time: TimeFormat) {
        self.0
            .config
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .time = time;
    }

    /// The latest entries, at most `limit` of the last [`Log::KEPT`], oldest first.
    pub fn recent(&self, limit: usize) -> Vec<Entry> {
        let recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = &recent.entries;
        let skipped = entries.len().saturating_sub(limit);
        entries.iter().skip(skipped).cloned().collect()
    }

    /// Entries that are `wanted` among those after the first `seen` that there have ever been, as
    /// far as they are still kept, oldest first; and how many there have ever been.
    pub(crate) fn since(&self, seen: u64, wanted: impl Fn(&Entry) -> bool) -> (Vec<Entry>, u64) {
        let recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = recent.total.saturating_sub(seen);
        let fresh = usize::try_from(fresh).unwrap_or(usize::MAX);
        let entries = &recent.entries;
        let entries = entries.iter().skip(entries.len().saturating_sub(fresh));
        let wanted = entries.filter(|entry| wanted(entry));
        (wanted.cloned().collect(), recent.total)
    }

    /// How many entries of a level a module has logged.
    pub fn count(&self, module: Module, level: Level) -> u64 {
        self.0.counts[module as usize][level as usize].load(Ordering::Relaxed)
    }

    /// How many entries are kept for GET-LOG.
    pub const KEPT: usize = 1000;

    fn levels(&self, module: Module) -> Levels {
        Levels::from_bits(self.0.levels[module as usize].load(Ordering::Relaxed))
    }

    fn lets_through(&self, metadata: &Metadata<'_>) -> bool {
        match metadata.is_span() {
            true => Identity::is_in(metadata.fields()),
            false => {
                let level = Level::of(metadata);
                self.levels(Module::of_target(metadata.target()))
                    .contains(level)
            }
        }
    }

    fn write(&self, line: Line) {
        let (module, level) = (line.module, line.level);
        self.0.counts[module as usize][level as usize].fetch_add(1, Ordering::Relaxed);
        {
            let config = self.0.config.read().unwrap_or_else(PoisonError::into_inner);
            let of = |get: fn(&Settings) -> Option<bool>| pick(&config.settings, module, get);
            let output = &config.outputs[module as usize];
            // Syslog puts the time to it by itself.
            let stamped = of(|s| s.include_timestamp).unwrap_or(true) && !output.is_syslog();
            let time = stamped.then_some(&config.time);
            let source = of(|s| s.include_source).unwrap_or(false);
            let text = match self.0.format {
                Format::Text => line.text(time, source),
                Format::Json => line.json(time, source),
            };
            output.write(level, text);
        }
        let mut recent = self.0.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.entries.len() == Self::KEPT {
            recent.entries.pop_front();
        }
        recent.entries.push_back(line.into_entry());
        recent.total += 1;
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("format", &self.0.format)
            .finish_non_exhaustive()
    }
}

/// The attributes of a `log` entity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub enable: Option<Levels>,
    pub include_timestamp: Option<bool>,
    pub include_source: Option<bool>,
    /// `stdout`, `stderr`, `syslog`, or a file to append to. A file that is moved away or deleted is
    /// followed by a new one of its name within a second.
    pub output_file: Option<String>,
}

impl Settings {
    /// These, and skrouterd's defaults for what is absent.
    pub(crate) fn or_default(self) -> Self {
        Self {
            enable: self.enable.or_else(|| Some(Levels::default())),
            include_timestamp: self.include_timestamp.or(Some(true)),
            include_source: self.include_source.or(Some(false)),
            output_file: self.output_file.or_else(|| Some("stderr".into())),
        }
    }
}

/// How lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As skrouterd does.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// A logged entry, as GET-LOG returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub module: Module,
    pub level: Level,
    pub text: String,
    pub file: &'static str,
    pub line: u32,
    pub time: Timestamp,
}

/// Why a log cannot be written where it should.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "log/{module}: Configuration: Failed to open log file '{output_file}', the 'outputFile': {reason}"
)]
pub struct LogError {
    module: Module,
    output_file: String,
    reason: String,
}

/// The module's own setting or else that of DEFAULT.
fn pick<'a, T>(
    settings: &'a [Settings; Module::COUNT],
    module: Module,
    get: impl Fn(&'a Settings) -> Option<T>,
) -> Option<T> {
    get(&settings[module as usize]).or_else(|| get(&settings[Module::Default as usize]))
}

/// Decides what is logged at all.
struct Gate(Log);

impl<S> Filter<S> for Gate {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.0.lets_through(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.0.lets_through(metadata) {
            true => Interest::always(),
            false => Interest::never(),
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // Spans that carry an identity are wanted whatever their level.
        None
    }
}

/// Writes what has passed the gate.
struct Writer(Log);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Writer {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, at: Context<'_, S>) {
        let Some(span) = at.span(id) else { return };
        let mut identity = Identity::default();
        attributes.record(&mut identity);
        span.extensions_mut().insert(identity);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, at: Context<'_, S>) {
        let Some(span) = at.span(id) else { return };
        if let Some(identity) = span.extensions_mut().get_mut::<Identity>() {
            values.record(identity);
        }
    }

    fn on_event(&self, event: &Event<'_>, at: Context<'_, S>) {
        let mut identity = Identity::default();
        for span in at
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(outer) = span.extensions().get::<Identity>() {
                identity = identity.within(outer);
            }
        }
        self.0.write(Line::of(event, identity));
    }
}

#[cfg(test)]
mod tests;
