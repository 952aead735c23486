//! TCP services and the entities that describe them.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::{
    ALPN, Around, ServerTls, Strategy, TargetPlan, TcpConnectorPlan, TcpListenerPlan, TcpServices,
    Terms,
};
use crate::adaptors::tcp::{TcpService, TcpStatus};
use crate::management::{Entity, Invalid};
use crate::observers::Watch;
use crate::runtime::listener::{BindAddress, port_number};
use crate::runtime::manage::{plain, show_closing};
use crate::runtime::plan::{Planner, wrong};
use crate::runtime::service::Service;
use crate::runtime::tls::ClientCertificate;
use crate::runtime::tls::live::Derived;

impl Planner<'_> {
    /// # Errors
    /// A file that its profile names cannot be used.
    pub(crate) fn tcp_listener(&self, entity: &Entity) -> Result<TcpListenerPlan, Invalid> {
        let tls = match entity.word("sslProfile") {
            None if entity.flag("authenticatePeer") => {
                let text = "the attribute 'authenticatePeer' needs an 'sslProfile'";
                return Err(wrong(entity, text.into()));
            }
            None => None,
            Some(profile) => {
                let profile = self.profile(entity, profile)?;
                let wanted = match entity.flag("authenticatePeer") {
                    true => ClientCertificate::Required,
                    false => ClientCertificate::NotAsked,
                };
                let now = Instant::now();
                let derive = |alpn: &'static [&'static [u8]]| {
                    let profile = Arc::clone(&profile);
                    let made = Derived::new(profile, now, move |p| p.acceptor(wanted, alpn));
                    made.map_err(|error| wrong(entity, error.to_string()))
                };
                Some(Arc::new(ServerTls {
                    with_alpn: derive(&ALPN)?,
                    without: derive(&[])?,
                }))
            }
        };
        let port = tcp_port(entity)?;
        Ok(TcpListenerPlan {
            name: entity.name().to_owned(),
            bind: BindAddress {
                entity: entity.label(),
                host: entity.text("host").unwrap_or_default().to_owned(),
                port: port.to_string(),
                family: None,
                backlog: u32::try_from(unsigned(entity, "backlog")).unwrap_or(0),
            },
            strategy: Strategy::of(entity.text("multiAddressStrategy")),
            address: entity.word("address").map(|address| self.tenanted(address)),
            terms: Terms {
                tls,
                max_connections: unsigned(entity, "maxConnections"),
            },
            watch: Watch::of(entity.text("observer")),
        })
    }

    /// # Errors
    /// A file that its profile names cannot be used.
    pub(crate) fn tcp_connector(&self, entity: &Entity) -> Result<TcpConnectorPlan, Invalid> {
        let tls = match entity.word("sslProfile") {
            None => None,
            Some(profile) => {
                let profile = self.profile(entity, profile)?;
                let verify = entity.flag("verifyHostname");
                let derived = Derived::new(profile, Instant::now(), move |profile| {
                    profile.connector(verify, &[])
                });
                Some(derived.map_err(|error| wrong(entity, error.to_string()))?)
            }
        };
        Ok(TcpConnectorPlan {
            name: entity.name().to_owned(),
            address: self.tenanted(entity.word("address").unwrap_or_default()),
            host: entity.word("host").unwrap_or("127.0.0.1").to_owned(),
            port: tcp_port(entity)?,
            process: entity.word("processId").map(str::to_owned),
            tls,
        })
    }

    fn tenanted(&self, address: &str) -> String {
        match self.identity().tenant {
            Some(tenant) => format!("{tenant}/{address}"),
            None => address.to_owned(),
        }
    }
}

/// A number that cannot be negative; 0 if it is not there.
fn unsigned(entity: &Entity, attribute: &str) -> u64 {
    let number = entity.integer(attribute).unwrap_or(0);
    u64::try_from(number).unwrap_or(0)
}

/// The port of a TCP service: a number, or a name that the system knows.
fn tcp_port(entity: &Entity) -> Result<u16, Invalid> {
    let port = entity.text("port").unwrap_or_default();
    let known = std::fs::read_to_string("/etc/services").unwrap_or_default();
    let number = port_number(port).or_else(|error| service_port(&known, port).ok_or(error));
    number.map_err(|_: io::Error| {
        let text = format!("the attribute 'port' is '{port}': use 0 to 65535, or a service's name");
        wrong(entity, text)
    })
}

/// The TCP port of a service in the system's list of them.
fn service_port(list: &str, name: &str) -> Option<u16> {
    list.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let first = words.next()?;
        let port = words.next()?.strip_suffix("/tcp")?;
        let named = first == name || words.any(|alias| alias == name);
        named.then(|| port.parse().ok())?
    })
}

impl Service {
    /// Puts a TCP entity to work.
    ///
    /// # Errors
    /// A file that its profile names cannot be used.
    pub(crate) fn start_tcp(
        &mut self,
        planner: &Planner<'_>,
        entity: &Entity,
    ) -> Result<(), Invalid> {
        let (tcp, around) = &mut self.tcp_around();
        match entity.schema().name {
            "tcpListener" => {
                let plan = planner.tcp_listener(entity)?;
                tcp.listen(plan, around);
            }
            "tcpConnector" => {
                let plan = planner.tcp_connector(entity)?;
                tcp.connect(plan, around);
            }
            _ => {
                let value = entity.integer("value");
                let plan = TargetPlan {
                    name: entity.name().to_owned(),
                    listener: entity.word("listener").unwrap_or_default().to_owned(),
                    address: entity.word("address").unwrap_or_default().to_owned(),
                    value: value.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
                };
                tcp.add_target(plan, around);
            }
        }
        Ok(())
    }

