//! All connections of the relay, and what passes between them.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Instant;

use super::link::{Deliveries, Delivery, Link, LinkRef, Origin, Tag};
use crate::connection::{Connection, Input, Received};
use crate::error::Error;
use crate::wire::decode::{self, Attach, Disposition, Flow, Frame, Transfer};
use crate::wire::encode::{self, Role, Terminus, TransferHead};

/// The connections, by numbers that are never used twice.
#[derive(Debug)]
pub(super) struct Node {
    clients: Vec<Option<Box<Client>>>,
    addresses: HashMap<Vec<u8>, Ends>,
    /// Clients due for a turn.
    due: Vec<usize>,
    drop_every: Option<NonZeroU32>,
    settled: u32,
}

/// The links joined at an address.
#[derive(Debug, Default)]
struct Ends {
    sender: Option<LinkRef>,
    receiver: Option<LinkRef>,
}

#[derive(Debug)]
struct Client {
    id: usize,
    connection: Connection,
    /// By handle.
    links: Vec<Option<Link>>,
    /// Deliveries sent to it.
    deliveries: Deliveries,
    /// A transfer waits at the front of its input until its receiver can take it.
    stalled: bool,
    finished: bool,
    is_due: bool,
}

/// What became of a frame.
enum Step {
    Done,
    /// The receiver's window or socket is full.
    Wait,
}

impl Node {
    pub(super) fn new(drop_every: Option<NonZeroU32>) -> Self {
        let addresses = HashMap::new();
        Node {
            clients: Vec::new(),
            addresses,
            due: Vec::new(),
            drop_every,
            settled: 0,
        }
    }

    /// The number of the client added next.
    pub(super) fn next_id(&self) -> usize {
        self.clients.len()
    }

    /// Takes a client, or turns it away if the frames we pass on might be too large for it.
    pub(super) fn add(&mut self, connection: Connection, max_frame_size: usize) {
        let id = self.next_id();
        let mut client = Box::new(Client {
            id,
            connection,
            links: Vec::new(),
            deliveries: Deliveries::default(),
            stalled: false,
            finished: false,
            is_due: false,
        });
        if client.connection.remote_max_frame_size < max_frame_size + HEAD_GROWTH {
            let error = (
                "amqp:frame-size-too-small",
                "the relay does not split frames",
            );
            encode::close(&mut client.connection.out, Some(error));
            client.finished = true;
        }
        self.clients.push(Some(client));
        self.schedule(id);
    }

    /// The socket of a client has something to read, or takes more.
    pub(super) fn ready(&mut self, id: usize, readable: bool, writable: bool) {
        if let Some(client) = &mut self.clients[id] {
            client.connection.readable |= readable;
            client.connection.writable |= writable;
            self.schedule(id);
        }
    }

