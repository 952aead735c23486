//! How a connection authenticates, step by step, beside its worker.

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;
use tracing::warn;
use zeroize::Zeroizing;

use crate::runtime::driver::ToWorker;
use crate::runtime::sasl::{Authenticator, Mechanism, Outcome, attempt};
use crate::runtime::scram::client::{ClientExchange, Credentials};
use crate::runtime::scram::server::ServerExchange;
use crate::runtime::scram::{ScramHash, new_nonce};
use crate::runtime::service::Service;
use crate::runtime::sources::{Refused, Sources};
use crate::worker::{Authentication, ConnectionId, LoginStep};

/// Where a connection stands with authenticating.
#[derive(Debug)]
pub(crate) enum Login {
    /// A client authenticates to us.
    Client {
        authenticator: Arc<Authenticator>,
        /// Once we have sent a challenge; with who tries what, for the log.
        exchange: Option<Box<(ScramHash, ServerExchange, String)>>,
    },
    /// We authenticate to a server.
    Server {
        credentials: Option<Arc<Credentials>>,
        /// Once it has chosen; locked while a challenge is answered.
        exchange: Option<Arc<Mutex<ClientExchange>>>,
    },
}

impl Login {
    /// A client is to authenticate.
    pub(crate) fn of_client(authenticator: Arc<Authenticator>) -> Self {
        Self::Client {
            authenticator,
            exchange: None,
        }
    }

    /// We are to authenticate.
    pub(crate) fn of_server(credentials: Option<Arc<Credentials>>) -> Self {
        Self::Server {
            credentials,
            exchange: None,
        }
    }
}

impl Service {
    /// Takes the next step of a connection that authenticates.
    pub(crate) fn authenticate(
        &mut self,
        worker: usize,
        connection: ConnectionId,
        id: u64,
        step: LoginStep,
    ) {
        if !self.connections.contains_key(&id) {
            return;
        }
        let asked = Asked {
            worker,
            connection,
            id,
        };
        match step {
            LoginStep::Init {
                mechanism,
                response,
            } => self.on_init(&asked, mechanism.as_str(), response),
            LoginStep::Response(response) => self.on_response(&asked, &response),
            LoginStep::Chosen(mechanism) => {
                let answer = match self.begin_exchange(id, mechanism.as_str()) {
                    Some(response) => Authentication::Begin {
                        mechanism,
                        response,
                    },
                    None => Authentication::GiveUp("we have no credentials"),
                };
                self.answer(&asked, answer);
            }
            LoginStep::Challenge(challenge) => self.on_challenge(&asked, challenge),
            LoginStep::Success(proof) => self.on_success(&asked, proof),
        }
    }

    fn on_init(&mut self, asked: &Asked, mechanism: &str, response: Option<Bytes>) {
        let Some(row) = self.connections.get_mut(&asked.id) else {
            return;
        };
        let Login::Client {
            authenticator,
            exchange,
        } = &mut row.login
        else {
            return;
        };
        let tls = row.tls.clone();
        let authenticator = Arc::clone(authenticator);
        let response = Zeroizing::new(response.map(|r| r.to_vec()).unwrap_or_default());
        let attempt = attempt(mechanism, &response, tls.as_ref());
        match Mechanism::from_name(mechanism) {
            Some(Mechanism::Scram(hash)) => {
                match authenticator.challenge(hash, &response, tls.as_ref()) {
                    Ok((challenge, begun)) => {
                        *exchange = Some(Box::new((hash, begun, attempt)));
                        self.answer(asked, Authentication::Challenge(challenge));
                    }
                    Err(reason) => {
                        self.judged(asked)
                            .tell(&attempt, Outcome::Rejected { reason }, None);
                    }
                }
            }
            Some(Mechanism::Plain) => {
                let judged = self.judged(asked);
                let seat = match judged.seat() {
                    Ok(seat) => seat,
                    Err(refused) => return judged.refuse(refused),
                };
                let mechanism = mechanism.to_owned();
                tokio::spawn(async move {
                    let outcome = authenticator
                        .authenticate_in_background(mechanism, response, tls)
                        .await;
                    drop(seat);
                    judged.tell(&attempt, outcome, None);
                });
            }
            _ => {
                let outcome = authenticator.authenticate(mechanism, &response, tls.as_ref());
                self.judged(asked).tell(&attempt, outcome, None);
            }
        }
    }

    fn on_response(&mut self, asked: &Asked, response: &[u8]) {
        let login = self
            .connections
            .get_mut(&asked.id)
            .map(|row| &mut row.login);
        let Some(Login::Client { exchange, .. }) = login else {
            return;
        };
        let (attempt, outcome, proof) = match exchange.take().map(|exchange| *exchange) {
            None => (
                String::new(),
                Outcome::Rejected {
                    reason: "an answer to no challenge",
                },
                None,
            ),
            Some((hash, exchange, attempt)) => match exchange.finish(response) {
                Ok((user, proof)) => {
                    let mechanism = Mechanism::Scram(hash);
                    (attempt, Outcome::Accepted { user, mechanism }, Some(proof))
                }
                Err(reason) => (attempt, Outcome::Rejected { reason }, None),
            },
        };
        self.judged(asked).tell(&attempt, outcome, proof);
    }

