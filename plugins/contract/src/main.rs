//! The command contract, one method per clause, without the SDK: what a node promises to any program, whatever runs it.
//!
//! Arguments are namespace, service and method; standard input is text, mostly one number.

use std::io::{Read, Write};
use std::process::{ExitCode, abort};
use std::time::Duration;

/// gRPC's UNIMPLEMENTED, as an exit code.
const UNIMPLEMENTED: i32 = 64 + 12;
const MIB: usize = 1 << 20;

fn main() -> ExitCode {
    match std::env::args().nth(3).unwrap_or_default().as_str() {
        // Answers with the request.
        "Echo" => say(&input()),
        // Answers with arguments and environment, a line each.
        "Given" => say(given().as_bytes()),
        // Answers with its request as JSON, in a message whose first field is text.
        "Json" => say(&message(&std::env::var("GRPC_INPUT_DATA").unwrap_or_default())),
        // Ends with the code, after saying the rest of the line.
        "Exit" => end(&text()),
        // Does not read its request.
        "IgnoreInput" => say(b"did not read"),
        // Answers with this many bytes.
        "Reply" => flood(std::io::stdout(), amount()),
        // Logs this many bytes of lines.
        "Log" => flood(std::io::stderr(), amount()),
        // Says half of what it has to say, and crashes.
        "HalfAnAnswer" => {
            say(b"the first half, ");
            abort()
        }
        // Allocates this many MiB, touches every page, and answers with their number.
        "Allocate" => say(allocate(amount()).to_string().as_bytes()),
        "Spin" => loop {
            std::hint::black_box(0);
        },
        // Sleeps this many milliseconds.
        "Sleep" => std::thread::sleep(Duration::from_millis(amount())),
        _ => exit(UNIMPLEMENTED),
    }
    ExitCode::SUCCESS
}

/// All of standard input.
fn input() -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut bytes);
    bytes
}

fn text() -> String {
    String::from_utf8_lossy(&input()).into_owned()
}

/// The number on standard input, 0 if there is none.
fn amount() -> u64 {
    text().trim().parse().unwrap_or(0)
}

fn say(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

fn given() -> String {
    let arguments = std::env::args().map(|argument| format!("{argument}\n"));
    let variables = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
    arguments.chain(variables).collect()
}

/// Source: protobuf.dev, encoding: a length-delimited field 1.
#[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn message(text: &str) -> Vec<u8> {
    let mut bytes = vec![0x0a];
    let mut left = text.len();
    while left > 0x7f {
        bytes.push((left & 0x7f) as u8 | 0x80);
        left >>= 7;
    }
    bytes.push(left as u8);
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// * `how`: a code, and words after a space.
fn end(how: &str) -> ! {
    let (code, words) = how.split_once(' ').unwrap_or((how, ""));
    let _ = writeln!(std::io::stderr(), "{words}");
    exit(code.parse().unwrap_or_default())
}

#[cfg(not(target_family = "wasm"))]
use std::process::exit;

#[cfg(target_family = "wasm")]
use wasm::exit;

#[cfg(target_family = "wasm")]
#[allow(unsafe_code, reason = "crossing into the node is unsafe by nature")]
mod wasm {
    wit_bindgen::generate!({
        inline: "package wasi:cli@0.2.12;
            interface exit { exit: func(status: result); exit-with-code: func(status-code: u8); }
            world command { import exit; }"
    });

    /// Rust's own `exit` knows but two codes here: 0, and 1 for all others.
    pub(super) fn exit(code: i32) -> ! {
        wasi::cli::exit::exit_with_code(u8::try_from(code).unwrap_or(u8::MAX));
        std::process::abort() // not reached: that call does not return
    }
}

/// Writes this many bytes, in lines.
fn flood(mut out: impl Write, bytes: u64) {
    let line = b"all work and no play makes a plugin a dull thing to have around\n";
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let piece = line.get(..left.min(line.len())).unwrap_or(line);
        if out.write_all(piece).is_err() {
            break; // nobody wants more of it
        }
        left -= piece.len();
    }
    let _ = out.flush();
}

/// Returns the MiB; ends where memory does.
fn allocate(mib: u64) -> usize {
    let touched = |_| std::hint::black_box(vec![1_u8; MIB]);
    (0..mib).map(touched).collect::<Vec<_>>().len()
}
