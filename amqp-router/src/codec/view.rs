//! What a router reads of a message that it does not decode.

use std::ops::Range;

use super::message::Header;
use super::performative::descriptor_of;
use super::read::{Composite, Reader};
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
    /// Nothing follows `bytes`.
    is_whole: bool,
    router_annotations: Option<Range<usize>>,
    header: Option<Header>,
    header_range: Option<Range<usize>>,
    delivery_annotations: Option<Range<usize>>,
    /// Where the sections begin that have not been looked at.
    rest: usize,
}

impl<'a> MessageView<'a> {
    /// Looks at the sections before the message-annotations (AMQP 3.2), of a whole message or of
    /// its start.
    pub(crate) fn parse_annotations(bytes: &'a [u8]) -> Progress<Self> {
        Self::parse_part(bytes, false)
    }

    /// The same of a message that nothing follows, which may be no more than a header.
    pub(crate) fn parse_whole(bytes: &'a [u8]) -> Progress<Self> {
        Self::parse_part(bytes, true)
    }

    /// Looks at a message, or at the start of one that is not whole.
    pub(crate) fn parse_part(bytes: &'a [u8], is_whole: bool) -> Progress<Self> {
        let mut view = Self {
            bytes,
            is_whole,
            router_annotations: None,
            header: None,
            header_range: None,
            delivery_annotations: None,
            rest: 0,
        };
        progress(view.parse()).map(|()| view)
    }

    fn parse(&mut self) -> Result<(), DecodeError> {
        loop {
            let mut reader = Reader::new(&self.bytes[self.rest..]);
            let Some(code) = self.next_section(&mut reader)? else {
                // Annotations for this hop alone leave nothing for the next.
                return self.header.map(drop).ok_or(DecodeError::NoBody);
            };
            let taken = match code {
                ROUTER_ANNOTATIONS => self.router_annotations.is_some() || self.rest > 0,
                HEADER => self.header.is_some() || self.delivery_annotations.is_some(),
                DELIVERY_ANNOTATIONS => self.delivery_annotations.is_some(),
                // The rest is forwarded as it is, also sections that are not known.
                _ => return Ok(()),
            };
            if taken {
                return Err(DecodeError::UnexpectedSection);
            }
            let start = self.rest;
            if code == HEADER {
                let body = reader;
                let (header, is_standard) = match whole(&mut reader, Header::decode) {
                    Ok(header) => (header, true),
                    Err(DecodeError::WrongType(_)) => {
                        reader = body;
                        (loose_header(&mut reader)?, false)
                    }
                    Err(error) => return Err(error),
                };
                self.rest = start + reader.position();
                self.header = Some(header);
                self.header_range = is_standard.then_some(start..self.rest);
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
        self.header.as_ref()
    }

    /// Where the header section stands, if it is such that it may be written anew.
    pub(crate) fn header_range(&self) -> Option<Range<usize>> {
        self.header_range.clone()
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
            fields.field(Reader::text)
        })
    }

