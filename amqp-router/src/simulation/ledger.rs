//! What every client has done and been told, and the laws that this must obey.
//!
//! The ledger sees both ends, and what passes between routers: a message is entered when its sender starts it, a copy when a
//! receiver gets the first of it. Each entry is checked against what is known by then, and
//! [`Ledger::settle_accounts`] checks what must have come about in the end. A broken law is a panic.

use std::collections::HashMap;

use crate::codec::DeliveryState;
use crate::control::table::Treatment;

use super::message::{self, Content, Shape};
use super::tap::Sighting;

#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) addresses: Vec<AddressRecord>,
    pub(super) links: Vec<LinkRecord>,
    pub(super) messages: Vec<MessageRecord>,
    pub(super) copies: Vec<CopyRecord>,
    /// Receivers that are gone, which not everybody in the router knows.
    mourned: Vec<LinkNo>,
    /// Counts the moments of the run.
    pub(super) moment: u64,
    /// The last moment when connections between routers came and went, or what they knew was not
    /// true; none where there is one router.
    pub(super) turmoil: Option<u64>,
    /// Connections succeed each other: messages may overtake others.
    pub(super) renewing: bool,
    pub(super) tally: Tally,
    pub(super) tracing: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct AddressNo(pub(super) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct LinkNo(pub(super) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct MessageNo(pub(super) usize);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct CopyNo(pub(super) usize);

impl CopyNo {
    /// What a receiver's endpoint calls it. Deliveries that are not known yet have 0.
    pub(super) fn token(self) -> u32 {
        self.0 as u32 + 1
    }

    pub(super) fn of_token(token: u32) -> Option<Self> {
        Some(Self(token.checked_sub(1)? as usize))
    }
}

#[derive(Debug)]
pub(super) struct AddressRecord {
    pub(super) name: String,
    pub(super) treatment: Treatment,
    /// In calm weather: nobody receives from it.
    pub(super) deserted: bool,
    /// The last moment when the router may have found no consumer, or lost one.
    pub(super) unstable: u64,
    /// A receiver has asked for everything presettled: what it is sent counts as accepted.
    pub(super) presettling: bool,
}

#[derive(Debug)]
pub(super) struct LinkRecord {
    pub(super) is_sender: bool,
    /// None is an anonymous sender.
    pub(super) address: Option<AddressNo>,
    pub(super) presettles: bool,
    /// Since when every worker knows of this receiver.
    pub(super) known_since: Option<u64>,
    pub(super) gone: Option<Gone>,
    /// Of a sender: what is released is tried elsewhere.
    pub(super) resends: bool,
    /// The latest sequence number that a receiver has seen of each sender. Between routers, each
    /// priority has links of its own.
    latest: HashMap<(LinkNo, u8), u64>,
    next_sequence: u64,
}

impl LinkRecord {
    /// Whether a receiver of the message's address was known when it was sent, and has stayed.
    fn was_there_for(&self, message: &MessageRecord) -> bool {
        let known = self.known_since;
        known.is_some_and(|since| since < message.sent_at)
            && self.gone.is_none()
            && self.address == Some(message.address)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gone {
    /// Detached, ended or closed: what was written before still counts.
    Properly,
    /// What was on its way may be lost.
    Abruptly,
}

#[derive(Debug)]
pub(super) struct MessageRecord {
    pub(super) sender: LinkNo,
    pub(super) address: AddressNo,
    pub(super) settled: bool,
    /// It may expire.
    pub(super) mortal: bool,
    pub(super) priority: u8,
    pub(super) content: Content,
    pub(super) phase: Phase,
    pub(super) sent_at: u64,
    pub(super) outcome: Option<DeliveryState>,
    /// Its sender does not wait for an outcome any more.
    pub(super) forsaken: bool,
    pub(super) copies: Vec<CopyNo>,
    /// The routers that it has entered from others.
    routers: Vec<usize>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Sending,
    Complete,
    Aborted,
}

#[derive(Debug)]
pub(super) struct CopyRecord {
    pub(super) message: MessageNo,
    pub(super) receiver: LinkNo,
    pub(super) complete: bool,
    pub(super) aborted: bool,
    pub(super) said: Option<DeliveryState>,
    /// Bytes that have arrived and were right.
    received: usize,
}

/// How often things happened: a simulation in which they do not proves nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) messages: u64,
    pub(super) streamed: u64,
    pub(super) aborted: u64,
    pub(super) copies: u64,
    pub(super) multicast_copies: u64,
    pub(super) presettled_copies: u64,
    pub(super) cut_short: u64,
    /// Copies of what another receiver had given back.
    pub(super) resent: u64,
    pub(super) accepted: u64,
    pub(super) rejected: u64,
    pub(super) released: u64,
    pub(super) modified: u64,
    pub(super) lost: u64,
    pub(super) crossed: u64,
    pub(super) drained: u64,
    pub(super) refused: u64,
    pub(super) connections: u64,
    pub(super) disconnects: u64,
    /// Steps of messages from router to router, and how many led to one passed before.
    pub(super) hops: u64,
    pub(super) came_back: u64,
    /// What happened to the network: connections cut, frozen, made anew; routers restarted.
    pub(super) cuts: u64,
    pub(super) freezes: u64,
    pub(super) renewals: u64,
    pub(super) restarts: u64,
}

impl Ledger {
    pub(super) fn say(&self, text: impl FnOnce() -> String) {
        if self.tracing {
            println!("{:>6} {}", self.moment, text());
        }
    }

    pub(super) fn address(&mut self, name: String, treatment: Treatment) -> AddressNo {
        self.addresses.push(AddressRecord {
            name,
            treatment,
            deserted: false,
            unstable: 0,
            presettling: false,
        });
        AddressNo(self.addresses.len() - 1)
    }

    pub(super) fn find_address(&self, name: &str) -> AddressNo {
        let found = self
            .addresses
            .iter()
            .position(|address| address.name == name);
        AddressNo(found.expect("stories use the addresses there are"))
    }

    pub(super) fn link(
        &mut self,
        is_sender: bool,
        address: Option<AddressNo>,
        presettles: bool,
    ) -> LinkNo {
        if let (false, true, Some(address)) = (is_sender, presettles, address) {
            self.addresses[address.0].presettling = true;
        }
        self.links.push(LinkRecord {
            is_sender,
            address,
            presettles,
            known_since: None,
            gone: None,
            resends: false,
            latest: HashMap::new(),
            next_sequence: 0,
        });
        LinkNo(self.links.len() - 1)
    }

    /// A link is given up by its client, or its client is gone.
    pub(super) fn link_gone(&mut self, link: LinkNo, gone: Gone) {
        let record = &mut self.links[link.0];
        if record.gone.is_some() {
            return;
        }
        record.gone = Some(gone);
        if let (false, Some(address)) = (record.is_sender, record.address) {
            self.addresses[address.0].unstable = self.moment;
            self.mourned.push(link);
        }
        self.say(|| format!("{link:?} is gone {gone:?}"));
    }

    /// Some receiver of the address is gone, and not everybody in the router knows.
    pub(super) fn is_mourning(&self, address: AddressNo) -> bool {
        self.mourned
            .iter()
            .any(|link| self.links[link.0].address == Some(address))
    }

    /// The router has heard that a link is gone, and so have its workers.
    pub(super) fn mourned(&mut self, link: LinkNo) {
        self.mourned.retain(|other| *other != link);
    }

    /// A sender starts a message.
    pub(super) fn starts(
        &mut self,
        sender: LinkNo,
        address: AddressNo,
        shape: &Shape,
        make: impl FnOnce(message::Label) -> Content,
    ) -> MessageNo {
        let number = MessageNo(self.messages.len());
        let record = &mut self.links[sender.0];
        let sequence = record.next_sequence;
        record.next_sequence += 1;
        let content = make(message::Label {
            message: number,
            sender,
            sequence,
        });
        let length = content.wire.len();
        self.messages.push(MessageRecord {
            sender,
            address,
            settled: shape.settled,
            mortal: shape.ttl.is_some(),
            priority: shape.priority.unwrap_or(4),
            content,
            phase: Phase::Sending,
            sent_at: self.moment,
            outcome: None,
            forsaken: false,
            copies: Vec::new(),
            routers: Vec::new(),
        });
        self.tally.messages += 1;
        self.say(|| {
            let settled = if shape.settled { " settled" } else { "" };
            format!("{sender:?} starts {number:?} to {address:?}, {length} bytes{settled}")
        });
        number
    }

    /// The last frame of a message is handed to its connection, or its abort is.
    pub(super) fn ends(&mut self, message: MessageNo, phase: Phase) {
        self.messages[message.0].phase = phase;
        self.tally.aborted += u64::from(phase == Phase::Aborted);
        self.say(|| format!("{message:?} is {phase:?}"));
    }

    /// A sender settles a delivery without having heard of it.
    pub(super) fn forsakes(&mut self, message: MessageNo) {
        self.messages[message.0].forsaken = true;
        self.say(|| format!("{message:?} is forsaken"));
    }

    /// A sender is told what has become of its delivery.
    pub(super) fn outcome(&mut self, number: MessageNo, state: Option<DeliveryState>) {
        self.say(|| format!("{number:?} gets {state:?}"));
        let message = &self.messages[number.0];
        assert!(
            !message.settled,
            "{number:?} came settled and got {state:?}"
        );
        assert!(
            !message.forsaken,
            "{number:?} was settled and got {state:?}"
        );
        assert_eq!(
            message.outcome, None,
            "{number:?} got a second outcome {state:?}"
        );
        let Some(state) = state else {
            panic!("{number:?} was settled without an outcome")
        };
        if message.phase != Phase::Aborted {
            match self.addresses[message.address.0].treatment {
                Treatment::Multicast => self.check_combined(number, &state),
                _ => self.check_single(number, &state),
            }
        }
        match &state {
            DeliveryState::Accepted => self.tally.accepted += 1,
            DeliveryState::Rejected(_) => self.tally.rejected += 1,
            DeliveryState::Released => self.tally.released += 1,
            _ => self.tally.modified += 1,
        }
        self.tally.lost += u64::from(state == failed());
        self.messages[number.0].outcome = Some(state);
    }

    /// A unicast outcome is what the receiver said; failing that, it tells of a loss.
    fn check_single(&self, number: MessageNo, state: &DeliveryState) {
        let message = &self.messages[number.0];
        let address = &self.addresses[message.address.0];
        let in_turmoil = self.is_in_turmoil(message);
        let unstable = message.sent_at <= address.unstable || message.mortal || in_turmoil;
        let Some(&copy) = message.copies.last() else {
            let explained = match state {
                DeliveryState::Accepted => address.presettling,
                DeliveryState::Released => unstable,
                DeliveryState::Rejected(Some(error)) => {
                    address.treatment == Treatment::Unavailable
                        && error.condition.as_str() == "amqp:not-found"
                }
                state => unstable && *state == failed(),
            };
            assert!(explained, "{number:?} got {state:?}, which nobody said");
            return;
        };
        let copy = &self.copies[copy.0];
        let receiver = &self.links[copy.receiver.0];
        let resends = self.links[message.sender.0].resends;
        let explained = match &copy.said {
            Some(said) if said == state => true,
            None if receiver.presettles && *state == DeliveryState::Accepted => true,
            // It went on to one who is not asked, and is still on its way there.
            Some(DeliveryState::Released) if resends && *state == DeliveryState::Accepted => {
                address.presettling
            }
            _ => (receiver.gone.is_some() || in_turmoil) && tells_of_loss(state, copy.complete),
        };
        let said = &copy.said;
        assert!(
            explained,
            "{number:?} got {state:?}, but its receiver said {said:?}"
        );
    }

    /// A multicast's outcome is the most significant that any receiver gave.
    fn check_combined(&self, number: MessageNo, state: &DeliveryState) {
        let message = &self.messages[number.0];
        let address = &self.addresses[message.address.0];
        let copies = || message.copies.iter().map(|copy| &self.copies[copy.0]);
        let in_turmoil = self.is_in_turmoil(message);
        let mut gone = message.sent_at <= address.unstable || message.mortal || in_turmoil;
        for copy in copies() {
            let Some(said) = &copy.said else { continue };
            let certain = self.links[copy.receiver.0].gone.is_none() && !in_turmoil;
            gone |= !certain;
            assert!(
                !certain || significance(said) <= significance(state),
                "{number:?} got {state:?}, but a receiver said {said:?}"
            );
        }
        let said = copies().any(|copy| copy.said.as_ref() == Some(state));
        let explained = said
            || match state {
                DeliveryState::Accepted => address.presettling,
                DeliveryState::Released => gone,
                state => gone && *state == failed(),
            };
        assert!(explained, "{number:?} got {state:?}, which nobody said");
    }

    /// A receiver has got enough of a delivery to know which message it is.
    pub(super) fn arrives(
        &mut self,
        receiver: LinkNo,
        start: &[u8],
        settled: bool,
    ) -> Option<CopyNo> {
        let label = message::Label::find(start)?;
        let number = label.message;
        let in_turmoil = self.is_in_turmoil(&self.messages[number.0]);
        let resends = self.links[label.sender.0].resends;
        let message = self
            .messages
            .get_mut(number.0)
            .expect("labels name messages");
        assert_eq!(message.sender, label.sender, "{number:?} is mislabelled");
        let copy = CopyNo(self.copies.len());
        let record = &mut self.links[receiver.0];
        assert_eq!(
            record.address,
            Some(message.address),
            "{number:?} went to a wrong address"
        );
        let lane = self.turmoil.map_or(0, |_| message.priority);
        let presettles = record.presettles;
        let latest = record.latest.insert((label.sender, lane), label.sequence);
        assert!(
            latest.is_none_or(|latest| latest < label.sequence)
                || in_turmoil
                || self.renewing
                || resends,
            "{number:?} came to {receiver:?} after sequence {latest:?}"
        );
        if self.addresses[message.address.0].treatment == Treatment::Multicast {
            let copies = message
                .copies
                .iter()
                .map(|copy| self.copies[copy.0].receiver);
            assert!(
                !{ copies }.any(|other| other == receiver) || in_turmoil,
                "{number:?} came twice"
            );
            self.tally.multicast_copies += 1;
        } else {
            let others = || message.copies.iter().map(|copy| &self.copies[copy.0]);
            let gave_back = |copy: &CopyRecord| {
                let said_so = copy.said == Some(DeliveryState::Released);
                said_so || self.links[copy.receiver.0].gone.is_some()
            };
            assert!(
                message.copies.is_empty() || resends && (in_turmoil || others().all(gave_back)),
                "{number:?} went to two receivers"
            );
            // In a network, another way may lead to who has given it back already.
            let detours = in_turmoil || self.turmoil.is_some();
            assert!(
                detours || others().all(|copy| copy.receiver != receiver),
                "{number:?} went to {receiver:?} twice"
            );
            self.tally.resent += u64::from(!message.copies.is_empty());
            let presettled = settled || presettles || message.forsaken;
            // What has not left whole may have arrived in part.
            let outcome = message.outcome.as_ref();
            let in_doubt =
                in_turmoil && outcome.is_some_and(|outcome| tells_of_loss(outcome, false));
            assert!(
                message.outcome.is_none() || presettled || in_doubt,
                "{number:?} came after its outcome {:?}",
                message.outcome
            );
        }
        assert!(
            settled || !message.settled,
            "{number:?} was sent settled and came unsettled"
        );
        message.copies.push(copy);
        self.copies.push(CopyRecord {
            message: number,
            receiver,
            complete: false,
            aborted: false,
            said: None,
            received: 0,
        });
        self.tally.copies += 1;
        self.tally.presettled_copies += u64::from(settled);
        self.say(|| format!("{receiver:?} gets {number:?} as {copy:?}"));
        Some(copy)
    }

    /// Whether a message may have met with connections that were lost, or with routers that had
    /// not heard the latest.
    fn is_in_turmoil(&self, message: &MessageRecord) -> bool {
        self.turmoil.is_some_and(|last| message.sent_at <= last)
    }

    /// A message enters a router from another one.
    pub(super) fn passes(&mut self, sighting: &Sighting) {
        let Sighting { router, trace, .. } = sighting;
        let number = sighting.label.message;
        self.say(|| format!("{number:?} enters R{router} after {trace:?}"));
        let in_turmoil = self.is_in_turmoil(&self.messages[number.0]);
        for (at, hop) in trace.iter().enumerate() {
            assert!(
                !trace[..at].contains(hop),
                "{number:?} went in circles: {trace:?}"
            );
        }
        let here = format!("0/R{router}");
        let comes_back = trace.contains(&here);
        assert!(
            !comes_back || in_turmoil,
            "{number:?} comes back to R{router}: {trace:?}"
        );
        let message = &mut self.messages[number.0];
        let again = message.routers.contains(router);
        // Another neighbour may know a way through it.
        let resends = self.links[message.sender.0].resends;
        assert!(
            !again || in_turmoil || resends,
            "{number:?} enters R{router} twice: {trace:?}"
        );
        message.routers.push(*router);
        self.tally.hops += 1;
        self.tally.came_back += u64::from(comes_back);
    }

    /// More of a copy has arrived.
    pub(super) fn receives(&mut self, number: CopyNo, chunk: &[u8]) {
        let copy = &mut self.copies[number.0];
        let message = &self.messages[copy.message.0];
        assert!(
            message.content.continues_with(copy.received, chunk),
            "{:?} came with different bytes after {}",
            copy.message,
            copy.received
        );
        copy.received += chunk.len();
    }

    /// The last frame of a copy has arrived.
    pub(super) fn completes(&mut self, number: CopyNo) {
        let copy = &mut self.copies[number.0];
        let message = &self.messages[copy.message.0];
        copy.complete = true;
        assert_eq!(
            message.phase,
            Phase::Complete,
            "{number:?} ended before it was sent"
        );
        let released = message.outcome == Some(DeliveryState::Released);
        let unicast = self.addresses[message.address.0].treatment != Treatment::Multicast;
        assert!(
            !released || !unicast || copy.said == Some(DeliveryState::Released),
            "{:?} was released and arrives",
            copy.message
        );
        assert!(
            message.content.ends_at(copy.received),
            "{:?} ended after {} bytes of {}",
            copy.message,
            copy.received,
            message.content.wire.len()
        );
        self.say(|| format!("{number:?} is complete"));
    }

    /// The router gave up a delivery to a receiver.
    pub(super) fn cut_short(&mut self, number: CopyNo) {
        let copy = &mut self.copies[number.0];
        copy.aborted = true;
        let message = &self.messages[copy.message.0];
        let sender_gone = self.links[message.sender.0].gone.is_some();
        let unwanted = copy
            .said
            .as_ref()
            .is_some_and(|said| *said != DeliveryState::Accepted);
        assert!(
            message.phase == Phase::Aborted
                || sender_gone
                || unwanted
                || self.is_in_turmoil(message),
            "{number:?} was aborted by nobody"
        );
        self.tally.cut_short += 1;
        self.say(|| format!("{number:?} is aborted"));
    }

    /// A receiver says what is to become of a delivery.
    pub(super) fn says(&mut self, number: CopyNo, state: DeliveryState, settled: bool) {
        self.say(|| {
            let settled = if settled { " settled" } else { "" };
            format!("{number:?} is told {state:?}{settled}")
        });
        self.copies[number.0].said = Some(state);
    }

    /// Everybody has said what there was to say and all of it has arrived.
    pub(super) fn settle_accounts(&self) {
        for (index, message) in self.messages.iter().enumerate() {
            let number = MessageNo(index);
            let sender = &self.links[message.sender.0];
            if sender.gone.is_none() {
                assert_ne!(
                    message.phase,
                    Phase::Sending,
                    "{number:?} could not be sent"
                );
                let expects =
                    !message.settled && !message.forsaken && message.phase == Phase::Complete;
                assert!(
                    !expects || message.outcome.is_some(),
                    "{number:?} got no outcome"
                );
            }
            self.check_ends(number);
            self.check_accepted(number);
            self.check_everybody_got(number);
            self.check_everybody_was_asked(number);
        }
    }

    /// No receiver is left with half a message.
    fn check_ends(&self, number: MessageNo) {
        for &copy in &self.messages[number.0].copies {
            let record = &self.copies[copy.0];
            let receiver = &self.links[record.receiver.0];
            assert!(
                record.complete || record.aborted || receiver.gone.is_some(),
                "{copy:?} of {number:?} never ended"
            );
        }
    }

    /// What was accepted has arrived, whole.
    fn check_accepted(&self, number: MessageNo) {
        let message = &self.messages[number.0];
        let address = &self.addresses[message.address.0];
        // A receiver may accept what has not all arrived, and then the rest be lost with its sender.
        let cut_off = self.links[message.sender.0].gone == Some(Gone::Abruptly)
            || message.phase != Phase::Complete;
        let copies = || message.copies.iter().map(|copy| &self.copies[copy.0]);
        let cut_off = cut_off || self.is_in_turmoil(message) && copies().any(|copy| copy.aborted);
        let accepted = message.outcome == Some(DeliveryState::Accepted);
        if !accepted || cut_off || address.presettling {
            return;
        }
        let whole =
            copies().any(|copy| copy.complete || self.links[copy.receiver.0].gone.is_some());
        assert!(whole, "{number:?} was accepted and lost");
    }

    /// What its sender wanted to be tried elsewhere and heard to be released has been everywhere.
    fn check_everybody_was_asked(&self, number: MessageNo) {
        let message = &self.messages[number.0];
        let address = &self.addresses[message.address.0];
        if !self.links[message.sender.0].resends
            || message.outcome != Some(DeliveryState::Released)
            || matches!(
                address.treatment,
                Treatment::Multicast | Treatment::Unavailable
            )
            || message.mortal
            || self.turmoil.is_some()
        {
            return;
        }
        for (index, link) in self.links.iter().enumerate() {
            let was_there = link.was_there_for(message);
            let mut copies = message.copies.iter().map(|copy| &self.copies[copy.0]);
            assert!(
                !was_there || copies.any(|copy| copy.receiver == LinkNo(index)),
                "{number:?} was released and LinkNo({index}) was not asked"
            );
        }
    }

    /// A multicast has reached everybody who was there.
    fn check_everybody_got(&self, number: MessageNo) {
        let message = &self.messages[number.0];
        // What a sender leaves behind without an outcome goes on only while there is room for it.
        let unsure = self.links[message.sender.0].gone.is_some() && message.outcome.is_none();
        if self.addresses[message.address.0].treatment != Treatment::Multicast
            || message.settled
            || message.mortal
            || message.forsaken
            || message.phase != Phase::Complete
            || unsure
            || self.is_in_turmoil(message)
        {
            return;
        }
        for (index, link) in self.links.iter().enumerate() {
            let was_there = link.was_there_for(message);
            let receiver = LinkNo(index);
            let reached = || {
                message
                    .copies
                    .iter()
                    .map(|copy| &self.copies[copy.0])
                    .any(|copy| copy.receiver == receiver && (copy.complete || copy.said.is_some()))
            };
            assert!(
                !was_there || reached(),
                "{number:?} did not reach {receiver:?}"
            );
        }
    }
}

impl Tally {
    pub(super) fn add(&mut self, other: &Self) {
        let fields = [
            (&mut self.messages, other.messages),
            (&mut self.streamed, other.streamed),
            (&mut self.aborted, other.aborted),
            (&mut self.copies, other.copies),
            (&mut self.resent, other.resent),
            (&mut self.multicast_copies, other.multicast_copies),
            (&mut self.presettled_copies, other.presettled_copies),
            (&mut self.cut_short, other.cut_short),
            (&mut self.accepted, other.accepted),
            (&mut self.rejected, other.rejected),
            (&mut self.released, other.released),
            (&mut self.modified, other.modified),
            (&mut self.lost, other.lost),
            (&mut self.crossed, other.crossed),
            (&mut self.drained, other.drained),
            (&mut self.refused, other.refused),
            (&mut self.connections, other.connections),
            (&mut self.disconnects, other.disconnects),
            (&mut self.hops, other.hops),
            (&mut self.came_back, other.came_back),
            (&mut self.cuts, other.cuts),
            (&mut self.freezes, other.freezes),
            (&mut self.renewals, other.renewals),
            (&mut self.restarts, other.restarts),
        ];
        for (sum, count) in fields {
            *sum += count;
        }
    }
}

/// Whether a loss has this outcome: what had left as a whole has failed, and what had not is
/// released.
fn tells_of_loss(state: &DeliveryState, complete: bool) -> bool {
    *state == failed() || *state == DeliveryState::Released && !complete
}

/// What the router makes of a delivery whose receiver is lost when all of it has left.
pub(super) fn failed() -> DeliveryState {
    DeliveryState::modified(true, false)
}

/// How much one receiver's outcome counts against another's.
fn significance(state: &DeliveryState) -> u8 {
    match state {
        DeliveryState::Rejected(_) => 4,
        DeliveryState::Accepted => 3,
        DeliveryState::Modified(_) => 2,
        DeliveryState::Released => 1,
        _ => 0,
    }
}
