//! What a listener is to do.

use std::sync::Arc;
use std::time::Instant;

use crate::adaptors::amqp::ConnectionSettings;
use crate::endpoint::SaslPolicy;
use crate::management::{Entity, Invalid};
use crate::runtime::files::Files;
use crate::runtime::listen::ListenerTls;
use crate::runtime::listener::BindAddress;
use crate::runtime::plan::settings::{family, handshake_time_out};
use crate::runtime::plan::{Planner, wrong};
use crate::runtime::sasl::{Authenticator, SaslSettings};
use crate::runtime::service::ListenerPlan;
use crate::runtime::tls::ClientCertificate;
use crate::runtime::tls::live::Derived;

/// A listener entity that speaks HTTP, made ready to work.
pub(crate) struct HttpPlan {
    pub(crate) name: String,
    pub(crate) bind: BindAddress,
    pub(crate) tls: Option<ListenerTls>,
    pub(crate) healthz: bool,
    pub(crate) metrics: bool,
    pub(crate) files: Option<Arc<Files>>,
    /// What AMQP connections over WebSocket are made with; `None` where `websockets` is off.
    pub(crate) amqp: Option<(ConnectionSettings, Authenticator)>,
}

/// What a listener entity is to become.
pub(crate) enum Listening {
    Amqp(Box<ListenerPlan>),
    Http(Box<HttpPlan>),
}

impl Planner<'_> {
    /// # Errors
    /// A file that the profile names cannot be used.
    pub(crate) fn listener(&self, entity: &Entity) -> Result<Listening, Invalid> {
        let name = entity.name().to_owned();
        let bind = BindAddress {
            entity: entity.label(),
            host: entity.text("host").unwrap_or_default().to_owned(),
            port: entity.text("port").unwrap_or("amqp").to_owned(),
            family: family(entity),
            backlog: 0,
        };
        let require_encryption = entity.flag("requireEncryption") || entity.flag("requireSsl");
        let authenticator = Authenticator::new(SaslSettings {
            listener: name.clone(),
            mechanisms: entity.word("saslMechanisms").map(str::to_owned),
            authenticate_peer: entity.flag("authenticatePeer"),
            require_encryption,
            can_encrypt: entity.word("sslProfile").is_some(),
            users: self.users()?,
        });
        let root = entity.word("httpRootDir");
        // Files to serve imply HTTP.
        let is_http = entity.flag("http") || root.is_some();
        let tls = match entity.word("sslProfile") {
            None if entity.flag("requireSsl") => {
                return Err(wrong(
                    entity,
                    "the attribute 'requireSsl' needs an 'sslProfile'".into(),
                ));
            }
            None => None,
            Some(profile) => {
                let profile = self.profile(entity, profile)?;
                let listed = entity.word("saslMechanisms").is_some();
                let wanted = ClientCertificate::wanted(
                    entity.flag("authenticatePeer"),
                    authenticator.mechanisms(),
                );
                let proves_http = is_http && entity.flag("authenticatePeer");
                let acceptor = Derived::new(profile, Instant::now(), move |profile| {
                    // Without a list a certificate is welcome where it can be checked; of whoever
                    // speaks HTTP nothing else proves anything.
                    let wanted = match profile.can_check_peers() {
                        true if proves_http => ClientCertificate::Required,
                        false if !listed => ClientCertificate::NotAsked,
                        _ => wanted,
                    };
                    profile.acceptor(wanted, &[])
                });
                let acceptor = acceptor.map_err(|error| wrong(entity, error.to_string()))?;
                Some(ListenerTls {
                    live: Arc::new(acceptor),
                    required: entity.flag("requireSsl"),
                    time_out: handshake_time_out(entity),
                })
            }
        };
        if is_http {
            let root = root.filter(|root| *root != NO_FILES);
            let files = root.map(|root| Files::new(root.as_ref())).transpose();
            let files = files.map_err(|error| {
                let problem = format!(
                    "the attribute 'httpRootDir' ('{}'): {error}",
                    root.unwrap_or_default()
                );
                wrong(entity, problem)
            })?;
            // Requests in clear are answered without SASL, which would see to encryption.
            let tls = tls.map(|tls| ListenerTls {
                required: require_encryption,
                ..tls
            });
            let healthz = entity.flag("healthz");
            let metrics = entity.flag("metrics");
            let settings = self.settings(entity, SaslPolicy::default())?;
            let websockets = entity.flag("websockets");
            if websockets {
                authenticator.warn_if_shut();
            }
            return Ok(Listening::Http(Box::new(HttpPlan {
                amqp: websockets.then_some((settings, authenticator)),
                name,
                bind,
                tls,
                healthz,
                metrics,
                files: files.map(Arc::new),
            })));
        }
        authenticator.warn_if_shut();
        Ok(Listening::Amqp(Box::new(ListenerPlan {
            name,
            bind,
            settings: self.settings(entity, SaslPolicy::default())?,
            tls,
            authenticator,
        })))
    }
}

/// The `httpRootDir` of who wants none: Skupper has it in the configuration of every site.
const NO_FILES: &str = "disabled";
