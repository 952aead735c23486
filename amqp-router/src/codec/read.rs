//! Reading encoded values, trusting nothing (AMQP 1.2, 1.6).

use bytes::Bytes;

use super::value::{Array, Described};
use super::{DecodeError, Fields, Symbol, Value};

type Result<T> = std::result::Result<T, DecodeError>;

/// How deep values may be nested.
pub(crate) const MAX_DEPTH: u32 = 32;

/// Elements beyond its octets that an array of elements without octets may have: such an array
/// must not cost more memory than what it takes on the wire allows.
const FREE_ELEMENTS: usize = 16;

/// Octets of descriptors that the elements of an array may copy, for each octet of the array.
const MAX_COPIED: usize = 64;

/// A cursor over encoded values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    start: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            start: bytes.len(),
        }
    }

    /// Octets read so far.
    pub(crate) fn position(&self) -> usize {
        self.start - self.bytes.len()
    }

    /// What is left.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Nothing may be left.
    pub(crate) fn end(&self) -> Result<()> {
        if self.bytes.is_empty() {
            Ok(())
        } else {
            Err(DecodeError::TrailingBytes)
        }
    }

    pub(crate) fn peek(&self) -> Result<u8> {
        self.bytes.first().copied().ok_or(DecodeError::Truncated)
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8> {
        let (&first, rest) = self.bytes.split_first().ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(first)
    }

    #[inline]
    pub(crate) fn fixed<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (octets, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(*octets)
    }

    #[inline]
    fn slice(&mut self, len: usize) -> Result<&'a [u8]> {
        let (octets, rest) = self
            .bytes
            .split_at_checked(len)
            .ok_or(DecodeError::Truncated)?;
        self.bytes = rest;
        Ok(octets)
    }

    fn boolean(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(DecodeError::InvalidBoolean(other)),
        }
    }

    #[inline]
    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// The octets of a variable-width value, after its constructor.
    #[inline]
    fn variable(&mut self, code: u8) -> Result<&'a [u8]> {
        let len = if code < 0xb0 {
            self.u8()?.into()
        } else {
            self.u32()?
        };
        self.slice(len as usize)
    }

    /// The contents of a list or map after its constructor, and how many values they are. Every
    /// value takes at least one octet, so the count is bounded by the octets.
    fn compound(&mut self, code: u8) -> Result<(Reader<'a>, usize)> {
        let (body, count) = self.sized(code < 0xd0)?;
        if count > body.bytes.len() {
            return Err(DecodeError::CountBeyondSize);
        }
        Ok((body, count))
    }

    /// The constructor and elements of an array after its own constructor. How many may have no
    /// octets is bounded, so that they cost no more than others.
    fn array(&mut self, code: u8) -> Result<(Reader<'a>, usize)> {
        let (body, count) = self.sized(code < 0xf0)?;
        if count > body.bytes.len() + FREE_ELEMENTS {
            return Err(DecodeError::CountBeyondSize);
        }
        Ok((body, count))
    }

    fn sized(&mut self, short: bool) -> Result<(Reader<'a>, usize)> {
        if short {
            let size = self.u8()?.into();
            let mut body = Reader::new(self.slice(size)?);
            let count = body.u8().map_err(|_| DecodeError::SizeBeyondEnd)?;
            Ok((body, count.into()))
        } else {
            let size = self.u32()? as usize;
            let mut body = Reader::new(self.slice(size)?);
            let count = body.u32().map_err(|_| DecodeError::SizeBeyondEnd)?;
            Ok((body, count as usize))
        }
    }

    /// A list's elements, of any of its three encodings.
    pub(crate) fn list(&mut self) -> Result<(Reader<'a>, usize)> {
        match self.u8()? {
            0x45 => Ok((Reader::new(&[]), 0)),
            code @ (0xc0 | 0xd0) => self.compound(code),
            _ => Err(DecodeError::WrongType("list")),
        }
    }

    /// The keys and values of a map, and how many pairs they are.
    pub(crate) fn map(&mut self) -> Result<(Reader<'a>, usize)> {
        match self.u8()? {
            code @ (0xc1 | 0xd1) => {
                let (body, count) = self.compound(code)?;
                if count % 2 != 0 {
                    return Err(DecodeError::OddMapCount);
                }
                Ok((body, count / 2))
            }
            _ => Err(DecodeError::WrongType("map")),
        }
    }

    /// The elements of a field that may hold one value or an array of them (AMQP 1.4): each is
    /// given to `element` as its constructor and a reader at its octets.
    fn multiple(
        &mut self,
        mut element: impl FnMut(&mut Reader<'a>, u8) -> Result<()>,
    ) -> Result<()> {
        match self.u8()? {
            0x40 => Ok(()),
            code @ (0xe0 | 0xf0) => {
                let (mut body, count) = self.array(code)?;
                let constructor = body.u8()?;
                for _ in 0..count {
                    element(&mut body, constructor)?;
                }
                body.end()
            }
            code => element(self, code),
        }
    }

    /// Symbols of a `multiple` field.
    pub(crate) fn symbols(&mut self) -> Result<Vec<Symbol>> {
        let mut symbols = Vec::new();
        self.multiple(|reader, code| {
            symbols.push(Symbol::from(reader.symbol_body(code)?));
            Ok(())
        })?;
        Ok(symbols)
    }

    /// Takes a null, if that is what comes next.
    #[inline]
    pub(crate) fn null(&mut self) -> bool {
        let null = self.bytes.first() == Some(&0x40);
        if null {
            self.bytes = &self.bytes[1..];
        }
        null
    }

    pub(crate) fn bool(&mut self) -> Result<bool> {
        match self.u8()? {
            0x41 => Ok(true),
            0x42 => Ok(false),
            0x56 => self.boolean(),
            _ => Err(DecodeError::WrongType("boolean")),
        }
    }

    pub(crate) fn ubyte(&mut self) -> Result<u8> {
        match self.u8()? {
            0x50 => self.u8(),
            _ => Err(DecodeError::WrongType("ubyte")),
        }
    }

    pub(crate) fn ushort(&mut self) -> Result<u16> {
        match self.u8()? {
            0x60 => Ok(u16::from_be_bytes(self.fixed()?)),
            _ => Err(DecodeError::WrongType("ushort")),
        }
    }

    #[inline]
    pub(crate) fn uint(&mut self) -> Result<u32> {
        match self.u8()? {
            0x52 => Ok(self.u8()?.into()),
            0x43 => Ok(0),
            0x70 => self.u32(),
            _ => Err(DecodeError::WrongType("uint")),
        }
    }

    #[inline]
    pub(crate) fn ulong(&mut self) -> Result<u64> {
        match self.u8()? {
            0x53 => Ok(self.u8()?.into()),
            0x44 => Ok(0),
            0x80 => Ok(u64::from_be_bytes(self.fixed()?)),
            _ => Err(DecodeError::WrongType("ulong")),
        }
    }

    pub(crate) fn timestamp(&mut self) -> Result<i64> {
        match self.u8()? {
            0x83 => Ok(i64::from_be_bytes(self.fixed()?)),
            _ => Err(DecodeError::WrongType("timestamp")),
        }
    }

    #[inline]
    pub(crate) fn binary(&mut self) -> Result<&'a [u8]> {
        match self.u8()? {
            code @ (0xa0 | 0xb0) => self.variable(code),
            _ => Err(DecodeError::WrongType("binary")),
        }
    }

    pub(crate) fn string(&mut self) -> Result<&'a str> {
        match self.u8()? {
            code @ (0xa1 | 0xb1) => utf8(self.variable(code)?),
            _ => Err(DecodeError::WrongType("string")),
        }
    }

    /// A string, or the symbol that some clients write in its place.
    pub(crate) fn text(&mut self) -> Result<&'a str> {
        match self.u8()? {
            code @ (0xa1 | 0xb1) => utf8(self.variable(code)?),
            code @ (0xa3 | 0xb3) => ascii(self.variable(code)?),
            _ => Err(DecodeError::WrongType("string")),
        }
    }

    pub(crate) fn symbol(&mut self) -> Result<&'a str> {
        let code = self.u8()?;
        self.symbol_body(code)
    }

    fn symbol_body(&mut self, code: u8) -> Result<&'a str> {
        match code {
            0xa3 | 0xb3 => ascii(self.variable(code)?),
            _ => Err(DecodeError::WrongType("symbol")),
        }
    }

    /// The descriptor of a described type: its number, for symbols of `amqp:NAME:…` too.
    #[inline]
    pub(crate) fn descriptor(&mut self) -> Result<u64> {
        match self.u8()? {
            0x00 => {}
            _ => return Err(DecodeError::WrongType("described type")),
        }
        match self.peek()? {
            0x53 | 0x80 | 0x44 => self.ulong(),
            0xa3 | 0xb3 => Ok(super::performative::descriptor_of(self.symbol()?)),
            _ => Err(DecodeError::WrongType("descriptor")),
        }
    }

    /// Passes over one value of any type without looking into it further than its size.
    pub(crate) fn skip(&mut self) -> Result<()> {
        // A described value is its descriptor and a value, either of which may be described.
        let mut values = 1usize;
        while values > 0 {
            match self.u8()? {
                0x00 => values += 1,
                code => {
                    self.skip_body(code)?;
                    values -= 1;
                }
            }
        }
        Ok(())
    }

    fn skip_body(&mut self, code: u8) -> Result<()> {
        let len = match code >> 4 {
            0x4 => 0,
            0x5 => 1,
            0x6 => 2,
            0x7 => 4,
            0x8 => 8,
            0x9 => 16,
            0xa | 0xc | 0xe => self.u8()?.into(),
            0xb | 0xd | 0xf => self.u32()? as usize,
            _ => return Err(DecodeError::UnknownConstructor(code)),
        };
        self.slice(len).map(drop)
    }
}

