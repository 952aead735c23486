//! Writing values in their shortest encodings (AMQP 1.6).

use bytes::{BufMut, BytesMut};

use super::{Fields, Symbol, Value};

impl Value {
    /// Appends the shortest encoding.
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        match self {
            Self::Null => out.put_u8(0x40),
            Self::Bool(value) => put_bool(out, *value),
            Self::Ubyte(n) => put_fixed(out, 0x50, &n.to_be_bytes()),
            Self::Ushort(n) => put_fixed(out, 0x60, &n.to_be_bytes()),
            Self::Uint(n) => put_uint(out, *n),
            Self::Ulong(n) => put_ulong(out, *n),
            Self::Byte(n) => put_fixed(out, 0x51, &n.to_be_bytes()),
            Self::Short(n) => put_fixed(out, 0x61, &n.to_be_bytes()),
            Self::Int(n) => match i8::try_from(*n) {
                Ok(small) => put_fixed(out, 0x54, &small.to_be_bytes()),
                Err(_) => put_fixed(out, 0x71, &n.to_be_bytes()),
            },
            Self::Long(n) => match i8::try_from(*n) {
                Ok(small) => put_fixed(out, 0x55, &small.to_be_bytes()),
                Err(_) => put_fixed(out, 0x81, &n.to_be_bytes()),
            },
            Self::Float(n) => put_fixed(out, 0x72, &n.to_be_bytes()),
            Self::Double(n) => put_fixed(out, 0x82, &n.to_be_bytes()),
            Self::Decimal32(octets) => put_fixed(out, 0x74, octets),
            Self::Decimal64(octets) => put_fixed(out, 0x84, octets),
            Self::Decimal128(octets) => put_fixed(out, 0x94, octets),
            Self::Char(c) => put_fixed(out, 0x73, &u32::from(*c).to_be_bytes()),
            Self::Timestamp(n) => put_fixed(out, 0x83, &n.to_be_bytes()),
            Self::Uuid(octets) => put_fixed(out, 0x98, octets),
            Self::Binary(octets) => put_binary(out, octets),
            Self::String(text) => put_string(out, text),
            Self::Symbol(symbol) => put_symbol(out, symbol.as_str()),
            Self::List(values) => {
                put_list(out, values.len(), |out| {
                    values.iter().for_each(|v| v.encode(out))
                });
            }
            Self::Map(pairs) => put_map(out, pairs.len(), |out| {
                for (key, value) in pairs {
                    key.encode(out);
                    value.encode(out);
                }
            }),
            Self::Array(array) => put_array(out, array.as_slice()),
            Self::Described(described) => {
                out.put_u8(0x00);
                described.descriptor.encode(out);
                described.value.encode(out);
            }
        }
    }
}

impl Fields {
    pub(crate) fn encode(&self, out: &mut BytesMut) {
        put_map(out, self.len(), |out| {
            for (key, value) in self {
                put_symbol(out, key.as_str());
                value.encode(out);
            }
        });
    }
}

#[inline]
fn put_fixed(out: &mut BytesMut, code: u8, octets: &[u8]) {
    out.put_u8(code);
    out.put_slice(octets);
}

#[inline]
pub(crate) fn put_bool(out: &mut BytesMut, value: bool) {
    out.put_u8(if value { 0x41 } else { 0x42 });
}

#[inline]
pub(crate) fn put_uint(out: &mut BytesMut, n: u32) {
    match u8::try_from(n) {
        Ok(0) => out.put_u8(0x43),
        Ok(small) => out.put_slice(&[0x52, small]),
        Err(_) => put_fixed(out, 0x70, &n.to_be_bytes()),
    }
}

#[inline]
pub(crate) fn put_ulong(out: &mut BytesMut, n: u64) {
    match u8::try_from(n) {
        Ok(0) => out.put_u8(0x44),
        Ok(small) => out.put_slice(&[0x53, small]),
        Err(_) => put_fixed(out, 0x80, &n.to_be_bytes()),
    }
}

fn put_variable(out: &mut BytesMut, short: u8, octets: &[u8]) {
    match u8::try_from(octets.len()) {
        Ok(len) => out.put_slice(&[short, len]),
        Err(_) => {
            out.put_u8(short + 0x10);
            out.put_u32(octets.len() as u32);
        }
    }
    out.put_slice(octets);
}

