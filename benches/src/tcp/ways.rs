//! The ways to the service, and the processes that they lead through.

use std::fs;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::load::{Load, Measured};
use crate::process::Usage;

/// A way from a port to the service.
#[derive(Debug)]
pub struct Way {
    pub(super) name: String,
    port: u16,
    pids: Vec<u32>,
    _processes: Vec<Process>,
}

/// A process that ends with the measurement.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Way {
    fn new(name: &str, port: u16, processes: Vec<Process>) -> io::Result<Self> {
        let way = Self {
            name: name.into(),
            port,
            pids: processes.iter().map(|process| process.0.id()).collect(),
            _processes: processes,
        };
        way.wait()?;
        Ok(way)
    }

    /// One that exists already, as `name=port@pid,pid`.
    pub(super) fn existing(text: &str) -> io::Result<Self> {
        let wrong = || {
            let reason = format!("'{text}' is not name=port@pid,pid");
            io::Error::new(io::ErrorKind::InvalidInput, reason)
        };
        let (name, rest) = text.split_once('=').ok_or_else(wrong)?;
        let (port, pids) = rest.split_once('@').unwrap_or((rest, ""));
        let pids = pids.split(',').filter(|pid| !pid.is_empty());
        let pids = pids.map(|pid| pid.parse().map_err(|_| wrong()));
        let mut way = Self::new(name, port.parse().map_err(|_| wrong())?, Vec::new())?;
        way.pids = pids.collect::<io::Result<_>>()?;
        Ok(way)
    }

    pub(super) fn measure(&self, load: Load, duration: Duration) -> io::Result<Measured> {
        let usage = || {
            let (mut cpu, mut memory) = (0.0, 0);
            for &pid in &self.pids {
                let usage = Usage::of(pid).map_err(io::Error::other)?;
                cpu += usage.cpu.as_secs_f64();
                memory += usage.rss * 1024;
            }
            Ok((cpu, memory))
        };
        let measured = load.put(self.port, duration, usage);
        let mut measured = measured
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", self.name)))?;
        measured.processes = self.pids.len();
        Ok(measured)
    }

    fn wait(&self) -> io::Result<()> {
        for _ in 0..200 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(50));
        }
        let reason = format!("{}: nobody listens on port {}", self.name, self.port);
        Err(io::Error::new(io::ErrorKind::TimedOut, reason))
    }
}

/// Starts every way that there can be on this machine.
pub(super) fn start(daemon: &Path, service: u16) -> io::Result<Vec<Way>> {
    let mut ways = vec![Way::new("direct", service, Vec::new())?];
    let directory = std::env::temp_dir().join(format!("tcp-bench-{}", std::process::id()));
    fs::create_dir_all(&directory)?;
    match haproxy(&directory, service) {
        Ok(way) => ways.push(way),
        Err(error) => eprintln!("without haproxy: {error}"),
    }
    let port = free_port()?;
    let text = format!(
        "{}{}{}",
        router("standalone", "one"),
        listener(port),
        connector(service)
    );
    let one = launch(daemon, &directory, "one", &text)?;
    ways.push(Way::new("1 router", port, vec![one])?);
    ways.push(pair(daemon, &directory, service, None)?);
    match certificate(&directory) {
        Ok(profile) => ways.push(pair(daemon, &directory, service, Some(&profile))?),
        Err(error) => eprintln!("without TLS between routers: {error}"),
    }
    // Everything has been read by whoever has been started.
    fs::remove_dir_all(&directory)?;
    Ok(ways)
}

/// Two routers, with TLS between them if there is a profile for it.
fn pair(daemon: &Path, directory: &Path, service: u16, tls: Option<&str>) -> io::Result<Way> {
    let (port, between) = (free_port()?, free_port()?);
    let (profile, secured) = match tls {
        Some(profile) => (profile, " sslProfile: tls\n"),
        None => ("", ""),
    };
    let name = |id: &str| format!("{id}{}", if tls.is_some() { "-tls" } else { "" });
    let near = format!(
        "{}{profile}listener {{\n role: inter-router\n host: 127.0.0.1\n port: {between}\n{secured}}}\n{}",
        router("interior", &name("near")),
        listener(port)
    );
    let far = format!(
        "{}{profile}connector {{\n role: inter-router\n host: 127.0.0.1\n port: {between}\n{secured}}}\n{}",
        router("interior", &name("far")),
        connector(service)
    );
    let near = launch(daemon, directory, &name("near"), &near)?;
    let far = launch(daemon, directory, &name("far"), &far)?;
    let title = match tls {
        None => "2 routers",
        Some(_) => "2 routers, TLS between",
    };
    Way::new(title, port, vec![near, far])
}

fn router(mode: &str, id: &str) -> String {
    format!("router {{\n mode: {mode}\n id: {id}\n workerThreads: 1\n}}\n")
}

fn listener(port: u16) -> String {
    format!("tcpListener {{\n name: l\n host: 127.0.0.1\n port: {port}\n address: service\n}}\n")
}

fn connector(port: u16) -> String {
    format!("tcpConnector {{\n name: c\n host: 127.0.0.1\n port: {port}\n address: service\n}}\n")
}

fn launch(daemon: &Path, directory: &Path, name: &str, text: &str) -> io::Result<Process> {
    let path = directory.join(format!("{name}.conf"));
    fs::write(&path, text)?;
    let child = Command::new(daemon)
        .arg("-c")
        .arg(&path)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let reason = |error: io::Error| {
        let text = format!("{}: {error}", daemon.display());
        io::Error::new(error.kind(), text)
    };
    Ok(Process(child.map_err(reason)?))
}

fn haproxy(directory: &Path, service: u16) -> io::Result<Way> {
    let port = free_port()?;
    let path = directory.join("haproxy.cfg");
    let text = format!(
        "global\n nbthread 1\n maxconn 4000\ndefaults\n mode tcp\n timeout connect 5s\n \
         timeout client 1m\n timeout server 1m\nlisten l\n bind 127.0.0.1:{port}\n \
         server s 127.0.0.1:{service}\n"
    );
    fs::write(&path, text)?;
    let child = Command::new("haproxy")
        .arg("-db")
        .arg("-f")
        .arg(&path)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Way::new("haproxy, 1 thread", port, vec![Process(child)])
}

/// An sslProfile with a certificate that `openssl` makes.
fn certificate(directory: &Path) -> io::Result<String> {
    let at = |name: &str| directory.join(name).display().to_string();
    let (certificate, key) = (at("tls.pem"), at("tls.key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
        ])
        .args(["-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &key, "-out", &certificate])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    if !made.success() {
        return Err(io::Error::other("openssl makes no certificate"));
    }
    Ok(format!(
        "sslProfile {{\n name: tls\n caCertFile: {certificate}\n certFile: {certificate}\n \
         privateKeyFile: {key}\n}}\n"
    ))
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