    /// Has a TCP entity be what it is now; its connections stay as they are.
    ///
    /// # Errors
    /// A file that its profile names cannot be used.
    pub(crate) fn update_tcp(
        &mut self,
        planner: &Planner<'_>,
        entity: &Entity,
    ) -> Result<(), Invalid> {
        let (tcp, around) = &mut self.tcp_around();
        match entity.schema().name {
            "tcpListener" => tcp.update_listener(planner.tcp_listener(entity)?, around),
            _ => tcp.update_connector(planner.tcp_connector(entity)?, around),
        }
        Ok(())
    }

    fn tcp_around(&mut self) -> (&mut TcpServices, Around<'_>) {
        let around = Around {
            control: &mut self.control,
            workers: &self.workers,
            telemetry: &mut self.telemetry,
            sources: &self.sources,
        };
        (&mut self.tcp, around)
    }

    /// Ends what a TCP entity was at work for.
    pub(crate) fn stop_tcp(&mut self, entity: &Entity, drop_connections: bool) {
        let name = entity.name();
        let (tcp, around) = &mut self.tcp_around();
        match entity.schema().name {
            "tcpListener" => {
                tcp.stop_listening(name, drop_connections, around);
            }
            "tcpConnector" => {
                tcp.stop_connecting(name, drop_connections, around);
            }
            _ => {
                let listener = entity.word("listener").unwrap_or_default();
                tcp.remove_target(listener, name, around);
            }
        }
    }

    /// Fills in what a TCP entity has to show of itself at work.
    pub(crate) fn show_tcp(&self, entity: &mut Entity) {
        match entity.schema().name {
            "tcpListener" => {
                if let Some(status) = self.tcp.listener(entity.name()) {
                    show_counts(entity, status.service);
                    entity.set("operStatus", oper_status(status.up));
                    entity.set("connectionMsg", status.message);
                }
            }
            "tcpConnector" => {
                if let Some(connector) = self.tcp.connector(entity.name()) {
                    let trouble = connector.trouble();
                    show_counts(entity, &connector.service);
                    entity.set("operStatus", oper_status(trouble.is_none()));
                    entity.set("connectionMsg", trouble);
                }
            }
            "listenerAddress" => {
                let listener = entity.word("listener").unwrap_or_default();
                let opened = self.tcp.opened_to(listener, entity.name());
                entity.set("connectionsOpened", opened.map(integer));
            }
            _ => {}
        }
    }
}

fn oper_status(up: bool) -> &'static str {
    if up { "up" } else { "down" }
}

fn show_counts(entity: &mut Entity, service: &TcpService) {
    let counts = &service.counts;
    for (attribute, counted) in [
        ("connectionsOpened", &counts.opened),
        ("connectionsClosed", &counts.closed),
        ("bytesIn", &counts.octets_in),
        ("bytesOut", &counts.octets_out),
    ] {
        entity.set(attribute, integer(counted.load(Ordering::Relaxed)));
    }
}

/// What the `connection` entity of a TCP connection shows.
pub(crate) fn show_connection(entity: &mut Entity, status: &TcpStatus, now: Instant) {
    let direction = if status.incoming { "in" } else { "out" };
    entity.set("name", format!("connection/{}", status.host));
    entity.set("identity", status.id.to_string());
    show_closing(entity, status.closing);
    entity.set("protocol", "tcp");
    entity.set("opened", true);
    entity.set("host", status.host.as_str());
    entity.set("localSocket", status.local.map(|local| local.to_string()));
    entity.set("container", "TcpAdaptor");
    entity.set("role", "normal");
    entity.set("dir", direction);
    let tls = status.tls.as_deref();
    let user = tls.and_then(|tls| tls.user.clone());
    // Who connects to a service has checked who it is, and is not known to it.
    entity.set("isAuthenticated", status.incoming && user.is_some());
    entity.set("user", user);
    entity.set("isEncrypted", tls.is_some());
    entity.set("enableProtocolTrace", false);
    entity.set("ssl", tls.is_some());
    entity.set("sslProto", tls.map(|tls| tls.protocol));
    entity.set("sslCipher", tls.map(|tls| tls.cipher));
    entity.set("sslSsf", tls.map_or(0, |tls| i64::from(tls.strength)));
    entity.set("tlsOrdinal", tls.map(|tls| integer(tls.ordinal)));
    let since = status.opened.map(|opened| now.duration_since(opened));
    entity.set(
        "uptimeSeconds",
        since.map_or(0, |since| integer(since.as_secs())),
    );
    let mut properties = crate::codec::Fields::new();
    properties.insert("qd.adaptor", "tcp");
    properties.insert("qd.address", status.address.as_str());
    properties.insert("qd.service", status.name.as_str());
    properties.insert("qd.bytes-in", integer(status.octets_in));
    properties.insert("qd.bytes-out", integer(status.octets_out));
    entity.set("properties", plain(&properties));
}

fn integer(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_names() {
        let list = "# services\nssh\t22/tcp # shell\nhttp 80/tcp www\ndomain 53/udp\n";
        assert_eq!(service_port(list, "ssh"), Some(22));
        assert_eq!(service_port(list, "www"), Some(80));
        assert_eq!(service_port(list, "domain"), None);
        assert_eq!(service_port(list, "shell"), None);
    }
}
