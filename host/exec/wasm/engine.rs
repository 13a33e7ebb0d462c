//! The one engine and its knobs. Each departs from wasmtime's default for a reason in threats.md B7 or perf.md.

use super::{Config, DEPTH_MAX};
use crate::domain::Limits;
use wasmtime::{Enabled, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Strategy};

/// Native stack that guest code may use. 512 KiB of the 2 MiB fibre: the rest is for host functions below it.
const WASM_STACK: usize = 512 << 10;
/// Stack of a guest's fibre.
const FIBRE_STACK: usize = 2 << 20;
/// Frames in a trap's backtrace. 20: enough to find the line, too few to flood a log.
const BACKTRACE_FRAMES: usize = 20;
/// Memory of a slot that is wiped in place instead of given back to the kernel: 3x cheaper instances (perf.md).
const KEEP_MEMORY: usize = 2 << 20;
/// The same for tables.
const KEEP_TABLE: usize = 64 << 10;
/// The same for fibre stacks.
const KEEP_STACK: usize = 64 << 10;
/// Core instances of one component: the module, and the shims that its linker and adapter add.
pub(super) const CORE_INSTANCES: u32 = 8;
/// Tables of one component: one each for the module and the shims around it.
pub(super) const TABLES: u32 = 4;

/// Builds the engine that everything else is made from.
pub(super) fn build(config: &Config) -> Result<Engine, anyhow::Error> {
    let mut wasm = knobs(config);
    wasm.allocation_strategy(InstanceAllocationStrategy::Pooling(pool(config)?));
    Ok(Engine::new(&wasm)?)
}

/// An engine that compiles for the other one and runs nothing: without its pool, whose terabytes of addresses a bounded
/// process could not have, and on one thread.
pub(in crate::exec) fn compiling_engine(config: &Config) -> Result<Engine, anyhow::Error> {
    let mut wasm = knobs(config);
    wasm.parallel_compilation(false);
    Ok(Engine::new(&wasm)?)
}

fn knobs(config: &Config) -> wasmtime::Config {
    let mut wasm = wasmtime::Config::new();
    wasm.strategy(Strategy::Cranelift)
        .epoch_interruption(true)
        .consume_fuel(config.metering)
        .concurrency_support(false)
        .max_wasm_stack(WASM_STACK)
        .async_stack_size(FIBRE_STACK)
        .async_stack_zeroing(true)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(BACKTRACE_FRAMES))
        .shared_memory(false);
    switch_off_proposals(&mut wasm);
    wasm
}

/// What no guest of ours needs and advisories came through. `dispatch::artifacts` refuses the same at upload.
fn switch_off_proposals(wasm: &mut wasmtime::Config) {
    wasm.wasm_threads(false)
        .wasm_shared_everything_threads(false)
        .wasm_multi_memory(false)
        .wasm_memory64(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_function_references(false)
        .wasm_gc(false)
        .wasm_exceptions(false)
        .wasm_stack_switching(false)
        .wasm_wide_arithmetic(false)
        .wasm_relaxed_simd(false);
}

fn pool(config: &Config) -> Result<PoolingAllocationConfig, anyhow::Error> {
    let slots = u32::try_from(config.slots + config.nested * DEPTH_MAX)?;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(slots)
        // Every slot can hold the largest component that is let in, so no tenant's shape takes another's slot.
        .total_core_instances(slots.saturating_mul(CORE_INSTANCES))
        .total_memories(slots)
        .total_tables(slots.saturating_mul(TABLES))
        .total_stacks(slots)
        .total_gc_heaps(0)
        .max_core_instances_per_component(CORE_INSTANCES)
        .max_memories_per_component(1)
        .max_tables_per_component(TABLES)
        .max_memory_size(usize::try_from(Limits::SLOT_MEMORY_MIB << 20)?)
        .table_elements(Limits::SLOT_TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_MEMORY)
        .table_keep_resident(KEEP_TABLE)
        .async_stack_keep_resident(KEEP_STACK)
        .max_unused_warm_slots(slots.min(64))
        .pagemap_scan(Enabled::Auto);
    Ok(pool)
}
