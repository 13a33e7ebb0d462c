//! The container engine as seen from here: whether it is there, and what it says to one request.
//!
//! Every request has a few seconds. An engine that fails one is asked again by whoever comes next, and while it does
//! not answer that is tried once in a while, not by every call.

use super::Config;
use super::engine_check::{self, Absence};
use crate::domain::Kind;
use crate::exec::{Availability, ExecError};
use crate::lifecycle::Lifecycle;
use bollard::errors::Error;
use bollard::{API_DEFAULT_VERSION, Docker};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

/// How long the engine may take for one request, and how long one that failed is left alone. Source: threats.md B10.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The client's own clock, behind all of ours: a pull may take as long as the settings allow.
const CLIENT_TIMEOUT_S: u64 = 24 * 3_600;

/// The engine, as far as this node knows.
pub(super) struct Engine {
    pub(super) config: Config,
    pub(super) lifecycle: Lifecycle,
    /// Value of the label `collector.node`.
    pub(super) node: String,
    wanted: bool,
    state: Mutex<State>,
    /// Held by whoever asks whether it is there.
    asking: tokio::sync::Mutex<()>,
    /// Told when it is there for the first time.
    found: Notify,
    /// Names of the containers that calls of this life use.
    live: Mutex<HashSet<String>>,
}

struct State {
    docker: Option<Docker>,
    /// Why there is none, if there is none.
    absence: Absence,
    asked: Option<Instant>,
    /// It was there once: from then on that it is away is a failure, not a property of this machine.
    seen: bool,
    facts: Vec<(String, String)>,
}

/// Why the engine did not do what it was asked for.
#[derive(Debug, Clone)]
pub(super) enum EngineError {
    /// No engine, no answer in time, or no sense in it.
    Gone,
    /// It said no.
    Refused {
        /// What was asked for, to go on after "to".
        what: &'static str,
        /// Its HTTP status.
        status: u16,
    },
    /// It cannot be used as it is, or was never there.
    Unusable,
}

impl From<EngineError> for ExecError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Gone => Self::Broken("the container engine does not answer".to_owned()),
            EngineError::Refused { what, .. } => Self::Broken(format!("the container engine refused to {what}")),
            EngineError::Unusable => Self::Unavailable(
                "containers do not run on this node; its operator finds the reason with `collector doctor`".to_owned(),
            ),
        }
    }
}

impl EngineError {
    /// What it means for a call of code of this kind: what the engine does not take of an image, it never takes.
    pub(super) fn of(self, kind: Kind) -> ExecError {
        match self {
            Self::Refused { what, status: 400 } if kind == Kind::Image => {
                ExecError::Image(format!("the container engine refused to {what}: see what it says it runs, and where"))
            }
            other => other.into(),
        }
    }
}

impl Engine {
    /// Nothing is asked yet.
    pub(super) fn new(config: Config, wanted: bool, node: &str, lifecycle: Lifecycle) -> Self {
        let why = match wanted {
            true => "the container engine was not asked yet".to_owned(),
            false => "not allowed: list container in exec.native, or images in exec.container.images".to_owned(),
        };
        let absence = Absence::Away(why);
        let state = State { docker: None, absence, asked: None, seen: false, facts: Vec::new() };
        Self {
            config,
            lifecycle,
            node: node.to_owned(),
            wanted,
            state: Mutex::new(state),
            asking: tokio::sync::Mutex::default(),
            found: Notify::new(),
            live: Mutex::default(),
        }
    }

    /// Whether there is, or was, an engine that can be used; if not, it is asked again behind the caller's back.
    pub(super) fn availability(self: &Arc<Self>) -> Availability {
        let (answer, again) = {
            let state = self.state();
            let again = self.wanted && state.docker.is_none() && !state.rests();
            let answer = match (&state.docker, &state.absence) {
                (Some(_), _) => Ok(()),
                (None, Absence::Away(_)) if state.seen => Ok(()),
                (None, Absence::Away(why) | Absence::Unusable(why)) => Err(why.clone()),
            };
            (answer, again)
        };
        if again && tokio::runtime::Handle::try_current().is_ok() {
            let engine = Arc::clone(self);
            self.lifecycle.spawn(async move { engine.docker().await.is_ok() });
        }
        answer
    }

