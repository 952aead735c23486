//! Addresses of other routers, as they tell of them, and this router's own, as it tells of them.

use std::collections::HashSet;
use std::time::Instant;

use super::{Mesh, Output, To};
use crate::control::address::AddressKey;
use crate::control::edge_mesh::MeshId;
use crate::mesh::addresses::{RemoteAddress, treatment_of};
use crate::mesh::message::{AddressChange, AddressRecord, Message};
use crate::mesh::notice::Notice;

impl Mesh {
    pub(super) fn on_addresses(&mut self, id: &str, sequence: u64, change: AddressChange) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        match change {
            AddressChange::Differential { added, removed } => {
                let known = node.addresses.sequence;
                if sequence != known + 1 || node.addresses.is_missing() {
                    if sequence > known {
                        node.addresses.exists(sequence);
                    }
                    return;
                }
                node.addresses.received(sequence);
                for key in removed {
                    if let Some(key) = AddressKey::parse(&key) {
                        self.remove_remote(id, &key);
                    }
                }
                self.add_remotes(id, added);
            }
            AddressChange::Absolute(_) if !node.addresses.is_asked() => {}
            AddressChange::Absolute(all) => {
                node.addresses.received(sequence);
                let kept: HashSet<&str> = all.iter().map(|record| record.key.as_str()).collect();
                let gone = node.keys.keys().filter(|key| !kept.contains(key.as_str()));
                for key in gone.cloned().collect::<Vec<_>>() {
                    self.remove_remote(id, &key);
                }
                self.add_remotes(id, all);
            }
        }
    }

    fn add_remotes(&mut self, id: &str, records: Vec<AddressRecord>) {
        let of_all: usize = self.nodes.values().map(|node| node.keys.len()).sum();
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        let of_others = of_all - node.keys.len();
        for record in records {
            let Some(key) = AddressKey::parse(&record.key) else {
                continue;
            };
            let count = node.keys.len();
            if count >= MAX_ADDRESSES || of_others + count >= MAX_ADDRESSES_OF_ALL {
                let id = id.to_owned();
                if self.noticed.insert((u32::MAX, "addresses")) {
                    self.notice(Notice::TooManyAddresses { id });
                }
                return;
            }
            let info = RemoteAddress {
                treatment: record.treatment.and_then(treatment_of),
                mesh: record.mesh.as_deref().and_then(MeshId::parse),
                prompt: record.prompt,
            };
            let known = node.keys.insert(key.clone(), info);
            // A treatment matters when an address is new, and no more.
            if known.map(|known| (known.mesh, known.prompt)) != Some((info.mesh, info.prompt)) {
                self.outputs.push_back(Output::RemoteAddress {
                    router: node.index,
                    key,
                    info: Some(info),
                });
            }
        }
    }

    fn remove_remote(&mut self, id: &str, key: &AddressKey) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        if node.keys.remove(key).is_some() {
            self.outputs.push_back(Output::RemoteAddress {
                router: node.index,
                key: key.clone(),
                info: None,
            });
        }
    }

    pub(super) fn forget_addresses(&mut self, id: &str) {
        let Some(node) = self.nodes.get_mut(id) else {
            return;
        };
        node.addresses.forget();
        let router = node.index;
        for key in std::mem::take(&mut node.keys).into_keys() {
            self.outputs.push_back(Output::RemoteAddress {
                router,
                key,
                info: None,
            });
        }
    }

    pub(super) fn tell_addresses(&mut self, now: Instant) {
        let Some((sequence, change)) = self.addresses.tell() else {
            return;
        };
        self.told = Some(now);
        let update = Message::AddressUpdate {
            id: self.settings.id.clone(),
            sequence,
            change,
        };
        let message = update.encode("_topo/0/all/qdrouter.ma");
        let to = To::AllRouters;
        self.outputs.push_back(Output::Send { to, message });
        self.advertise(now);
    }
}

/// Addresses that one router may have, and all together.
const MAX_ADDRESSES: usize = 500_000;
const MAX_ADDRESSES_OF_ALL: usize = 2_000_000;
