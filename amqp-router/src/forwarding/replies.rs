//! Addresses of single outgoing links, which need no row in the table.
//!
//! Each TCP connection that enters the network here has an address where the other direction of it
//! is to go. There may be very many of them, each used once; so such an address says itself which
//! link of which worker it means, with a code that nobody else can write.

use siphasher::sip::SipHasher24;

use crate::control::address::{AddressKey, Identity};
use crate::control::table::{Slot, WorkerId};

/// The secret that a router's workers share to know such addresses by.
#[derive(Clone)]
pub(crate) struct Replies {
    key: [u8; 16],
}

impl std::fmt::Debug for Replies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Replies")
    }
}

impl Replies {
    pub(crate) fn new(key: [u8; 16]) -> Self {
        Self { key }
    }

    /// The address of a link.
    pub(super) fn address(&self, identity: &Identity, worker: WorkerId, link: Slot) -> String {
        let code = self.code(worker, link);
        let (worker, Slot { index, serial }) = (worker.0, link);
        identity.dynamic_source(&format!(
            "{MARK}{worker:x}.{index:x}.{serial:x}.{code:016x}"
        ))
    }

    /// The link that an address of this router is of.
    pub(super) fn find(&self, identity: &Identity, key: &AddressKey) -> Option<(WorkerId, Slot)> {
        if key.class() != 'L' {
            return None;
        }
        let mut text = key.text();
        if let Some(tenant) = &identity.tenant {
            text = text.strip_prefix(&**tenant)?.strip_prefix('/')?;
        }
        let mut parts = text.strip_prefix("temp.")?.strip_prefix(MARK)?.split('.');
        let worker = WorkerId(u16::from_str_radix(parts.next()?, 16).ok()?);
        let index = u32::from_str_radix(parts.next()?, 16).ok()?;
        let serial = u32::from_str_radix(parts.next()?, 16).ok()?;
        let code = u64::from_str_radix(parts.next()?, 16).ok()?;
        let link = Slot { index, serial };
        let genuine = parts.next().is_none() && code == self.code(worker, link);
        genuine.then_some((worker, link))
    }

    fn code(&self, worker: WorkerId, link: Slot) -> u64 {
        let mut octets = [0; 10];
        octets[..2].copy_from_slice(&worker.0.to_be_bytes());
        octets[2..6].copy_from_slice(&link.index.to_be_bytes());
        octets[6..].copy_from_slice(&link.serial.to_be_bytes());
        SipHasher24::new_with_key(&self.key).hash(&octets)
    }
}

const MARK: &str = "tcp.";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_leads_back_to_its_link_and_cannot_be_guessed() {
        let link = Slot {
            index: 70_000,
            serial: 3,
        };
        for tenant in [None, Some("acme".to_owned())] {
            let identity = Identity {
                id: "R".into(),
                tenant,
                ..Identity::default()
            };
            let replies = Replies::new([7; 16]);
            let address = replies.address(&identity, WorkerId(2), link);
            let find =
                |replies: &Replies, address: &str| replies.find(&identity, &identity.key(address));
            assert_eq!(find(&replies, &address), Some((WorkerId(2), link)));
            assert_eq!(find(&Replies::new([8; 16]), &address), None);
            let other = address.replace(".2.", ".1.");
            assert_eq!(find(&replies, &other), None);
            assert_eq!(find(&replies, &format!("{address}.1")), None);
            assert_eq!(find(&replies, "amqp:/_topo/0/R/temp.tcp.0.0.0"), None);
        }
    }
}