/// The fields of a composite type, in order (AMQP 1.4): absent and null ones are `None`, surplus
/// ones are ignored.
#[derive(Debug)]
pub(crate) struct Composite<'a> {
    body: Reader<'a>,
    left: usize,
}

impl<'a> Composite<'a> {
    pub(crate) fn new(reader: &mut Reader<'a>) -> Result<Self> {
        let (body, left) = reader.list()?;
        Ok(Self { body, left })
    }

    /// The next field, if it is there.
    #[inline]
    pub(crate) fn field<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T>,
    ) -> Result<Option<T>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        if self.body.null() {
            return Ok(None);
        }
        read(&mut self.body).map(Some)
    }

    /// The next field, which must be there.
    #[inline]
    pub(crate) fn required<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T>,
    ) -> Result<T> {
        self.field(read)?.ok_or(DecodeError::MissingField(name))
    }

    /// No more fields are known; what is left must at least be values.
    #[inline]
    pub(crate) fn finish(mut self) -> Result<()> {
        while self.left > 0 {
            self.left -= 1;
            self.body.skip()?;
        }
        self.body.end()
    }
}

impl Value {
    /// Reads one value, of any type.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Self::decode_at(reader, 0)
    }

    fn decode_at(reader: &mut Reader<'_>, depth: u32) -> Result<Self> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        let code = reader.u8()?;
        if code == 0x00 {
            let descriptor = Self::decode_at(reader, depth + 1)?;
            let value = Self::decode_at(reader, depth + 1)?;
            return Ok(Self::Described(Box::new(Described { descriptor, value })));
        }
        Self::decode_body(reader, code, depth)
    }

    /// Reads the octets that follow constructor `code`.
    fn decode_body(reader: &mut Reader<'_>, code: u8, depth: u32) -> Result<Self> {
        Ok(match code {
            0x40 => Self::Null,
            0x41 => Self::Bool(true),
            0x42 => Self::Bool(false),
            0x56 => Self::Bool(reader.boolean()?),
            0x50 => Self::Ubyte(reader.u8()?),
            0x60 => Self::Ushort(u16::from_be_bytes(reader.fixed()?)),
            0x70 => Self::Uint(u32::from_be_bytes(reader.fixed()?)),
            0x52 => Self::Uint(reader.u8()?.into()),
            0x43 => Self::Uint(0),
            0x80 => Self::Ulong(u64::from_be_bytes(reader.fixed()?)),
            0x53 => Self::Ulong(reader.u8()?.into()),
            0x44 => Self::Ulong(0),
            0x51 => Self::Byte(i8::from_be_bytes(reader.fixed()?)),
            0x61 => Self::Short(i16::from_be_bytes(reader.fixed()?)),
            0x71 => Self::Int(i32::from_be_bytes(reader.fixed()?)),
            0x54 => Self::Int(i8::from_be_bytes(reader.fixed()?).into()),
            0x81 => Self::Long(i64::from_be_bytes(reader.fixed()?)),
            0x55 => Self::Long(i8::from_be_bytes(reader.fixed()?).into()),
            0x72 => Self::Float(f32::from_be_bytes(reader.fixed()?)),
            0x82 => Self::Double(f64::from_be_bytes(reader.fixed()?)),
            0x74 => Self::Decimal32(reader.fixed()?),
            0x84 => Self::Decimal64(reader.fixed()?),
            0x94 => Self::Decimal128(reader.fixed()?),
            0x73 => {
                let scalar = u32::from_be_bytes(reader.fixed()?);
                Self::Char(char::from_u32(scalar).ok_or(DecodeError::InvalidChar(scalar))?)
            }
            0x83 => Self::Timestamp(i64::from_be_bytes(reader.fixed()?)),
            0x98 => Self::Uuid(reader.fixed()?),
            0xa0 | 0xb0 => Self::Binary(Bytes::copy_from_slice(reader.variable(code)?)),
            0xa1 | 0xb1 => Self::String(utf8(reader.variable(code)?)?.to_owned()),
            0xa3 | 0xb3 => Self::Symbol(Symbol::from(ascii(reader.variable(code)?)?)),
            0x45 => Self::List(Vec::new()),
            0xc0 | 0xd0 => {
                let (mut body, count) = reader.compound(code)?;
                let mut values = Vec::with_capacity(capacity(count));
                for _ in 0..count {
                    values.push(Self::decode_at(&mut body, depth + 1)?);
                }
                body.end()?;
                Self::List(values)
            }
            0xc1 | 0xd1 => {
                let (mut body, count) = reader.compound(code)?;
                if count % 2 != 0 {
                    return Err(DecodeError::OddMapCount);
                }
                let mut pairs = Vec::with_capacity(capacity(count / 2));
                for _ in 0..count / 2 {
                    let key = Self::decode_at(&mut body, depth + 1)?;
                    pairs.push((key, Self::decode_at(&mut body, depth + 1)?));
                }
                body.end()?;
                Self::Map(pairs)
            }
            0xe0 | 0xf0 => Self::decode_array(reader, code, depth)?,
            other => return Err(DecodeError::UnknownConstructor(other)),
        })
    }

    fn decode_array(reader: &mut Reader<'_>, code: u8, depth: u32) -> Result<Self> {
        let (mut body, count) = reader.array(code)?;
        if depth >= MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        let (element, descriptors) = Self::decode_constructor(&mut body, count, depth + 1)?;
        if count > body.bytes.len() + FREE_ELEMENTS {
            return Err(DecodeError::CountBeyondSize);
        }
        let mut values = Vec::with_capacity(capacity(count));
        for _ in 0..count {
            let depth = depth + 1 + descriptors.len() as u32;
            let plain = Self::decode_body(&mut body, element, depth)?;
            values.push(descriptors.iter().rev().fold(plain, |value, descriptor| {
                let descriptor = descriptor.clone();
                Self::Described(Box::new(Described { descriptor, value }))
            }));
        }
        body.end()?;
        Ok(Self::Array(Array::of_one_constructor(values)))
    }

    /// The constructor of an array's elements and the descriptors before it, outermost first.
    ///
    /// Every element has its own copy of them, so they are scalars and bounded: together the
    /// copies cost no more than a small multiple of the array's octets.
    fn decode_constructor(
        body: &mut Reader<'_>,
        count: usize,
        mut depth: u32,
    ) -> Result<(u8, Vec<Self>)> {
        let size = body.bytes.len();
        let mut descriptors = Vec::new();
        loop {
            let code = body.u8()?;
            if code != 0x00 {
                return Ok((code, descriptors));
            }
            if depth >= MAX_DEPTH {
                return Err(DecodeError::TooDeep);
            }
            depth += 1;
            let descriptor = match body.peek()? {
                0x44 | 0x53 | 0x80 => Self::Ulong(body.ulong()?),
                _ => Self::Symbol(body.symbol()?.into()),
            };
            descriptors.push(descriptor);
            let copied = size - body.bytes.len();
            if copied.saturating_mul(count) > MAX_COPIED * (size + FREE_ELEMENTS) {
                return Err(DecodeError::CountBeyondSize);
            }
        }
    }
}

