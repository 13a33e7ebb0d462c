//! Compiled components: memory, else disk, else the compiler, and each digest only once at a time.

use super::Config;
use super::compile::Compiler;
use super::imports::{self, Guest};
use super::store_file::CompiledStore;
use crate::domain::{Account, Accounts, Both, Charge, Digest, Kind, Namespace, Start, one_line};
use crate::exec::compile::Compiled;
use crate::exec::load::{Loaded, blocking, read};
use crate::exec::{Code, ExecError};
use crate::lifecycle::Lifecycle;
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::time::Instant;
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;

/// A component that is ready to be instantiated.
pub(super) struct Program {
    pub(super) entry: Entry,
    /// Bytes of machine code.
    code_bytes: usize,
    /// Quick calls after which the component is no longer taken for a slow one.
    slow: AtomicU32,
}

/// How many calls have to end within their tick before a component that used one up counts as quick again. Those that
/// begin meanwhile do not count: a hundred at once are all slow.
const SLOW_CALLS: u32 = 16;
/// What a program costs in memory beside its mapped code: types, tables of exports, the resolved imports.
const PROGRAM_COST: usize = 64 << 10;
/// How often one call waits for others who are then refused for their quotas. 4: each of them was let into the compilers'
/// line before, so a call whose turn never comes meets a flood of them.
const REFUSED_MAX: usize = 4;

impl Program {
    /// Whether the next call is expected to take long, because one not long ago did.
    pub(super) fn is_slow(&self) -> bool {
        self.slow.load(Ordering::Relaxed) > 0
    }

    /// Whether it answers streaming calls.
    pub(super) fn streams(&self) -> bool {
        matches!(&self.entry, Entry::Handler(handler) if handler.handle_stream.is_some())
    }

    /// Notes how a call went.
    ///
    /// * `slow`: it used up its tick.
    pub(super) fn went(&self, slow: bool) {
        if slow {
            self.slow.store(SLOW_CALLS, Ordering::Relaxed);
        } else if self.is_slow() {
            let less = |left: u32| left.checked_sub(1);
            let _ = self.slow.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }
}

/// How a component is called.
pub(super) enum Entry {
    /// `collector:plugin/handler`: typed functions.
    Handler(Handler),
    /// `wasi:cli/run`: the command contract.
    Command(CommandPre<Guest>),
}

/// A handler's typed functions.
pub(super) struct Handler {
    /// Imports resolved, checked once.
    pub(super) pre: InstancePre<Guest>,
    /// Where `handle` is among the exports.
    pub(super) handle: ComponentExportIndex,
    /// Where `handle-stream` is, if it answers streaming calls.
    pub(super) handle_stream: Option<ComponentExportIndex>,
}

/// All programs of a node.
pub(super) struct Programs {
    shared: Arc<Shared>,
    ready: Loaded<Program>,
}

struct Shared {
    engine: Engine,
    linker: Linker<Guest>,
    compiler: Compiler,
    accounts: OnceLock<Arc<dyn Accounts>>,
    store: CompiledStore,
    compiled: AtomicU64,
    loaded: AtomicU64,
}

impl Programs {
    pub(super) fn new(
        engine: &Engine,
        config: &Config,
        folder: &Path,
        node_key: &[u8; 32],
        lifecycle: Lifecycle,
    ) -> Result<Self, anyhow::Error> {
        let shared = Shared {
            linker: imports::linker(engine)?,
            compiler: Compiler::start(engine.clone(), config, lifecycle.clone())?,
            accounts: OnceLock::new(),
            store: CompiledStore::open(folder, engine, node_key, config.disk_mib << 20)?,
            engine: engine.clone(),
            compiled: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
        };
        let cost = |program: &Program| program.code_bytes + PROGRAM_COST;
        Ok(Self { shared: Arc::new(shared), ready: Loaded::new(config.programs_mib, cost, lifecycle) })
    }

