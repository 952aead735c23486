//! The file of users that SASL PLAIN and SCRAM check against.
//!
//! The file is text, one user a line, sorted by name, with a verifier of RFC 5803
//! (`SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`, the binary parts in base64) for each
//! mechanism that the user can use, after a tab each; its first line is the format's version and
//! a key of the file:
//!
//! ```text
//! # amqp-router users 2 BASE64
//! alice    SCRAM-SHA-256$100000:c2FsdA==$BASE64:BASE64
//! ```
//!
//! A verifier does not reveal the password, is useless for any other server because of its salt,
//! and serves SASL PLAIN as well as its own mechanism. The key makes up salts for users that there
//! are not, so that they look like others to who asks; files of version 1 have none, and
//! get a new one whenever they are read. Further lines that start with `#` and empty lines are
//! comments. Names and passwords are prepared with SASLprep (RFC 4013), so the same password typed
//! on two keyboards is the same.

mod verifier;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;
use std::{fs, io};

use aws_lc_rs::hmac;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

pub use crate::runtime::scram::ScramHash;
pub use verifier::DEFAULT_ITERATIONS;
pub(crate) use verifier::Verifier;

/// The users of one file, held in memory: to edit them and write them back.
#[derive(Debug)]
pub struct Users {
    /// The best first, of different hashes, and never none.
    verifiers: BTreeMap<String, Vec<Verifier>>,
    /// Makes up what users that there are not are told.
    decoy_key: [u8; SALT_LEN],
}

impl Default for Users {
    /// No users.
    fn default() -> Self {
        Self {
            verifiers: BTreeMap::new(),
            decoy_key: random_salt(),
        }
    }
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

    /// Adds a user or gives one a new password, for PLAIN and SCRAM-SHA-256. `iterations` makes
    /// guessing dear, and every login with it: at least 4096; [`DEFAULT_ITERATIONS`] takes some
    /// 20 ms.
    ///
    /// # Errors
    ///
    /// A name or password that is empty or holds characters that SASLprep prohibits.
    pub fn set(&mut self, name: &str, password: &str, iterations: u32) -> Result<(), UsersError> {
        self.set_for(name, password, &[ScramHash::Sha256], iterations)
    }

