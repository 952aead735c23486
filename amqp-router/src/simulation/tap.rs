//! Reads along on a connection between routers: which messages pass, and where they have been.

use bytes::{Buf, BytesMut};

use super::message::Label;
use crate::codec::{
    FrameHeader, Performative, Progress, ProtocolHeader, Reader, RouterAnnotations,
};

/// The start of a message, as it enters a router.
#[derive(Clone, Debug)]
pub(super) struct Sighting {
    /// The router that it enters.
    pub(super) router: usize,
    pub(super) label: Label,
    /// The routers that it has passed, as they write themselves.
    pub(super) trace: Vec<String>,
}

#[derive(Debug, Default)]
pub(super) struct Tap {
    octets: BytesMut,
    begun: bool,
}

impl Tap {
    /// Takes what comes out of a wire.
    pub(super) fn read(&mut self, octets: &[u8], router: usize, sightings: &mut Vec<Sighting>) {
        self.octets.extend_from_slice(octets);
        if !self.begun {
            if self.octets.len() < ProtocolHeader::LEN {
                return;
            }
            self.octets.advance(ProtocolHeader::LEN);
            self.begun = true;
        }
        while let Some(header) = FrameHeader::decode(&self.octets).expect("routers send frames")
            && self.octets.len() >= header.size as usize
        {
            let frame = self.octets.split_to(header.size as usize);
            let body = &frame[usize::from(header.doff) * 4..];
            if let Some((label, trace)) = sighted(body) {
                let trace = trace.into_iter().map(str::to_owned).collect();
                sightings.push(Sighting {
                    router,
                    label,
                    trace,
                });
            }
        }
    }
}

/// The message that starts in a frame, if a client has sent it.
fn sighted(body: &[u8]) -> Option<(Label, Vec<&str>)> {
    if body.is_empty() {
        return None;
    }
    let mut reader = Reader::new(body);
    let performative = Performative::decode(&mut reader).expect("routers send performatives");
    let Performative::Transfer(_) = performative else {
        return None;
    };
    let payload = &body[reader.position()..];
    let Progress::Complete(length @ 1..) = RouterAnnotations::measure(payload) else {
        return None;
    };
    let annotations = RouterAnnotations::decode(&payload[..length]).expect("they are well formed");
    let label = Label::find(&payload[length..])?;
    Some((label, annotations.trace.iter().collect()))
}
