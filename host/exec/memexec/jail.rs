//! One jail as the node sees it: the calls that run in it, and the task that hears how they end.
//!
//! ```text
//! begin -> Run sent -> Ended              the process is gone: what it used is charged, its slot is free
//!              \-> Kill sent -> Ended     its caller left, or it went over a limit
//!                      \-> nothing for a while: the whole jail is ended
//! ended -> nothing for a while               the launcher kills it, as last resort it goes with its launcher
//! the jail's socket closes: it and all that ran in it are gone
//! ```

use super::link::{Link, is_gone};
use super::process::{PATIENCE, said};
use super::protocol::{Ended, How, RunLimits, ToJail};
use crate::exec::ExecError;
use crate::exec::claim::Claim;
use crate::lifecycle::Lifecycle;
use std::any::Any;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

/// How long a process may take to be gone once it is killed, and a jail once it is ended. A millisecond is usual; freeing
/// gigabytes on a machine that does much else takes seconds, and whoever else runs in the jail would pay for haste.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Whatever else has to be kept until a process is gone: its jail's place.
pub(super) type Held = Box<dyn Any + Send>;

/// A jail that stands.
#[derive(Debug)]
pub(super) struct Jail {
    link: Link,
    calls: Mutex<Calls>,
    /// A call was marked to be killed, or the jail is being ended.
    kills: Notify,
}

/// Why nobody listens to a jail at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// It and all that ran in it are gone, or the node's grace period is over.
    Gone,
    /// It was ended and is not gone; to be heard again after something was done about it.
    Stuck,
}

#[derive(Debug, Default)]
struct Calls {
    last: u64,
    running: HashMap<u64, Running>,
    /// The jail is ended or gone, nothing can be begun; until when it has time to be gone.
    over: Option<Instant>,
}

#[derive(Debug)]
struct Running {
    ended: oneshot::Sender<Ended>,
    kill: Kill,
    began: Instant,
    claim: Arc<Claim>,
    _held: Held,
}

/// How far the killing of a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kill {
    No,
    /// When the patience ends.
    Wanted(Instant),
    /// The jail was told.
    Sent(Instant),
}

/// What to run.
pub(super) struct Run<'a> {
    /// All arguments, the program's own name first.
    pub(super) argv: Vec<String>,
    /// `NAME=value`.
    pub(super) environment: Vec<String>,
    pub(super) limits: RunLimits,
    /// Program, stdin, stdout, stderr.
    pub(super) files: [BorrowedFd<'a>; 4],
}

/// Why a program was not begun.
#[derive(Debug)]
pub(super) enum NotBegun {
    /// The jail is gone; another one can be asked.
    Gone,
    /// The jail stands; the system refused to tell it.
    Unsent(std::io::Error),
}

impl Jail {
    pub(super) fn new(link: Link) -> Self {
        Self { link, calls: Mutex::default(), kills: Notify::new() }
    }

    /// Waits until it stands. Asked once, before anything else.
    ///
    /// * errors: why not, for operators.
    pub(super) async fn stands(&self) -> Result<(), String> {
        said(timeout(PATIENCE, self.link.receive()).await).map(drop)
    }

    /// Begins a program.
    ///
    /// * `claim`: charged for what the process used.
    /// * `held`: dropped, like the claim, when the process is gone, however that comes.
    /// * cancel: nothing is begun, or it is killed.
    pub(super) async fn begin(
        self: &Arc<Self>,
        run: Run<'_>,
        claim: Arc<Claim>,
        held: Held,
    ) -> Result<Process, NotBegun> {
        let (tell, ended) = oneshot::channel();
        let id = self.lock().add(tell, claim, held).ok_or(NotBegun::Gone)?;
        let mut process =
            Process { jail: Arc::clone(self), id, ended: Some(ended), peak_memory: 0, state: State::Unsent };
        let Run { argv, environment, limits, files } = run;
        let packet = ToJail::Run { id, argv, environment, limits };
        if let Err(why) = self.link.send(&packet, &files).await {
            tracing::debug!(%why, "a jail cannot be told to run something");
            return Err(if is_gone(&why) { NotBegun::Gone } else { NotBegun::Unsent(why) });
        }
        process.state = State::Running;
        Ok(process)
    }

    /// Has the jail end, with all that runs in it. That it did end, and with it all that ran, is heard as for any other.
    pub(super) fn end(&self) {
        self.end_by(Instant::now() + KILL_PATIENCE);
    }

