//! What other entities come to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tracing::warn;

use crate::control::auto_links::{AutoLinkRule, Peer};
use crate::control::links::AddressRule;
use crate::control::table::{Direction, Treatment};
use crate::management::{Config, Entity, Invalid};
use crate::mesh;
use crate::runtime::listener::port_number;
use crate::runtime::log::{Levels, Module, Settings, TimeFormat};
use crate::runtime::plan::wrong;
use crate::runtime::proxy::{Protocol, Proxy};
use crate::runtime::secret;
use crate::runtime::tls::live::Source;
use crate::runtime::tls::{ProfileSettings, TlsProfile};

/// How an sslProfile is read, now and whenever its files change.
pub(crate) fn profile_source(entity: &Entity) -> Source {
    let files = [
        "certFile",
        "privateKeyFile",
        "caCertFile",
        "uidNameMappingFile",
    ];
    let password = entity
        .word("password")
        .and_then(|text| text.strip_prefix("file:"));
    let ordinal = entity.integer("ordinal").unwrap_or(0);
    Source {
        files: files
            .into_iter()
            .filter_map(|attribute| entity.word(attribute))
            .chain(password)
            .map(PathBuf::from)
            .collect(),
        ordinal: u64::try_from(ordinal).unwrap_or(0),
        load: {
            let entity = entity.clone();
            Arc::new(move || load_profile(&entity))
        },
    }
}

/// Reads the files of an sslProfile.
pub(crate) fn load_profile(entity: &Entity) -> Result<TlsProfile, Invalid> {
    let path = |attribute: &str| entity.word(attribute).map(PathBuf::from);
    let text = |attribute: &str| entity.word(attribute).map(str::to_owned);
    warn_if_bare(entity, "password", true);
    let password = entity
        .word("password")
        .map(|text| secret::resolve(text, true))
        .transpose()
        .map_err(|error| wrong(entity, format!("the attribute 'password': {error}")))?;
    TlsProfile::load(&ProfileSettings {
        name: entity.name().to_owned(),
        cert_file: path("certFile"),
        private_key_file: path("privateKeyFile"),
        password,
        ca_cert_file: path("caCertFile"),
        protocols: text("protocols"),
        ciphers: text("ciphers"),
        uid_format: text("uidFormat"),
        uid_name_mapping_file: path("uidNameMappingFile"),
    })
    .map_err(|error| wrong(entity, error.problem()))
}

/// A password that everyone who reads the configuration can read deserves a word.
pub(super) fn warn_if_bare(entity: &Entity, attribute: &str, literal_allowed: bool) {
    if let Some(text) = entity.word(attribute)
        && secret::is_bare(text, literal_allowed)
    {
        warn!(
            target: "SERVER",
            "{}: the attribute '{attribute}' is a password in clear; use 'env:NAME', 'file:PATH' \
             or, if it must be, 'pass:TEXT'",
            entity.label(),
        );
    }
}

/// What a proxyProfile says.
///
/// # Errors
/// Where the proxy is does not stand in it, or its password cannot be had.
pub(crate) fn proxy(entity: &Entity) -> Result<Proxy, Invalid> {
    let required = |attribute: &str| {
        let problem = format!("the attribute '{attribute}' is required where a connector uses it");
        entity.word(attribute).ok_or_else(|| wrong(entity, problem))
    };
    let port = required("port")?;
    let port = port_number(port)
        .map_err(|error| wrong(entity, format!("the attribute 'port': {error}")))?;
    warn_if_bare(entity, "password", true);
    let password = entity.word("password").unwrap_or("pass:");
    let password = secret::resolve(password, true)
        .map_err(|error| wrong(entity, format!("the attribute 'password': {error}")))?;
    Ok(Proxy {
        name: entity.name().to_owned(),
        host: required("host")?.to_owned(),
        port,
        protocol: match entity.text("protocol") {
            Some("socks5") => Protocol::Socks5,
            _ => Protocol::Http,
        },
        login: entity
            .word("username")
            .map(|user| (user.to_owned(), password)),
    })
}

