//! What entities must be, by themselves and beside others, beyond the kinds of their attributes
//! (`reference/router/config-and-management.md` §2).

use crate::control::address::MAX_ROUTER_ID_LEN;
use crate::management::config::{Config, hosts};
use crate::management::entity::{Entity, closest, show};
use crate::policy::Vhost;

/// What is wrong with one entity by itself.
pub(super) fn alone(entity: &Entity) -> Result<(), String> {
    match entity.schema().name {
        "router" => router(entity),
        "network" => network(entity),
        "listener" => {
            listening_host(entity)?;
            failover(entity)?;
            connection(entity)
        }
        "connector" => connection(entity),
        "router.config.address" => address(entity),
        "router.config.autoLink" => auto_link(entity),
        "sslProfile" => {
            named(entity)?;
            ordinals(entity)
        }
        "proxyProfile" => named(entity),
        "tcpListener" => {
            limits(entity, &["backlog", "maxConnections"])?;
            let several = entity.text("multiAddressStrategy") != Some("none");
            if several == entity.word("address").is_some() {
                return Err("Configuration: Exactly one of the 'address' or \
                            'multiAddressStrategy' field must be set"
                    .into());
            }
            required(entity, "port")
        }
        "tcpConnector" => {
            if entity.word("address").is_none() {
                return Err("Configuration: Address must be set: the attribute 'address'".into());
            }
            required(entity, "port")
        }
        "listenerAddress" => within(entity, "value", 0, MAX),
        "policy" => {
            within(entity, "maxConnections", 0, MAX)?;
            within(entity, "maxConnectionsPerHost", 0, MAX)?;
            within(entity, "maxMessageSize", 0, i64::MAX)
        }
        "vhost" => Vhost::read(|name| entity.get(name)).map(drop),
        _ => Ok(()),
    }
}

/// The name of a network is a segment of addresses, in which 0 stands for whichever it is in.
fn network(entity: &Entity) -> Result<(), String> {
    match entity.word("networkId") {
        Some(id) if id == "0" || id.contains('/') => Err(format!(
            "the attribute 'networkId' is '{}', but must be without '/', and not 0",
            id.escape_debug()
        )),
        _ => Ok(()),
    }
}

fn router(entity: &Entity) -> Result<(), String> {
    let id = entity.word("id").unwrap_or_default();
    let hint = "the attribute 'id' must not contain '|', '$', blanks or control characters";
    if let Some(bad) = id.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "Router id attribute containing character '{}' in id '{}' is disallowed: {hint}",
            bad.escape_debug(),
            id.escape_debug()
        ));
    }
    if id.contains(['|', '$']) {
        return Err(format!(
            "Router ID \"{id}\" containes at least one illegal character (\"|$\"): {hint}"
        ));
    }
    if id.len() > MAX_ROUTER_ID_LEN {
        let octets = id.len();
        return Err(format!(
            "the attribute 'id' has {octets} octets, but must have at most {MAX_ROUTER_ID_LEN}"
        ));
    }
    within(entity, "maxMemoryMegabytes", 0, MAX)?;
    let connections = entity.word("dataConnectionCount").unwrap_or("auto");
    let sensible = |count: u16| count <= DATA_CONNECTIONS_MAX;
    if connections != "auto" && !connections.parse().is_ok_and(sensible) {
        return Err(format!(
            "the attribute 'dataConnectionCount' is '{connections}', but must be auto or 0 to \
             {DATA_CONNECTIONS_MAX}"
        ));
    }
    for interval in [
        "helloIntervalSeconds",
        "helloMaxAgeSeconds",
        "raIntervalSeconds",
        "raIntervalFluxSeconds",
        "remoteLsMaxAgeSeconds",
    ] {
        within(entity, interval, 1, MAX)?;
    }
    within(entity, "unreachableHoldoffSeconds", 0, MAX)?;
    within(entity, "workerThreads", 1, 1024)
}

