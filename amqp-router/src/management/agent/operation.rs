//! What can be asked of the agent.

use std::fmt;

use super::answer::Reply;
use super::describe::Aspect;
use crate::codec::Value;
use crate::management::schema::Schema;

/// A request that makes sense.
pub(crate) struct Request {
    pub(super) reply: Reply,
    pub(super) operation: Operation,
    /// What it is called by who asks.
    pub(super) name: String,
}

pub(super) enum Operation {
    Query {
        schema: Option<&'static Schema>,
        names: Vec<String>,
        offset: usize,
        count: usize,
    },
    Create {
        schema: &'static Schema,
        attributes: Vec<(String, Value)>,
    },
    Read(Subject),
    Update {
        subject: Subject,
        attributes: Vec<(String, Value)>,
    },
    Delete(Subject),
    /// Gives the properties of the request back.
    Call {
        subject: Subject,
        properties: Vec<(String, Value)>,
    },
    /// One that there is not.
    Unknown {
        subject: Subject,
        name: String,
    },
    /// GET-TYPES and its like: what the table of entities says.
    Describe {
        schema: Option<&'static Schema>,
        aspect: Aspect,
    },
    Nodes,
    Log {
        limit: usize,
    },
    /// See how busy the router is.
    Profile {
        subject: Subject,
        step: Option<ProfileStep>,
    },
    /// Read the configuration file again.
    Reload,
}

/// What is asked of PROFILE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProfileStep {
    Start,
    /// Tell of what was seen since the start.
    Stop,
}

impl Operation {
    /// Its name, if it is to change something.
    pub(super) fn change(&self) -> Option<&'static str> {
        match self {
            Self::Create { .. } => Some("CREATE"),
            Self::Update { .. } => Some("UPDATE"),
            Self::Delete(_) => Some("DELETE"),
            _ => None,
        }
    }
}

/// Which entity a request is about.
pub(crate) struct Subject {
    pub(super) schema: Option<&'static Schema>,
    pub(crate) name: Option<String>,
    pub(crate) identity: Option<String>,
}

impl Request {
    /// Whether it asks to read the configuration file again.
    pub(crate) fn is_reload(&self) -> bool {
        matches!(self.operation, Operation::Reload)
    }

    /// Whether it is about what is at work, so that workers have to be asked for it.
    pub(crate) fn needs_figures(&self) -> bool {
        let schema = match &self.operation {
            Operation::Query { schema, .. } => schema,
            Operation::Read(subject)
            | Operation::Delete(subject)
            | Operation::Update { subject, .. }
            | Operation::Call { subject, .. }
            | Operation::Unknown { subject, .. } => &subject.schema,
            Operation::Create { .. }
            | Operation::Describe { .. }
            | Operation::Nodes
            | Operation::Profile { .. }
            | Operation::Reload
            | Operation::Log { .. } => return false,
        };
        schema.is_none_or(|schema| schema.operational)
    }
}

impl fmt::Display for Request {
    /// The operation, and what it is about; not what it says of it, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        let (schema, subject) = match &self.operation {
            Operation::Query { schema, .. } | Operation::Describe { schema, .. } => (*schema, None),
            Operation::Create { schema, .. } => (Some(*schema), None),
            Operation::Read(subject)
            | Operation::Delete(subject)
            | Operation::Update { subject, .. }
            | Operation::Call { subject, .. }
            | Operation::Unknown { subject, .. } => (subject.schema, Some(subject)),
            Operation::Nodes
            | Operation::Log { .. }
            | Operation::Profile { .. }
            | Operation::Reload => (None, None),
        };
        if let Some(schema) = schema {
            write!(f, " {}", schema.full_name())?;
        }
        match subject {
            Some(subject) => write!(f, " {subject}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Request {
    /// Who asks; not what, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("reply", &self.reply)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, &self.identity) {
            (Some(name), None) => write!(f, "name={name}"),
            (None, Some(identity)) => write!(f, "identity={identity}"),
            (Some(name), Some(identity)) => write!(f, "name={name} identity={identity}"),
            (None, None) => Ok(()),
        }
    }
}
