//! AMQP values as JSON that keeps their types: `["uint", 7]`, `["map", [[key, value], …]]`.

use crate::message::{hex, unhex};
use serde_amqp::{
    Value,
    described::Described,
    descriptor::Descriptor,
    primitives::{Array, Binary, OrderedMap, Symbol, Timestamp, Uuid},
};
use serde_json::{Value as Json, json};

/// # Panics
///
/// When `typed` is not of the form; only tests write it.
pub(super) fn from_typed(typed: &Json) -> Value {
    let content = &typed[1];
    let number = || content.as_i64().expect("a number");
    let text = || content.as_str().expect("a text");
    let bytes = || unhex(text()).expect("hexadecimal");
    match typed[0].as_str().expect("a type") {
        "null" => Value::Null,
        "boolean" => Value::Bool(content.as_bool().expect("a boolean")),
        "ubyte" => Value::Ubyte(number() as u8),
        "ushort" => Value::Ushort(number() as u16),
        "uint" => Value::Uint(number() as u32),
        "ulong" => Value::Ulong(text().parse().expect("a ulong")),
        "byte" => Value::Byte(number() as i8),
        "short" => Value::Short(number() as i16),
        "int" => Value::Int(number() as i32),
        "long" => Value::Long(text().parse().expect("a long")),
        "float" => Value::from(content.as_f64().expect("a number") as f32),
        "double" => Value::from(content.as_f64().expect("a number")),
        "decimal32" => Value::Decimal32(bytes().as_slice().try_into().expect("4 bytes")),
        "decimal64" => Value::Decimal64(bytes().as_slice().try_into().expect("8 bytes")),
        "decimal128" => Value::Decimal128(bytes().as_slice().try_into().expect("16 bytes")),
        "char" => Value::Char(char::from_u32(number() as u32).expect("a code point")),
        "timestamp" => Value::Timestamp(Timestamp::from(number())),
        "uuid" => Value::Uuid(Uuid::try_from(bytes().as_slice()).expect("16 bytes")),
        "binary" => Value::Binary(Binary::from(bytes())),
        "string" => Value::String(text().to_owned()),
        "symbol" => Value::Symbol(Symbol::from(text())),
        "list" => Value::List(items(content)),
        "array" => Value::Array(Array::from(items(content))),
        "map" => Value::Map(pairs(content)),
        "described" => Value::Described(Box::new(Described {
            descriptor: descriptor(&from_typed(content)),
            value: from_typed(&typed[2]),
        })),
        other => panic!("no AMQP type '{other}'"),
    }
}

pub(super) fn to_typed(value: &Value) -> Json {
    match value {
        Value::Null => json!(["null"]),
        Value::Bool(v) => json!(["boolean", v]),
        Value::Ubyte(v) => json!(["ubyte", v]),
        Value::Ushort(v) => json!(["ushort", v]),
        Value::Uint(v) => json!(["uint", v]),
        Value::Ulong(v) => json!(["ulong", v.to_string()]),
        Value::Byte(v) => json!(["byte", v]),
        Value::Short(v) => json!(["short", v]),
        Value::Int(v) => json!(["int", v]),
        Value::Long(v) => json!(["long", v.to_string()]),
        Value::Float(v) => json!(["float", v.0]),
        Value::Double(v) => json!(["double", v.0]),
        Value::Decimal32(v) => json!(["decimal32", hex(v.as_inner())]),
        Value::Decimal64(v) => json!(["decimal64", hex(v.as_inner())]),
        Value::Decimal128(v) => json!(["decimal128", hex(v.as_inner())]),
        Value::Char(v) => json!(["char", *v as u32]),
        Value::Timestamp(v) => json!(["timestamp", v.milliseconds()]),
        Value::Uuid(v) => json!(["uuid", hex(v.as_inner())]),
        Value::Binary(v) => json!(["binary", hex(v)]),
        Value::String(v) => json!(["string", v]),
        Value::Symbol(v) => json!(["symbol", v.as_str()]),
        Value::List(v) => json!(["list", v.iter().map(to_typed).collect::<Json>()]),
        Value::Array(v) => json!(["array", v.0.iter().map(to_typed).collect::<Json>()]),
        Value::Map(v) => {
            let pairs = v.iter().map(|(k, v)| json!([to_typed(k), to_typed(v)]));
            json!(["map", pairs.collect::<Json>()])
        }
        Value::Described(v) => {
            let descriptor = match &v.descriptor {
                Descriptor::Name(name) => json!(["symbol", name.as_str()]),
                Descriptor::Code(code) => json!(["ulong", code.to_string()]),
            };
            json!(["described", descriptor, to_typed(&v.value)])
        }
    }
}

/// An AMQP value for a plain text or number.
pub(super) fn from_plain(plain: &Json) -> Value {
    match plain {
        Json::String(text) => Value::String(text.clone()),
        Json::Bool(flag) => Value::Bool(*flag),
        Json::Number(number) => Value::Long(number.as_i64().unwrap_or_default()),
        _ => Value::Null,
    }
}

/// The text or number without its type; anything else in the typed form.
pub(super) fn to_plain(value: &Value) -> Json {
    match value {
        Value::String(text) => json!(text),
        Value::Symbol(text) => json!(text.as_str()),
        Value::Bool(flag) => json!(flag),
        Value::Long(number) => json!(number),
        other => to_typed(other),
    }
}

fn items(content: &Json) -> Vec<Value> {
    content
        .as_array()
        .expect("a list")
        .iter()
        .map(from_typed)
        .collect()
}

fn pairs(content: &Json) -> OrderedMap<Value, Value> {
    let pairs = content.as_array().expect("pairs").iter();
    pairs
        .map(|pair| (from_typed(&pair[0]), from_typed(&pair[1])))
        .collect()
}

fn descriptor(value: &Value) -> Descriptor {
    match value {
        Value::Ulong(code) => Descriptor::Code(*code),
        Value::Symbol(name) => Descriptor::Name(name.clone()),
        other => panic!("not a descriptor: {other:?}"),
    }
}
