//! Attaches: whether a link may be, where it leads, and under which address.

use std::time::{Duration, Instant};

use rand::Rng;

use crate::codec::{Error, ExpiryPolicy, Fields, Role, Source, Target, TerminusDurability};
use crate::control::address::{AddressKey, MAX_ADDRESS_LEN, UPLINK};
use crate::control::commands::{AttachRequest, Command, LeadsTo, Recipient, Termini};
use crate::control::edges::says_prompt;
use crate::control::links::{Control, Filed, LinkKind};
use crate::control::rules::USUAL_PRIORITY;
use crate::control::table::{AddressId, Direction, Treatment};

impl Control {
    /// A peer wants to attach a link. If it may not, why.
    pub(crate) fn attach(&mut self, request: &AttachRequest, now: Instant) -> Option<Error> {
        let link = request.link;
        let special = self.attach_router_link(request, now);
        let special = special.or_else(|| self.attach_edge_link(request));
        let decision = match (special, link.direction) {
            (Some(decision), _) => decision,
            (None, Direction::Incoming) => self.attach_sender(request),
            (None, Direction::Outgoing) => self.attach_receiver(request),
        };
        let refusal = decision.as_ref().err().cloned();
        let (mut follow, mut succeeds) = (None, false);
        let command = match decision {
            Ok(accepted) => {
                succeeds = self.add_link(request, &accepted);
                follow = accepted.address;
                Command::Accept {
                    link,
                    termini: Box::new(Termini {
                        source: accepted.source,
                        target: accepted.target,
                    }),
                    leads_to: match (link.direction, accepted.address, accepted.kind) {
                        (Direction::Outgoing, _, _) => LeadsTo::ItsReceiver,
                        (_, _, LinkKind::RouterControl | LinkKind::Notices(_)) => LeadsTo::Control,
                        (_, Some(id), _) => LeadsTo::Address(id),
                        (_, None, _) => LeadsTo::EachMessage,
                    },
                }
            }
            Err(error) => Command::Refuse { link, error },
        };
        let command = (Recipient::Worker(link.worker), command);
        match follow.filter(|id| self.must_wait(link, *id)) {
            Some(id) => self.hold_attach(id, command, now),
            // Whoever hears that it is there gives up the older one.
            None if succeeds => self.when_all_know(command.0, command.1),
            None => self.commands.push_back(command),
        }
        if let Some(id) = follow {
            self.follow_sender(request, id);
        }
        self.follow_network();
        refusal
    }

    /// The peer sends: its target says where to.
    fn attach_sender(&mut self, request: &AttachRequest) -> Result<Accepted, Error> {
        debug_assert_eq!(request.attach.role, Role::Sender);
        let source = request.attach.source.clone();
        let mut node = match &request.attach.target {
            Some(Target::Node(node)) => node.clone(),
            Some(Target::Coordinator { .. }) => {
                return Err(Error::new(
                    "amqp:not-implemented",
                    "transactions are not supported",
                ));
            }
            None => return Err(Error::new("amqp:invalid-field", "the link has no target")),
        };
        goes_with_its_link(
            &mut node.durable,
            &mut node.expiry_policy,
            &mut node.timeout,
        );
        let address = if node.dynamic {
            let discriminator = self.discriminator();
            let name = self.identity.dynamic_target(&discriminator);
            let key = self.identity.key(&name);
            node.address = Some(name);
            Some(self.find_or_make(key, Treatment::Balanced))
        } else {
            match node.address.as_deref() {
                Some(name) if !name.is_empty() => Some(self.reach(name)?),
                _ => None,
            }
        };
        Ok(Accepted {
            source,
            target: Some(Target::Node(node)),
            address,
            kind: LinkKind::Endpoint,
            priority: USUAL_PRIORITY,
        })
    }

