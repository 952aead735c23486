//! The addresses that this router's own consumers serve, as others are told of them.

use std::collections::{BTreeMap, BTreeSet};

use crate::control::address::AddressKey;
use crate::control::edge_mesh::MeshId;
use crate::control::table::Treatment;

use super::message::{AddressChange, AddressRecord};

/// An address with consumers at this router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LocalAddress {
    pub(crate) treatment: Treatment,
    /// Links that send to it.
    pub(crate) in_links: u32,
    /// The edge mesh that all its consumers are in.
    pub(crate) mesh: Option<MeshId>,
    /// All its consumers take TCP streams whose octets do not wait for an answer.
    pub(crate) prompt: bool,
}

/// An address with consumers at another router.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteAddress {
    /// How the other router treats it.
    pub(crate) treatment: Option<Treatment>,
    /// The edge mesh that all its consumers there are in.
    pub(crate) mesh: Option<MeshId>,
    /// All its consumers there take TCP streams whose octets do not wait for an answer.
    pub(crate) prompt: bool,
}

/// This router's addresses: as they are, and as others have been told.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    now: BTreeMap<AddressKey, LocalAddress>,
    told: BTreeMap<AddressKey, LocalAddress>,
    changed: BTreeSet<AddressKey>,
    /// Counts what others have been told.
    pub(super) sequence: u64,
}

impl Addresses {
    pub(super) fn set(&mut self, key: AddressKey, address: LocalAddress) {
        // How many links send to it is no news.
        let told = self.told.get(&key).map(|told| LocalAddress {
            in_links: address.in_links,
            ..*told
        });
        if told != Some(address) {
            self.changed.insert(key.clone());
        }
        self.now.insert(key, address);
    }

    pub(super) fn remove(&mut self, key: &AddressKey) {
        if self.now.remove(key).is_some() {
            self.changed.insert(key.clone());
        }
    }

    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// What others must be told, and under which number. What has come and gone again since they
    /// were last told is not mentioned.
    pub(super) fn tell(&mut self) -> Option<(u64, AddressChange)> {
        let (mut added, mut removed) = (Vec::new(), Vec::new());
        for key in std::mem::take(&mut self.changed) {
            match self.now.get(&key) {
                Some(address) => {
                    added.push(record(&key, address));
                    self.told.insert(key, *address);
                }
                None => {
                    if self.told.remove(&key).is_some() {
                        removed.push(key.as_str().to_owned());
                    }
                }
            }
        }
        if added.is_empty() && removed.is_empty() {
            return None;
        }
        self.sequence += 1;
        let change = AddressChange::Differential { added, removed };
        Some((self.sequence, change))
    }

    /// All that others have been told.
    pub(super) fn all(&self) -> AddressChange {
        let records = self.told.iter().map(|(key, address)| record(key, address));
        AddressChange::Absolute(records.collect())
    }
}

fn record(key: &AddressKey, address: &LocalAddress) -> AddressRecord {
    AddressRecord {
        key: key.as_str().to_owned(),
        treatment: Some(number_of(address.treatment)),
        in_links: address.in_links,
        mesh: address.mesh.map(|mesh| mesh.as_str().to_owned()),
        prompt: address.prompt,
    }
}

fn number_of(treatment: Treatment) -> i32 {
    match treatment {
        Treatment::Multicast => 1,
        Treatment::Closest => 2,
        Treatment::Balanced => 3,
        Treatment::Unavailable => 4,
    }
}

/// The treatment of a number; routers may know more of them.
pub(super) fn treatment_of(number: i32) -> Option<Treatment> {
    match number {
        0 | 1 => Some(Treatment::Multicast),
        2 => Some(Treatment::Closest),
        3 => Some(Treatment::Balanced),
        4 => Some(Treatment::Unavailable),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BALANCED: LocalAddress = LocalAddress {
        treatment: Treatment::Balanced,
        in_links: 0,
        mesh: None,
        prompt: false,
    };

    fn tell(addresses: &mut Addresses) -> Option<(u64, Vec<String>, Vec<String>)> {
        match addresses.tell()? {
            (sequence, AddressChange::Differential { added, removed }) => {
                let added = added.into_iter().map(|record| record.key).collect();
                Some((sequence, added, removed))
            }
            (_, AddressChange::Absolute(_)) => panic!("it tells what has changed"),
        }
    }

    #[test]
    fn a_change_is_told_once() {
        let mut addresses = Addresses::default();
        let (a, b) = (AddressKey::mobile("a"), AddressKey::mobile("b"));
        addresses.set(a.clone(), BALANCED);
        addresses.set(b, BALANCED);
        let both = vec!["Ma".to_owned(), "Mb".to_owned()];
        assert_eq!(tell(&mut addresses), Some((1, both, vec![])));
        addresses.remove(&a);
        assert_eq!(tell(&mut addresses), Some((2, vec![], vec!["Ma".into()])));
        assert_eq!(tell(&mut addresses), None);
    }

    #[test]
    fn what_comes_and_goes_is_not_mentioned() {
        let mut addresses = Addresses::default();
        let a = AddressKey::mobile("a");
        addresses.set(a.clone(), BALANCED);
        addresses.remove(&a);
        assert_eq!(tell(&mut addresses), None);
        assert_eq!(addresses.sequence, 0);
    }

    #[test]
    fn a_count_of_links_is_no_news() {
        let mut addresses = Addresses::default();
        let a = AddressKey::mobile("a");
        addresses.set(a.clone(), BALANCED);
        addresses.tell();
        let busier = LocalAddress {
            in_links: 5,
            ..BALANCED
        };
        addresses.set(a.clone(), busier);
        assert_eq!(tell(&mut addresses), None);
        let prompt = LocalAddress {
            prompt: true,
            ..BALANCED
        };
        addresses.set(a, prompt);
        assert_eq!(tell(&mut addresses), Some((2, vec!["Ma".into()], vec![])));
    }
}
