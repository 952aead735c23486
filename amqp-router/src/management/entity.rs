//! One entity: checked values for the attributes of its type.

use std::collections::HashSet;
use std::fmt;

use thiserror::Error;

use crate::codec::Value;
use crate::management::schema::{Attribute, Kind, Schema};

/// An entity of a configuration or of a running router.
#[derive(Clone)]
pub(crate) struct Entity {
    schema: &'static Schema,
    /// In the order of the schema's attributes.
    values: Vec<Value>,
}

/// What is wrong with one attribute of an entity.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{entity}: {problem}")]
pub(crate) struct Invalid {
    pub(crate) entity: String,
    pub(crate) problem: String,
}

impl Entity {
    /// An entity with nothing but defaults.
    pub(crate) fn new(schema: &'static Schema) -> Self {
        let mut values: Vec<Value> = schema
            .attributes
            .iter()
            .map(Attribute::default_value)
            .collect();
        values[TYPE] = Value::from(schema.full_name());
        Self { schema, values }
    }

    /// An entity with these attributes of a configuration file, which are checked.
    ///
    /// # Errors
    /// Every attribute that is unknown, not to be set, or has a value that it cannot have.
    pub(crate) fn create(
        schema: &'static Schema,
        attributes: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Self, Vec<Invalid>> {
        Self::create_by(schema, attributes, Choosing::ByNumber)
    }

    /// The same, of a request. What skrouterd's core answers for has no numbers for words then.
    ///
    /// # Errors
    /// As with [`create`](Self::create).
    pub(crate) fn create_asked(
        schema: &'static Schema,
        attributes: impl IntoIterator<Item = (String, Value)>,
    ) -> Result<Self, Vec<Invalid>> {
        Self::create_by(schema, attributes, Choosing::asked(schema))
    }

    fn create_by(
        schema: &'static Schema,
        attributes: impl IntoIterator<Item = (String, Value)>,
        choosing: Choosing,
    ) -> Result<Self, Vec<Invalid>> {
        let mut entity = Self::new(schema);
        let attributes: Vec<(String, Value)> = attributes.into_iter().collect();
        let name = attributes
            .iter()
            .find(|(key, _)| key == "name")
            .and_then(|(_, v)| v.as_str());
        let label = label(schema, name);
        let mut problems = Vec::new();
        let (mut given, mut wrong) = (HashSet::new(), HashSet::new());
        for (key, value) in &attributes {
            if !given.insert(camel_case(key)) {
                problems.push(format!("the attribute '{key}' is there twice"));
                continue;
            }
            if key == "type" || value.is_null() {
                continue;
            }
            match entity.checked(key, value, choosing, |attribute| attribute.create) {
                Ok((position, value)) => entity.values[position] = value,
                Err(problem) => {
                    wrong.insert(camel_case(key));
                    problems.push(problem);
                }
            }
        }
        for (attribute, value) in schema.attributes.iter().zip(&entity.values) {
            let missing = attribute.required && attribute.create && value.is_null();
            if missing && !wrong.contains(attribute.name) {
                problems.push(match schema.is_core() {
                    true => format!("{} field is mandatory", attribute.name),
                    false => format!("Missing required attribute '{}'", attribute.name),
                });
            }
        }
        if problems.is_empty() {
            return Ok(entity);
        }
        let invalid = |problem| Invalid {
            entity: label.clone(),
            problem,
        };
        Err(problems.into_iter().map(invalid).collect())
    }

    /// Changes attributes, all or none. Null is the default; what cannot be updated may be there
    /// as it is.
    ///
    /// # Errors
    /// The first attribute that cannot be updated, or not to this value.
    pub(crate) fn update(&mut self, attributes: &[(String, Value)]) -> Result<(), Invalid> {
        let mut values = self.values.clone();
        for (key, value) in attributes {
            // Clients send it along in whatever form they know.
            if key == "type" {
                continue;
            }
            let (position, value) = self
                .checked(key, value, Choosing::asked(self.schema), |_| true)
                .map_err(|problem| self.invalid(problem))?;
            let attribute = &self.schema.attributes[position];
            if attribute.update {
                values[position] = value;
            } else if value != values[position] || attribute.hidden {
                let problem = format!(
                    "Cannot update attribute '{}' in UPDATE: it stays as it is",
                    attribute.name
                );
                return Err(self.invalid(problem));
            }
        }
        self.values = values;
        Ok(())
    }

    /// What to say of an entity that has this problem.
    pub(crate) fn invalid(&self, problem: String) -> Invalid {
        Invalid {
            entity: self.label(),
            problem,
        }
    }

    fn checked(
        &self,
        key: &str,
        value: &Value,
        choosing: Choosing,
        may: impl Fn(&Attribute) -> bool,
    ) -> Result<(usize, Value), String> {
        let key = camel_case(key);
        let Some(position) = self.schema.position(&key) else {
            let known = self
                .schema
                .attributes
                .iter()
                .map(|attribute| attribute.name);
            let hint = match closest(&key, known) {
                Some(close) => format!("; did you mean '{close}'?"),
                None => {
                    let short = self.schema.short_name();
                    format!("; router-daemon explain {short} names them all")
                }
            };
            let kind = self.schema.full_name();
            return Err(format!("Unknown attribute '{key}' for '{kind}'{hint}"));
        };
        let attribute = &self.schema.attributes[position];
        if !may(attribute) {
            return Err(format!(
                "Cannot set attribute '{key}' in CREATE: it is the router's to say"
            ));
        }
        if value.is_null() {
            return Ok((position, attribute.default_value()));
        }
        let shown = if attribute.hidden {
            "******".into()
        } else {
            show(value)
        };
        match attribute.kind.convert(value, choosing) {
            Some(value) => Ok((position, value)),
            None if key == "openProperties" => Err(format!(
                "Properties must be a map: the attribute '{key}' is {shown}, but must have names and \
                 values, like {{\"key\": \"value\"}}"
            )),
            None => Err(format!(
                "the attribute '{key}' is {shown}, but must be {}",
                attribute.kind
            )),
        }
    }

    pub(crate) fn schema(&self) -> &'static Schema {
        self.schema
    }

