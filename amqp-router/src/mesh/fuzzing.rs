//! What routers tell each other, read and written again.

use super::message::Message;

/// Takes any bytes; a panic is a bug.
pub(crate) fn fuzz(bytes: &[u8]) {
    let Ok(message) = Message::decode(bytes) else {
        return;
    };
    // What an unknown instance or treatment is written as is a known one when it is read again.
    let known = read_again(&message);
    assert_eq!(known.id(), message.id());
    assert_eq!(read_again(&known), known);
}

fn read_again(message: &Message) -> Message {
    let wire = message.encode("amqp:/_local/qdhello");
    Message::decode(&wire).expect("we decode what we encode")
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_map, vec};
    use proptest::option::of;
    use proptest::prelude::*;

    use super::super::message::{AddressChange, AddressRecord, MAX_COST};
    use super::*;

    fn id() -> impl Strategy<Value = String> {
        "[a-zA-Z0-9.-]{1,60}"
    }

    fn sequence() -> impl Strategy<Value = u64> {
        0..=i64::MAX as u64
    }

    fn record() -> impl Strategy<Value = AddressRecord> {
        let treatment = (0..4i32).prop_map(Some);
        let links = 0..=i32::MAX as u32;
        ("M.{0,60}", treatment, links, of("[a-z]{15}")).prop_map(
            |(key, treatment, in_links, mesh)| AddressRecord {
                // One address is either prompt or not.
                prompt: key.len() % 2 == 0,
                key,
                treatment,
                in_links,
                mesh,
            },
        )
    }

    fn change() -> impl Strategy<Value = AddressChange> {
        prop_oneof![
            vec(record(), 0..8).prop_map(AddressChange::Absolute),
            (vec(record(), 0..8), vec("M.{0,60}", 0..8))
                .prop_map(|(added, removed)| AddressChange::Differential { added, removed }),
        ]
    }

    fn message() -> impl Strategy<Value = Message> {
        let instance = any::<i64>().prop_map(Some);
        prop_oneof![
            (id(), instance.clone(), vec(id(), 0..20))
                .prop_map(|(id, instance, seen)| Message::Hello { id, instance, seen }),
            (id(), instance.clone(), sequence(), sequence()).prop_map(
                |(id, instance, link_state_sequence, address_sequence)| {
                    Message::RouterAdvertisement {
                        id,
                        instance,
                        link_state_sequence,
                        address_sequence,
                    }
                }
            ),
            (
                id(),
                instance,
                sequence(),
                btree_map(id(), 1..=MAX_COST, 0..20)
            )
                .prop_map(|(id, instance, sequence, peers)| Message::LinkStateUpdate {
                    id,
                    instance,
                    sequence,
                    peers,
                }),
            id().prop_map(|id| Message::LinkStateRequest { id }),
            (id(), sequence()).prop_map(|(id, have)| Message::AddressRequest { id, have }),
            (id(), sequence(), change()).prop_map(|(id, sequence, change)| {
                Message::AddressUpdate {
                    id,
                    sequence,
                    change,
                }
            }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(message in message()) {
            prop_assert_eq!(read_again(&message), message);
        }

        #[test]
        fn what_is_cut_short_or_changed_is_survived(
            message in message(),
            at in any::<prop::sample::Index>(),
            octet in any::<u8>(),
        ) {
            let mut wire = message.encode("amqp:/_topo/0/all/qdrouter").to_vec();
            let at = at.index(wire.len());
            fuzz(&wire[..at]);
            wire[at] = octet;
            fuzz(&wire);
        }
    }
}