    /// The peer receives: its source says from where.
    fn attach_receiver(&mut self, request: &AttachRequest) -> Result<Accepted, Error> {
        debug_assert_eq!(request.attach.role, Role::Receiver);
        let target = request.attach.target.clone();
        let Some(mut source) = request.attach.source.clone() else {
            // This is how a client looks for what it has left here: nothing is.
            return Err(Error::new("amqp:not-found", "the link has no source"));
        };
        let address = if source.dynamic {
            let discriminator = self.discriminator();
            let name = self.identity.dynamic_source(&discriminator);
            let key = self.identity.key(&name);
            source.address = Some(name);
            self.find_or_make(key, Treatment::Balanced)
        } else {
            match source.address.as_deref() {
                Some(name) if !name.is_empty() => {
                    self.may_receive(name)?;
                    self.reach(name)?
                }
                _ => {
                    let text = "the source has no address and is not dynamic";
                    return Err(Error::new("qd:no-route-to-dest", text));
                }
            }
        };
        goes_with_its_link(
            &mut source.durable,
            &mut source.expiry_policy,
            &mut source.timeout,
        );
        // Filters are the sender's to confirm (AMQP 3.5.3): this router applies none.
        source.filter = Fields::default();
        Ok(Accepted {
            source: Some(source),
            target,
            address: Some(address),
            kind: LinkKind::Endpoint,
            priority: USUAL_PRIORITY,
        })
    }

    /// Whether messages to an address can be received here: those to another router cannot.
    pub(super) fn may_receive(&self, name: &str) -> Result<(), Error> {
        let key = self.identity.key(name);
        let elsewhere = matches!(key.class(), 'R' | 'A') || key.as_str() == UPLINK;
        if elsewhere || (self.uplink.is_some() && key.class() == 'H') {
            let text = "messages to another router are received there";
            return Err(Error::new("qd:no-route-to-dest", text));
        }
        Ok(())
    }

    /// The address that a terminus names, made if need be.
    fn reach(&mut self, name: &str) -> Result<AddressId, Error> {
        if name.len() > MAX_ADDRESS_LEN {
            let text = format!("the address is longer than {MAX_ADDRESS_LEN} bytes");
            return Err(Error::new("amqp:resource-limit-exceeded", text));
        }
        let mut key = self.identity.key(name);
        if self.uplink.is_some() && key.class() == 'H' && !self.by_key.contains_key(&key) {
            // No edge router that is connected to this one.
            key = AddressKey::uplink();
        }
        if let Some(&id) = self.by_key.get(&key) {
            return match self.addresses[id.index()].entry.treatment {
                Treatment::Unavailable => Err(unavailable()),
                _ => Ok(id),
            };
        }
        match self.rule(&key).treatment {
            Treatment::Unavailable => Err(unavailable()),
            treatment => Ok(self.find_or_make(key, treatment)),
        }
    }

    /// Files a link. True if nothing new goes by an older one any more.
    fn add_link(&mut self, request: &AttachRequest, accepted: &Accepted) -> bool {
        self.file(Filed {
            link: request.link,
            connection: request.connection,
            role: request.role,
            name: request.attach.name.clone(),
            capacity: request.capacity,
            load: request.load.clone(),
            address: accepted.address,
            kind: accepted.kind,
            priority: accepted.priority,
            prompt: request.role.is_neighbour()
                && self.knows_prompt()
                && says_prompt(&request.attach),
        })
    }

    fn discriminator(&mut self) -> String {
        (0..DISCRIMINATOR_LEN)
            .map(|_| char::from(ALPHABET[self.random.random_range(0..ALPHABET.len())]))
            .collect()
    }
}

/// The termini that an attach is answered with.
pub(super) struct Accepted {
    pub(super) source: Option<Source>,
    pub(super) target: Option<Target>,
    pub(super) address: Option<AddressId>,
    pub(super) kind: LinkKind,
    pub(super) priority: u8,
}

/// A terminus of this router is gone when its link is, and its peer is told so where it wants
/// another (AMQP 3.5.3 to 3.5.6).
fn goes_with_its_link(
    durable: &mut TerminusDurability,
    expiry_policy: &mut ExpiryPolicy,
    timeout: &mut Duration,
) {
    let wants_more = *durable != TerminusDurability::None || !timeout.is_zero();
    if wants_more || *expiry_policy != ExpiryPolicy::default() {
        *durable = TerminusDurability::None;
        *expiry_policy = ExpiryPolicy::LinkDetach;
        *timeout = Duration::ZERO;
    }
}

fn unavailable() -> Error {
    Error::new("amqp:not-found", "Node not found")
}

const DISCRIMINATOR_LEN: usize = 15;
const ALPHABET: &[u8; 64] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+_";