    /// Heartbeats.
    pub(super) fn tick(&mut self, now: Instant) {
        for id in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[id] {
                client.connection.beat(now);
                self.schedule(id);
            }
        }
    }

    /// Gives every client that is due a turn. Says whether there is more to do at once.
    pub(super) fn turn(&mut self) -> bool {
        let due = std::mem::take(&mut self.due);
        for &id in &due {
            let Some(mut client) = self.clients[id].take() else {
                continue;
            };
            client.is_due = false;
            let more = self.turn_of(&mut client);
            match more {
                Ok(more) => {
                    self.clients[id] = Some(client);
                    if more {
                        self.schedule(id);
                    }
                }
                Err(_) => self.remove(&client),
            }
        }
        self.flush(&due)
    }

    fn turn_of(&mut self, client: &mut Client) -> Result<bool, Error> {
        if client.finished {
            return match client.connection.flush()? {
                true => Err(Error::Protocol("the connection is closed")),
                false => Ok(false),
            };
        }
        let mut received = Received::Nothing;
        if !client.stalled {
            received = client.connection.read()?;
            if received == Received::Eof {
                return Err(crate::sender::eof());
            }
        }
        if client.stalled || received == Received::Bytes {
            client.stalled = false;
            self.take_frames(client)?;
            client.regrant(self);
        }
        // What came while it was stalled is still to be read, and no event will tell of it again.
        Ok(client.connection.readable && !client.stalled)
    }

    /// Writes what this turn queued. Clients that waited for a socket or a window try again.
    fn flush(&mut self, turned: &[usize]) -> bool {
        let mut touched = std::mem::take(&mut self.due);
        touched.extend_from_slice(turned);
        for id in touched {
            let Some(client) = &mut self.clients[id] else {
                continue;
            };
            let was_due = std::mem::take(&mut client.is_due);
            let result = client.connection.flush();
            let again = (was_due && client.connection.readable) || client.finished;
            match result {
                Err(_) => {
                    if let Some(client) = self.clients[id].take() {
                        self.remove(&client);
                    }
                }
                Ok(flushed) if again && (flushed || !client.finished) => self.schedule(id),
                Ok(_) => {}
            }
        }
        self.retry();
        !self.due.is_empty()
    }

    /// Schedules stalled clients whose receiver has room again.
    fn retry(&mut self) {
        for id in 0..self.clients.len() {
            let Some(client) = &self.clients[id] else {
                continue;
            };
            if client.stalled
                && client
                    .links
                    .iter()
                    .flatten()
                    .all(|link| self.has_room(link))
            {
                self.schedule(id);
            }
        }
    }

    fn has_room(&self, link: &Link) -> bool {
        let Some(other) = link.other else { return true };
        match &self.clients[other.connection] {
            Some(receiver) if link.role == Role::Sender => receiver.has_room(),
            _ => true,
        }
    }

    fn take_frames(&mut self, client: &mut Client) -> Result<(), Error> {
        let mut input = std::mem::take(&mut client.connection.input);
        let result = self.take_frames_of(client, &mut input);
        client.connection.input = input;
        result
    }

    fn take_frames_of(&mut self, client: &mut Client, input: &mut Input) -> Result<(), Error> {
        while let Some(bytes) = input.next_frame()? {
            let size = bytes.len();
            match decode::frame(bytes)?.1 {
                Frame::Transfer(transfer) => {
                    if let Step::Wait = self.on_transfer(client, &transfer)? {
                        input.put_back(size);
                        client.stalled = true;
                        return Ok(());
                    }
                }
                Frame::Disposition(disposition) => self.on_disposition(client, &disposition),
                Frame::Flow(flow) => self.on_flow(client, &flow),
                Frame::Attach(attach) => self.on_attach(client, &attach)?,
                Frame::Detach(handle, _) => {
                    encode::detach(&mut client.connection.out, handle);
                    self.unlink(client, handle);
                }
                Frame::End(_) => encode::end(&mut client.connection.out),
                Frame::Close(_) => {
                    encode::close(&mut client.connection.out, None);
                    client.finished = true;
                    self.schedule(client.id);
                    return Ok(());
                }
                Frame::Empty => {}
                other => return Err(crate::sender::unexpected(other)),
            }
        }
        Ok(())
    }

    fn on_transfer(&mut self, client: &mut Client, transfer: &Transfer<'_>) -> Result<Step, Error> {
        let link = client
            .links
            .get_mut(transfer.handle as usize)
            .and_then(Option::as_mut)
            .filter(|link| link.role == Role::Sender)
            .ok_or(Error::Protocol("a transfer on no incoming link"))?;
        // Without a receiver there was no credit, or the receiver has gone since.
        let other = link
            .other
            .and_then(|other| Some((other, self.clients[other.connection].as_mut()?)));
        if other
            .as_ref()
            .is_some_and(|(_, receiver)| !receiver.has_room())
        {
            return Ok(Step::Wait);
        }
        client.connection.session.received()?;
        let Some((other, receiver)) = other else {
            return Ok(Step::Done);
        };
        let mut delivery = match link.delivery {
            Some(delivery) => delivery,
            None => {
                let drop_every = self.drop_every;
                link.spend_credit()?;
                let lost =
                    transfer.settled && drop_every.is_some_and(|n| count(&mut self.settled, n));
                receiver.start(other, client.id, transfer, lost)?
            }
        };
        let over = !transfer.more || transfer.aborted;
        link.delivery = (!over).then_some(delivery);
        if let Some(id) = delivery.id.take() {
            // A socket that fails is its owner's affair, not the sender's.
            if receiver
                .send(other.handle, id, &delivery, transfer)
                .is_err()
            {
                receiver.finished = true;
            }
            schedule(&mut self.due, receiver);
        }
        Ok(Step::Done)
    }

    /// Passes outcomes back to where the deliveries came from, in ranges.
    fn on_disposition(&mut self, client: &mut Client, disposition: &Disposition<'_>) {
        let Disposition {
            role,
            first,
            last,
            settled,
            state,
        } = *disposition;
        if role != Role::Receiver || !settled {
            return;
        }
        let Node { clients, due, .. } = self;
        let mut pass_back = |origin: Origin, last: u32| {
            if let Some(sender) = &mut clients[origin.connection] {
                encode::disposition(
                    &mut sender.connection.out,
                    Role::Receiver,
                    origin.id,
                    last,
                    state,
                );
                schedule(due, sender);
            }
        };
        let mut range: Option<(Origin, u32)> = None;
        client
            .deliveries
            .settle(first, last, |origin| match &mut range {
                Some((start, last))
                    if start.connection == origin.connection
                        && last.wrapping_add(1) == origin.id =>
                {
                    *last = origin.id;
                }
                _ => {
                    if let Some((start, last)) = range.replace((origin, origin.id)) {
                        pass_back(start, last);
                    }
                }
            });
        if let Some((start, last)) = range {
            pass_back(start, last);
        }
    }

    /// A receiver's credit, less what is under way, becomes its sender's.
    fn on_flow(&mut self, client: &mut Client, flow: &Flow) {
        client.connection.session.on_flow(flow);
        if flow.echo {
            encode::flow(
                &mut client.connection.out,
                client.connection.session.flow(),
                None,
            );
        }
        let Some(of_link) = &flow.link else { return };
        let Some(Some(link)) = client.links.get_mut(of_link.handle as usize) else {
            return;
        };
        if link.role != Role::Receiver {
            return;
        }
        let under_way = link
            .delivery_count
            .wrapping_sub(of_link.delivery_count.unwrap_or(0));
        link.credit = of_link.link_credit.saturating_sub(under_way);
        let credit = link.credit;
        if let Some(other) = link.other
            && let Some(sender) = &mut self.clients[other.connection]
        {
            sender.grant(other.handle, credit);
            schedule(&mut self.due, sender);
        }
    }

    fn on_attach(&mut self, client: &mut Client, attach: &Attach<'_>) -> Result<(), Error> {
        let address = attach.address()?.unwrap_or_default().to_vec();
        encode::attach(
            &mut client.connection.out,
            &encode::Attach {
                name: attach.name,
                handle: attach.handle,
                role: if attach.role == Role::Sender {
                    Role::Receiver
                } else {
                    Role::Sender
                },
                snd_settle_mode: attach.snd_settle_mode,
                source: Terminus::Echo(attach.source),
                target: Terminus::Echo(attach.target),
            },
        );
        let handle = attach.handle as usize;
        if client.links.len() <= handle {
            client.links.resize_with(handle + 1, || None);
        }
        if client.links[handle].is_some() {
            return Err(Error::Protocol("a handle in use"));
        }
        client.links[handle] = Some(Link {
            role: attach.role,
            address: address.clone(),
            other: None,
            credit: 0,
            delivery_count: attach.initial_delivery_count,
            delivery: None,
        });
        self.join(
            client,
            LinkRef {
                connection: client.id,
                handle: attach.handle,
            },
            address,
        );
        Ok(())
    }

    /// Makes a link an end of its address, if that has none of its kind, and joins the two ends.
    /// Both must be on different connections; a link beyond the first gets no credit.
    fn join(&mut self, client: &mut Client, here: LinkRef, address: Vec<u8>) {
        let ends = self.addresses.entry(address).or_default();
        let link = client.links[here.handle as usize]
            .as_mut()
            .expect("the link was just made");
        let (own, other) = match link.role {
            Role::Sender => (&mut ends.sender, ends.receiver),
            Role::Receiver => (&mut ends.receiver, ends.sender),
        };
        if own.is_some() {
            return;
        }
        *own = Some(here);
        let Some(other) = other else { return };
        let Some(peer) = &mut self.clients[other.connection] else {
            return;
        };
        let Some(Some(far)) = peer.links.get_mut(other.handle as usize) else {
            return;
        };
        link.other = Some(other);
        far.other = Some(here);
        if link.role == Role::Sender {
            let credit = far.credit;
            client.grant(here.handle, credit);
        }
    }

    /// Forgets a link; the one it was joined with is as if it had none.
    fn unlink(&mut self, client: &mut Client, handle: u32) {
        let Some(link) = client.links.get_mut(handle as usize).and_then(Option::take) else {
            return;
        };
        self.release(
            LinkRef {
                connection: client.id,
                handle,
            },
            &link,
        );
    }

    fn release(&mut self, here: LinkRef, link: &Link) {
        if let Some(ends) = self.addresses.get_mut(&link.address) {
            let end = match link.role {
                Role::Sender => &mut ends.sender,
                Role::Receiver => &mut ends.receiver,
            };
            if *end == Some(here) {
                *end = None;
            }
            if ends.sender.is_none() && ends.receiver.is_none() {
                self.addresses.remove(&link.address);
            }
        }
        if let Some(other) = link.other
            && let Some(client) = &mut self.clients[other.connection]
            && let Some(Some(far)) = client.links.get_mut(other.handle as usize)
        {
            far.other = None;
            far.delivery = None;
        }
    }

    fn remove(&mut self, client: &Client) {
        for (handle, link) in client.links.iter().enumerate() {
            if let Some(link) = link {
                self.release(
                    LinkRef {
                        connection: client.id,
                        handle: handle as u32,
                    },
                    link,
                );
            }
        }
    }

    fn schedule(&mut self, id: usize) {
        if let Some(client) = &mut self.clients[id] {
            schedule(&mut self.due, client);
        }
    }
}

