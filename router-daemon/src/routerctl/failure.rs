//! Why a command did not do what it was asked for, and the exit code that says so.

use std::io;
use std::process::ExitCode;

/// What went wrong, in words that say what to do.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The router said no, or there is nothing of that kind.
    Refused(String),
    /// The command line makes no sense, or names a file that cannot be used.
    Usage(String),
    /// There is no connection to the router, or it broke.
    Connection(String),
    /// The connection broke, and has not been asked why.
    Broken,
    /// No answer came in time.
    TimedOut(String),
    /// The output went nowhere; `head` had enough, for example.
    Output(io::Error),
}

/// What a command returns.
pub(crate) type Outcome<T = ()> = Result<T, Failure>;

impl Failure {
    /// As `--help` documents it.
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) => 1,
            Self::Usage(_) => 2,
            Self::Connection(_) | Self::Broken => 3,
            Self::TimedOut(_) => 4,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
            Self::Output(_) => 1,
        })
    }

    /// What to print; nothing if the reader of our output has left.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Refused(text)
            | Self::Usage(text)
            | Self::Connection(text)
            | Self::TimedOut(text) => Some(text.clone()),
            Self::Broken => Some("the connection to the router was lost".into()),
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => None,
            Self::Output(error) => Some(format!("cannot write the output: {error}")),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
