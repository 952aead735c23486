//! A whole configuration: the entities of a file, checked one by one and against each other.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rand::distr::SampleString;

use crate::codec::Value;
use crate::management::entities::{Entities, Unique, special};
use crate::management::entity::{Entity, Invalid, camel_case, closest, label};
use crate::management::schema::Schema;
use crate::management::syntax::{self, Section};

pub(crate) mod check;
pub(crate) mod hosts;
mod odd;
#[cfg(test)]
mod tests;

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
    pub(crate) entities: Entities,
    /// Nobody has chosen the router's id.
    pub(crate) generated_id: bool,
    /// What it was read from.
    pub(crate) source: Option<Source>,
    /// Housekeeping periods are short.
    pub(crate) hurried: bool,
    /// What the file says and has no effect, in words.
    pub(crate) ignored: Vec<String>,
}

/// Reads a configuration once more.
#[derive(Clone)]
pub(crate) struct Source(Arc<dyn Fn() -> Result<Config, String> + Send + Sync>);

impl Source {
    /// # Errors
    /// Why it is not to be had any more.
    pub(crate) fn read(&self) -> Result<Config, String> {
        (self.0)()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
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

impl ConfigError {
    /// The mistake for someone who knows which file it is in: `line 3: …`.
    pub fn within_file(&self) -> String {
        match self.line {
            Some(line) => format!("line {line}: {}", self.problem),
            None => self.problem.clone(),
        }
    }

    /// The mistake with the kind of fault that skrouterd tells it as, if that is not the file's.
    pub fn of_kind(&self) -> Option<String> {
        let at = self.problem.find(ID_PROBLEM)?;
        Some(format!("AttributeError: {}", &self.problem[at..]))
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

/// How the problem with blanks in a router's id begins.
const ID_PROBLEM: &str = "Router id attribute containing character";

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
        let mut ignored = Vec::new();
        let mut is_router_wrong = false;
        for Section {
            kind,
            mut attributes,
            line,
        } in sections
        {
            match Schema::find(&kind).filter(|schema| schema.is_configurable()) {
                Some(schema) => {
                    ignored.extend(ignore(schema, &mut attributes).into_iter().map(|what| {
                        format!(
                            "{what} is the router's to say: what the file says of it has no effect"
                        )
                    }));
                    match Entity::create(schema, attributes) {
                        Ok(entity) => entities.push((line, entity)),
                        Err(invalid) => {
                            is_router_wrong |= schema.name == "router";
                            errors.extend(invalid.into_iter().map(|i| fail(line, i.to_string())));
                        }
                    }
                }
                None => errors.push(fail(line, unknown(&kind))),
            }
        }
        let mut config = Self {
            entities: Entities::default(),
            generated_id: false,
            hurried: false,
            source: None,
            ignored: Vec::new(),
        };
        for (line, entity) in entities {
            match config.admits(&entity) {
                Ok(()) => config.add(entity),
                // skrouterd says so, and starts.
                Err(invalid) if config.has_such_an_address(&entity) => {
                    let problem = format!("{invalid}, and holds: this one has no effect");
                    ignored.push(fail(line, problem).to_string());
                }
                Err(invalid) => errors.push(fail(line, invalid.to_string())),
            }
        }
        config.ignored = ignored;
        config.complete(random);
        if !is_router_wrong {
            // Of what was meant to be its mode nothing is known otherwise.
            let conflicts = config.conflicts().into_iter();
            errors.extend(conflicts.map(|conflict| fail(None, conflict.to_string())));
        }
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
            entities: Entities::default(),
            generated_id: false,
            hurried: false,
            source: None,
            ignored: Vec::new(),
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
        let mut router = self.singleton("router").clone();
        router.set("workerThreads", i64::from(threads.max(1)));
        self.replace(router);
        self
    }

    /// Reads a configuration file of skrouterd: JSON if its name ends in `.json`, else conf.
    ///
    /// # Errors
    /// Every mistake in it.
    pub fn from_text(file: &str, text: &str) -> Result<Self, ConfigErrors> {
        Self::parse(file, text, discriminator)
    }

    /// Reads a configuration file, and remembers where it is so that it can be read again.
    ///
    /// # Errors
    /// The file cannot be read, or as for [`from_text`](Self::from_text).
    pub fn from_file(file: &Path) -> Result<Self, ConfigErrors> {
        let name = file.display().to_string();
        let text = Self::text_of(file).map_err(|error| {
            ConfigErrors(vec![ConfigError {
                file: name.clone(),
                line: None,
                problem: error.to_string(),
            }])
        })?;
        let config = Self::from_text(&name, &text)?;
        let file = file.to_owned();
        let read = move || Self::from_file(&file).map_err(|errors| errors.to_string());
        Ok(config.read_again_with(read))
    }

    /// The text of a configuration file, without the byte order mark that some editors put before
    /// it.
    ///
    /// # Errors
    /// The file cannot be read, or is not UTF-8: the error says in which line.
    pub fn text_of(file: &Path) -> io::Result<String> {
        let text = String::from_utf8(fs::read(file)?).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|octet| **octet == b'\n').count();
            let octet = error.as_bytes()[valid.len()];
            let text = format!("line {line}: the octet 0x{octet:02x} is not UTF-8");
            io::Error::new(io::ErrorKind::InvalidData, text)
        })?;
        Ok(match text.strip_prefix('\u{feff}') {
            Some(text) => text.to_owned(),
            None => text,
        })
    }

    /// When a client of management asks the router to reload, this says what its configuration is
    /// then, or what is wrong with it. It may take its time.
    #[must_use]
    pub fn read_again_with(
        mut self,
        read: impl Fn() -> Result<Self, String> + Send + Sync + 'static,
    ) -> Self {
        self.source = Some(Source(Arc::new(read)));
        self
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

    /// Looks for deliveries that are stuck, and links that are blocked, every 5 s instead of every
    /// 30 s, and takes them for that after 3 s instead of 10 s: for tests.
    pub fn shorten_housekeeping(&mut self) {
        self.hurried = true;
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
    pub(crate) fn of<'a>(&'a self, kind: &str) -> impl Iterator<Item = &'a Entity> + use<'a> {
        self.entities.of(kind)
    }

    /// The entity of a type that has this name.
    pub(crate) fn named(&self, kind: &'static str, name: &str) -> Option<&Entity> {
        self.entities.find(kind, Unique::Name, name)
    }

    pub(crate) fn singleton(&self, kind: &str) -> &Entity {
        self.of(kind)
            .next()
            .expect("a configuration is completed with its singletons")
    }

    /// Whether an entity may be added beside those that are there.
    pub(crate) fn admits(&self, entity: &Entity) -> Result<(), Invalid> {
        let schema = entity.schema();
        let refuse = |problem: &str| Err(entity.invalid(problem.into()));
        if schema.singleton && self.of(schema.name).next().is_some() {
            return refuse("there can be only one");
        }
        // Whatever else is wrong with it: it is of no use to a router of this mode.
        if let Some(router) = self.of("router").next()
            && let Some(problem) = check::misplaced(entity, router.text("mode").unwrap_or_default())
        {
            return Err(entity.invalid(problem));
        }
        check::alone(entity).map_err(|problem| entity.invalid(problem))?;
        let mut new = entity.clone();
        new.identify(self.next_serial(schema.name));
        let taken = |what, value: &str| self.entities.find(schema.name, what, value);
        let refuse_other = |attribute: &str, other: &Entity| {
            refuse(&format!(
                "duplicates unique attribute '{attribute}' from existing '{}'",
                other.identity()
            ))
        };
        if let Some(other) = entity
            .word("name")
            .and_then(|name| taken(Unique::Name, name))
        {
            return match schema.is_core() {
                true => refuse("Name conflicts with an existing entity"),
                false => refuse_other("name", other),
            };
        }
        if let Some(other) = taken(Unique::Identity, new.identity()) {
            return refuse_other("identity", other);
        }
        if let Some(other) = special(entity).and_then(|value| taken(Unique::Special, &value)) {
            return match schema.name {
                "vhost" => refuse_other("hostname", other),
                _ => refuse(&format!(
                    "Already exists: {} has the same prefix or pattern",
                    other.label()
                )),
            };
        }
        Ok(())
    }

    /// Whether there is an address of this prefix or pattern, which is all that is wrong with this
    /// one.
    fn has_such_an_address(&self, entity: &Entity) -> bool {
        let kind = entity.schema().name;
        let named = |name| self.entities.find(kind, Unique::Name, name).is_some();
        kind == "router.config.address"
            && check::alone(entity).is_ok()
            && !entity.word("name").is_some_and(named)
            && special(entity)
                .is_some_and(|value| self.entities.find(kind, Unique::Special, &value).is_some())
    }

    /// Whether an entity may be what an update has made of it.
    pub(crate) fn accepts(&self, entity: &Entity) -> Result<(), Invalid> {
        check::alone(entity).map_err(|problem| entity.invalid(problem))?;
        let mode = self.singleton("router").text("mode").unwrap_or_default();
        match check::dangling(entity, self).or_else(|| check::misplaced(entity, mode)) {
            Some(problem) => Err(entity.invalid(problem)),
            None => Ok(()),
        }
    }

    /// The number for the next entity of a type whose entities are numbered.
    pub(crate) fn next_serial(&self, kind: &str) -> usize {
        self.entities.serial(kind)
    }

    pub(crate) fn add(&mut self, mut entity: Entity) {
        entity.identify(self.next_serial(entity.schema().name));
        self.entities.add(entity);
    }

    /// Puts an entity in the place of the one with its identity.
    pub(crate) fn replace(&mut self, entity: Entity) {
        self.entities.replace(entity);
    }

    pub(crate) fn remove(&mut self, entity: &Entity) {
        self.entities.remove(entity);
    }

    fn complete(&mut self, random: impl FnOnce() -> String) {
        for kind in ["router", "network", "policy"] {
            if self.of(kind).next().is_none() {
                let schema = Schema::find(kind).expect("the table has it");
                self.add(Entity::new(schema));
            }
        }
        let mut router = self.singleton("router").clone();
        if router.word("id").is_some() {
            return;
        }
        self.remove(&router);
        self.generated_id = true;
        let mode = match router.text("mode") {
            Some("interior") => "Interior",
            Some("edge") => "Edge",
            _ => "Standalone",
        };
        router.set("id", format!("{mode}_{}", random()));
        // Both stand for the id that it did not have.
        router.set("name", Value::Null);
        router.set("identity", Value::Null);
        self.add(router);
    }

    /// What does not fit together.
    fn conflicts(&self) -> Vec<Invalid> {
        let mode = self.singleton("router").text("mode").unwrap_or_default();
        let conflicts = |entity: &Entity| {
            [
                check::dangling(entity, self),
                check::misplaced(entity, mode),
            ]
            .into_iter()
            .flatten()
            .map(|problem| entity.invalid(problem))
            .collect::<Vec<_>>()
        };
        self.entities.iter().flat_map(conflicts).collect()
    }
}

/// 15 characters that nobody else will come up with.
pub(crate) fn discriminator() -> String {
    rand::distr::Alphanumeric.sample_string(&mut rand::rng(), 15)
}

/// Takes away what only the router can say of an entity, as skrouterd does; says what that was.
fn ignore(schema: &Schema, attributes: &mut Vec<(String, Value)>) -> Vec<String> {
    let name = attributes.iter().find(|(key, _)| key == "name");
    let label = label(schema, name.and_then(|(_, name)| name.as_str()));
    let is_read_only = |(key, _): &mut (String, Value)| {
        let position = schema.position(&camel_case(key));
        position.is_some_and(|position| !schema.attributes[position].create)
    };
    let taken = attributes.extract_if(.., is_read_only);
    taken
        .map(|(key, _)| format!("{label}: the attribute '{key}'"))
        .collect()
}

fn unknown(kind: &str) -> String {
    let known = Schema::all()
        .iter()
        .filter(|schema| schema.is_configurable())
        .flat_map(|schema| schema.alias.into_iter().chain([schema.name]));
    match closest(kind, known) {
        Some(close) => format!("unknown entity type '{kind}'; did you mean '{close}'?"),
        None => format!("unknown entity type '{kind}'; router-daemon explain names them all"),
    }
}