fn address(entity: &Entity) -> Result<(), String> {
    let (is_prefix, text) = match (entity.text("prefix"), entity.text("pattern")) {
        (Some(prefix), None) => (true, prefix),
        (None, Some(pattern)) => (false, pattern),
        (None, None) => {
            return Err("Either a 'prefix' or 'pattern' attribute must be provided".into());
        }
        (Some(_), Some(_)) => {
            return Err("Cannot specify both a 'prefix' and a 'pattern' attribute".into());
        }
    };
    let (attribute, word) = match is_prefix {
        true => ("prefix", "Prefix"),
        false => ("pattern", "Pattern"),
    };
    if text.is_empty() {
        return Err(format!(
            "{word} must be a non-empty string type: the attribute '{attribute}' is ''"
        ));
    }
    if text.trim_matches(['.', '/']).is_empty() {
        return Err(format!(
            "{word} invalid - no tokens: the attribute '{attribute}' is '{text}'"
        ));
    }
    match entity.integer("priority") {
        // READ says -1 where there is none.
        None | Some(-1..=9) => Ok(()),
        Some(priority) => Err(format!(
            "Priority value, if present, must be between 0 and QDR_MAX_PRIORITY, which is 9: the \
             attribute 'priority' is {priority}"
        )),
    }
}

fn auto_link(entity: &Entity) -> Result<(), String> {
    let has = |attribute| entity.word(attribute).is_some();
    if has("connection") && has("containerId") {
        return Err("Both connection and containerId cannot be specified. Specify only one".into());
    }
    if entity.text("direction") == Some("out") && !has("address") {
        return Err(
            "address field is only optional if direction is incoming: set the attribute 'address'"
                .into(),
        );
    }
    Ok(())
}

fn ordinals(entity: &Entity) -> Result<(), String> {
    let [newest, oldest] =
        ["ordinal", "oldestValidOrdinal"].map(|name| entity.integer(name).unwrap_or(0));
    let name = entity.name();
    if newest < 0 || oldest < 0 {
        return Err(format!(
            "Configuration: Negative ordinal field values are invalid (sslProfile '{name}'): \
             'ordinal' is {newest}, 'oldestValidOrdinal' {oldest}"
        ));
    }
    if newest < oldest {
        return Err(format!(
            "Configuration: ordinal must be >= oldestValidOrdinal (sslProfile '{name}'): they \
             are {newest} and {oldest}"
        ));
    }
    within(entity, "ordinal", 0, MAX)
}

/// Nobody can listen at a host that cannot be.
fn listening_host(entity: &Entity) -> Result<(), String> {
    let host = entity.word("host").filter(|host| *host != "*");
    match host.and_then(|host| Some((host, hosts::unfit(host)?))) {
        Some((host, why)) => Err(format!(
            "the attribute 'host' is '{}', but must be a host name or an IP address: {why}",
            host.escape_debug()
        )),
        None => Ok(()),
    }
}

fn failover(entity: &Entity) -> Result<(), String> {
    let list = entity.word("failoverUrls").unwrap_or_default();
    match hosts::substitutes(list).any(|server| server.host.is_empty()) {
        true => Err(format!(
            "No network host in failover item: the attribute 'failoverUrls' is '{}', but must be \
             servers like amqps://host:port, separated by commas",
            list.escape_debug()
        )),
        false => Ok(()),
    }
}

