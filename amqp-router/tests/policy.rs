//! Policy, as a server hears of it that a connector has connected to.

// Processes live in real time.
#![allow(clippy::disallowed_methods)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use amqp_router::{Config, Router};

#[test]
fn a_server_is_told_that_policy_has_nothing_for_its_connection() {
    let far = Router::start(Config::new("far").listen("127.0.0.1", 0)).unwrap();
    let (port, told) = relay(far.listening()[0].1[0]);
    let text = format!(
        "router {{\n id: near\n}}\npolicy {{\n enableVhostPolicy: yes\n}}\n\
         vhost {{\n hostname: other\n}}\n\
         connector {{\n name: c\n host: 127.0.0.1\n port: {port}\n policyVhost: none\n \
         saslMechanisms: ANONYMOUS\n}}\n"
    );
    let near = Router::start(Config::from_text("near.conf", &text).unwrap()).unwrap();
    let said = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(said.starts_with(b"AMQP"), "{said:?}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(near.stop());
    runtime.block_on(far.stop());
}

/// What the first client says to the server by way of this port, up to the reason of its close.
fn relay(server: SocketAddr) -> (u16, Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().unwrap();
        let mut server = TcpStream::connect(server).unwrap();
        let (mut from_server, mut to_client) =
            (server.try_clone().unwrap(), client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from_server, &mut to_client));
        let (mut said, mut buffer) = (Vec::new(), [0; 4096]);
        while let Ok(count @ 1..) = client.read(&mut buffer) {
            said.extend_from_slice(&buffer[..count]);
            let reason = b"connection disallowed by local policy";
            if said.windows(reason.len()).any(|window| window == reason) {
                let _ = tell.send(said.clone());
            }
            let _ = server.write_all(&buffer[..count]);
        }
    });
    (port, told)
}
