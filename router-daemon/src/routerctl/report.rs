//! The reports: from a router's rows to text or JSON. Nothing here asks a router.

use serde_json::{Value as Json, json};

use crate::client::Rows;
use crate::table::{Cell, LEAST, Style, Table, painted_title, wrap};
use crate::value::{Row, text};

#[cfg(test)]
pub(crate) mod golden;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Report {
    Status,
    Connections,
    Links,
    Addresses,
    Nodes,
    AutoLinks,
    Tcp,
    Memory,
    Log,
}

impl Report {
    /// The types of entities whose rows it shows.
    pub(crate) fn types(self) -> &'static [&'static str] {
        match self {
            Self::Status => &["router", "routerMetrics", "router.node"],
            Self::Connections => &["connection"],
            Self::Links => &["router.link"],
            Self::Addresses => &["router.address"],
            Self::Nodes => &["router.node"],
            Self::AutoLinks => &["router.config.autoLink"],
            Self::Tcp => &["tcpListener", "tcpConnector", "connection"],
            Self::Memory => &["routerMetrics", "allocator"],
            Self::Log => &["log"],
        }
    }

    /// For a reader. `found` has the rows of each of the types, in their order.
    pub(crate) fn text(self, found: &[Rows], style: Style) -> String {
        let table = |columns, none: &str| table(columns, &found[0].rows, none, style);
        match self {
            Self::Status => status(found, style),
            Self::Connections => table(CONNECTIONS, "no connections"),
            Self::Links => table(LINKS, "no links"),
            Self::Addresses => table(ADDRESSES, "no addresses"),
            Self::Nodes => table(NODES, "no other routers: this one stands alone"),
            Self::AutoLinks => table(AUTO_LINKS, "no auto links"),
            Self::Tcp => tcp(found, style),
            Self::Memory => memory(found, style),
            Self::Log => log(found, style),
        }
    }

    /// For a program: rows as the router has them, under names where there are several types. Modules
    /// of the log have what they follow DEFAULT in, too, and `followsDefault` names it.
    pub(crate) fn json(self, found: &[Rows]) -> Json {
        let rows = |index: usize| json!(found[index].rows);
        let first = |index: usize| json!(found[index].rows.first());
        match self {
            Self::Status => json!({"router": first(0), "metrics": first(1), "nodes": rows(2)}),
            Self::Tcp => {
                let connections: Vec<&Row> = of_tcp(&found[2].rows).collect();
                json!({"listeners": rows(0), "connectors": rows(1), "connections": connections})
            }
            Self::Memory => json!({"metrics": first(0), "pools": rows(1)}),
            Self::Log => log_rows(found),
            _ => rows(0),
        }
    }
}

/// Any rows, under the columns that have anything to say.
pub(crate) fn of_query(names: &[String], rows: &[Row], keep_empty: bool, style: Style) -> String {
    let says = |name: &&String| keep_empty || rows.iter().any(|row| !row[name.as_str()].is_null());
    let names: Vec<&String> = names.iter().filter(says).collect();
    let mut table = Table::new(names.iter().map(|name| name.as_str()));
    for row in rows {
        table.push(names.iter().map(|name| plain(row, name)).collect());
    }
    table.render(style)
}

/// The attributes of one entity, one a line.
pub(crate) fn of_entity(row: &Row, style: Style) -> String {
    let values = row.iter().filter(|(_, value)| !value.is_null());
    let facts: Vec<(&str, String)> = values
        .map(|(name, value)| (name.as_str(), text(value)))
        .collect();
    of_facts(&facts, style)
}

/// Names and what is to be said of them, one a line.
pub(crate) fn of_facts(facts: &[(&str, String)], style: Style) -> String {
    let widest = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| {
        let room = style
            .width
            .map(|width| width.saturating_sub(widest + 2).max(LEAST));
        format!("{name:widest$}  {}\n", Cell::text(value).shown(room))
    };
    facts.iter().map(line).collect()
}

