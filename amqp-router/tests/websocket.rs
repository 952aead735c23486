//! AMQP over WebSocket, as a client on the wire sees it.

use std::net::SocketAddr;
use std::time::Duration;

use amqp_router::{Config, Router};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

#[test]
fn an_amqp_header_is_answered_however_it_is_cut() {
    with_router("", |address| async move {
        let mut client = connect(address, "amqp").await.unwrap();
        let (start, end) = HEADER.split_at(3);
        let first = Frame::message(start, OpCode::Data(Data::Binary), false);
        let last = Frame::message(end, OpCode::Data(Data::Continue), true);
        client.send(Message::Frame(first)).await.unwrap();
        client.send(Message::Frame(last)).await.unwrap();
        assert_eq!(next_binary(&mut client).await, HEADER);
    });
}

#[test]
fn a_ping_is_answered() {
    with_router("", |address| async move {
        let mut client = connect(address, "amqp").await.unwrap();
        client.send(Message::Ping("hello".into())).await.unwrap();
        let answer = client.next().await.unwrap().unwrap();
        assert_eq!(answer, Message::Pong("hello".into()));
    });
}

#[test]
fn text_and_unmasked_frames_end_the_connection() {
    with_router("", |address| async move {
        let mut client = connect(address, "amqp").await.unwrap();
        client.send(Message::text("AMQP")).await.unwrap();
        assert!(ended(&mut client).await);

        let mut client = connect(address, "amqp").await.unwrap();
        let unmasked = [&[0x82, 8][..], HEADER].concat();
        client.get_mut().write_all(&unmasked).await.unwrap();
        assert!(ended(&mut client).await);
    });
}

#[test]
fn a_message_beyond_the_limit_ends_the_connection() {
    with_router("", |address| async move {
        let mut client = connect(address, "amqp").await.unwrap();
        // The head of a masked frame of 16 MiB.
        let head = [0x82, 0xff, 0, 0, 0, 0, 1, 0, 0, 0, 1, 2, 3, 4];
        client.get_mut().write_all(&head).await.unwrap();
        assert!(ended(&mut client).await);
    });
}

#[test]
fn only_the_sub_protocol_amqp_is_spoken_and_only_where_it_is_on() {
    with_router("", |address| async move {
        assert_eq!(refusal(connect(address, "mqtt").await), 400);
    });
    with_router(" websockets: no\n", |address| async move {
        assert_eq!(refusal(connect(address, "amqp").await), 404);
    });
}

#[test]
fn other_requests_of_the_listener_go_on_as_before() {
    with_router("", |address| async move {
        let mut client = TcpStream::connect(address).await.unwrap();
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        client.write_all(request).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    });
}

fn with_router<F: Future<Output = ()>>(attributes: &str, story: impl FnOnce(SocketAddr) -> F) {
    let text = format!(
        "router {{\n id: web\n}}\nlistener {{\n host: 127.0.0.1\n port: 0\n http: yes\n{attributes}}}\n"
    );
    let router = Router::start(Config::from_text("web.conf", &text).unwrap()).unwrap();
    let address = router.listening()[0].1[0];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(30), story(address))
            .await
            .expect("the story ends");
        router.stop().await;
    });
}

async fn connect(
    address: SocketAddr,
    protocol: &str,
) -> Result<WebSocketStream<TcpStream>, Box<Error>> {
    let mut request = format!("ws://{address}/").into_client_request()?;
    let protocol = protocol.parse().unwrap();
    request
        .headers_mut()
        .insert("Sec-WebSocket-Protocol", protocol);
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, response) = client_async(request, stream).await?;
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "amqp");
    Ok(client)
}

fn refusal(result: Result<WebSocketStream<TcpStream>, Box<Error>>) -> u16 {
    match *result.expect_err("refused") {
        Error::Http(response) => response.status().as_u16(),
        other => panic!("{other}"),
    }
}

async fn next_binary(client: &mut WebSocketStream<TcpStream>) -> Vec<u8> {
    match client.next().await.unwrap().unwrap() {
        Message::Binary(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// Whether nothing more comes but an end, within the time of the story.
async fn ended(client: &mut WebSocketStream<TcpStream>) -> bool {
    loop {
        match client.next().await {
            None | Some(Err(_) | Ok(Message::Close(_))) => return true,
            Some(Ok(Message::Binary(_) | Message::Text(_))) => return false,
            Some(Ok(_)) => {}
        }
    }
}

const HEADER: &[u8] = b"AMQP\x00\x01\x00\x00";
