//! What a native binary may try against the machine that runs it. Never deploy it for anything else.
//!
//! By the command contract, without the SDK: the method selects the sin, standard input says how much of it, and
//! standard output tells what came of it. Two kinds of sins:
//!
//! - **Attempts** (method `Try`) are single questions to the kernel, each harmless even where it is allowed, so that a
//!   person may run this on the desk. Their names are on standard input, a line each, or nothing for all; the answer is
//!   `name: ok` or `name: EPERM` for each. A sandbox may kill instead: then a test asks for one at a time. Method `List`
//!   tells all names.
//! - Everything else takes all it can get, or outlives its end.
//!
//! What is no attack, only unusual, is in the plugin `contract`.

mod attempt;
mod ending;
mod files;
mod greed;
mod kernel;
mod memory;
mod processes;
mod sockets;

use std::io::{Read, Write};
use std::process::ExitCode;

/// gRPC's UNIMPLEMENTED, as an exit code.
const UNIMPLEMENTED: u8 = 64 + 12;

fn main() -> ExitCode {
    let method = std::env::args().nth(3).unwrap_or_default();
    match sin(&method) {
        Some(text) => {
            say(&text);
            ExitCode::SUCCESS
        }
        None => ExitCode::from(UNIMPLEMENTED),
    }
}

/// Commits it, and tells what came of it.
fn sin(method: &str) -> Option<String> {
    Some(match method {
        "List" => attempt::all().iter().map(|attempt| format!("{}\n", attempt.name)).collect(),
        "Try" => attempt::report(&input()),
        "Descriptors" => files::descriptors(),
        "Connect" => sockets::connect(&input()),
        "ForkBomb" => processes::fork_bomb(),
        "ThreadBomb" => processes::thread_bomb(),
        "LeaveBehind" => processes::leave_behind(),
        "IgnoreSignals" => processes::ignore_signals(),
        "Allocate" => greed::allocate(amount()),
        "FillDisk" => greed::fill_disk(),
        "Raise" => ending::raise(amount()),
        "Crash" => ending::crash(),
        "CloseEverything" => ending::close_everything(amount()),
        _ => return None,
    })
}

/// All of standard input, as text.
fn input() -> String {
    let mut text = String::new();
    let _ = std::io::stdin().read_to_string(&mut text);
    text
}

/// The number on standard input, 0 if there is none.
fn amount() -> u64 {
    input().trim().parse().unwrap_or(0)
}

/// Writes and flushes; nobody is there to tell of a failure.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}
