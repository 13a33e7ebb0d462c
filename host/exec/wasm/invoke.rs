//! One call in one fresh instance, and what its end means.

use super::imports::{CoarseMonotonic, CoarseWall, Code, Fault as WitFault, Guest};
use super::limiter::{Limiter, MemoryBudget, Refused};
use super::programs::{Entry, Program};
use super::stdio::{ReplyBuffer, ReplyTooLarge, Sink};
use crate::domain::{Fault, FaultCode, Limits, one_line};
use crate::exec::log::{GuestLog, Stream};
use crate::exec::{ExecError, Job};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::time::Instant;
use wasmtime::component::{ComponentExportIndex, InstancePre, ResourceTable, ResourceTableError};
use wasmtime::{PoolConcurrencyLimitError, Store, Trap, UpdateDeadline};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{I32Exit, WasiCtx};

/// What a guest answered.
pub(super) type Reply = Result<Bytes, Fault>;

/// Fuel of a call that nobody limits. Half of what the counter holds, so that nothing can wrap.
const UNLIMITED_FUEL: u64 = u64::MAX / 2;
/// A command's code for gRPC code n is 64 + n. Source: design.md section 2.
const EXIT_BASE: i32 = 64;

/// Counters that outlive the instance: read after it was dropped at its deadline.
#[derive(Debug, Default)]
pub(super) struct Meter {
    yields: AtomicU32,
    peak_memory: AtomicU64,
    fuel: AtomicU64,
}

impl Meter {
    /// Ticks that the guest has used up.
    pub(super) fn yields(&self) -> &AtomicU32 {
        &self.yields
    }

    pub(super) fn peak_memory(&self) -> u64 {
        self.peak_memory.load(Ordering::Relaxed)
    }

    pub(super) fn fuel(&self) -> u64 {
        self.fuel.load(Ordering::Relaxed)
    }

    pub(super) fn saw_memory(&self, bytes: u64) {
        self.peak_memory.fetch_max(bytes, Ordering::Relaxed);
    }

    fn saw_fuel(&self, left: Result<u64, wasmtime::Error>, given: u64) {
        if let Ok(left) = left {
            self.fuel.store(given.saturating_sub(left), Ordering::Relaxed);
        }
    }
}

/// A call about to run.
pub(super) struct Invocation {
    program: Arc<Program>,
    job: Job,
    meter: Arc<Meter>,
    memory: Arc<MemoryBudget>,
    log: Arc<GuestLog>,
    fuel: Option<u64>,
}

impl Invocation {
    pub(super) fn new(
        program: Arc<Program>,
        job: Job,
        meter: Arc<Meter>,
        memory: Arc<MemoryBudget>,
        metering: bool,
    ) -> Self {
        let log = GuestLog::new(job.namespace.clone(), job.service.clone(), &job.code.digest, job.limits.log_bytes);
        let fuel = metering.then_some(if job.limits.fuel == 0 { UNLIMITED_FUEL } else { job.limits.fuel });
        Self { program, job, meter, memory, log: Arc::new(log), fuel }
    }

    /// The call's log, to be finished by whoever sees the call end.
    pub(super) fn log(&self) -> Arc<GuestLog> {
        Arc::clone(&self.log)
    }

    /// Makes an instance, calls it, drops it.
    ///
    /// * cancel: the instance is dropped at its next yield; nothing of it stays.
    pub(super) async fn run(self) -> Result<Reply, ExecError> {
        let program = Arc::clone(&self.program);
        match &program.entry {
            Entry::Handler { pre, handle } => self.run_handler(pre, handle).await,
            Entry::Command(pre) => self.run_command(pre).await,
        }
    }

    async fn run_handler(
        mut self,
        pre: &InstancePre<Guest>,
        handle: &ComponentExportIndex,
    ) -> Result<Reply, ExecError> {
        let stdout = Sink::Log(self.log(), Stream::Stdout);
        let wasi = self.wasi(Bytes::new(), stdout, &[]);
        let mut store = self.store(pre.engine(), wasi)?;
        let called: wasmtime::Result<Result<Vec<u8>, WitFault>> = async {
            let instance = pre.instantiate_async(&mut store).await?;
            let handle = instance.get_typed_func::<(&str, &[u8]), (Result<Vec<u8>, WitFault>,)>(&mut store, handle)?;
            let (reply,) = handle.call_async(&mut store, (self.job.method.as_str(), &self.job.input)).await?;
            Ok(reply)
        }
        .await;
        self.settle(&store);
        match called {
            Ok(Ok(reply)) if reply.len() > self.job.limits.output_bytes => Err(reply_too_large(&self.job.limits)),
            Ok(Ok(reply)) => Ok(Ok(reply.into())),
            Ok(Err(fault)) => Ok(Err(self.fault(fault))),
            Err(why) => Err(self.classify(why, &store)),
        }
    }