    pub(crate) fn get(&self, attribute: &str) -> &Value {
        self.schema
            .position(attribute)
            .map_or(&Value::Null, |position| &self.values[position])
    }

    /// Sets what only the router itself says of an entity.
    pub(crate) fn set(&mut self, attribute: &str, value: impl Into<Value>) {
        if let Some(position) = self.schema.position(attribute) {
            self.values[position] = value.into();
        } else {
            debug_assert!(false, "{} has no attribute {attribute}", self.schema.name);
        }
    }

    pub(crate) fn text(&self, attribute: &str) -> Option<&str> {
        self.get(attribute).as_str()
    }

    /// A text that is not empty.
    pub(crate) fn word(&self, attribute: &str) -> Option<&str> {
        self.text(attribute).filter(|text| !text.is_empty())
    }

    pub(crate) fn integer(&self, attribute: &str) -> Option<i64> {
        self.get(attribute).as_i64()
    }

    pub(crate) fn flag(&self, attribute: &str) -> bool {
        self.get(attribute).as_bool().unwrap_or(false)
    }

    pub(crate) fn name(&self) -> &str {
        self.text("name").unwrap_or_default()
    }

    pub(crate) fn identity(&self) -> &str {
        self.text("identity").unwrap_or_default()
    }

    /// Gives an entity that has none the identity of its kind and, if it has none, a name.
    pub(crate) fn identify(&mut self, serial: usize) {
        if self.word("identity").is_some() {
            return;
        }
        let text = |attribute: &str| self.text(attribute).unwrap_or_default().to_owned();
        let short = self.schema.name;
        let named = |mut identity: String| {
            if let Some(name) = self.word("name") {
                identity.push(':');
                identity.push_str(name);
            }
            identity
        };
        let identity = match short {
            "router" => format!("router/{}", text("id")),
            "listener" | "connector" | "tcpListener" | "tcpConnector" => {
                named(format!("{short}/{}:{}", text("host"), text("port")))
            }
            "listenerAddress" => named(format!("{short}/{}:{}", text("listener"), text("address"))),
            "sslProfile" | "proxyProfile" => format!("{short}/{}", text("name")),
            "log" => format!("log/{}", text("module")),
            "vhost" | "vhostStats" => format!("{short}/{}", text("hostname")),
            "router.node" => format!("{short}/{}", text("id")),
            "allocator" => format!("{short}/{}", text("typeName")),
            "router.config.address" | "router.config.autoLink" => serial.to_string(),
            _ => format!("{short}/{serial}"),
        };
        if self.word("name").is_none() {
            self.values[NAME] = Value::from(identity.as_str());
        }
        self.values[IDENTITY] = Value::from(identity);
    }