    /// * `until`: when something is done about it if it has not ended.
    fn end_by(&self, until: Instant) {
        self.lock().over.get_or_insert(until);
        self.link.close();
        self.kills.notify_one();
    }

    /// Hears what the jail says until it is gone, the node's grace period is over, or it does not end though it should.
    ///
    /// * `retire`: has the jail end if nothing runs in it. Asked once the node takes no more calls, after each that ends.
    pub(super) async fn listen(&self, lifecycle: &Lifecycle, retire: impl Fn()) -> Heard {
        let mut draining = false;
        loop {
            let (next_kill, patience) = self.lock().kills();
            tokio::select! {
                said = self.link.receive::<Ended>() => match said {
                    Ok(Some(ended)) => {
                        self.ended(ended);
                        if draining {
                            retire();
                        }
                    }
                    Ok(None) => return Heard::Gone,
                    Err(why) if self.is_over() => {
                        tracing::debug!(%why, "a jail that is being ended said what cannot be understood");
                    }
                    Err(why) => {
                        tracing::warn!(%why, "a jail said what cannot be understood, and is ended");
                        self.end();
                    }
                },
                sent = self.send_kill(next_kill), if next_kill.is_some() => if sent.is_err() { self.end() },
                () = self.kills.notified() => {}
                () = sleep_until(patience.unwrap_or_else(Instant::now)), if patience.is_some() => {
                    if self.is_stuck() {
                        return Heard::Stuck;
                    }
                    tracing::warn!("a jail did not kill a process in time, and is ended");
                    self.end_by(Instant::now()); // it had its time
                }
                () = lifecycle.draining(), if !draining => {
                    draining = true;
                    retire();
                }
                // Nothing is begun any more on this node: nobody can get its place or its user id.
                () = lifecycle.killed() => return Heard::Gone,
            }
        }
    }

    /// Fails all calls; for when nobody listens any more.
    pub(super) fn fail_all(&self) {
        let mut calls = self.lock();
        calls.over.get_or_insert_with(Instant::now);
        let running = std::mem::take(&mut calls.running);
        drop(calls); // what is told may lead back here: not under the lock
        for Running { ended: tell, began, claim, _held, .. } in running.into_values() {
            claim.charge(began.elapsed()); // what it used of that nobody can tell any more
            drop((claim, _held));
            drop(tell);
        }
    }

