//! What a router reads of a message that it does not decode.

use std::ops::Range;

use super::message::Header;
use super::performative::descriptor_of;
use super::read::{Composite, Reader, wrong_type};
use super::{DecodeError, Fields, Value};

/// What can be said of a message of which only the start may be here.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Progress<T> {
    Complete(T),
    /// The start is right, and too short to tell.
    NeedMore,
    Malformed,
}

/// The leading sections of a message, up to the one that forwarding leaves alone.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MessageView<'a> {
    bytes: &'a [u8],
    router_annotations: Option<Range<usize>>,
    header: Option<(Header, Range<usize>)>,
    delivery_annotations: Option<Range<usize>>,
    /// Where the sections begin that have not been looked at.
    rest: usize,
}

impl<'a> MessageView<'a> {
    /// Looks at the sections before the message-annotations (AMQP 3.2), of a whole message or of
    /// its start.
    pub(crate) fn parse_annotations(bytes: &'a [u8]) -> Progress<Self> {
        let mut view = Self {
            bytes,
            router_annotations: None,
            header: None,
            delivery_annotations: None,
            rest: 0,
        };
        progress(view.parse()).map(|()| view)
    }

    fn parse(&mut self) -> Result<(), DecodeError> {
        loop {
            let mut reader = Reader::new(&self.bytes[self.rest..]);
            let code = section(&mut reader)?;
            let taken = match code {
                ROUTER_ANNOTATIONS => self.router_annotations.is_some() || self.rest > 0,
                HEADER => self.header.is_some() || self.delivery_annotations.is_some(),
                DELIVERY_ANNOTATIONS => self.delivery_annotations.is_some(),
                MESSAGE_ANNOTATIONS..=FOOTER => return Ok(()),
                _ => true,
            };
            if taken {
                return Err(DecodeError::UnexpectedSection);
            }
            let start = self.rest;
            if code == HEADER {
                let header = whole(&mut reader, Header::decode)?;
                let range = start..start + reader.position();
                self.rest = range.end;
                self.header = Some((header, range));
                continue;
            }
            reader.skip()?;
            self.rest = start + reader.position();
            let range = Some(start..self.rest);
            if code == ROUTER_ANNOTATIONS {
                self.router_annotations = range;
            } else {
                self.delivery_annotations = range;
            }
        }
    }

    pub(crate) fn header(&self) -> Option<&Header> {
        self.header.as_ref().map(|(header, _)| header)
    }

    /// Where the header section stands.
    pub(crate) fn header_range(&self) -> Option<Range<usize>> {
        self.header.as_ref().map(|(_, range)| range.clone())
    }

    pub(crate) fn router_annotations(&self) -> Option<Range<usize>> {
        self.router_annotations.clone()
    }

    pub(crate) fn delivery_annotations(&self) -> Option<Range<usize>> {
        self.delivery_annotations.clone()
    }

    /// The address in the message's properties.
    pub(crate) fn to(&self) -> Progress<Option<&'a str>> {
        progress(self.find_to())
    }

    /// The user-id in the message's properties.
    pub(crate) fn user_id(&self) -> Progress<Option<&'a [u8]>> {
        progress(self.properties(|fields| {
            fields.field(Reader::skip)?;
            fields.field(Reader::binary)
        }))
    }

    fn find_to(&self) -> Result<Option<&'a str>, DecodeError> {
        self.properties(|fields| {
            fields.field(Reader::skip)?;
            fields.field(Reader::skip)?;
            fields.field(Reader::string)
        })
    }

    /// Reads fields of the properties, if the message has that section.
    fn properties<T>(
        &self,
        read: impl FnOnce(&mut Composite<'a>) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let mut reader = Reader::new(&self.bytes[self.rest..]);
        let mut code = section(&mut reader)?;
        if code == MESSAGE_ANNOTATIONS {
            reader.skip()?;
            code = section(&mut reader)?;
        }
        if code != PROPERTIES {
            return Ok(None);
        }
        whole(&mut reader, |reader| {
            let mut fields = Composite::new(reader)?;
            read(&mut fields)
        })
    }
}

impl<T> Progress<T> {
    fn map<U>(self, f: impl FnOnce(T) -> U) -> Progress<U> {
        match self {
            Self::Complete(value) => Progress::Complete(f(value)),
            Self::NeedMore => Progress::NeedMore,
            Self::Malformed => Progress::Malformed,
        }
    }
}

fn progress<T>(result: Result<T, DecodeError>) -> Progress<T> {
    match result {
        Ok(value) => Progress::Complete(value),
        Err(DecodeError::Truncated) => Progress::NeedMore,
        Err(_) => Progress::Malformed,
    }
}

