//! The users that PLAIN and SCRAM are for, shared by the listeners of a router.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Semaphore;

use crate::runtime::users::{UsersError, UsersFile};

/// The users of a router, shared by its listeners.
#[derive(Debug)]
pub(crate) struct Logins {
    pub(super) users: UsersFile,
    /// Checks of passwords that may go on at once.
    pub(super) permits: Semaphore,
}

impl Logins {
    pub(crate) fn new(users: UsersFile) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            users,
            permits: Semaphore::new((processors / 2).max(1)),
        }
    }
}

/// The users of a router, once somebody has asked for them: all its listeners have the same,
/// whenever they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct SharedLogins(Arc<Mutex<Option<Arc<Logins>>>>);

impl SharedLogins {
    /// The users of the file that `saslConfigDir` and `saslConfigName` lead to; none where there is
    /// no such file. It is opened once, and then read again whenever it changes.
    ///
    /// # Errors
    /// It cannot be opened. The next who asks tries again.
    pub(crate) fn get_or_open(
        &self,
        directory: Option<&Path>,
        name: &str,
    ) -> Result<Option<Arc<Logins>>, UsersError> {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if opened.is_none()
            && let Some(file) = users_file(directory, name)
        {
            *opened = Some(Arc::new(Logins::new(UsersFile::open(&file)?)));
        }
        Ok(opened.clone())
    }
}

/// Where the users are, by the router's `saslConfigDir` and `saslConfigName`:
/// `<saslConfigDir>/<saslConfigName>.users`, if it exists.
fn users_file(directory: Option<&Path>, name: &str) -> Option<PathBuf> {
    let file = directory?.join(format!("{name}.users"));
    file.exists().then_some(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_file_is_beside_the_sasl_configuration() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(users_file(None, "skrouterd"), None);
        assert_eq!(users_file(Some(directory.path()), "skrouterd"), None);
        let file = directory.path().join("skrouterd.users");
        std::fs::write(&file, "").unwrap();
        assert_eq!(users_file(Some(directory.path()), "skrouterd"), Some(file));
    }
}
