//! From entities to what works: certificates read, patterns filed, limits computed.

mod connecting;
mod entities;
mod listening;
mod settings;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use tracing::warn;

use crate::control::address::Identity;
use crate::management::{Config, Entity, Invalid};
use crate::runtime::policies::{Governance, load_policy_dir};
use crate::runtime::router::StartError;
use crate::runtime::sasl::{Logins, SharedLogins};
use crate::runtime::tls::live::{LiveProfile, Profiles};
pub(crate) use entities::{
    address_rule, auto_link, log_settings, mesh_settings, profile_source, proxy, time_format,
    treatment,
};
pub(crate) use listening::{HttpPlan, Listening};

/// Turns entities into plans, with what they refer to in other entities.
pub(crate) struct Planner<'a> {
    config: &'a Config,
    profiles: Profiles,
    logins: SharedLogins,
}

impl<'a> Planner<'a> {
    pub(crate) fn new(config: &'a Config, profiles: &Profiles, logins: &SharedLogins) -> Self {
        Self {
            config,
            profiles: profiles.clone(),
            logins: logins.clone(),
        }
    }

    /// The users that listeners know, whose file is opened when they are first asked for.
    ///
    /// # Errors
    /// The file that the router entity leads to cannot be read.
    pub(crate) fn users(&self) -> Result<Option<Arc<Logins>>, Invalid> {
        let router = self.config.singleton("router");
        let directory = router.word("saslConfigDir").map(PathBuf::from);
        let name = router.word("saslConfigName").unwrap_or("skrouterd");
        let opened = self.logins.get_or_open(directory.as_deref(), name);
        opened.map_err(|error| wrong(router, format!("the attribute 'saslConfigDir': {error}")))
    }

    pub(crate) fn identity(&self) -> Identity {
        let router = self.config.singleton("router");
        let network = self.config.singleton("network");
        Identity {
            id: router.word("id").unwrap_or_default().to_owned(),
            edge: router.text("mode") == Some("edge"),
            network: network.word("networkId").map(str::to_owned),
            former: None,
            tenant: self.tenant().map(str::to_owned),
        }
    }

    /// `vanId` of the router is what `tenantId` of the network was called once.
    fn tenant(&self) -> Option<&str> {
        let tenant = self.config.singleton("network").word("tenantId");
        tenant.or_else(|| self.config.singleton("router").word("vanId"))
    }

    /// Tells the log of what is odd, but no mistake.
    pub(crate) fn warn_of_what_is_odd(&self) {
        for oddity in self.config.oddities() {
            warn!(target: "ROUTER", "{oddity}");
        }
    }

    /// Reads the files of every sslProfile.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub(crate) fn load_profiles(&self) -> Result<(), Invalid> {
        for entity in self.config.of("sslProfile") {
            self.profile(entity, entity.name())?;
        }
        Ok(())
    }

    pub(crate) fn profile(&self, user: &Entity, name: &str) -> Result<Arc<LiveProfile>, Invalid> {
        let Some(entity) = self.config.named("sslProfile", name) else {
            return Err(wrong(
                user,
                format!("the attribute 'sslProfile' names '{name}', which is not defined"),
            ));
        };
        self.profiles
            .get_or_load(name, profile_source(entity), Instant::now())
            .map_err(|error| match user.schema().name {
                "sslProfile" => error,
                _ => wrong(user, error.to_string()),
            })
    }
}

impl Config {
    /// Reads every file that the configuration names and makes everything ready that it needs,
    /// short of listening and connecting.
    ///
    /// # Errors
    /// The first that cannot be used: which entity and attribute, and why.
    pub fn check(&self) -> Result<(), StartError> {
        let complete = self.examine()?;
        Governance::new(&complete)?.warn_of_what_is_odd(self);
        Planner::new(self, &Profiles::default(), &SharedLogins::default()).warn_of_what_is_odd();
        Ok(())
    }

    /// The same, without a word to the log of what is only odd. Gives the configuration with the
    /// vhosts of `policyDir`.
    pub(crate) fn examine(&self) -> Result<Self, StartError> {
        let mut complete = self.clone();
        load_policy_dir(&mut complete)?;
        Governance::new(&complete)?;
        time_format(self.singleton("router"))?;
        for log in self.of("log") {
            log_settings(log)?;
        }
        let planner = Planner::new(self, &Profiles::default(), &SharedLogins::default());
        planner.users()?;
        planner.load_profiles()?;
        for listener in self.of("listener") {
            planner.listener(listener)?;
        }
        for connector in self.of("connector") {
            planner.connector(connector)?;
        }
        for listener in self.of("tcpListener") {
            planner.tcp_listener(listener)?;
        }
        for connector in self.of("tcpConnector") {
            planner.tcp_connector(connector)?;
        }
        Ok(complete)
    }
}

