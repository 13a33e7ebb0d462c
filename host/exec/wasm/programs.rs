//! Compiled components: memory, else disk, else the compiler, and each digest only once at a time.

use super::compile::Compiler;
use super::imports::{self, Guest};
use super::store_file::{CompiledStore, OwnArtifact};
use super::{Config, engine};
use crate::domain::{Digest, Kind, Start};
use crate::exec::{Code, CodeBytes, ExecError};
use crate::lifecycle::Lifecycle;
use bytes::Bytes;
use moka::future::Cache;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use wasmtime::Engine;
use wasmtime::component::{Component, ComponentExportIndex, InstancePre, Linker};
use wasmtime_wasi::p2::bindings::CommandPre;

/// A component that is ready to be instantiated.
pub(super) struct Program {
    pub(super) entry: Entry,
}

/// How a component is called.
pub(super) enum Entry {
    /// `collector:plugin/handler`: a typed function.
    Handler {
        /// Imports resolved, checked once.
        pre: InstancePre<Guest>,
        /// Where `handle` is among the exports.
        handle: ComponentExportIndex,
    },
    /// `wasi:cli/run`: the command contract.
    Command(CommandPre<Guest>),
}

/// All programs of a node.
pub(super) struct Programs {
    shared: Arc<Shared>,
    cache: Cache<Digest, Arc<Program>>,
    lifecycle: Lifecycle,
}

struct Shared {
    engine: Engine,
    linker: Linker<Guest>,
    compiler: Compiler,
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
            compiler: Compiler::start(engine.clone(), config.compilers)?,
            store: CompiledStore::open(folder, engine, node_key, config.disk_mib << 20)?,
            engine: engine.clone(),
            compiled: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
        };
        // Least recently used goes first: a scan over many digests must not be able to keep busy ones out for good,
        // and every newcomer has to be usable at once.
        let cache =
            Cache::builder().max_capacity(config.programs).eviction_policy(moka::policy::EvictionPolicy::lru()).build();
        Ok(Self { shared: Arc::new(shared), cache, lifecycle })
    }

    /// The program for `code`. However many ask at once, it is loaded or compiled once.
    ///
    /// * errors: `Missing`, `Imports`, `Compile`, `Internal`.
    /// * cancel: safe; loading goes on in a task of its own, so that the next call finds it.
    pub(super) async fn get(&self, code: &Code) -> Result<(Arc<Program>, Start), ExecError> {
        if let Some(program) = self.cache.get(&code.digest).await {
            return Ok((program, Start::Warm));
        }
        let (cache, shared, code) = (self.cache.clone(), Arc::clone(&self.shared), code.clone());
        let task = self.lifecycle.spawn(async move {
            let digest = code.digest;
            cache.try_get_with(digest, async move { shared.prepare(code).await }).await
        });
        let program = task.await.map_err(|gone| ExecError::Internal(gone.into()))?;
        program.map(|program| (program, Start::Cold)).map_err(|shared| shared.again())
    }

    /// Compiled, loaded from disk, in memory.
    pub(super) async fn stats(&self) -> (u64, u64, u64) {
        self.cache.run_pending_tasks().await;
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (count(&self.shared.compiled), count(&self.shared.loaded), self.cache.entry_count())
    }
}

impl Shared {
    async fn prepare(self: Arc<Self>, code: Code) -> Result<Arc<Program>, ExecError> {
        let component = match self.load(code.digest).await? {
            Some(component) => component,
            None => self.compile(&code).await?,
        };
        self.link(&component, code.kind).map(Arc::new)
    }

    async fn load(self: &Arc<Self>, digest: Digest) -> Result<Option<Component>, ExecError> {
        let shared = Arc::clone(self);
        let found = blocking(move || {
            let artifact = shared.store.find(&digest)?;
            shared.open(&artifact)
        });
        let component = found.await?;
        if component.is_some() {
            self.loaded.fetch_add(1, Ordering::Relaxed);
        }
        Ok(component)
    }