    /// Reads fields of the properties, if the message has that section.
    fn properties<T>(
        &self,
        read: impl FnOnce(&mut Composite<'a>) -> Result<Option<T>, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        let mut reader = Reader::new(&self.bytes[self.rest..]);
        let mut code = self.next_section(&mut reader)?;
        if code == Some(MESSAGE_ANNOTATIONS) {
            reader.skip()?;
            code = self.next_section(&mut reader)?;
        }
        if code != Some(PROPERTIES) {
            return Ok(None);
        }
        whole(&mut reader, |reader| {
            let mut fields = Composite::new(reader)?;
            read(&mut fields)
        })
    }

    /// The code of the section that starts here; none after the last.
    #[inline]
    fn next_section(&self, reader: &mut Reader<'_>) -> Result<Option<u64>, DecodeError> {
        if self.is_whole && reader.is_empty() {
            return Ok(None);
        }
        section(reader).map(Some)
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

/// What a header says that is not the standard's: others forward such messages, too. One that is no
/// list says nothing.
#[cold]
fn loose_header(reader: &mut Reader<'_>) -> Result<Header, DecodeError> {
    let body = *reader;
    match whole(reader, Header::decode_loosely) {
        Err(DecodeError::WrongType(_)) => {
            *reader = body;
            whole(reader, Value::decode).map(|_| Header::default())
        }
        header => header,
    }
}

/// The code of the section that starts here.
pub(crate) fn section(reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
    match reader.u8()? {
        0x00 => {}
        _ => return Err(DecodeError::WrongType("section")),
    }
    match reader.peek()? {
        0x53 | 0x80 | 0x44 => reader.ulong(),
        0xa3 | 0xb3 => Ok(descriptor_of(reader.symbol()?)),
        _ => Err(DecodeError::WrongType("section")),
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
    use std::time::Duration;

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
        assert!(crate::codec::Message::decode(&message).is_ok());
        let late = [&MESSAGE[..11], &message].concat();
        let twice = [&message[..11], &message].concat();
        for wrong in [late, twice] {
            assert_eq!(MessageView::parse_annotations(&wrong), Progress::Malformed);
            assert!(crate::codec::Message::decode(&wrong).is_err());
        }
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
        for bytes in [&b"hello"[..], &[0x00, 0x40, 0x45], &[0x40]] {
            assert_eq!(MessageView::parse_annotations(bytes), Progress::Malformed);
            assert_eq!(MessageView::parse_whole(bytes), Progress::Malformed);
        }
    }

    #[test]
    fn a_section_that_is_not_known_is_none_of_ours() {
        let unknown = [0x00, 0x53, 0x79, 0x45];
        let view_of = |bytes: &[u8]| {
            let view = parse(bytes);
            assert_eq!(view.to(), Progress::Complete(None));
            view.header_range()
        };
        assert_eq!(view_of(&[&unknown[..], MESSAGE].concat()), None);
        let after_header = [&MESSAGE[..11], &unknown].concat();
        assert_eq!(view_of(&after_header), Some(0..11));
    }

    #[test]
    fn a_message_may_end_after_any_section() {
        for end in [11, 17, 23, 34, 38] {
            let Progress::Complete(view) = MessageView::parse_whole(&MESSAGE[..end]) else {
                panic!("at {end}");
            };
            let to = (end >= 34).then_some("a");
            assert_eq!(view.to(), Progress::Complete(to), "at {end}");
            assert_eq!(view.user_id(), Progress::Complete(None), "at {end}");
            assert_eq!(view.header_range(), Some(0..11));
        }
        for nothing in [&[][..], &MESSAGE[11..17]] {
            assert_eq!(MessageView::parse_whole(nothing), Progress::Malformed);
        }
        for end in [1, 10, 12, 16] {
            let cut = MessageView::parse_whole(&MESSAGE[..end]);
            assert_eq!(cut, Progress::NeedMore, "at {end}");
        }
    }

    /// A header of these fields says this of priority and ttl.
    fn loose(fields: &[Value], priority: u8, ttl: Option<u64>) {
        let mut bytes = bytes::BytesMut::from(&[0x00, 0x53, 0x70][..]);
        Value::from(fields.to_vec()).encode(&mut bytes);
        let end = bytes.len();
        bytes.extend_from_slice(&MESSAGE[11..]);
        let view = parse(&bytes);
        let header = view.header().expect("it is there");
        let said = (header.priority, header.ttl);
        assert_eq!(
            said,
            (priority, ttl.map(Duration::from_millis)),
            "{fields:?}"
        );
        assert_eq!(view.header_range(), None, "it goes on as it is");
        assert_eq!(view.delivery_annotations(), Some(end..end + 6));
        assert_eq!(view.to(), Progress::Complete(Some("a")));
    }

    #[test]
    fn numbers_of_a_header_may_have_any_width() {
        let null = Value::Null;
        loose(&[Value::Ubyte(1)], 4, None);
        loose(&[null.clone(), Value::Uint(3)], 3, None);
        loose(&[null.clone(), Value::Uint(300)], 255, None);
        loose(&[null.clone(), Value::from("3")], 4, None);
        let ttl = |ttl| [null.clone(), Value::Ubyte(7), ttl];
        loose(&ttl(Value::Ulong(5000)), 7, Some(5000));
        loose(&ttl(Value::Ulong(u64::MAX)), 7, Some(u32::MAX.into()));
        loose(&ttl(Value::Int(-1)), 7, None);
        loose(&ttl(Value::Map(Vec::new())), 7, None);
    }

    #[test]
    fn a_header_that_is_no_list_says_nothing() {
        let message = [&[0x00, 0x53, 0x70, 0xc1, 0x01, 0x00], &MESSAGE[11..]].concat();
        let view = parse(&message);
        assert_eq!(view.header(), Some(&Header::default()));
        assert_eq!(view.delivery_annotations(), Some(6..12));
        let nothing = [&[0x00, 0x53, 0x70, 0x99], MESSAGE].concat();
        assert_eq!(
            MessageView::parse_annotations(&nothing),
            Progress::Malformed
        );
    }

    #[test]
    fn what_is_no_value_in_a_header_is_malformed_after_others_as_well() {
        for fields in [&[0x50, 1, 0x99][..], &[0x50, 1, 0x70], &[0x50, 1, 0x56, 2]] {
            let size = u8::try_from(fields.len() + 1).expect("they are short");
            let header = [&[0x00, 0x53, 0x70, 0xc0, size, 2], fields].concat();
            assert_eq!(MessageView::parse_annotations(&header), Progress::Malformed);
        }
    }

    #[test]
    fn an_address_may_be_a_symbol() {
        let mut symbol = MESSAGE.to_vec();
        symbol[31] = 0xa3;
        assert_eq!(parse(&symbol).to(), Progress::Complete(Some("a")));
        symbol[31] = 0xa0;
        assert_eq!(parse(&symbol).to(), Progress::Malformed);
    }
}
