//! A file that lines are appended to, and that may be moved away meanwhile.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A log file by its name: when there is another file of this name, or none, as after a rotation,
/// lines go there, within [`LogFile::LOOK`].
pub(super) struct LogFile {
    name: String,
    open: Mutex<Open>,
}

struct Open {
    file: File,
    looked: Instant,
}

impl LogFile {
    /// How often it is looked whether the file is still there.
    pub(super) const LOOK: Duration = Duration::from_secs(1);

    pub(super) fn open(name: &str) -> io::Result<Self> {
        let open = Open {
            file: append_to(name)?,
            looked: Instant::now(),
        };
        Ok(Self {
            name: name.to_owned(),
            open: Mutex::new(open),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes one line, whole: the file is open for appending, so that lines of several processes
    /// stay apart too.
    pub(super) fn write(&self, line: &[u8], now: Instant) -> io::Result<()> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(open.looked) >= Self::LOOK {
            open.looked = now;
            if !is_named(&open.file, &self.name) {
                // Where there is no room for a new one, the old one goes on.
                if let Ok(file) = append_to(&self.name) {
                    open.file = file;
                }
            }
        }
        open.file.write_all(line)
    }
}

fn append_to(name: &str) -> io::Result<File> {
    let mut options = OpenOptions::new();
    // Others may read it, whatever umask a daemon runs with.
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o644);
    options.create(true).append(true).open(name)
}

/// Whether a file is the one that has this name.
#[cfg(unix)]
fn is_named(file: &File, name: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), std::fs::metadata(name)) {
        (Ok(own), Ok(named)) => (own.dev(), own.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_named(_: &File, name: &str) -> bool {
    std::fs::metadata(name).is_ok()
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_file_that_was_moved_away_is_followed_by_another() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let file = LogFile::open(path("log").to_str().expect("text")).expect("it opens");
        let start = Instant::now();
        let write = |text: &str, after: u32| {
            let now = start + LogFile::LOOK * after;
            file.write(text.as_bytes(), now).expect("there is room");
        };
        write("one\n", 0);
        fs::rename(path("log"), path("log.1")).expect("it is there");
        write("two\n", 0);
        write("three\n", 2);
        write("four\n", 2);
        let text = |name: &str| fs::read_to_string(path(name)).expect("it is there");
        assert_eq!(text("log.1"), "one\ntwo\n");
        assert_eq!(text("log"), "three\nfour\n");
        fs::remove_file(path("log")).expect("it is there");
        fs::write(path("log"), "somebody's\n").expect("there is room");
        write("five\n", 4);
        assert_eq!(text("log"), "somebody's\nfive\n");
    }
}