    /// Resolves when there is one that can be used, for the first time. For one who waits.
    pub(super) async fn found(&self) {
        self.found.notified().await;
    }

    /// What it said of itself, for operators.
    pub(super) fn facts(&self) -> Vec<(String, String)> {
        self.state().facts.clone()
    }

    /// Sends one request.
    ///
    /// * `what`: to go on after "refused to", for people.
    /// * cancel: the engine may do it all the same.
    pub(super) async fn ask<T, F>(
        self: &Arc<Self>,
        what: &'static str,
        request: impl FnOnce(Docker) -> F,
    ) -> Result<T, EngineError>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let docker = self.docker().await?;
        match timeout(PATIENCE, request(docker)).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(why)) => Err(self.failed(what, &why)),
            Err(_late) => Err(self.lost(what, "no answer in time")),
        }
    }

    /// What a failed request means.
    pub(super) fn failed(&self, what: &'static str, why: &Error) -> EngineError {
        match why {
            Error::DockerResponseServerError { status_code, message } => {
                tracing::debug!(status = status_code, why = message, "the container engine refused to {what}");
                EngineError::Refused { what, status: *status_code }
            }
            why => self.lost(what, &why.to_string()),
        }
    }

    /// The next one who wants something asks first whether it is there.
    pub(super) fn lost(&self, what: &'static str, why: &str) -> EngineError {
        tracing::warn!(why, "the container engine failed to {what}");
        let mut state = self.state();
        state.docker = None;
        state.absence = Absence::Away("the container engine failed a request and is asked again".to_owned());
        state.asked = None;
        EngineError::Gone
    }

    /// A client of the engine, which was there a moment ago.
    pub(super) async fn docker(self: &Arc<Self>) -> Result<Docker, EngineError> {
        if let Some(known) = self.known() {
            return known;
        }
        let _turn = self.asking.lock().await;
        match self.known() {
            Some(known) => known, // somebody else has asked meanwhile
            None => self.connect().await,
        }
    }

    /// What is known without asking; `None` if it is time to ask.
    fn known(&self) -> Option<Result<Docker, EngineError>> {
        let state = self.state();
        match &state.docker {
            Some(docker) => Some(Ok(docker.clone())),
            None if state.rests() || !self.wanted => Some(Err(state.absent())),
            None => None,
        }
    }

    async fn connect(self: &Arc<Self>) -> Result<Docker, EngineError> {
        let late = || {
            let said = format!("the container engine does not answer within {} s", PATIENCE.as_secs());
            Absence::Away(format!("{said}: see what keeps it busy, or restart it (systemctl restart docker)"))
        };
        let asked = timeout(PATIENCE, engine_check::ask(&self.config)).await;
        let (asked, facts) = asked.unwrap_or_else(|_late| (Err(late()), Vec::new()));
        let mut state = self.state();
        state.asked = Some(Instant::now());
        state.facts = facts;
        match asked {
            Ok(docker) => {
                let came_back = std::mem::replace(&mut state.seen, true);
                state.docker = Some(docker.clone());
                drop(state);
                match came_back {
                    true => drop(self.lifecycle.spawn(Arc::clone(self).reap())),
                    false => self.found.notify_one(),
                }
                Ok(docker)
            }
            Err(absence) => {
                let (Absence::Away(why) | Absence::Unusable(why)) = &absence;
                tracing::warn!(why, "containers cannot run");
                state.absence = absence;
                Err(state.absent())
            }
        }
    }

    /// A client for the first start, by the settings.
    pub(super) fn client(socket: &str) -> Result<Docker, Error> {
        match socket.starts_with("unix://") {
            true => Docker::connect_with_unix(socket, CLIENT_TIMEOUT_S, API_DEFAULT_VERSION),
            false => Docker::connect_with_http(socket, CLIENT_TIMEOUT_S, API_DEFAULT_VERSION),
        }
    }

    /// Names that are in use by calls of this life.
    pub(super) fn live(&self) -> MutexGuard<'_, HashSet<String>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// It did not answer not long ago.
    fn rests(&self) -> bool {
        self.asked.is_some_and(|asked| asked.elapsed() < PATIENCE)
    }

    fn absent(&self) -> EngineError {
        match self.absence {
            Absence::Away(_) if self.seen => EngineError::Gone,
            Absence::Away(_) | Absence::Unusable(_) => EngineError::Unusable,
        }
    }
}