/// Reads a section once all of it is here. What ends too early inside of it is then a fault of its
/// own, and nothing to wait for.
pub(super) fn whole<'a, T>(
    reader: &mut Reader<'a>,
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, DecodeError>,
) -> Result<T, DecodeError> {
    let mut end = *reader;
    end.skip()?;
    read(reader).map_err(|error| match error {
        DecodeError::Truncated => DecodeError::SizeBeyondEnd,
        other => other,
    })
}

/// The code of the section that starts here.
pub(crate) fn section(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match reader.u8()? {
        0x00 => {}
        other => return Err(wrong_type(other, "section")),
    }
    match reader.peek()? {
        0x53 | 0x80 | 0x44 => reader.ulong(),
        0xa3 | 0xb3 => Ok(descriptor_of(reader.symbol()?)),
        other => Err(wrong_type(other, "section")),
    }
}

/// Annotations, of whichever kind.
pub(super) fn annotations(reader: &mut Reader<'_>) -> Result<Fields, DecodeError> {
    Fields::decode(reader)
}

/// A value of any type.
pub(super) fn value(reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
    Value::decode(reader)
}

/// The section that routers add for each other (`reference/router/inter-router-protocol.md` §3).
pub(super) const ROUTER_ANNOTATIONS: u64 = 0x534B_5052_2D2D_5241;
pub(super) const HEADER: u64 = 0x70;
pub(super) const DELIVERY_ANNOTATIONS: u64 = 0x71;
pub(super) const MESSAGE_ANNOTATIONS: u64 = 0x72;
pub(crate) const PROPERTIES: u64 = 0x73;
pub(crate) const APPLICATION_PROPERTIES: u64 = 0x74;
pub(super) const DATA: u64 = 0x75;
pub(super) const SEQUENCE: u64 = 0x76;
pub(crate) const VALUE: u64 = 0x77;
pub(super) const FOOTER: u64 = 0x78;

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = &[
        0x00, 0x53, 0x70, 0xc0, 0x06, 0x03, 0x42, 0x50, 0x07, 0x52, 0x64, // header
        0x00, 0x53, 0x71, 0xc1, 0x01, 0x00, // delivery annotations
        0x00, 0x53, 0x72, 0xc1, 0x01, 0x00, // message annotations
        0x00, 0x53, 0x73, 0xc0, 0x06, 0x03, 0x40, 0x40, 0xa1, 0x01, b'a', // properties
        0x00, 0x53, 0x77, 0x40, // body
    ];

    fn parse(bytes: &[u8]) -> MessageView<'_> {
        match MessageView::parse_annotations(bytes) {
            Progress::Complete(view) => view,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_leading_sections_are_found() {
        let view = parse(MESSAGE);
        assert_eq!(view.header().map(|header| header.priority), Some(7));
        assert_eq!(view.header_range(), Some(0..11));
        assert_eq!(view.delivery_annotations(), Some(11..17));
        assert_eq!(view.to(), Progress::Complete(Some("a")));
    }

    #[test]
    fn the_start_of_a_message_is_never_malformed() {
        for end in 0..MESSAGE.len() {
            match MessageView::parse_annotations(&MESSAGE[..end]) {
                Progress::Malformed => panic!("at {end}"),
                Progress::NeedMore => assert!(end < 20),
                Progress::Complete(view) => {
                    assert_ne!(view.to(), Progress::Malformed, "at {end}");
                }
            }
        }
    }

    #[test]
    fn a_router_annotation_section_may_come_first_only() {
        let mut message = vec![
            0x00, 0x80, 0x53, 0x4b, 0x50, 0x52, 0x2d, 0x2d, 0x52, 0x41, 0x45,
        ];
        message.extend_from_slice(MESSAGE);
        assert_eq!(parse(&message).router_annotations(), Some(0..11));
        let mut late = MESSAGE[..11].to_vec();
        late.extend_from_slice(&message);
        assert_eq!(MessageView::parse_annotations(&late), Progress::Malformed);
    }

    #[test]
    fn a_section_that_is_too_small_for_its_fields_is_malformed() {
        let header = [0x00, 0x53, 0x70, 0xc0, 0x03, 0x02, 0x41, 0x50];
        assert_eq!(MessageView::parse_annotations(&header), Progress::Malformed);
        let mut properties = MESSAGE[..23].to_vec();
        properties.extend_from_slice(&[0x00, 0x53, 0x73, 0xc0, 0x05, 0x03, 0x40, 0x40, 0xa1, 0x09]);
        assert_eq!(parse(&properties).to(), Progress::Malformed);
    }

    #[test]
    fn what_is_no_section_is_malformed() {
        for bytes in [&b"hello"[..], &[0x00, 0x53, 0x10, 0x45], &[0x40]] {
            assert_eq!(MessageView::parse_annotations(bytes), Progress::Malformed);
        }
    }
}
