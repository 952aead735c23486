//! What routers tell each other, and how it is written
//! (`reference/router/inter-router-protocol.md` §5).

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use crate::codec::{Body, Header, Message as AmqpMessage, Properties, Symbol, Value};
use crate::control::address::MAX_ROUTER_ID_LEN;

/// A message of the protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    Hello {
        id: String,
        instance: Option<i64>,
        seen: Vec<String>,
    },
    RouterAdvertisement {
        id: String,
        instance: Option<i64>,
        link_state_sequence: u64,
        address_sequence: u64,
    },
    LinkStateUpdate {
        id: String,
        instance: Option<i64>,
        sequence: u64,
        /// The cost of the way to each neighbour.
        peers: BTreeMap<String, u32>,
    },
    LinkStateRequest {
        id: String,
    },
    AddressRequest {
        id: String,
        have: u64,
    },
    AddressUpdate {
        id: String,
        sequence: u64,
        change: AddressChange,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AddressChange {
    Differential {
        added: Vec<AddressRecord>,
        removed: Vec<String>,
    },
    /// All there are.
    Absolute(Vec<AddressRecord>),
}

/// One address with consumers, as an update describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AddressRecord {
    /// Class and text.
    pub(super) key: String,
    /// The number of the treatment.
    pub(super) treatment: Option<i32>,
    pub(super) in_links: u32,
    /// The edge mesh that all its consumers are in.
    pub(super) mesh: Option<String>,
    /// All its consumers take TCP streams whose octets do not wait for an answer. skrouterd does
    /// not know this, and passes over the field that says it.
    pub(super) prompt: bool,
}

/// Why a message is dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is no message, or lacks what it must have.
    Malformed(&'static str),
    /// It is of a version of the protocol that is not known here.
    Version { id: String, version: i64 },
}

