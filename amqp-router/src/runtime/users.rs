//! The file of users that SASL PLAIN checks against.
//!
//! The file is text, one user a line, sorted by name, with the verifier of RFC 5803
//! (`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the binary parts in base64) after a
//! tab; its first line is the format's version:
//!
//! ```text
//! # amqp-router users 1
//! alice    SCRAM-SHA-256$100000:c2FsdA==$BASE64:BASE64
//! ```
//!
//! A verifier does not reveal the password, is useless for any other server because of its salt,
//! and serves SASL SCRAM-SHA-256 as well as PLAIN. Further lines that start with `#` and empty
//! lines are comments. Names and passwords are prepared with SASLprep (RFC 4013), so the same
//! password typed on two keyboards is the same.

mod verifier;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use aws_lc_rs::rand::{SecureRandom, SystemRandom};

pub use verifier::DEFAULT_ITERATIONS;
use verifier::{SALT_LEN, Verifier};

/// The users of one file, held in memory: to edit them and write them back.
#[derive(Debug, Default)]
pub struct Users {
    verifiers: BTreeMap<String, Verifier>,
}

impl Users {
    /// Reads a file of users.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is of another version or has a line that is no user; the error
    /// names the file and the line.
    pub fn load(file: &Path) -> Result<Self, UsersError> {
        let text = fs::read_to_string(file).map_err(|source| UsersError::io(file, source))?;
        Self::parse(&text).map_err(|(line, reason)| UsersError::Syntax {
            file: file.into(),
            line,
            reason,
        })
    }

    /// Reads a file of users, or starts with none if it does not exist.
    ///
    /// # Errors
    ///
    /// As for [`Users::load`].
    pub fn load_or_new(file: &Path) -> Result<Self, UsersError> {
        match file.try_exists() {
            Ok(false) => Ok(Self::default()),
            _ => Self::load(file),
        }
    }

    /// Writes the file anew, readable by its owner only. A reader sees the old or the new file,
    /// never a part of one.
    ///
    /// # Errors
    ///
    /// The directory cannot be written to.
    pub fn save(&self, file: &Path) -> Result<(), UsersError> {
        self.write(file)
            .map_err(|source| UsersError::io(file, source))
    }

    /// Adds a user or gives one a new password. `iterations` makes guessing dear, and every
    /// login with it: at least 4096; [`DEFAULT_ITERATIONS`] takes some 20 ms.
    ///
    /// # Errors
    ///
    /// A name or password that is empty or holds characters that SASLprep prohibits.
    pub fn set(&mut self, name: &str, password: &str, iterations: u32) -> Result<(), UsersError> {
        let name = prepare(name).ok_or(UsersError::Name)?.into_owned();
        let password = prepare(password).ok_or(UsersError::Password)?;
        let verifier = Verifier::new(&password, random_salt(), iterations);
        self.verifiers.insert(name, verifier);
        Ok(())
    }

    /// Removes a user; false if there was none of that name.
    pub fn remove(&mut self, name: &str) -> bool {
        prepare(name).is_some_and(|name| self.verifiers.remove(name.as_ref()).is_some())
    }

