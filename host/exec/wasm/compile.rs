//! The compiler: few at a time, the namespaces in turns, in a process of its own unless the operator says otherwise.

use super::Config;
use super::store_file::name_of;
use crate::domain::{Namespace, one_line};
use crate::exec::ExecError;
use crate::exec::compile::{self, Compiled, Recipe, Turn, Turns};
use crate::exec::load::blocking;
use crate::exec::priority;
use crate::lifecycle::Lifecycle;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::time::Instant;
use wasmtime::Engine;

/// How much of a compiler's complaint travels to the caller.
const COMPLAINT_MAX: usize = 512;

pub(super) struct Compiler {
    turns: Turns,
    way: Way,
}

enum Way {
    Child(compile::Compiler),
    /// In this process (`wasm.compile_in_child = false`), on threads that give way to calls.
    Here(Engine, Arc<rayon::ThreadPool>),
}

impl Compiler {
    pub(super) fn start(engine: Engine, config: &Config, lifecycle: Lifecycle) -> Result<Self, anyhow::Error> {
        let at_once = NonZeroUsize::new(config.compilers).unwrap_or(NonZeroUsize::MIN);
        let turns = Turns::new(at_once, config.compile_queue, config.compile_queue_own);
        let way = match config.compile_in_child {
            true => Way::Child(compile::Compiler::new(Recipe::new(config, name_of(&engine)), lifecycle)),
            false => {
                let threads = rayon::ThreadPoolBuilder::new()
                    .thread_name(|n| format!("compile-{n}"))
                    .start_handler(|_| priority::lower())
                    .build()?;
                Way::Here(engine, Arc::new(threads))
            }
        };
        Ok(Self { turns, way })
    }

    /// Whether it works on this machine.
    ///
    /// * errors: why not, for operators.
    pub(super) async fn probe(&self) -> Result<(), anyhow::Error> {
        match &self.way {
            Way::Child(child) => child.probe().await.map_err(anyhow::Error::msg),
            Way::Here(..) => Ok(()),
        }
    }

    /// Waits for the namespace's turn. Whoever waits holds no component in memory.
    ///
    /// * errors: `Busy` if too many wait.
    pub(super) async fn turn(&self, namespace: &Namespace) -> Result<Turn, ExecError> {
        self.turns.take(namespace).await
    }

    /// Machine code for a component.
    ///
    /// * errors: `Compile` with the compiler's words, cut; those of a compiler in a process of its own.
    pub(super) async fn compile(&self, turn: Turn, component: Vec<u8>) -> Result<Compiled, ExecError> {
        let (engine, threads) = match &self.way {
            Way::Child(child) => {
                let compiled = child.compile(&component).await;
                drop(turn); // now that the process is gone
                return compiled;
            }
            Way::Here(engine, threads) => (engine.clone(), Arc::clone(threads)),
        };
        let began = Instant::now();
        let compiled = blocking(move || {
            let _turn = turn; // held by the work, not by who waits for it
            let work = || threads.install(|| engine.precompile_component(&component));
            // The compiler is given hostile input; it is not ours to trust that it never panics.
            catch_unwind(AssertUnwindSafe(work))
        });
        match compiled.await? {
            Ok(Ok(code)) => Ok(Compiled { code, took: began.elapsed() }),
            Ok(Err(why)) => Err(ExecError::Compile(one_line(&format!("{why:#}"), COMPLAINT_MAX))),
            Err(_panic) => Err(ExecError::Compile("the compiler gave up on it".to_owned())),
        }
    }
}