/// What listeners and connectors have in common.
fn connection(entity: &Entity) -> Result<(), String> {
    if let Some(cost) = entity.integer("cost")
        && !(1..=MAX).contains(&cost)
    {
        return Err(format!(
            "Configuration: Invalid cost ({cost}) specified. Minimum value for cost is 1 and \
             maximum value is {MAX}"
        ));
    }
    within(entity, "maxSessions", 0, 32_768)?;
    within(entity, "idleTimeoutSeconds", 0, 86_400)?;
    within(entity, "initialHandshakeTimeoutSeconds", 0, 86_400)?;
    limits(entity, &["linkCapacity"])?;
    for (attribute, least) in [("maxFrameSize", 512), ("maxSessionFrames", 2)] {
        match entity.integer(attribute) {
            Some(value) if value != 0 && !(least..=MAX).contains(&value) => {
                return Err(format!(
                    "Configuration: Invalid {attribute} specified ({value}). Minimum value is \
                     {least} and maximum value is {MAX}"
                ));
            }
            _ => {}
        }
    }
    let port = entity.text("port").unwrap_or_default();
    if !matches!(port, "amqp" | "amqps") && port.parse::<u16>().is_err() {
        return Err(format!(
            "the attribute 'port' is '{port}', but must be amqp, amqps or 0 to 65535"
        ));
    }
    mechanisms(entity)?;
    open_properties(entity)
}

/// A list of mechanisms of which none is known would keep everybody out.
fn mechanisms(entity: &Entity) -> Result<(), String> {
    let Some(names) = entity.word("saslMechanisms") else {
        return Ok(());
    };
    let is_known = |name: &str| {
        let mut known = SASL_MECHANISMS.iter();
        known.any(|known| known.eq_ignore_ascii_case(name))
    };
    match names.trim().is_empty() || names.split([' ', ',', '\t']).any(is_known) {
        true => Ok(()),
        false => Err(format!(
            "the attribute 'saslMechanisms' is '{names}', but must name some of {}",
            SASL_MECHANISMS.join(", ")
        )),
    }
}

/// Properties of the router's own that configuration may not speak for, and keys that are no
/// symbols (AMQP 2.7.1).
fn open_properties(entity: &Entity) -> Result<(), String> {
    let properties = entity.get("openProperties").as_map().unwrap_or_default();
    for (key, _) in properties {
        let Some(name) = key.as_str().filter(|name| name.is_ascii()) else {
            return Err(format!(
                "Property keys must be ASCII encoded: the attribute 'openProperties' has the key \
                 {}, but must have keys that are texts of ASCII characters",
                show(key)
            ));
        };
        let why = match RESERVED_PREFIXES.iter().find(|own| name.starts_with(**own)) {
            Some(own) => format!("keys must not begin with '{own}', as the router's own do"),
            None if RESERVED.contains(&name) => {
                "the router sets it itself, and the attribute must be without it".to_owned()
            }
            None => continue,
        };
        let key = show(key);
        return Err(format!(
            "Reserved key {key} not allowed in openProperties: {why}"
        ));
    }
    let role = entity.text("role").unwrap_or_default();
    match properties.first() {
        Some((key, _)) if matches!(role, "inter-router" | "edge") => Err(format!(
            "openProperties not allowed for role {role}: the attribute 'openProperties' has the \
             key {}, but must be empty between routers, or role be normal or route-container",
            show(key)
        )),
        _ => Ok(()),
    }
}

/// Why the listener of a further address can have none.
fn single(entity: &Entity, config: &Config) -> Option<String> {
    let listener = config.named("tcpListener", entity.word("listener")?)?;
    let is_single = listener.text("multiAddressStrategy") == Some("none");
    is_single.then(|| {
        let name = listener.name();
        format!(
            "Must not assign new address to non multi-address listener: 'multiAddressStrategy' of \
             tcpListener '{name}' is 'none', but must be 'priority' or 'weighted'"
        )
    })
}

/// An entity that it refers to and that is not there.
pub(super) fn dangling(entity: &Entity, config: &Config) -> Option<String> {
    let missing = |attribute: &str, kind: &'static str| {
        let name = entity.word(attribute)?;
        if config.named(kind, name).is_some() {
            return None;
        }
        let hint = meant(name, kind, config);
        Some(match kind {
            "tcpListener" => {
                format!("Listener for new address does not exist {name}: see '{attribute}'{hint}")
            }
            _ => format!("{kind} '{name}' not found: see the attribute '{attribute}'{hint}"),
        })
    };
    let listener = (entity.schema().name == "listenerAddress")
        .then(|| missing("listener", "tcpListener").or_else(|| single(entity, config)))
        .flatten();
    missing("sslProfile", "sslProfile")
        .or_else(|| missing("proxyProfile", "proxyProfile"))
        .or(listener)
}