/// A heading, and how a row's cell under it comes about.
type Column = (&'static str, fn(&Row) -> Cell);

const CONNECTIONS: &[Column] = &[
    ("id", |row| plain(row, "identity")),
    ("container", |row| plain(row, "container")),
    ("host", |row| plain(row, "host")),
    ("role", |row| plain(row, "role")),
    ("dir", |row| plain(row, "dir")),
    ("security", security),
    ("user", authentication),
    ("uptime", |row| duration(row, "uptimeSeconds")),
];

const LINKS: &[Column] = &[
    ("id", |row| plain(row, "identity")),
    ("conn", |row| plain(row, "connectionId")),
    ("type", |row| plain(row, "linkType")),
    ("dir", |row| plain(row, "linkDir")),
    ("address", |row| Cell::text(address(row, "owningAddr"))),
    ("state", |row| plain(row, "operStatus")),
    ("credit", |row| plain(row, "creditAvailable")),
    ("undelivered", |row| plain(row, "undeliveredCount")),
    ("unsettled", |row| plain(row, "unsettledCount")),
    ("deliveries", |row| plain(row, "deliveryCount")),
    ("rate", |row| plain(row, "settleRate")),
    ("accepted", |row| plain(row, "acceptedCount")),
    ("presettled", |row| plain(row, "presettledCount")),
    ("rejected", |row| plain(row, "rejectedCount")),
    ("released", |row| plain(row, "releasedCount")),
    ("modified", |row| plain(row, "modifiedCount")),
    ("dropped", |row| plain(row, "droppedPresettledCount")),
    ("name", |row| plain(row, "linkName")),
];

const ADDRESSES: &[Column] = &[
    ("address", |row| Cell::text(address(row, "key"))),
    ("class", |row| Cell::text(class(row))),
    ("distribution", |row| plain(row, "distribution")),
    ("local", |row| plain(row, "subscriberCount")),
    ("remote", |row| plain(row, "remoteCount")),
    ("in", |row| plain(row, "deliveriesIngress")),
    ("out", |row| plain(row, "deliveriesEgress")),
    ("transit", |row| plain(row, "deliveriesTransit")),
    ("priority", priority),
    ("at", |row| plain(row, "remoteHostRouters")),
];

const NODES: &[Column] = &[
    ("router", |row| plain(row, "id")),
    ("next hop", next_hop),
    ("cost", |row| plain(row, "cost")),
    ("link", |row| plain(row, "routerLink")),
    ("neighbours", |row| plain(row, "linkState")),
    ("valid origins", |row| plain(row, "validOrigins")),
];

const AUTO_LINKS: &[Column] = &[
    ("name", |row| plain(row, "name")),
    ("dir", |row| plain(row, "direction")),
    ("address", |row| plain(row, "address")),
    ("there", |row| plain(row, "externalAddress")),
    ("container", |row| plain(row, "containerId")),
    ("connector", |row| plain(row, "connection")),
    ("link", |row| plain(row, "linkRef")),
    ("state", |row| plain(row, "operStatus")),
    ("last error", |row| plain(row, "lastError")),
];

const TCP_LISTENERS: &[Column] = &[
    ("name", |row| plain(row, "name")),
    ("address", |row| plain(row, "address")),
    ("listens on", endpoint),
    ("state", |row| plain(row, "operStatus")),
    ("opened", |row| plain(row, "connectionsOpened")),
    ("closed", |row| plain(row, "connectionsClosed")),
    ("in", |row| octets(row, "bytesIn")),
    ("out", |row| octets(row, "bytesOut")),
    ("message", |row| plain(row, "connectionMsg")),
];

const TCP_CONNECTORS: &[Column] = &[
    ("name", |row| plain(row, "name")),
    ("address", |row| plain(row, "address")),
    ("connects to", endpoint),
    ("state", |row| plain(row, "operStatus")),
    ("opened", |row| plain(row, "connectionsOpened")),
    ("closed", |row| plain(row, "connectionsClosed")),
    ("in", |row| octets(row, "bytesIn")),
    ("out", |row| octets(row, "bytesOut")),
    ("message", |row| plain(row, "connectionMsg")),
];

const TCP_CONNECTIONS: &[Column] = &[
    ("id", |row| plain(row, "identity")),
    ("service", |row| plain(row, "qd.service")),
    ("address", |row| plain(row, "qd.address")),
    ("host", |row| plain(row, "host")),
    ("dir", |row| plain(row, "dir")),
    ("in", |row| octets(row, "qd.bytes-in")),
    ("out", |row| octets(row, "qd.bytes-out")),
    ("uptime", |row| duration(row, "uptimeSeconds")),
];

const POOLS: &[Column] = &[
    ("type", |row| plain(row, "typeName")),
    ("size", |row| plain(row, "typeSize")),
    ("allocated", |row| plain(row, "totalAllocFromHeap")),
    ("freed", |row| plain(row, "totalFreeToHeap")),
    ("in threads", |row| plain(row, "heldByThreads")),
];

const LOG: &[Column] = &[
    ("module", |row| plain(row, "module")),
    ("levels", levels),
    ("time", |row| plain(row, "includeTimestamp")),
    ("source", |row| plain(row, "includeSource")),
    ("file", |row| plain(row, "outputFile")),
];

fn table(columns: &[Column], rows: &[Row], none: &str, style: Style) -> String {
    if rows.is_empty() {
        return wrap(none, style.width.unwrap_or(usize::MAX));
    }
    let mut table = Table::new(columns.iter().map(|(heading, _)| *heading));
    for row in rows {
        table.push(columns.iter().map(|(_, cell)| cell(row)).collect());
    }
    table.render(style)
}

fn status(found: &[Rows], style: Style) -> String {
    let nothing = Row::new();
    let first = |index: usize| found[index].rows.first().unwrap_or(&nothing);
    let (router, metrics) = (first(0), first(1));
    let count = |name: &str| shown(metrics, name);
    let nodes = found[2].rows.len().max(1);
    let deliveries = [
        ("in", "deliveriesIngress"),
        ("out", "deliveriesEgress"),
        ("transit", "deliveriesTransit"),
    ];
    let outcomes = [
        ("accepted", "acceptedDeliveries"),
        ("rejected", "rejectedDeliveries"),
        ("released", "releasedDeliveries"),
        ("modified", "modifiedDeliveries"),
        ("presettled", "presettledDeliveries"),
        ("dropped", "droppedPresettledDeliveries"),
    ];
    let delays = [
        ("over 1 s", "deliveriesDelayed1Sec"),
        ("over 10 s", "deliveriesDelayed10Sec"),
        ("stuck", "deliveriesStuck"),
    ];
    let list = |of: &[(&str, &str)]| -> String {
        let items = of
            .iter()
            .map(|(word, name)| format!("{} {word}", count(name)));
        items.collect::<Vec<_>>().join(", ")
    };
    let facts = [
        ("router", shown(router, "id")),
        ("mode", shown(router, "mode")),
        ("version", shown(router, "version")),
        ("host", shown(router, "hostName")),
        ("workers", shown(router, "workerThreads")),
        ("uptime", duration(metrics, "uptimeSeconds").into_text()),
        ("memory", octets(metrics, "residentMemoryUsage").into_text()),
        ("connections", count("connectionCount")),
        ("links", count("linkCount")),
        ("addresses", count("addrCount")),
        ("nodes", nodes.to_string()),
        ("deliveries", list(&deliveries)),
        ("outcomes", list(&outcomes)),
        ("delayed", list(&delays)),
    ];
    of_facts(&facts, style)
}

fn tcp(found: &[Rows], style: Style) -> String {
    let parts = [
        ("Listeners", TCP_LISTENERS),
        ("Connectors", TCP_CONNECTORS),
        ("Connections", TCP_CONNECTIONS),
    ];
    let connections: Vec<Row> = of_tcp(&found[2].rows).map(with_properties).collect();
    let rows = [&found[0].rows, &found[1].rows, &connections];
    let part = |((title, columns), rows): (&(&str, &[Column]), &Vec<Row>)| {
        let table = table(columns, rows, "none", style);
        format!("{}\n{table}", painted_title(title, style))
    };
    let parts: Vec<String> = parts.iter().zip(rows).map(part).collect();
    parts.join("\n")
}

/// The first rows, with what those that follow DEFAULT get from it.
fn log(found: &[Rows], style: Style) -> String {
    const NONE: &str = "no log: the router is part of another program";
    let default = default_module(found);
    let rows: Vec<Row> = found[0]
        .rows
        .iter()
        .map(|row| following(row, &default))
        .collect();
    let mut text = table(LOG, &rows, NONE, style);
    if rows != found[0].rows {
        let note = "(…) is what DEFAULT says, which the module follows";
        text.push_str(&wrap(note, style.width.unwrap_or(usize::MAX)));
    }
    text
}

/// The same for a program.
fn log_rows(found: &[Rows]) -> Json {
    let default = default_module(found);
    let row = |row: &Row| {
        let names = followed(row, &default);
        let mut row = row.clone();
        for name in &names {
            row.insert((*name).to_owned(), default[*name].clone());
        }
        row.insert("followsDefault".to_owned(), json!(names));
        row
    };
    found[0].rows.iter().map(row).collect()
}

/// The row of DEFAULT, which is among the last ones.
fn default_module(found: &[Rows]) -> Row {
    let all = found.iter().flat_map(|one| &one.rows);
    let default = all.rev().find(|row| is_default_module(row)).cloned();
    default.unwrap_or_default()
}

/// The row of a module, with what it has not been told itself in parentheses.
fn following(row: &Row, default: &Row) -> Row {
    let mut shown = row.clone();
    for name in followed(row, default) {
        let value = match name {
            "enable" => levels(default),
            _ => plain(default, name),
        };
        let value = value.into_text();
        shown.insert(name.to_owned(), format!("({value})").into());
    }
    shown
}

/// The attributes in which a module follows DEFAULT, as far as that has them.
fn followed(row: &Row, default: &Row) -> Vec<&'static str> {
    if is_default_module(row) {
        return Vec::new();
    }
    let mut names = vec!["enable", "includeTimestamp", "includeSource", "outputFile"];
    names.retain(|name| {
        // A skrouterd has a word for it.
        let follows = row
            .get(*name)
            .is_none_or(|own| own.is_null() || own == "default");
        follows && default.get(*name).is_some_and(|value| !value.is_null())
    });
    names
}