    fn begin_exchange(&mut self, id: u64, mechanism: &str) -> Option<String> {
        let Login::Server {
            credentials,
            exchange,
        } = &mut self.connections.get_mut(&id)?.login
        else {
            return None;
        };
        let hash = ScramHash::of_mechanism(mechanism)?;
        let credentials = Arc::clone(credentials.as_ref()?);
        let (message, begun) = ClientExchange::begin(hash, credentials, new_nonce());
        *exchange = Some(Arc::new(Mutex::new(begun)));
        Some(message)
    }

    fn on_challenge(&mut self, asked: &Asked, challenge: Bytes) {
        let Some(exchange) = self.exchange(asked.id) else {
            return;
        };
        let judged = self.judged(asked);
        // Takes long: the password is hashed as often as the server says.
        tokio::task::spawn_blocking(move || {
            let mut exchange = exchange.lock().unwrap_or_else(PoisonError::into_inner);
            // The server's last message may come as a challenge, which has an empty answer.
            let answer = match exchange.has_responded() {
                true => exchange.confirm(&challenge).map(|()| String::new()),
                false => exchange.respond(&challenge),
            };
            judged.answer(match answer {
                Ok(response) => Authentication::Respond(response),
                Err(reason) => Authentication::GiveUp(reason),
            });
        });
    }

    fn on_success(&mut self, asked: &Asked, proof: Option<Bytes>) {
        let Some(exchange) = self.exchange(asked.id) else {
            return;
        };
        let mut exchange = exchange.lock().unwrap_or_else(PoisonError::into_inner);
        let proved = match exchange.is_confirmed() {
            true => Ok(()),
            false => exchange.confirm(&proof.unwrap_or_default()),
        };
        let answer = match proved {
            Ok(()) => Authentication::Confirmed,
            Err(reason) => Authentication::GiveUp(reason),
        };
        self.answer(asked, answer);
    }

    fn exchange(&self, id: u64) -> Option<Arc<Mutex<ClientExchange>>> {
        match &self.connections.get(&id)?.login {
            Login::Server { exchange, .. } => exchange.clone(),
            Login::Client { .. } => None,
        }
    }

    fn answer(&self, asked: &Asked, result: Authentication) {
        self.judged(asked).answer(result);
    }

    /// What takes an answer to where the question came from, from any thread.
    fn judged(&self, asked: &Asked) -> Judged {
        let row = self.connections.get(&asked.id);
        Judged {
            connection: asked.connection,
            id: asked.id,
            inbox: self.workers.get(asked.worker).inbox.clone(),
            sources: Arc::clone(&self.sources),
            source: row.map(|row| row.remote_host()),
            host: row.map(|row| row.host.clone()).unwrap_or_default(),
        }
    }
}

/// A connection that waits for an answer.
struct Asked {
    worker: usize,
    connection: ConnectionId,
    id: u64,
}

/// The way back to a connection that waits for an answer.
struct Judged {
    connection: ConnectionId,
    id: u64,
    inbox: UnboundedSender<ToWorker>,
    sources: Arc<Mutex<Sources>>,
    source: Option<IpAddr>,
    host: String,
}

impl Judged {
    /// Tells a client how it ended; a failure at leisure, and later each time.
    fn tell(self, attempt: &str, outcome: Outcome, proof: Option<String>) {
        match outcome {
            Outcome::Accepted { user, mechanism } => self.answer(Authentication::Accepted {
                user: Some(user),
                mechanism: mechanism.to_string(),
                proof,
            }),
            Outcome::Rejected { reason } => {
                let Self { id, host, .. } = &self;
                warn!(target: "SERVER", conn = id, "Authentication of {host}{attempt} failed: {reason}");
                self.reject();
            }
        }
    }

    /// Rejects at leisure, and later each time.
    fn reject(self) {
        let delay = self
            .source
            .map(|source| lock(&self.sources).failed(source, Instant::now()));
        tokio::spawn(async move {
            tokio::time::sleep(delay.unwrap_or_default()).await;
            self.answer(Authentication::Rejected);
        });
    }

    /// A place among the logins of its source that are in progress.
    fn seat(&self) -> Result<Option<LoginSeat>, Refused> {
        let Some(source) = self.source else {
            return Ok(None);
        };
        lock(&self.sources).login_began(source, Instant::now())?;
        let sources = Arc::clone(&self.sources);
        Ok(Some(LoginSeat { sources, source }))
    }

    /// Its source has too many logins in progress: it is not heard.
    fn refuse(self, refused: Refused) {
        if refused.is_news {
            let Self { id, host, .. } = &self;
            warn!(target: "SERVER", conn = id, "Authentication of {host} is refused: {}", refused.reason);
        }
        tokio::spawn(async move {
            tokio::time::sleep(REFUSAL_DELAY).await;
            self.answer(Authentication::Rejected);
        });
    }

    fn answer(self, result: Authentication) {
        // A worker that is gone has no connections left that wait.
        let _ = self.inbox.send(ToWorker::Authenticated {
            connection: self.connection,
            id: self.id,
            result,
        });
    }
}

/// A login in progress.
struct LoginSeat {
    sources: Arc<Mutex<Sources>>,
    source: IpAddr,
}

impl Drop for LoginSeat {
    fn drop(&mut self) {
        lock(&self.sources).login_ended(self.source);
    }
}

fn lock(sources: &Mutex<Sources>) -> MutexGuard<'_, Sources> {
    sources.lock().unwrap_or_else(PoisonError::into_inner)
}

/// After how long a login that was not heard is refused.
const REFUSAL_DELAY: Duration = Duration::from_secs(1);