    /// The program for `code`. However many ask at once, it is loaded or compiled once.
    ///
    /// * `namespace`: in whose turn it is compiled.
    /// * `caller`: who pays for that beside it.
    /// * errors: `Missing`, `Imports`, `Compile`, `CompileLimit`, `Broken`, `Internal`; `Quota` of the two; `Busy` if too
    ///   many wait for the compiler.
    /// * cancel: safe; loading goes on in a task of its own, so that the next call finds it.
    pub(super) async fn get(
        &self,
        namespace: &Namespace,
        caller: Option<&Arc<dyn Account>>,
        code: &Code,
    ) -> Result<(Arc<Program>, Start), ExecError> {
        let make = |code: Code| {
            let (shared, namespace, caller) = (Arc::clone(&self.shared), namespace.clone(), caller.cloned());
            async move { shared.prepare(&namespace, caller.as_ref(), &code).await }
        };
        for _ in 0..REFUSED_MAX {
            match self.ready.get(code, make).await {
                // Perhaps it was another payer who was refused, for whom this call only waited.
                Err(ExecError::Quota(_)) => {}
                ready => return ready,
            }
            if let Some(over) = self.shared.payer(namespace, caller).and_then(|payer| payer.over(Charge::Compile)) {
                return Err(over.into());
            }
        }
        Err(ExecError::Busy)
    }

    /// See [`super::WasmExecutor::probe`].
    pub(super) async fn probe(&self) -> Result<(), anyhow::Error> {
        self.shared.compiler.probe().await
    }

    /// Books that compiling is charged to. Once; later ones are not asked.
    pub(super) fn charge(&self, accounts: Arc<dyn Accounts>) {
        let _ = self.shared.accounts.set(accounts);
    }

    /// Compiled, loaded from disk, in memory.
    pub(super) async fn stats(&self) -> (u64, u64, u64) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.compiled), count(&self.shared.loaded), self.ready.count().await)
    }
}

impl Shared {
    /// Who pays for compiling.
    fn payer(&self, namespace: &Namespace, caller: Option<&Arc<dyn Account>>) -> Option<Arc<dyn Account>> {
        self.accounts.get().map(|accounts| Both::of(accounts.of(namespace), caller))
    }

    async fn prepare(
        self: Arc<Self>,
        namespace: &Namespace,
        caller: Option<&Arc<dyn Account>>,
        code: &Code,
    ) -> Result<Program, ExecError> {
        let component = match self.load(code.digest).await? {
            Some(component) => component,
            None => self.compile(namespace, caller, code).await?,
        };
        self.link(&component, code.kind)
    }

    /// From disk; `None` if it is not there, not ours, or not what the engine takes any more.
    async fn load(self: &Arc<Self>, digest: Digest) -> Result<Option<Component>, ExecError> {
        let shared = Arc::clone(self);
        let found = blocking(move || {
            let opened = shared.store.find(&digest)?.open(&shared.engine);
            if let Err(why) = &opened {
                tracing::warn!(%why, "compiled code on disk does not load, compiling again");
            }
            opened.ok()
        });
        let component = found.await?;
        if component.is_some() {
            self.loaded.fetch_add(1, Ordering::Relaxed);
        }
        Ok(component)
    }

    /// By the compiler. Kept on disk only if it loads: the engine checks a component against its pool when it loads it.
    async fn compile(
        self: &Arc<Self>,
        namespace: &Namespace,
        caller: Option<&Arc<dyn Account>>,
        code: &Code,
    ) -> Result<Component, ExecError> {
        let account = self.payer(namespace, caller);
        let over = || account.as_ref().and_then(|account| account.over(Charge::Compile)).map_or(Ok(()), Err);
        over()?;
        let turn = self.compiler.turn(namespace).await?;
        over()?; // those before it in the queue have spent since
        let bytes = read(code).await?;
        let bill = account.map(Bill::new);
        let Compiled { code: machine_code, took } = self.compiler.compile(turn, bytes).await?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        if let Some(bill) = bill {
            bill.settle(took);
        }
        let (shared, digest) = (Arc::clone(self), code.digest);
        let opened = blocking(move || {
            let fresh = shared.store.write(&digest, machine_code);
            let opened = fresh.open(&shared.engine);
            shared.store.settle(&digest, &fresh, opened.is_ok());
            opened
        });
        opened.await?.map_err(|why| ExecError::Compile(one_line(&format!("{why:#}"), 512)))
    }