/// A list without levels lets nothing through.
fn levels(row: &Row) -> Cell {
    match row.get("enable").and_then(Json::as_str) {
        Some("") => Cell::text("none"),
        _ => plain(row, "enable"),
    }
}

fn is_default_module(row: &Row) -> bool {
    row.get("module").and_then(Json::as_str) == Some("DEFAULT")
}

/// The rows of connections that are TCP clients' and services'.
fn of_tcp(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter()
        .filter(|row| row.get("container").and_then(Json::as_str) == Some("TcpAdaptor"))
}

/// With what a connection says of itself beyond its attributes.
fn with_properties(row: &Row) -> Row {
    let mut row = row.clone();
    if let Some(Json::Object(properties)) = row.remove("properties") {
        row.extend(properties);
    }
    row
}

fn memory(found: &[Rows], style: Style) -> String {
    let nothing = Row::new();
    let metrics = found[0].rows.first().unwrap_or(&nothing);
    let facts = [
        (
            "resident",
            octets(metrics, "residentMemoryUsage").into_text(),
        ),
        ("virtual", octets(metrics, "memoryUsage").into_text()),
    ];
    let pools = table(POOLS, &found[1].rows, "no pools of objects", style);
    format!("{}\n{pools}", of_facts(&facts, style))
}

