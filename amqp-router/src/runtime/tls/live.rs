//! sslProfiles while the router runs: they follow their files and their updates.
//!
//! A [`LiveProfile`] looks at its files when a connection is to be secured, at most once a second,
//! and reads them again when one has changed; so a certificate that is renewed in place reaches
//! new connections without a restart. What cannot be used is said once and the old one stays.
//! What listeners and connectors make of a profile is a [`Derived`].

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio_rustls::{TlsAcceptor, TlsConnector};
use tracing::{info, warn};

use crate::management::Invalid;

use super::expiry::{Expiry, Horizon};
use super::{TlsError, TlsProfile, UidFormat};

/// All sslProfiles of a router, by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profiles(Arc<Mutex<Registry>>);

#[derive(Debug, Default)]
struct Registry {
    profiles: BTreeMap<String, Arc<LiveProfile>>,
    /// Certificates whose end has been announced, by fingerprint and horizon.
    announced: HashSet<(String, Horizon)>,
}

/// How a profile is read, and from what.
#[derive(Clone)]
pub(crate) struct Source {
    /// Reads and checks everything; fails with a sentence that names the entity.
    pub(crate) load: Arc<dyn Fn() -> Result<TlsProfile, Invalid> + Send + Sync>,
    /// The files that decide what `load` gives.
    pub(crate) files: Vec<PathBuf>,
    /// Distinguishes generations of credentials: connections remember the one they began with.
    pub(crate) ordinal: u64,
}

/// One sslProfile, as it is now.
#[derive(Debug)]
pub(crate) struct LiveProfile {
    name: Arc<str>,
    state: Mutex<State>,
}

struct State {
    source: Source,
    profile: TlsProfile,
    stamps: Vec<Option<Stamp>>,
    /// Counts what new connections must not miss.
    generation: u64,
    checked: Instant,
}

/// What changes of a file when its content does.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    inode: u64,
}

/// What a listener or connector makes of its profile: made again when the profile is another.
pub(crate) struct Derived<T> {
    profile: Arc<LiveProfile>,
    make: Make<T>,
    made: Mutex<(u64, Ready<T>)>,
}

type Make<T> = Box<dyn Fn(&TlsProfile) -> Result<T, TlsError> + Send + Sync>;

pub(crate) type LiveAcceptor = Derived<TlsAcceptor>;
pub(crate) type LiveConnector = Derived<TlsConnector>;

/// What secures one connection.
#[derive(Clone)]
pub(crate) struct Ready<T> {
    pub(crate) tls: T,
    pub(crate) uid_format: UidFormat,
    pub(crate) profile: Arc<str>,
    pub(crate) ordinal: u64,
}

impl Profiles {
    /// The profile of this name, which `source` reads if it is not there yet.
    ///
    /// # Errors
    /// Something that the profile names cannot be used.
    pub(crate) fn get_or_load(
        &self,
        name: &str,
        source: Source,
        now: Instant,
    ) -> Result<Arc<LiveProfile>, Invalid> {
        if let Some(profile) = self.lock().profiles.get(name) {
            return Ok(Arc::clone(profile));
        }
        let profile = Arc::new(LiveProfile::load(name, source, now)?);
        let mut registry = self.lock();
        registry.profiles.insert(name.into(), Arc::clone(&profile));
        Ok(profile)
    }

    /// Has new connections use what `source` gives from now on.
    ///
    /// # Errors
    /// Something that the profile names cannot be used; nothing has changed.
    pub(crate) fn update(&self, name: &str, source: Source, now: Instant) -> Result<(), Invalid> {
        // Whoever makes a new one takes the lock, too.
        let known = self.lock().profiles.get(name).cloned();
        match known {
            Some(profile) => profile.update(source, now),
            None => self.get_or_load(name, source, now).map(drop),
        }
    }

    pub(crate) fn remove(&self, name: &str) {
        self.lock().profiles.remove(name);
    }

    /// Reads what has changed and says which certificates end soon, each once.
    pub(crate) fn sweep(&self, now: Instant, clock: SystemTime) {
        let profiles: Vec<_> = self.lock().profiles.values().cloned().collect();
        for profile in profiles {
            profile.current(now);
        }
        for (profile, expiry) in self.expiries() {
            if let Some(horizon) = expiry.horizon(clock)
                && self.lock().announce(&expiry, horizon)
            {
                warn!(target: "SERVER", "sslProfile '{profile}': {}", expiry.announcement(clock));
            }
        }
    }

