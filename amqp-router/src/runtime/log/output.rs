//! Where a log is written to.

use std::io::{self, Write};
#[cfg(unix)]
use std::path::Path;
use std::time::Instant;

use super::Level;
use super::file::LogFile;
#[cfg(unix)]
use super::syslog::Syslog;

/// The `outputFile` of a `log` entity.
pub(super) enum Output {
    Stdout,
    Stderr,
    #[cfg(unix)]
    Syslog(Syslog),
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
            Self::Syslog(syslog) => syslog.write(level, &line, Instant::now()),
        };
        #[cfg(not(unix))]
        let _ = level;
    }
}

/// Where there is no daemon yet, there may be one later: the router does without until then.
#[cfg(unix)]
fn syslog() -> io::Result<Output> {
    let (syslog, missing) = Syslog::open(Path::new(SYSLOG), Instant::now());
    if let Some(error) = missing {
        eprintln!(
            "Warning: nobody reads the log at '{SYSLOG}' yet ({error}); lines are lost until somebody does"
        );
    }
    Ok(Output::Syslog(syslog))
}

#[cfg(not(unix))]
fn syslog() -> io::Result<Output> {
    Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "this system has no syslog",
    ))
}

#[cfg(unix)]
const SYSLOG: &str = "/dev/log";
