//! A connection that receives: it counts, accepts and replenishes credit once per read.

use std::sync::Arc;

use crate::connection::{Connection, Received};
use crate::error::Error;
use crate::sender::{eof, insert, link_number, lookup, unexpected};
use crate::tally::{Tally, add};
use crate::verify::Verifier;
use crate::wire::decode::{self, Attach, Frame, Transfer};
use crate::wire::encode::{self, ACCEPTED, Role, Terminus};

/// One receiving connection.
#[derive(Debug)]
pub(crate) struct Receiver {
    pub(crate) connection: Connection,
    pub(crate) tally: Arc<Tally>,
    terms: Terms,
    /// The number of the first link, when they are ours; a server takes any.
    first_link: Option<u64>,
    links: Vec<Link>,
    /// Our link by the peer's handle.
    by_handle: Vec<Option<usize>>,
    /// Deliveries received whole, not yet accepted.
    unsettled: Option<(u32, u32)>,
    /// Links with half their credit used up, each once.
    low: Vec<usize>,
}

/// What every link of a receiver is granted.
#[derive(Debug, Clone)]
pub(crate) struct Terms {
    /// Credit held by the peer at most.
    pub(crate) credit: u32,
    /// The senders send settled.
    pub(crate) settled: bool,
    /// Octets of body to check for; `None` to check nothing.
    pub(crate) verify: Option<usize>,
}

#[derive(Debug)]
struct Link {
    handle: u32,
    delivery_count: u32,
    credit: u32,
    attached: bool,
    verifier: Option<Verifier>,
    /// The delivery whose last frame has not come yet.
    partial: Option<Partial>,
    /// Its message so far, if it is to be checked.
    message: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Partial {
    delivery_id: u32,
    settled: bool,
}

impl Receiver {
    /// Queues an attach for each address.
    pub(crate) fn new(
        connection: Connection,
        addresses: &[String],
        first_link: u64,
        terms: Terms,
    ) -> Self {
        let mut receiver = Receiver::serving(connection, terms);
        receiver.first_link = Some(first_link);
        for address in addresses {
            let number = first_link + receiver.links.len() as u64;
            receiver.add_link(
                format!("bench-receiver-{number}").as_bytes(),
                Terminus::Address(Some(address)),
                Terminus::Address(Some(address)),
                u8::from(receiver.terms.settled),
            );
        }
        receiver
    }

    /// Takes whatever links the peer attaches, as a router would.
    pub(crate) fn serving(connection: Connection, terms: Terms) -> Self {
        Receiver {
            connection,
            tally: Arc::default(),
            terms,
            first_link: None,
            links: Vec::new(),
            by_handle: Vec::new(),
            unsettled: None,
            low: Vec::new(),
        }
    }

    /// Reads once and answers. Says whether there is more to do at once.
    pub(crate) fn turn(&mut self) -> Result<bool, Error> {
        let received = self.connection.read()?;
        match received {
            Received::Bytes => self.take_frames()?,
            Received::Eof => return Err(eof()),
            Received::Nothing => {}
        }
        self.connection.flush()?;
        Ok(received == Received::Bytes)
    }

    fn take_frames(&mut self) -> Result<(), Error> {
        let mut input = std::mem::take(&mut self.connection.input);
        let mut received = 0;
        while let Some(bytes) = input.next_frame()? {
            match decode::frame(bytes)?.1 {
                Frame::Transfer(transfer) => received += u64::from(self.on_transfer(&transfer)?),
                Frame::Attach(attach) => self.on_attach(&attach)?,
                Frame::Flow(flow) => {
                    self.connection.session.on_flow(&flow);
                    if flow.echo {
                        let session = self.connection.session.flow();
                        encode::flow(&mut self.connection.out, session, None);
                    }
                }
                // A sender that settles what we have settled already.
                Frame::Disposition(_) | Frame::Empty => {}
                other => return Err(unexpected(other)),
            }
        }
        self.connection.input = input;
        self.accept();
        self.replenish();
        add(&self.tally.received, received);
        Ok(())
    }

    fn on_attach(&mut self, attach: &Attach<'_>) -> Result<(), Error> {
        let index = match self.first_link {
            None => self.add_link(
                attach.name,
                Terminus::Echo(attach.source),
                Terminus::Echo(attach.target),
                attach.snd_settle_mode,
            ),
            Some(first) => link_number(attach.name)
                .and_then(|number| usize::try_from(number.checked_sub(first)?).ok())
                .filter(|&index| index < self.links.len())
                .ok_or(Error::Protocol("an attach for a link that is not ours"))?,
        };
        insert(&mut self.by_handle, attach.handle, index);
        // A null source announces a refusal; the detach to come says why.
        if attach.source.is_some() && !self.links[index].attached {
            self.links[index].attached = true;
            self.links[index].delivery_count = attach.initial_delivery_count;
            self.low.push(index);
            add(&self.tally.attached, 1);
        }
        Ok(())
    }