pub(crate) fn wrong(entity: &Entity, problem: String) -> Invalid {
    Invalid {
        entity: entity.label(),
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::endpoint::SaslPolicy;

    fn config(text: &str) -> Config {
        Config::from_text("router.conf", text).unwrap()
    }

    fn planner(config: &Config) -> Planner<'_> {
        Planner::new(config, &Profiles::default(), &SharedLogins::default())
    }

    #[test]
    fn a_tenant_has_a_former_name() {
        let tenant = |former: &str, name: &str| {
            let text = format!("router {{\n{former}}}\nnetwork {{\n{name}}}\n");
            planner(&config(&text)).identity().tenant
        };
        assert_eq!(tenant("", ""), None);
        assert_eq!(tenant(" vanId: blue\n", "").as_deref(), Some("blue"));
        let beside = tenant(" vanId: blue\n", " tenantId: red\n");
        assert_eq!(beside.as_deref(), Some("red"));
    }

    #[test]
    fn listeners_share_the_users_whenever_they_come() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("skrouterd.users");
        let path = directory.path().display();
        let config = config(&format!("router {{\n saslConfigDir: {path}\n}}\n"));
        let logins = SharedLogins::default();
        let users = || Planner::new(&config, &Profiles::default(), &logins).users();
        assert!(users().unwrap().is_none(), "there is no file yet");
        std::fs::write(&file, "nonsense\n").unwrap();
        assert!(users().is_err());
        std::fs::write(&file, "# amqp-router users 1\n").unwrap();
        let first = users().unwrap().expect("a file");
        std::fs::write(&file, "nonsense\n").unwrap();
        let later = users().unwrap().expect("it is open");
        assert!(Arc::ptr_eq(&first, &later));
    }

    #[test]
    fn a_log_follows_the_default_or_is_silent() {
        let settings = |enable: &str| {
            let config = config(&format!("log {{\n module: SERVER\n{enable}}}\n"));
            let entity = config.of("log").next().unwrap();
            log_settings(entity).unwrap().1.enable
        };
        assert_eq!(settings(""), None);
        assert_eq!(settings(" enable: default\n"), None);
        assert_eq!(settings(" enable: \n"), Some("none".parse().unwrap()));
        assert_eq!(
            settings(" enable: error+\n"),
            Some("error+".parse().unwrap())
        );
    }

    #[test]
    fn components_of_messages_are_known_ones() {
        for entity in ["listener", "connector"] {
            let check = |components: &str| {
                let attribute = format!(" messageLoggingComponents: {components}");
                config(&format!(
                    "{entity} {{\n name: x\n port: 1\n{attribute}\n}}\n"
                ))
                .check()
            };
            check("to, message-id").unwrap();
            let error = check("to,mesage-id").unwrap_err().to_string();
            let parts = [
                &format!("{entity} 'x'"),
                "'messageLoggingComponents' is 'to,mesage-id'",
                "'mesage-id' is none of them; did you mean 'message-id'?",
            ];
            for part in parts {
                assert!(error.contains(part), "{part} in {error}");
            }
        }
    }

    #[test]
    fn annotations_stay_where_they_are_not_stripped() {
        let annotated = |attribute: &str| {
            let config = config(&format!("listener {{\n port: 1\n{attribute}}}\n"));
            let listener = config.of("listener").next().unwrap();
            let settings = planner(&config).settings(listener, SaslPolicy::default());
            let annotated = settings.unwrap().annotated;
            (annotated.incoming, annotated.outgoing)
        };
        assert_eq!(annotated(""), (false, false));
        for (stripped, expected) in [
            ("both", (false, false)),
            ("in", (false, true)),
            ("out", (true, false)),
            ("no", (true, true)),
        ] {
            let attribute = format!(" stripAnnotations: {stripped}\n");
            assert_eq!(annotated(&attribute), expected, "{stripped}");
        }
    }

    #[test]
    fn sessions_are_as_many_as_a_listener_says() {
        let limits = |attribute: &str| {
            let config = config(&format!("listener {{\n name: l\n port: 0\n{attribute}}}\n"));
            let planner = planner(&config);
            let listener = config.of("listener").next().unwrap();
            let endpoint = planner.settings(listener, SaslPolicy::default());
            let endpoint = endpoint.unwrap().endpoint;
            (endpoint.channel_max, endpoint.limits.max_sessions)
        };
        assert_eq!(limits(""), (32_767, 1024));
        assert_eq!(limits(" maxSessions: 0\n"), (32_767, 1024));
        assert_eq!(limits(" maxSessions: 5\n"), (4, 5));
        assert_eq!(limits(" maxSessions: 1000\n"), (999, 1000));
    }
}
