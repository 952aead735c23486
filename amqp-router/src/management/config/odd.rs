//! What is odd about a configuration that works: attributes without effect, and values that
//! nothing can come of. The log tells of it, and no more.

use crate::management::config::{Config, hosts};
use crate::management::entity::Entity;

impl Config {
    /// Everything that is odd, each in a sentence that names the entity and the attribute.
    pub(crate) fn oddities(&self) -> Vec<String> {
        let ignored = self.ignored.iter().cloned();
        let entities = self.entities.iter();
        ignored
            .chain(self.former_name())
            .chain(entities.flat_map(|entity| {
                let unproven = unproven(entity).into_iter();
                unusable(entity).chain(substitutes(entity)).chain(unproven)
            }))
            .collect()
    }

    fn former_name(&self) -> Option<String> {
        self.singleton("router").word("vanId")?;
        let effect = match self.singleton("network").word("tenantId") {
            Some(_) => "has no effect beside it",
            None => "is taken for it",
        };
        Some(format!(
            "router: 'vanId' is the former name of 'tenantId' of the network entity, and {effect}"
        ))
    }
}

/// A host that cannot be. (Of listeners that is an error.)
fn unusable(entity: &Entity) -> impl Iterator<Item = String> {
    let kinds = ["connector", "tcpConnector", "tcpListener", "proxyProfile"];
    let host = entity.word("host").filter(|host| *host != "*");
    let unfit = host
        .filter(|_| kinds.contains(&entity.schema().name))
        .and_then(|host| Some((host, hosts::unfit(host)?)));
    let odd = unfit.map(|(host, why)| {
        let problem = format!(
            "the attribute 'host' is '{}', which names no host, as it must be a host name or an \
             IP address: {why}",
            host.escape_debug()
        );
        entity.invalid(problem).to_string()
    });
    odd.into_iter()
}

/// HTTP that is for peers with a certificate, and can be had without TLS.
fn unproven(entity: &Entity) -> Option<String> {
    let is_http = entity.flag("http") || entity.word("httpRootDir").is_some();
    let asks_for_proof = entity.word("sslProfile").is_some() && entity.flag("authenticatePeer");
    let needs_tls = entity.flag("requireSsl") || entity.flag("requireEncryption");
    let odd = entity.schema().name == "listener" && is_http && asks_for_proof && !needs_tls;
    odd.then(|| {
        let problem = "'authenticatePeer' asks for certificates, but HTTP without TLS is answered, \
                       too, whoever asks: set 'requireSsl'";
        entity.invalid(problem.into()).to_string()
    })
}

/// Servers that clients are told of and cannot connect to.
fn substitutes(entity: &Entity) -> impl Iterator<Item = String> {
    let list = entity.word("failoverUrls").unwrap_or_default();
    hosts::substitutes(list).filter_map(|server| {
        let is_port = |port: &str| matches!(port, "amqp" | "amqps") || port.parse::<u16>().is_ok();
        let why = match server.port.filter(|port| !is_port(port)) {
            Some(port) => format!("'{}' is no port", port.escape_debug()),
            None => hosts::unfit(server.host)?,
        };
        let problem = format!(
            "the attribute 'failoverUrls' tells clients of a server '{}' that they cannot connect \
             to: {why}",
            server.host.escape_debug()
        );
        Some(entity.invalid(problem).to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oddities(text: &str) -> Vec<String> {
        let config = Config::from_text("router.conf", text).expect("it works");
        config.oddities()
    }

    #[test]
    fn hosts_that_cannot_be_are_odd() {
        let text = "connector {\n name: c\n host: not a host\n}\n\
                    tcpListener {\n name: t\n host: *\n port: 1\n address: a\n}\n\
                    tcpConnector {\n name: t\n host: db:5432\n port: 1\n address: a\n}\n\
                    listener {\n name: l\n host: localhost\n}\n";
        let [connector, service] = &oddities(text)[..] else {
            panic!("{:?}", oddities(text));
        };
        let expected = "connector 'c': the attribute 'host' is 'not a host', which names no host";
        assert!(connector.starts_with(expected), "{connector}");
        let expected = "tcpConnector 't': the attribute 'host' is 'db:5432'";
        assert!(service.starts_with(expected), "{service}");
    }

    #[test]
    fn http_in_clear_proves_nothing() {
        let odd = |attributes: &str| {
            let listener = "listener {\n name: l\n authenticatePeer: yes\n sslProfile: p\n";
            oddities(&format!(
                "{listener}{attributes}}}\nsslProfile {{\n name: p\n}}\n"
            ))
        };
        let told = odd(" http: yes\n");
        assert!(
            told.len() == 1 && told[0].contains("set 'requireSsl'"),
            "{told:?}"
        );
        for fine in ["", " http: yes\n requireSsl: yes\n"] {
            assert_eq!(odd(fine), [""; 0], "{fine}");
        }
    }

    #[test]
    fn substitutes_that_cannot_be_are_odd() {
        let urls = |urls: &str| oddities(&format!("listener {{\n failoverUrls: {urls}\n}}\n"));
        let usable = "amqps://a.example:5671, [::1]:5672 b,amqp://c:amqp";
        assert_eq!(urls(usable), [""; 0]);
        for (url, why) in [
            ("a:here", "'here' is no port"),
            ("amqp://a/b", "'/' can be in neither"),
        ] {
            let odd = urls(&format!("fine, {url}"));
            assert!(odd.len() == 1 && odd[0].contains(why), "{odd:?}");
        }
    }
}