impl Client {
    fn has_room(&self) -> bool {
        self.connection.session.sendable() > 0 && self.connection.backlog() < MAX_BACKLOG
    }

    /// Starts a delivery to this client, or counts it as lost.
    fn start(
        &mut self,
        here: LinkRef,
        from: usize,
        transfer: &Transfer<'_>,
        lost: bool,
    ) -> Result<Delivery, Error> {
        let tag = transfer
            .delivery_tag
            .and_then(Tag::new)
            .ok_or(Error::Protocol(
                "a delivery without a tag of at most 32 octets",
            ))?;
        let id = transfer
            .delivery_id
            .ok_or(Error::Protocol("a delivery without delivery-id"))?;
        let message_format = transfer.message_format.unwrap_or(0);
        if lost {
            return Ok(Delivery {
                id: None,
                tag,
                message_format,
            });
        }
        if let Some(Some(link)) = self.links.get_mut(here.handle as usize) {
            // A receiver that lowers its credit takes what is under way (AMQP 2.6.7).
            link.credit = link.credit.saturating_sub(1);
            link.delivery_count = link.delivery_count.wrapping_add(1);
        }
        let origin = (!transfer.settled).then_some(Origin {
            connection: from,
            id,
        });
        Ok(Delivery {
            id: Some(self.deliveries.start(origin)),
            tag,
            message_format,
        })
    }

