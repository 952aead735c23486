//! Why a link, a session or the connection is no more: what the router said, in one line.
//!
//! The AMQP library wraps that in errors of several layers, whose own texts are for programmers.

use std::io::ErrorKind;

use fe2o3_amqp::connection::{self, ConnectionStopReason};
use fe2o3_amqp::link::{
    DetachError, IllegalLinkStateError, LinkStateError, ReceiverAttachError, RecvError, SendError,
    SenderAttachError, SessionStopReason,
};
use fe2o3_amqp::session::BeginError;
use fe2o3_amqp::transport;
use fe2o3_amqp::types::definitions::Error;

use crate::failure::Failure;

/// What an error of the library comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The router closed it, or refused it.
    ByRouter(Layer, Option<Box<Error>>),
    /// We closed it, since the router did what it may not.
    ByUs(Layer, Box<Error>),
    /// The connection is no more, and only it knows why.
    Broken,
    /// The connection is no more, for what the system says.
    Lost(String),
    /// We sent, or were sent, a message larger than is allowed: by how many octets it may have.
    TooLarge(u64),
    /// A message made no sense.
    Unreadable(String),
    /// Anything else, in words that are fit to be read.
    Otherwise(String),
}

/// The end of what was well until then.
pub(crate) fn lost(error: impl Into<Ended>) -> Failure {
    error.into().failure()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layer {
    Link,
    Session,
    Connection,
}

impl Ended {
    /// As the end of what was well until then.
    pub(crate) fn failure(self) -> Failure {
        let (layer, text) = match self {
            Self::ByRouter(layer, error) => {
                let why = error.as_deref().map_or_else(|| SILENT.into(), describe);
                (
                    layer,
                    format!("the router closed the {}: {why}", layer.name()),
                )
            }
            Self::ByUs(_, error) => {
                let text = format!("the router broke the protocol: {}", describe(&error));
                (Layer::Connection, text)
            }
            Self::Broken => return Failure::Broken,
            Self::Lost(why) => {
                let text = format!("the connection to the router was lost: {why}");
                (Layer::Connection, text)
            }
            Self::TooLarge(most) => {
                let text = format!("the message is too large: it may have {most} octets");
                (Layer::Link, text)
            }
            Self::Unreadable(why) => (Layer::Link, format!("a message cannot be read: {why}")),
            Self::Otherwise(why) => (Layer::Connection, format!("the link broke: {why}")),
        };
        match layer {
            Layer::Link | Layer::Session => Failure::Refused(text),
            Layer::Connection => Failure::Connection(text),
        }
    }

    /// As the answer to a request for a link, which `refused` says was refused; with what to look
    /// at, if it was.
    pub(crate) fn refusal(self, refused: &str, hint: Option<&str>) -> Failure {
        let why = match self {
            Self::ByRouter(Layer::Link, Some(error)) => describe(&error),
            Self::ByRouter(Layer::Link, None) => SILENT.into(),
            Self::Otherwise(why) => why,
            other => return other.failure(),
        };
        let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
        Failure::Refused(format!("{refused}: {why}{hint}"))
    }

    /// The condition of the router's error, if it refused a link with one.
    pub(crate) fn refused_with(&self) -> Option<String> {
        match self {
            Self::ByRouter(Layer::Link, Some(error)) => Some(condition(error)),
            _ => None,
        }
    }
}

impl Layer {
    fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Session => "session",
            Self::Connection => "connection",
        }
    }
}

/// The condition and the description that a router gave.
pub(crate) fn describe(error: &Error) -> String {
    let condition = condition(error);
    match error.description.as_deref() {
        None | Some("") => condition,
        Some(description) => format!("{condition}: {description}"),
    }
}

fn condition(error: &Error) -> String {
    let value = serde_amqp::Value::try_from_serializable(&error.condition);
    let text = value.map(|value| crate::value::text(&crate::value::to_json(&value)));
    text.unwrap_or_default()
}

fn by_router(layer: Layer, error: Error) -> Ended {
    Ended::ByRouter(layer, Some(Box::new(error)))
}

impl From<ConnectionStopReason> for Ended {
    fn from(reason: ConnectionStopReason) -> Self {
        match reason {
            // So it is called, too, where the socket broke.
            ConnectionStopReason::Closed => Self::Broken,
            ConnectionStopReason::ClosedWithError(error) => {
                Self::ByUs(Layer::Connection, Box::new(error))
            }
            ConnectionStopReason::RemoteClosed => Self::ByRouter(Layer::Connection, None),
            ConnectionStopReason::RemoteClosedWithError(error) => {
                by_router(Layer::Connection, error)
            }
        }
    }
}

