//! What a connector is to do.

use std::sync::Arc;
use std::time::Instant;

use tracing::info;

use crate::control::role::Role;
use crate::control::trunks::Group;
use crate::endpoint::{ClientSasl, Opening, SaslPolicy};
use crate::management::config::discriminator;
use crate::management::{Entity, Invalid};
use crate::runtime::connect::ConnectorPlan;
use crate::runtime::plan::entities::{proxy, warn_if_bare};
use crate::runtime::plan::settings::family;
use crate::runtime::plan::{Planner, wrong};
use crate::runtime::proxy::Proxy;
use crate::runtime::reconnect::Server;
use crate::runtime::sasl::client_choices;
use crate::runtime::scram::client::Credentials;
use crate::runtime::secret;
use crate::runtime::tls::live::Derived;

impl Planner<'_> {
    /// # Errors
    /// A file that the profile names cannot be used, or a mechanism lacks what it needs.
    pub(crate) fn connector(&self, entity: &Entity) -> Result<ConnectorPlan, Invalid> {
        let host = entity.word("host").unwrap_or("127.0.0.1").to_owned();
        let tls = match entity.word("sslProfile") {
            None => None,
            Some(profile) => {
                let profile = self.profile(entity, profile)?;
                let verify_hostname = entity.flag("verifyHostname");
                let connector = Derived::new(profile, Instant::now(), move |profile| {
                    profile.connector(verify_hostname, &[])
                });
                let connector = connector.map_err(|error| wrong(entity, error.to_string()))?;
                Some(Arc::new(connector))
            }
        };
        warn_if_bare(entity, "saslPassword", false);
        let password = entity
            .word("saslPassword")
            .map(|text| secret::resolve(text, false))
            .transpose()
            .map_err(|error| wrong(entity, format!("the attribute 'saslPassword': {error}")))?;
        let user = entity.word("saslUsername").zip(password.as_ref());
        let certified = tls.is_some() && self.has_certificate(entity);
        let mechanisms = entity.word("saslMechanisms");
        let choices = client_choices(mechanisms, certified, user);
        if choices.is_empty() {
            let text = "no mechanism of 'saslMechanisms' has what it needs: PLAIN and SCRAM \
                        'saslUsername' and 'saslPassword', EXTERNAL an 'sslProfile' with a \
                        certificate";
            return Err(wrong(entity, text.into()));
        }
        let by_exchange = choices
            .iter()
            .any(|choice| choice.opening == Opening::Exchange);
        let credentials = match user.filter(|_| by_exchange) {
            None => None,
            Some((name, password)) => {
                let credentials = Credentials::new(name, password).ok_or_else(|| {
                    let text = "'saslUsername' or 'saslPassword' is empty, too long or has \
                                characters that SASLprep prohibits";
                    wrong(entity, text.into())
                })?;
                Some(Arc::new(credentials))
            }
        };
        let sasl = Some(ClientSasl {
            choices,
            hostname: Some(host.clone()),
        });
        let mut settings = self.settings(entity, SaslPolicy::Client(sasl))?;
        let routers = settings.role == Role::InterRouter;
        if routers {
            let correlator = discriminator();
            let properties = &mut Arc::make_mut(&mut settings.endpoint).properties;
            properties.insert("qd.group-correlator", correlator.as_str());
            settings.group = Some(Group {
                correlator: correlator.into(),
                ordinal: 0,
            });
        }
        Ok(ConnectorPlan {
            name: entity.name().to_owned(),
            server: Server::new(host, entity.text("port").unwrap_or("amqp")),
            settings: Arc::new(settings),
            data_connections: if routers { self.data_connections() } else { 0 },
            proxy: self.proxy(entity)?,
            family: family(entity),
            tls,
            credentials,
        })
    }

    /// How many connections a connector makes to an interior router for messages that take long:
    /// for every other worker one, unless the router entity says otherwise.
    pub(super) fn data_connections(&self) -> usize {
        let by_threads = || usize::from(self.config.worker_threads()).div_ceil(2);
        self.chosen_data_connections().unwrap_or_else(by_threads)
    }

    pub(super) fn chosen_data_connections(&self) -> Option<usize> {
        let count = self.config.singleton("router").word("dataConnectionCount");
        count.and_then(|count| count.parse().ok())
    }

    /// Tells the log how many connections for messages that take long go to each router.
    pub(crate) fn announce_data_connections(&self) {
        let (how, count) = match self.chosen_data_connections() {
            Some(count) => ("set to", count),
            None => ("calculated at", self.data_connections()),
        };
        info!(target: "ROUTER", "Inter-router data connections {how} {count}");
    }

    pub(super) fn has_certificate(&self, entity: &Entity) -> bool {
        let name = entity.word("sslProfile").unwrap_or_default();
        self.config
            .named("sslProfile", name)
            .is_some_and(|profile| profile.word("certFile").is_some())
    }

    pub(super) fn proxy(&self, connector: &Entity) -> Result<Option<Arc<Proxy>>, Invalid> {
        let Some(name) = connector.word("proxyProfile") else {
            return Ok(None);
        };
        match self.config.named("proxyProfile", name) {
            Some(entity) => proxy(entity).map(Arc::new).map(Some),
            None => Err(wrong(
                connector,
                format!("the attribute 'proxyProfile' names '{name}', which is not defined"),
            )),
        }
    }
}
