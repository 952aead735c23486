//! What a message asks for.

use std::borrow::Cow;

use super::describe::Aspect;
use super::{Operation, ProfileStep, Refusal, SELF, Subject};
use crate::codec::{Body, Message, Value};
use crate::management::entity::closest;
use crate::management::schema::{MANAGEMENT, PREFIX, Schema};

/// # Errors
/// The message makes no sense as a request.
pub(super) fn operation(message: &Message) -> Result<Operation, Refusal> {
    let asked = Asked(message);
    let Some(operation) = asked.text("operation")? else {
        return Err(Refusal::bad_request("No 'operation' property"));
    };
    let describe = |aspect| {
        let schema = asked.schema("entityType")?;
        Ok(Operation::Describe { schema, aspect })
    };
    match operation.to_ascii_uppercase().as_str() {
        "QUERY" => Ok(Operation::Query {
            schema: asked.queried()?,
            names: asked.names()?,
            offset: asked.number("offset")?.unwrap_or(0),
            count: asked.number("count")?.unwrap_or(usize::MAX),
        }),
        "CREATE" => asked.create(),
        "READ" => asked.subject_of("READ").map(Operation::Read),
        "UPDATE" => Ok(Operation::Update {
            subject: asked.subject_of("UPDATE")?,
            attributes: asked.attributes()?,
        }),
        "DELETE" => asked.subject_of("DELETE").map(Operation::Delete),
        "CALLME" => Ok(Operation::Call {
            subject: asked.subject()?,
            properties: message.application_properties.clone(),
        }),
        "GET-TYPES" => describe(Aspect::Types),
        "GET-ATTRIBUTES" => describe(Aspect::Attributes),
        "GET-OPERATIONS" => describe(Aspect::Operations),
        "GET-ANNOTATIONS" => describe(Aspect::Annotations),
        "GET-SCHEMA" => describe(Aspect::Schema),
        "GET-JSON-SCHEMA" => {
            let indent = asked.number("indent")?.map(|indent| indent.min(MAX_INDENT));
            describe(Aspect::JsonSchema { indent })
        }
        "GET-MGMT-NODES" => Ok(Operation::Nodes),
        "GET-LOG" => Ok(Operation::Log {
            limit: asked.number("limit")?.unwrap_or(usize::MAX),
        }),
        "PROFILE" => Ok(Operation::Profile {
            subject: asked.subject()?,
            step: asked.profile_step(),
        }),
        "RELOAD" => Ok(Operation::Reload),
        _ => Ok(Operation::Unknown {
            subject: asked.subject()?,
            name: operation.to_owned(),
        }),
    }
}

struct Asked<'a>(&'a Message);