pub(crate) fn put_binary(out: &mut BytesMut, octets: &[u8]) {
    put_variable(out, 0xa0, octets);
}

pub(crate) fn put_string(out: &mut BytesMut, text: &str) {
    put_variable(out, 0xa1, text.as_bytes());
}

pub(crate) fn put_symbol(out: &mut BytesMut, text: &str) {
    put_variable(out, 0xa3, text.as_bytes());
}

/// Symbols of a `multiple` field: null, one, or an array.
pub(crate) fn put_symbols(out: &mut BytesMut, symbols: &[Symbol]) {
    match symbols {
        [] => out.put_u8(0x40),
        [one] => put_symbol(out, one.as_str()),
        many => {
            put_sized(out, [0xe0, 0xf0], many.len(), |out| {
                out.put_u8(0xb3);
                for symbol in many {
                    out.put_u32(symbol.as_str().len() as u32);
                    out.put_slice(symbol.as_str().as_bytes());
                }
            });
        }
    }
}

pub(crate) fn put_list(out: &mut BytesMut, count: usize, elements: impl FnOnce(&mut BytesMut)) {
    if count == 0 {
        out.put_u8(0x45);
    } else {
        put_sized(out, [0xc0, 0xd0], count, elements);
    }
}

pub(crate) fn put_map(out: &mut BytesMut, pairs: usize, elements: impl FnOnce(&mut BytesMut)) {
    put_sized(out, [0xc1, 0xd1], pairs * 2, elements);
}

fn put_array(out: &mut BytesMut, values: &[Value]) {
    // One constructor must do for all elements, so each is written in its widest form.
    put_sized(out, [0xe0, 0xf0], values.len(), |out| {
        let Some(first) = values.first() else {
            out.put_u8(0x40);
            return;
        };
        put_array_constructor(out, first);
        for value in values {
            put_array_element(out, value);
        }
    });
}

fn put_array_constructor(out: &mut BytesMut, value: &Value) {
    if let Value::Described(described) = value {
        out.put_u8(0x00);
        described.descriptor.encode(out);
        return put_array_constructor(out, &described.value);
    }
    out.put_u8(match value {
        Value::Null | Value::Described(_) => 0x40,
        Value::Bool(_) => 0x56,
        Value::Ubyte(_) => 0x50,
        Value::Ushort(_) => 0x60,
        Value::Uint(_) => 0x70,
        Value::Ulong(_) => 0x80,
        Value::Byte(_) => 0x51,
        Value::Short(_) => 0x61,
        Value::Int(_) => 0x71,
        Value::Long(_) => 0x81,
        Value::Float(_) => 0x72,
        Value::Double(_) => 0x82,
        Value::Decimal32(_) => 0x74,
        Value::Decimal64(_) => 0x84,
        Value::Decimal128(_) => 0x94,
        Value::Char(_) => 0x73,
        Value::Timestamp(_) => 0x83,
        Value::Uuid(_) => 0x98,
        Value::Binary(_) => 0xb0,
        Value::String(_) => 0xb1,
        Value::Symbol(_) => 0xb3,
        Value::List(_) => 0xd0,
        Value::Map(_) => 0xd1,
        Value::Array(_) => 0xf0,
    });
}

/// An element without its constructor, in the width that the array's constructor has.
fn put_array_element(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(value) => out.put_u8(u8::from(*value)),
        Value::Uint(n) => out.put_u32(*n),
        Value::Ulong(n) => out.put_u64(*n),
        Value::Int(n) => out.put_i32(*n),
        Value::Long(n) => out.put_i64(*n),
        Value::Binary(octets) => put_long(out, octets),
        Value::String(text) => put_long(out, text.as_bytes()),
        Value::Symbol(symbol) => put_long(out, symbol.as_str().as_bytes()),
        Value::List(values) => put_wide(out, values.len(), |out| {
            values.iter().for_each(|value| value.encode(out));
        }),
        Value::Map(pairs) => put_wide(out, pairs.len() * 2, |out| {
            for (key, value) in pairs {
                key.encode(out);
                value.encode(out);
            }
        }),
        Value::Array(array) => put_wide(out, array.as_slice().len(), |out| {
            match array.as_slice().first() {
                None => out.put_u8(0x40),
                Some(first) => {
                    put_array_constructor(out, first);
                    array
                        .as_slice()
                        .iter()
                        .for_each(|value| put_array_element(out, value));
                }
            }
        }),
        Value::Described(described) => put_array_element(out, &described.value),
        fixed => {
            let mut encoded = BytesMut::new();
            fixed.encode(&mut encoded);
            out.put_slice(&encoded[1..]);
        }
    }
}

