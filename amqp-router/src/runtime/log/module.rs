//! The modules and levels of the log.

use std::fmt;
use std::str::FromStr;

use tracing::Metadata;

macro_rules! modules {
    ($($(#[$doc:meta])* $module:ident = $name:literal,)*) => {
        /// A part of the router with log settings of its own, by skrouterd's names.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(usize)]
        pub enum Module {
            $($(#[$doc])* $module,)*
        }

        impl Module {
            const ALL: &[Self] = &[$(Self::$module),*];

            /// The name: `ROUTER_CORE`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$module => $name),* }
            }

            /// The module of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$module),)* _ => None }
            }
        }
    };
}

modules! {
    Router = "ROUTER",
    RouterCore = "ROUTER_CORE",
    RouterHello = "ROUTER_HELLO",
    RouterLs = "ROUTER_LS",
    RouterMa = "ROUTER_MA",
    Message = "MESSAGE",
    Server = "SERVER",
    Agent = "AGENT",
    Container = "CONTAINER",
    Error = "ERROR",
    Policy = "POLICY",
    Http = "HTTP",
    ConnMgr = "CONN_MGR",
    Python = "PYTHON",
    Protocol = "PROTOCOL",
    TcpAdaptor = "TCP_ADAPTOR",
    HttpAdaptor = "HTTP_ADAPTOR",
    FlowLog = "FLOW_LOG",
    AddressWatch = "ADDRESS_WATCH",
    Http1Observer = "HTTP1_OBSERVER",
    Http2Observer = "HTTP2_OBSERVER",
    Http2Decoder = "HTTP2_DECODER",
    /// Settings for every module that has none, and the log of code that is not ours.
    Default = "DEFAULT",
}

impl Module {
    /// How many there are.
    pub const COUNT: usize = Self::ALL.len();

    /// All of them, in the order of the `log` entity's schema.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.iter().copied()
    }

    /// The module for a target of `tracing`: the one it names, or else the one that the path of
    /// a Rust module stands for.
    pub fn of_target(target: &str) -> Self {
        Self::from_name(target).unwrap_or_else(|| {
            let known = PATHS.iter().find(|(path, _)| {
                target
                    .strip_prefix(path)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
            });
            known.map_or(Self::Default, |(_, module)| *module)
        })
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much an entry matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

impl Level {
    pub const COUNT: usize = Self::ALL.len();
    const ALL: [Self; 5] = [
        Self::Debug,
        Self::Info,
        Self::Warning,
        Self::Error,
        Self::Critical,
    ];

    /// The name: `warning`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }

    /// The level of a call site: that of `tracing`, where TRACE counts as debug and an ERROR
    /// with a field `critical` is critical.
    pub(super) fn of(metadata: &Metadata<'_>) -> Self {
        match *metadata.level() {
            tracing::Level::ERROR if metadata.fields().field("critical").is_some() => {
                Self::Critical
            }
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warning,
            tracing::Level::INFO => Self::Info,
            _ => Self::Debug,
        }
    }

    /// The level of a name, or of its beginning: `warn`.
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "trace" => Some(Self::Debug),
            _ => Self::ALL
                .into_iter()
                .find(|level| level.as_str().starts_with(name)),
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of levels: the `enable` attribute of a `log` entity.
///
/// Read from a list such as `info+` or `debug, error+`, separated by blanks, `,`, `;` or `:`,
/// where `+` adds the levels above and `none` stands for no level; a name's first letters do, as in
/// `warn+`. By default `info+`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Levels(u8);

impl Levels {
    pub fn contains(self, level: Level) -> bool {
        self.0 & bit(level) != 0
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Levels {
    /// The words that `enable` has for this set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut levels = Level::ALL
            .iter()
            .filter(|level| self.contains(**level))
            .peekable();
        let Some(lowest) = levels.peek().map(|level| **level) else {
            return f.write_str("none");
        };
        if self.0 == ALL_BITS & !(bit(lowest) - 1) {
            return write!(f, "{}+", lowest.as_str());
        }
        let names: Vec<&str> = levels.map(|level| level.as_str()).collect();
        f.write_str(&names.join(","))
    }
}

impl Default for Levels {
    fn default() -> Self {
        Self(ALL_BITS & !bit(Level::Debug))
    }
}

impl FromStr for Levels {
    type Err = UnknownLevel;

    fn from_str(text: &str) -> Result<Self, UnknownLevel> {
        let mut bits = 0;
        let separators = |c: char| c.is_whitespace() || matches!(c, ',' | ';' | ':');
        for word in text.split(separators).filter(|word| !word.is_empty()) {
            let lower = word.to_ascii_lowercase();
            if lower == "none" {
                continue;
            }
            let (name, and_above) = lower
                .strip_suffix('+')
                .map_or((lower.as_str(), false), |name| (name, true));
            let level = Level::from_name(name).ok_or_else(|| UnknownLevel(word.into()))?;
            bits |= match and_above {
                true => ALL_BITS & !(bit(level) - 1),
                false => bit(level),
            };
        }
        Ok(Self(bits))
    }
}

/// A word in `enable` that is not a level.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a valid log level. Should be one of {{none, debug, info, warning, \
     error, critical}}. Each may have a '+' for the levels above as well"
)]
pub struct UnknownLevel(String);

fn bit(level: Level) -> u8 {
    1 << level as usize
}

const ALL_BITS: u8 = (1 << Level::COUNT) - 1;

/// Longer paths before those they begin with.
const PATHS: &[(&str, Module)] = &[
    ("amqp_router::codec", Module::Protocol),
    ("amqp_router::endpoint", Module::Protocol),
    ("amqp_router::control", Module::RouterCore),
    ("amqp_router::forwarding", Module::RouterCore),
    ("amqp_router::mesh::hello", Module::RouterHello),
    ("amqp_router::mesh::link_state", Module::RouterLs),
    ("amqp_router::mesh::mobile", Module::RouterMa),
    ("amqp_router::mesh", Module::Router),
    ("amqp_router::adaptors::tcp", Module::TcpAdaptor),
    ("amqp_router::adaptors", Module::Server),
    ("amqp_router::management", Module::Agent),
    ("amqp_router::telemetry", Module::FlowLog),
    ("amqp_router::runtime::http", Module::Http),
    ("amqp_router::runtime::connect", Module::ConnMgr),
    ("amqp_router::runtime::reconnect", Module::ConnMgr),
    ("amqp_router::runtime::tls", Module::ConnMgr),
    ("amqp_router::runtime", Module::Server),
    ("amqp_router", Module::Router),
    ("router_daemon", Module::Router),
];
