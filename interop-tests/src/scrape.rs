//! What a router tells over HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::install::{Installed, installed};
use crate::{Peer, Router};

/// Gets a page from a listener with `http: true`: its status and its text.
///
/// # Panics
///
/// When there is no answer.
#[track_caller]
pub fn get(router: &Router, listener: &str, path: &str) -> (u16, String) {
    let port = router.port(listener);
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    let limit = Some(Duration::from_secs(60));
    stream.set_read_timeout(limit).expect("a time-out");
    let request = format!("GET {path} HTTP/1.1\r\nHost: router\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is taken");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// The samples of `/metrics`, as Prometheus's own parser reads them.
#[derive(Debug)]
pub struct Scrape(Vec<Value>);

impl Scrape {
    /// # Panics
    ///
    /// When there are no metrics, or the parser does not take them.
    #[track_caller]
    pub fn of(router: &Router, listener: &str) -> Self {
        let (status, text) = get(router, listener, "/metrics");
        assert_eq!(status, 200, "{text}");
        Self::parse(&text)
    }

    #[track_caller]
    fn parse(text: &str) -> Self {
        let Installed::Python { python } = installed(Peer::Proton) else {
            panic!("the parser needs Python");
        };
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/scrape.py");
        let mut parser = Command::new(python)
            .arg(script)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let mut stdin = parser.stdin.take().expect("it is piped");
        stdin.write_all(text.as_bytes()).expect("it reads");
        drop(stdin);
        let output = parser.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{text}");
        let lines = String::from_utf8(output.stdout).expect("text");
        let samples = lines.lines().map(serde_json::from_str);
        Self(samples.collect::<Result<_, _>>().expect("JSON"))
    }

    /// The samples of this name.
    pub fn samples<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Value> + 'a {
        self.0.iter().filter(move |sample| sample["name"] == name)
    }

    /// The value of a sample that has these labels, among others perhaps; 0 if there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Value| {
            let own = &sample["labels"];
            labels.iter().all(|(label, text)| own[label] == *text)
        };
        let sample = self.samples(name).find(has);
        sample.map_or(0.0, |sample| sample["value"].as_f64().expect("a number"))
    }

    /// Every sample.
    pub fn all(&self) -> &[Value] {
        &self.0
    }
}
