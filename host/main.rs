//! The `collector` program: a runtime and the command line.

use collector::exec::memexec::launcher;
use collector::exec::{self, compile};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;
use std::time::Duration;

/// Tasks that a worker runs before it looks at the network again. 11 instead of tokio's 61: a task may be a guest that
/// keeps the thread for a whole tick of 5 ms, and 11 of them are what a waiting connection should bear at most.
const EVENT_INTERVAL: u32 = 11;

fn main() -> ExitCode {
    // Before any thread exists: the launcher of jails clones processes, and both give up what a thread could keep.
    match std::env::args_os().nth(1) {
        Some(first) if first == launcher::ARGUMENT => return launcher::main(),
        Some(first) if first == compile::ARGUMENT => return compile::main(),
        _ => {}
    }
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.event_interval(EVENT_INTERVAL).enable_all();
    if std::env::args_os().nth(1).is_some_and(|first| first == "serve") {
        // A node's answers go before what its guests work out. Other commands start programs of the user's. The first
        // threads are the workers; those for blocking work come after them, and stay as they are.
        let (workers, started) = (available_parallelism().map_or(1, usize::from), AtomicUsize::new(0));
        runtime.worker_threads(workers).on_thread_start(move || {
            if started.fetch_add(1, Ordering::Relaxed) < workers {
                exec::raise();
            }
        });
    }
    match runtime.build() {
        Ok(runtime) => {
            let code = runtime.block_on(collector::cli::main());
            // A compiler that is still at work must not keep the process.
            runtime.shutdown_timeout(Duration::from_secs(1));
            code
        }
        Err(why) => {
            eprintln!("error: cannot start: {why}");
            ExitCode::FAILURE
        }
    }
}