    /// Queues an attach and returns the link's index, which is our handle too.
    fn add_link(
        &mut self,
        name: &[u8],
        source: Terminus<'_>,
        target: Terminus<'_>,
        mode: u8,
    ) -> usize {
        let handle = self.links.len() as u32;
        encode::attach(
            &mut self.connection.out,
            &encode::Attach {
                name,
                handle,
                role: Role::Receiver,
                snd_settle_mode: mode,
                source,
                target,
            },
        );
        self.links.push(Link {
            handle,
            delivery_count: 0,
            credit: 0,
            attached: false,
            verifier: self.terms.verify.map(Verifier::new),
            partial: None,
            message: Vec::new(),
        });
        handle as usize
    }

    /// Takes one frame and says whether it completed a message.
    fn on_transfer(&mut self, transfer: &Transfer<'_>) -> Result<bool, Error> {
        self.connection.session.received()?;
        let index = lookup(&self.by_handle, transfer.handle)?;
        let delivery = self.links[index].advance(transfer)?;
        if self.links[index].credit == self.terms.credit / 2 && !self.low.contains(&index) {
            self.low.push(index);
        }
        if transfer.aborted {
            self.links[index].message.clear();
            add(&self.tally.aborted, 1);
            return Ok(false);
        }
        let link = &mut self.links[index];
        if let Some(verifier) = &mut link.verifier {
            let before = verifier.missing();
            check(verifier, &mut link.message, transfer)?;
            add(&self.tally.missing, verifier.missing() - before);
        }
        if !transfer.more && !delivery.settled {
            self.received_unsettled(delivery.delivery_id);
        }
        Ok(!transfer.more)
    }

    /// Extends the range to accept, or starts a new one.
    fn received_unsettled(&mut self, id: u32) {
        match &mut self.unsettled {
            Some((_, last)) if last.wrapping_add(1) == id => *last = id,
            _ => {
                self.accept();
                self.unsettled = Some((id, id));
            }
        }
    }

    fn accept(&mut self) {
        if let Some((first, last)) = self.unsettled.take() {
            let out = &mut self.connection.out;
            encode::disposition(out, Role::Receiver, first, last, Some(ACCEPTED));
        }
    }

    /// One flow per link that runs low. Each re-opens the session's window as well; without any, the
    /// window is re-opened with the flow of a link, since some engines resume on those alone.
    fn replenish(&mut self) {
        let Receiver {
            connection,
            links,
            low,
            terms,
            ..
        } = self;
        if low.is_empty() && connection.session.wants_flow() && !links.is_empty() {
            low.push(0);
        }
        for index in low.drain(..) {
            let link = &mut links[index];
            link.credit = terms.credit;
            let credit = encode::LinkFlow {
                handle: link.handle,
                delivery_count: link.delivery_count,
                link_credit: link.credit,
            };
            encode::flow(&mut connection.out, connection.session.flow(), Some(credit));
        }
    }
}

impl Link {
    /// Counts a delivery when it starts, and says to which one the frame belongs.
    fn advance(&mut self, transfer: &Transfer<'_>) -> Result<Partial, Error> {
        let mut delivery = match self.partial {
            Some(partial) => partial,
            None => {
                self.credit = self
                    .credit
                    .checked_sub(1)
                    .ok_or(Error::Protocol("a delivery beyond the link's credit"))?;
                self.delivery_count = self.delivery_count.wrapping_add(1);
                let delivery_id = transfer
                    .delivery_id
                    .ok_or(Error::Protocol("a delivery without delivery-id"))?;
                Partial {
                    delivery_id,
                    settled: false,
                }
            }
        };
        if transfer
            .delivery_id
            .is_some_and(|id| id != delivery.delivery_id)
        {
            return Err(Error::Protocol(
                "a delivery begun before the last one ended",
            ));
        }
        delivery.settled |= transfer.settled;
        self.partial = (transfer.more && !transfer.aborted).then_some(delivery);
        Ok(delivery)
    }
}

/// Checks a message once it is whole; one that came in one frame is not copied.
fn check(
    verifier: &mut Verifier,
    message: &mut Vec<u8>,
    transfer: &Transfer<'_>,
) -> Result<(), Error> {
    if transfer.more || !message.is_empty() {
        message.extend_from_slice(transfer.payload);
    }
    if transfer.more {
        return Ok(());
    }
    let whole = if message.is_empty() {
        transfer.payload
    } else {
        &message[..]
    };
    verifier.check(whole)?;
    message.clear();
    Ok(())
}
