//! The compiler: few at a time, on threads that give way to calls.

use super::lanes::lower_priority;
use crate::domain::one_line;
use crate::exec::ExecError;
use crate::exec::load::blocking;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use tokio::sync::Semaphore;
use wasmtime::Engine;

/// How much of a compiler's complaint travels to the caller.
const COMPLAINT_MAX: usize = 512;

pub(super) struct Compiler {
    engine: Engine,
    threads: Arc<rayon::ThreadPool>,
    turns: Semaphore,
}

impl Compiler {
    /// * `at_once`: components that compile at the same time.
    pub(super) fn start(engine: Engine, at_once: usize) -> Result<Self, anyhow::Error> {
        let threads = rayon::ThreadPoolBuilder::new()
            .thread_name(|n| format!("compile-{n}"))
            .start_handler(|_| lower_priority())
            .build()?;
        Ok(Self { engine, threads: Arc::new(threads), turns: Semaphore::new(at_once) })
    }

    /// Machine code for a component.
    ///
    /// * errors: `Compile` with the compiler's words, cut; a compiler that panics costs only this component.
    pub(super) async fn compile(&self, component: Vec<u8>) -> Result<Vec<u8>, ExecError> {
        let _turn = self.turns.acquire().await.map_err(ExecError::internal)?;
        let (engine, threads) = (self.engine.clone(), Arc::clone(&self.threads));
        let compiled = blocking(move || {
            let work = || threads.install(|| engine.precompile_component(&component));
            // The compiler is given hostile input; it is not ours to trust that it never panics.
            catch_unwind(AssertUnwindSafe(work))
        });
        match compiled.await? {
            Ok(Ok(machine_code)) => Ok(machine_code),
            Ok(Err(why)) => Err(ExecError::Compile(one_line(&format!("{why:#}"), COMPLAINT_MAX))),
            Err(_panic) => Err(ExecError::Compile("the compiler gave up on it".to_owned())),
        }
    }
}
