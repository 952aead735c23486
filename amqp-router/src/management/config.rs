//! A whole configuration: the entities of a file, checked one by one and against each other.

use std::collections::HashSet;
use std::fmt;

use rand::distr::SampleString;

use crate::codec::Value;
use crate::management::entity::{Entity, Invalid, closest};
use crate::management::schema::Schema;
use crate::management::syntax::{self, Section};

/// The configuration that a router starts with: the entities of a file, or what a program says.
///
/// ```
/// use amqp_router::{Config, Distribution};
///
/// let config = Config::new("R1")
///     .listen("127.0.0.1", 0)
///     .distribute("news", Distribution::Multicast);
/// ```
#[derive(Clone, Debug)]
pub struct Config {
    pub(crate) entities: Vec<Entity>,
}

/// How messages to an address are distributed among its receivers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Distribution {
    /// To the least loaded one.
    #[default]
    Balanced,
    /// To the nearest one, in turn.
    Closest,
    /// To every one.
    Multicast,
    /// To none: nobody may attach.
    Unavailable,
}

impl Distribution {
    fn as_str(self) -> &'static str {
        match self {
            Self::Balanced => "balanced",
            Self::Closest => "closest",
            Self::Multicast => "multicast",
            Self::Unavailable => "unavailable",
        }
    }
}

/// One mistake in a configuration, in a sentence that names the file, the entity and the attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    file: String,
    line: Option<usize>,
    problem: String,
}

