//! What is chosen for a TCP connection: one of a listener's addresses, a protocol in TLS; and how
//! TLS ends.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;

use interop_tests::{
    Certificates, Peer, Router, RouterBuilder, available, connect, delete, echo, eventually,
    free_port, rows, tcp_connector, tcp_listener,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};
use rustls::{Stream, crypto};
use serde_json::{Value, json};

type Entity = (&'static str, Value);

/// A router with these entities, which is connected to others.
fn start(id: &str, entities: Vec<Entity>, neighbours: &[&Router]) -> Router {
    let builder = RouterBuilder::plain()
        .router(json!({"mode": "interior", "id": id}))
        .listener("routers", json!({"role": "inter-router"}));
    let connectors = neighbours.iter().map(|neighbour| {
        let port = neighbour.port("routers").to_string();
        let attributes = json!({"host": "127.0.0.1", "port": port, "role": "inter-router"});
        ("connector", attributes)
    });
    let entities = entities.into_iter().chain(connectors);
    let add = |builder: RouterBuilder, (kind, of): Entity| builder.entity(kind, of);
    entities.fold(builder, add).start()
}

fn weighted(port: u16, addresses: &[(&str, u32)]) -> Vec<Entity> {
    let listener = json!({
        "name": "multi", "host": "127.0.0.1", "port": port.to_string(),
        "multiAddressStrategy": "weighted",
    });
    let addresses = addresses.iter().map(|(address, value)| {
        let of = json!({"name": address, "address": address, "value": value, "listener": "multi"});
        ("listenerAddress", of)
    });
    [("tcpListener", listener)]
        .into_iter()
        .chain(addresses)
        .collect()
}

/// How many of some connections come to each of two services, by their names.
fn counts(port: u16, connections: usize, names: [&str; 2]) -> [usize; 2] {
    let said: Vec<_> = (0..connections).map(|_| said(port)).collect();
    names.map(|name| said.iter().filter(|said| *said == name.as_bytes()).count())
}

/// What the service says to who says nothing; nothing if there is none any more.
fn said(port: u16) -> Vec<u8> {
    let mut stream = connect(port);
    let mut said = Vec::new();
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut said);
    said
}

#[test]
fn connections_are_shared_among_addresses_by_weight() {
    if !available(&[Peer::Proton]) {
        return;
    }
    let port = free_port();
    let heavy = tcp_connector(echo("HEAVY"), "heavy");
    let name = heavy.1["name"].clone();
    // One is here, the other is at another router.
    let far = start("far", vec![heavy], &[]);
    let mut entities = weighted(port, &[("heavy", 3), ("light", 1)]);
    entities.push(tcp_connector(echo("LIGHT"), "light"));
    let near = start("near", entities, &[&far]);
    let names = ["HEAVY", "LIGHT"];
    eventually("both are reached", || {
        counts(port, 10, names).iter().all(|count| *count > 0)
    });
    let [heavy, light] = counts(port, 80, names);
    assert_eq!(heavy + light, 80);
    assert!((40..=76).contains(&heavy), "{heavy} and {light}");
    let opened = |address: &str| {
        let rows = rows(&near, "listenerAddress");
        let row = rows.into_iter().find(|row| row["name"] == address);
        let opened = row.and_then(|row| row["connectionsOpened"].as_i64());
        opened.expect("it counts") as usize
    };
    assert!(opened("heavy") >= heavy && opened("light") >= light);
    // Who cannot be reached has no share.
    let name = name.as_str().expect("a name");
    assert_eq!(delete(&far, "tcpConnector", name), 204);
    eventually("the light one gets them all", || {
        counts(port, 20, names) == [0, 20]
    });
    assert_eq!(rows(&near, "tcpListener")[0]["operStatus"], "up");
}

#[test]
fn an_address_among_several_is_the_same_for_every_tenant() {
    let port = free_port();
    // The tenant's name goes ahead of a connector's address, and not of these.
    let mut entities = weighted(port, &[("svc", 1000), ("acme/svc", 1)]);
    entities.push(("network", json!({"tenantId": "acme"})));
    entities.push(tcp_connector(echo("BYE"), "svc"));
    let _router = start("one", entities, &[]);
    assert_eq!(counts(port, 10, ["BYE", ""]), [10, 0]);
}

/// A service that tells which protocol a client has agreed on with it in TLS, and ends with or
/// without TLS's farewell.
fn teller(certificates: &Certificates, protocols: &[&str], farewell: bool) -> u16 {
    let (certificate, key) = pair(
        &certificates.path("server.pem"),
        &certificates.path("server.key"),
    );
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .expect("a key that fits");
    config.alpn_protocols = protocols
        .iter()
        .map(|one| one.as_bytes().to_vec())
        .collect();
    let config = Arc::new(config);
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            let mut session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            let mut tls = Stream::new(&mut session, &mut stream);
            // A client that does not get as far has been told why.
            if tls.read(&mut [0]).is_ok() {
                let agreed = tls.conn.alpn_protocol().unwrap_or(b"none").to_vec();
                let _ = tls.write_all(&agreed);
                if farewell {
                    tls.conn.send_close_notify();
                }
                let _ = tls.flush();
                let _ = stream.shutdown(Shutdown::Write);
            }
        }
    });
    port
}