    /// Every certificate of every profile with the profile's name, for logs and metrics.
    pub(crate) fn expiries(&self) -> Vec<(Arc<str>, Expiry)> {
        let profiles: Vec<_> = self.lock().profiles.values().cloned().collect();
        let of = |profile: Arc<LiveProfile>| {
            let expiries = profile.lock().profile.expiries.to_vec();
            let name = Arc::clone(&profile.name);
            expiries
                .into_iter()
                .map(move |expiry| (name.clone(), expiry))
        };
        profiles.into_iter().flat_map(of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry {
    /// True the first time.
    fn announce(&mut self, expiry: &Expiry, horizon: Horizon) -> bool {
        if self.announced.len() > MAX_ANNOUNCED {
            self.announced.clear();
        }
        self.announced.insert((expiry.fingerprint.clone(), horizon))
    }
}

impl LiveProfile {
    fn load(name: &str, source: Source, now: Instant) -> Result<Self, Invalid> {
        let stamps = stamps(&source.files);
        let profile = (source.load)()?;
        Ok(Self {
            name: name.into(),
            state: Mutex::new(State {
                source,
                profile,
                stamps,
                generation: 0,
                checked: now,
            }),
        })
    }

    fn update(&self, source: Source, now: Instant) -> Result<(), Invalid> {
        let stamps = stamps(&source.files);
        let profile = (source.load)()?;
        let mut state = self.lock();
        *state = State {
            source,
            profile,
            stamps,
            generation: state.generation + 1,
            checked: now,
        };
        Ok(())
    }

    /// The profile, its generation and its ordinal, after a look at its files.
    fn current(&self, now: Instant) -> (u64, TlsProfile, u64) {
        let mut state = self.lock();
        if now.duration_since(state.checked) >= CHECK_INTERVAL {
            state.checked = now;
            state.follow_files(&self.name);
        }
        (
            state.generation,
            state.profile.clone(),
            state.source.ordinal,
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn follow_files(&mut self, name: &str) {
        let stamps = stamps(&self.source.files);
        if stamps == self.stamps {
            return;
        }
        // Said once: another attempt follows when the files change again.
        self.stamps = stamps;
        match (self.source.load)() {
            Ok(profile) => {
                info!(target: "SERVER", "sslProfile '{name}': its files have changed; new connections use them");
                self.profile = profile;
                self.generation += 1;
            }
            Err(reason) => {
                warn!(target: "SERVER", "{reason}; new connections go on with what was there before");
            }
        }
    }
}

impl<T: Clone> Derived<T> {
    /// # Errors
    /// The profile lacks what `make` needs.
    pub(crate) fn new(
        profile: Arc<LiveProfile>,
        now: Instant,
        make: impl Fn(&TlsProfile) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let (generation, loaded, ordinal) = profile.current(now);
        let ready = Ready::new(&profile, &loaded, ordinal, make(&loaded)?);
        Ok(Self {
            profile,
            make: Box::new(make),
            made: Mutex::new((generation, ready)),
        })
    }

    /// The name of the profile.
    pub(crate) fn profile(&self) -> &str {
        &self.profile.name
    }

    /// What the next connection is secured with.
    pub(crate) fn current(&self, now: Instant) -> Ready<T> {
        let (generation, loaded, ordinal) = self.profile.current(now);
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if made.0 != generation {
            match (self.make)(&loaded) {
                Ok(tls) => made.1 = Ready::new(&self.profile, &loaded, ordinal, tls),
                Err(error) => {
                    warn!(target: "SERVER", "{error}; new connections go on with what was there before");
                }
            }
            made.0 = generation;
        }
        made.1.clone()
    }
}

impl<T> Ready<T> {
    fn new(live: &LiveProfile, profile: &TlsProfile, ordinal: u64, tls: T) -> Self {
        Self {
            tls,
            uid_format: profile.uid_format().clone(),
            profile: Arc::clone(&live.name),
            ordinal,
        }
    }
}

impl<T> fmt::Debug for Derived<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Derived").field(&self.profile.name).finish()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Source").field(&self.files).finish()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    use std::os::unix::fs::MetadataExt;
    let stamp = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        Some(Stamp {
            modified: data.modified().ok(),
            length: data.len(),
            inode: data.ino(),
        })
    };
    files.iter().map(stamp).collect()
}

/// How often files are looked at while connections come.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Announcements that are remembered.
const MAX_ANNOUNCED: usize = 10_000;

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::pki::Pki;
    use super::super::{ClientCertificate, ProfileSettings};
    use super::*;

    #[test]
    fn a_renewed_certificate_reaches_new_connections() {
        let (pki, settings) = pki();
        let (start, profiles) = (Instant::now(), Profiles::default());
        let acceptor = acceptor(&profiles, &settings, start);
        let profile = || profiles.lock().profiles["server"].current(start).0;
        assert_eq!(profile(), 0);

        let (certificate, key) = pki.issue("server", &["renewed"]);
        fs::write(settings.cert_file.as_ref().unwrap(), certificate).unwrap();
        fs::write(settings.private_key_file.as_ref().unwrap(), key).unwrap();
        acceptor.current(start + CHECK_INTERVAL);
        assert_eq!(profile(), 1);
        assert_eq!(acceptor.made.lock().unwrap().0, 1);
        acceptor.current(start + CHECK_INTERVAL * 2);
        assert_eq!(profile(), 1, "nothing has changed since");
    }

    #[test]
    fn a_broken_file_leaves_the_old_certificate_in_use() {
        let (_pki, settings) = pki();
        let (start, profiles) = (Instant::now(), Profiles::default());
        let acceptor = acceptor(&profiles, &settings, start);
        fs::write(settings.cert_file.as_ref().unwrap(), "half a fi").unwrap();
        acceptor.current(start + CHECK_INTERVAL);
        assert_eq!(acceptor.made.lock().unwrap().0, 0);
    }

    #[test]
    fn an_update_reaches_those_who_use_the_profile_with_its_ordinal() {
        let (_pki, settings) = pki();
        let (start, profiles) = (Instant::now(), Profiles::default());
        let acceptor = acceptor(&profiles, &settings, start);
        assert_eq!(acceptor.current(start).ordinal, 0);
        let newer = Source {
            ordinal: 7,
            ..source(&settings)
        };
        profiles.update("server", newer, start).unwrap();
        assert_eq!(acceptor.current(start).ordinal, 7);

        let broken = ProfileSettings {
            ciphers: Some("NONESUCH".into()),
            ..settings.clone()
        };
        let error = profiles.update("server", source(&broken), start);
        assert!(error.unwrap_err().to_string().contains("'NONESUCH'"));
        assert_eq!(acceptor.current(start).ordinal, 7);
    }

    #[test]
    fn a_certificate_that_ends_soon_is_announced_once() {
        let (_pki, settings) = pki();
        let profiles = Profiles::default();
        acceptor(&profiles, &settings, Instant::now());
        let (_, own) = profiles.expiries().swap_remove(0);
        let soon = own.not_after - Duration::from_secs(86_400);
        let horizon = own.horizon(soon).expect("it ends in a day");
        let mut registry = profiles.lock();
        assert!(registry.announce(&own, horizon));
        assert!(!registry.announce(&own, horizon));
        let after = own.not_after + Duration::from_secs(1);
        assert!(registry.announce(&own, own.horizon(after).unwrap()));
    }

    fn pki() -> (Pki, ProfileSettings) {
        let pki = Pki::new();
        let settings = pki.profile("server", &["localhost"]);
        (pki, settings)
    }

    fn acceptor(profiles: &Profiles, settings: &ProfileSettings, now: Instant) -> LiveAcceptor {
        let live = profiles
            .get_or_load("server", source(settings), now)
            .unwrap();
        Derived::new(live, now, |profile| {
            profile.acceptor(ClientCertificate::Optional, &[])
        })
        .unwrap()
    }

    fn source(settings: &ProfileSettings) -> Source {
        let settings = settings.clone();
        let files = [&settings.cert_file, &settings.private_key_file];
        Source {
            files: files.into_iter().flatten().cloned().collect(),
            load: Arc::new(move || {
                TlsProfile::load(&settings).map_err(|error| Invalid {
                    entity: "sslProfile 'server'".into(),
                    problem: error.to_string(),
                })
            }),
            ordinal: 0,
        }
    }
}