/// Every mistake that was found in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(pub Vec<ConfigError>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.problem),
            None => write!(f, "{}: {}", self.file, self.problem),
        }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, error) in self.0.iter().enumerate() {
            if number > 0 {
                writeln!(f)?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

impl Config {
    /// Reads the text of a configuration file; a name that ends in `.json` says that it is JSON.
    /// `random` names a router that has no id.
    ///
    /// # Errors
    /// Every mistake in it.
    pub(crate) fn parse(
        file: &str,
        text: &str,
        random: impl FnOnce() -> String,
    ) -> Result<Self, ConfigErrors> {
        let fail = |line, problem| ConfigError {
            file: file.to_owned(),
            line,
            problem,
        };
        let read = if file.ends_with(".json") {
            syntax::json
        } else {
            syntax::conf
        };
        let sections = read(text).map_err(|problem| ConfigErrors(vec![fail(None, problem)]))?;
        if sections.is_empty() {
            return Err(ConfigErrors(vec![fail(None, "the file is empty".into())]));
        }
        let mut entities = Vec::new();
        let mut errors = Vec::new();
        for Section {
            kind,
            attributes,
            line,
        } in sections
        {
            match Schema::find(&kind).filter(|schema| is_configurable(schema)) {
                Some(schema) => match Entity::create(schema, attributes) {
                    Ok(entity) => entities.push((line, entity)),
                    Err(invalid) => {
                        errors.extend(invalid.into_iter().map(|i| fail(line, i.to_string())));
                    }
                },
                None => errors.push(fail(line, unknown(&kind))),
            }
        }
        let mut config = Self {
            entities: Vec::new(),
        };
        for (line, entity) in entities {
            match config.admits(&entity) {
                Ok(()) => config.add(entity),
                Err(invalid) => errors.push(fail(line, invalid.to_string())),
            }
        }
        config.complete(random);
        errors.extend(
            config
                .conflicts()
                .into_iter()
                .map(|i| fail(None, i.to_string())),
        );
        if errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors(errors))
        }
    }

    /// A router named `id` that has no listeners: only this program reaches it.
    ///
    /// # Panics
    /// If `id` contains `|`, `$`, blanks or control characters.
    pub fn new(id: &str) -> Self {
        let mut config = Self {
            entities: Vec::new(),
        };
        config.insert("router", &[("id", id.into())]);
        config.complete(String::new);
        config
    }

    /// Listens for AMQP connections of anyone, without TLS; port 0 is any free one.
    ///
    /// # Panics
    /// If this program already listens there.
    #[must_use]
    pub fn listen(mut self, host: &str, port: u16) -> Self {
        let name = format!("listener {}", self.of("listener").count() + 1);
        let attributes = [
            ("name", Value::from(name)),
            ("host", host.into()),
            ("port", port.to_string().into()),
            ("saslMechanisms", "ANONYMOUS".into()),
        ];
        self.insert("listener", &attributes);
        self
    }

    /// Distributes messages to `prefix`, and to every address below it, in this way.
    #[must_use]
    pub fn distribute(mut self, prefix: &str, distribution: Distribution) -> Self {
        let attributes = [
            ("prefix", prefix.into()),
            ("distribution", distribution.as_str().into()),
        ];
        self.insert("address", &attributes);
        self
    }

    /// Runs on this many threads, besides the one of the control plane.
    #[must_use]
    pub fn workers(mut self, threads: u16) -> Self {
        if let Some(router) = self
            .entities
            .iter_mut()
            .find(|e| e.schema().name == "router")
        {
            router.set("workerThreads", i64::from(threads.max(1)));
        }
        self
    }

    /// Reads a configuration file of skrouterd: JSON if its name ends in `.json`, else conf.
    ///
    /// # Errors
    /// Every mistake in it, and every entity or attribute that this version does not support.
    pub fn from_text(file: &str, text: &str) -> Result<Self, ConfigErrors> {
        let config = Self::parse(file, text, discriminator)?;
        let unsupported = config.unsupported();
        if unsupported.is_empty() {
            return Ok(config);
        }
        let error = |invalid: Invalid| ConfigError {
            file: file.to_owned(),
            line: None,
            problem: invalid.to_string(),
        };
        Err(ConfigErrors(unsupported.into_iter().map(error).collect()))
    }

    /// The configuration of a router that is given none: alone, on 127.0.0.1:5672, open to anyone
    /// on this host.
    pub fn built_in() -> Self {
        Self::standalone(discriminator)
    }

    /// The name of the router.
    pub fn router_id(&self) -> &str {
        self.singleton("router").word("id").unwrap_or_default()
    }

    /// How many threads it works with.
    pub fn worker_threads(&self) -> u16 {
        let threads = self.singleton("router").integer("workerThreads");
        threads.and_then(|n| u16::try_from(n).ok()).unwrap_or(1)
    }

    fn insert(&mut self, kind: &str, attributes: &[(&str, Value)]) {
        let schema = Schema::find(kind).expect("the table has it");
        let attributes = attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone()));
        let entity = Entity::create(schema, attributes).expect("these attributes exist");
        if let Err(invalid) = self.admits(&entity) {
            panic!("{invalid}");
        }
        self.add(entity);
    }

    /// What a router is without a configuration file: alone, and only for this host.
    pub(crate) fn standalone(random: impl FnOnce() -> String) -> Self {
        const TEXT: &str = "listener {\n name: amqp\n host: 127.0.0.1\n port: amqp\n\
                            authenticatePeer: no\n saslMechanisms: ANONYMOUS\n}\n";
        Self::parse("the built-in configuration", TEXT, random)
            .expect("the built-in configuration is valid")
    }

    /// The entities of one type.
    pub(crate) fn of<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Entity> + 'a {
        self.entities
            .iter()
            .filter(move |entity| entity.schema().name == kind)
    }

    pub(crate) fn singleton(&self, kind: &str) -> &Entity {
        self.entities
            .iter()
            .find(|entity| entity.schema().name == kind)
            .expect("a configuration is completed with its singletons")
    }

    /// Whether an entity may be added beside those that are there.
    pub(crate) fn admits(&self, entity: &Entity) -> Result<(), Invalid> {
        let refuse = |problem: String| {
            Err(Invalid {
                entity: entity.label(),
                problem,
            })
        };
        let mut others = self.of(entity.schema().name);
        if entity.schema().singleton && others.next().is_some() {
            return refuse("there can be only one".into());
        }
        if let Some(name) = entity.word("name")
            && self
                .of(entity.schema().name)
                .any(|other| other.name() == name)
        {
            return refuse("the attribute 'name' must be unique, and this one is taken".into());
        }
        check(entity).or_else(refuse)
    }

    pub(crate) fn add(&mut self, mut entity: Entity) {
        let serial = self.of(entity.schema().name).count();
        entity.identify(serial);
        self.entities.push(entity);
    }

    /// Puts an entity in the place of the one with its identity.
    pub(crate) fn replace(&mut self, entity: Entity) {
        let place = self.entities.iter_mut().find(|other| {
            other.schema().name == entity.schema().name && other.identity() == entity.identity()
        });
        if let Some(place) = place {
            *place = entity;
        }
    }

    pub(crate) fn remove(&mut self, entity: &Entity) {
        self.entities.retain(|other| {
            other.schema().name != entity.schema().name || other.identity() != entity.identity()
        });
    }

    pub(crate) fn has_profile(&self, name: &str) -> bool {
        self.of("sslProfile").any(|profile| profile.name() == name)
    }

    fn complete(&mut self, random: impl FnOnce() -> String) {
        for kind in ["router", "network", "policy"] {
            if self.of(kind).next().is_none() {
                let schema = Schema::find(kind).expect("the table has it");
                self.add(Entity::new(schema));
            }
        }
        let router = self
            .entities
            .iter_mut()
            .find(|entity| entity.schema().name == "router");
        if let Some(router) = router
            && router.word("id").is_none()
        {
            let mode = match router.text("mode") {
                Some("interior") => "Interior",
                Some("edge") => "Edge",
                _ => "Standalone",
            };
            router.set("id", format!("{mode}_{}", random()));
            router.set("name", Value::Null);
            router.identify(0);
        }
    }

    /// What does not fit together.
    fn conflicts(&self) -> Vec<Invalid> {
        let mut conflicts = Vec::new();
        let mut conflict = |entity: &Entity, problem: String| {
            conflicts.push(Invalid {
                entity: entity.label(),
                problem,
            })
        };
        let mode = self.singleton("router").text("mode").unwrap_or_default();
        let mut addresses = HashSet::new();
        for entity in &self.entities {
            if let Some(profile) = entity.word("sslProfile")
                && !self.has_profile(profile)
            {
                let names = self.of("sslProfile").map(Entity::name);
                let hint = closest(profile, names)
                    .map(|close| format!("; did you mean '{close}'?"))
                    .unwrap_or_default();
                conflict(
                    entity,
                    format!(
                        "the attribute 'sslProfile' names '{profile}', which is not defined{hint}"
                    ),
                );
            }
            if let Some(problem) = entity
                .word("role")
                .and_then(|role| role_conflict(mode, role, entity))
            {
                conflict(entity, problem);
            }
            if entity.schema().name == "router.config.address" {
                let scope = (entity.word("prefix"), entity.word("pattern"));
                if !addresses.insert(scope) {
                    conflict(
                        entity,
                        "another address has the same prefix or pattern".into(),
                    );
                }
            }
        }
        conflicts
    }

    /// What this version of the router cannot do yet.
    pub(crate) fn unsupported(&self) -> Vec<Invalid> {
        self.entities.iter().filter_map(unsupported).collect()
    }
}

