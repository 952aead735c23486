//! Sockets that listen, and the names of ports.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use socket2::{Domain, Protocol, Socket, Type};

/// Where a listener listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct BindAddress {
    /// The type and name of the entity, for errors: `listener 'amqp'`.
    pub(crate) entity: String,
    /// An address, a name (all of its addresses), or nothing or `*` for every address of the host.
    pub(crate) host: String,
    pub(crate) port: String,
    /// `socketAddressFamily`; absent: both.
    pub(crate) family: Option<AddressFamily>,
    /// Connections that wait to be accepted; 0: [`BACKLOG`].
    pub(crate) backlog: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AddressFamily {
    V4,
    V6,
}

impl AddressFamily {
    pub(crate) fn has(self, address: &SocketAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
        }
    }

    /// That a host has no address of this family.
    pub(crate) fn missing(self) -> io::Error {
        io::Error::other(match self {
            Self::V4 => "has no IPv4 address",
            Self::V6 => "has no IPv6 address",
        })
    }
}

impl BindAddress {
    /// Opens one non-blocking socket for each address, all with the same port. Resolving a name
    /// may block.
    ///
    /// # Errors
    ///
    /// The host or the port does not exist, or an address is not to be had: in use, or not ours.
    pub(crate) fn bind(&self) -> Result<Vec<TcpListener>, BindError> {
        let fault = |address: SocketAddr, source: io::Error| BindError {
            entity: self.entity.clone(),
            address: address.to_string(),
            reason: source.to_string(),
        };
        let mut port = port_number(&self.port).map_err(|error| self.fault(&error))?;
        let addresses = self.addresses(port).map_err(|error| self.fault(&error))?;
        let mut listeners: Vec<TcpListener> = Vec::new();
        let any_family = matches!(&*self.host, "" | "*") && self.family.is_none();
        for mut address in addresses {
            address.set_port(port);
            match listen(address, self.backlog) {
                Ok(listener) => {
                    // Port 0 is chosen once: the other addresses listen on the same.
                    port = listener.local_addr().map_err(|e| fault(address, e))?.port();
                    listeners.push(listener);
                }
                // A host without IPv6 still has all its addresses.
                Err(_) if any_family && address.is_ipv6() && !have_v6() => {}
                Err(error) => return Err(fault(address, error)),
            }
        }
        Ok(listeners)
    }

    /// Says that this could not be listened on, where it is found out later than by
    /// [`BindAddress::bind`].
    pub(crate) fn fault(&self, error: &io::Error) -> BindError {
        BindError {
            entity: self.entity.clone(),
            address: format!("{}:{}", self.host, self.port),
            reason: error.to_string(),
        }
    }

    fn addresses(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        let mut addresses: Vec<SocketAddr> = match self.host.as_str() {
            "" | "*" => vec![
                (IpAddr::V4(Ipv4Addr::UNSPECIFIED), port).into(),
                (IpAddr::V6(Ipv6Addr::UNSPECIFIED), port).into(),
            ],
            host => (host, port).to_socket_addrs()?.collect(),
        };
        addresses.retain(|address| self.family.is_none_or(|family| family.has(address)));
        addresses.sort();
        addresses.dedup();
        match (addresses.is_empty(), self.family) {
            (false, _) => Ok(addresses),
            (true, Some(family)) => Err(family.missing()),
            (true, None) => Err(io::Error::other("has no address")),
        }
    }
}

/// The number of a port that is given by number or by name: `amqp` 5672, `amqps` 5671.
///
/// # Errors
///
/// Another name, or a number that is not a port.
pub(crate) fn port_number(port: &str) -> io::Result<u16> {
    match port {
        "amqp" => Ok(5672),
        "amqps" => Ok(5671),
        number => number.parse().map_err(|_| {
            let reason = format!("port '{number}' is not valid: use 0 to 65535, amqp or amqps");
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        }),
    }
}

/// Why a listener does not listen.
#[derive(Debug, thiserror::Error)]
#[error("{entity}: cannot listen on {address}: {reason}")]
pub(crate) struct BindError {
    entity: String,
    address: String,
    reason: String,
}

fn listen(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let backlog = if backlog == 0 { BACKLOG } else { backlog };
    socket.listen(backlog.try_into().unwrap_or(i32::MAX))?;
    Ok(socket.into())
}

fn have_v6() -> bool {
    listen((Ipv6Addr::LOCALHOST, 0).into(), 1).is_ok()
}

/// Enough for a burst of clients after a restart.
pub(crate) const BACKLOG: u32 = 1024;

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn no_host_means_every_address_on_one_port() {
        for host in ["", "*"] {
            let listeners = bind(host, "0").bind().unwrap();
            let ports: Vec<_> = listeners
                .iter()
                .map(|l| l.local_addr().unwrap().port())
                .collect();
            assert!(!ports.is_empty() && ports.iter().all(|port| *port == ports[0]));
            TcpStream::connect(("127.0.0.1", ports[0])).unwrap();
        }
    }

    #[test]
    fn the_family_can_be_chosen() {
        let only = BindAddress {
            family: Some(AddressFamily::V4),
            ..bind("", "0")
        };
        let listeners = only.bind().unwrap();
        assert_eq!(listeners.len(), 1);
        assert!(listeners[0].local_addr().unwrap().is_ipv4());
        let none = BindAddress {
            family: Some(AddressFamily::V6),
            ..bind("127.0.0.1", "0")
        };
        assert!(
            none.bind()
                .unwrap_err()
                .to_string()
                .contains("has no IPv6 address")
        );
    }

    #[test]
    fn an_address_in_use_is_named_with_the_entity() {
        let first = bind("127.0.0.1", "0").bind().unwrap();
        let address = first[0].local_addr().unwrap();
        let error = bind("127.0.0.1", &address.port().to_string())
            .bind()
            .unwrap_err();
        let text = error.to_string();
        let start = format!("listener 'l': cannot listen on {address}: Address already in use");
        assert!(text.starts_with(&start), "{text}");
    }

    #[test]
    fn ports_have_names() {
        assert_eq!(port_number("amqp").unwrap(), 5672);
        assert_eq!(port_number("amqps").unwrap(), 5671);
        assert_eq!(port_number("1").unwrap(), 1);
        let error = bind("127.0.0.1", "amqpx").bind().unwrap_err().to_string();
        assert!(
            error.contains("127.0.0.1:amqpx: port 'amqpx' is not valid"),
            "{error}"
        );
        port_number("65536").unwrap_err();
    }

    fn bind(host: &str, port: &str) -> BindAddress {
        BindAddress {
            entity: "listener 'l'".into(),
            host: host.into(),
            port: port.into(),
            ..Default::default()
        }
    }
}
