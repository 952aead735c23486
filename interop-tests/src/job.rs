//! What a client is asked to do: one description for all three clients.

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{path::PathBuf, time::Duration};

/// One run of a client. The clients of other languages get it as JSON; the field names are
/// listed in the README.
#[derive(Clone, Debug, Serialize)]
pub struct Job {
    pub(crate) operation: &'static str,
    pub(crate) host: String,
    pub(crate) port: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tls: Option<Tls>,
    /// AMQP in a WebSocket; only rhea does it.
    pub(crate) websocket: bool,
    pub(crate) sasl: Option<Sasl>,
    /// `None` is the anonymous terminus.
    pub(crate) address: Option<String>,
    /// `properties.to` of what is sent.
    pub(crate) to: Option<String>,
    /// Deliveries to send or to receive; 0 receives until the client is stopped.
    pub(crate) count: usize,
    pub(crate) credit: u32,
    pub(crate) hold_credit: bool,
    pub(crate) dynamic: bool,
    pub(crate) settled: bool,
    pub(crate) rcv_settle_mode: &'static str,
    /// The sender leaves every delivery unsettled, whatever its outcome.
    pub(crate) keeps_unsettled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) snd_settle_mode: Option<&'static str>,
    /// The target's capabilities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) target_capabilities: Vec<&'static str>,
    /// What the client says in its open that it can do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) offered_capabilities: Vec<&'static str>,
    /// Closes every link that the router attaches.
    pub(crate) refuses_links: bool,
    /// The receiver answers delivery `i` with `outcomes[i % len]`.
    pub(crate) outcomes: Vec<Outcome>,
    /// Body sizes in bytes; message `i` has `sizes[i % len]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) sizes: Vec<usize>,
    /// Message `i` is `messages[i % len]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) messages: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) raw: Option<String>,
    pub(crate) describe: bool,
    pub(crate) plain_body: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) link: Option<String>,
    pub(crate) closed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) requests: Vec<Request>,
    /// Waits for connections on this port, instead of making one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) listen: Option<u16>,
    #[serde(skip)]
    pub(crate) time_limit: Duration,
}

/// The operations that have scripts of their own.
pub(crate) const COLLECT: &str = "collect";
pub(crate) const BROKER: &str = "broker";

/// PEM files for a TLS connection; with `certificate` and `key` the client has an identity.
#[derive(Clone, Debug, Serialize)]
pub struct Tls {
    pub ca: PathBuf,
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
}

#[derive(Clone, Debug, Serialize)]
pub struct Sasl {
    pub mechanism: &'static str,
    pub user: Option<String>,
    pub password: Option<String>,
}

/// An outcome with its fields (AMQP 3.4).
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// The receiver leaves the delivery unsettled, without a state.
    None,
    Accepted,
    Rejected {
        condition: String,
        description: String,
    },
    Released,
    Modified {
        delivery_failed: bool,
        undeliverable_here: bool,
        annotations: Map<String, Value>,
    },
}

/// One request of a requester; `body` and `application_properties` are typed values.
#[derive(Clone, Debug, Serialize)]
pub struct Request {
    pub correlation_id: String,
    pub subject: String,
    pub body: Value,
    pub application_properties: Map<String, Value>,
}

impl Job {
    /// Opens a connection, reports what the peer announces, closes.
    pub fn connect() -> Self {
        Self::new("connect")
    }

    pub fn send(address: &str) -> Self {
        Self::new("send").addressed(address)
    }

    /// Sends on an anonymous link to `to` (the anonymous relay).
    pub fn send_anonymous(to: &str) -> Self {
        Self {
            to: Some(to.into()),
            ..Self::new("send")
        }
    }

    pub fn receive(address: &str) -> Self {
        Self::new("receive").addressed(address)
    }

    /// Receives on a node that the router creates (AMQP 3.5.3, `dynamic`).
    pub fn receive_dynamic() -> Self {
        Self {
            dynamic: true,
            ..Self::new("receive")
        }
    }

    /// Sends `requests` and receives as many answers on a dynamic node.
    pub fn request(address: &str, requests: Vec<Request>) -> Self {
        Self {
            count: requests.len(),
            requests,
            ..Self::new("request").addressed(address)
        }
    }

