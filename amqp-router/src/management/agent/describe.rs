//! What the table of entities says of itself.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};

use crate::codec::Value;
use crate::management::schema::{Attribute, Kind, PREFIX, Schema};

/// What a client wants to know of types.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aspect {
    Types,
    Attributes,
    Operations,
    Annotations,
    Schema,
    /// The schema as a text, with this many blanks a level or all in one line.
    JsonSchema {
        indent: Option<usize>,
    },
}

/// An aspect of one type, or of all.
pub(super) fn describe(only: Option<&Schema>, aspect: Aspect) -> Value {
    let by_type = |is_in: fn(&Schema, &Schema) -> bool, of: fn(&Schema) -> Value| {
        let schemas = Schema::all()
            .iter()
            .filter(|schema| only.is_none_or(|only| is_in(schema, only)));
        let entries = schemas.map(|schema| (Value::from(schema.full_name()), of(schema)));
        Value::Map(entries.collect())
    };
    match aspect {
        Aspect::Types => by_type(Schema::is_a, |schema| {
            list(schema.bases().map(Schema::full_name))
        }),
        Aspect::Attributes => by_type(is_same, |schema| list(schema.attribute_names())),
        Aspect::Operations => by_type(is_same, operations),
        Aspect::Annotations => Value::Map(Vec::new()),
        Aspect::Schema => schema(),
        Aspect::JsonSchema { indent } => Value::from(json(&schema(), indent)),
    }
}

fn is_same(one: &Schema, other: &Schema) -> bool {
    one.name == other.name
}

fn operations(schema: &Schema) -> Value {
    list(schema.listed_operations())
}

fn schema() -> Value {
    let types = Schema::all().iter().map(|schema| {
        let attributes = schema
            .own_attributes_first()
            .filter(|attribute| attribute.name != "type")
            .map(|attribute| (attribute.name.into(), self::attribute(attribute)));
        let mut entries = vec![("attributes".into(), Value::Map(attributes.collect()))];
        if schema.listed_operations().next().is_some() {
            entries.push(("operations".into(), operations(schema)));
        }
        entries.extend([
            ("description".into(), schema.description.into()),
            ("fullyQualifiedType".into(), schema.full_name().into()),
        ]);
        if schema.singleton {
            entries.push(("singleton".into(), true.into()));
        }
        (Value::from(schema.short_name()), Value::Map(entries))
    });
    let prefix = PREFIX.trim_end_matches('.');
    Value::Map(vec![
        ("prefix".into(), prefix.into()),
        ("entityTypes".into(), Value::Map(types.collect())),
    ])
}

fn attribute(attribute: &Attribute) -> Value {
    let kind = match &attribute.kind {
        Kind::Text => "string".into(),
        Kind::Path => "path".into(),
        Kind::Integer => "integer".into(),
        Kind::Boolean => "boolean".into(),
        Kind::Map if attribute.name == "openProperties" => "properties".into(),
        Kind::Map => "map".into(),
        Kind::List => "list".into(),
        Kind::Choice(words) => list(words.iter().copied()),
    };
    let flags = [
        ("required", attribute.required),
        ("unique", matches!(attribute.name, "name" | "identity")),
        ("create", attribute.create),
        ("update", attribute.update),
        ("hidden", attribute.hidden),
        ("graph", attribute.graph),
    ];
    let mut entries = vec![
        ("type".into(), kind),
        ("description".into(), attribute.description.into()),
    ];
    if attribute.default.is_some() {
        entries.push(("default".into(), attribute.default_value()));
    }
    let flags = flags.into_iter().filter(|(_, set)| *set);
    entries.extend(flags.map(|(name, set)| (name.into(), set.into())));
    Value::Map(entries)
}

fn list<T: Into<Value>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::List(items.into_iter().map(Into::into).collect())
}

fn json(value: &Value, indent: Option<usize>) -> String {
    let mut text = Vec::new();
    let blanks = " ".repeat(indent.unwrap_or_default());
    let written = match indent {
        None => serde_json::to_writer(&mut text, &Json(value)),
        Some(_) => {
            let formatter = serde_json::ser::PrettyFormatter::with_indent(blanks.as_bytes());
            Json(value).serialize(&mut serde_json::Serializer::with_formatter(
                &mut text, formatter,
            ))
        }
    };
    written.expect("keys are texts, and a vector takes all that is written");
    String::from_utf8(text).expect("JSON is UTF-8")
}

/// A value of the schema as JSON.
struct Json<'a>(&'a Value);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(&Json(key), &Json(value))?;
                }
                map.end()
            }
            Value::List(items) => {
                let mut seq = serializer.serialize_seq(Some(items.len()))?;
                for item in items {
                    seq.serialize_element(&Json(item))?;
                }
                seq.end()
            }
            Value::Bool(flag) => serializer.serialize_bool(*flag),
            Value::Long(number) => serializer.serialize_i64(*number),
            other => serializer.serialize_str(other.as_str().unwrap_or_default()),
        }
    }
}