    async fn run_command(mut self, pre: &CommandPre<Guest>) -> Result<Reply, ExecError> {
        let reply = Arc::new(ReplyBuffer::new(self.job.limits.output_bytes));
        let argv = [self.job.namespace.as_str().to_owned(), self.job.service.clone(), self.job.method.clone()];
        let input = std::mem::take(&mut self.job.input);
        let wasi = self.wasi(input, Sink::Reply(Arc::clone(&reply)), &argv);
        let mut store = self.store(pre.engine(), wasi)?;
        let called = async {
            let command = pre.instantiate_async(&mut store).await?;
            command.wasi_cli_run().call_run(&mut store).await
        }
        .await;
        self.settle(&store);
        match called {
            Ok(Ok(())) => Ok(Ok(reply.take())),
            Ok(Err(())) => self.exited(1),
            Err(why) => match why.downcast_ref::<I32Exit>() {
                Some(I32Exit(0)) => Ok(Ok(reply.take())),
                Some(I32Exit(code)) => self.exited(*code),
                None => Err(self.classify(why, &store)),
            },
        }
    }

    /// WASI as a guest sees it: no folders, no sockets, no inherited anything.
    fn wasi(&self, stdin: Bytes, stdout: Sink, argv: &[String]) -> WasiCtx {
        let deadline_ms = self.job.deadline.remaining().as_millis().to_string();
        let mut wasi = WasiCtx::builder();
        wasi.stdin(MemoryInputPipe::new(stdin))
            .stdout(stdout)
            .stderr(Sink::Log(self.log(), Stream::Stderr))
            .wall_clock(CoarseWall)
            .monotonic_clock(CoarseMonotonic(Instant::now()))
            .max_random_size(self.job.limits.random_bytes);
        if let [namespace, service, method] = argv {
            wasi.args(argv)
                .env("COLLECTOR_NAMESPACE", namespace)
                .env("COLLECTOR_SERVICE", service)
                .env("COLLECTOR_METHOD", method)
                .env("COLLECTOR_DEADLINE_MS", deadline_ms);
        }
        wasi.build()
    }