impl Message {
    fn opcode(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "HELLO",
            Self::RouterAdvertisement { .. } => "RA",
            Self::LinkStateUpdate { .. } => "LSU",
            Self::LinkStateRequest { .. } => "LSR",
            Self::AddressRequest { .. } => "MAR",
            Self::AddressUpdate { .. } => "MAU",
        }
    }

    /// The router that it is of.
    pub(super) fn id(&self) -> &str {
        match self {
            Self::Hello { id, .. }
            | Self::RouterAdvertisement { id, .. }
            | Self::LinkStateUpdate { id, .. }
            | Self::LinkStateRequest { id }
            | Self::AddressRequest { id, .. }
            | Self::AddressUpdate { id, .. } => id,
        }
    }

    /// The whole message, addressed to `to`.
    pub(super) fn encode(&self, to: &str) -> Bytes {
        AmqpMessage {
            header: Some(Header::default()),
            properties: Some(Properties {
                to: Some(to.to_owned()),
                ..Properties::default()
            }),
            application_properties: vec![("opcode".to_owned(), self.opcode().into())],
            body: Body::Value(self.body()),
            ..AmqpMessage::default()
        }
        .encode()
    }

    fn body(&self) -> Value {
        let mut fields = Fields::default();
        match self {
            Self::Hello { id, instance, seen } => {
                fields.head(id, 1);
                fields.put("instance", integer(instance.unwrap_or(0)));
                let seen = seen.iter().map(|id| Value::from(id.as_str()));
                fields.put("seen", Value::List(seen.collect()));
            }
            Self::RouterAdvertisement {
                id,
                instance,
                link_state_sequence,
                address_sequence,
            } => {
                fields.head(id, 1);
                fields.put("instance", integer(instance.unwrap_or(0)));
                fields.put("ls_seq", integer(*link_state_sequence as i64));
                fields.put("mobile_seq", integer(*address_sequence as i64));
            }
            Self::LinkStateUpdate {
                id,
                instance,
                sequence,
                peers,
            } => {
                fields.head(id, 1);
                fields.put("instance", integer(instance.unwrap_or(0)));
                fields.put("ls_seq", integer(*sequence as i64));
                let mut state = Fields::default();
                state.put("id", Value::from(id.as_str()));
                state.put("area", Value::from(AREA));
                state.put("ls_seq", integer(*sequence as i64));
                let peers = peers
                    .iter()
                    .map(|(id, cost)| (Value::from(id.as_str()), integer(i64::from(*cost))));
                state.put("peers", Value::Map(peers.collect()));
                fields.put("ls", state.into_value());
            }
            Self::LinkStateRequest { id } => fields.head(id, 1),
            Self::AddressRequest { id, have } => {
                fields.symbolic = true;
                fields.head(id, 2);
                fields.put("have_seq", Value::Long(*have as i64));
            }
            Self::AddressUpdate {
                id,
                sequence,
                change,
            } => {
                fields.symbolic = true;
                fields.head(id, 2);
                fields.put("mobile_seq", Value::Long(*sequence as i64));
                match change {
                    AddressChange::Differential { added, removed } => {
                        let removed = removed
                            .iter()
                            .map(|key| Value::List(vec![key.as_str().into()]));
                        fields.put("add", records(added));
                        fields.put("del", Value::List(removed.collect()));
                        fields.put_prompt(added);
                    }
                    AddressChange::Absolute(all) => {
                        fields.put("exist", records(all));
                        fields.put_prompt(all);
                    }
                }
            }
        }
        fields.into_value()
    }

    /// Reads a message without its router annotations.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let message = AmqpMessage::decode(bytes).map_err(|_| Unreadable::Malformed("message"))?;
        let opcode = message
            .application_property("opcode")
            .and_then(Value::as_str);
        let opcode = opcode.ok_or(Unreadable::Malformed("opcode"))?;
        let Body::Value(body) = &message.body else {
            return Err(Unreadable::Malformed("body"));
        };
        let body = Reading(body);
        let id = body.text("id")?;
        let newest = if opcode.starts_with("MA") { 2 } else { 1 };
        let version = body.0.get("pv").and_then(Value::as_i64).unwrap_or(0);
        if version > newest {
            return Err(Unreadable::Version { id, version });
        }
        let instance = body.0.get("instance").and_then(Value::as_i64);
        Ok(match opcode {
            "HELLO" => Self::Hello {
                id,
                instance,
                seen: body.texts("seen")?,
            },
            "RA" => Self::RouterAdvertisement {
                id,
                instance,
                link_state_sequence: body.sequence("ls_seq")?,
                address_sequence: body.sequence("mobile_seq")?,
            },
            "LSU" => {
                let state = Reading(body.0.get("ls").ok_or(Unreadable::Malformed("ls"))?);
                Self::LinkStateUpdate {
                    id,
                    instance,
                    sequence: state.sequence("ls_seq")?,
                    peers: state.costs("peers")?,
                }
            }
            "LSR" => Self::LinkStateRequest { id },
            "MAR" => Self::AddressRequest {
                id,
                have: body.sequence("have_seq")?,
            },
            "MAU" => Self::AddressUpdate {
                id,
                sequence: body.sequence("mobile_seq")?,
                change: body.change()?,
            },
            _ => return Err(Unreadable::Malformed("opcode")),
        })
    }
}

/// A map that is being written.
#[derive(Default)]
struct Fields {
    symbolic: bool,
    pairs: Vec<(Value, Value)>,
}

impl Fields {
    fn head(&mut self, id: &str, version: i32) {
        self.put("id", Value::from(id));
        match self.symbolic {
            true => self.put("pv", Value::Long(version.into())),
            false => self.put("pv", Value::Int(version)),
        }
        self.put("area", Value::from(AREA));
    }

    fn put(&mut self, key: &'static str, value: Value) {
        let key = match self.symbolic {
            true => Value::Symbol(Symbol::from_static(key)),
            false => Value::from(key),
        };
        self.pairs.push((key, value));
    }

    /// The keys of those records that are prompt, if any are.
    fn put_prompt(&mut self, records: &[AddressRecord]) {
        let prompt = records.iter().filter(|record| record.prompt);
        let keys: Vec<_> = prompt.map(|one| Value::from(one.key.as_str())).collect();
        if !keys.is_empty() {
            self.put(PROMPT, Value::List(keys));
        }
    }

