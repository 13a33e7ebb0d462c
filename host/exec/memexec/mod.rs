//! Native binaries from memory, in a jail: the command contract for programs that are no components.
//!
//! ```text
//! node ── launcher (this program started anew, one thread) ── a jail per namespace ── a process per call
//!      \── pipes and a sealed memfd per digest, handed to the jail with every call
//! ```
//!
//! The node itself is never forked and writes nothing to a path. What a program can reach is decided by the jail
//! ([`launcher`]); what it may use, how long it runs and when its slot is free, here. Source: threats.md B9.

mod binaries;
mod config;
mod facts;
mod jail;
mod jails;
pub mod launcher;
mod link;
mod process;
mod protocol;
mod run;
pub use config::Config;

use super::claim::{Claim, Payer};
use super::command::Reply;
use super::log::GuestLog;
use super::stop::stoppable;
use super::{Availability, BoxFuture, Code, ExecError, ExecFailure, Executor, Fact, Job, Origin, Streams};
use crate::domain::{
    Account, Accounts, Deadline, Digest, Kind, Limits, NameError, Namespace, Outcome, Receipt, Start, Unlimited,
};
use crate::fair::Slots;
use crate::lifecycle::Lifecycle;
use binaries::{Binaries, Binary};
use bytes::Bytes;
use jails::{Jails, Lease};
use process::{Launcher, PATIENCE};
use protocol::ToLauncher;
use run::Call;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// Name of this executor in receipts.
const NAME: &str = "memexec";
/// What a process may need beside its own memory, in MiB: its stack, and the kernel's tables for it.
const PROCESS_EXTRA_MIB: u64 = 16;
/// What a jail with nothing in it needs, in MiB.
const JAIL_MIB: u64 = 4;
/// Threads of a process at most.
const PROCESS_THREADS: u64 = launcher::THREADS;

/// What did not work is tried again when somebody asks, at most this often: a start takes milliseconds, or on a machine
/// where it cannot work as long as [`PATIENCE`] with each of its steps.
const RETRY_PAUSE: Duration = Duration::from_secs(5);

/// Runs commands.
pub struct MemExecutor {
    found: Arc<Found>,
    accounts: Arc<dyn Accounts>,
}

/// What was found out about this machine.
struct Found {
    works: OnceLock<Works>,
    failed: Mutex<Failed>,
    /// `None` where no namespace may use it.
    wanted: Option<Wanted>,
}

/// Why it does not work.
struct Failed {
    why: String,
    /// When that was found.
    at: Instant,
    /// It is being tried again.
    trying: bool,
}

/// What a start takes.
struct Wanted {
    config: Config,
    node: String,
    memory_mib: u64,
    lifecycle: Lifecycle,
}

/// What there is where it works.
struct Works {
    slots: Slots,
    binaries: Binaries,
    jails: Jails,
    lifecycle: Lifecycle,
}

/// What the executor holds right now, for tests and for operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Calls whose process is not gone.
    pub running: usize,
    /// Jails that stand, or are being made.
    pub jails: usize,
    /// Binaries in memory.
    pub binaries: u64,
    /// Id of the launcher's process, if there is one.
    pub launcher: Option<u32>,
}

impl MemExecutor {
    /// Starts the launcher and tries a jail, if any namespace may use it. That neither works is no error: then
    /// [`MemExecutor::availability`] says why.
    ///
    /// * `node`: the node's id, in the name of its control group.
    /// * `memory_mib`: the most memory of one call.
    pub async fn start(config: Config, wanted: bool, node: &str, memory_mib: u64, lifecycle: Lifecycle) -> Self {
        let wanted = wanted.then(|| Wanted { config, node: node.to_owned(), memory_mib, lifecycle });
        let failed = Failed { why: format!("exec.native does not list {NAME}"), at: Instant::now(), trying: false };
        let found = Found { works: OnceLock::new(), failed: Mutex::new(failed), wanted };
        found.try_start().await;
        Self { found: Arc::new(found), accounts: Arc::new(Unlimited) }
    }

