//! What a guest says while it runs: escaped, one physical line each, bounded per call.

use crate::domain::{Digest, Namespace, one_line};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Longest line of a guest in the log. Longer ones are cut: a stack frame fits.
const LINE_MAX: usize = 4096;
/// Least that a line costs from the budget, so that a flood of empty lines is bounded like one of full lines.
const LINE_COST: usize = 64;
/// Lines of a piece that are looked at once nothing more goes to the log. 8: last words, and what Rust says after them.
const LAST_LINES: usize = 8;
/// How much of a guest's last words its caller sees. They travel in a header.
const LAST_WORDS_MAX: usize = 512;

/// Allocators that get no more memory say so on stderr, each in its language's words, and end the process; nothing else
/// tells it apart from any other end. Rust, C++, Go, libc. As last words only: else it is somebody else's, or got over.
const OUT_OF_MEMORY: [&str; 4] = ["memory allocation of ", "std::bad_alloc", "out of memory", "Cannot allocate memory"];

/// What Go says before the stacks of all that ran, when it gives up for good.
const FATAL: &str = "fatal error: ";

/// How serious a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    /// Said right before the guest gives up: kept as its last words.
    Critical,
}

/// What Rust programs say after their last words, to people who can start them again.
const AFTERWORD: &str = "note: run with `RUST_BACKTRACE=";

/// The log of one call.
#[derive(Debug)]
pub(crate) struct GuestLog {
    namespace: Namespace,
    service: String,
    digest: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    budget: usize,
    dropped_bytes: u64,
    partial: [Vec<u8>; 2],
    last_stderr: Option<String>,
    critical: Option<String>,
    out_of_memory: bool,
    /// It said so as Go does: what follows is no other word.
    out_for_good: bool,
}

/// The two output streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Stdout = 0,
    Stderr = 1,
}

impl GuestLog {
    /// * `budget`: bytes that reach the log; the rest is counted and dropped.
    pub(crate) fn new(namespace: Namespace, service: String, digest: &Digest, budget: usize) -> Self {
        let digest = digest.to_string().chars().take(12).collect();
        let state = State { budget, ..State::default() };
        Self { namespace, service, digest, state: Mutex::new(state) }
    }

    /// Takes one line said through the log interface.
    pub(crate) fn line(&self, level: Level, target: &str, message: &str) {
        let mut state = self.lock();
        if level == Level::Critical {
            state.critical = Some(one_line(message, LAST_WORDS_MAX));
        }
        let line = one_line(message, LINE_MAX);
        if state.spend(target.len().min(LINE_MAX) + line.len(), message.len()) {
            self.emit(level, &one_line(target, 128), &line);
        }
    }

    /// Takes bytes written to an output stream; whole lines go out, the rest waits for its end.
    pub(crate) fn write(&self, stream: Stream, bytes: &[u8]) {
        let mut state = self.lock();
        let bytes = state.worth_a_look(stream, bytes);
        for piece in bytes.split_inclusive(|b| *b == b'\n') {
            state.collect(stream, piece);
            if piece.ends_with(b"\n") {
                self.flush(&mut state, stream);
            }
        }
    }

