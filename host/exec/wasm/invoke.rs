//! One call in one fresh instance, and what its end means.

use super::exchange::{Exchange, Pace};
use super::imports::{CoarseMonotonic, CoarseWall, Fault as WitFault, Guest};
use super::limiter::{Limiter, MemoryBudget};
use super::programs::{Entry, Handler, Program};
use super::stdio::{ReplyBuffer, Sink};
use super::ticker::Used;
use super::verdict::{Verdict, reply_too_large};
use crate::domain::{Account, Fault};
use crate::exec::command::{self, End};
use crate::exec::log::{GuestLog, Stream};
use crate::exec::{ExecError, Job, Streams};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::time::Instant;
use wasmtime::component::{
    ComponentExportIndex, ComponentNamedList, ComponentType, Lift, Lower, Resource, ResourceTable,
};
use wasmtime::{Store, UpdateDeadline};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::{I32Exit, WasiCtx};

pub(super) use crate::exec::command::Reply;

/// What a command is told its own name is; the same for every artifact, as nothing of a call has a name of its own.
const PROGRAM: &str = "plugin";
/// Fuel of a call that nobody limits. Half of what the counter holds, so that nothing can wrap.
const UNLIMITED_FUEL: u64 = u64::MAX / 2;

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
    account: Arc<dyn Account>,
    log: Arc<GuestLog>,
    fuel: Option<u64>,
    streams: Option<Streams>,
}

impl Invocation {
    /// In a box: each function that it goes through would keep a copy of its own.
    ///
    /// * `streams`: of a streaming call.
    /// * `memory`: of the node, and of the namespace.
    pub(super) fn new(
        program: Arc<Program>,
        job: Job,
        streams: Option<Streams>,
        meter: Arc<Meter>,
        memory: (Arc<MemoryBudget>, Arc<dyn Account>),
        metering: bool,
    ) -> Box<Self> {
        let log = GuestLog::new(job.namespace.clone(), job.service.clone(), &job.code.digest, job.limits.log_bytes);
        let fuel = metering.then_some(if job.limits.fuel == 0 { UNLIMITED_FUEL } else { job.limits.fuel });
        let (memory, account) = memory;
        Box::new(Self { program, job, meter, memory, account, log: Arc::new(log), fuel, streams })
    }

    /// The call's log, to be finished by whoever sees the call end.
    pub(super) fn log(&self) -> Arc<GuestLog> {
        Arc::clone(&self.log)
    }

    /// Makes an instance and calls it.
    ///
    /// * returns: besides, what is left of the instance of a short call, to be dropped when nobody waits for that.
    /// * cancel: the instance is dropped at its next yield; nothing of it stays.
    pub(super) async fn run(mut self: Box<Self>) -> (Result<Reply, ExecError>, Option<Store<Guest>>) {
        let program = Arc::clone(&self.program);
        let reply = match (&program.entry, self.streams.take()) {
            (Entry::Handler(handler), None) => {
                let mut store = match self.handler_store(handler) {
                    Ok(store) => store,
                    Err(why) => return (Err(why), None),
                };
                return (self.run_unary(&mut store, handler).await, Some(store));
            }
            (Entry::Handler(handler), Some(streams)) => match &handler.handle_stream {
                Some(handle) => self.run_stream(handler, handle, streams).await,
                None => Err(ExecError::NoStreaming),
            },
            (Entry::Command(pre), None) => self.run_command(pre).await,
            (Entry::Command(_), Some(_)) => Err(ExecError::NoStreaming),
        };
        (reply, None)
    }

    async fn run_unary(self: Box<Self>, store: &mut Store<Guest>, handler: &Handler) -> Result<Reply, ExecError> {
        let params = (self.job.method.as_str(), &*self.job.input);
        let called = call::<(&str, &[u8]), Vec<u8>>(store, handler, &handler.handle, params).await;
        match self.ended(store, called)? {
            Ok(reply) if reply.len() > self.job.limits.output_bytes => Err(reply_too_large(&self.job.limits)),
            reply => Ok(reply.map(Bytes::from)),
        }
    }

    async fn run_stream(
        mut self: Box<Self>,
        handler: &Handler,
        handle: &ComponentExportIndex,
        streams: Streams,
    ) -> Result<Reply, ExecError> {
        let mut store = self.handler_store(handler)?;
        let exchange = Exchange::new(streams, &self.job.limits);
        let called = async {
            let exchange = store.data_mut().table.push(exchange)?;
            let params = (self.job.method.as_str(), exchange);
            call::<(&str, Resource<Exchange>), ()>(&mut store, handler, handle, params).await
        }
        .await;
        Ok(self.ended(&store, called)?.map(|()| Bytes::new()))
    }

