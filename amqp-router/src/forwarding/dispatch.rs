//! From an incoming link to the address's outgoing links.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::codec::DeliveryState;
use crate::control::table::{Direction, Outlet, Slot, WorkerId};
use crate::control::topology::Ingress;
use crate::forwarding::Forwarder;
use crate::forwarding::addresses::{Choice, Lane};
use crate::forwarding::aim::Aim;
use crate::forwarding::arriving::Fresh;
use crate::forwarding::delivery::{Copied, Multicast, Origin};
use crate::forwarding::links::{OutgoingTraits, Target};
use crate::forwarding::mailbox::{Branch, Envelope, Mail};
use crate::forwarding::resend::Resend;
use crate::forwarding::stats::Party;
use crate::forwarding::treatment::{Journey, Tried};
use crate::forwarding::window::Places;
use crate::forwarding::wire::Wire;

impl Forwarder {
    /// Hands a delivery to the links that its address's treatment chooses.
    pub(super) fn dispatch<W: Wire>(
        &mut self,
        wire: &mut W,
        fresh: Fresh,
        aim: Aim,
        mut envelope: Envelope,
    ) {
        let mut chosen = std::mem::take(&mut self.chosen);
        let incoming = &self.incoming[fresh.link];
        let from_router = incoming.from_router;
        let course = incoming.course.as_deref();
        let prompt = from_router && course.is_some_and(|course| course.prompt);
        #[cfg(test)]
        let prompt = prompt && !self.is_foreign;
        let resends = incoming.resends();
        let journey = Journey {
            topology: &self.topology,
            ingress: course.map_or(Ingress::Here, |course| course.ingress),
            passed: course.map_or(&[], |course| &course.passed),
            tried: match resends {
                true => Some(Tried {
                    loads: &[],
                    refusals: &[],
                    thorough: true,
                }),
                false => incoming.tried.as_deref().map(|loads| Tried {
                    loads,
                    refusals: &[],
                    thorough: false,
                }),
            },
            side: incoming.side.within(course.and_then(|course| course.mesh)),
            leads_up: self.leads_up(incoming),
            // On its way to a router that takes it, anybody may pass it on.
            prompt: prompt && self.addresses.is_mobile(envelope.address),
        };
        envelope.ingress = journey.ingress;
        let address = envelope.address;
        let lane = Lane {
            priority: envelope.priority,
            stream: envelope.is_stream.then_some(self.settings.worker),
        };
        match aim {
            Aim::Link { worker, link } => {
                chosen.clear();
                chosen.push(Choice::direct(worker, link, &self.direct));
            }
            Aim::Address(address) => {
                self.addresses.choose(address, &journey, lane, &mut chosen);
            }
        }
        if !from_router {
            let party = self.incoming[fresh.link].party;
            self.addresses.count_ingress(address, party);
        }
        let incoming = &mut self.incoming[fresh.link];
        incoming.is_prompt = false;
        if let Some(tried) = &mut incoming.tried {
            tried.extend(chosen.iter().filter_map(|choice| choice.load.clone()));
        }
        if chosen.iter().any(|choice| choice.annotated) {
            envelope.passage = Some(match &chosen[..] {
                [one] => self.passage_by(fresh.link, address, one.prompt),
                _ => self.passage(fresh.link),
            });
        }
        match &mut *chosen {
            [] => {
                let incoming = &self.incoming[fresh.link];
                match incoming.party {
                    _ if incoming.target == Target::Anonymous || from_router => {}
                    // A broker need not answer for what it keeps. (RabbitMQ 3.10 fails when it is to
                    // drain a classic queue.)
                    Party::Container => wire.set_credit(incoming.terminal, 0),
                    _ => wire.drain(incoming.terminal),
                }
                self.refuse(wire, &fresh, DeliveryState::Released);
            }
            [choice] => {
                envelope.load = choice.load.take();
                let outlet = choice.outlet;
                let resend = match resends {
                    true => self.resend_of(fresh.link, &envelope),
                    false => None,
                };
                self.forward_to(wire, fresh, envelope, outlet, resend);
            }
            _ => self.fan_out(wire, fresh, envelope, &mut chosen),
        }
        self.chosen = chosen;
    }

    /// Hands a delivery to the only link that gets it.
    fn forward_to<W: Wire>(
        &mut self,
        wire: &mut W,
        fresh: Fresh,
        envelope: Envelope,
        outlet: Outlet,
        resend: Option<Box<Resend>>,
    ) {
        let here = self.settings.worker;
        let (worker, link) = self.way_out(wire, outlet, |this| this.trace(fresh.link));
        if fresh.settled && !fresh.more && worker == here {
            let origin = self.presettled_origin(wire, &fresh);
            self.enqueue(wire, link, origin, envelope, fresh.payload, false);
            return;
        }
        let copies = SmallVec::from_buf([Copied::new(worker)]);
        let delivery = self.add_inbound(wire, &fresh, envelope.counted_from(), copies, None);
        let branch = Branch {
            worker: here,
            delivery,
            copy: 0,
        };
        if resend.is_some() {
            self.inbound[delivery.index].resend = resend;
            self.keep(delivery.index, &fresh.payload);
        }
        let (payload, more) = (fresh.payload, fresh.more);
        if worker != here {
            return self.post_start(worker, link, branch, envelope, payload, more);
        }
        let outbound = self.enqueue(wire, link, Origin::Branch(branch), envelope, payload, more);
        if let Some(inbound) = self.inbound.get_mut(delivery) {
            inbound.copies[0].outbound = outbound;
        }
    }

