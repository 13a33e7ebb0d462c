//! What the node and its jails say to each other: one JSON value per packet of a SOCK_SEQPACKET socket, files beside it.
//!
//! ```text
//! node -> launcher   Settings once, then Spawn + [jail's end of a new socket] for every jail, Kill
//! launcher -> node   Ready or Failed, once
//! node -> jail       Run + [program, stdin, stdout, stderr], Kill
//! jail -> node       Ready or Failed, once; Ended for every Run, also for one that was killed
//! ```
//!
//! Either end closing its socket ends the other: a jail without its node kills what runs in it and exits. The launcher
//! keeps the jail's end, too, until it has waited for the jail: when the node finds the socket closed, no process is left.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Largest packet. 192 KiB: arguments (three names), and an environment with the request as JSON of at most 64 KiB,
/// escaped. The node's sockets are given buffers for it.
pub(super) const PACKET_MAX: usize = 192 << 10;
/// Files beside a packet: program, stdin, stdout, stderr.
pub(super) const FILES_MAX: usize = 4;

/// Node to launcher.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToLauncher {
    /// First of all.
    Settings {
        /// Name of the control group that all jails live in, where there are control groups: unique to this node.
        cgroup: String,
        /// Bytes of memory of all jails together, for the control group.
        memory_bytes: u64,
        /// Processes and threads of all jails together, for the control group.
        tasks: u64,
    },
    /// Make a jail. With the jail's end of a socket.
    Spawn {
        /// User and group id outside of the jail; used where the launcher is root.
        uid: u32,
    },
    /// Kill the jail that was made for this user, with all that runs in it. It did not end when it was told to. Nobody of
    /// that name is no mistake: it has just ended.
    Kill {
        /// As in `Spawn`.
        uid: u32,
    },
}

/// Launcher, or jail, to node: once, before anything else.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Hello {
    /// It stands.
    Ready {
        /// What the machine does not have and the jail can do without (control groups), for operators.
        without: Vec<String>,
    },
    /// It cannot be.
    Failed {
        /// What is missing on this machine, and what to do about it.
        why: String,
    },
}

/// Node to jail.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum ToJail {
    /// Run a program. With the program, stdin, stdout and stderr.
    Run {
        /// Chosen by the node, unique within the jail.
        id: u64,
        /// All arguments, the program's own name first.
        argv: Vec<String>,
        /// `NAME=value`, the whole environment.
        environment: Vec<String>,
        /// What it may use.
        limits: RunLimits,
    },
    /// Kill what runs under this id, all its threads; it cannot have started anything. Unknown ids are passed over: it has
    /// just ended.
    Kill {
        /// As in `Run`.
        id: u64,
    },
}

/// The resource limits of one process. Source: setrlimit(2).
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct RunLimits {
    /// RLIMIT_DATA: bytes of private writable memory. There is no other kind in a jail but a stack of at most 8 MiB, and the
    /// kernel's tables, which no limit of a process counts: see [`super::launcher`].
    pub(super) memory_bytes: u64,
    /// RLIMIT_CPU: seconds of CPU time of all threads together, the wall behind the node's own clock.
    pub(super) cpu_seconds: u64,
}

/// Jail to node.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    /// As in `Run`.
    pub(super) id: u64,
    /// How.
    pub(super) how: How,
    /// Largest resident memory, in bytes, code included. Never less than the jail's own, some MiB, which the kernel counts
    /// in until the program runs. Source: getrusage(2), ru_maxrss.
    pub(super) peak_memory: u64,
    /// What all its threads computed, the kernel's work for them included. Source: getrusage(2), ru_utime and ru_stime.
    pub(super) cpu: Duration,
}

/// How a run ended.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum How {
    /// With an exit code.
    Exit(i32),
    /// By a signal.
    Signal(i32),
    /// It was never started: which step failed and what the system said.
    NotStarted(String),
}
