//! What a router says of its types (GET-SCHEMA), and values as it wants them.

use std::path::Path;

use serde_json::Value as Json;

use crate::client::{full_name, is_secret};
use crate::failure::{Failure, Outcome};
use crate::files::first_line;
use crate::value::{Row, text};

/// The types of a router's entities.
#[derive(Clone, Debug, Default)]
pub(crate) struct Schema {
    pub(crate) types: Vec<EntityType>,
}

#[derive(Clone, Debug)]
pub(crate) struct EntityType {
    pub(crate) name: String,
    pub(crate) operations: Vec<String>,
    pub(crate) attributes: Vec<Attribute>,
}

#[derive(Clone, Debug)]
pub(crate) struct Attribute {
    pub(crate) name: String,
    /// What it is for; empty where the router does not say.
    pub(crate) description: String,
    /// As the schema has it: a word, or a list of the words to choose from.
    pub(crate) kind: Json,
    pub(crate) default: Json,
    pub(crate) required: bool,
    pub(crate) create: bool,
    pub(crate) update: bool,
    pub(crate) hidden: bool,
}

impl Schema {
    pub(crate) fn read(answer: &Json) -> Option<Self> {
        let types = answer.get("entityTypes")?.as_object()?;
        let types = types
            .iter()
            .map(|(name, entry)| EntityType::read(name, entry));
        let types = types.collect();
        Some(Self { types })
    }

    /// The type of that name, full or short.
    pub(crate) fn find(&self, kind: &str) -> Option<&EntityType> {
        // A router may have the types that have aliases under these.
        let full = full_name(kind);
        self.types.iter().find(|kind| full_name(&kind.name) == full)
    }

    /// `NAME=VALUE` pairs as attributes of a type. What the schema does not know is guessed: the
    /// router says best what is wrong with it.
    pub(crate) fn attributes(&self, kind: &str, pairs: &[String]) -> Outcome<Row> {
        let of = self.find(kind);
        let mut row = Row::new();
        for pair in pairs {
            let (name, value) = split(pair)?;
            let known = of.and_then(|of| of.attributes.iter().find(|a| a.name == name));
            let hidden = is_secret(name) || known.is_some_and(|attribute| attribute.hidden);
            let value = match hidden {
                true => secret(name, value)?,
                false => match known {
                    Some(attribute) => attribute.parse(value)?,
                    None => guess(value),
                },
            };
            if row.insert(name.to_owned(), value).is_some() {
                return Err(Failure::Usage(format!("'{name}' is given twice")));
            }
        }
        Ok(row)
    }
}

impl EntityType {
    fn read(name: &str, entry: &Json) -> Self {
        let operations = entry.get("operations").and_then(Json::as_array);
        let attributes = entry.get("attributes").and_then(Json::as_object);
        let attributes = attributes.into_iter().flatten();
        Self {
            name: name.to_owned(),
            operations: operations.into_iter().flatten().map(text).collect(),
            attributes: attributes
                .map(|(name, entry)| Attribute::read(name, entry))
                .collect(),
        }
    }
}

impl Attribute {
    fn read(name: &str, entry: &Json) -> Self {
        let flag = |key: &str| entry.get(key) == Some(&Json::Bool(true));
        Self {
            name: name.to_owned(),
            description: entry.get("description").map(text).unwrap_or_default(),
            kind: entry.get("type").cloned().unwrap_or_default(),
            default: entry.get("default").cloned().unwrap_or_default(),
            required: flag("required"),
            create: flag("create"),
            update: flag("update"),
            hidden: flag("hidden"),
        }
    }

    fn parse(&self, value: &str) -> Outcome<Json> {
        let wrong = |wanted: &str| {
            let name = &self.name;
            Failure::Usage(format!("'{name}' must be {wanted}, not '{value}'"))
        };
        match (self.kind.as_str(), value) {
            (Some("integer" | "boolean" | "map" | "properties" | "list"), "") => Ok(Json::Null),
            (Some("integer"), value) => {
                let number: i64 = value.parse().map_err(|_| wrong("an integer"))?;
                Ok(Json::from(number))
            }
            (Some("boolean"), value) => match value.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Ok(Json::Bool(true)),
                "false" | "no" | "off" => Ok(Json::Bool(false)),
                _ => Err(wrong("true or false")),
            },
            (Some("map" | "properties"), value) => match serde_json::from_str(value) {
                Ok(map @ Json::Object(_)) => Ok(map),
                _ => Err(wrong("a JSON object")),
            },
            (Some("list"), value) => match serde_json::from_str(value) {
                Ok(list @ Json::Array(_)) => Ok(list),
                _ => Err(wrong("a JSON list")),
            },
            _ => Ok(Json::from(value)),
        }
    }
}

