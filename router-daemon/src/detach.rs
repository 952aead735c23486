//! Running in the background.
//!
//! A process cannot fork safely once it may have threads, and Rust offers no safe `fork` at all.
//! So the process that was called starts its own program a second time with the same arguments
//! and, as its standard output, a pipe: through it the second one says that the router is up, or
//! why it is not. An environment variable with the id of the first one tells the second one what
//! it is.

use std::cell::Cell;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, User};

/// Starts the router in the background; returns once it is up.
///
/// # Errors
///
/// What kept it from starting.
pub(crate) fn launch() -> Result<(), String> {
    let fault = |error: io::Error| format!("cannot start in the background: {error}");
    let (mut reader, writer) = io::pipe().map_err(fault)?;
    let mut arguments = std::env::args_os();
    let mut command = Command::new(std::env::current_exe().map_err(fault)?);
    command
        .arg0(arguments.next().unwrap_or_default())
        .args(arguments)
        .env(MARK, std::process::id().to_string())
        .stdin(Stdio::null())
        .stdout(writer);
    let mut child = command.spawn().map_err(fault)?;
    drop(command); // and with it our end of what the child writes to
    let mut answer = String::new();
    reader.read_to_string(&mut answer).map_err(fault)?;
    match answer.as_str() {
        READY => Ok(()),
        "" => {
            let status = child.wait().map_err(fault)?;
            Err(format!("the router has not started ({status})"))
        }
        error => Err(error.to_owned()),
    }
}

/// The process in the background.
pub(crate) struct Detached {
    /// To the process that was called, until the router is up.
    launcher: Cell<Option<File>>,
    ready: Cell<bool>,
}

impl Detached {
    /// `Some` if this process was started by [`launch`].
    pub(crate) fn current() -> Option<Self> {
        let mark = std::env::var(MARK).ok()?;
        if mark != parent_id().to_string() {
            return None;
        }
        let launcher = io::stdout().as_fd().try_clone_to_owned().ok()?;
        Some(Self {
            launcher: Cell::new(Some(launcher.into())),
            ready: Cell::new(false),
        })
    }

    /// Leaves the terminal, writes the pid file, changes to `/`, sets the umask to 0 and becomes
    /// `user`.
    ///
    /// # Errors
    ///
    /// The pid file cannot be written, there is no such user, or we may not become it.
    pub(crate) fn settle(&self, pidfile: Option<&Path>, user: Option<&str>) -> Result<(), String> {
        unistd::setsid().map_err(|error| format!("cannot leave the session: {error}"))?;
        let null = null().map_err(|error| format!("/dev/null: {error}"))?;
        unistd::dup2_stdout(&null).map_err(|error| format!("standard output: {error}"))?;
        if let Some(file) = pidfile {
            fs::write(file, format!("{}\n", std::process::id()))
                .map_err(|error| format!("pid file '{}': {error}", file.display()))?;
        }
        let settled = unistd::chdir("/")
            .map_err(|error| format!("cannot change directory to /: {error}"))
            .map(|()| umask(Mode::empty()))
            .and_then(|_| user.map_or(Ok(()), become_user));
        settled.inspect_err(|_| pidfile.map_or((), forget))
    }

    /// The router is up: the process that was called exits, and the terminal is let go.
    ///
    /// # Errors
    ///
    /// The standard streams cannot be closed.
    pub(crate) fn ready(&self) -> Result<(), String> {
        let null = null().map_err(|error| format!("/dev/null: {error}"))?;
        unistd::dup2_stderr(&null).map_err(|error| format!("standard error: {error}"))?;
        self.tell(READY);
        self.ready.set(true);
        Ok(())
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.ready.get()
    }

    /// The router does not start: the process that was called says why and exits.
    pub(crate) fn failed(&self, error: &str) {
        self.tell(error);
    }

    fn tell(&self, text: &str) {
        if let Some(mut launcher) = self.launcher.take() {
            // If it is gone, nobody waits.
            let _ = launcher.write_all(text.as_bytes());
        }
    }
}

/// Takes on a user's id and all of its groups, and none of ours.
fn become_user(name: &str) -> Result<(), String> {
    let fault = |reason: String| format!("cannot run as user '{name}': {reason}");
    let user = User::from_name(name)
        .map_err(|error| fault(error.to_string()))?
        .ok_or_else(|| fault("there is no such user".into()))?;
    if user.uid == unistd::geteuid() {
        return Ok(());
    }
    let name = CString::new(name).map_err(|error| fault(error.to_string()))?;
    unistd::initgroups(&name, user.gid)
        .and_then(|()| unistd::setgid(user.gid))
        .and_then(|()| unistd::setuid(user.uid))
        .map_err(|error| fault(error.to_string()))
}

/// A path that still means the same after a change of directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, String> {
    std::path::absolute(path).map_err(|error| format!("'{}': {error}", path.display()))
}

/// Removes the pid file of a router that has not started, or not ended well.
pub(crate) fn forget(pidfile: &Path) {
    // It may be another user's by now.
    let _ = fs::remove_file(pidfile);
}

fn null() -> io::Result<File> {
    File::options().read(true).write(true).open("/dev/null")
}

const MARK: &str = "ROUTER_DAEMON_LAUNCHED_BY";
const READY: &str = "ready\n";