    fn into_value(self) -> Value {
        Value::Map(self.pairs)
    }
}

/// Integers are as long as they need to be.
fn integer(n: i64) -> Value {
    i32::try_from(n).map_or(Value::Long(n), Value::Int)
}

fn records(records: &[AddressRecord]) -> Value {
    let record = |record: &AddressRecord| {
        let mut fields = vec![
            Value::from(record.key.as_str()),
            Value::Int(record.treatment.unwrap_or(-1)),
            Value::Int(i32::try_from(record.in_links).unwrap_or(i32::MAX)),
        ];
        if let Some(mesh) = &record.mesh {
            fields.extend([Value::Null, Value::from(mesh.as_str())]);
        }
        Value::List(fields)
    };
    Value::List(records.iter().map(record).collect())
}

/// A map that is being read.
struct Reading<'a>(&'a Value);

impl Reading<'_> {
    fn text(&self, key: &'static str) -> Result<String, Unreadable> {
        let text = self.0.get(key).and_then(Value::as_str);
        let text = text.filter(|text| !text.is_empty() && text.len() <= MAX_ROUTER_ID_LEN);
        text.map(str::to_owned).ok_or(Unreadable::Malformed(key))
    }

    fn sequence(&self, key: &'static str) -> Result<u64, Unreadable> {
        let number = self.0.get(key).and_then(Value::as_i64);
        let number = number.and_then(|n| u64::try_from(n).ok());
        number.ok_or(Unreadable::Malformed(key))
    }

    fn list(&self, key: &'static str) -> Result<&[Value], Unreadable> {
        let list = self.0.get(key).and_then(Value::as_list);
        list.ok_or(Unreadable::Malformed(key))
    }

    fn texts(&self, key: &'static str) -> Result<Vec<String>, Unreadable> {
        let texts = self.list(key)?.iter().map(Value::as_str);
        let texts: Option<Vec<String>> = texts.map(|text| text.map(str::to_owned)).collect();
        texts.ok_or(Unreadable::Malformed(key))
    }

    fn costs(&self, key: &'static str) -> Result<BTreeMap<String, u32>, Unreadable> {
        let pairs = self.0.get(key).and_then(Value::as_map);
        let pairs = pairs.ok_or(Unreadable::Malformed(key))?;
        if pairs.len() > MAX_PEERS {
            return Err(Unreadable::Malformed(key));
        }
        let cost = |(id, cost): &(Value, Value)| {
            let id = id
                .as_str()
                .filter(|id| !id.is_empty() && id.len() <= MAX_ROUTER_ID_LEN)?;
            let cost = cost.as_i64().filter(|cost| *cost > 0)?;
            let cost = u32::try_from(cost).unwrap_or(MAX_COST).min(MAX_COST);
            Some((id.to_owned(), cost))
        };
        let costs: Option<_> = pairs.iter().map(cost).collect();
        costs.ok_or(Unreadable::Malformed(key))
    }

    fn change(&self) -> Result<AddressChange, Unreadable> {
        match (self.0.get("exist"), self.0.get("add"), self.0.get("del")) {
            (Some(_), None, None) => Ok(AddressChange::Absolute(self.records("exist")?)),
            (None, Some(_), Some(_)) => {
                let removed = self.list("del")?.iter().map(|record| {
                    let key = record.as_list().and_then(|fields| fields.first());
                    key.and_then(Value::as_str).map(str::to_owned)
                });
                let removed: Option<Vec<String>> = removed.collect();
                Ok(AddressChange::Differential {
                    added: self.records("add")?,
                    removed: removed.ok_or(Unreadable::Malformed("del"))?,
                })
            }
            _ => Err(Unreadable::Malformed("add, del or exist")),
        }
    }

    fn records(&self, key: &'static str) -> Result<Vec<AddressRecord>, Unreadable> {
        let prompt = self.0.get(PROMPT).and_then(Value::as_list);
        let prompt = prompt.unwrap_or_default().iter().filter_map(Value::as_str);
        let prompt: HashSet<&str> = prompt.collect();
        let record = |record: &Value| {
            let fields = record.as_list()?;
            let number = |at: usize| fields.get(at).and_then(Value::as_i64);
            let key = fields.first()?.as_str()?;
            Some(AddressRecord {
                prompt: prompt.contains(key),
                key: key.to_owned(),
                treatment: number(1).and_then(|n| i32::try_from(n).ok()),
                in_links: number(2).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
                mesh: fields.get(4).and_then(Value::as_str).map(str::to_owned),
            })
        };
        let records: Option<_> = self.list(key)?.iter().map(record).collect();
        records.ok_or(Unreadable::Malformed(key))
    }
}