    async fn compile(self: &Arc<Self>, code: &Code) -> Result<Component, ExecError> {
        let bytes = read(code).await?;
        let machine_code = self.compiler.compile(bytes).await?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let (shared, digest) = (Arc::clone(self), code.digest);
        let opened = blocking(move || {
            let artifact = shared.store.keep(&digest, machine_code);
            shared.open(&artifact)
        });
        opened.await?.ok_or_else(|| ExecError::Internal(anyhow::anyhow!("fresh machine code did not load")))
    }

    /// Machine code into memory; `None` if the engine refuses it, so that it is compiled anew.
    fn open(&self, artifact: &OwnArtifact) -> Option<Component> {
        match artifact.open(&self.engine) {
            Ok(component) => Some(component),
            Err(why) => {
                tracing::warn!(%why, "compiled code on disk does not load, compiling again");
                None
            }
        }
    }

    fn link(&self, component: &Component, kind: Kind) -> Result<Program, ExecError> {
        check_shape(component)?;
        let pre = self.linker.instantiate_pre(component).map_err(|why| self.missing(component, &why))?;
        let entry = match kind {
            Kind::WasmHandler => {
                let handle = imports::handle_index(component).ok_or_else(|| {
                    ExecError::Compile("it exports no `handle` of the guest interface 0.1".to_owned())
                })?;
                Entry::Handler { pre, handle }
            }
            Kind::WasmCommand => {
                let pre = CommandPre::new(pre).map_err(|why| ExecError::Compile(why.to_string()))?;
                Entry::Command(pre)
            }
        };
        Ok(Program { entry })
    }

    /// Names each import that the linker does not have, else says what does not fit.
    fn missing(&self, component: &Component, why: &wasmtime::Error) -> ExecError {
        let wanted = component.component_type();
        let missing: Vec<String> = wanted
            .imports(&self.engine)
            .map(|(name, _)| name.to_owned())
            .filter(|name| !imports::is_granted(name))
            .collect();
        if missing.is_empty() { ExecError::Compile(format!("{why:#}")) } else { ExecError::Imports(missing) }
    }
}

/// Refuses what the pool has no room for, before it fails at the first call.
fn check_shape(component: &Component) -> Result<(), ExecError> {
    let Some(needs) = component.resources_required() else { return Ok(()) };
    let over = |what: &str, has: u32, most: u32| {
        Err(ExecError::Compile(format!("it has {has} {what}, at most {most} are allowed in one component")))
    };
    if needs.num_memories > 1 {
        return over("memories", needs.num_memories, 1);
    }
    if needs.num_tables > engine::TABLES {
        return over("tables", needs.num_tables, engine::TABLES);
    }
    Ok(())
}

async fn read(code: &Code) -> Result<Bytes, ExecError> {
    let path = match &code.bytes {
        CodeBytes::Memory(bytes) => return Ok(bytes.clone()),
        CodeBytes::File(path) => path.clone(),
    };
    let digest = code.digest;
    blocking(move || {
        let bytes = std::fs::read(path).ok()?;
        (Digest::of(&bytes) == digest).then(|| Bytes::from(bytes))
    })
    .await?
    .ok_or(ExecError::Missing)
}

/// Runs `work` where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ExecError> {
    tokio::task::spawn_blocking(work).await.map_err(|gone| ExecError::Internal(gone.into()))
}

impl ExecError {
    /// The same answer for one more caller who waited for the same program.
    fn again(&self) -> Self {
        match self {
            Self::Imports(missing) => Self::Imports(missing.clone()),
            Self::Compile(why) => Self::Compile(why.clone()),
            Self::Missing => Self::Missing,
            Self::Busy => Self::Busy,
            Self::Draining => Self::Draining,
            Self::Deadline => Self::Deadline,
            Self::Limit { reason, what, key, limit } => Self::Limit { reason, what, key, limit: *limit },
            Self::Trap(why) => Self::Trap(why.clone()),
            Self::Exit { code, last_words } => Self::Exit { code: *code, last_words: last_words.clone() },
            Self::Internal(why) => Self::Internal(anyhow::anyhow!("{why:#}")),
        }
    }
}