impl<'a> Asked<'a> {
    fn property(&self, key: &str) -> Option<&'a Value> {
        self.0
            .application_property(key)
            .filter(|value| !value.is_null())
    }

    /// A text that is not empty.
    fn text(&self, key: &str) -> Result<Option<&'a str>, Refusal> {
        let Some(value) = self.property(key) else {
            return Ok(None);
        };
        match value.as_str() {
            Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            None => Err(Refusal::bad_request(format!(
                "the application-property '{key}' must be a string"
            ))),
        }
    }

    /// A number, which some clients write as a string.
    fn number(&self, key: &str) -> Result<Option<usize>, Refusal> {
        let Some(value) = self.property(key) else {
            return Ok(None);
        };
        let number = match value.as_str() {
            Some(text) => text.trim().parse().ok(),
            None => value.as_u64().and_then(|n| usize::try_from(n).ok()),
        };
        match number {
            Some(number) => Ok(Some(number)),
            None => Err(Refusal::bad_request(format!(
                "the application-property '{key}' must be a number, and not negative"
            ))),
        }
    }

    fn schema(&self, key: &str) -> Result<Option<&'static Schema>, Refusal> {
        self.text(key)?.map(schema).transpose()
    }

    /// What a QUERY is about: `entityType`, or else `type`, as clients of skrouterd may have it,
    /// unless that is the agent, which is asked.
    fn queried(&self) -> Result<Option<&'static Schema>, Refusal> {
        match self.schema("entityType")? {
            None => {
                let asked = self.schema("type")?;
                Ok(asked.filter(|schema| !matches!(schema.name, "management" | MANAGEMENT)))
            }
            named => Ok(named),
        }
    }

    /// It is the presence of the property that counts, whatever it says.
    fn profile_step(&self) -> Option<ProfileStep> {
        let has = |key| self.0.application_property(key).is_some();
        match (has("start"), has("stop")) {
            (true, _) => Some(ProfileStep::Start),
            (false, true) => Some(ProfileStep::Stop),
            (false, false) => None,
        }
    }

    fn create(&self) -> Result<Operation, Refusal> {
        let mut attributes = self.attributes()?;
        let mut schema = self.schema("type")?;
        let given = |key: &str| attributes.iter().find(|(k, v)| k == key && !v.is_null());
        if let Some((_, kind)) = given("type") {
            let kind = self::schema(kind.as_str().unwrap_or_default())?;
            if schema.is_some_and(|schema| schema.name != kind.name) {
                return Err(Refusal::bad_request("Conflicting values for 'type'"));
            }
            schema = Some(kind);
        }
        if let Some(name) = self.text("name")? {
            let own = given("name").map(|(_, value)| value.as_str());
            if own.is_some_and(|own| own != Some(name)) {
                return Err(Refusal::bad_request("Conflicting values for 'name'"));
            }
            attributes.retain(|(key, _)| key != "name");
            attributes.push(("name".into(), Value::from(name)));
        }
        let Some(schema) = schema else {
            return Err(Refusal::bad_request(
                "No 'type' attribute in the body, nor a 'type' property",
            ));
        };
        not_forbidden(schema, "CREATE")?;
        Ok(Operation::Create { schema, attributes })
    }

    /// Which entity it is, of a type that may be asked for this.
    fn subject_of(&self, operation: &str) -> Result<Subject, Refusal> {
        if let Some(schema) = self.schema("type")? {
            not_forbidden(schema, operation)?;
        }
        self.subject()
    }

    /// Which entity it is; without name and identity the agent itself.
    fn subject(&self) -> Result<Subject, Refusal> {
        let schema = self.schema("type")?;
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let mut name = owned(self.text("name")?);
        let identity = owned(self.text("identity")?);
        if name.is_none() && identity.is_none() {
            let agent = Schema::find("management").expect("the table has it");
            if let Some(schema) = schema.filter(|schema| !agent.is_a(schema)) {
                let kind = schema.full_name();
                let text = format!("{kind}: No name or identity provided");
                return Err(Refusal::bad_request(text));
            }
            name = Some(SELF.into());
        }
        Ok(Subject {
            schema,
            name,
            identity,
        })
    }

    /// The body, of requests that have one.
    fn body(&self) -> Result<&'a [(Value, Value)], Refusal> {
        match &self.0.body {
            Body::Value(Value::Map(entries)) => Ok(entries),
            Body::Value(Value::Null) => Ok(&[]),
            Body::Data(parts) if parts.iter().all(|part| part.is_empty()) => Ok(&[]),
            _ => Err(Refusal::bad_request("the body must be a map")),
        }
    }

    fn attributes(&self) -> Result<Vec<(String, Value)>, Refusal> {
        let attribute = |(key, value): &(Value, Value)| match key.as_str() {
            Some(key) => Ok((key.to_owned(), value.clone())),
            None => Err(Refusal::bad_request("the keys of the body must be strings")),
        };
        self.body()?.iter().map(attribute).collect()
    }

    fn names(&self) -> Result<Vec<String>, Refusal> {
        let entry = self
            .body()?
            .iter()
            .find(|(key, _)| key.as_str() == Some("attributeNames"));
        let names = match entry.map(|(_, value)| value) {
            None | Some(Value::Null) => &[],
            Some(Value::List(names)) => names.as_slice(),
            Some(Value::Array(names)) => names.as_slice(),
            Some(_) => return Err(Refusal::bad_request("'attributeNames' must be a list")),
        };
        let name = |name: &Value| match name.as_str() {
            Some(name) => Ok(name.to_owned()),
            None => Err(Refusal::bad_request("'attributeNames' must be strings")),
        };
        names.iter().map(name).collect()
    }
}

/// Some things nobody may do, whichever entity is meant.
fn not_forbidden(schema: &Schema, operation: &str) -> Result<(), Refusal> {
    if !schema.forbids(operation) {
        return Ok(());
    }
    let hint = match (schema.name, operation) {
        ("connection", "DELETE") => "; UPDATE with 'adminStatus' deleted closes one",
        ("routerMetrics", "READ") => "; QUERY shows it",
        _ => "",
    };
    Err(Refusal::forbidden(format!(
        "Forbidden: {operation} is not for {}{hint}",
        schema.full_name()
    )))
}

fn schema(kind: &str) -> Result<&'static Schema, Refusal> {
    if let Some(schema) = Schema::find(kind) {
        return Ok(schema);
    }
    let short = kind.strip_prefix(PREFIX).unwrap_or(kind);
    let hint = match closest(short, Schema::all().iter().map(|schema| schema.name)) {
        Some(close) => Cow::Owned(format!("; did you mean '{close}'?")),
        None => Cow::Borrowed(""),
    };
    Err(Refusal::bad_request(format!(
        "No such entity type '{kind}'{hint}"
    )))
}

/// Blanks before each line of the schema, times its depth.
const MAX_INDENT: usize = 8;