    /// Type and name, as messages to operators call it.
    pub(crate) fn label(&self) -> String {
        label(
            self.schema,
            self.word("name").filter(|_| !self.schema.singleton),
        )
    }

    /// Names and values of what is set and may be shown; of the core's types, also of what is not
    /// set.
    pub(crate) fn to_map(&self) -> Value {
        if self.schema.is_core() {
            let columns = self.schema.columns.iter();
            let pairs = columns.map(|column| (Value::from(*column), self.shown(column)));
            return Value::Map(pairs.collect());
        }
        let shown = self.schema.attributes.iter().zip(&self.values);
        let pairs = shown
            .filter(|(attribute, value)| attribute.may_show(value) && !value.is_null())
            .map(|(attribute, value)| (Value::from(attribute.name), attribute.width.of(value)));
        Value::Map(pairs.collect())
    }

    /// The value of an attribute as it may be shown.
    pub(crate) fn shown(&self, attribute: &str) -> Value {
        match self.schema.position(attribute) {
            Some(position) if self.schema.attributes[position].may_show(&self.values[position]) => {
                let width = self.schema.attributes[position].width;
                width.of(&self.values[position])
            }
            _ => Value::Null,
        }
    }
}

impl fmt::Debug for Entity {
    /// Names and values; secrets are not among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (attribute, value) in self.schema.attributes.iter().zip(&self.values) {
            match value {
                Value::Null => continue,
                value if !attribute.may_show(value) => {
                    map.entry(&attribute.name, &format_args!("******"))
                }
                value => map.entry(&attribute.name, value),
            };
        }
        map.finish()
    }
}

impl Kind {
    /// The value in the kind's own type, from what configuration files and clients write.
    fn convert(&self, value: &Value, choosing: Choosing) -> Option<Value> {
        match self {
            Self::Text | Self::Path => match value {
                Value::String(_) => Some(value.clone()),
                Value::Symbol(symbol) => Some(Value::from(symbol.as_str())),
                Value::Bool(flag) => Some(Value::from(flag.to_string())),
                number => number.as_i64().map(|n| Value::from(n.to_string())),
            },
            Self::Integer => match value.as_str() {
                Some(text) => text.trim().parse().ok().map(Value::Long),
                None => value.as_i64().map(Value::Long),
            },
            Self::Boolean => match value {
                Value::Bool(_) => Some(value.clone()),
                value => match value.as_str()?.to_ascii_lowercase().as_str() {
                    "yes" | "true" | "on" => Some(Value::Bool(true)),
                    "no" | "false" | "off" => Some(Value::Bool(false)),
                    _ => None,
                },
            },
            Self::Choice(words) => {
                let text = value.as_str();
                let word = words.iter().find(|word| text == Some(word));
                let word = word.or_else(|| match choosing {
                    Choosing::ByNumber => words.get(index(value)?),
                    Choosing::ByWord => None,
                });
                word.map(|word| Value::from(*word))
            }
            Self::Map => value.as_map().map(|_| value.clone()),
            Self::List => value.as_list().map(|_| value.clone()),
        }
    }
}

/// What may be said for one of several words.
#[derive(Clone, Copy, Debug)]
enum Choosing {
    /// The word, or where it stands among them, from 0 on, as a number or a text.
    ByNumber,
    ByWord,
}

impl Choosing {
    /// By requests.
    fn asked(schema: &Schema) -> Self {
        match schema.is_core() {
            true => Self::ByWord,
            false => Self::ByNumber,
        }
    }
}

fn index(value: &Value) -> Option<usize> {
    match value.as_str() {
        Some(text) => text.trim().parse().ok(),
        None => usize::try_from(value.as_u64()?).ok(),
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text => f.write_str("a text"),
            Self::Path => f.write_str("a path"),
            Self::Integer => f.write_str("an integer"),
            Self::Boolean => f.write_str("yes or no"),
            Self::Choice(words) => write!(f, "one of {}", words.join(", ")),
            Self::Map => f.write_str("a map"),
            Self::List => f.write_str("a list"),
        }
    }
}

/// `ssl-profile` as `sslProfile`.
pub(crate) fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '-' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            camel.extend(c.to_uppercase());
        } else {
            camel.push(c);
        }
    }
    camel
}

