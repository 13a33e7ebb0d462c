//! The command contract: how any program, whatever runs it, is asked and answers.
//!
//! argv = namespace, service, method; stdin = the request's bytes; stdout = the reply's bytes; stderr = log lines; exit
//! code 0, or 64 + n for gRPC code n with stderr's last line as the message. Source: design.md section 2.

use super::log::GuestLog;
use super::{ExecError, Job};
use crate::domain::{Fault, FaultCode, Limits};
use bytes::Bytes;

/// What a guest answered.
pub(super) type Reply = Result<Bytes, Fault>;

/// A command's code for gRPC code n is 64 + n. Source: design.md section 2.
const EXIT_BASE: i32 = 64;

/// Source: signal(7). Linux sends it at RLIMIT_CPU, which stands for the deadline: see [`answer`].
const SIGXCPU: i32 = 24;

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With an exit code.
    Exit(i32),
    /// By a signal.
    Signal(i32),
}

/// The arguments after the program's own name.
pub(super) fn argv(job: &Job) -> [String; 3] {
    [job.namespace.as_str().to_owned(), job.service.clone(), job.method.clone()]
}

/// The whole environment; nothing of the node's own.
pub(super) fn environment(job: &Job) -> Vec<(&'static str, String)> {
    let mut all = vec![
        ("COLLECTOR_NAMESPACE", job.namespace.as_str().to_owned()),
        ("COLLECTOR_SERVICE", job.service.clone()),
        ("COLLECTOR_METHOD", job.method.clone()),
        ("COLLECTOR_DEADLINE_MS", job.deadline.remaining().as_millis().to_string()),
    ];
    all.extend(job.json.clone().map(|json| ("GRPC_INPUT_DATA", json)));
    all
}

/// What the end of a command means.
///
/// * `stdout`: all that it wrote there, within `limits.output_bytes`.
/// * `log`: all of stderr went there; finished here.
pub(super) fn answer(end: End, stdout: Bytes, log: &GuestLog, limits: &Limits) -> Result<Reply, ExecError> {
    log.finish(); // completes the last line on stderr
    let last_words = log.last_words();
    let fault = |code: i32| FaultCode::from_number(code.saturating_sub(EXIT_BASE));
    match end {
        End::Exit(0) => Ok(Ok(stdout)),
        End::Exit(code) if let Some(code) = fault(code) => {
            Ok(Err(Fault { code, message: last_words.unwrap_or_default(), details: Vec::new() }))
        }
        // All the time on all the cores that it could have until its deadline is used up.
        End::Signal(SIGXCPU) => Err(ExecError::Deadline),
        _ if log.out_of_memory() => Err(memory(limits)),
        End::Exit(code) => Err(ExecError::Exit { code, last_words }),
        End::Signal(signal) => Err(ExecError::Signal { signal: name_of(signal), last_words }),
    }
}

/// The call used up its memory.
pub(super) fn memory(limits: &Limits) -> ExecError {
    let what = "the plugin needs more memory";
    ExecError::Limit { reason: "MEMORY_LIMIT", what, key: "memory_mib", limit: limits.memory_mib }
}

/// The reply is over its limit.
pub(super) fn output_too_large(limits: &Limits) -> ExecError {
    let what = "the plugin's reply is too large";
    ExecError::Limit { reason: "OUTPUT_LIMIT", what, key: "output_bytes", limit: limits.output_bytes as u64 }
}

/// Source: signal(7), the numbers that all architectures of Linux that we run on share.
fn name_of(signal: i32) -> String {
    let known = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        15 => "SIGTERM",
        25 => "SIGXFSZ",
        31 => "SIGSYS (a system call that the jail forbids)",
        other => return format!("signal {other}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Digest;
    use crate::exec::log::Stream;

    fn end(end: End, said: &str) -> ExecError {
        let log = GuestLog::new("acme".parse().unwrap(), "a.B".into(), &Digest::of(b""), 0);
        log.write(Stream::Stderr, said.as_bytes());
        answer(end, Bytes::new(), &log, &Limits::default()).unwrap_err()
    }

    #[test]
    fn used_up_cpu_time_is_the_deadline() {
        assert!(matches!(end(End::Signal(24), "busy"), ExecError::Deadline));
        assert!(matches!(end(End::Signal(11), "busy"), ExecError::Signal { .. }));
    }

    #[test]
    fn no_memory_is_told_when_it_is_the_last_that_was_said() {
        let why = end(End::Signal(6), "memory allocation of 8 bytes failed");
        assert!(matches!(why, ExecError::Limit { reason: "MEMORY_LIMIT", .. }), "{why:?}");
        let why = end(End::Exit(1), "peer: out of memory\nconfiguration is broken\n");
        assert!(matches!(&why, ExecError::Exit { code: 1, last_words: Some(words) } if words.contains("broken")));
    }
}