/// A cell as the router has it.
fn plain(row: &Row, name: &str) -> Cell {
    match row.get(name) {
        Some(value @ Json::Number(_)) => Cell::number(value.to_string()),
        Some(Json::Bool(flag)) => Cell::text(if *flag { "yes" } else { "no" }),
        // Identities are numbers that came as texts.
        Some(Json::String(digits)) if is_number(digits) => Cell::number(digits.as_str()),
        value => Cell::text(value.map(text).unwrap_or_default()),
    }
}

fn shown(row: &Row, name: &str) -> String {
    plain(row, name).into_text()
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The address of a key, which begins with the letter of its class.
fn address(row: &Row, name: &str) -> String {
    let key = row.get(name).map(text).unwrap_or_default();
    key.chars().skip(1).collect()
}

fn class(row: &Row) -> String {
    let key = row.get("key").map(text).unwrap_or_default();
    match key.chars().next() {
        Some('M') => "mobile".into(),
        Some('L') => "local".into(),
        Some('T') => "topo".into(),
        Some('R' | 'A') => "router".into(),
        Some('H') => "edge".into(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Routers write -1 for none.
fn priority(row: &Row) -> Cell {
    match row.get("priority").and_then(Json::as_i64) {
        Some(priority) if priority >= 0 => Cell::number(priority.to_string()),
        _ => Cell::text(""),
    }
}

fn next_hop(row: &Row) -> Cell {
    match row.get("nextHop").map(text).unwrap_or_default() {
        hop if !hop.is_empty() => Cell::text(hop),
        _ if row.get("cost").is_some_and(Json::is_number) => Cell::text("(neighbour)"),
        _ => Cell::text("unreachable"),
    }
}

fn security(row: &Row) -> Cell {
    let part = |name| row.get(name).map(text).unwrap_or_default();
    match (part("sslProto"), part("sslCipher")) {
        (protocol, _) if protocol.is_empty() => Cell::text("none"),
        (protocol, cipher) => Cell::text(format!("{protocol} {cipher}")),
    }
}

/// Who the peer is, and by which mechanism it says so.
fn authentication(row: &Row) -> Cell {
    let part = |name| row.get(name).map(text).unwrap_or_default();
    match (part("user"), part("sasl")) {
        (user, mechanism) if user.is_empty() => Cell::text(mechanism),
        (user, mechanism) if mechanism.is_empty() => Cell::text(user),
        (user, mechanism) => Cell::text(format!("{user} ({mechanism})")),
    }
}

fn endpoint(row: &Row) -> Cell {
    let part = |name| row.get(name).map(text).unwrap_or_default();
    Cell::text(format!("{}:{}", part("host"), part("port")))
}

/// Seconds as days, hours, minutes and seconds.
fn duration(row: &Row, name: &str) -> Cell {
    let Some(seconds) = row.get(name).and_then(Json::as_u64) else {
        return Cell::text("");
    };
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    Cell::number(match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    })
}

fn octets(row: &Row, name: &str) -> Cell {
    let Some(octets) = row.get(name).and_then(Json::as_u64) else {
        return Cell::text("");
    };
    let (mut amount, mut unit) = (octets as f64, "B");
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if amount < 1024.0 {
            break;
        }
        (amount, unit) = (amount / 1024.0, larger);
    }
    Cell::number(match unit {
        "B" => format!("{octets} B"),
        unit => format!("{amount:.1} {unit}"),
    })
}