    fn link(&self, component: &Component, kind: Kind) -> Result<Program, ExecError> {
        let pre = self.linker.instantiate_pre(component).map_err(|why| self.missing(component, &why))?;
        let entry = match kind {
            Kind::WasmHandler => {
                let handle = imports::handle_index(component).ok_or_else(|| {
                    ExecError::Compile("it exports no `handle` of the guest interface 0.1".to_owned())
                })?;
                Entry::Handler(Handler { pre, handle, handle_stream: imports::handle_stream_index(component) })
            }
            Kind::WasmCommand => {
                let pre = CommandPre::new(pre).map_err(|why| ExecError::Compile(one_line(&why.to_string(), 512)))?;
                Entry::Command(pre)
            }
            Kind::NativeElf | Kind::Image => return Err(ExecError::Compile("it is no component".to_owned())),
        };
        let image = component.image_range();
        let code_bytes = (image.end as usize).saturating_sub(image.start as usize);
        Ok(Program { entry, code_bytes, slow: AtomicU32::new(0) })
    }

    /// Names each import that the linker does not have, else says what does not fit.
    fn missing(&self, component: &Component, why: &wasmtime::Error) -> ExecError {
        let wanted = component.component_type();
        let missing: Vec<String> = wanted
            .imports(&self.engine)
            .map(|(name, _)| one_line(name, 256))
            .filter(|name| imports::import(name) == imports::Import::Unknown)
            .collect();
        if missing.is_empty() {
            ExecError::Compile(one_line(&format!("{why:#}"), 512))
        } else {
            ExecError::Imports(missing)
        }
    }
}

/// Charges what compiling took, however it ends: what fails at its limit has cost the most.
struct Bill {
    account: Arc<dyn Account>,
    began: Instant,
    took: Option<Duration>,
}

impl Bill {
    fn new(account: Arc<dyn Account>) -> Self {
        account.begin();
        Self { account, began: Instant::now(), took: None }
    }

    /// * `took`: of a processor.
    fn settle(mut self, took: Duration) {
        self.took = Some(took);
    }
}

impl Drop for Bill {
    /// What failed or was given up says not what it took: the time that passed, which is a few times that at most.
    fn drop(&mut self) {
        let took = self.took.unwrap_or_else(|| self.began.elapsed());
        self.account.charge_time(Charge::Compile, took);
        self.account.end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Ceiling, Exceeded, Unlimited};

    #[derive(Debug, Default)]
    struct Books(AtomicU64);

    impl Account for Books {
        fn weight(&self) -> u32 {
            1
        }

        fn take_memory(&self, _bytes: u64) -> Result<(), Exceeded> {
            Ok(())
        }

        fn give_memory(&self, _bytes: u64) {}

        fn begin(&self) {}

        fn end(&self) {}

        fn charge(&self, what: Charge, amount: u64) {
            assert!(matches!(what, Charge::Compile));
            self.0.fetch_add(amount, Ordering::Relaxed);
        }

        fn over(&self, _what: Charge) -> Option<Exceeded> {
            None
        }

        fn far_over(&self, _what: Charge) -> Option<Exceeded> {
            None
        }

        fn ceiling(&self) -> Ceiling {
            Unlimited.ceiling()
        }
    }

    #[test]
    fn w03_a_compile_that_fails_is_charged_too() {
        let books = Arc::new(Books::default());
        let half_a_minute_ago = || {
            let bill = Bill::new(Arc::<Books>::clone(&books));
            let began = bill.began.checked_sub(Duration::from_secs(30)).unwrap();
            Bill { began, took: None, account: Arc::<Books>::clone(&books) }
        };
        drop(half_a_minute_ago());
        assert!(books.0.swap(0, Ordering::Relaxed) >= 30_000_000_000);
        let bill = half_a_minute_ago();
        books.0.store(0, Ordering::Relaxed); // of what the time was taken from
        bill.settle(Duration::from_secs(7));
        assert_eq!(books.0.load(Ordering::Relaxed), 7_000_000_000, "what it says it took, once");
    }
}