    /// The same with books to charge; without them every namespace has what it takes.
    #[must_use]
    pub fn with_accounts(self, accounts: Arc<dyn Accounts>) -> Self {
        Self { accounts, ..self }
    }

    /// What it found on this machine.
    pub fn facts(&self) -> Vec<Fact> {
        let mut facts = facts::of_this_machine();
        if let Some(works) = self.found.works.get() {
            let without = works.jails.without();
            facts.push(("jail".to_owned(), "a program ran in it".to_owned()));
            facts.extend((!without.is_empty()).then(|| ("jail without".to_owned(), without.join("; "))));
        }
        facts
    }

    /// Whether this machine can run it, and if not why. What could not be is tried again, for who asks later.
    pub fn availability(&self) -> Availability {
        match self.works() {
            Ok(_) => Ok(()),
            Err(why) => {
                self.try_again();
                Err(why.to_string())
            }
        }
    }

    /// What the executor holds right now.
    pub async fn stats(&self) -> Stats {
        match self.found.works.get() {
            Some(works) => works.stats().await,
            None => Stats::default(),
        }
    }

    fn works(&self) -> Result<&Works, ExecError> {
        self.found.works.get().ok_or_else(|| ExecError::Unavailable(self.found.failed().why.clone()))
    }

    fn try_again(&self) {
        let Some(Wanted { lifecycle, .. }) = &self.found.wanted else { return };
        let mut failed = self.found.failed();
        if failed.trying || failed.at.elapsed() < RETRY_PAUSE || lifecycle.is_draining() {
            return;
        }
        failed.trying = true;
        let (found, over) = (Arc::clone(&self.found), lifecycle.clone());
        drop(lifecycle.spawn(async move {
            tokio::select! {
                () = found.try_start() => {}
                () = over.killed() => {}
            }
        }));
    }
}

impl Found {
    async fn try_start(&self) {
        let Some(Wanted { config, node, memory_mib, lifecycle }) = &self.wanted else { return };
        match Works::start(config.clone(), node, *memory_mib, lifecycle.clone()).await {
            // Only one tries at a time.
            Ok(works) => drop(self.works.set(works)),
            Err(why) => {
                let why = format!("native binaries cannot run from memory here: {why}");
                *self.failed() = Failed { why, at: Instant::now(), trying: false };
            }
        }
    }

    fn failed(&self) -> MutexGuard<'_, Failed> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Works {
    async fn start(config: Config, node: &str, memory_mib: u64, lifecycle: Lifecycle) -> Result<Self, String> {
        let calls = config.slots as u64;
        let jails = config.jails as u64;
        let settings = ToLauncher::Settings {
            cgroup: format!("collector-{node}"),
            memory_bytes: (calls * (memory_mib + PROCESS_EXTRA_MIB) + jails * JAIL_MIB) << 20,
            tasks: calls * PROCESS_THREADS + 2 * jails,
        };
        let launcher = Launcher::start(config.launcher, settings).await?;
        let works = Self {
            slots: Slots::new(config.slots, config.queue),
            binaries: Binaries::new(config.binaries_mib, lifecycle.clone()),
            jails: Jails::new(launcher, config.jails, config.uid_base, lifecycle.clone()),
            lifecycle,
        };
        works.probe().await?;
        Ok(works)
    }

