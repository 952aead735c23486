//! What routers tell collectors and each other, as messages (`reference/router/vanflow.md` §3).
//!
//! They differ from what the standard allows, and so are written here: the message-id is a long,
//! the keys of the application properties are symbols.

use bytes::{BufMut, Bytes, BytesMut};

use super::attribute::{Attribute, Datum, Kind, RecordType, start};
use super::identity::Identity;
use crate::codec::view::{APPLICATION_PROPERTIES, PROPERTIES, VALUE, section};
use crate::codec::write::{put_list, put_map, put_string, put_symbol, put_uint, put_ulong};
use crate::codec::{Composite, DecodeError, Reader, Value};

/// What goes ahead of every body.
pub(super) struct Envelope<'a> {
    pub(super) id: i64,
    pub(super) to: &'a str,
    pub(super) subject: &'a str,
}

impl Envelope<'_> {
    fn encode(&self, out: &mut BytesMut) {
        out.put_slice(&[0x00, 0x53, PROPERTIES as u8]);
        put_list(out, 4, |out| {
            Value::Long(self.id).encode(out);
            out.put_u8(0x40); // user-id
            put_string(out, self.to);
            put_string(out, self.subject);
        });
    }
}

/// A message that says all it has to say in application properties: BEACON or HEARTBEAT.
pub(super) fn notice(envelope: &Envelope<'_>, properties: &[(&str, Value)]) -> Bytes {
    let mut out = BytesMut::with_capacity(256);
    envelope.encode(&mut out);
    out.put_slice(&[0x00, 0x53, APPLICATION_PROPERTIES as u8]);
    put_map(&mut out, properties.len(), |out| {
        for (key, value) in properties {
            put_symbol(out, key);
            value.encode(out);
        }
    });
    out.put_slice(&[0x00, 0x53, VALUE as u8, 0x40]);
    out.freeze()
}

/// A record as it goes into a message.
pub(super) struct Entry<'a> {
    pub(super) kind: RecordType,
    pub(super) identity: String,
    pub(super) news: Vec<(Attribute, &'a Datum)>,
}

/// A RECORD message.
pub(super) fn records(envelope: &Envelope<'_>, entries: &[Entry<'_>]) -> Bytes {
    let mut out = BytesMut::with_capacity(256 * entries.len() + 64);
    envelope.encode(&mut out);
    out.put_slice(&[0x00, 0x53, VALUE as u8]);
    put_list(&mut out, entries.len(), |out| {
        entries.iter().for_each(|entry| entry.encode(out));
    });
    out.freeze()
}

impl Entry<'_> {
    fn encode(&self, out: &mut BytesMut) {
        put_map(out, 2 + self.news.len(), |out| {
            put_uint(out, Attribute::RecordType.code());
            put_uint(out, self.kind.code());
            put_uint(out, Attribute::Identity.code());
            put_string(out, &self.identity);
            for (attribute, datum) in &self.news {
                put_uint(out, attribute.code());
                match datum {
                    Datum::Number(number) => put_ulong(out, *number),
                    Datum::Text(text) => put_string(out, text),
                }
            }
        });
    }
}

/// Records that a message may have.
pub(super) const BATCH: usize = 50;

/// What another router knows of one of this router's connections.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Update {
    pub(crate) identity: Identity,
    pub(crate) attributes: Vec<(Attribute, Datum)>,
}

/// The subject of a message; `None` if it has none, or is no message.
pub(crate) fn subject(message: &[u8]) -> Option<&str> {
    read(message).ok()?.0
}

/// What a RECORD message from another router says. What does not follow the rules is left out.
pub(crate) fn updates(message: &[u8]) -> Vec<Update> {
    let Ok((Some("RECORD"), Some(Value::List(records)))) = read(message) else {
        return Vec::new();
    };
    let records = records.iter().take(MOST_UPDATES);
    records.filter_map(update).collect()
}

fn update(record: &Value) -> Option<Update> {
    let (mut kind, mut identity, mut attributes) = (None, None, Vec::new());
    let pairs = record.as_map()?;
    // Each attribute is there once.
    for (key, value) in Some(pairs).filter(|pairs| pairs.len() <= Attribute::COUNT)? {
        let code = key.as_u64().and_then(|code| u32::try_from(code).ok())?;
        let attribute = Attribute::of_code(code)?;
        match (attribute, attribute.kind(), value) {
            (Attribute::RecordType, _, value) => kind = Some(value.as_u64()?),
            (Attribute::Identity, _, value) => identity = Some(Identity::parse(value.as_str()?)?),
            (_, Kind::Number, Value::Ulong(number)) => {
                attributes.push((attribute, Datum::Number(*number)));
            }
            (_, Kind::Text, Value::String(text)) => {
                let text = start(text, attribute.longest());
                attributes.push((attribute, Datum::from(text)));
            }
            _ => return None,
        }
    }
    let of_connection = kind == Some(RecordType::BiflowTport.code().into());
    let identity = identity.filter(|_| of_connection && !attributes.is_empty())?;
    Some(Update {
        identity,
        attributes,
    })
}

/// Records of a message from another router that are looked at: a router sends [`BATCH`].
const MOST_UPDATES: usize = 200;