    /// The names in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.verifiers.keys().map(String::as_str)
    }

    /// Whether this is the user's password. Takes as long for an unknown user as for a known
    /// one, and long on purpose: call it where blocking is allowed.
    pub fn verify(&self, name: &str, password: &str) -> bool {
        let name = prepare(name).unwrap_or_default();
        let Some(password) = prepare(password) else {
            return false;
        };
        match self.verifiers.get(name.as_ref()) {
            Some(verifier) => verifier.verify(&password),
            None => {
                self.decoy().verify(&password);
                false
            }
        }
    }

    /// A verifier that costs what those of the file usually cost.
    fn decoy(&self) -> Verifier {
        let mut iterations: Vec<_> = self.verifiers.values().map(Verifier::iterations).collect();
        iterations.sort_unstable();
        let usual = iterations
            .get(iterations.len() / 2)
            .copied()
            .unwrap_or(DEFAULT_ITERATIONS);
        Verifier::impossible(usual)
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line));
        match lines.next() {
            Some((_, HEADER)) => {}
            _ => {
                return Err((
                    1,
                    format!("not a file of users: it must start with '{HEADER}'"),
                ));
            }
        }
        let mut verifiers = BTreeMap::new();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let user = line
                .split_once('\t')
                .ok_or("no tab between name and verifier".to_owned());
            let (name, verifier) = user
                .and_then(|(name, verifier)| Ok((name, verifier.parse::<Verifier>()?)))
                .map_err(|reason| (number, reason))?;
            if verifiers.insert(name.to_owned(), verifier).is_some() {
                return Err((number, format!("user '{name}' stands here twice")));
            }
        }
        Ok(Self { verifiers })
    }

    fn write(&self, file: &Path) -> io::Result<()> {
        // The file itself, where the name is a link to it (as in a mounted volume).
        let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
        let directory = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let (temporary, mut out) = create_beside(directory)?;
        let written = (|| {
            writeln!(out, "{HEADER}")?;
            for (name, verifier) in &self.verifiers {
                writeln!(out, "{name}\t{verifier}")?;
            }
            out.sync_all()?;
            fs::rename(&temporary, &file)?;
            fs::File::open(directory)?.sync_all()
        })();
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }
}

/// The users of a file that may be edited while the router runs: a change counts from the next
/// login on.
#[derive(Debug)]
pub(crate) struct UsersFile {
    file: PathBuf,
    current: Mutex<Snapshot>,
}

#[derive(Debug)]
struct Snapshot {
    stamp: Option<Stamp>,
    users: std::sync::Arc<Users>,
}

/// What changes when a file does: when it was written, its length, its inode.
type Stamp = (SystemTime, u64, u64);

impl UsersFile {
    /// # Errors
    ///
    /// As for [`Users::load`].
    pub(crate) fn open(file: &Path) -> Result<Self, UsersError> {
        let stamp = stamp(file);
        let users = Users::load(file)?.into();
        Ok(Self {
            file: file.into(),
            current: Mutex::new(Snapshot { stamp, users }),
        })
    }

    /// Whether this is the user's password, by the file as it stands now. Blocks; see
    /// [`Users::verify`].
    pub(crate) fn verify(&self, name: &str, password: &str) -> bool {
        self.users().verify(name, password)
    }

    fn users(&self) -> std::sync::Arc<Users> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = stamp(&self.file);
        if stamp != current.stamp {
            match Users::load(&self.file) {
                Ok(users) => current.users = users.into(),
                // Nobody gets in by a file that cannot be understood.
                Err(error) => {
                    tracing::error!(target: "SERVER", "{error}; nobody can log in by password");
                    current.users = Users::default().into();
                }
            }
            current.stamp = stamp;
        }
        current.users.clone()
    }
}

/// Why a file of users cannot be used, or a user cannot be added.
#[derive(Debug, thiserror::Error)]
pub enum UsersError {
    #[error("users file '{}': {source}", file.display())]
    Io { file: PathBuf, source: io::Error },
    #[error("users file '{}', line {line}: {reason}", file.display())]
    Syntax {
        file: PathBuf,
        line: usize,
        reason: String,
    },
    #[error("the name is empty, has a character that names cannot have, or starts with '#'")]
    Name,
    #[error("the password is empty or has a character that passwords cannot have")]
    Password,
}

impl UsersError {
    fn io(file: &Path, source: io::Error) -> Self {
        Self::Io {
            file: file.into(),
            source,
        }
    }
}

/// SASLprep; `None` for what it prohibits (controls among them, so tabs and line ends), for
/// nothing, and for a comment.
fn prepare(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    let prepared = stringprep::saslprep(text).ok()?;
    (!prepared.is_empty() && !prepared.starts_with('#')).then_some(prepared)
}

