//! The log of the system.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Level;

/// The socket of a syslog daemon, which may come, go and come back.
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    link: Mutex<Link>,
}

#[derive(Debug)]
struct Link {
    socket: Option<UnixDatagram>,
    /// When the daemon was last looked for.
    tried: Instant,
}

impl Syslog {
    /// A link to the daemon that listens at `path`, also if it will only do so later: then the
    /// error is why there is none yet.
    pub(super) fn open(path: &Path, now: Instant) -> (Self, Option<io::Error>) {
        let (socket, error) = match connect(path) {
            Ok(socket) => (Some(socket), None),
            Err(error) => (None, Some(error)),
        };
        let syslog = Self {
            path: path.into(),
            link: Mutex::new(Link { socket, tried: now }),
        };
        (syslog, error)
    }

    /// Sends one line.
    ///
    /// # Errors
    /// It is lost: the daemon does not read, or is away and was looked for within a second.
    pub(super) fn write(&self, level: Level, line: &str, now: Instant) -> io::Result<()> {
        let process = std::process::id();
        let priority = DAEMON | severity(level);
        let message = format!("<{priority}>router-daemon[{process}]: {}", line.trim_end());
        let mut link = self.link.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(socket) = &link.socket {
            match socket.send(message.as_bytes()) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => link.socket = None,
            }
        }
        if now.saturating_duration_since(link.tried) < RETRY {
            return Err(io::ErrorKind::NotConnected.into());
        }
        link.tried = now;
        let socket = connect(&self.path)?;
        let sent = socket.send(message.as_bytes()).map(drop);
        link.socket = Some(socket);
        sent
    }
}

fn connect(path: &Path) -> io::Result<UnixDatagram> {
    let socket = UnixDatagram::unbound()?;
    socket.connect(path)?;
    // A syslog daemon that does not read loses lines rather than stop the router.
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// RFC 3164 section 4.1.1.
fn severity(level: Level) -> u8 {
    match level {
        Level::Critical => 2,
        Level::Error => 3,
        Level::Warning => 4,
        Level::Info => 6,
        Level::Debug => 7,
    }
}

/// The facility of system daemons.
const DAEMON: u8 = 3 << 3;
const RETRY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_daemon_that_comes_and_goes_is_found_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let start = Instant::now();
        let (syslog, error) = Syslog::open(&path, start);
        assert_eq!(error.unwrap().kind(), io::ErrorKind::NotFound);

        let daemon = UnixDatagram::bind(&path).unwrap();
        let lost = syslog.write(Level::Info, "too early\n", start + RETRY / 2);
        assert!(lost.is_err(), "it was looked for just before");
        let late = start + RETRY;
        syslog.write(Level::Warning, "found\n", late).unwrap();
        syslog.write(Level::Critical, "there\n", late).unwrap();
        let process = std::process::id();
        let expected =
            |priority: u8, text: &str| format!("<{priority}>router-daemon[{process}]: {text}");
        assert_eq!(received(&daemon), expected(28, "found"));
        assert_eq!(received(&daemon), expected(26, "there"));

        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        let later = late + RETRY;
        assert!(syslog.write(Level::Info, "lost\n", later).is_err());
        let daemon = UnixDatagram::bind(&path).unwrap();
        assert!(syslog.write(Level::Info, "lost\n", later).is_err());
        syslog.write(Level::Info, "again\n", later + RETRY).unwrap();
        assert_eq!(received(&daemon), expected(30, "again"));
    }

    #[test]
    fn a_daemon_that_does_not_read_holds_nobody_up_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let now = Instant::now();
        let (syslog, error) = Syslog::open(&path, now);
        assert!(error.is_none());
        let mut sent = 0_u32;
        while syslog.write(Level::Info, &sent.to_string(), now).is_ok() {
            sent += 1;
        }
        for number in 0..sent {
            assert!(received(&daemon).ends_with(&format!(": {number}")));
        }
        syslog.write(Level::Info, "room again", now).unwrap();
    }

    fn received(daemon: &UnixDatagram) -> String {
        let mut buffer = [0; 256];
        let length = daemon.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }
}
