//! Wasm components, sandboxed by wasmtime: a fresh instance per call, dropped after it.
//!
//! ```text
//! Job -> program (memory, else disk, else compile once) -> slot -> fresh Store -> call -> Outcome + Receipt
//! ```
//!
//! What a guest can reach is decided here and nowhere else: WASI 0.2 without sockets, files, arguments or environment
//! (a command gets its three arguments), bounded stdio, and the node's own `context`, `log` and
//! `streaming`; the rest of the guest interface as [`HostCalls`](super::HostCalls) answers. Source: threats.md B7, B8.
//!
//! A call that a guest makes runs in an instance of its own while the guest waits. Each level of such calls has places of
//! its own, and none waits for a place of a level above: so they never wait for each other in a circle.

mod aside;
mod compile;
mod config;
mod engine;
mod exchange;
mod host_calls;
mod imports;
mod invoke;
mod lane;
mod lanes;
mod limiter;
mod programs;
mod quick;
mod stdio;
mod steps;
mod store_file;
mod ticker;
mod verdict;

pub use aside::Aside;
pub use config::Config;
pub(in crate::exec) use engine::compiling_engine;
pub use imports::{Import, import};
pub(in crate::exec) use store_file::name_of;

use super::stop::stoppable;
use super::{BoxFuture, Code, ExecError, ExecFailure, Executor, Job, Streams};
use crate::domain::{Account, Accounts, Both, Charge, Kind, Namespace, Outcome, Receipt, Unlimited};
use crate::fair::{Slot, Slots};
use crate::lifecycle::Lifecycle;
use compile::Compiler;
use invoke::{Invocation, Meter};
use lanes::Lanes;
use limiter::MemoryBudget;
use programs::{Program, Programs};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use steps::Owner;
use ticker::Ticker;
use tokio::time::Instant;
use tracing::Instrument as _;

/// Whether the engine can run on this machine as it is configured, and compile for it.
///
/// * errors: why not.
pub async fn check(config: &Config) -> Result<(), anyhow::Error> {
    let engine = engine::build(config)?;
    Compiler::start(engine, config, Lifecycle::default())?.probe().await
}

/// Calls inside of calls. 8: deeper is a loop more often than a design.
pub(crate) const DEPTH_MAX: usize = 8;

/// Name of this executor in receipts.
const NAME: &str = "wasm";

/// Runs components.
pub struct WasmExecutor {
    programs: Programs,
    lanes: Arc<Lanes>,
    ticker: Ticker,
    memory: Arc<MemoryBudget>,
    slots: Slots,
    /// Of calls that guests make, by their level from 1.
    nested: Vec<Slots>,
    streams: Slots,
    accounts: Arc<dyn Accounts>,
    config: Config,
    lifecycle: Lifecycle,
}

/// What the executor holds right now, for tests and for operators.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Components compiled since the start.
    pub compiled: u64,
    /// Components loaded from disk since the start.
    pub loaded: u64,
    /// Components in memory.
    pub cached: u64,
    /// Calls that hold a slot.
    pub running: usize,
    /// Bytes of linear memory of all running calls.
    pub guest_memory: u64,
}

impl WasmExecutor {
    /// Builds the engine and opens the folder of compiled code.
    ///
    /// * `folder`: private to this node; made if missing.
    /// * `node_key`: authenticates compiled code on disk.
    /// * errors: the engine's configuration is not possible on this machine, or the folder cannot be used.
    pub fn new(
        config: Config,
        folder: &Path,
        node_key: &[u8; 32],
        lifecycle: Lifecycle,
    ) -> Result<Self, anyhow::Error> {
        let engine = engine::build(&config)?;
        Ok(Self {
            ticker: Ticker::start(engine.clone())?,
            programs: Programs::new(&engine, &config, folder, node_key, lifecycle.clone())?,
            lanes: Arc::new(Lanes::start()?),
            memory: Arc::new(MemoryBudget::new(config.total_memory_mib << 20)),
            slots: Slots::new(config.slots, config.queue),
            nested: (0..DEPTH_MAX).map(|_level| Slots::new(config.nested, config.queue)).collect(),
            streams: stream_slots(config.streams.min(config.slots)),
            accounts: Arc::new(Unlimited),
            config,
            lifecycle,
        })
    }

    /// The same with books to charge; without them every namespace has what it takes.
    #[must_use]
    pub fn with_accounts(self, accounts: Arc<dyn Accounts>) -> Self {
        self.programs.charge(Arc::clone(&accounts));
        Self { accounts, ..self }
    }

    /// Who takes work off the threads of the network.
    pub fn aside(&self) -> Aside {
        Aside::new(Arc::clone(&self.lanes), Arc::clone(&self.accounts))
    }

    /// Whether components can be compiled here.
    ///
    /// * errors: why not, for operators.
    pub async fn probe(&self) -> Result<(), anyhow::Error> {
        self.programs.probe().await
    }