/// Refuses what this version cannot do yet, by entity and attribute.
pub(crate) fn unsupported(entity: &Entity) -> Option<Invalid> {
    let says = |problem: &str| {
        Some(Invalid {
            entity: entity.label(),
            problem: problem.into(),
        })
    };
    match entity.schema().name {
        "router" if entity.text("mode") != Some("standalone") => {
            says("the attribute 'mode' must be standalone: this version does not join networks")
        }
        "tcpListener" | "tcpConnector" | "listenerAddress" => {
            says("TCP services are not supported by this version")
        }
        "router.config.autoLink" => says("auto links are not supported by this version"),
        "vhost" => says("vhost policies are not supported by this version"),
        "policy" if entity.flag("enableVhostPolicy") => says(
            "the attribute 'enableVhostPolicy' must be no: vhost policies are not supported by this version",
        ),
        "connector" if entity.word("proxyProfile").is_some() => {
            says("the attribute 'proxyProfile' is not supported by this version")
        }
        "listener" if entity.word("httpRootDir").is_some() => {
            says("the attribute 'httpRootDir' is not supported by this version")
        }
        _ => None,
    }
}

/// What one entity must be by itself, beyond the kinds of its attributes.
fn check(entity: &Entity) -> Result<(), String> {
    match entity.schema().name {
        "router" => {
            if let Some(id) = entity.word("id")
                && id.contains(|c: char| "|$".contains(c) || c.is_whitespace() || c.is_control())
            {
                return Err(format!(
                    "the attribute 'id' is '{id}', but must not contain '|', '$', blanks or control characters"
                ));
            }
            within(entity, "workerThreads", 1, 1024)
        }
        "listener" | "connector" => {
            within(entity, "cost", 1, i64::from(i32::MAX))?;
            within(entity, "linkCapacity", 0, i64::from(i32::MAX))?;
            within(entity, "maxSessions", 0, 32_768)?;
            within(entity, "idleTimeoutSeconds", 0, 86_400)?;
            within(entity, "initialHandshakeTimeoutSeconds", 0, 86_400)?;
            if entity.integer("maxFrameSize") != Some(0) {
                within(entity, "maxFrameSize", 512, i64::from(i32::MAX))?;
            }
            let port = entity.text("port").unwrap_or_default();
            let known = matches!(port, "amqp" | "amqps") || port.parse::<u16>().is_ok();
            if known {
                Ok(())
            } else {
                Err(format!(
                    "the attribute 'port' is '{port}', but must be amqp, amqps or 0 to 65535"
                ))
            }
        }
        "router.config.address" => {
            within(entity, "priority", 0, 9)?;
            match (entity.word("prefix"), entity.word("pattern")) {
                (Some(_), None) | (None, Some(_)) => Ok(()),
                _ => Err("exactly one of the attributes 'prefix' and 'pattern' must be set".into()),
            }
        }
        "sslProfile" if entity.word("name").is_none() => {
            Err("the attribute 'name' is required".into())
        }
        _ => Ok(()),
    }
}