    /// Receives, and answers each message to its `reply-to` through the anonymous relay.
    pub fn respond(address: &str) -> Self {
        Self::new("respond").addressed(address)
    }

    /// Grants credit, drains it after 0.3 s and reports when none is left (AMQP 2.6.7).
    /// Not for fe2o3-amqp.
    pub fn drain(address: &str) -> Self {
        Self::new("drain").addressed(address)
    }

    /// Receives `count`, closes the link, attaches it again by name, receives `count` more.
    pub fn reattach(address: &str) -> Self {
        let link = Some(format!("again-{address}"));
        Self {
            link,
            ..Self::new("reattach").addressed(address)
        }
    }

    /// Sends half a message, aborts it, and sends a whole one (Proton only).
    pub fn abort(address: &str) -> Self {
        Self::new("abort").addressed(address)
    }

    /// Begins `count` messages as streams on links of their own, and finishes them in the reverse
    /// order, each when the next one has been settled (Proton only).
    pub fn interleave(address: &str) -> Self {
        Self {
            target_capabilities: vec!["qd.streaming-deliveries"],
            ..Self::new("interleave").addressed(address)
        }
    }

    /// Writes header, open, begin and attach at once, then waits for the answers (Proton only).
    pub fn pipeline(address: &str) -> Self {
        Self::new("pipeline").addressed(address)
    }

    /// Follows every router that makes itself known to collectors of telemetry, until it is
    /// stopped (Proton only).
    pub fn collect() -> Self {
        Self {
            time_limit: Duration::from_secs(60),
            ..Self::new(COLLECT)
        }
    }

    /// Is a broker of this container-id, whose addresses are queues, until it is stopped (Proton
    /// only). With a port it waits for connections there, else it makes one.
    pub fn broker(container: &str, listen: Option<u16>) -> Self {
        Self {
            listen,
            time_limit: Duration::from_secs(60),
            ..Self::new(BROKER).addressed(container)
        }
    }

    pub fn count(self, count: usize) -> Self {
        Self { count, ..self }
    }

    /// Sends every delivery settled.
    pub fn settled(self) -> Self {
        Self {
            settled: true,
            ..self
        }
    }

    /// Sends or receives with rcv-settle-mode second (AMQP 2.8.3).
    pub fn settle_second(self) -> Self {
        Self {
            rcv_settle_mode: "second",
            ..self
        }
    }

    /// Does not settle what it sends, and is done when the other end has (Proton only).
    pub fn keeps_unsettled(self) -> Self {
        Self {
            keeps_unsettled: true,
            ..self
        }
    }

    /// Receives with the wish that nothing be sent settled (Proton only).
    pub fn nothing_settled(self) -> Self {
        Self {
            snd_settle_mode: Some("unsettled"),
            ..self
        }
    }

    /// Has each message that is released tried elsewhere (Proton only).
    pub fn resend_released(self) -> Self {
        Self {
            target_capabilities: vec!["qd.resend-released"],
            ..self
        }
    }

    /// Takes links for messages that are not complete (not fe2o3-amqp).
    pub fn takes_streams(self) -> Self {
        Self {
            offered_capabilities: vec!["qd.streaming-links"],
            ..self
        }
    }

    /// Closes every link that the router attaches (Proton only).
    pub fn refuses_links(self) -> Self {
        Self {
            refuses_links: true,
            ..self
        }
    }

    pub fn outcomes(self, outcomes: &[Outcome]) -> Self {
        Self {
            outcomes: outcomes.to_vec(),
            ..self
        }
    }

    pub fn sizes(self, sizes: &[usize]) -> Self {
        Self {
            sizes: sizes.to_vec(),
            ..self
        }
    }

    /// Sends these messages, each described as the README says, and `count` of them.
    pub fn messages(self, messages: Vec<Value>) -> Self {
        Self {
            count: messages.len(),
            messages,
            ..self
        }
    }

    /// Sends these bytes as the message, whatever they say.
    pub fn raw(self, encoded: &[u8]) -> Self {
        Self {
            raw: Some(crate::hex(encoded)),
            ..self
        }
    }