    /// The link that a delivery to a destination leaves by, made for it if it needs its own.
    pub(super) fn way_out<W: Wire>(
        &mut self,
        wire: &mut W,
        outlet: Outlet,
        trace: impl FnOnce(&Self) -> Option<String>,
    ) -> (WorkerId, Slot) {
        match outlet {
            Outlet::Link { worker, link, .. } => (worker, link),
            Outlet::Connector(connector) => {
                let terminal = wire.dial(connector, trace(self));
                let traits = OutgoingTraits {
                    capacity: 1,
                    ..OutgoingTraits::default()
                };
                let (slot, _) = self.add_outgoing(terminal, traits);
                wire.bind(terminal, Direction::Outgoing, slot);
                (self.settings.worker, slot)
            }
        }
    }

    /// Who waits for a presettled delivery that is complete. A router does not: it has others'
    /// to send, too.
    fn presettled_origin<W: Wire>(&mut self, wire: &mut W, fresh: &Fresh) -> Origin {
        let slot = self.incoming.slot(fresh.link);
        let incoming = &mut self.incoming[fresh.link];
        if !incoming.from_router {
            // Only what goes on is counted as it leaves.
            let gone = fresh.octets.saturating_sub(fresh.payload.len() as u32);
            if gone > 0 {
                self.release(
                    wire,
                    fresh.link,
                    Places {
                        frames: 0,
                        octets: gone,
                    },
                );
            }
            return Origin::Link(slot);
        }
        self.origin_done(wire, Origin::Link(slot));
        self.release(wire, fresh.link, fresh.place());
        Origin::Gone
    }

    /// Makes the incoming half and a copy for every chosen link.
    fn fan_out<W: Wire>(
        &mut self,
        wire: &mut W,
        fresh: Fresh,
        envelope: Envelope,
        chosen: &mut [Choice],
    ) {
        let links = u16::try_from(chosen.len()).unwrap_or(u16::MAX);
        let chosen = &mut chosen[..usize::from(links)];
        let ways = chosen
            .iter()
            .map(|one| self.way_out(wire, one.outlet, |this| this.trace(fresh.link)));
        let ways: SmallVec<[(WorkerId, Slot); 8]> = ways.collect();
        let mut held = Box::<Multicast>::default();
        held.progress.hold(links, fresh.payload.len());
        let copies = ways.iter().map(|way| Copied::new(way.0)).collect();
        let delivery = self.add_inbound(wire, &fresh, envelope.counted_from(), copies, Some(held));
        for ((copy, choice), (worker, link)) in (0..links).zip(chosen).zip(ways) {
            let branch = Branch {
                worker: self.settings.worker,
                delivery,
                copy,
            };
            let (payload, more) = (fresh.payload.clone(), fresh.more);
            let envelope = Envelope {
                load: choice.load.take(),
                ..envelope.clone()
            };
            if worker == self.settings.worker {
                let origin = Origin::Branch(branch);
                let outbound = self.enqueue(wire, link, origin, envelope, payload, more);
                if let Some(inbound) = self.inbound.get_mut(delivery) {
                    inbound.copies[usize::from(copy)].outbound = outbound;
                }
            } else {
                self.post_start(worker, link, branch, envelope, payload, more);
            }
        }
    }

    /// Gives a further frame to every copy.
    pub(super) fn pass_on<W: Wire>(
        &mut self,
        wire: &mut W,
        delivery: u32,
        payload: Bytes,
        more: bool,
    ) {
        let slot = self.inbound.slot(delivery);
        let inbound = &mut self.inbound[delivery];
        let copies = inbound.copies.len() as u16;
        let first = match &mut inbound.multicast {
            Some(multicast) => {
                multicast.progress.hold(copies, payload.len());
                0
            }
            None => copies - 1,
        };
        for copy in first..copies {
            let branch = Branch {
                worker: self.settings.worker,
                delivery: slot,
                copy,
            };
            self.pass_to(wire, branch, payload.clone(), more);
        }
    }

    /// Gives a further frame to one copy.
    pub(super) fn pass_to<W: Wire>(
        &mut self,
        wire: &mut W,
        branch: Branch,
        payload: Bytes,
        more: bool,
    ) {
        let Some(inbound) = self.inbound.get_mut(branch.delivery) else {
            return;
        };
        let Copied {
            worker,
            outbound,
            closed,
            ..
        } = inbound.copies[usize::from(branch.copy)];
        if worker != self.settings.worker && !closed {
            let mail = Mail::Continue {
                branch,
                payload,
                more,
            };
            return self.post(worker, mail);
        }
        match outbound.filter(|&outbound| self.outbound.get(outbound).is_some()) {
            Some(outbound) => self.append(wire, outbound.index, payload, more),
            None => self.frame_through(wire, branch, payload.len()),
        }
    }
}
