//! Wasm and memexec in this process.

use super::guest::{Guest, NAMESPACE};
use super::{Size, memory};
use crate::Failure;
use crate::report::{Rounds, Row, Unit, micros};
use collector::domain::Limits;
use collector::exec::memexec::MemExecutor;
use collector::exec::wasm::{self, WasmExecutor};
use collector::exec::{Config, Executor, Native};
use collector::lifecycle::Lifecycle;
use std::hint::black_box;
use std::path::Path;
use tokio::time::Instant;

const SPAWN: &str = "posix_spawn with pipes";
const SPAWN_HELD: &str = "posix_spawn, memory held";
const MEMEXEC: &str = "memexec";
const MEMEXEC_HELD: &str = "memexec, memory held";
const WASM: &str = "wasm";
const HANDLER: &str = "wasm, a handler (greeter)";
const WHOLE: &str = "wasm, a handler, what it leaves dropped too";
const SPAWN_LEAST: &str = "posix_spawn, least program";
const MEMEXEC_LEAST: &str = "memexec, least program";

/// The executors of a node.
pub(crate) struct Local {
    pub(crate) wasm: WasmExecutor,
    pub(crate) memexec: MemExecutor,
}

impl Local {
    /// * errors: one of them cannot work on this machine.
    pub(crate) async fn start(data: &Path, lifecycle: &Lifecycle) -> Result<Self, Failure> {
        let mut config = Config { native: vec![Native::Memexec], ..Config::default() };
        config.memexec.launcher = env!("CARGO_BIN_EXE_collector").into();
        let sizes = wasm::Config { compiler: env!("CARGO_BIN_EXE_collector").into(), ..Default::default() };
        let wasm = WasmExecutor::new(sizes, &data.join("compiled"), &[7; 32], lifecycle.clone())?;
        let memexec =
            MemExecutor::start(config.memexec, true, "bench", Limits::default().memory_mib, lifecycle.clone()).await;
        memexec.availability()?;
        Ok(Self { wasm, memexec })
    }
}

/// Warm calls, half of them while this process holds memory.
pub(crate) async fn warm(local: &Local, guest: &Guest, size: Size) -> Result<Vec<Row>, Failure> {
    let mut rounds = Rounds::default();
    guest.calls(&local.memexec, &guest.native, size.calls).await?;
    guest.calls(&local.wasm, &guest.component, size.calls).await?;
    guest.calls(&local.wasm, &guest.handler, size.calls).await?;
    guest.call(&local.memexec, &guest.least, NAMESPACE).await?;
    for _ in 0..size.rounds {
        // Interleaved, so that whatever else the machine does meets all of them.
        rounds.calls(SPAWN, &guest.spawns(&guest.native, size.calls)?);
        rounds.calls(MEMEXEC, &guest.calls(&local.memexec, &guest.native, size.calls).await?);
        rounds.calls(WASM, &guest.calls(&local.wasm, &guest.component, size.calls).await?);
        let began = Instant::now();
        rounds.calls(HANDLER, &guest.calls(&local.wasm, &guest.handler, size.calls).await?);
        rounds.value(WHOLE, Unit::Time, micros(began.elapsed() / u32::try_from(size.calls)?), size.calls);
        rounds.calls(SPAWN_LEAST, &guest.spawns(&guest.least, size.calls)?);
        rounds.calls(MEMEXEC_LEAST, &guest.calls(&local.memexec, &guest.least, size.calls).await?);
        let held = black_box(vec![1_u8; size.held_mib << 20]);
        rounds.calls(SPAWN_HELD, &guest.spawns(&guest.native, size.calls)?);
        rounds.calls(MEMEXEC_HELD, &guest.calls(&local.memexec, &guest.native, size.calls).await?);
        drop(black_box(held));
    }
    let mut rows: Vec<Row> =
        [SPAWN, MEMEXEC, WASM, HANDLER, WHOLE, SPAWN_HELD, MEMEXEC_HELD].map(|what| rounds.row(what, SPAWN)).into();
    rows.extend([SPAWN_LEAST, MEMEXEC_LEAST].map(|what| rounds.row(what, SPAWN_LEAST)));
    rows.push(Row::at_most("memexec / posix_spawn", rounds.ratio(MEMEXEC, SPAWN), 2.0));
    rows.push(Row::at_most("memexec / posix_spawn, least program", rounds.ratio(MEMEXEC_LEAST, SPAWN_LEAST), 2.0));
    let held = format!("memexec / posix_spawn, {} MiB held by the node", size.held_mib);
    rows.push(Row::at_most(&held, rounds.ratio(MEMEXEC_HELD, SPAWN_HELD), 2.0));
    // 1.15: what two measurements of the same thing differ by on a shared machine.
    let held = format!("memexec with {} MiB held by the node / without", size.held_mib);
    rows.push(Row::at_most(&held, rounds.ratio(MEMEXEC_HELD, MEMEXEC), 1.15));
    for what in [HANDLER, WHOLE, WASM] {
        let name = format!("{what}: us per call in process, an instance each");
        rows.push(Row::at_most(&name, rounds.median(what), 15.0));
    }
    Ok(rows)
}

/// First calls.
pub(crate) async fn cold(local: &Local, guest: &Guest, size: Size) -> Result<Vec<Row>, Failure> {
    const NEW: &str = "memexec, new binary";
    const NEW_JAIL: &str = "memexec, new binary and namespace";
    const COMPILED: &str = "wasm, new component";
    let mut rounds = Rounds::default();
    for round in 0..size.rounds {
        let mut took = [const { Vec::new() }; 3];
        for number in (0..size.slow).map(|number| round * size.slow + number) {
            let native = |half| guest.fresh(&guest.native, 2 * number + half);
            took[0].push(guest.call(&local.memexec, &native(0)?, NAMESPACE).await?.0);
            took[1].push(guest.call(&local.memexec, &native(1)?, &format!("cold{number}")).await?.0);
            let component = guest.fresh(&guest.component, number)?;
            took[2].push(guest.call(&local.wasm, &component, NAMESPACE).await?.0);
        }
        [NEW, NEW_JAIL, COMPILED].iter().zip(&took).for_each(|(what, took)| rounds.calls(what, took));
    }
    Ok([NEW, NEW_JAIL, COMPILED].map(|what| rounds.row(what, NEW)).into())
}

/// Memory of what is kept ready between calls, and of a call.
pub(crate) async fn kept(local: &Local, guest: &Guest, data: &Path) -> Result<Vec<Row>, Failure> {
    let before = memory::launcher()?;
    // Namespaces that have no jail yet.
    const MORE: u64 = 8;
    for number in 0..MORE {
        guest.call(&local.memexec, &guest.native, &format!("more{number}")).await?;
    }
    let jail = memory::launcher()?.saturating_sub(before) / MORE;
    let of = async |executor: &dyn Executor, program| guest.call(executor, program, NAMESPACE).await;
    let native = of(&local.memexec, &guest.native).await?.1.peak_memory.unwrap_or_default() >> 10;
    let component = of(&local.wasm, &guest.component).await?.1.peak_memory.unwrap_or_default() >> 10;
    Ok(vec![
        Row::memory("memexec: launcher with all jails of this run", memory::launcher()?),
        Row::memory("memexec: one namespace's jail (share of what is resident)", jail),
        Row::memory("memexec: a running call, resident at most", native),
        Row::memory("wasm: compiled code of this run that is resident", memory::mapped(&data.join("compiled"))?),
        Row::memory("wasm: a running call, linear memory at most", component),
    ])
}
