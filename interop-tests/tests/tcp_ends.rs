//! How TCP connections end that had hardly begun: entities that are deleted while a service is
//! connected to, services that end at once, and services that answer late.

#![allow(clippy::disallowed_methods)] // tests wait for what takes time

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use interop_tests::{
    BlackHole, Peer, Router, RouterBuilder, available, connect, delete, eventually, exchange,
    free_port, rows, tcp_connector, tcp_listener,
};
use serde_json::{Value, json};

/// One router, or two: the first has the listener of `svc` and the last its connector.
struct Site {
    routers: Vec<Router>,
    port: u16,
    connector: String,
    /// Sockets of each router before the first client.
    sockets: Vec<Option<usize>>,
}

impl Site {
    fn new(routers: usize, service: u16) -> Self {
        let port = free_port();
        let (kind, connector) = tcp_connector(service, "svc");
        let name = connector["name"].as_str().expect("a name").to_owned();
        // No connections are made besides that would count as sockets later on.
        let builder = |id| {
            let router = json!({"mode": "interior", "id": id, "dataConnectionCount": "0"});
            RouterBuilder::plain().router(router)
        };
        let (kind_of_listener, listener) = tcp_listener(port, "svc");
        let first = builder("A").entity(kind_of_listener, listener);
        let routers = match routers {
            1 => vec![first.entity(kind, connector).start()],
            _ => {
                let last = builder("B")
                    .listener("routers", json!({"role": "inter-router"}))
                    .entity(kind, connector)
                    .start();
                let there = last.port("routers").to_string();
                let to =
                    json!({"host": "127.0.0.1", "port": there, "role": "inter-router", "cost": 1});
                vec![first.entity("connector", to).start(), last]
            }
        };
        // It is once the router knows of the connector.
        eventually("the listener is up", || {
            status(&routers[0], "tcpListener") == "up"
        });
        let mut site = Self {
            routers,
            port,
            connector: name,
            sockets: Vec::new(),
        };
        eventually("there are as many sockets as ever", || {
            let now = site.count();
            std::mem::replace(&mut site.sockets, now.clone()) == now
        });
        site
    }

    fn count(&self) -> Vec<Option<usize>> {
        self.routers.iter().map(Router::sockets).collect()
    }

    /// Waits until nothing is left of any client; `fewer` sockets of the first router are gone with
    /// what was deleted.
    fn comes_to_rest(&self, fewer: usize) {
        for router in &self.routers {
            eventually("no connection has a row", || tcp_rows(router).is_empty());
        }
        let mut expected = self.sockets.clone();
        expected[0] = expected[0].map(|sockets| sockets - fewer);
        eventually(
            &format!("no socket is left: {expected:?} of {:?}", self.count()),
            || self.count() == expected,
        );
    }

    fn last(&self) -> &Router {
        self.routers.last().expect("there is one")
    }
}

fn tcp_rows(router: &Router) -> Vec<Value> {
    let connections = rows(router, "connection").into_iter();
    let of_tcp = connections.filter(|row| row["container"] == "TcpAdaptor");
    of_tcp.map(|row| row["host"].clone()).collect()
}

/// The `operStatus` of the only entity of a type.
fn status(router: &Router, kind: &str) -> Value {
    rows(router, kind)[0]["operStatus"].clone()
}

/// Whether a router waits for the service at this port to answer its SYN.
fn is_connecting_to(port: u16) -> bool {
    const SYN_SENT: &str = "02";
    let table = fs::read_to_string("/proc/net/tcp").expect("a table");
    let there = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut columns = line.split_whitespace().skip(2);
        let to = columns.next().is_some_and(|to| to.ends_with(&there));
        to && columns.next() == Some(SYN_SENT)
    })
}

/// A client whose service has not answered.
fn client_of(site: &Site, hole: &BlackHole) -> TcpStream {
    let mut client = connect(site.port);
    client.write_all(b"hello").expect("it is taken");
    eventually("the service is connected to", || {
        is_connecting_to(hole.port())
    });
    client
}

fn is_reset(client: &mut TcpStream) -> bool {
    let ended = client.read(&mut [0]).map_err(|error| error.kind());
    ended == Err(ErrorKind::ConnectionReset)
}

