//! AMQP values as JSON and back; everything past the wire is JSON.

use fe2o3_amqp::types::primitives::OrderedMap;
use serde_amqp::Value;
use serde_json::{Map, Number, Value as Json};

/// The attributes of one entity.
pub(crate) type Row = Map<String, Json>;

/// The value as JSON. Keys of maps become strings; binary becomes text, with what is not UTF-8
/// replaced; what JSON has no form for becomes null.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Bool(v) => Json::from(*v),
        Value::Ubyte(v) => Json::from(*v),
        Value::Ushort(v) => Json::from(*v),
        Value::Uint(v) => Json::from(*v),
        Value::Ulong(v) => Json::from(*v),
        Value::Byte(v) => Json::from(*v),
        Value::Short(v) => Json::from(*v),
        Value::Int(v) => Json::from(*v),
        Value::Long(v) => Json::from(*v),
        Value::Float(v) => number(f64::from(v.0)),
        Value::Double(v) => number(v.0),
        Value::Char(v) => Json::from(v.to_string()),
        Value::Timestamp(v) => Json::from(v.milliseconds()),
        Value::Uuid(v) => Json::from(hex(v.as_inner())),
        Value::Binary(v) => Json::from(String::from_utf8_lossy(v)),
        Value::String(v) => Json::from(v.as_str()),
        Value::Symbol(v) => Json::from(v.as_str()),
        Value::List(v) => v.iter().map(to_json).collect(),
        Value::Array(v) => v.0.iter().map(to_json).collect(),
        Value::Map(v) => {
            let entries = v
                .iter()
                .map(|(key, value)| (text(&to_json(key)), to_json(value)));
            Json::Object(entries.collect())
        }
        Value::Described(v) => to_json(&v.value),
        _ => Json::Null,
    }
}

/// The AMQP value that a router expects for JSON: numbers are longs, texts strings.
pub(crate) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Long(number),
            (None, Some(number)) => Value::Ulong(number),
            _ => Value::from(number.as_f64().unwrap_or_default()),
        },
        Json::String(text) => Value::String(text.clone()),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(entries) => map(entries),
    }
}

/// The attributes as an AMQP map.
pub(crate) fn map(entries: &Row) -> Value {
    let entries = entries
        .iter()
        .map(|(key, value)| (Value::String(key.clone()), from_json(value)));
    Value::Map(OrderedMap::from_iter(entries))
}

/// A value in a table or a filter: texts without quotes, nothing for null.
pub(crate) fn text(json: &Json) -> String {
    match json {
        Json::Null => String::new(),
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

fn number(value: f64) -> Json {
    Number::from_f64(value).map_or(Json::Null, Json::Number)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_json_says_comes_back_from_amqp() {
        let json = json!({
            "text": "a", "number": -7, "large": u64::MAX, "flag": true, "none": null,
            "list": [1, "two"], "map": {"inner": 0.5},
        });
        assert_eq!(to_json(&from_json(&json)), json);
    }

    #[test]
    fn texts_of_values_are_what_one_would_type() {
        for (value, expected) in [
            (json!("a b"), "a b"),
            (json!(null), ""),
            (json!(12), "12"),
            (json!(["A", "B"]), "A, B"),
            (json!({"k": 1}), r#"{"k":1}"#),
        ] {
            assert_eq!(text(&value), expected);
        }
    }
}