    /// What the executor holds right now.
    pub async fn stats(&self) -> Stats {
        let (compiled, loaded, cached) = self.programs.stats().await;
        let running = self.slots.running() + self.nested.iter().map(Slots::running).sum::<usize>();
        Stats { compiled, loaded, cached, running, guest_memory: self.memory.used() }
    }

    /// The places of calls like this one.
    fn places(&self, job: &Job) -> Result<&Slots, ExecError> {
        match job.calls.as_ref().map_or(0, |calls| calls.depth()) {
            0 => Ok(&self.slots),
            depth => self.nested.get(depth - 1).ok_or(ExecError::TooDeep(DEPTH_MAX)),
        }
    }

    /// * `streams`: of a streaming call.
    async fn run_job(&self, job: Job, streams: Option<Streams>) -> Result<Outcome, ExecFailure> {
        if job.limits.fuel > 0 && !self.config.metering {
            return Err(ExecError::Unmetered.into());
        }
        let places = self.places(&job)?;
        let account = Both::of(self.accounts.of(&job.namespace), job.caller.as_ref());
        let owner = Owner { namespace: job.namespace.clone(), account };
        if let Some(over) = owner.account.over(Charge::Cpu) {
            return Err(ExecError::from(over).into());
        }
        let weight = owner.account.weight();
        let arrived = Instant::now();
        let deadline = job.deadline.instant();
        let (program, start) =
            stoppable(&self.lifecycle, deadline, self.programs.get(&job.namespace, job.caller.as_ref(), &job.code))
                .await??;
        if streams.is_some() && !program.streams() {
            return Err(ExecError::NoStreaming.into());
        }
        let share = match &streams {
            Some(_) => Some(self.streams.take(&job.namespace, weight).await?), // there is no line: it does not wait
            None => None,
        };
        let slot = (stoppable(&self.lifecycle, deadline, places.take(&job.namespace, weight)).await??, share);
        let queued = arrived.elapsed();

        let meter = Arc::new(Meter::default());
        let began = Instant::now();
        let digest = job.code.digest;
        let result = self.supervise(program, (job, owner), streams, slot, Arc::clone(&meter)).await;
        let receipt = Receipt {
            executor: NAME,
            digest,
            version: None,
            fuel: self.config.metering.then(|| meter.fuel()),
            peak_memory: Some(meter.peak_memory()),
            queued,
            ran: began.elapsed(),
            start,
        };
        match result {
            Ok(reply) => Ok(Outcome { reply, receipt }),
            Err(error) => Err(ExecFailure { error, receipt: Some(Box::new(receipt)) }),
        }
    }

    /// Runs one instance under its deadline. When time is up the instance is dropped, on whichever thread it is.
    async fn supervise(
        &self,
        program: Arc<Program>,
        (job, owner): (Job, Owner),
        streams: Option<Streams>,
        slot: (Slot, Option<Slot>),
        meter: Arc<Meter>,
    ) -> Result<invoke::Reply, ExecError> {
        let deadline = job.deadline.instant();
        let running = self.ticker.running();
        let slow = program.is_slow();
        let invocation = Invocation::new(
            Arc::clone(&program),
            job,
            streams,
            Arc::clone(&meter),
            (Arc::clone(&self.memory), Arc::clone(&owner.account)),
            self.config.metering,
        );
        let log = invocation.log();
        let payer = Arc::clone(&owner.account);
        let guest = async move {
            // Held by the guest, not by its caller: a slot is free only when the instance is gone.
            let held = (slot, running);
            let (reply, remains) = invocation.run().await;
            if let Some(remains) = remains {
                lanes::tidy((remains, held), payer);
            }
            reply
        };
        // Its lines name the request on whichever thread it runs.
        let guest = Box::pin(guest.instrument(tracing::Span::current()));
        let result = stoppable(&self.lifecycle, deadline, self.lanes.run(guest, owner, meter.yields(), slow)).await;
        program.went(meter.yields().load(Ordering::Relaxed) > 0);
        log.finish();
        result?
    }
}

/// Places for streams, a quarter of many kept for namespaces that have next to none: a stream may last for minutes.
fn stream_slots(count: usize) -> Slots {
    let reserve = if count < 16 { 0 } else { count / 4 };
    Slots::with_reserve(count, 0, reserve)
}

impl Executor for WasmExecutor {
    fn accepts(&self, _namespace: &Namespace, _kind: Kind) -> Result<(), ExecError> {
        Ok(())
    }

    fn prepare<'a>(
        &'a self,
        namespace: &'a Namespace,
        caller: Option<&'a Arc<dyn Account>>,
        code: &'a Code,
    ) -> BoxFuture<'a, Result<(), ExecError>> {
        Box::pin(async move { self.programs.get(namespace, caller, code).await.map(|_ready| ()) })
    }

    fn run(&self, job: Job) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(self.run_job(job, None))
    }

    fn stream(&self, job: Job, streams: Streams) -> BoxFuture<'_, Result<Outcome, ExecFailure>> {
        Box::pin(self.run_job(job, Some(streams)))
    }
}
