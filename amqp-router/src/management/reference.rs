//! What can be configured, seen and changed, in words for people: on a terminal, and as the page
//! `docs/configuration.md`.

use std::fmt::Write;

use thiserror::Error;

use crate::management::entity::{camel_case, similar};
use crate::management::reload::{changes_now, is_of_the_start};
use crate::management::schema::{Attribute, Kind, Schema};

mod page;

pub use page::markdown;

/// Explains an entity with its attributes (`listener`), an attribute (`listener.host`), or, without
/// a name, lists the entities, a line each. Names may be short, full or those of configuration
/// files. Lines are at most `width` characters long, words permitting.
///
/// ```
/// let text = amqp_router::reference::explain(Some("listener.host"), 80)?;
/// assert!(text.starts_with("listener.host: text"));
/// # Ok::<(), amqp_router::reference::UnknownName>(())
/// ```
///
/// # Errors
/// There is no such entity or attribute.
pub fn explain(name: Option<&str>, width: usize) -> Result<String, UnknownName> {
    let Some(name) = name else {
        return Ok(overview(width));
    };
    match find(name)? {
        (schema, None) => Ok(entity(schema, width)),
        (schema, Some(attribute)) => {
            let name = format!("{}.{}", schema.short_name(), attribute.name);
            Ok(entry(&name, schema, attribute, width))
        }
    }
}

/// There is no entity or attribute of a name.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("there is no {what}; {hint}")]
pub struct UnknownName {
    what: String,
    hint: String,
}

impl UnknownName {
    /// `near` are names that may be meant; `otherwise` says where to look if there are none.
    fn new(what: String, near: &[String], otherwise: String) -> Self {
        let near = &near[..near.len().min(MOST_NEAR)];
        let hint = match near {
            [] => otherwise,
            [one] => format!("did you mean {one}?"),
            [rest @ .., last] => format!("did you mean {} or {last}?", rest.join(", ")),
        };
        Self { what, hint }
    }
}

/// What a name means: an entity, or an attribute of one.
fn find(name: &str) -> Result<(&'static Schema, Option<&'static Attribute>), UnknownName> {
    let name = camel_case(name);
    if let Some(schema) = entity_of_name(&name) {
        return Ok((schema, None));
    }
    let split = name.rsplit_once('.');
    let Some((schema, last)) = split.and_then(|(of, last)| Some((entity_of_name(of)?, last)))
    else {
        return Err(unknown_entity(&name));
    };
    match schema.position(last) {
        Some(position) => Ok((schema, Some(&schema.attributes[position]))),
        None => Err(unknown_attribute(schema, last)),
    }
}

/// `link` and `node` are what clients say for `router.link` and `router.node`.
fn entity_of_name(name: &str) -> Option<&'static Schema> {
    Schema::find(name).or_else(|| match name {
        "link" | "node" => Schema::find(&format!("router.{name}")),
        _ => None,
    })
}

/// Whoever means an attribute may have forgotten, or misspelt, the entity before it.
fn unknown_entity(name: &str) -> UnknownName {
    let names = || Schema::all().iter().map(Schema::short_name);
    let (of, attribute) = match name.rsplit_once('.') {
        Some((of, attribute)) => (of, Some(attribute)),
        None => (name, None),
    };
    let mut near: Vec<String> = match attribute {
        Some(attribute) => {
            let named = similar(of, names()).into_iter().filter_map(Schema::find);
            having(attribute, named)
        }
        None => having(name, Schema::all().iter()),
    };
    if near.is_empty() {
        near = match attribute {
            Some(attribute) => having(attribute, Schema::all().iter()),
            None => similar(name, names())
                .into_iter()
                .map(str::to_owned)
                .collect(),
        };
    }
    let what = format!("entity '{}'", of.escape_debug());
    let otherwise = "without a name all of them are listed".to_owned();
    UnknownName::new(what, &near, otherwise)
}

/// Those of some entities that have an attribute, with it.
fn having(attribute: &str, schemas: impl Iterator<Item = &'static Schema>) -> Vec<String> {
    let with = schemas.filter(|schema| schema.position(attribute).is_some());
    with.map(|schema| format!("{}.{attribute}", schema.short_name()))
        .collect()
}

fn unknown_attribute(schema: &Schema, name: &str) -> UnknownName {
    let of = schema.short_name();
    let near = similar(name, schema.attribute_names()).into_iter();
    let near: Vec<String> = near.map(|near| format!("{of}.{near}")).collect();
    let what = format!("attribute '{}' of {of}", name.escape_debug());
    UnknownName::new(what, &near, format!("'{of}' alone has all of them"))
}

/// What entities are there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Configured,
    Shown,
    /// What only clients of management see: the agent, and what types refine.
    Abstract,
}

impl Group {
    const ALL: [Self; 3] = [Self::Configured, Self::Shown, Self::Abstract];