    /// Sends what is left and says how much was dropped since the last time. For when the call is over.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        self.flush(&mut state, Stream::Stdout);
        self.flush(&mut state, Stream::Stderr);
        if state.dropped_bytes > 0 {
            let dropped = state.dropped_bytes;
            state.dropped_bytes = 0;
            self.emit(Level::Warn, "collector", &format!("{dropped} bytes of log dropped: over limits.log_bytes"));
        }
    }

    /// What the guest said last before it gave up, made safe: its critical line, else the last line on stderr.
    pub(crate) fn last_words(&self) -> Option<String> {
        let state = self.lock();
        state.critical.clone().or_else(|| state.last_stderr.clone())
    }

    /// Whether the guest said that it gives up, and why.
    pub(crate) fn gave_up(&self) -> bool {
        self.lock().critical.is_some()
    }

    /// Whether the guest said on stderr, at its end, that it got no more memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.lock().out_of_memory
    }

    fn flush(&self, state: &mut State, stream: Stream) {
        let raw = std::mem::take(state.partial_of(stream));
        if raw.is_empty() {
            return;
        }
        let text = String::from_utf8_lossy(&raw);
        let line = one_line(text.trim_end_matches(['\r', '\n']), LINE_MAX);
        if matches!(stream, Stream::Stderr) && !line.trim().is_empty() && !line.starts_with(AFTERWORD) {
            state.last_stderr = Some(one_line(&line, LAST_WORDS_MAX));
            let out = OUT_OF_MEMORY.iter().any(|said| line.contains(said));
            state.out_for_good |= out && line.starts_with(FATAL);
            state.out_of_memory = out || state.out_for_good;
        }
        let (level, target) = match stream {
            Stream::Stdout => (Level::Info, "stdout"),
            Stream::Stderr => (Level::Warn, "stderr"),
        };
        if state.spend(line.len(), raw.len()) {
            self.emit(level, target, &line);
        }
    }

    fn emit(&self, level: Level, target: &str, line: &str) {
        let (namespace, service, digest) = (self.namespace.as_str(), &self.service, &self.digest);
        macro_rules! say {
            ($level:ident) => {
                tracing::event!(target: "guest", tracing::Level::$level, namespace, service, digest, from = target, "{line}")
            };
        }
        match level {
            Level::Trace => say!(TRACE),
            Level::Debug => say!(DEBUG),
            Level::Info => say!(INFO),
            Level::Warn => say!(WARN),
            Level::Error | Level::Critical => say!(ERROR),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a line's cost from the budget. What does not fit counts as dropped.
    fn spend(&mut self, shown: usize, said: usize) -> bool {
        let cost = shown.max(LINE_COST);
        if cost > self.budget {
            self.dropped_bytes = self.dropped_bytes.saturating_add(said as u64);
            return false;
        }
        self.budget -= cost;
        true
    }

    /// What of `bytes` is looked at: all of it while there is budget, then the last lines, which may be its last words. A flood
    /// of short lines must not cost the threads that read it more than reading.
    fn worth_a_look<'a>(&mut self, stream: Stream, bytes: &'a [u8]) -> &'a [u8] {
        if self.budget >= LINE_COST {
            return bytes;
        }
        let from = memchr::memrchr_iter(b'\n', bytes).nth(LAST_LINES).map_or(0, |at| at + 1);
        if from > 0 {
            let before = std::mem::take(self.partial_of(stream)).len();
            self.dropped_bytes = self.dropped_bytes.saturating_add((before + from) as u64);
        }
        bytes.get(from..).unwrap_or_default()
    }

    /// Keeps a piece of a line, at most one line's worth: a guest that never ends its line costs no memory.
    fn collect(&mut self, stream: Stream, piece: &[u8]) {
        let partial = self.partial_of(stream);
        let room = LINE_MAX.saturating_sub(partial.len());
        let kept = piece.get(..room).unwrap_or(piece);
        partial.extend_from_slice(kept);
        self.dropped_bytes = self.dropped_bytes.saturating_add((piece.len() - kept.len()) as u64);
    }

    fn partial_of(&mut self, stream: Stream) -> &mut Vec<u8> {
        let [stdout, stderr] = &mut self.partial;
        match stream {
            Stream::Stdout => stdout,
            Stream::Stderr => stderr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(budget: usize) -> GuestLog {
        GuestLog::new("acme".parse().unwrap(), "a.B".into(), &Digest::of(b""), budget)
    }

    #[test]
    fn h01_beyond_the_budget_all_is_counted_and_the_last_words_are_heard() {
        for lines in [LAST_LINES - 1, LAST_LINES, LAST_LINES + 1, 10_000] {
            let log = log(0);
            let said = [b"a\n".repeat(lines), b"memory allocation of 8 bytes failed\n".to_vec()].concat();
            log.write(Stream::Stderr, b"begun ");
            log.write(Stream::Stderr, &said);
            assert_eq!(log.last_words().as_deref(), Some("memory allocation of 8 bytes failed"), "{lines}");
            assert!(log.out_of_memory());
            assert_eq!(log.lock().dropped_bytes, (6 + said.len()) as u64, "{lines}");
        }
    }

    #[test]
    fn h01_a_flood_is_dropped_and_counted() {
        let log = log(64 << 10);
        for _ in 0..2_000 {
            log.line(Level::Info, "t", "");
        }
        let state = log.lock();
        assert_eq!(state.budget, 0, "1,024 lines of at least 64 bytes fit");
        drop(state);
        log.write(Stream::Stdout, &vec![b'x'; 1 << 20]);
        assert_eq!(log.lock().dropped_bytes, (1 << 20) - LINE_MAX as u64);
    }

    #[test]
    fn last_words_are_the_critical_line_else_the_last_of_stderr() {
        let log = log(1 << 16);
        assert_eq!(log.last_words(), None);
        log.write(Stream::Stderr, b"first\nsec");
        log.write(Stream::Stderr, b"ond\x1b\n\n");
        assert_eq!(log.last_words().as_deref(), Some("second\\u{1b}"));
        log.write(Stream::Stderr, b"note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace\n");
        assert_eq!(log.last_words().as_deref(), Some("second\\u{1b}"), "what nobody here can follow is no last word");
        log.line(Level::Critical, "panic", "panicked at\nhome");
        assert_eq!(log.last_words().as_deref(), Some("panicked at\\nhome"));
    }

    #[test]
    fn out_of_memory_is_heard_as_the_last_word() {
        let log = log(0);
        log.write(Stream::Stderr, b"memory is fine\n");
        assert!(!log.out_of_memory());
        log.write(Stream::Stderr, b"memory allocation of 8 bytes failed\nnote: run with `RUST_BACKTRACE=1` to see\n");
        assert!(log.out_of_memory());
        log.write(Stream::Stderr, b"peer: out of memory\nall is well again\n");
        assert!(!log.out_of_memory());
        log.write(Stream::Stderr, b"fatal error: runtime: out of memory\n\ngoroutine 1 [running]:\n");
        assert!(log.out_of_memory(), "what follows is Go's own");
    }

    #[test]
    fn last_words_survive_a_spent_budget() {
        let log = log(0);
        log.line(Level::Critical, "panic", "why");
        assert_eq!(log.last_words().as_deref(), Some("why"));
    }
}