impl From<connection::Error> for Ended {
    fn from(error: connection::Error) -> Self {
        use connection::Error as E;
        match error {
            E::TransportError(error) => error.into(),
            E::RemoteClosed => Self::ByRouter(Layer::Connection, None),
            E::RemoteClosedWithError(error) => by_router(Layer::Connection, error),
            // The one thing that the library knows and does not do.
            E::NotImplemented(_) => Self::Lost(BEGINS_SESSIONS.into()),
            E::IllegalState | E::NotFound(_) | E::NotAllowed(_) => Self::Lost(UNEXPECTED.into()),
            E::JoinError(error) => Self::Lost(error.to_string()),
        }
    }
}

impl From<transport::Error> for Ended {
    fn from(error: transport::Error) -> Self {
        Self::Lost(match error {
            transport::Error::Io(error) if error.kind() == ErrorKind::UnexpectedEof => {
                "it hung up".into()
            }
            transport::Error::Io(error) => error.to_string(),
            transport::Error::IdleTimeoutElapsed => "nothing was heard of it for too long".into(),
            transport::Error::DecodeError(what) => format!("it sent what is no AMQP: {what}"),
            transport::Error::NotImplemented(_) => UNEXPECTED.into(),
            transport::Error::FramingError => "it sent what is no AMQP frame".into(),
        })
    }
}

impl From<SessionStopReason> for Ended {
    fn from(reason: SessionStopReason) -> Self {
        match reason {
            SessionStopReason::ConnectionStopped(reason) => reason.into(),
            SessionStopReason::Ended => Self::Broken,
            SessionStopReason::EndedWithError(error) => Self::ByUs(Layer::Session, error.into()),
            SessionStopReason::RemoteEnded => Self::ByRouter(Layer::Session, None),
            SessionStopReason::RemoteEndedWithError(error) => by_router(Layer::Session, error),
        }
    }
}

impl From<BeginError> for Ended {
    fn from(error: BeginError) -> Self {
        match error {
            BeginError::ConnectionStopped(reason) => reason.into(),
            BeginError::RemoteEnded => Self::ByRouter(Layer::Session, None),
            BeginError::RemoteEndedWithError(error) => by_router(Layer::Session, error),
            error @ (BeginError::IllegalState
            | BeginError::ConnectionNotOpened
            | BeginError::LocalChannelMaxReached) => Self::Otherwise(error.to_string()),
        }
    }
}

impl From<LinkStateError> for Ended {
    fn from(error: LinkStateError) -> Self {
        use LinkStateError as E;
        match error {
            E::SessionStopped(reason) => reason.into(),
            E::RemoteDetached | E::RemoteClosed => Self::ByRouter(Layer::Link, None),
            E::RemoteDetachedWithError(error) | E::RemoteClosedWithError(error) => {
                by_router(Layer::Link, error)
            }
            error @ (E::IllegalState | E::ExpectImmediateDetach) => {
                Self::Otherwise(error.to_string())
            }
        }
    }
}

impl From<IllegalLinkStateError> for Ended {
    fn from(error: IllegalLinkStateError) -> Self {
        LinkStateError::from(error).into()
    }
}

impl From<DetachError> for Ended {
    fn from(error: DetachError) -> Self {
        LinkStateError::from(error).into()
    }
}

impl From<SendError> for Ended {
    fn from(error: SendError) -> Self {
        use SendError as E;
        match error {
            E::LinkStateError(error) => error.into(),
            E::Detached(error) => error.into(),
            E::MessageSizeExceeded(exceeded) => Self::TooLarge(exceeded.max_size),
            error @ (E::NonTerminalDeliveryState
            | E::IllegalDeliveryState
            | E::MessageEncodeError) => Self::Otherwise(error.to_string()),
        }
    }
}

impl From<RecvError> for Ended {
    fn from(error: RecvError) -> Self {
        use RecvError as E;
        match error {
            E::LinkStateError(error) => error.into(),
            E::MessageDecode(error) => Self::Unreadable(error.source.to_string()),
            E::MessageSizeExceeded(exceeded) => Self::TooLarge(exceeded.max_size),
            error @ (E::TransferLimitExceeded
            | E::DeliveryIdIsNone
            | E::DeliveryTagIsNone
            | E::IllegalRcvSettleModeInTransfer
            | E::InconsistentFieldInMultiFrameDelivery
            | E::TransactionalAcquisitionIsNotImeplemented) => Self::Otherwise(error.to_string()),
        }
    }
}

impl From<SenderAttachError> for Ended {
    fn from(error: SenderAttachError) -> Self {
        match error {
            SenderAttachError::SessionStopped(reason) => reason.into(),
            SenderAttachError::RemoteClosedWithError(error) => by_router(Layer::Link, error),
            error => Self::Otherwise(error.to_string()),
        }
    }
}

