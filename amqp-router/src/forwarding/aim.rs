//! Where a message goes: its link's address, what a router has written ahead of it, or its `to`.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{DecodeError, DeliveryState, Error, Progress, RouterAnnotations};
use crate::control::address::{AddressKey, prompt_address, prompt_for};
use crate::control::table::{AddressId, Slot, Treatment, WorkerId};
use crate::control::topology::RouterIndex;
use crate::forwarding::addresses::Prompt;
use crate::forwarding::links::{Incoming, LastTo, Target};
use crate::forwarding::passage::{Course, Passage};
use crate::forwarding::{Forwarder, Settings};

/// Where a message goes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Aim {
    Address(AddressId),
    /// To one link, by an address of its own.
    Link {
        worker: WorkerId,
        link: Slot,
    },
}

impl Forwarder {
    /// The address that messages of a link go to as far as can be said without looking into them,
    /// or what to tell their sender.
    pub(super) fn aim(&mut self, link: u32) -> Result<Option<Aim>, DeliveryState> {
        let incoming = &self.incoming[link];
        match (incoming.target, &incoming.course) {
            (Target::Undecided | Target::Control, _) => Err(DeliveryState::Released),
            (_, Some(course)) if course.circles && incoming.from_router => {
                Err(DeliveryState::Released)
            }
            (Target::Address(address), _) => Ok(Some(Aim::Address(address))),
            (Target::Anonymous, Some(course)) if course.to.is_some() => {
                match incoming.from_router {
                    true => self.course_address(link).map(Some),
                    false => {
                        let to = course.to.clone();
                        self.resolve(link, to.as_deref()).map(Some)
                    }
                }
            }
            (Target::Anonymous, _) => Ok(None),
        }
    }

    /// Finds the address that a message on an anonymous link names, or what to tell its sender.
    pub(super) fn resolve(&mut self, link: u32, to: Option<&str>) -> Result<Aim, DeliveryState> {
        let Some(to) = to else {
            return Err(rejected(
                "amqp:precondition-failed",
                "Routing failure: no address present",
            ));
        };
        if let Some(last) = &self.incoming[link].last_to
            && *last.to == *to
            && self.is_still_so(last)
        {
            return self.available(last.id);
        }
        self.may_send_to(link, to)?;
        let key = self.settings.identity.key(to);
        let known = self.addresses.find(key.as_str());
        let wanted = known.is_some_and(|id| !self.is_only_elsewhere(id));
        // An edge router that is not connected to this one is found by way of the network.
        let is_far = self.is_edge() && key.class() == 'H' && known.is_none();
        let uplink = match !wanted && (is_far || self.leads_up(&self.incoming[link])) {
            true if self.reply(&key).is_none() => self.addresses.uplink(),
            _ => None,
        };
        match uplink.or(known) {
            Some(id) => {
                let to = to.into();
                self.incoming[link].last_to = Some(LastTo {
                    to,
                    id,
                    key,
                    goes_up: uplink.is_some(),
                    passage: None,
                });
                self.available(id)
            }
            None => self.reply(&key).ok_or_else(|| self.nowhere(&key)),
        }
    }

    /// Whether messages to the last address of a link still go where they did.
    fn is_still_so(&self, last: &LastTo) -> bool {
        if !last.goes_up {
            let same = self.addresses.key(last.id) == Some(&last.key);
            return same && !self.is_only_elsewhere(last.id);
        }
        let known = self.addresses.find(last.key.as_str());
        let wanted = known.is_some_and(|id| !self.is_only_elsewhere(id));
        !wanted && self.addresses.uplink() == Some(last.id)
    }

    /// Whether nobody here wants an address that others may want, beyond this edge router.
    fn is_only_elsewhere(&self, id: AddressId) -> bool {
        self.settings.identity.edge
            && !self.addresses.is_reachable(id)
            && self.addresses.treatment(id) != Some(Treatment::Unavailable)
    }

    /// Whether messages of a link go into the network if nobody here wants them: those of an edge
    /// router's own clients that are addressed one by one.
    pub(super) fn leads_up(&self, incoming: &Incoming) -> bool {
        self.settings.identity.edge
            && incoming.target == Target::Anonymous
            && !incoming.side.is_network()
    }

    /// The link that an address is of by itself.
    fn reply(&self, key: &AddressKey) -> Option<Aim> {
        let Settings {
            identity, replies, ..
        } = &self.settings;
        let (worker, link) = replies.find(identity, key)?;
        Some(Aim::Link { worker, link })
    }

    /// The address under which a link can be sent to.
    pub(crate) fn reply_address(&self, link: Slot) -> String {
        let Settings {
            identity,
            replies,
            worker,
            ..
        } = &self.settings;
        replies.address(identity, *worker, link)
    }

    /// Reads what a router has written ahead of a message, unless it is the same as last time;
    /// says how long it is.
    pub(super) fn read_course(
        &mut self,
        link: u32,
        message: &Bytes,
    ) -> Progress<Result<usize, DecodeError>> {
        let known = self.incoming[link].course.as_ref();
        if let Some(length) = known.and_then(|known| known.covers(message, &self.topology)) {
            return Progress::Complete(Ok(length));
        }
        match RouterAnnotations::measure(message) {
            // It enters the network here.
            Progress::Complete(0) if !self.incoming[link].from_router => {
                self.incoming[link].course = None;
                Progress::Complete(Ok(0))
            }
            Progress::Complete(length) => {
                // A copy, so that it does not keep what was read with it.
                let section = Bytes::copy_from_slice(&message[..length]);
                let course = Course::read(section, &self.topology);
                Progress::Complete(course.map(|course| {
                    self.incoming[link].course = Some(Box::new(course));
                    length
                }))
            }
            Progress::NeedMore => Progress::NeedMore,
            Progress::Malformed => Progress::Malformed,
        }
    }