    /// Adds a user or gives one a new password, for PLAIN and these of SCRAM's mechanisms; without
    /// any, as [`Users::set`].
    ///
    /// # Errors
    ///
    /// As for [`Users::set`].
    pub fn set_for(
        &mut self,
        name: &str,
        password: &str,
        hashes: &[ScramHash],
        iterations: u32,
    ) -> Result<(), UsersError> {
        let name = prepare(name).ok_or(UsersError::Name)?.into_owned();
        let password = prepare(password).ok_or(UsersError::Password)?;
        let mut hashes = match hashes {
            [] => vec![ScramHash::Sha256],
            some => some.to_vec(),
        };
        hashes.sort_unstable_by(|a, b| b.cmp(a));
        hashes.dedup();
        let verifiers = hashes
            .into_iter()
            .map(|hash| Verifier::new(hash, &password, &random_salt(), iterations));
        self.verifiers.insert(name, verifiers.collect());
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

    /// The mechanisms of SCRAM that a user can use, the best first.
    pub fn mechanisms(&self, name: &str) -> impl Iterator<Item = ScramHash> {
        let verifiers = prepare(name).and_then(|name| self.verifiers.get(name.as_ref()));
        verifiers.into_iter().flatten().map(Verifier::hash)
    }

    /// Whether any user can use this mechanism.
    pub(crate) fn serve(&self, hash: ScramHash) -> bool {
        let mut all = self.verifiers.values().flatten();
        all.any(|verifier| verifier.hash() == hash)
    }

    /// The verifier of a user, and whether there is such a user: if not, one that always looks
    /// the same for the same name, and as those of others do.
    pub(crate) fn verifier(&self, name: &str, hash: ScramHash) -> (Verifier, bool) {
        let name = prepare(name).unwrap_or_default();
        // Looked for either way, so that both ways take as long.
        let decoy = self.decoy(&name, hash);
        let mut verifiers = self.verifiers.get(name.as_ref()).into_iter().flatten();
        match verifiers.find(|one| one.hash() == hash) {
            Some(verifier) => (verifier.clone(), true),
            None => (decoy, false),
        }
    }

    /// Whether this is the user's password. Takes as long for an unknown user as for a known
    /// one, and long on purpose: call it where blocking is allowed.
    pub fn verify(&self, name: &str, password: &str) -> bool {
        let name = prepare(name).unwrap_or_default();
        let Some(password) = prepare(password) else {
            return false;
        };
        let usual = self.usual(|_| true);
        let decoy = self.decoy("", usual.map_or(ScramHash::Sha256, Verifier::hash));
        match self.verifiers.get(name.as_ref()) {
            Some(verifiers) => verifiers[0].verify(&password),
            None => {
                decoy.verify(&password);
                false
            }
        }
    }

    /// A verifier that looks as those of the file usually do and costs as much.
    fn decoy(&self, name: &str, hash: ScramHash) -> Verifier {
        let usual = self.usual(|one| one.hash() == hash);
        let salt = self.decoy_salt(name, hash);
        let length = usual.map_or(SALT_LEN, |one| one.salt().len());
        let iterations = usual.map_or(DEFAULT_ITERATIONS, Verifier::iterations);
        Verifier::impossible(hash, &salt[..length.min(salt.len())], iterations)
    }

    /// Of the verifiers that count, the one whose iterations are in the middle.
    fn usual(&self, counts: impl Fn(&Verifier) -> bool) -> Option<&Verifier> {
        let all = self.verifiers.values().flatten();
        let mut some: Vec<_> = all.filter(|verifier| counts(verifier)).collect();
        some.sort_unstable_by_key(|verifier| verifier.iterations());
        some.get(some.len() / 2).copied()
    }

    fn decoy_salt(&self, name: &str, hash: ScramHash) -> Vec<u8> {
        let key = hmac::Key::new(hmac::HMAC_SHA512, &self.decoy_key);
        let text = format!("{hash} {name}");
        hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line));
        let first = lines.next().map_or("", |(_, line)| line);
        let decoy_key = match first.strip_prefix(HEADER) {
            Some(key) => parse_key(key).ok_or((1, "the file's key is damaged".to_owned()))?,
            None if first == HEADER_1 => random_salt(),
            None => {
                return Err((
                    1,
                    format!("not a file of users: it must start with '{HEADER_1}' or '{HEADER}'"),
                ));
            }
        };
        let mut verifiers = BTreeMap::new();
        for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
            let user = line
                .split_once('\t')
                .ok_or("no tab between name and verifier".to_owned());
            let (name, verifier) = user
                .and_then(|(name, verifiers)| Ok((name, parse_verifiers(verifiers)?)))
                .map_err(|reason| (number, reason))?;
            if verifiers.insert(name.to_owned(), verifier).is_some() {
                return Err((number, format!("user '{name}' stands here twice")));
            }
        }
        Ok(Self {
            verifiers,
            decoy_key,
        })
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
            writeln!(out, "{HEADER}{}", BASE64.encode(self.decoy_key))?;
            for (name, verifiers) in &self.verifiers {
                write!(out, "{name}")?;
                for verifier in verifiers {
                    write!(out, "\t{verifier}")?;
                }
                writeln!(out)?;
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

    /// The users as the file stands now.
    pub(crate) fn users(&self) -> std::sync::Arc<Users> {
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
pub(crate) fn prepare(text: &str) -> Option<std::borrow::Cow<'_, str>> {
    let prepared = stringprep::saslprep(text).ok()?;
    (!prepared.is_empty() && !prepared.starts_with('#')).then_some(prepared)
}

fn parse_key(text: &str) -> Option<[u8; SALT_LEN]> {
    BASE64.decode(text).ok()?.try_into().ok()
}

fn parse_verifiers(text: &str) -> Result<Vec<Verifier>, String> {
    let parsed: Result<Vec<Verifier>, _> = text.split('\t').map(str::parse).collect();
    let mut verifiers = parsed?;
    verifiers.sort_unstable_by_key(|verifier| std::cmp::Reverse(verifier.hash()));
    let count = verifiers.len();
    verifiers.dedup_by_key(|verifier| verifier.hash());
    match verifiers.len() == count {
        true => Ok(verifiers),
        false => Err("two verifiers of the same mechanism".to_owned()),
    }
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

/// The key follows.
const HEADER: &str = "# amqp-router users 2 ";
const HEADER_1: &str = "# amqp-router users 1";
const SALT_LEN: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::scram;

    const QUICK: u32 = scram::MIN_ITERATIONS;

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
        let (header, text) = text.split_once('\n').unwrap();
        assert!(header.starts_with("# amqp-router users 2 "));
        assert!(text.starts_with("alice@example.com\tSCRAM-SHA-256$4096:"));
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
        let verifier = &users.verifiers["a"][0];
        let line = format!("a\t{verifier}\n");
        assert!(refusal(&format!("{HEADER_1}\n{line}{line}")).contains("line 3: user 'a' stands"));
        let line = format!("a\t{verifier}\t{verifier}\n");
        assert!(refusal(&format!("{HEADER_1}\n{line}")).contains("line 2: two verifiers"));
        assert!(refusal(&format!("{HEADER}AAAA\n")).contains("line 1: the file's key"));
    }

    #[test]
    fn a_user_has_a_verifier_for_each_mechanism() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let mut users = Users::default();
        let hashes = [ScramHash::Sha1, ScramHash::Sha512, ScramHash::Sha1];
        users.set_for("alice", "a", &hashes, QUICK).unwrap();
        users.set("bob", "b", QUICK).unwrap();
        users.save(&file).unwrap();
        let users = Users::load(&file).unwrap();
        let mechanisms: Vec<_> = users.mechanisms("alice").collect();
        assert_eq!(mechanisms, [ScramHash::Sha512, ScramHash::Sha1]);
        assert_eq!(users.mechanisms("nobody").count(), 0);
        assert!(ScramHash::ALL.into_iter().all(|hash| users.serve(hash)));
        assert!(users.verify("alice", "a") && users.verify("bob", "b"));
        assert!(users.verifier("alice", ScramHash::Sha1).1);
        assert!(!users.verifier("alice", ScramHash::Sha256).1);
    }

    #[test]
    fn a_user_that_does_not_exist_looks_like_the_others_for_ever() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("users");
        let mut users = Users::default();
        users.set("alice", "a", 5000).unwrap();
        let told = |users: &Users, name: &str| {
            let (verifier, known) = users.verifier(name, ScramHash::Sha256);
            assert!(!known);
            (verifier.salt().to_vec(), verifier.iterations())
        };
        let mallory = told(&users, "mallory");
        assert_eq!((mallory.0.len(), mallory.1), (SALT_LEN, 5000));
        assert_ne!(told(&users, "trudy"), mallory);
        users.save(&file).unwrap();
        let mut users = Users::load(&file).unwrap();
        assert_eq!(told(&users, "mallory"), mallory);
        users.set("bob", "b", 5000).unwrap();
        assert_eq!(told(&users, "mallory"), mallory);
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