    async fn send_kill(&self, id: Option<u64>) -> std::io::Result<()> {
        let Some(id) = id else { return Ok(()) };
        self.link.send(&ToJail::Kill { id }, &[]).await?;
        if let Some(call) = self.lock().running.get_mut(&id)
            && let Kill::Wanted(until) = call.kill
        {
            call.kill = Kill::Sent(until);
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.lock().over.is_some()
    }

    /// Whether it had its time to end. Then it gets the same again, for what is done about it.
    fn is_stuck(&self) -> bool {
        let mut calls = self.lock();
        let stuck = calls.over.is_some_and(|until| until <= Instant::now());
        if stuck {
            calls.over = Some(Instant::now() + KILL_PATIENCE);
        }
        stuck
    }

    fn ended(&self, ended: Ended) {
        let call = self.lock().running.remove(&ended.id);
        if let Some(Running { ended: tell, claim, _held, .. }) = call {
            claim.charge(ended.cpu);
            drop((claim, _held)); // first: who is told may count what is free
            let _ = tell.send(ended);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Calls {
    fn add(&mut self, ended: oneshot::Sender<Ended>, claim: Arc<Claim>, held: Held) -> Option<u64> {
        if self.over.is_some() {
            return None;
        }
        self.last += 1;
        let running = Running { ended, kill: Kill::No, began: Instant::now(), claim, _held: held };
        self.running.insert(self.last, running);
        Some(self.last)
    }

    /// A call whose Kill has to be sent, and when the patience with all killed ones ends; once the jail itself is being
    /// ended, only when the patience with it does.
    fn kills(&self) -> (Option<u64>, Option<Instant>) {
        if self.over.is_some() {
            return (None, self.over);
        }
        let wanted = self.running.iter().find(|(_, call)| matches!(call.kill, Kill::Wanted(_))).map(|(id, _)| *id);
        let patience = |call: &Running| match call.kill {
            Kill::Wanted(until) | Kill::Sent(until) => Some(until),
            Kill::No => None,
        };
        (wanted, self.running.values().filter_map(patience).min())
    }
}

/// A program that runs in a jail. Dropping it kills the program; what was held for it is kept until it is gone.
#[derive(Debug)]
pub(super) struct Process {
    jail: Arc<Jail>,
    id: u64,
    /// `None` once it has told.
    ended: Option<oneshot::Receiver<Ended>>,
    peak_memory: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The jail knows nothing of it.
    Unsent,
    Running,
    /// Ended, or its kill is under way.
    Settled,
}

impl Process {
    /// How it ended, told once.
    ///
    /// * errors: `Broken` if its jail went away.
    /// * cancel: safe; can be asked again.
    pub(super) async fn ended(&mut self) -> Result<How, ExecError> {
        let gone = || ExecError::Broken("its jail went away".to_owned());
        let ended = self.ended.as_mut().ok_or_else(gone)?.await;
        (self.ended, self.state) = (None, State::Settled);
        let ended = ended.map_err(|_dropped| gone())?;
        self.peak_memory = ended.peak_memory;
        Ok(ended.how)
    }

    /// The most memory that it had, in bytes, once it has ended.
    pub(super) fn peak_memory(&self) -> u64 {
        self.peak_memory
    }

    /// Kills it. Returns at once; [`Process::ended`] tells when it is gone.
    pub(super) fn kill(&mut self) {
        if self.state == State::Running {
            self.state = State::Settled;
            if let Some(call) = self.jail.lock().running.get_mut(&self.id) {
                call.kill = Kill::Wanted(Instant::now() + KILL_PATIENCE);
            }
            self.jail.kills.notify_one();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        match self.state {
            State::Unsent => {
                let call = self.jail.lock().running.remove(&self.id);
                drop(call); // may lead back to the jail: not under the lock
            }
            State::Running => self.kill(),
            State::Settled => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Unlimited;
    use crate::exec::claim::Payer;
    use crate::exec::memexec::protocol::Hello;
    use crate::fair::Slots;
    use rustix::net::{SendFlags, send};

    #[tokio::test]
    async fn a_jail_that_does_not_stand_says_why() {
        let why = "Landlock is missing".to_owned();
        let (link, other) = Link::pair().unwrap();
        send(&other, &serde_json::to_vec(&Hello::Failed { why: why.clone() }).unwrap(), SendFlags::empty()).unwrap();
        assert_eq!(Jail::new(link).stands().await, Err(why));

        let (link, other) = Link::pair().unwrap();
        drop(other);
        assert_eq!(Jail::new(link).stands().await, Err("it ended before it stood".to_owned()));
    }

    #[tokio::test]
    async fn calls_of_a_jail_that_talks_nonsense_fail_and_give_back_what_they_hold() {
        let (link, other) = Link::pair().unwrap();
        let jail = Arc::new(Jail::new(link));
        let file = std::fs::File::open("/dev/null").unwrap();
        let files = [(); 4].map(|()| std::os::fd::AsFd::as_fd(&file));
        let limits = RunLimits { memory_bytes: 0, cpu_seconds: 0 };
        let run = Run { argv: Vec::new(), environment: Vec::new(), limits, files };
        let payer = Payer::new(&Unlimited, &"acme".parse().unwrap(), None, 0).unwrap();
        let (claim, held) = (payer.claim(&Slots::new(1, 0)).await.unwrap(), Arc::new(()));
        let mut process = jail.begin(run, Arc::clone(&claim), Box::new(Arc::clone(&held))).await.unwrap();
        send(&other, b"nonsense", SendFlags::empty()).unwrap();
        let gone = async {
            // It is told to end, and what it holds is kept until it has.
            let mut end = Vec::new();
            while rustix::net::recv(&other, &mut [0; 64], rustix::net::RecvFlags::DONTWAIT).map(|(read, _)| read)
                != Ok(0)
            {
                tokio::task::yield_now().await;
                end.push(Arc::strong_count(&held));
            }
            assert!(end.iter().all(|count| *count == 2));
            drop(other);
        };
        let lifecycle = Lifecycle::default();
        let (heard, ()) = tokio::join!(jail.listen(&lifecycle, || ()), gone);
        assert_eq!(heard, Heard::Gone);
        jail.fail_all();
        assert!(matches!(process.ended().await, Err(ExecError::Broken(_))));
        assert_eq!((Arc::strong_count(&claim), Arc::strong_count(&held)), (1, 1));
    }
}