impl From<ReceiverAttachError> for Ended {
    fn from(error: ReceiverAttachError) -> Self {
        match error {
            ReceiverAttachError::SessionStopped(reason) => reason.into(),
            ReceiverAttachError::RemoteClosedWithError(error) => by_router(Layer::Link, error),
            ReceiverAttachError::DesiredFilterNotSupported(_) => {
                Self::Otherwise("a filter is not supported".into())
            }
            error => Self::Otherwise(error.to_string()),
        }
    }
}

const SILENT: &str = "it does not say why";
const UNEXPECTED: &str = "it sent what does not belong there";
const BEGINS_SESSIONS: &str = "it begins a session itself; the port may be for other routers (role \
                               inter-router or edge)";

#[cfg(test)]
mod tests {
    use super::*;
    use fe2o3_amqp::types::definitions::{AmqpError, ConnectionError, ErrorCondition};
    use std::io;

    fn error(condition: impl Into<ErrorCondition>, description: &str) -> Error {
        Error::new(condition, description.to_owned(), None)
    }

    fn stopped(error: Error) -> SessionStopReason {
        ConnectionStopReason::RemoteClosedWithError(error).into()
    }

    /// The text, and whether it is said to be the connection's.
    fn told(failure: Failure) -> (String, bool) {
        let is_connection = matches!(failure, Failure::Connection(_));
        (failure.text().expect("a text"), is_connection)
    }

    #[test]
    fn a_closed_connection_is_told_by_its_condition_however_deep_it_is_wrapped() {
        let forced = error(ConnectionError::ConnectionForced, "the router is stopping");
        let expected = "the router closed the connection: amqp:connection:forced: the router is \
                        stopping";
        let link = || LinkStateError::SessionStopped(stopped(forced.clone()));
        let ended: [Ended; 6] = [
            SendError::LinkStateError(link()).into(),
            SendError::Detached(DetachError::SessionStopped(stopped(forced.clone()))).into(),
            RecvError::LinkStateError(link()).into(),
            SenderAttachError::SessionStopped(stopped(forced.clone())).into(),
            ReceiverAttachError::SessionStopped(stopped(forced.clone())).into(),
            BeginError::ConnectionStopped(ConnectionStopReason::RemoteClosedWithError(
                forced.clone(),
            ))
            .into(),
        ];
        for ended in ended {
            let (failed, refused) = (ended.clone().failure(), ended.refusal("no link", None));
            assert_eq!(told(failed), (expected.to_owned(), true));
            assert_eq!(told(refused), (expected.to_owned(), true));
        }
    }

    #[test]
    fn a_refused_link_is_a_refusal_with_its_condition() {
        let denied = error(AmqpError::UnauthorizedAccess, "link disallowed");
        let ended: [Ended; 2] = [
            SenderAttachError::RemoteClosedWithError(denied.clone()).into(),
            ReceiverAttachError::RemoteClosedWithError(denied.clone()).into(),
        ];
        for ended in ended {
            let condition = ended.refused_with();
            assert_eq!(condition.as_deref(), Some("amqp:unauthorized-access"));
            let expected = "no link to 'q': amqp:unauthorized-access: link disallowed; why?";
            assert_eq!(
                told(ended.refusal("no link to 'q'", Some("why?"))),
                (expected.into(), false)
            );
        }
        let ended: Ended = LinkStateError::RemoteClosedWithError(denied).into();
        let expected = "the router closed the link: amqp:unauthorized-access: link disallowed";
        assert_eq!(told(ended.failure()), (expected.into(), false));
        let ended: Ended = LinkStateError::RemoteDetached.into();
        let expected = "the router closed the link: it does not say why";
        assert_eq!(told(ended.failure()), (expected.into(), false));
    }

    #[test]
    fn what_the_system_says_of_a_connection_is_told() {
        for (kind, why) in [
            (ErrorKind::ConnectionReset, "connection reset"),
            (ErrorKind::UnexpectedEof, "it hung up"),
        ] {
            let error = io::Error::from(kind);
            let ended: Ended = connection::Error::TransportError(error.into()).into();
            let expected = format!("the connection to the router was lost: {why}");
            assert_eq!(told(ended.failure()), (expected, true));
        }
    }

    #[test]
    fn no_text_has_the_names_of_types() {
        let wrong = error(AmqpError::DecodeError, "what is that?");
        let ended: [Ended; 7] = [
            ConnectionStopReason::Closed.into(),
            ConnectionStopReason::ClosedWithError(wrong.clone()).into(),
            SessionStopReason::EndedWithError(wrong.clone()).into(),
            SessionStopReason::RemoteEndedWithError(wrong).into(),
            BeginError::IllegalState.into(),
            SendError::MessageEncodeError.into(),
            ReceiverAttachError::IncomingSourceIsNone.into(),
        ];
        for ended in ended {
            for (text, _) in [
                told(ended.clone().failure()),
                told(ended.refusal("refused", None)),
            ] {
                assert!(!text.contains(['{', '(', '"']), "{text}");
            }
        }
    }
}