/// How a `log` entity has its module log.
pub(crate) fn log_settings(entity: &Entity) -> Result<(Module, Settings), Invalid> {
    let module = entity.word("module").and_then(Module::from_name);
    let module = module.ok_or_else(|| wrong(entity, "the attribute 'module' is unknown".into()))?;
    // An empty list is one: it lets nothing through.
    let levels = match entity.text("enable") {
        None | Some("default") => None,
        Some(levels) => Some(levels.parse::<Levels>().map_err(|error| {
            wrong(
                entity,
                format!("the attribute 'enable': {error}, or 'default'"),
            )
        })?),
    };
    let settings = Settings {
        enable: levels,
        include_timestamp: entity.get("includeTimestamp").as_bool(),
        include_source: entity.get("includeSource").as_bool(),
        output_file: entity.text("outputFile").map(str::to_owned),
    };
    Ok((module, settings))
}

/// How the log shows the time.
pub(crate) fn time_format(router: &Entity) -> Result<TimeFormat, Invalid> {
    let format = router.word("timestampFormat");
    TimeFormat::new(format, router.flag("timestampsInUTC"))
        .map_err(|error| wrong(router, error.to_string()))
}

/// The rule that an address entity makes.
pub(crate) fn address_rule(entity: &Entity) -> AddressRule {
    AddressRule {
        treatment: treatment(entity.text("distribution")),
        priority: entity
            .integer("priority")
            .and_then(|n| u8::try_from(n).ok()),
    }
}

/// How the routing protocol is to go, if the router is part of a network.
pub(crate) fn mesh_settings(config: &Config) -> Option<mesh::Settings> {
    let router = config.singleton("router");
    if router.text("mode") != Some("interior") {
        return None;
    }
    let started = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = |attribute: &str, usual: u64| {
        let given = router
            .integer(attribute)
            .and_then(|n| u64::try_from(n).ok());
        Duration::from_secs(given.unwrap_or(usual).max(1))
    };
    Some(mesh::Settings {
        id: router.word("id").unwrap_or_default().to_owned(),
        // skrouterd counts seconds; but a supervisor may start a router twice in one.
        instance: started.map_or(0, |started| started.as_millis() as i64),
        hello_interval: seconds("helloIntervalSeconds", 1),
        hello_max_age: seconds("helloMaxAgeSeconds", 3),
        ra_interval: seconds("raIntervalSeconds", 30),
        ra_interval_flux: seconds("raIntervalFluxSeconds", 4),
        remote_ls_max_age: seconds("remoteLsMaxAgeSeconds", 60),
        unreachable_holdoff: seconds("unreachableHoldoffSeconds", 1),
        max_routers: MAX_ROUTERS,
    })
}

pub(crate) fn treatment(word: Option<&str>) -> Treatment {
    match word {
        Some("multicast") => Treatment::Multicast,
        Some("closest") => Treatment::Closest,
        Some("unavailable") => Treatment::Unavailable,
        _ => Treatment::Balanced,
    }
}

/// What an `autoLink` entity asks for.
pub(crate) fn auto_link(entity: &Entity) -> AutoLinkRule {
    let word = |attribute| entity.word(attribute).map(str::to_owned);
    let connection = word("connection").map(Peer::Connection);
    let container = || word("containerId").map(Peer::Container);
    AutoLinkRule {
        name: entity.name().to_owned(),
        direction: match entity.text("direction") {
            Some("out") => Direction::Outgoing,
            _ => Direction::Incoming,
        },
        address: word("address"),
        external: word("externalAddress"),
        peer: connection.or_else(container).unwrap_or(Peer::Nobody),
    }
}

/// Other routers that one router knows at most.
const MAX_ROUTERS: usize = 4096;