/// The area that every router is in.
const AREA: &str = "0";
/// The field with the keys of addresses that are prompt.
const PROMPT: &str = "prompt";

/// Neighbours that one router may claim.
const MAX_PEERS: usize = 4096;
/// What the way to a neighbour costs, at most: so that no path can cost more than a number holds.
pub(super) const MAX_COST: u32 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> Vec<Message> {
        let record = AddressRecord {
            key: "Mfoo".into(),
            treatment: Some(3),
            in_links: 2,
            mesh: None,
            prompt: false,
        };
        let in_mesh = AddressRecord {
            mesh: Some("abcdefghijklmno".into()),
            ..record.clone()
        };
        let prompt = AddressRecord {
            key: "Mprompt".into(),
            prompt: true,
            ..record.clone()
        };
        let id = || "A".to_owned();
        let instance = Some(1_700_000_000);
        vec![
            Message::Hello {
                id: id(),
                instance,
                seen: vec!["B".into(), "C".into()],
            },
            Message::RouterAdvertisement {
                id: id(),
                instance,
                link_state_sequence: 3,
                address_sequence: 5_000_000_000,
            },
            Message::LinkStateUpdate {
                id: id(),
                instance,
                sequence: 3,
                peers: [("B".into(), 1), ("C".into(), 200)].into(),
            },
            Message::LinkStateRequest { id: id() },
            Message::AddressRequest { id: id(), have: 7 },
            Message::AddressUpdate {
                id: id(),
                sequence: 8,
                change: AddressChange::Differential {
                    added: vec![record.clone(), in_mesh, prompt.clone()],
                    removed: vec!["Mbar".into()],
                },
            },
            Message::AddressUpdate {
                id: id(),
                sequence: 8,
                change: AddressChange::Absolute(vec![record, prompt]),
            },
        ]
    }

    #[test]
    fn what_is_written_is_read() {
        for message in samples() {
            let bytes = message.encode("amqp:/_topo/0/all/qdrouter");
            assert_eq!(Message::decode(&bytes), Ok(message));
        }
    }

    #[test]
    fn a_start_of_a_message_is_no_message() {
        for message in samples() {
            let bytes = message.encode("amqp:/_local/qdhello");
            for end in 0..bytes.len() {
                assert!(Message::decode(&bytes[..end]).is_err());
            }
        }
    }

    fn decode(opcode: &str, pairs: &[(&str, Value)]) -> Result<Message, Unreadable> {
        let pairs = pairs.iter().map(|(k, v)| (Value::from(*k), v.clone()));
        let message = AmqpMessage {
            application_properties: vec![("opcode".into(), opcode.into())],
            body: Body::Value(Value::Map(pairs.collect())),
            ..AmqpMessage::default()
        };
        Message::decode(&message.encode())
    }

    #[test]
    fn what_is_missing_or_of_a_wrong_type_makes_a_message_unreadable() {
        let id = ("id", Value::from("A"));
        let seen = ("seen", Value::List(vec![]));
        assert!(decode("HELLO", &[id.clone(), seen.clone()]).is_ok());
        let bad = |result: Result<Message, Unreadable>, what| {
            assert_eq!(result, Err(Unreadable::Malformed(what)));
        };
        bad(decode("HELLO", std::slice::from_ref(&seen)), "id");
        bad(decode("HELLO", std::slice::from_ref(&id)), "seen");
        bad(
            decode("HELLO", &[id.clone(), ("seen", Value::Int(1))]),
            "seen",
        );
        bad(
            decode("RA", &[id.clone(), ("ls_seq", Value::Int(-1))]),
            "ls_seq",
        );
        bad(
            decode("MAU", &[id.clone(), ("mobile_seq", Value::Long(1))]),
            "add, del or exist",
        );
        bad(decode("WHAT", std::slice::from_ref(&id)), "opcode");
        let newer = decode("HELLO", &[id, seen, ("pv", Value::Int(2))]);
        let id = "A".to_owned();
        assert_eq!(newer, Err(Unreadable::Version { id, version: 2 }));
    }

    #[test]
    fn an_id_may_be_as_long_as_a_hosts_name() {
        let hello = |octets: usize| {
            let id = ("id", Value::from("x".repeat(octets)));
            decode("HELLO", &[id, ("seen", Value::List(vec![]))])
        };
        assert!(hello(MAX_ROUTER_ID_LEN).is_ok());
        assert!(hello(MAX_ROUTER_ID_LEN + 1).is_err());
    }

    #[test]
    fn absurd_costs_are_not_believed() {
        for cost in [0, -1, i64::MIN] {
            let peers = Value::Map(vec![("B".into(), Value::Long(cost))]);
            let state = Value::Map(vec![
                ("ls_seq".into(), Value::Int(1)),
                ("peers".into(), peers),
            ]);
            let pairs = [("id", Value::from("A")), ("ls", state)];
            let result = decode("LSU", &pairs);
            assert_eq!(result, Err(Unreadable::Malformed("peers")), "{cost}");
        }
    }

    /// One dear way is no reason to lose all of a router's.
    #[test]
    fn what_costs_more_than_can_be_reckoned_costs_the_most() {
        for cost in [i64::from(MAX_COST) + 1, i64::MAX] {
            let peers = vec![("B".into(), Value::Long(cost)), ("C".into(), 7i64.into())];
            let state = Value::Map(vec![
                ("ls_seq".into(), Value::Int(1)),
                ("peers".into(), Value::Map(peers)),
            ]);
            let update = decode("LSU", &[("id", Value::from("A")), ("ls", state)]);
            let Ok(Message::LinkStateUpdate { peers, .. }) = update else {
                panic!("{update:?}");
            };
            let peers: Vec<_> = peers.into_iter().collect();
            assert_eq!(peers, [("B".into(), MAX_COST), ("C".into(), 7)]);
        }
    }

    /// What real neighbours told each other is what we would have told, value by value.
    #[test]
    fn what_real_neighbours_say_is_understood() {
        let mut opcodes = std::collections::BTreeSet::new();
        let control = crate::control::role::control_capability();
        for recording in crate::recorded::trunk() {
            let messages = recording.messages().into_iter();
            for arrived in messages.filter(|one| one.is_for(&control)) {
                let content = arrived.content();
                let message = Message::decode(&content).expect("a message of the protocol");
                opcodes.insert(message.opcode());
                let theirs = AmqpMessage::decode(&content).expect("a message");
                let Body::Value(body) = &theirs.body else {
                    panic!("no map: {theirs:?}");
                };
                assert_eq!(sorted(&message.body()), sorted(body), "{message:?}");
            }
        }
        let all = ["HELLO", "LSR", "LSU", "MAR", "MAU", "RA"];
        assert_eq!(Vec::from_iter(opcodes), all);
    }

    /// The order of a map's keys is not said.
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Map(pairs) => {
                let mut pairs: Vec<_> = pairs
                    .iter()
                    .map(|(key, value)| (key.clone(), sorted(value)))
                    .collect();
                pairs.sort_by_key(|(key, _)| format!("{key:?}"));
                Value::Map(pairs)
            }
            other => other.clone(),
        }
    }
}