/// A value whose type nobody knows.
fn guess(value: &str) -> Json {
    match (value, value.parse::<i64>()) {
        ("true", _) => Json::Bool(true),
        ("false", _) => Json::Bool(false),
        (_, Ok(number)) => Json::from(number),
        _ => Json::from(value),
    }
}

/// Other users see the command line, so a secret does not stand there.
fn secret(name: &str, value: &str) -> Outcome<Json> {
    if let Some(file) = value.strip_prefix('@') {
        return first_line(Path::new(file)).map(Json::from);
    }
    if value.is_empty() || value.starts_with("env:") || value.starts_with("file:") {
        return Ok(Json::from(value));
    }
    Err(Failure::Usage(format!(
        "'{name}' is a secret, which others would see on the command line: write {name}=@FILE \
         (read here), or {name}=file:PATH or {name}=env:VARIABLE (read by the router)"
    )))
}

fn split(pair: &str) -> Outcome<(&str, &str)> {
    match pair.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name, value)),
        // The text may be half of a secret, so it is not repeated.
        _ => Err(Failure::Usage(
            "attributes are written ATTRIBUTE=VALUE".into(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Schema {
        let listener = json!({
            "operations": ["CREATE", "READ"],
            "attributes": {
                "port": {"type": "string", "create": true},
                "cost": {"type": "integer", "default": 1},
                "http": {"type": "boolean"},
                "role": {"type": ["normal", "edge"]},
                "openProperties": {"type": "properties"},
                "password": {"type": "string", "hidden": true},
            },
        });
        Schema::read(&json!({"entityTypes": {"listener": listener}})).unwrap()
    }

    fn parse(pairs: &[&str]) -> Outcome<Json> {
        let pairs: Vec<String> = pairs.iter().map(|pair| (*pair).to_owned()).collect();
        schema().attributes("listener", &pairs).map(Json::Object)
    }

    #[test]
    fn values_take_the_type_that_the_schema_gives() {
        let parsed = parse(&["port=5672", "cost=2", "http=yes", "role=edge"]).unwrap();
        let expected = json!({"port": "5672", "cost": 2, "http": true, "role": "edge"});
        assert_eq!(parsed, expected);
        let parsed = parse(&[r#"openProperties={"a": 1}"#, "cost=", "port="]).unwrap();
        let expected = json!({"openProperties": {"a": 1}, "cost": null, "port": ""});
        assert_eq!(parsed, expected);
    }

    #[test]
    fn what_the_schema_does_not_know_is_guessed() {
        let parsed = parse(&["prot=5672", "up=true", "note=a=b"]).unwrap();
        assert_eq!(parsed, json!({"prot": 5672, "up": true, "note": "a=b"}));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named() {
        for (pair, hint) in [
            ("cost=much", "'cost' must be an integer, not 'much'"),
            ("http=maybe", "'http' must be true or false"),
            ("openProperties=[]", "a JSON object"),
            ("cost", "ATTRIBUTE=VALUE"),
            ("=1", "ATTRIBUTE=VALUE"),
        ] {
            let error = parse(&[pair]).unwrap_err().text().unwrap();
            assert!(error.contains(hint), "{pair}: {error}");
        }
        let twice = parse(&["cost=1", "cost=2"]).unwrap_err().text().unwrap();
        assert!(twice.contains("given twice"), "{twice}");
    }

    #[test]
    fn secrets_come_from_files_and_are_not_repeated() {
        let error = parse(&["password=hunter2"]).unwrap_err().text().unwrap();
        assert!(error.contains("password=@FILE"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
        let parsed = parse(&["password=file:/run/secret"]).unwrap();
        assert_eq!(parsed, json!({"password": "file:/run/secret"}));
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("secret");
        std::fs::write(&file, "hunter2\nmore\n").unwrap();
        let parsed = parse(&[&format!("password=@{}", file.display())]).unwrap();
        assert_eq!(parsed, json!({"password": "hunter2"}));
    }
}