    /// Reports received messages in full, not only size, checksum and subject.
    pub fn describe(self) -> Self {
        Self {
            describe: true,
            ..self
        }
    }

    /// Reports an amqp-value body as plain JSON (Proton only).
    pub fn plain_body(self) -> Self {
        Self {
            plain_body: true,
            ..self
        }
    }

    pub fn credit(self, credit: u32) -> Self {
        Self { credit, ..self }
    }

    /// Never replaces credit that was spent.
    pub fn hold_credit(self) -> Self {
        Self {
            hold_credit: true,
            ..self
        }
    }

    /// Detaches with `closed` false where a job would close.
    pub fn not_closing(self) -> Self {
        Self {
            closed: false,
            ..self
        }
    }

    pub fn tls(self, tls: Tls) -> Self {
        Self {
            tls: Some(tls),
            host: "localhost".into(),
            ..self
        }
    }

    /// Has rhea speak AMQP in a WebSocket.
    pub fn over_websocket(self) -> Self {
        Self {
            websocket: true,
            ..self
        }
    }

    pub fn sasl(self, sasl: Sasl) -> Self {
        Self {
            sasl: Some(sasl),
            ..self
        }
    }

    /// Starts with the bare AMQP header (AMQP 2.2), no SASL layer.
    pub fn without_sasl(self) -> Self {
        Self { sasl: None, ..self }
    }

    pub fn time_limit(self, time_limit: Duration) -> Self {
        Self { time_limit, ..self }
    }

    /// The address the job sends to or receives from; empty for an anonymous one.
    pub fn address_name(&self) -> &str {
        self.address.as_deref().unwrap_or_default()
    }

    /// How many deliveries the job sends or receives.
    pub fn deliveries(&self) -> usize {
        self.count
    }

    fn addressed(self, address: &str) -> Self {
        Self {
            address: Some(address.into()),
            ..self
        }
    }

    fn new(operation: &'static str) -> Self {
        Self {
            operation,
            host: "127.0.0.1".into(),
            port: 0,
            tls: None,
            websocket: false,
            sasl: Some(Sasl::anonymous()),
            address: None,
            to: None,
            count: 0,
            credit: 100,
            hold_credit: false,
            dynamic: false,
            settled: false,
            rcv_settle_mode: "first",
            keeps_unsettled: false,
            snd_settle_mode: None,
            target_capabilities: Vec::new(),
            offered_capabilities: Vec::new(),
            refuses_links: false,
            outcomes: vec![Outcome::Accepted],
            sizes: Vec::new(),
            messages: Vec::new(),
            raw: None,
            describe: false,
            plain_body: false,
            link: None,
            closed: true,
            requests: Vec::new(),
            listen: None,
            time_limit: Duration::from_secs(20),
        }
    }
}

impl Sasl {
    pub fn anonymous() -> Self {
        Self {
            mechanism: "ANONYMOUS",
            user: None,
            password: None,
        }
    }

    pub fn external() -> Self {
        Self {
            mechanism: "EXTERNAL",
            user: None,
            password: None,
        }
    }

    pub fn plain(user: &str, password: &str) -> Self {
        Self::password("PLAIN", user, password)
    }

    /// By PLAIN or one of SCRAM's mechanisms.
    pub fn password(mechanism: &'static str, user: &str, password: &str) -> Self {
        Self {
            mechanism,
            user: Some(user.into()),
            password: Some(password.into()),
        }
    }
}

impl Outcome {
    pub fn rejected(condition: &str, description: &str) -> Self {
        Self::Rejected {
            condition: condition.into(),
            description: description.into(),
        }
    }

    /// Modified with delivery-failed, undeliverable-here and one annotation.
    pub fn modified(annotation: &str, value: &str) -> Self {
        let annotations = Map::from_iter([(annotation.to_owned(), json!(value))]);
        Self::Modified {
            delivery_failed: true,
            undeliverable_here: true,
            annotations,
        }
    }
}

impl Request {
    pub fn text(correlation_id: &str, body: &str) -> Self {
        Self {
            correlation_id: correlation_id.into(),
            subject: format!("subject of {correlation_id}"),
            body: json!(["string", body]),
            application_properties: Map::new(),
        }
    }
}