fn pair(certificate: &Path, key: &Path) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
    let certificate = CertificateDer::from_pem_file(certificate);
    let key = PrivateKeyDer::from_pem_file(key);
    (certificate.expect("a certificate"), key.expect("a key"))
}

/// What a client that offers some protocols agrees on with a listener, and what the service has
/// been offered then.
fn agreed(port: u16, certificates: &Certificates, offers: &[&str]) -> [String; 2] {
    let mut session = client(certificates, offers);
    let mut stream: TcpStream = connect(port);
    let mut tls = Stream::new(&mut session, &mut stream);
    tls.write_all(b"?").expect("it is taken");
    let mut told = Vec::new();
    tls.read_to_end(&mut told).expect("an answer");
    let here = tls.conn.alpn_protocol().unwrap_or(b"none").to_vec();
    [here, told].map(|protocol| String::from_utf8(protocol).expect("a word"))
}

fn client(certificates: &Certificates, offers: &[&str]) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_file(certificates.path("ca.pem")).expect("a CA");
    roots.add(ca).expect("a CA certificate");
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("TLS versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = offers.iter().map(|one| one.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("127.0.0.1").expect("a name");
    ClientConnection::new(Arc::new(config), name).expect("a session")
}

fn profile(certificates: &Certificates) -> Entity {
    let path = |name: &str| certificates.path(name).to_string_lossy().into_owned();
    let of = json!({
        "name": "tls", "caCertFile": path("ca.pem"),
        "certFile": path("server.pem"), "privateKeyFile": path("server.key"),
    });
    ("sslProfile", of)
}

fn secured(mut entity: Entity) -> Entity {
    entity.1["sslProfile"] = json!("tls");
    entity
}

#[test]
fn the_protocol_that_a_client_agrees_on_is_what_the_service_is_offered() {
    let certificates = Certificates::generate();
    let port = free_port();
    let service = teller(&certificates, &["h2", "http/1.1"], true);
    let far = start(
        "far",
        vec![
            profile(&certificates),
            secured(tcp_connector(service, "svc")),
        ],
        &[],
    );
    let listener = secured(tcp_listener(port, "svc"));
    let _near = start("near", vec![profile(&certificates), listener], &[&far]);
    let agreed = |offers: &[&str]| agreed(port, &certificates, offers);
    assert_eq!(agreed(&["h2", "http/1.1"]), ["h2", "h2"]);
    assert_eq!(agreed(&["http/1.1"]), ["http/1.1", "http/1.1"]);
    assert_eq!(agreed(&["x", "http/1.1"]), ["http/1.1", "http/1.1"]);
    // What the listener does not know it leaves alone.
    assert_eq!(agreed(&["x"]), ["none", "none"]);
    assert_eq!(agreed(&[]), ["none", "none"]);
}

/// A service that says how many octets it has got, once its client has ended.
fn counter() -> u16 {
    let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = socket.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            let mut got = Vec::new();
            // Who was cut off hears nothing.
            if stream.read_to_end(&mut got).is_ok() {
                let _ = write!(stream, "{}", got.len());
            }
        }
    });
    port
}

#[test]
fn who_ends_without_the_farewell_of_tls_has_ended() {
    // As many do: they shut their sockets down, and wait for what is still to come.
    let certificates = Certificates::generate();
    let (secure, plain) = (free_port(), free_port());
    let teller = teller(&certificates, &[], false);
    let entities = vec![
        profile(&certificates),
        secured(tcp_listener(secure, "counter")),
        tcp_connector(counter(), "counter"),
        tcp_listener(plain, "teller"),
        secured(tcp_connector(teller, "teller")),
    ];
    let _router = start("one", entities, &[]);

    let mut session = client(&certificates, &[]);
    let mut stream: TcpStream = connect(secure);
    let mut tls = Stream::new(&mut session, &mut stream);
    tls.write_all(b"ping").expect("it is taken");
    stream.shutdown(Shutdown::Write).expect("it is open");
    let mut told = Vec::new();
    // The router's own farewell is not missing.
    let mut tls = Stream::new(&mut session, &mut stream);
    tls.read_to_end(&mut told).expect("the whole answer");
    assert_eq!(told, b"4");

    let mut stream: TcpStream = connect(plain);
    stream.write_all(b"?").expect("it is taken");
    told.clear();
    stream.read_to_end(&mut told).expect("the whole answer");
    assert_eq!(told, b"none");
}
