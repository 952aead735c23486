//! What a message is about, in one line.
//!
//! The form is that of skrouterd, so that whoever looks for `message-id="m1"` finds it in either
//! log.

use std::fmt::Write;

use jiff::Timestamp;

use crate::adaptors::components::Components;
use crate::codec::view::{self, APPLICATION_PROPERTIES, PROPERTIES};
use crate::codec::{DecodeError, Reader, Value};

/// What can be said of a message whose first octets are here.
#[derive(Debug, PartialEq)]
pub(super) enum Known {
    All(String),
    /// There may be more to say when there are more octets.
    Part(String),
    /// It is no message.
    Nothing,
}

/// Shows the chosen components of the message that starts with these octets.
pub(super) fn message(start: &[u8], components: Components) -> Known {
    let mut fields = Fields::default();
    let known = read(&mut Reader::new(start), components, &mut fields);
    let text = format!("Message{{{}}}", fields.text);
    match known {
        Ok(()) => Known::All(text),
        Err(DecodeError::Truncated) => Known::Part(text),
        Err(_) => Known::Nothing,
    }
}

/// Reads sections up to the body.
fn read(
    reader: &mut Reader<'_>,
    components: Components,
    fields: &mut Fields,
) -> Result<(), DecodeError> {
    loop {
        let code = view::section(reader)?;
        if code > APPLICATION_PROPERTIES && code <= LAST {
            return Ok(());
        }
        // A value is read when all of it is here.
        let mut value = *reader;
        reader.skip()?;
        match code {
            PROPERTIES => {
                let properties = Value::decode(&mut value)?;
                let list = properties.as_list().unwrap_or_default();
                for (number, value) in list.iter().enumerate().filter(|(_, v)| !v.is_null()) {
                    if let Some(name) = components.field(number) {
                        fields.add(name, value);
                    }
                }
            }
            APPLICATION_PROPERTIES => {
                if let Some(name) = components.application_properties() {
                    fields.add(name, &Value::decode(&mut value)?);
                }
                return Ok(());
            }
            _ => {}
        }
    }
}

/// The fields of a message that are shown.
#[derive(Debug, Default)]
struct Fields {
    text: String,
}

impl Fields {
    fn add(&mut self, name: &str, value: &Value) {
        if self.text.len() >= MOST {
            return;
        }
        let comma = if self.text.is_empty() { "" } else { ", " };
        let _ = write!(self.text, "{comma}{name}=");
        show(&mut self.text, value);
        if self.text.len() > MOST {
            // All of it is ASCII.
            self.text.truncate(MOST);
            self.text.push_str("...");
        }
    }
}

fn show(text: &mut String, value: &Value) {
    if text.len() > MOST {
        return;
    }
    let _ = match value {
        Value::Null => write!(text, "null"),
        Value::Bool(flag) => write!(text, "{}", if *flag { 'T' } else { 'F' }),
        Value::Ubyte(n) => write!(text, "{n}"),
        Value::Ushort(n) => write!(text, "{n}"),
        Value::Uint(n) => write!(text, "{n}"),
        Value::Ulong(n) => write!(text, "{n}"),
        Value::Byte(n) => write!(text, "{n}"),
        Value::Short(n) => write!(text, "{n}"),
        Value::Int(n) => write!(text, "{n}"),
        Value::Long(n) => write!(text, "{n}"),
        Value::Float(n) => write!(text, "{n}"),
        Value::Double(n) => write!(text, "{n}"),
        Value::Timestamp(at) => match Timestamp::from_millisecond(*at) {
            Ok(time) => write!(text, "\"{}\"", time.strftime("%Y-%m-%d %H:%M:%S.%3f +0000")),
            Err(_) => write!(text, "{at}"),
        },
        Value::Uuid(octets) => write!(text, "{}", uuid(octets)),
        Value::Char(c) => write!(text, "{}", u32::from(*c)),
        Value::Decimal32(octets) => quote(text, "b\"", octets),
        Value::Decimal64(octets) => quote(text, "b\"", octets),
        Value::Decimal128(octets) => quote(text, "b\"", octets),
        Value::Binary(octets) => quote(text, "b\"", octets),
        Value::String(string) => quote(text, "\"", string.as_bytes()),
        Value::Symbol(symbol) => quote(text, ":\"", symbol.as_str().as_bytes()),
        Value::List(values) => between(text, values),
        Value::Array(values) => between(text, values.as_slice()),
        Value::Map(pairs) => {
            text.push('{');
            for (number, (key, value)) in pairs.iter().enumerate() {
                text.push_str(if number == 0 { "" } else { ", " });
                show(text, key);
                text.push('=');
                show(text, value);
            }
            text.push('}');
            Ok(())
        }
        Value::Described(described) => {
            show(text, &described.value);
            Ok(())
        }
    };
}