    fn store(&mut self, engine: &wasmtime::Engine, wasi: WasiCtx) -> Result<Store<Guest>, ExecError> {
        let limits = &self.job.limits;
        let mut table = ResourceTable::new();
        table.set_max_capacity(limits.resources);
        let guest = Guest {
            wasi,
            table,
            limiter: Limiter::new(limits, Arc::clone(&self.memory), Arc::clone(&self.meter)),
            log: self.log(),
            namespace: self.job.namespace.clone(),
            service: self.job.service.clone(),
            metadata: std::mem::take(&mut self.job.metadata),
            deadline: self.job.deadline,
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(limits.host_call_bytes);
        store.set_max_component_handles(limits.resources);
        if let Some(fuel) = self.fuel {
            store.set_fuel(fuel).map_err(ExecError::internal)?;
        }
        let (meter, given) = (Arc::clone(&self.meter), self.fuel);
        // The first tick may come at once; the second says that a whole one was used up.
        store.set_epoch_deadline(2);
        store.epoch_deadline_callback(move |guest| {
            // Touches counters only: the guest may be in the middle of a bulk operation.
            meter.yields.fetch_add(1, Ordering::Relaxed);
            if let Some(given) = given {
                meter.saw_fuel(guest.get_fuel(), given);
            }
            Ok(UpdateDeadline::Yield(1))
        });
        Ok(store)
    }

    fn settle(&self, store: &Store<Guest>) {
        if let Some(given) = self.fuel {
            self.meter.saw_fuel(store.get_fuel(), given);
        }
    }

    /// What a command's exit code means. Source: design.md, the command contract.
    fn exited(&self, code: i32) -> Result<Reply, ExecError> {
        self.log.finish(); // completes the last line on stderr
        let last_words = self.log.last_words();
        match FaultCode::from_number(code.saturating_sub(EXIT_BASE)) {
            Some(code) => Ok(Err(Fault { code, message: last_words.unwrap_or_default(), details: Vec::new() })),
            None => Err(ExecError::Exit { code, last_words }),
        }
    }

    fn fault(&self, fault: WitFault) -> Fault {
        Fault { code: code(fault.code), message: fault.message, details: fault.details }
    }

    /// Which limit, trap or exit ended the guest.
    fn classify(&self, why: wasmtime::Error, store: &Store<Guest>) -> ExecError {
        let limits = &self.job.limits;
        if let Some(I32Exit(code)) = why.downcast_ref() {
            self.log.finish();
            return ExecError::Exit { code: *code, last_words: self.log.last_words() };
        }
        if why.is::<ReplyTooLarge>() {
            return reply_too_large(limits);
        }
        if matches!(why.downcast_ref(), Some(ResourceTableError::Full)) {
            return resources(limits);
        }
        if why.is::<PoolConcurrencyLimitError>() {
            return ExecError::Busy;
        }
        match why.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => limit("FUEL_LIMIT", "the plugin ran out of fuel", "fuel", limits.fuel),
            // Memory that could not grow ends a Rust guest in an unreachable, a C guest in an access out of bounds.
            // A guest that went on and gave up later, for a reason of its own, has said so.
            // A component whose memory begins over the limit ends in no trap at all.
            None | Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds | Trap::TableOutOfBounds)
                if !self.log.gave_up() =>
            {
                let refused = || store.data().limiter.refused().map(|refused| memory(refused, limits));
                self.host_limit(&why).or_else(refused).unwrap_or_else(|| self.trap(&why))
            }
            Some(_) | None => self.host_limit(&why).unwrap_or_else(|| self.trap(&why)),
        }
    }

    /// Limits that wasmtime reports with private error types: told by their words, which tests hold still.
    fn host_limit(&self, why: &wasmtime::Error) -> Option<ExecError> {
        let limits = &self.job.limits;
        let words = why.root_cause().to_string();
        if words.contains("fuel allocated for hostcalls has been exhausted") {
            let what = "the plugin handed the node too much in one host call";
            return Some(limit("HOST_CALL_LIMIT", what, "host_call_bytes", limits.host_call_bytes as u64));
        }
        if words.starts_with("requested len") && words.contains("exceeds limit") {
            let what = "the plugin asked for too many random bytes at once";
            return Some(limit("RANDOM_LIMIT", what, "random_bytes", limits.random_bytes));
        }
        None
    }

    /// A trap in the guest's own last words where there are some, else in wasmtime's.
    fn trap(&self, why: &wasmtime::Error) -> ExecError {
        self.log.finish();
        // Function names in a backtrace are the guest's words too.
        let trace = one_line(&format!("{why:?}"), 4_096);
        tracing::debug!(target: "guest", namespace = %self.job.namespace, service = %self.job.service, "{trace}");
        let cause = match why.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => why.root_cause().to_string(),
        };
        ExecError::Trap(one_line(&self.log.last_words().unwrap_or(cause), 512))
    }
}

fn reply_too_large(limits: &Limits) -> ExecError {
    limit("OUTPUT_LIMIT", "the plugin's reply is too large", "output_bytes", limits.output_bytes as u64)
}

fn resources(limits: &Limits) -> ExecError {
    limit("RESOURCE_LIMIT", "the plugin holds too many resources", "resources", limits.resources as u64)
}

fn memory(refused: Refused, limits: &Limits) -> ExecError {
    match refused {
        Refused::Call => limit("MEMORY_LIMIT", "the plugin needs more memory", "memory_mib", limits.memory_mib),
        Refused::Node => ExecError::Busy,
        Refused::Table => {
            limit("TABLE_LIMIT", "the plugin needs larger tables", "table_elements", limits.table_elements as u64)
        }
    }
}

fn limit(reason: &'static str, what: &'static str, key: &'static str, limit: u64) -> ExecError {
    ExecError::Limit { reason, what, key, limit }
}

fn code(code: Code) -> FaultCode {
    match code {
        Code::Cancelled => FaultCode::Cancelled,
        Code::Unknown => FaultCode::Unknown,
        Code::InvalidArgument => FaultCode::InvalidArgument,
        Code::DeadlineExceeded => FaultCode::DeadlineExceeded,
        Code::NotFound => FaultCode::NotFound,
        Code::AlreadyExists => FaultCode::AlreadyExists,
        Code::PermissionDenied => FaultCode::PermissionDenied,
        Code::ResourceExhausted => FaultCode::ResourceExhausted,
        Code::FailedPrecondition => FaultCode::FailedPrecondition,
        Code::Aborted => FaultCode::Aborted,
        Code::OutOfRange => FaultCode::OutOfRange,
        Code::Unimplemented => FaultCode::Unimplemented,
        Code::Internal => FaultCode::Internal,
        Code::Unavailable => FaultCode::Unavailable,
        Code::DataLoss => FaultCode::DataLoss,
        Code::Unauthenticated => FaultCode::Unauthenticated,
    }
}