    fn send(
        &mut self,
        handle: u32,
        delivery_id: u32,
        delivery: &Delivery,
        transfer: &Transfer<'_>,
    ) -> Result<(), Error> {
        self.connection.session.sent(1);
        let head = TransferHead {
            handle,
            delivery_id,
            delivery_tag: delivery.tag.as_slice(),
            message_format: delivery.message_format,
            settled: transfer.settled,
            more: transfer.more,
            aborted: transfer.aborted,
        };
        if transfer.payload.len() < LARGE_PAYLOAD {
            encode::transfer_head(&mut self.connection.out, &head, transfer.payload.len());
            self.connection.out.extend_from_slice(transfer.payload);
            return Ok(());
        }
        let mut encoded = Vec::with_capacity(64);
        encode::transfer_head(&mut encoded, &head, transfer.payload.len());
        self.connection.write_frame(&encoded, transfer.payload)
    }

    /// Lets the peer start `credit` deliveries from here on.
    fn grant(&mut self, handle: u32, credit: u32) {
        let Some(Some(link)) = self.links.get_mut(handle as usize) else {
            return;
        };
        link.credit = credit;
        let flow = encode::LinkFlow {
            handle,
            delivery_count: link.delivery_count,
            link_credit: credit,
        };
        encode::flow(
            &mut self.connection.out,
            self.connection.session.flow(),
            Some(flow),
        );
    }

    /// Re-opens our window at half, and hands out again the credit that lost messages used up.
    fn regrant(&mut self, node: &Node) {
        for handle in 0..self.links.len() {
            let Some(link) = &self.links[handle] else {
                continue;
            };
            let Some(other) = link.other.filter(|_| link.role == Role::Sender) else {
                continue;
            };
            let Some(receiver) = &node.clients[other.connection] else {
                continue;
            };
            let Some(Some(far)) = receiver.links.get(other.handle as usize) else {
                continue;
            };
            let low = link.credit <= far.credit / 2 && link.credit < far.credit;
            if low || self.connection.session.wants_flow() {
                self.grant(handle as u32, far.credit);
            }
        }
        if self.connection.session.wants_flow() {
            encode::flow(
                &mut self.connection.out,
                self.connection.session.flow(),
                None,
            );
        }
    }
}

impl Link {
    fn spend_credit(&mut self) -> Result<(), Error> {
        self.credit = self
            .credit
            .checked_sub(1)
            .ok_or(Error::Protocol("a delivery beyond the link's credit"))?;
        self.delivery_count = self.delivery_count.wrapping_add(1);
        Ok(())
    }
}

fn schedule(due: &mut Vec<usize>, client: &mut Client) {
    if !std::mem::replace(&mut client.is_due, true) {
        due.push(client.id);
    }
}

/// Counts to `every` and says when it gets there.
fn count(counter: &mut u32, every: NonZeroU32) -> bool {
    *counter = (*counter + 1) % every;
    *counter == 0
}

/// What a frame may grow by when its head is written anew.
const HEAD_GROWTH: usize = 64;
/// Payloads from here on are written from where they were read, not copied.
const LARGE_PAYLOAD: usize = 4096;
/// Octets waiting for a socket at which its senders are no longer read.
const MAX_BACKLOG: usize = 1 << 20;