    /// Runs the smallest program there is, for nobody.
    async fn probe(&self) -> Result<(), String> {
        let program = launcher::probe_program();
        let binary = Binary::seal(program).map_err(|why| format!("a file in memory cannot be made: {why}"))?;
        let job = probe_job(program).map_err(|why| why.to_string())?;
        let payer = Payer::new(&Unlimited, &job.namespace, None, 0).map_err(|why| why.to_string())?;
        let claim = payer.claim(&self.slots).await.map_err(|why| why.to_string())?;
        let lease = self.jails.lease(&job.namespace).await.map_err(|none| none.why)?;
        let member = Arc::clone(&lease.member);
        let (result, _) = self.call(&job, &binary, lease, claim).await;
        self.jails.forget(&job.namespace, &member);
        match result {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(fault)) => Err(format!("a program that does nothing ended with {:?}", fault.code)),
            Err(why) => Err(format!("a program that does nothing did not run: {why}")),
        }
    }

    async fn run(&self, job: Job, accounts: &dyn Accounts) -> Result<Outcome, ExecFailure> {
        if job.limits.fuel > 0 {
            return Err(ExecError::Unmetered.into());
        }
        let payer = Payer::new(accounts, &job.namespace, job.caller.as_ref(), job.limits.memory_bytes() as u64)?;
        let arrived = Instant::now();
        let (binary, lease, claim, start) =
            stoppable(&self.lifecycle, job.deadline.instant(), self.ready(&job, &payer)).await??;
        let queued = arrived.elapsed();

        let began = Instant::now();
        let (result, peak_memory) = self.call(&job, &binary, lease, claim).await;
        let receipt = Receipt {
            executor: NAME,
            digest: job.code.digest,
            version: None,
            fuel: None,
            peak_memory: Some(peak_memory).filter(|bytes| *bytes > 0),
            queued,
            ran: began.elapsed(),
            start,
        };
        match result {
            Ok(reply) => Ok(Outcome { reply, receipt }),
            Err(error) => Err(ExecFailure { error, receipt: Some(Box::new(receipt)) }),
        }
    }

    /// All that a call needs before it begins; and whether all of it was there.
    async fn ready(&self, job: &Job, payer: &Payer) -> Result<(Arc<Binary>, Lease, Arc<Claim>, Start), ExecError> {
        let (binary, loaded) = self.binaries.get(&job.code).await?;
        let claim = payer.claim(&self.slots).await?;
        let lease = self.jails.lease(&job.namespace).await?;
        let start = if loaded == Start::Warm { lease.start } else { Start::Cold };
        Ok((binary, lease, claim, start))
    }

    async fn call(
        &self,
        job: &Job,
        binary: &Binary,
        lease: Lease,
        claim: Arc<Claim>,
    ) -> (Result<Reply, ExecError>, u64) {
        let log = GuestLog::new(job.namespace.clone(), job.service.clone(), &job.code.digest, job.limits.log_bytes);
        let call = Call { job, binary, jails: &self.jails, log: &log };
        let ran = call.run(lease, claim, &self.lifecycle).await;
        log.finish();
        ran
    }

    async fn stats(&self) -> Stats {
        Stats {
            running: self.slots.running(),
            jails: self.jails.count(),
            binaries: self.binaries.count().await,
            launcher: self.jails.launcher_id(),
        }
    }
}

fn probe_job(program: &[u8]) -> Result<Job, NameError> {
    Ok(Job {
        code: Code { digest: Digest::of(program), kind: Kind::NativeElf, origin: Origin::File(PathBuf::new()) },
        namespace: "probe".parse()?,
        caller: None,
        service: "probe".to_owned(),
        method: "probe".to_owned(),
        input: Bytes::new(),
        json: None,
        metadata: Vec::new(),
        deadline: Deadline::after(PATIENCE),
        limits: Limits::default(),
        calls: None,
    })
}

impl Executor for MemExecutor {
    fn accepts(&self, _namespace: &Namespace, _kind: Kind) -> Result<(), ExecError> {
        self.works().map(drop)
    }

    fn prepare<'a>(
        &'a self,
        _namespace: &'a Namespace,
        _caller: Option<&'a Arc<dyn Account>>,
        code: &'a Code,
    ) -> BoxFuture<'a, Result<(), ExecError>> {
        Box::pin(async move { self.works()?.binaries.get(code).await.map(drop) })
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(async move { self.works()?.run(job, &*self.accounts).await })
    }

    fn stream(&self, _job: Job, _streams: Streams) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(async { Err(ExecError::NoStreaming.into()) })
    }
}