fn within(entity: &Entity, attribute: &str, low: i64, high: i64) -> Result<(), String> {
    match entity.integer(attribute) {
        Some(value) if !(low..=high).contains(&value) => Err(format!(
            "the attribute '{attribute}' is {value}, but must be {low} to {high}"
        )),
        _ => Ok(()),
    }
}

fn role_conflict(mode: &str, role: &str, entity: &Entity) -> Option<String> {
    let listener = entity.schema().name == "listener";
    let fits = match (mode, role) {
        (_, "normal" | "route-container" | "inter-network") => true,
        ("interior", "inter-router") => true,
        ("interior", "edge") => listener,
        ("edge", "edge") => !listener,
        ("edge", "inter-edge") => true,
        _ => false,
    };
    (!fits).then(|| {
        format!("the attribute 'role' is '{role}', which a router with mode '{mode}' cannot have")
    })
}

/// 15 characters that nobody else will come up with.
fn discriminator() -> String {
    rand::distr::Alphanumeric.sample_string(&mut rand::rng(), 15)
}

fn is_configurable(schema: &Schema) -> bool {
    schema.operations.contains(&"CREATE")
        || matches!(
            schema.name,
            "router" | "network" | "site" | "log" | "policy"
        )
}

fn unknown(kind: &str) -> String {
    let known = Schema::all()
        .iter()
        .filter(|schema| is_configurable(schema))
        .flat_map(|schema| schema.alias.into_iter().chain([schema.name]));
    match closest(kind, known) {
        Some(close) => format!("unknown entity type '{kind}'; did you mean '{close}'?"),
        None => format!("unknown entity type '{kind}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Vec<String>> {
        Config::parse("r.conf", text, || "abc".into())
            .map_err(|errors| errors.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_configuration_is_completed() {
        let config = parse("listener {\n port: 0\n}\n").expect("valid");
        assert_eq!(
            config.singleton("router").text("id"),
            Some("Standalone_abc")
        );
        assert_eq!(config.of("policy").count(), 1);
        let listener = config.of("listener").next().expect("configured");
        assert_eq!(listener.identity(), "listener/:0");
        assert_eq!(listener.name(), "listener/:0");
    }

    #[test]
    fn the_built_in_configuration_listens_on_this_host_only() {
        let config = Config::standalone(|| "x".into());
        let listener = config.of("listener").next().expect("built in");
        assert_eq!(
            (listener.text("host"), listener.text("port")),
            (Some("127.0.0.1"), Some("amqp"))
        );
        assert!(config.unsupported().is_empty());
    }

    #[test]
    fn mistakes_name_file_line_entity_and_attribute() {
        let cases = [
            (
                "listner {\n}\n",
                "r.conf:1: unknown entity type 'listner'; did you mean 'listener'?",
            ),
            (
                "listener {\n name: a\n port: amqpx\n}\n",
                "r.conf:1: listener 'a': the attribute 'port' is 'amqpx', but must be amqp, amqps or 0 to 65535",
            ),
            (
                "address {\n distribution: closest\n}\n",
                "r.conf:1: address: exactly one of the attributes 'prefix' and 'pattern' must be set",
            ),
            (
                "listener {\n name: a\n sslProfile: p\n}\nssl-profile {\n name: q\n}\n",
                "r.conf: listener 'a': the attribute 'sslProfile' names 'p', which is not defined; did you mean 'q'?",
            ),
            (
                "listener {\n name: a\n role: inter-router\n}\n",
                "r.conf: listener 'a': the attribute 'role' is 'inter-router', which a router with mode 'standalone' cannot have",
            ),
            (
                "listener {\n name: a\n maxFrameSize: 100\n}\n",
                "r.conf:1: listener 'a': the attribute 'maxFrameSize' is 100, but must be 512 to 2147483647",
            ),
            (
                "router {\n id: a b\n}\n",
                "r.conf:1: router: the attribute 'id' is 'a b', but must not contain '|', '$', blanks or control characters",
            ),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text).expect_err(text), [error]);
        }
    }

    #[test]
    fn names_are_unique_within_a_type() {
        let text = "listener {\n name: a\n}\nlistener {\n name: a\n}\n";
        let errors = parse(text).expect_err("twice");
        assert_eq!(
            errors,
            ["r.conf:4: listener 'a': the attribute 'name' must be unique, and this one is taken"]
        );
    }

    #[test]
    fn what_is_not_supported_yet_is_said_so() {
        let config = parse(
            "router {\n mode: interior\n id: A\n}\ntcpListener {\n name: t\n address: x\n port: 1\n}\n",
        );
        let problems = config.expect("valid").unsupported();
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            problems,
            [
                "router: the attribute 'mode' must be standalone: this version does not join networks",
                "tcpListener 't': TCP services are not supported by this version",
            ]
        );
    }
}
