//! One entry of the log and how it is written.

use std::fmt::{self, Debug, Write};

use jiff::tz::TimeZone;
use jiff::{Timestamp, fmt::strtime};
use serde_json::{Map, Value};
use tracing::Event;
use tracing::field::{Field, FieldSet, Visit};

use super::{Entry, Level, Module};

/// An entry on its way to its output.
pub(super) struct Line {
    pub(super) module: Module,
    pub(super) level: Level,
    time: Timestamp,
    identity: Identity,
    message: String,
    fields: Vec<(&'static str, Value)>,
    file: &'static str,
    line: u32,
}

impl Line {
    pub(super) fn of(event: &Event<'_>, identity: Identity) -> Self {
        let metadata = event.metadata();
        let mut line = Self {
            module: Module::of_target(metadata.target()),
            level: Level::of(metadata),
            time: Timestamp::now(),
            identity,
            message: String::new(),
            fields: Vec::new(),
            file: metadata.file().unwrap_or_default(),
            line: metadata.line().unwrap_or_default(),
        };
        event.record(&mut line);
        line
    }

    /// As skrouterd writes it, with the end of the line.
    pub(super) fn text(&self, time: Option<&TimeFormat>, source: bool) -> String {
        let mut text = String::with_capacity(128);
        if let Some(time) = time {
            text.push_str(&time.format(self.time));
            text.push(' ');
        }
        let _ = write!(text, "{} ({}) ", self.module, self.level);
        self.write_content(&mut text);
        if source && !self.file.is_empty() {
            let _ = write!(text, " ({}:{})", self.file, self.line);
        }
        text.push('\n');
        text
    }

    /// As one JSON object, with the end of the line.
    pub(super) fn json(&self, time: Option<&TimeFormat>, source: bool) -> String {
        let mut object = Map::new();
        if time.is_some() {
            object.insert("timestamp".into(), format!("{:.6}", self.time).into());
        }
        object.insert("module".into(), self.module.as_str().into());
        object.insert("level".into(), self.level.as_str().into());
        if let Some(conn) = self.identity.conn {
            object.insert("conn".into(), conn.into());
        }
        if let Some(link) = self.identity.link {
            object.insert("link".into(), link.into());
        }
        object.insert("text".into(), self.message.as_str().into());
        for (name, value) in &self.fields {
            object.entry(*name).or_insert_with(|| value.clone());
        }
        if source && !self.file.is_empty() {
            object.insert("file".into(), self.file.into());
            object.insert("line".into(), self.line.into());
        }
        let mut text = Value::Object(object).to_string();
        text.push('\n');
        text
    }

    pub(super) fn into_entry(self) -> Entry {
        let mut text = String::new();
        self.write_content(&mut text);
        let Self {
            module,
            level,
            file,
            line,
            time,
            ..
        } = self;
        Entry {
            module,
            level,
            text,
            file,
            line,
            time,
        }
    }

    fn write_content(&self, text: &mut String) {
        let before = text.len();
        let _ = write!(text, "{}", self.identity);
        // Frames follow in Proton's form: `[C1]:FRAME`.
        if text.len() > before && !self.message.starts_with(':') {
            text.push(' ');
        }
        push_escaped(text, &self.message);
        for (name, value) in &self.fields {
            if !text.ends_with(' ') {
                text.push(' ');
            }
            let _ = write!(text, "{name}=");
            match value {
                Value::String(value) => push_escaped(text, value),
                value => {
                    let _ = write!(text, "{value}");
                }
            }
        }
    }

    fn push(&mut self, field: &Field, value: impl Into<Value>) {
        match field.name() {
            "critical" => {}
            name => self.fields.push((name, value.into())),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => {
                let _ = write!(self.message, "{value:?}");
            }
            _ => self.push(field, format!("{value:?}")),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message.push_str(value),
            _ => self.push(field, value),
        }
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !self.identity.take(field, value) {
            self.push(field, value);
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        match u64::try_from(value) {
            Ok(value) => self.record_u64(field, value),
            Err(_) => self.push(field, value),
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.push(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, value);
    }
}

/// Whom an entry is about: the fields `conn` and `link`.
#[derive(Clone, Copy, Default)]
pub(super) struct Identity {
    conn: Option<u64>,
    link: Option<u64>,
}

impl Identity {
    pub(super) fn is_in(fields: &FieldSet) -> bool {
        fields.field("conn").is_some() || fields.field("link").is_some()
    }

    /// What an inner span says is more exact than what an outer one does.
    pub(super) fn within(self, inner: &Self) -> Self {
        Self {
            conn: inner.conn.or(self.conn),
            link: inner.link.or(self.link),
        }
    }

    fn take(&mut self, field: &Field, value: u64) -> bool {
        match field.name() {
            "conn" => self.conn = Some(value),
            "link" => self.link = Some(value),
            _ => return false,
        }
        true
    }
}

impl Visit for Identity {
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.take(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            self.take(field, value);
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(conn) = self.conn {
            write!(f, "[C{conn}]")?;
        }
        if let Some(link) = self.link {
            write!(f, "[L{link}]")?;
        }
        Ok(())
    }
}

/// How the log writes the time: the router's `timestampFormat` and `timestampsInUTC`.
#[derive(Clone, Debug)]
pub struct TimeFormat {
    format: String,
    zone: TimeZone,
}

impl TimeFormat {
    /// `format` is one of `strftime`, by default [`TimeFormat::DEFAULT`]; `utc` takes the place
    /// of the system's time zone.
    ///
    /// # Errors
    ///
    /// A conversion that does not exist.
    pub fn new(format: Option<&str>, utc: bool) -> Result<Self, TimeFormatError> {
        let zone = if utc {
            TimeZone::UTC
        } else {
            TimeZone::system()
        };
        let format = format.unwrap_or(Self::DEFAULT).to_owned();
        let time = Timestamp::UNIX_EPOCH.to_zoned(zone.clone());
        match strtime::format(&format, &time) {
            Ok(_) => Ok(Self { format, zone }),
            Err(error) => Err(TimeFormatError {
                format,
                reason: error.to_string(),
            }),
        }
    }

    pub const DEFAULT: &str = "%Y-%m-%d %H:%M:%S.%6f %z";

    fn format(&self, time: Timestamp) -> String {
        strtime::format(&self.format, &time.to_zoned(self.zone.clone())).unwrap_or_default()
    }
}

impl Default for TimeFormat {
    fn default() -> Self {
        Self {
            format: Self::DEFAULT.into(),
            zone: TimeZone::system(),
        }
    }
}

/// A `timestampFormat` that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("timestampFormat '{format}': {reason}")]
pub struct TimeFormatError {
    format: String,
    reason: String,
}

/// Appends text that may come from a peer: it must not be able to write lines of its own.
fn push_escaped(text: &mut String, piece: &str) {
    if !piece.contains(char::is_control) {
        return text.push_str(piece);
    }
    for c in piece.chars() {
        match c.is_control() {
            true => text.extend(c.escape_default()),
            false => text.push(c),
        }
    }
}