/// The candidate that is at most two edits away, if there is one.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    similar(word, candidates).into_iter().next()
}

/// The candidates that are at most two edits away, the nearest first.
pub(crate) fn similar<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    // The distance takes time with the square of the length, and peers choose the word.
    let word: String = word.chars().take(64).collect();
    let distances = candidates.map(|candidate| (distance(&word, candidate), candidate));
    let mut near: Vec<_> = distances.filter(|(edits, _)| *edits <= 2).collect();
    near.sort_unstable();
    near.into_iter().map(|(_, candidate)| candidate).collect()
}

/// Insertions, deletions and replacements between two words, whatever their case.
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.to_lowercase(), b.to_lowercase());
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, to) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

pub(crate) fn label(schema: &Schema, name: Option<&str>) -> String {
    let short = schema.short_name();
    match name.filter(|name| !name.is_empty()) {
        Some(name) => format!("{short} '{name}'"),
        None => short.to_owned(),
    }
}

pub(super) fn show(value: &Value) -> String {
    match value.as_str() {
        Some(text) if text.len() > MAX_SHOWN => {
            let start: String = text.chars().take(MAX_SHOWN).collect();
            format!("'{start}…'")
        }
        Some(text) => format!("'{text}'"),
        None => match value {
            Value::Bool(flag) => flag.to_string(),
            Value::Map(_) => "a map".into(),
            Value::List(_) | Value::Array(_) => "a list".into(),
            number => number
                .as_i64()
                .map_or_else(|| "something else".into(), |n| n.to_string()),
        },
    }
}

