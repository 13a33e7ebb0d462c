//! The `collector` program: a runtime and the command line.

use std::process::ExitCode;

/// Tasks that a worker runs before it looks at the network again. 11 instead of tokio's 61: a task may be a guest that
/// keeps the thread for a whole tick of 5 ms, and 11 of them are what a waiting connection should bear at most.
const EVENT_INTERVAL: u32 = 11;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().event_interval(EVENT_INTERVAL).enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(collector::cli::main()),
        Err(why) => {
            eprintln!("error: cannot start: {why}");
            ExitCode::FAILURE
        }
    }
}
