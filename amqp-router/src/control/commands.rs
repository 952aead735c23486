//! What workers ask the control plane for, and what it has them do.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Attach, Error, Source, Target};
use crate::control::address::Identity;
use crate::control::role::Role as ConnectionRole;
use crate::control::table::{AddressId, LinkLoad, LinkRef, TableUpdate, Treatment, WorkerId};
use crate::control::trunk::Ticket;

/// What a worker says of a link that a peer wants to attach.
#[derive(Debug)]
pub(crate) struct AttachRequest {
    pub(crate) link: LinkRef,
    /// The identity of its connection.
    pub(crate) connection: u64,
    pub(crate) role: ConnectionRole,
    pub(crate) attach: Box<Attach>,
    pub(crate) capacity: u32,
    /// The load record of an outgoing link.
    pub(crate) load: Option<Arc<LinkLoad>>,
}

/// How a link was lost.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Loss {
    /// With its connection.
    Connection,
    /// The peer has detached it, or has been detached; with the reason that was given.
    Detached(Option<Error>),
}

/// Whom a command is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipient {
    Worker(WorkerId),
    Everyone,
}

/// What the control plane tells workers.
#[derive(Clone, Debug)]
pub(crate) enum Command {
    /// Replace a row of the forwarding table.
    Table(TableUpdate),
    /// Tell all other workers that nothing more comes of an older table, and say when all have.
    Fence,
    /// What the router must know of itself has changed.
    Identity(Arc<Identity>),
    /// Addresses of this pattern are treated so from now on, or as all others.
    Rule {
        pattern: Box<str>,
        treatment: Option<Treatment>,
    },
    /// The link may be: answer its attach with these termini.
    Accept {
        link: LinkRef,
        termini: Box<Termini>,
        leads_to: LeadsTo,
    },
    /// The link may not be.
    Refuse { link: LinkRef, error: Error },
    /// Attach a link to an interior router or a container, by the connection of this identity.
    Attach {
        connection: u64,
        ticket: Ticket,
        attach: Box<Attach>,
    },
    /// An incoming link that this router has attached leads somewhere from now on.
    Open {
        link: LinkRef,
        leads_to: LeadsTo,
        /// The address that its messages are for, if they do not say it themselves.
        address: Option<String>,
    },
    /// Detach a link that this router has attached.
    Detach { link: LinkRef },
    /// Close a link that this router attached, when what is on its way by it has arrived.
    Finish { link: LinkRef },
    /// Do not wait any longer for what has left by a link, or is to.
    GiveBack { link: LinkRef },
    /// Send a neighbour a message on its control link.
    Tell { link: LinkRef, message: Bytes },
    /// The same, and say when it has been taken note of there.
    Announce { link: LinkRef, message: Bytes },
    /// Close the connection of this identity.
    Close { connection: u64, error: Error },
}

/// The two ends of a link, as its attach is answered.
#[derive(Clone, Debug)]
pub(crate) struct Termini {
    pub(crate) source: Option<Source>,
    pub(crate) target: Option<Target>,
}

/// Where an accepted incoming link leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeadsTo {
    Address(AddressId),
    /// Wherever each message says.
    EachMessage,
    /// To the control plane itself.
    Control,
    /// It is an outgoing link.
    ItsReceiver,
}
