//! Links that a peer wants and does not get (AMQP 2.6.3).

use super::connection::{Connection, State, Step};
use super::error::{Fault, LinkError, SessionError};
use super::event::LinkId;
use super::link::LinkState;
use super::links::AttachReply;
use crate::codec::{
    Attach, DecodeError, Error, FrameHeader, Performative, Reader, Target, Value, condition,
};

impl Connection {
    /// A frame that cannot be decoded. Where it is no value at all, that is what is wrong with it,
    /// whatever was found first. An attach is understood well enough where only a terminus is not
    /// what it should be.
    #[cold]
    pub(super) fn on_undecodable(
        &mut self,
        header: &FrameHeader,
        error: DecodeError,
    ) -> Result<Step, Fault> {
        let (size, start) = (header.size as usize, header.body_start());
        let is_open = !matches!(self.state, State::OpenDue);
        let body = &self.input().peek(size).unwrap_or_default()[start..];
        let attach = match Value::decode(&mut Reader::new(body)) {
            _ if error.condition() == condition::DECODE_ERROR => Ok(None),
            Ok(_) if is_open => Attach::decode_without_termini(body),
            Ok(_) => Ok(None),
            Err(no_value) => Err(no_value),
        };
        self.input().skip(size);
        let attach = match attach {
            Ok(Some(attach)) => attach,
            Ok(None) => return Err(self.undecodable(header.channel, error)),
            Err(error) => return Err(self.undecodable(header.channel, error)),
        };
        let session = self.any_session_on(header.channel)?;
        if !self.sessions.is_mapped(session) {
            return Ok(Step::Again); // its end is on the way
        }
        let event = self.on_attach(session, attach, Some(LinkError::Terminus(error)))?;
        Ok(event.map_or(Step::Again, Step::Event))
    }

    /// Refuses a link that the peer attached.
    pub(crate) fn refuse_attach(&mut self, link: LinkId, error: Error) {
        if let Some(index) = self.received_attach(link) {
            self.send_detach(index, true, Some(error), false);
        }
    }

    /// Whether an attach stays within our limits.
    pub(super) fn check_attach(&self, attach: &Attach) -> Result<(), LinkError> {
        let limits = &self.config.limits;
        if self.links.len() > limits.max_links as usize {
            return Err(LinkError::Limit("the number of links"));
        }
        if attach.name.len() > limits.max_link_name {
            return Err(LinkError::Limit("the name of the link"));
        }
        let source = attach.source.as_ref();
        let target = attach.target.as_ref().and_then(Target::address);
        let addresses = [source.and_then(|source| source.address.as_deref()), target];
        if addresses
            .into_iter()
            .flatten()
            .any(|address| address.len() > limits.max_address)
        {
            return Err(LinkError::Limit("an address"));
        }
        let node = attach.target.as_ref().and_then(Target::node);
        let lists = [
            attach.offered_capabilities.len(),
            attach.desired_capabilities.len(),
            attach.properties.len(),
            source.map_or(0, |source| source.filter.len()),
            source.map_or(0, |source| source.capabilities.len()),
            source.map_or(0, |source| source.outcomes.len()),
            source.map_or(0, |source| source.dynamic_node_properties.len()),
            node.map_or(0, |node| node.capabilities.len()),
            node.map_or(0, |node| node.dynamic_node_properties.len()),
        ];
        if lists.into_iter().any(|length| length > limits.max_entries) {
            return Err(LinkError::Limit("a list in attach"));
        }
        let symbols = [
            Some(&attach.offered_capabilities),
            Some(&attach.desired_capabilities),
            source.map(|source| &source.capabilities),
            source.map(|source| &source.outcomes),
            node.map(|node| &node.capabilities),
        ];
        let symbols = symbols.into_iter().flatten().flatten();
        let mode = source.and_then(|source| source.distribution_mode.as_ref());
        if symbols
            .chain(mode)
            .any(|symbol| symbol.as_str().len() > limits.max_name)
        {
            return Err(LinkError::Limit("a symbol in attach"));
        }
        Ok(())
    }

    /// The attach of a link that is not to be: without termini. A peer that cannot be told of it in
    /// its frames loses the session (AMQP 2.4.1): then `false`, and nobody waits for the link.
    pub(super) fn write_refusal(&mut self, index: u32, notify: bool) -> bool {
        let Some(link) = self.links.get_mut(index) else {
            return false;
        };
        let attach = link.attach(AttachReply::default(), 0);
        let session = link.session;
        if self.write(session, &Performative::Attach(Box::new(attach))) {
            return true;
        }
        if let Some(link) = self.links.get_mut(index) {
            let failed = false;
            link.state = LinkState::DetachSent { notify, failed };
        }
        let error = SessionError::FrameSizeTooSmall("our attach");
        self.fail_session(session, (&error).into());
        false
    }
}
