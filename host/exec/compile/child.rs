//! The compiler's process.

use super::confine::confine;
use super::protocol::{Order, Tag, answer};
use crate::exec::{sandbox, wasm};
use rustix::process::{Signal, set_parent_process_death_signal};
use std::io::{self, Read as _};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// First argument of a process that is to be a compiler.
pub const ARGUMENT: &str = "__compile-component";

/// Compiles the component that comes on standard input, and answers on standard output.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: the compiler of components, which only a node starts, cannot go on: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // First: a node that is gone by now has closed the other end, and what follows reads its end.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    sandbox::close_from(3)?;
    rustix::thread::set_name(c"collector-compi")?; // 15 bytes is what the kernel keeps
    let (mut order, mut reply) = (io::stdin().lock(), io::stdout().lock());
    let recipe = Order::read(&mut order)?;
    // The engine first: it may look at the machine. Nothing of the component has been read yet.
    let engine = match wasm::compiling_engine(&recipe.config) {
        Ok(engine) if wasm::name_of(&engine) == recipe.engine => engine,
        Ok(_) => return answer(&mut reply, Tag::Unable, b"it is not of the same build as the node"),
        Err(why) => return answer(&mut reply, Tag::Unable, format!("{why:#}").as_bytes()),
    };
    if let Err(why) = confine(recipe.cpu_seconds, recipe.memory_bytes) {
        return answer(&mut reply, Tag::Unable, why.as_bytes());
    }
    let mut component = Vec::new();
    order.read_to_end(&mut component)?;
    match catch_unwind(AssertUnwindSafe(|| engine.precompile_component(&component))) {
        Ok(Ok(machine_code)) => answer(&mut reply, Tag::Code, &machine_code),
        Ok(Err(why)) => answer(&mut reply, Tag::Refused, format!("{why:#}").as_bytes()),
        Err(_panic) => answer(&mut reply, Tag::Refused, b"the compiler gave up on it"),
    }
}
