//! The AMQP type system as owned values (AMQP 1).

use std::borrow::{Borrow, Cow};
use std::fmt;

use bytes::Bytes;

/// Any AMQP value (AMQP 1.6).
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Ubyte(u8),
    Ushort(u16),
    Uint(u32),
    Ulong(u64),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// IEEE 754-2008 decimal in network byte order, not interpreted.
    Decimal32([u8; 4]),
    Decimal64([u8; 8]),
    Decimal128([u8; 16]),
    Char(char),
    /// Milliseconds since 1970 UTC.
    Timestamp(i64),
    Uuid([u8; 16]),
    Binary(Bytes),
    String(String),
    Symbol(Symbol),
    List(Vec<Value>),
    /// Keys and values in wire order, which counts for equality (AMQP 1.6.23).
    Map(Vec<(Value, Value)>),
    Array(Array),
    Described(Box<Described>),
}

/// A value with a descriptor that gives it meaning (AMQP 1.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    pub descriptor: Value,
    pub value: Value,
}

/// Values of one type behind one constructor (AMQP 1.6.24).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Array(Vec<Value>);

/// An ASCII word from some registry (AMQP 1.6.21).
#[derive(Clone, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Symbol(Cow<'static, str>);

/// A map from symbols to values, in wire order (`fields`, AMQP 2.8.13).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fields(pub(super) Vec<(Symbol, Value)>);

impl Value {
    /// A described value with a numeric descriptor.
    pub fn described(code: u64, value: impl Into<Value>) -> Self {
        let described = Described {
            descriptor: Value::Ulong(code),
            value: value.into(),
        };
        Self::Described(Box::new(described))
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub fn as_bool(&self) -> Option<bool> {
        match *self {
            Self::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The text of a string or a symbol.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            Self::Symbol(symbol) => Some(symbol.as_str()),
            _ => None,
        }
    }

    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self {
            Self::Symbol(symbol) => Some(symbol),
            _ => None,
        }
    }

    pub fn as_bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Any integer that is not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::Ubyte(n) => Some(n.into()),
            Self::Ushort(n) => Some(n.into()),
            Self::Uint(n) => Some(n.into()),
            Self::Ulong(n) => Some(n),
            _ => self.as_i64().and_then(|n| n.try_into().ok()),
        }
    }

    /// Any integer that an `i64` can hold.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::Byte(n) => Some(n.into()),
            Self::Short(n) => Some(n.into()),
            Self::Int(n) => Some(n.into()),
            Self::Long(n) => Some(n),
            Self::Ubyte(n) => Some(n.into()),
            Self::Ushort(n) => Some(n.into()),
            Self::Uint(n) => Some(n.into()),
            Self::Ulong(n) => n.try_into().ok(),
            _ => None,
        }
    }

    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::Float(n) => Some(n.into()),
            Self::Double(n) => Some(n),
            _ => None,
        }
    }

    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    pub fn as_map(&self) -> Option<&[(Value, Value)]> {
        match self {
            Self::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Self::Array(array) => Some(array.as_slice()),
            _ => None,
        }
    }

    pub fn as_described(&self) -> Option<&Described> {
        match self {
            Self::Described(described) => Some(described),
            _ => None,
        }
    }

    /// The numeric descriptor of a described value.
    pub fn descriptor_code(&self) -> Option<u64> {
        match self.as_described()?.descriptor {
            Self::Ulong(code) => Some(code),
            _ => None,
        }
    }

    /// In a map, the value behind a string or symbol key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        let entries = self.as_map()?;
        entries
            .iter()
            .find(|(k, _)| k.as_str() == Some(key))
            .map(|(_, value)| value)
    }
}

impl Array {
    /// An array of these items, or `None` if they are not all of one type.
    pub fn new(items: Vec<Value>) -> Option<Self> {
        let uniform = items.windows(2).all(|pair| same_type(&pair[0], &pair[1]));
        uniform.then_some(Self(items))
    }

    /// Values that have been read behind one constructor.
    pub(super) fn of_one_constructor(items: Vec<Value>) -> Self {
        Self(items)
    }

    pub fn as_slice(&self) -> &[Value] {
        &self.0
    }

    pub fn into_vec(self) -> Vec<Value> {
        self.0
    }
}

/// Whether both values can stand behind one array constructor.
fn same_type(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Described(a), Value::Described(b)) => {
            a.descriptor == b.descriptor && same_type(&a.value, &b.value)
        }
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

impl Symbol {
    /// # Panics
    /// When `text` is not ASCII; in a `const` that is a compile error.
    pub const fn from_static(text: &'static str) -> Self {
        assert!(text.is_ascii(), "a symbol is ASCII");
        Self(Cow::Borrowed(text))
    }

    /// `None` when `text` is not ASCII.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        text.is_ascii().then_some(Self(Cow::Owned(text)))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for Symbol {
    /// Characters outside ASCII become `?`, so that the peer always gets a valid symbol.
    fn from(text: &str) -> Self {
        let ascii = text.chars().map(|c| if c.is_ascii() { c } else { '?' });
        Self(Cow::Owned(ascii.collect()))
    }
}

impl From<String> for Symbol {
    /// As from `&str`.
    fn from(text: String) -> Self {
        if text.is_ascii() {
            Self(Cow::Owned(text))
        } else {
            Self::from(text.as_str())
        }
    }
}

impl AsRef<str> for Symbol {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Symbol {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Symbol {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for Symbol {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Symbol({:?})", self.0)
    }
}

impl Fields {
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(k, _)| k == key)
            .map(|(_, value)| value)
    }

    /// Sets `key`, which keeps its place when it was there before; returns the old value.
    pub fn insert(&mut self, key: impl Into<Symbol>, value: impl Into<Value>) -> Option<Value> {
        let (key, value) = (key.into(), value.into());
        match self.0.iter_mut().find(|(k, _)| *k == key) {
            Some((_, old)) => Some(std::mem::replace(old, value)),
            None => {
                self.0.push((key, value));
                None
            }
        }
    }

    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let at = self.0.iter().position(|(k, _)| k == key)?;
        Some(self.0.remove(at).1)
    }

    pub fn iter(&self) -> std::slice::Iter<'_, (Symbol, Value)> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Symbol>, V: Into<Value>> FromIterator<(K, V)> for Fields {
    /// Of equal keys the last one wins.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut fields = Self::new();
        for (key, value) in entries {
            fields.insert(key, value);
        }
        fields
    }
}

impl<K: Into<Symbol>, V: Into<Value>, const N: usize> From<[(K, V); N]> for Fields {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl IntoIterator for Fields {
    type Item = (Symbol, Value);
    type IntoIter = std::vec::IntoIter<(Symbol, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Fields {
    type Item = &'a (Symbol, Value);
    type IntoIter = std::slice::Iter<'a, (Symbol, Value)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

macro_rules! value_from {
    ($($type:ty => $variant:ident),* $(,)?) => {
        $(impl From<$type> for Value {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        })*
    };
}

value_from! {
    bool => Bool, u8 => Ubyte, u16 => Ushort, u32 => Uint, u64 => Ulong,
    i8 => Byte, i16 => Short, i32 => Int, i64 => Long, f32 => Float, f64 => Double,
    char => Char, Bytes => Binary, String => String, &str => String, Symbol => Symbol,
    Vec<Value> => List, Vec<(Value, Value)> => Map, Array => Array, Described => Described,
}

impl From<Fields> for Value {
    fn from(fields: Fields) -> Self {
        Self::Map(
            fields
                .into_iter()
                .map(|(key, value)| (key.into(), value))
                .collect(),
        )
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    /// `None` is null.
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}
