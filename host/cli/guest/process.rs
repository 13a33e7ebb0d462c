//! Running other programs: watched while they run, with the end of what they said on stderr kept for the error.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Lines of a failed program's stderr that its error carries.
pub(super) const TAIL_LINES: usize = 30;
/// Bytes of stderr kept while it runs; far more than `TAIL_LINES` need.
const TAIL_BYTES: usize = 32 * 1024;

/// A program that ended by itself.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: ExitStatus,
    /// The last `TAIL_LINES` lines of its stderr.
    pub(super) tail: String,
}

/// Runs `command` to its end, asking `go_on` every `tick` whether to keep waiting. Its stdout is dropped.
/// * returns: `None` if `go_on` said no; the program was killed.
/// * errors: it could not be started or waited for.
pub(super) fn watch(
    command: &mut Command,
    tick: Duration,
    mut go_on: impl FnMut() -> bool,
) -> io::Result<Option<Ended>> {
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let (sender, receiver) = mpsc::channel();
    if let Some(pipe) = child.stderr.take() {
        // Detached: should a grandchild keep the pipe open after a kill, nobody waits for it.
        std::thread::spawn(move || sender.send(drain(pipe, io::sink())));
    }
    let tail = loop {
        match receiver.recv_timeout(tick) {
            Ok(tail) => break tail,
            Err(RecvTimeoutError::Disconnected) => break String::new(),
            Err(RecvTimeoutError::Timeout) if go_on() => {}
            Err(RecvTimeoutError::Timeout) => return stop(child).map(|()| None),
        }
    };
    let status = child.wait()?;
    Ok(Some(Ended { status, tail }))
}

fn stop(mut child: Child) -> io::Result<()> {
    child.kill()?;
    child.wait().map(drop)
}

/// Reads `pipe` to its end, copying it to `copy` as it comes.
/// * returns: its last `TAIL_LINES` lines, without terminal colours.
pub(super) fn drain(mut pipe: impl Read, mut copy: impl Write) -> String {
    let mut kept = VecDeque::new();
    let mut buffer = [0; 4096];
    // A read error ends the pipe as its end does; the exit status tells whether that mattered.
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        let chunk = buffer.get(..count).unwrap_or_default();
        // The copy is for the eye only.
        let _ = copy.write_all(chunk).and_then(|()| copy.flush());
        kept.extend(chunk);
        let excess = kept.len().saturating_sub(TAIL_BYTES);
        kept.drain(..excess);
    }
    last_lines(&String::from_utf8_lossy(kept.make_contiguous()))
}

/// The last `TAIL_LINES` lines of `text`, without terminal colours.
pub(super) fn last_lines(text: &str) -> String {
    let plain = without_colours(text);
    let lines: Vec<&str> = plain.lines().map(str::trim_end).collect();
    let skipped = lines.len().saturating_sub(TAIL_LINES);
    lines.get(skipped..).unwrap_or_default().join("\n").trim().to_owned()
}

/// Drops `ESC [ … letter` sequences, and of a line redrawn with `\r` all but its last form.
fn without_colours(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        if next == '\u{1b}' {
            chars.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            plain.push(next);
        }
    }
    let redrawn = |line: &str| line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default().to_owned();
    plain.lines().map(redrawn).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdin(Stdio::null());
        command
    }

    #[test]
    fn a_failure_carries_the_end_of_stderr() {
        let script = "for i in $(seq 100); do echo line $i >&2; done; exit 3";
        let ended = watch(&mut shell(script), Duration::from_secs(5), || true).unwrap().unwrap();
        assert_eq!(ended.status.code(), Some(3));
        assert_eq!(ended.tail.lines().count(), TAIL_LINES);
        assert!(ended.tail.ends_with("line 100"));
    }

    #[test]
    fn a_program_that_hangs_is_killed() {
        let mut ticks = 0;
        let ended = watch(&mut shell("exec sleep 600"), Duration::from_millis(10), || {
            ticks += 1;
            ticks < 3
        });
        assert!(ended.unwrap().is_none());
    }

    #[test]
    fn what_is_kept_is_plain_text_and_what_is_copied_is_not() {
        let said = "\u{1b}[1m\u{1b}[32m Compiling\u{1b}[0m a\nBuilding 1\rBuilding 2\nerror: no\n";
        let mut copy = Vec::new();
        assert_eq!(drain(said.as_bytes(), &mut copy), "Compiling a\nBuilding 2\nerror: no");
        assert_eq!(copy, said.as_bytes());
    }
}
