//! A connector that reaches its router through an HTTP proxy.

// Processes live in real time.
#![allow(clippy::disallowed_methods)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use amqp_router::{Config, Router};

#[test]
fn a_connector_opens_through_its_proxy_with_its_login() {
    let far = Router::start(Config::new("far-router").listen("127.0.0.1", 0)).unwrap();
    let there = far.listening()[0].1[0];
    let (port, seen) = proxy();
    let text = format!(
        "router {{\n id: near-router\n}}\n\
         proxyProfile {{\n name: p\n host: 127.0.0.1\n port: {port}\n username: alice\n \
         password: pass:secret\n}}\n\
         connector {{\n host: 127.0.0.1\n port: {}\n proxyProfile: p\n \
         saslMechanisms: ANONYMOUS\n}}\n",
        there.port()
    );
    let near = Router::start(Config::from_text("near.conf", &text).unwrap()).unwrap();
    let (head, answer) = seen.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(
        head.starts_with(&format!("CONNECT {there} HTTP/1.1\r\n")),
        "{head}"
    );
    assert!(
        head.contains("Proxy-Authorization: Basic YWxpY2U6c2VjcmV0\r\n"),
        "{head}"
    );
    assert!(answer.starts_with(b"AMQP"), "{answer:?}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(near.stop());
    runtime.block_on(far.stop());
}

/// A proxy for one connection: its port; the head of the request, and what the target answered up
/// to the open of `far-router`.
fn proxy() -> (u16, Receiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, seen) = channel();
    std::thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(client.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            reader.read_line(&mut head).unwrap();
        }
        let target = head.split(' ').nth(1).unwrap();
        let mut server = TcpStream::connect(target).unwrap();
        let mut client = client;
        client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").unwrap();
        let mut to_server = server.try_clone().unwrap();
        std::thread::spawn(move || std::io::copy(&mut reader, &mut to_server));
        let (mut answer, mut told, mut buffer) = (Vec::new(), false, [0; 4096]);
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            let _ = client.write_all(&buffer[..count]);
            answer.extend_from_slice(&buffer[..count]);
            if !told && answer.windows(10).any(|window| window == b"far-router") {
                told = true;
                let _ = tell.send((head.clone(), answer.clone()));
            }
        }
    });
    (port, seen)
}