/// Which entity of the kind may be meant by a name that none has.
fn meant(name: &str, kind: &str, config: &Config) -> String {
    let names = || config.of(kind).map(Entity::name);
    if let Some(close) = closest(name, names()) {
        return format!("; did you mean '{close}'?");
    }
    let mut listed: Vec<_> = names()
        .take(NAMES_LISTED)
        .map(|n| format!("'{n}'"))
        .collect();
    if names().nth(NAMES_LISTED).is_some() {
        listed.push("others".into());
    }
    match &listed[..] {
        [] => format!("; there is no {kind}"),
        [one] => format!("; there is only {one}"),
        [most @ .., last] => format!("; there are {} and {last}", most.join(", ")),
    }
}

/// Why a router of this mode cannot have the entity.
pub(super) fn misplaced(entity: &Entity, mode: &str) -> Option<String> {
    let kind = entity.schema().name;
    if !matches!(kind, "listener" | "connector") {
        return None;
    }
    let role = entity.word("role")?;
    let listener = kind == "listener";
    let fits = match (mode, role) {
        (_, "normal" | "route-container" | "inter-network") => true,
        ("interior", "inter-router") => true,
        ("interior", "edge") => listener,
        ("edge", "edge") => !listener,
        ("edge", "inter-edge") => true,
        _ => false,
    };
    if fits {
        return None;
    }
    let refusal = match (mode, role) {
        ("standalone", "inter-router" | "edge") => {
            "role='standalone' not allowed to connect to or accept connections from other routers. "
        }
        (_, "inter-router") => "role='inter-router' only allowed with router mode='interior'. ",
        (_, "edge") if listener => "role='edge' only allowed with router mode='interior'. ",
        _ => "",
    };
    Some(format!(
        "{refusal}The attribute 'role' is '{role}', which a router with mode '{mode}' cannot have"
    ))
}

fn required(entity: &Entity, attribute: &str) -> Result<(), String> {
    match entity.word(attribute) {
        Some(_) => Ok(()),
        None => Err(format!("Missing required attribute '{attribute}'")),
    }
}

fn named(entity: &Entity) -> Result<(), String> {
    match entity.word("name") {
        Some(_) => Ok(()),
        None => Err("Missing required attribute 'name'".into()),
    }
}

fn limits(entity: &Entity, attributes: &[&str]) -> Result<(), String> {
    attributes
        .iter()
        .try_for_each(|attribute| within(entity, attribute, 0, MAX))
}

fn within(entity: &Entity, attribute: &str, low: i64, high: i64) -> Result<(), String> {
    match entity.integer(attribute) {
        Some(value) if !(low..=high).contains(&value) => Err(format!(
            "the attribute '{attribute}' is {value}, but must be {low} to {high}"
        )),
        _ => Ok(()),
    }
}

/// The largest number of most attributes.
const MAX: i64 = i32::MAX as i64;

/// Entities that are told of to whoever names one that is not there.
const NAMES_LISTED: usize = 8;

/// More than any machine has use for.
const DATA_CONNECTIONS_MAX: u16 = 128;

/// Properties that routers set, besides those that start with `qd.` or `x-opt-qd.`.
const RESERVED: &[&str] = &[
    "product",
    "version",
    "failover-server-list",
    "network-host",
    "port",
    "scheme",
    "hostname",
];
/// What other keys of the router's own begin with.
const RESERVED_PREFIXES: [&str; 2] = ["qd.", "x-opt-qd."];

/// The SASL mechanisms that the router speaks, the best first.
pub(crate) const SASL_MECHANISMS: [&str; 6] = [
    "EXTERNAL",
    "SCRAM-SHA-512",
    "SCRAM-SHA-256",
    "SCRAM-SHA-1",
    "PLAIN",
    "ANONYMOUS",
];