    /// The address that the annotations of a link's current message name.
    fn course_address(&mut self, link: u32) -> Result<Aim, DeliveryState> {
        let Some(course) = &self.incoming[link].course else {
            return Err(DeliveryState::Released);
        };
        if let Some((id, key)) = &course.address
            && self.addresses.key(*id) == Some(key)
        {
            return self.available(*id);
        }
        let to = course.to.as_deref().unwrap_or_default();
        if !self.may_pass_to(link, to) {
            let to = to.to_owned();
            return Err(self.deny_target(link, &to));
        }
        let key = self.settings.identity.key(to);
        let Some(id) = self.addresses.find(key.as_str()) else {
            return self.reply(&key).ok_or_else(|| self.nowhere(&key));
        };
        if let Some(course) = &mut self.incoming[link].course {
            course.address = Some((id, key));
        }
        self.available(id)
    }

    /// What goes ahead of a link's current message to another router.
    pub(super) fn passage(&mut self, link: u32) -> Arc<Passage> {
        let incoming = &mut self.incoming[link];
        if let Some(course) = &incoming.course {
            let to = match incoming.target {
                _ if incoming.from_router => None,
                // Where its link leads counts for more than what a client says to routers.
                Target::Anonymous => incoming.last_to.as_ref().map(|last| &*last.to),
                _ => incoming.address.as_deref(),
            };
            return to.map_or_else(|| Arc::clone(&course.passage), |to| course.passage_to(to));
        }
        let topology = &*self.topology;
        let flags = incoming.flags;
        match (&mut incoming.last_to, incoming.target) {
            (Some(last), Target::Anonymous) => {
                let entering = || Passage::entering(Some(&last.to), topology, flags);
                Arc::clone(last.passage.get_or_insert_with(entering))
            }
            _ => {
                let to = incoming.address.as_deref();
                let entering = || Passage::entering(to, topology, flags);
                Arc::clone(incoming.passage.get_or_insert_with(entering))
            }
        }
    }

    /// The same where one link was chosen, by which prompt streams for an address leave so. A stream
    /// is prompt if it came as one, or if whoever starts it here can start it again.
    pub(super) fn passage_by(
        &mut self,
        link: u32,
        address: AddressId,
        prompt: Prompt,
    ) -> Arc<Passage> {
        let alone = match prompt {
            Prompt::Never => return self.passage(link),
            Prompt::AsOthers => None,
            Prompt::To(router) => match self.prompt_address(router, address) {
                None => return self.passage(link),
                alone => alone,
            },
        };
        let incoming = &mut self.incoming[link];
        let course = incoming.course.as_deref();
        let course = course.filter(|course| incoming.from_router && course.prompt);
        match (course, alone) {
            (Some(course), Some(to)) => course.passage_to(&to),
            // Where it goes is no longer this router's alone to say.
            (Some(course), None) => match course.to.as_deref().and_then(prompt_for) {
                Some(to) => course.passage_to(to),
                None => self.passage(link),
            },
            (None, alone) if incoming.tried.is_some() => {
                incoming.is_prompt = true;
                let last = incoming.last_to.as_ref().map(|last| &*last.to);
                let flags = incoming.flags | RouterAnnotations::PROMPT;
                Passage::entering(alone.as_deref().or(last), &self.topology, flags)
            }
            _ => self.passage(link),
        }
    }

    /// Where a router takes prompt streams for an address.
    fn prompt_address(&self, router: RouterIndex, address: AddressId) -> Option<String> {
        let row = self.topology.routers.get(router.0 as usize)?.as_ref()?;
        let key = self.addresses.key(address)?;
        Some(prompt_address(&row.name, key.text()))
    }

    fn available(&self, id: AddressId) -> Result<Aim, DeliveryState> {
        match self.addresses.treatment(id) {
            Some(Treatment::Unavailable) => Err(unavailable()),
            _ => Ok(Aim::Address(id)),
        }
    }

    /// Of an address that nobody has attached to.
    pub(super) fn nowhere(&self, key: &AddressKey) -> DeliveryState {
        let default = self.settings.default_treatment;
        let treatment = match key.class() {
            'M' => self.rules.get(key.text()).copied().unwrap_or(default),
            _ => default,
        };
        match treatment {
            Treatment::Unavailable => unavailable(),
            _ => DeliveryState::Released,
        }
    }

    /// Sets how addresses of a pattern are treated while nobody has attached to them.
    pub(crate) fn set_rule(&mut self, pattern: &str, treatment: Option<Treatment>) {
        match treatment {
            Some(treatment) => self.rules.insert(pattern, treatment),
            None => self.rules.remove(pattern),
        };
    }
}

fn unavailable() -> DeliveryState {
    rejected(
        "amqp:not-found",
        "Deliveries cannot be sent to an unavailable address",
    )
}

pub(super) fn rejected(condition: &'static str, text: &str) -> DeliveryState {
    DeliveryState::Rejected(Some(Box::new(Error::new(condition, text))))
}