    fn of(schema: &Schema) -> Self {
        match schema.attribute_names().count() > COMMON {
            true if schema.is_configurable() && schema.name != "dummy" => Self::Configured,
            true if schema.name == GROUP_SETTINGS => Self::Configured,
            true if schema.operational => Self::Shown,
            _ => Self::Abstract,
        }
    }

    fn entities(self) -> impl Iterator<Item = &'static Schema> {
        Schema::all()
            .iter()
            .filter(move |schema| Self::of(schema) == self)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Configured => "What is configured",
            Self::Shown => "What the router shows of its work",
            Self::Abstract => "What else clients of management find",
        }
    }
}

/// When an attribute takes a value that somebody gives it.
fn setting(schema: &Schema, attribute: &Attribute) -> &'static str {
    let is_common = COMMON_NAMES.contains(&attribute.name);
    match schema.name {
        _ if attribute.update => "changeable at run time",
        GROUP_SETTINGS if !is_common => "set in groups of vhost",
        _ if !attribute.create || !schema.is_configurable() => "read-only",
        name if is_of_the_start(schema) => match changes_now(name, attribute.name) {
            true => "changeable by a reload",
            false => "set at the start",
        },
        _ => "set when created",
    }
}

fn kind(kind: &Kind) -> String {
    match kind {
        Kind::Text => "text".into(),
        Kind::Path => "path".into(),
        Kind::Integer => "integer".into(),
        Kind::Boolean => "yes or no".into(),
        Kind::Map => "map".into(),
        Kind::List => "list".into(),
        Kind::Choice(words) => words.join(", "),
    }
}

fn default(attribute: &Attribute) -> Option<&'static str> {
    attribute
        .default
        .map(|default| match (&attribute.kind, default) {
            (Kind::Boolean, "true") => "yes",
            (Kind::Boolean, _) => "no",
            (_, "") => "empty",
            (_, default) => default,
        })
}

fn summary(description: &str) -> &str {
    match description.split_once(". ") {
        Some((first, _)) => &description[..=first.len()],
        None => description,
    }
}

fn overview(width: usize) -> String {
    let mut text = String::new();
    let names = Schema::all().iter().map(Schema::short_name);
    let widest = names.map(str::len).max().unwrap_or_default();
    for group in Group::ALL {
        if !text.is_empty() {
            text.push('\n');
        }
        let _ = writeln!(text, "{}:", group.title());
        for schema in group.entities() {
            let line = format!(
                "  {:widest$}  {}",
                schema.short_name(),
                summary(schema.description)
            );
            text.push_str(&shortened(&line, width));
            text.push('\n');
        }
    }
    text
}

/// A line that fits.
fn shortened(line: &str, width: usize) -> String {
    if line.chars().count() <= width {
        return line.to_owned();
    }
    let start: String = line.chars().take(width.saturating_sub(1)).collect();
    // Not in the middle of a word.
    let (whole, _) = start.rsplit_once(' ').unwrap_or((&start, ""));
    format!("{} …", whole.trim_end_matches([',', ':', ';']))
}

fn entity(schema: &Schema, width: usize) -> String {
    let mut text = format!("{}\n", schema.short_name());
    push_wrapped(&mut text, schema.description, INDENT, width);
    push_wrapped(&mut text, &operations(schema), INDENT, width);
    for attribute in schema.own_attributes_first() {
        text.push('\n');
        text.push_str(&entry(attribute.name, schema, attribute, width));
    }
    text
}

fn operations(schema: &Schema) -> String {
    let query = schema.allows("QUERY").then_some("QUERY");
    let others = schema.listed_operations().filter(|name| *name != "QUERY");
    let all = query.into_iter().chain(others);
    let all: Vec<&str> = all.filter(|name| !schema.forbids(name)).collect();
    format!(
        "Full name: {}. Operations: {}.",
        schema.full_name(),
        all.join(", ")
    )
}

/// One attribute: `name` as it is to stand there, the facts, and what it is for.
fn entry(name: &str, schema: &Schema, attribute: &Attribute, width: usize) -> String {
    let mut facts = vec![kind(&attribute.kind)];
    if matches!(attribute.kind, Kind::Choice(_)) {
        facts[0] = format!("one of {}", facts[0]);
    }
    if attribute.required {
        facts.push("required".into());
    }
    facts.extend(default(attribute).map(|default| format!("{default} by default")));
    facts.push(setting(schema, attribute).into());
    if attribute.hidden {
        facts.push("secret".into());
    }
    let mut text = String::new();
    let facts = format!("{name}: {}", facts.join("; "));
    push_wrapped(&mut text, &facts, "", width);
    push_wrapped(&mut text, attribute.description, INDENT, width);
    text
}