/// Characters of a wrong value that a message repeats.
const MAX_SHOWN: usize = 100;
const NAME: usize = 0;
const IDENTITY: usize = 1;
const TYPE: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn create(kind: &str, attributes: &[(&str, Value)]) -> Result<Entity, Vec<String>> {
        let schema = Schema::find(kind).expect("known");
        let attributes = attributes.iter().map(|(k, v)| ((*k).to_owned(), v.clone()));
        Entity::create(schema, attributes)
            .map_err(|problems| problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn values_are_taken_in_any_form_that_means_them() {
        let entity = create(
            "listener",
            &[
                ("name", "a".into()),
                ("port", 5672i64.into()),
                ("cost", "7".into()),
                ("authenticate-peer", "ON".into()),
                ("role", Value::Uint(1)),
            ],
        )
        .expect("valid");
        assert_eq!(entity.text("port"), Some("5672"));
        assert_eq!(entity.integer("cost"), Some(7));
        assert!(entity.flag("authenticatePeer"));
        assert_eq!(entity.text("role"), Some("inter-router"));
        assert_eq!(entity.integer("maxFrameSize"), Some(16_384));
    }

    #[test]
    fn what_is_wrong_is_said_by_name() {
        let problems = create(
            "listener",
            &[
                ("name", "a".into()),
                ("prot", "x".into()),
                ("role", "nomal".into()),
            ],
        )
        .expect_err("invalid");
        assert_eq!(
            problems,
            [
                "listener 'a': Unknown attribute 'prot' for 'io.skupper.router.listener'; did you mean 'port'?",
                "listener 'a': the attribute 'role' is 'nomal', but must be one of normal, \
                 inter-router, route-container, edge, inter-edge, inter-network",
            ]
        );
        let problems = create("listenerAddress", &[("address", "x".into())]).expect_err("invalid");
        assert_eq!(problems.len(), 2);
        let problems = create("router", &[("version", "1".into())]).expect_err("invalid");
        assert_eq!(
            problems,
            ["router: Cannot set attribute 'version' in CREATE: it is the router's to say"]
        );
    }

    #[test]
    fn every_attribute_of_every_entity_goes_in_and_comes_out() {
        for schema in Schema::all() {
            for attribute in schema
                .attributes
                .iter()
                .filter(|attribute| attribute.create)
            {
                let value = match &attribute.kind {
                    Kind::Text | Kind::Path => Value::from("x"),
                    Kind::Integer => Value::Long(5),
                    Kind::Boolean => Value::Bool(true),
                    Kind::Choice(words) => Value::from(words[0]),
                    Kind::Map => Value::Map(vec![("k".into(), "v".into())]),
                    Kind::List => Value::List(vec!["v".into()]),
                };
                let mut given: Vec<(String, Value)> = schema
                    .attributes
                    .iter()
                    .filter(|other| other.required && other.create && other.name != attribute.name)
                    .map(|other| match &other.kind {
                        Kind::Integer => (other.name.to_owned(), Value::Long(1)),
                        Kind::Choice(words) => (other.name.to_owned(), Value::from(words[0])),
                        _ => (other.name.to_owned(), Value::from("y")),
                    })
                    .collect();
                given.push((attribute.name.to_owned(), value.clone()));
                let entity = Entity::create(schema, given).expect(attribute.name);
                assert_eq!(entity.get(attribute.name), &value);
                let shown = entity.to_map();
                assert_eq!(shown.get(attribute.name).is_some(), !attribute.hidden);
            }
        }
    }

    #[test]
    fn where_a_secret_is_may_be_shown_but_not_the_secret() {
        let shown = |password: &str| {
            let given = [("name", "p".into()), ("password", password.into())];
            let profile = create("sslProfile", &given).expect("valid");
            assert_eq!(
                format!("{profile:?}").contains(password),
                profile.to_map().get("password").is_some()
            );
            profile.to_map().get("password").cloned()
        };
        for place in ["file:/run/secrets/key", "env:KEY_PASSWORD"] {
            assert_eq!(shown(place), Some(place.into()));
        }
        for secret in ["pass:s3cret", "literal:file:x", "s3cret", "files3cret"] {
            assert_eq!(shown(secret), None);
        }
    }

    #[test]
    fn an_update_is_all_or_nothing() {
        let mut profile = create("sslProfile", &[("name", "p".into())]).expect("valid");
        let bad = [
            ("certFile".to_owned(), "new".into()),
            ("uidFormat".to_owned(), "c".into()),
        ];
        assert!(profile.update(&bad).is_err());
        assert!(profile.get("certFile").is_null());
        profile.update(&bad[..1]).expect("may be updated");
        assert_eq!(profile.text("certFile"), Some("new"));
    }

    #[test]
    fn an_update_may_repeat_what_it_does_not_change() {
        let mut profile = create("sslProfile", &[("name", "p".into())]).expect("valid");
        let update = |key: &str, value: &str| [(key.to_owned(), Value::from(value))];
        profile.update(&update("name", "p")).expect("the same");
        profile
            .update(&update("type", "sslProfile"))
            .expect("the same");
        let renamed = profile.update(&update("name", "q")).expect_err("another");
        assert_eq!(
            renamed.to_string(),
            "sslProfile 'p': Cannot update attribute 'name' in UPDATE: it stays as it is"
        );
        profile.update(&update("certFile", "c")).expect("may be");
        let default = [("certFile".to_owned(), Value::Null)];
        profile.update(&default).expect("may be");
        assert!(profile.get("certFile").is_null());
    }

    #[test]
    fn an_attribute_is_given_once() {
        let twice = [("cert-file", "a".into()), ("certFile", "b".into())];
        assert_eq!(
            create("sslProfile", &twice).expect_err("twice"),
            ["sslProfile: the attribute 'certFile' is there twice"]
        );
    }

    #[test]
    fn an_entity_is_identified_by_what_its_type_has_for_that() {
        let identity = |kind: &str, attributes: &[(&str, &str)]| {
            let mut entity = Entity::new(Schema::find(kind).expect("known"));
            for (key, value) in attributes {
                entity.set(key, *value);
            }
            entity.identify(3);
            entity.identity().to_owned()
        };
        for (kind, attributes, expected) in [
            ("allocator", &[("typeName", "link")][..], "allocator/link"),
            ("router.node", &[("id", "A")], "router.node/A"),
            ("autoLink", &[("name", "a")], "3"),
            ("dummy", &[("name", "a")], "dummy/3"),
            (
                "listener",
                &[("host", "h"), ("name", "a")],
                "listener/h:amqp:a",
            ),
        ] {
            assert_eq!(identity(kind, attributes), expected);
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let connector = create("connector", &[("saslPassword", "hush".into())]).expect("valid");
        assert!(!format!("{connector:?}").contains("hush"));
        assert!(format!("{connector:?}").contains(r#""saslPassword": ******"#));
        assert_eq!(connector.shown("saslPassword"), Value::Null);
        assert_eq!(connector.text("saslPassword"), Some("hush"));
        let problems = create("sslProfile", &[("password", Value::List(vec![]))]);
        assert!(!problems.expect_err("invalid")[0].contains("list,"));
    }
}