/// The subject and the body, if it is one value.
fn read(message: &[u8]) -> Result<(Option<&str>, Option<Value>), DecodeError> {
    let mut reader = Reader::new(message);
    let (mut subject, mut body) = (None, None);
    while !reader.is_empty() {
        match section(&mut reader)? {
            PROPERTIES => {
                let mut fields = Composite::new(&mut reader)?;
                for _ in ["message-id", "user-id", "to"] {
                    fields.field(Reader::skip)?;
                }
                subject = fields.field(Reader::string)?;
            }
            VALUE => body = Some(Value::decode(&mut reader)?),
            _ => reader.skip()?,
        }
    }
    Ok((subject, body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn envelope(subject: &'static str) -> Envelope<'static> {
        Envelope {
            id: 300,
            to: "vfcr.abcde:0",
            subject,
        }
    }

    type Pairs = Vec<(Value, Value)>;

    /// A RECORD message with one record of these keys and values.
    fn message(subject: &'static str, pairs: Pairs) -> Bytes {
        let mut out = BytesMut::new();
        envelope(subject).encode(&mut out);
        out.put_slice(&[0x00, 0x53, 0x77]);
        Value::List(vec![Value::Map(pairs)]).encode(&mut out);
        out.freeze()
    }

    fn good() -> Pairs {
        vec![
            (Value::Uint(0), Value::Uint(16)),
            (Value::Uint(1), "abcde:3".into()),
            (Value::Uint(31), "0/A".into()),
            (Value::Uint(61), Value::Ulong(1234)),
        ]
    }

    #[test]
    fn a_message_has_a_long_for_its_id_and_symbols_for_keys() {
        let properties = [("v", Value::Uint(1)), ("id", "abcde:0".into())];
        let encoded = notice(&envelope("BEACON"), &properties);
        let mut reader = Reader::new(&encoded);
        assert_eq!(section(&mut reader), Ok(PROPERTIES));
        let fields = Value::decode(&mut reader).unwrap();
        let expected = vec![
            Value::Long(300),
            Value::Null,
            "vfcr.abcde:0".into(),
            "BEACON".into(),
        ];
        assert_eq!(fields, Value::List(expected));
        assert_eq!(section(&mut reader), Ok(APPLICATION_PROPERTIES));
        let Value::Map(pairs) = Value::decode(&mut reader).unwrap() else {
            panic!("a map");
        };
        assert!(pairs.iter().all(|(key, _)| key.as_symbol().is_some()));
        assert_eq!(section(&mut reader), Ok(VALUE));
        assert_eq!(Value::decode(&mut reader), Ok(Value::Null));
        assert!(reader.is_empty());
    }

    #[test]
    fn what_one_router_writes_another_reads() {
        let (trace, latency) = (Datum::from("0/A|0/B"), Datum::from(77));
        let entry = |id: &str| Entry {
            kind: RecordType::BiflowTport,
            identity: id.into(),
            news: vec![
                (Attribute::Trace, &trace),
                (Attribute::ProcessLatency, &latency),
            ],
        };
        let message = records(&envelope("RECORD"), &[entry("abcde:3"), entry("abcde:9")]);
        assert_eq!(subject(&message), Some("RECORD"));
        let expected = |id| Update {
            identity: Identity::parse(id).unwrap(),
            attributes: vec![
                (Attribute::Trace, trace.clone()),
                (Attribute::ProcessLatency, latency.clone()),
            ],
        };
        assert_eq!(
            updates(&message),
            [expected("abcde:3"), expected("abcde:9")]
        );
    }

    #[test]
    fn an_update_that_breaks_a_rule_is_none() {
        assert_eq!(updates(&message("RECORD", good())).len(), 1);
        assert_eq!(updates(&message("FLUSH", good())), []);
        let broken: [fn(&mut Pairs); 9] = [
            |pairs| pairs[0].1 = Value::Uint(6),
            |pairs| pairs.truncate(2),
            |pairs| pairs[1].1 = "abcde".into(),
            |pairs| pairs[2].1 = Value::Ulong(3),
            |pairs| pairs[3].1 = "1234".into(),
            |pairs| pairs[3].1 = Value::Uint(1234),
            |pairs| pairs[3].0 = Value::Uint(68),
            |pairs| pairs[3].0 = "latency".into(),
            |pairs| drop(pairs.remove(0)),
        ];
        for (number, breaks) in broken.iter().enumerate() {
            let mut pairs = good();
            breaks(&mut pairs);
            assert_eq!(updates(&message("RECORD", pairs)), [], "case {number}");
        }
    }

    #[test]
    fn what_is_kept_of_an_update_is_bounded() {
        let mut long = good();
        long[2].1 = "x".repeat(100_000).into();
        let update = &updates(&message("RECORD", long))[0];
        assert_eq!(update.attributes[0].1, Datum::from("x".repeat(1000)));
        let mut many = good();
        many.extend((0..100).map(|n| (Value::Uint(61), Value::Ulong(n))));
        assert_eq!(updates(&message("RECORD", many)), []);
    }

    #[test]
    fn annotations_of_routers_ahead_of_a_message_make_no_difference() {
        let mut annotated = BytesMut::new();
        let annotations = crate::codec::RouterAnnotations {
            ingress: Some("0/A"),
            ..Default::default()
        };
        annotations.encode(Some("0/A"), &mut annotated);
        annotated.extend_from_slice(&message("RECORD", good()));
        assert_eq!(updates(&annotated).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn nonsense_does_no_harm(octets: Vec<u8>, cut in 0usize..400) {
            subject(&octets);
            updates(&octets);
            let message = message("RECORD", good());
            let start = &message[..cut.min(message.len())];
            updates(&[start, &octets].concat());
        }
    }
}
