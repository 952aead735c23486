//! Where a log is written to.

use std::io::{self, Write};
use std::time::Instant;

use super::Level;
use super::file::LogFile;

/// The `outputFile` of a `log` entity.
pub(super) enum Output {
    Stdout,
    Stderr,
    #[cfg(unix)]
    Syslog(std::os::unix::net::UnixDatagram),
    File(LogFile),
}

impl Output {
    pub(super) fn open(name: &str) -> io::Result<Self> {
        match name {
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            "syslog" => syslog(),
            _ => LogFile::open(name).map(Self::File),
        }
    }

    pub(super) fn is_named(&self, name: &str) -> bool {
        match self {
            Self::Stdout => name == "stdout",
            Self::Stderr => name == "stderr",
            #[cfg(unix)]
            Self::Syslog(_) => name == "syslog",
            Self::File(file) => file.name() == name,
        }
    }

    pub(super) fn is_syslog(&self) -> bool {
        self.is_named("syslog")
    }

    /// Writes one line. There is nobody to tell of a failure.
    pub(super) fn write(&self, level: Level, line: String) {
        let line_bytes = line.as_bytes();
        let _ = match self {
            Self::Stdout => io::stdout().lock().write_all(line_bytes),
            Self::Stderr => io::stderr().lock().write_all(line_bytes),
            Self::File(file) => file.write(line_bytes, Instant::now()),
            #[cfg(unix)]
            Self::Syslog(socket) => {
                let process = std::process::id();
                let priority = DAEMON | severity(level);
                let text = line.trim_end();
                let message = format!("<{priority}>router-daemon[{process}]: {text}");
                socket.send(message.as_bytes()).map(drop)
            }
        };
        #[cfg(not(unix))]
        let _ = level;
    }
}

#[cfg(unix)]
fn syslog() -> io::Result<Output> {
    let socket = std::os::unix::net::UnixDatagram::unbound()?;
    socket.connect("/dev/log")?;
    // A syslog daemon that does not read loses lines rather than stop the router.
    socket.set_nonblocking(true)?;
    Ok(Output::Syslog(socket))
}

#[cfg(not(unix))]
fn syslog() -> io::Result<Output> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system has no syslog",
    ))
}

/// RFC 3164 section 4.1.1.
#[cfg(unix)]
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
#[cfg(unix)]
const DAEMON: u8 = 3 << 3;