impl Fields {
    /// Reads a map whose keys are symbols, each once; null is an empty one. Some clients write the
    /// keys as strings (go-amqp does, in the `info` of an error), which are taken for the symbols
    /// that they should be. Keys of other types nobody is known to write, though skrouterd, which
    /// does not look at them, takes them all.
    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let code = reader.u8()?;
        if code == 0x40 {
            return Ok(Self::default());
        }
        if !matches!(code, 0xc1 | 0xd1) {
            return Err(DecodeError::WrongType("map"));
        }
        let (mut body, count) = reader.compound(code)?;
        if count % 2 != 0 {
            return Err(DecodeError::OddMapCount);
        }
        let mut fields = Self(Vec::with_capacity(capacity(count / 2)));
        let mut seen = std::collections::HashSet::new();
        for _ in 0..count / 2 {
            let key = match body.peek()? {
                0xa1 | 0xb1 => ascii(body.string()?.as_bytes())?,
                0xa3 | 0xb3 => body.symbol()?,
                _ => return Err(DecodeError::WrongKeyType),
            };
            if !seen.insert(key) {
                return Err(DecodeError::DuplicateKey);
            }
            fields.0.push((key.into(), Value::decode(&mut body)?));
        }
        body.end()?;
        Ok(fields)
    }
}

fn utf8(octets: &[u8]) -> Result<&str> {
    std::str::from_utf8(octets).map_err(|_| DecodeError::InvalidUtf8)
}

fn ascii(octets: &[u8]) -> Result<&str> {
    if octets.is_ascii() {
        utf8(octets)
    } else {
        Err(DecodeError::NonAsciiSymbol)
    }
}

/// Room to reserve for values that a peer says will come.
fn capacity(claimed: usize) -> usize {
    claimed.min(64)
}