fn create_beside(directory: &Path) -> io::Result<(PathBuf, fs::File)> {
    let name: String = random_salt()[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let path = directory.join(format!(".users-{name}"));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(&path).map(|file| (path, file))
}

fn random_salt() -> [u8; SALT_LEN] {
    let mut salt = [0; SALT_LEN];
    SystemRandom::new()
        .fill(&mut salt)
        .expect("the system gives random bytes once it has booted");
    salt
}

fn stamp(file: &Path) -> Option<Stamp> {
    let data = fs::metadata(file).ok()?;
    #[cfg(unix)]
    let inode = std::os::unix::fs::MetadataExt::ino(&data);
    #[cfg(not(unix))]
    let inode = 0;
    Some((data.modified().ok()?, data.len(), inode))
}

const HEADER: &str = "# amqp-router users 1";

#[cfg(test)]
mod tests {
    use super::*;

    const QUICK: u32 = verifier::MIN_ITERATIONS;

    #[test]
    fn a_user_logs_in_with_the_password_only() {
        let mut users = Users::default();
        users.set("alice", "secret", QUICK).unwrap();
        assert!(users.verify("alice", "secret"));
        assert!(!users.verify("alice", "Secret"));
        assert!(!users.verify("alice", ""));
        assert!(!users.verify("bob", "secret"));
        assert!(!users.verify("", ""));
        users.set("alice", "new", QUICK).unwrap();
        assert!(!users.verify("alice", "secret") && users.verify("alice", "new"));
        assert!(users.remove("alice") && !users.remove("alice"));
        assert!(!users.verify("alice", "new"));
    }

    #[test]
    fn the_same_characters_in_another_form_are_the_same_password() {
        let mut users = Users::default();
        users.set("I\u{00AD}X", "e\u{0301}", QUICK).unwrap();
        assert!(users.verify("IX", "\u{00E9}"));
        assert!(matches!(
            users.set("a\tb", "x", QUICK),
            Err(UsersError::Name)
        ));
        assert!(matches!(
            users.set("a", "x\u{0007}", QUICK),
            Err(UsersError::Password)
        ));
    }

    #[test]
    fn the_file_is_private_and_reads_back() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let mut users = Users::load_or_new(&file).unwrap();
        users.set("bob", "b", QUICK).unwrap();
        users.set("alice@example.com", "a", QUICK).unwrap();
        users.save(&file).unwrap();

        let users = Users::load(&file).unwrap();
        assert_eq!(
            users.names().collect::<Vec<_>>(),
            ["alice@example.com", "bob"]
        );
        assert!(users.verify("bob", "b"));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&file).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("# amqp-router users 1\nalice@example.com\tSCRAM-SHA-256$4096:"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_bad_file_is_refused_with_its_line() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let refusal = |text: &str| {
            fs::write(&file, text).unwrap();
            Users::load(&file).unwrap_err().to_string()
        };
        assert!(refusal("alice:secret\n").contains("line 1: not a file of users"));
        let text = refusal("# amqp-router users 1\n# comment\n\nalice secret\n");
        assert!(text.contains("line 4: no tab"), "{text}");
        let text = refusal("# amqp-router users 1\nalice\tsecret\n");
        assert!(
            text.contains("line 2: ") && text.contains("SCRAM-SHA-256$"),
            "{text}"
        );
        let mut users = Users::default();
        users.set("a", "a", QUICK).unwrap();
        let line = format!("a\t{}\n", users.verifiers["a"]);
        assert!(refusal(&format!("{HEADER}\n{line}{line}")).contains("line 3: user 'a' stands"));
    }

    #[test]
    fn an_edited_file_counts_from_the_next_login_on() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let mut users = Users::default();
        users.set("alice", "a", QUICK).unwrap();
        users.save(&file).unwrap();
        let live = UsersFile::open(&file).unwrap();
        assert!(live.verify("alice", "a"));
        users.set("bob", "b", QUICK).unwrap();
        users.save(&file).unwrap();
        assert!(live.verify("bob", "b"));
        fs::write(&file, "rubbish").unwrap();
        assert!(!live.verify("alice", "a"));
    }
}