#[test]
fn a_connector_that_goes_while_it_connects_takes_its_clients_along() {
    if !available(&[Peer::Proton]) {
        return;
    }
    for routers in [1, 2] {
        let hole = BlackHole::new();
        let site = Site::new(routers, hole.port());
        let mut client = client_of(&site, &hole);
        assert_eq!(delete(site.last(), "tcpConnector", &site.connector), 204);
        assert!(is_reset(&mut client), "by way of {routers}");
        eventually("the service is left alone", || {
            !is_connecting_to(hole.port())
        });
        eventually("there is no service", || {
            status(&site.routers[0], "tcpListener") == "down"
        });
        // The listener does not listen for nobody.
        site.comes_to_rest(1);
    }
}

#[test]
fn a_listener_that_goes_while_a_service_is_connected_to_takes_its_clients_along() {
    if !available(&[Peer::Proton]) {
        return;
    }
    for routers in [1, 2] {
        let hole = BlackHole::new();
        let site = Site::new(routers, hole.port());
        let mut client = client_of(&site, &hole);
        assert_eq!(
            delete(&site.routers[0], "tcpListener", "listener of svc"),
            204
        );
        assert!(is_reset(&mut client), "by way of {routers}");
        eventually("the service is left alone", || {
            !is_connecting_to(hole.port())
        });
        site.comes_to_rest(1);
        // It has tried for as long as it might have had to.
        let connector = &rows(site.last(), "tcpConnector")[0];
        assert_eq!(connector["operStatus"], "down");
        let told = connector["connectionMsg"].as_str();
        assert!(
            told.is_some_and(|told| told.contains("timed out")),
            "{told:?}"
        );
    }
}

#[test]
fn a_client_that_leaves_before_its_service_has_answered_leaves_nothing() {
    if !available(&[Peer::Proton]) {
        return;
    }
    for routers in [1, 2] {
        let hole = BlackHole::new();
        let site = Site::new(routers, hole.port());
        let client = client_of(&site, &hole);
        let abortive = socket2::SockRef::from(&client);
        abortive.set_linger(Some(Duration::ZERO)).expect("a reset");
        drop(client);
        eventually("the service is left alone", || {
            !is_connecting_to(hole.port())
        });
        site.comes_to_rest(0);
        assert_eq!(status(&site.routers[0], "tcpListener"), "up");
    }
}

#[test]
fn a_service_that_answers_late_gets_what_waited_for_it() {
    if !available(&[Peer::Proton]) {
        return;
    }
    for routers in [1, 2] {
        let hole = BlackHole::new();
        let site = Site::new(routers, hole.port());
        let client = client_of(&site, &hole);
        let service = hole.open();
        let serving = thread::spawn(move || {
            let (mut stream, _) = service.accept().expect("a connection");
            let mut octets = Vec::new();
            stream.read_to_end(&mut octets).expect("an end");
            stream.write_all(&octets).expect("it is taken");
        });
        let answer = exchange(client, b", late one");
        assert_eq!(answer, b"hello, late one", "by way of {routers}");
        serving.join().expect("it has served");
        site.comes_to_rest(0);
        for (router, kind) in [
            (&site.routers[0], "tcpListener"),
            (site.last(), "tcpConnector"),
        ] {
            assert_eq!(status(router, kind), "up");
        }
    }
}

#[test]
fn a_service_that_ends_at_once_ends_its_clients_as_it_did() {
    if !available(&[Peer::Proton]) {
        return;
    }
    for routers in [1, 2] {
        for says in [&b""[..], b"closed today"] {
            let socket = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
            let site = Site::new(routers, socket.local_addr().expect("an address").port());
            thread::spawn(move || {
                for mut stream in socket.incoming().flatten() {
                    let _ = stream.write_all(says);
                }
            });
            for _ in 0..3 {
                let mut answer = Vec::new();
                let mut client = connect(site.port);
                client
                    .read_to_end(&mut answer)
                    .expect("an end, and no reset");
                assert_eq!(answer, says, "by way of {routers}");
            }
            site.comes_to_rest(0);
            for (router, kind) in [
                (&site.routers[0], "tcpListener"),
                (site.last(), "tcpConnector"),
            ] {
                assert_eq!(status(router, kind), "up");
                let row = &rows(router, kind)[0];
                let count = |name: &str| row[name].as_u64();
                assert_eq!(count("connectionsOpened"), Some(3), "{kind}");
                assert_eq!(count("connectionsClosed"), Some(3), "{kind}");
            }
        }
    }
}