    async fn run_command(mut self: Box<Self>, pre: &CommandPre<Guest>) -> Result<Reply, ExecError> {
        let reply = Arc::new(ReplyBuffer::new(self.job.limits.output_bytes));
        let argv: Vec<String> = std::iter::once(PROGRAM.to_owned()).chain(command::argv(&self.job)).collect();
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
                None => Err(self.classify(&why, &store)),
            },
        }
    }

    fn handler_store(&mut self, handler: &Handler) -> Result<Store<Guest>, ExecError> {
        let stdout = Sink::Log(self.log(), Stream::Stdout);
        let wasi = self.wasi(Bytes::new(), stdout, &[]);
        self.store(handler.pre.engine(), wasi)
    }

    /// WASI as a guest sees it: no folders, no sockets, no inherited anything.
    fn wasi(&self, stdin: Bytes, stdout: Sink, argv: &[String]) -> WasiCtx {
        let mut wasi = WasiCtx::builder();
        wasi.stdin(MemoryInputPipe::new(stdin))
            .stdout(stdout)
            .stderr(Sink::Log(self.log(), Stream::Stderr))
            .wall_clock(CoarseWall)
            .monotonic_clock(CoarseMonotonic(Instant::now()))
            .max_random_size(self.job.limits.random_bytes);
        if !argv.is_empty() {
            wasi.args(argv).envs(&command::environment(&self.job));
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
            limiter: Limiter::new(limits, Arc::clone(&self.memory), Arc::clone(&self.account), Arc::clone(&self.meter)),
            log: self.log(),
            namespace: self.job.namespace.clone(),
            service: self.job.service.clone(),
            metadata: std::mem::take(&mut self.job.metadata),
            deadline: self.job.deadline,
            pace: Pace::default(),
            calls: self.job.calls.take(),
        };
        let mut store = Store::new(engine, guest);
        store.limiter(|guest| &mut guest.limiter);
        store.set_hostcall_fuel(limits.host_call_bytes);
        store.set_max_component_handles(limits.resources);
        if let Some(fuel) = self.fuel {
            store.set_fuel(fuel).map_err(ExecError::internal)?;
        }
        let (meter, given) = (Arc::clone(&self.meter), self.fuel);
        // The first tick may come at once; the second says that a whole one has passed.
        store.set_epoch_deadline(1);
        let mut used = Used::default();
        store.epoch_deadline_callback(move |mut guest| {
            // Touches counters only: the guest may be in the middle of a bulk operation.
            if let Some(given) = given {
                meter.saw_fuel(guest.get_fuel(), given);
            }
            // Ticks that passed while it waited are none of its own; it let the thread go, so it begins anew.
            if guest.data_mut().pace.take_wait() {
                used = Used::default();
                return Ok(UpdateDeadline::Continue(1));
            }
            // Nor are those while the machine had other things to do than this thread.
            if meter.yields.load(Ordering::Relaxed) == 0 && !used.tick() {
                return Ok(UpdateDeadline::Continue(1));
            }
            meter.yields.fetch_add(1, Ordering::Relaxed);
            Ok(UpdateDeadline::Yield(1))
        });
        Ok(store)
    }

    /// The answer of a handler that came to its end, or why it did not.
    fn ended<T>(
        &self,
        store: &Store<Guest>,
        called: wasmtime::Result<Result<T, WitFault>>,
    ) -> Result<Result<T, Fault>, ExecError> {
        self.settle(store);
        match called {
            Ok(answer) => Ok(answer.map_err(Fault::from)),
            Err(why) => Err(self.classify(&why, store)),
        }
    }

    fn settle(&self, store: &Store<Guest>) {
        if let Some(given) = self.fuel {
            self.meter.saw_fuel(store.get_fuel(), given);
        }
    }

    fn exited(&self, code: i32) -> Result<Reply, ExecError> {
        command::answer(End::Exit(code), Bytes::new(), &self.log, &self.job.limits)
    }

    fn classify(&self, why: &wasmtime::Error, store: &Store<Guest>) -> ExecError {
        let verdict = Verdict {
            limits: &self.job.limits,
            log: &self.log,
            namespace: &self.job.namespace,
            service: &self.job.service,
            refused: store.data().limiter.refused(),
        };
        verdict.of(why)
    }
}

/// Makes an instance and calls one of its exports.
async fn call<P, T>(
    store: &mut Store<Guest>,
    handler: &Handler,
    export: &ComponentExportIndex,
    params: P,
) -> wasmtime::Result<Result<T, WitFault>>
where
    P: ComponentNamedList + Lower + Send + Sync,
    T: ComponentType + Lift + Send + Sync + 'static,
{
    let instance = handler.pre.instantiate_async(&mut *store).await?;
    let export = instance.get_typed_func::<P, (Result<T, WitFault>,)>(&mut *store, export)?;
    let (answer,) = export.call_async(store, params).await?;
    Ok(answer)
}