fn put_long(out: &mut BytesMut, octets: &[u8]) {
    out.put_u32(octets.len() as u32);
    out.put_slice(octets);
}

fn put_wide(out: &mut BytesMut, count: usize, elements: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u32(0);
    out.put_u32(count as u32);
    elements(out);
    let size = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

/// Writes size, count and elements, in the short form if they fit it.
fn put_sized(
    out: &mut BytesMut,
    [short, long]: [u8; 2],
    count: usize,
    elements: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    out.put_u8(long);
    out.put_u32(0);
    out.put_u32(count as u32);
    elements(out);
    let body = out.len() - start - 9;
    if body < 255 && count < 256 {
        out[start] = short;
        out[start + 1] = body as u8 + 1;
        out[start + 2] = count as u8;
        out[start..].copy_within(9.., 3);
        out.truncate(start + 3 + body);
    } else {
        let size = (body + 4) as u32;
        out[start + 1..start + 5].copy_from_slice(&size.to_be_bytes());
    }
}

/// The elements of a composite type; trailing nulls are left out (AMQP 1.4).
pub(crate) struct ListWriter<'a> {
    out: &'a mut BytesMut,
    start: usize,
    count: usize,
    /// Where the list ends if all that follows is null, and how many elements it then has.
    kept: (usize, usize),
}

impl<'a> ListWriter<'a> {
    /// Starts a described list.
    #[inline]
    pub(crate) fn new(out: &'a mut BytesMut, descriptor: u8) -> Self {
        out.put_slice(&[0x00, 0x53, descriptor]);
        let start = out.len();
        out.put_slice(&[0xd0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let kept = (out.len(), 0);
        Self {
            out,
            start,
            count: 0,
            kept,
        }
    }

    /// Writes one element.
    #[inline]
    pub(crate) fn put(&mut self, write: impl FnOnce(&mut BytesMut)) -> &mut Self {
        self.count += 1;
        write(self.out);
        self.kept = (self.out.len(), self.count);
        self
    }

    /// Writes one element, or null.
    #[inline]
    pub(crate) fn opt<T>(
        &mut self,
        value: Option<T>,
        write: impl FnOnce(&mut BytesMut, T),
    ) -> &mut Self {
        match value {
            Some(value) => self.put(|out| write(out, value)),
            None => {
                self.count += 1;
                self.out.put_u8(0x40);
                self
            }
        }
    }

    pub(crate) fn symbols(&mut self, symbols: &[Symbol]) -> &mut Self {
        self.opt((!symbols.is_empty()).then_some(symbols), put_symbols)
    }

    pub(crate) fn fields(&mut self, fields: &Fields) -> &mut Self {
        self.opt((!fields.is_empty()).then_some(fields), |out, fields| {
            fields.encode(out)
        })
    }

    /// Ends the list, in its shortest form.
    #[inline]
    pub(crate) fn finish(&mut self) {
        let (end, count) = self.kept;
        let (out, start) = (&mut *self.out, self.start);
        out.truncate(end);
        let body = end - start - 9;
        if count == 0 {
            out.truncate(start);
            out.put_u8(0x45);
        } else if body < 255 && count < 256 {
            out[start] = 0xc0;
            out[start + 1] = body as u8 + 1;
            out[start + 2] = count as u8;
            out[start..].copy_within(9.., 3);
            out.truncate(start + 3 + body);
        } else {
            out[start + 1..start + 5].copy_from_slice(&((body + 4) as u32).to_be_bytes());
            out[start + 5..start + 9].copy_from_slice(&(count as u32).to_be_bytes());
        }
    }
}
