//! Containers that are kept between calls: for one namespace and one binary each, one call at a time, never for another.
//!
//! ```text
//! made -> busy -> idle -> busy ... -> removed: idle for too long, or least recently used when there are too many, or
//!                                     anything at all went wrong
//! ```

use super::attached::{Input, Output};
use super::cold::{SIGKILL, was_out_of_memory};
use super::life::Container;
use super::session::Session;
use crate::domain::{Digest, Limits, Namespace};
use crate::exec::claim::Claim;
use crate::exec::command::{self, End, Reply};
use crate::exec::log::GuestLog;
use crate::exec::{ExecError, Job};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The program that runs in them, beside the plugin's. Empty if it could not be built for this machine.
pub(super) const RUNNER: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/runner"));
/// Where it is in the image.
pub(super) const RUNNER_PATH: &str = "/runner";
/// How long a container is kept without a call. 5 minutes: bursts of a person's work are closer together.
const IDLE: Duration = Duration::from_secs(300);

/// What a container is kept for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Purpose {
    pub(super) namespace: Namespace,
    pub(super) digest: Digest,
}

/// A container that takes calls.
pub(super) struct Kept {
    purpose: Purpose,
    session: Session,
    container: Container,
    since: Instant,
}

/// The idle ones, the least recently used first.
pub(super) struct Pool {
    most: usize,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    idle: VecDeque<Kept>,
    /// Why none are kept; `None` if they are.
    off: Option<String>,
}

impl Pool {
    /// * `most`: how many may be idle.
    pub(super) fn new(most: usize) -> Self {
        let off = match (most, RUNNER) {
            (0, _) => Some("exec.container.warm = 0".to_owned()),
            (_, []) => Some("the program for it could not be built for this machine".to_owned()),
            _ => None,
        };
        Self { most, state: Mutex::new(State { idle: VecDeque::new(), off }), changed: Notify::new() }
    }

    /// Why no containers are kept.
    pub(super) fn off(&self) -> Option<String> {
        self.state().off.clone()
    }

    /// From now on none are kept.
    pub(super) fn stop(&self, why: &str) {
        let idle = {
            let mut state = self.state();
            state.off.get_or_insert_with(|| why.to_owned());
            std::mem::take(&mut state.idle)
        };
        drop(idle);
        self.changed.notify_one();
    }

    /// The one that was used last, if there is one for this.
    pub(super) fn take(&self, purpose: &Purpose) -> Option<Kept> {
        loop {
            let mut kept = {
                let mut state = self.state();
                let place = state.idle.iter().rposition(|kept| kept.purpose == *purpose)?;
                state.idle.remove(place)?
            };
            if kept.session.is_quiet() {
                return Some(kept);
            }
            tracing::debug!("a kept container has ended, or said something unasked, and is replaced");
        }
    }

    /// Keeps it for the next call.
    fn put(&self, mut kept: Kept) {
        kept.container.release();
        kept.since = Instant::now();
        let over = {
            let mut state = self.state();
            if state.off.is_some() {
                Some(kept)
            } else {
                state.idle.push_back(kept);
                if state.idle.len() > self.most { state.idle.pop_front() } else { None }
            }
        };
        drop(over);
        self.changed.notify_one();
    }

    /// Lets go of those that nobody has used for long, until none are kept any more.
    pub(super) async fn tend(&self) {
        loop {
            let next = {
                let mut state = self.state();
                if state.off.is_some() {
                    return;
                }
                let (now, mut old) = (Instant::now(), Vec::new());
                while state.idle.front().is_some_and(|kept| now.duration_since(kept.since) >= IDLE) {
                    old.extend(state.idle.pop_front());
                }
                let next = state.idle.front().map(|kept| kept.since + IDLE);
                drop(state);
                drop(old);
                next
            };
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => self.changed.notified().await,
            }
        }
    }

    /// How many are idle, for tests and for operators.
    pub(super) fn idle(&self) -> usize {
        self.state().idle.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    /// Starts a container for it, which runs our program.
    ///
    /// * errors: `Ok(Err(why))`: calls cannot be kept apart on this machine.
    pub(super) async fn start(container: Container, purpose: Purpose) -> Result<Result<Self, String>, ExecError> {
        let (input, output): (Input, Output) = container.attach().await?;
        container.start().await?;
        let mut session = Session::new(input, output);
        let since = Instant::now();
        Ok(session.hello().await?.map(|()| Self { purpose, session, container, since }))
    }

    /// For the time of a call.
    pub(super) fn hold(&mut self, claim: Arc<Claim>) {
        self.container.hold(claim);
    }

    /// Runs one call, and goes back to the pool if nothing of it is left.
    ///
    /// * cancel: the container is removed.
    pub(super) async fn run(
        mut self,
        job: &Job,
        limits: &Limits,
        log: &GuestLog,
        pool: &Pool,
    ) -> Result<Reply, ExecError> {
        let environment = super::environment(job);
        let ran = self.session.call(&command::argv(job), &environment, &job.input, limits, log).await;
        let ended = match ran {
            Ok(ended) => ended,
            // The kernel took the runner, for what the plugin used.
            Err(ExecError::Broken(_)) if was_out_of_memory(&self.container).await => {
                return Err(command::memory(limits));
            }
            Err(why) => return Err(why),
        };
        match ended.end {
            End::Signal(SIGKILL) if self.container.ends_out_of_memory().await => return Err(command::memory(limits)),
            End::Signal(SIGKILL) => {}
            _ if ended.clean => pool.put(self),
            _ => {}
        }
        command::answer(ended.end, ended.stdout, log, limits)
    }
}