/// Appends lines that begin with `indent`; all after the first one with some more if that has none.
fn push_wrapped(text: &mut String, words: &str, indent: &str, width: usize) {
    let next = if indent.is_empty() { "    " } else { indent };
    let mut line = indent.to_owned();
    let mut is_empty = true;
    for word in words.split_whitespace() {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > width {
            text.push_str(&line);
            text.push('\n');
            next.clone_into(&mut line);
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    text.push_str(&line);
    text.push('\n');
}

const INDENT: &str = "  ";
/// Names that an error offers.
const MOST_NEAR: usize = 5;
/// What describes a part of an attribute of `vhost`, rather than entities.
const GROUP_SETTINGS: &str = "vhostUserGroupSettings";
const COMMON_NAMES: [&str; 3] = ["name", "identity", "type"];
const COMMON: usize = COMMON_NAMES.len();

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(name: &str) -> String {
        explain(Some(name), 60).expect(name)
    }

    fn unknown(name: &str) -> String {
        explain(Some(name), 60).expect_err(name).to_string()
    }

    #[test]
    fn an_attribute_is_explained_under_all_its_names() {
        let text = "address.priority: integer; set when created\n";
        for name in [
            "address.priority",
            "router.config.address.priority",
            "io.skupper.router.router.config.address.priority",
        ] {
            assert!(explained(name).starts_with(text), "{}", explained(name));
        }
        let text = explained("ssl-profile.private-key-file");
        assert!(text.starts_with("sslProfile.privateKeyFile: path; changeable at run time\n"));
    }

    #[test]
    fn an_entity_is_explained_with_all_its_attributes() {
        let text = explained("sslProfile");
        assert!(
            text.starts_with("sslProfile\n  Certificates and keys"),
            "{text}"
        );
        let schema = Schema::find("sslProfile").expect("known");
        for name in schema.attribute_names() {
            assert!(text.contains(&format!("\n{name}: ")), "{name}: {text}");
        }
        assert!(text.contains("\npassword: text; changeable at run time; secret\n"));
        assert!(explained("link").starts_with("router.link\n"));
        assert!(explained("io.skupper.router.management").starts_with("management\n"));
    }

    #[test]
    fn when_a_value_can_be_set_is_told() {
        for (name, set) in [
            ("router.workerThreads", "4 by default; set at the start"),
            ("router.metadata", "changeable by a reload"),
            ("network.networkId", "changeable at run time"),
            ("network.tenantId", "set at the start"),
            ("site.location", "set at the start"),
            ("policy.totalDenials", "read-only"),
            ("connector.role", "normal by default; set when created"),
            ("log.module", "required; set when created"),
            ("log.enable", "changeable at run time"),
            ("connection.name", "read-only"),
            (
                "connection.adminStatus",
                "enabled by default; changeable at run time",
            ),
            (
                "vhostUserGroupSettings.users",
                "required; set in groups of vhost",
            ),
            ("vhostUserGroupSettings.name", "read-only"),
        ] {
            let text = explain(Some(name), 1000).expect(name);
            let facts = text.lines().next().unwrap_or_default();
            assert!(facts.ends_with(set), "{name}: {facts}");
        }
    }

    #[test]
    fn all_entities_are_listed_once_and_lines_fit() {
        for width in [40, 80, 200] {
            let text = explain(None, width).expect("it is");
            for schema in Schema::all() {
                let name = format!("  {} ", schema.short_name());
                let lines = text.lines().filter(|line| line.starts_with(&name));
                assert_eq!(lines.count(), 1, "{name}: {text}");
            }
            let longest = text.lines().map(|line| line.chars().count()).max();
            assert!(longest <= Some(width), "{longest:?}: {text}");
        }
        for line in Schema::all().iter().flat_map(|schema| {
            let text = explained(schema.name);
            text.lines().map(str::to_owned).collect::<Vec<_>>()
        }) {
            assert!(line.chars().count() <= 60, "{line}");
        }
    }

    #[test]
    fn who_misspells_a_name_is_told_which_there_are() {
        for (name, text) in [
            (
                "listner",
                "there is no entity 'listner'; did you mean listener?",
            ),
            (
                "Listner.host",
                "there is no entity 'Listner'; did you mean listener.host?",
            ),
            (
                "listener.hots",
                "there is no attribute 'hots' of listener; did you mean listener.host or listener.http?",
            ),
            (
                "cost",
                "there is no entity 'cost'; did you mean listener.cost, connector.cost or router.node.cost?",
            ),
            (
                "nonsense",
                "there is no entity 'nonsense'; without a name all of them are listed",
            ),
            (
                "foo.cost",
                "there is no entity 'foo'; did you mean listener.cost, connector.cost or router.node.cost?",
            ),
            ("vhosts", "there is no entity 'vhosts'; did you mean vhost?"),
            (
                "vhost.nonsense",
                "there is no attribute 'nonsense' of vhost; 'vhost' alone has all of them",
            ),
        ] {
            assert_eq!(unknown(name), text);
        }
    }
}
