//! What a neighbour that is limited says, before anybody else hears it.

use bytes::Bytes;

use super::message::{AddressChange, Message};

/// What is left of a message after [`screen`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Screened {
    /// It may be said as it is.
    Whole,
    /// Without the addresses that may not be announced.
    Without {
        message: Bytes,
        addresses: Vec<String>,
    },
    /// It speaks for this router, which may not be.
    ForAnother(String),
    Unreadable,
}

/// Looks at a message, without its router annotations, that was sent to `to`: `may_speak_for` is
/// asked whether it may be of a router, and `may_announce` of each address that others can use. An
/// update keeps its number, so that nobody asks for it again.
pub(crate) fn screen(
    message: &[u8],
    to: &str,
    may_speak_for: impl Fn(&str) -> bool,
    may_announce: impl Fn(&str) -> bool,
) -> Screened {
    let Ok(mut message) = Message::decode(message) else {
        return Screened::Unreadable;
    };
    if !may_speak_for(message.id()) {
        return Screened::ForAnother(message.id().to_owned());
    }
    let Message::AddressUpdate { change, .. } = &mut message else {
        return Screened::Whole;
    };
    let (AddressChange::Differential { added: records, .. } | AddressChange::Absolute(records)) =
        change;
    let mut addresses = Vec::new();
    records.retain(|record| match record.key.strip_prefix('M') {
        Some(address) if !may_announce(address) => {
            addresses.push(address.to_owned());
            false
        }
        _ => true,
    });
    match addresses.is_empty() {
        true => Screened::Whole,
        false => Screened::Without {
            message: message.encode(to),
            addresses,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::AddressRecord;
    use super::*;

    const TO: &str = "amqp:/_topo/0/all/qdrouter.ma";

    fn update(id: &str, change: AddressChange) -> Message {
        Message::AddressUpdate {
            id: id.into(),
            sequence: 8,
            change,
        }
    }

    fn records(keys: &[&str]) -> Vec<AddressRecord> {
        let record = |key: &&str| AddressRecord {
            key: (*key).into(),
            treatment: Some(1),
            in_links: 1,
            mesh: None,
            prompt: true,
        };
        keys.iter().map(record).collect()
    }

    /// As the site S, which may announce `a`.
    fn screened(message: &[u8]) -> Screened {
        screen(message, TO, |id| id == "S", |address| address == "a")
    }

    #[test]
    fn addresses_that_may_not_be_announced_are_left_out_of_updates() {
        let removed = || vec!["Mb".to_owned()];
        for (said, heard) in [
            (
                AddressChange::Absolute(records(&["Ma", "Mb", "HE"])),
                AddressChange::Absolute(records(&["Ma", "HE"])),
            ),
            (
                AddressChange::Differential {
                    added: records(&["Mb"]),
                    removed: removed(),
                },
                AddressChange::Differential {
                    added: Vec::new(),
                    removed: removed(),
                },
            ),
        ] {
            let Screened::Without { message, addresses } = screened(&update("S", said).encode(TO))
            else {
                panic!("it was not screened");
            };
            assert_eq!(addresses, ["b"]);
            assert_eq!(Message::decode(&message), Ok(update("S", heard)));
        }
        let allowed = update("S", AddressChange::Absolute(records(&["Ma"])));
        assert_eq!(screened(&allowed.encode(TO)), Screened::Whole);
    }

    #[test]
    fn nothing_may_be_said_for_another_router() {
        let forged = update("A", AddressChange::Absolute(records(&["Ma"])));
        let state = Message::LinkStateUpdate {
            id: "A".into(),
            instance: Some(1),
            sequence: 1 << 40,
            peers: [("S".into(), 1)].into(),
        };
        for message in [forged, state] {
            let said = screened(&message.encode(TO));
            assert_eq!(said, Screened::ForAnother("A".into()));
        }
        let own = Message::LinkStateRequest { id: "S".into() };
        assert_eq!(screened(&own.encode(TO)), Screened::Whole);
        assert_eq!(screened(b"nonsense"), Screened::Unreadable);
    }
}