fn between(text: &mut String, values: &[Value]) -> std::fmt::Result {
    text.push('[');
    for (number, value) in values.iter().enumerate() {
        text.push_str(if number == 0 { "" } else { ", " });
        show(text, value);
    }
    text.push(']');
    Ok(())
}

/// Octets as text, those that a log should not have as `\0a`.
fn quote(text: &mut String, open: &str, octets: &[u8]) -> std::fmt::Result {
    text.push_str(open);
    for octet in octets.iter().take(MOST) {
        match octet {
            b' '..=b'~' => text.push(char::from(*octet)),
            octet => write!(text, "\\{octet:02x}")?,
        }
    }
    text.push('"');
    Ok(())
}

/// As RFC 4122 writes it.
fn uuid(octets: &[u8; 16]) -> String {
    let mut text = String::with_capacity(36);
    for (number, octet) in octets.iter().enumerate() {
        text.push_str(if matches!(number, 4 | 6 | 8 | 10) {
            "-"
        } else {
            ""
        });
        let _ = write!(text, "{octet:02x}");
    }
    text
}

/// Octets that the fields of a message have in the log.
const MOST: usize = 1800;
/// The last section that the standard knows (AMQP 3.2).
const LAST: u64 = 0x78;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::codec::{Message, MessageId, Properties, RouterAnnotations, Symbol};

    fn components(text: &str) -> Components {
        Components::parse(text).unwrap()
    }

    fn all(message: &Message) -> String {
        match super::message(&message.encode(), components("all")) {
            Known::All(text) => text,
            other => panic!("{other:?}"),
        }
    }

    fn full() -> Message {
        Message {
            properties: Some(Properties {
                message_id: Some(MessageId::Uuid(*b"0123456789abcdef")),
                user_id: Some(Bytes::from_static(b"me\0\xff")),
                to: Some("q".into()),
                subject: Some("a \"b\"\né".into()),
                reply_to: Some("r".into()),
                correlation_id: Some(17.into()),
                content_type: Some(Symbol::from("text/plain")),
                content_encoding: Some(Symbol::from("utf8")),
                absolute_expiry_time: Some(1_700_000_000_123),
                creation_time: Some(0),
                group_id: Some("g".into()),
                group_sequence: Some(7),
                reply_to_group_id: Some("h".into()),
            }),
            application_properties: vec![
                ("a".into(), Value::Int(-5)),
                ("b".into(), Value::from("two")),
                ("c".into(), Value::Bool(true)),
                ("d".into(), Value::List(vec![Value::Ubyte(1), Value::Null])),
                (
                    "e".into(),
                    Value::Map(vec![(Value::from("k"), Value::Bool(false))]),
                ),
            ],
            ..Message::of_value("body")
        }
    }

    #[test]
    fn every_component_has_its_form() {
        assert_eq!(
            all(&full()),
            "Message{message-id=30313233-3435-3637-3839-616263646566, user-id=b\"me\\00\\ff\", \
             to=\"q\", subject=\"a \"b\"\\0a\\c3\\a9\", reply-to=\"r\", correlation-id=17, \
             content-type=:\"text/plain\", content-encoding=:\"utf8\", \
             absolute-expiry-time=\"2023-11-14 22:13:20.123 +0000\", \
             creation-time=\"1970-01-01 00:00:00.000 +0000\", group-id=\"g\", group-sequence=7, \
             reply-to-group-id=\"h\", app-properties={\"a\"=-5, \"b\"=\"two\", \"c\"=T, \
             \"d\"=[1, null], \"e\"={\"k\"=F}}}"
        );
    }

    #[test]
    fn only_what_was_chosen_is_shown() {
        let some = super::message(&full().encode(), components("group-id, to"));
        let text = "Message{to=\"q\", group-id=\"g\"}".to_owned();
        assert_eq!(some, Known::All(text));
        assert_eq!(all(&Message::of_value("body")), "Message{}");
    }

    #[test]
    fn annotations_are_passed_over() {
        let mut octets = bytes::BytesMut::new();
        RouterAnnotations::default().encode(None, &mut octets);
        octets.extend_from_slice(&full().encode());
        let shown = super::message(&octets, components("to"));
        assert_eq!(shown, Known::All("Message{to=\"q\"}".into()));
    }

    #[test]
    fn a_text_has_its_bounds() {
        let mut message = full();
        message.application_properties = vec![("x".repeat(5000), Value::from("y".repeat(90_000)))];
        let text = all(&message);
        assert!(
            text.len() < MOST + 20 && text.ends_with("xxx...}"),
            "{text}"
        );
    }

    #[test]
    fn the_start_of_a_message_is_enough_or_is_not() {
        let octets = full().encode();
        for end in 0..octets.len() - 9 {
            match super::message(&octets[..end], components("all")) {
                Known::Part(text) => assert!(!text.contains("app-properties"), "{text}"),
                other => panic!("at {end}: {other:?}"),
            }
        }
        assert_eq!(
            super::message(b"no message", components("all")),
            Known::Nothing
        );
    }
}
