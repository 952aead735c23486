//! The client on fe2o3-amqp: the same jobs and events as the other two, in this process.
//!
//! The library does not show whether a delivery came settled, cannot send encoded bytes as they
//! are and does not show the peer's open, so those events lack these facts.

mod message;
mod operations;
mod value;

use crate::{
    job::{Job, Sasl, Tls},
    running::{Event, Worker},
};
use fe2o3_amqp::{
    connection::{Connection, ConnectionHandle, OpenError},
    link::{
        DetachError, LinkStateError, ReceiverAttachError, RecvError, SendError, SenderAttachError,
        SessionStopReason,
    },
    sasl_profile::{SaslProfile, SaslScramSha1, SaslScramSha256, SaslScramSha512},
    session::{Session, SessionHandle},
    types::definitions,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde_amqp::Value;
use serde_json::json;
use std::{fmt::Debug, sync::Arc, sync::mpsc::Sender, thread};
use tokio::{net::TcpStream, sync::oneshot};

/// Runs the job on a thread of its own.
pub(crate) fn spawn(job: Job, report: Sender<Event>) -> Worker {
    let (stop, stopped) = oneshot::channel();
    let thread = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        runtime.expect("a runtime").block_on(async {
            tokio::select! {
                () = run(&job, Report(report)) => {}
                _ = stopped => {}
            }
        });
    });
    Worker::Thread(Some(stop), Some(thread))
}

async fn run(job: &Job, report: Report) {
    let done = match connect(job).await {
        Ok(connection) => operations::run(connection, job, &report).await,
        Err(failure) => Err(failure),
    };
    if let Err(failure) = done {
        report.event("failed", json!({
            "scope": failure.scope, "condition": failure.condition, "description": failure.description,
        }));
    }
}

/// A connection with one session, as every job here uses it.
struct Client {
    connection: ConnectionHandle<()>,
    session: SessionHandle<()>,
}

async fn connect(job: &Job) -> Result<Client, Failure> {
    let builder = Connection::builder()
        .container_id("fe2o3")
        .hostname(job.host.as_str());
    let builder = match &job.sasl {
        Some(sasl) => builder.sasl_profile(profile(sasl)),
        None => builder,
    };
    let stream = TcpStream::connect((job.host.as_str(), job.port)).await?;
    let mut connection = match &job.tls {
        Some(files) => {
            let builder = builder
                .scheme("amqps")
                .domain(job.host.as_str())
                .alt_tls_establishment(true);
            builder
                .rustls_connector(tls_connector(files))
                .open_with_stream(stream)
                .await?
        }
        None => builder.scheme("amqp").open_with_stream(stream).await?,
    };
    let session = Session::begin(&mut connection)
        .await
        .map_err(|e| Failure::other("session", &e))?;
    Ok(Client {
        connection,
        session,
    })
}

impl Client {
    async fn close(mut self) -> Result<(), Failure> {
        self.session
            .end()
            .await
            .map_err(|e| Failure::other("session", &e))?;
        self.connection
            .close()
            .await
            .map_err(|e| Failure::other("connection", &e))
    }
}

fn profile(sasl: &Sasl) -> SaslProfile {
    match (sasl.mechanism, &sasl.user, &sasl.password) {
        ("PLAIN", Some(user), Some(password)) => SaslProfile::Plain {
            username: user.clone(),
            password: password.clone(),
        },
        ("SCRAM-SHA-1", Some(user), Some(password)) => SaslScramSha1::new(user, password).into(),
        ("SCRAM-SHA-256", Some(user), Some(password)) => {
            SaslScramSha256::new(user, password).into()
        }
        ("SCRAM-SHA-512", Some(user), Some(password)) => {
            SaslScramSha512::new(user, password).into()
        }
        ("EXTERNAL", ..) => SaslProfile::External,
        _ => SaslProfile::Anonymous,
    }
}

fn tls_connector(files: &Tls) -> tokio_rustls::TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(&files.ca).expect("a CA file"))
        .expect("a CA certificate");
    let builder = builder
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots);
    let config = match (&files.certificate, &files.key) {
        (Some(certificate), Some(key)) => {
            let chain =
                vec![CertificateDer::from_pem_file(certificate).expect("a certificate file")];
            let key = PrivateKeyDer::from_pem_file(key).expect("a key file");
            builder
                .with_client_auth_cert(chain, key)
                .expect("a key that fits")
        }
        _ => builder.with_no_client_auth(),
    };
    Arc::new(config).into()
}

/// Where events go. Once nobody listens, they go nowhere.
struct Report(Sender<Event>);

impl Report {
    fn event(&self, name: &str, mut fields: Event) {
        fields["event"] = json!(name);
        let _ = self.0.send(fields);
    }
}

/// Why a job ended early, with the peer's error condition where it gave one.
struct Failure {
    scope: &'static str,
    condition: Option<String>,
    description: Option<String>,
}

impl Failure {
    fn from_peer(scope: &'static str, error: definitions::Error) -> Self {
        let condition = match Value::try_from_serializable(&error.condition) {
            Ok(Value::Symbol(condition)) => Some(condition.into_inner()),
            _ => None,
        };
        Self {
            scope,
            condition,
            description: error.description,
        }
    }

    fn other(scope: &'static str, error: &impl Debug) -> Self {
        Self {
            scope,
            condition: None,
            description: Some(format!("{error:?}")),
        }
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::other("transport", &error)
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::RemoteClosedWithError(error) => Self::from_peer("connection", error),
            OpenError::SaslError { .. } => Self::other("sasl", &error),
            error => Self::other("transport", &error),
        }
    }
}

impl From<SenderAttachError> for Failure {
    fn from(error: SenderAttachError) -> Self {
        match error {
            SenderAttachError::RemoteClosedWithError(error) => Self::from_peer("link", error),
            SenderAttachError::SessionStopped(reason) => reason.into(),
            error => Self::other("link", &error),
        }
    }
}

impl From<ReceiverAttachError> for Failure {
    fn from(error: ReceiverAttachError) -> Self {
        match error {
            ReceiverAttachError::RemoteClosedWithError(error) => Self::from_peer("link", error),
            ReceiverAttachError::SessionStopped(reason) => reason.into(),
            error => Self::other("link", &error),
        }
    }
}

impl From<LinkStateError> for Failure {
    fn from(error: LinkStateError) -> Self {
        match error {
            LinkStateError::RemoteClosedWithError(error)
            | LinkStateError::RemoteDetachedWithError(error) => Self::from_peer("link", error),
            LinkStateError::SessionStopped(reason) => reason.into(),
            error => Self::other("link", &error),
        }
    }
}

impl From<DetachError> for Failure {
    fn from(error: DetachError) -> Self {
        LinkStateError::from(error).into()
    }
}

impl From<SendError> for Failure {
    fn from(error: SendError) -> Self {
        match error {
            SendError::LinkStateError(error) => error.into(),
            SendError::Detached(error) => error.into(),
            error => Self::other("link", &error),
        }
    }
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::LinkStateError(error) => error.into(),
            error => Self::other("link", &error),
        }
    }
}

impl From<SessionStopReason> for Failure {
    fn from(reason: SessionStopReason) -> Self {
        match reason {
            SessionStopReason::RemoteEndedWithError(error) => Self::from_peer("session", error),
            reason => Self::other("connection", &reason),
        }
    }
}
