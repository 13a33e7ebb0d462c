//! The launcher: this program started anew, single-threaded, which makes jails and nothing else.
//!
//! ```text
//! node ── launcher            a process of its own, so that the node is never forked
//!            └─ jail          one per namespace: pid 1 of a world with nothing in it ([`jail`])
//!                 └─ call     one process per call, its program from memory ([`spawn`])
//! ```
//!
//! Whoever dies takes all below along: the launcher ends when the node's end of its socket is closed, by whatever; jails
//! have a parent-death signal, and a socket of their own; calls live in the pid namespace of their jail. None of them
//! touches a file, except the control groups that the launcher joins (`control.rs`).
//!
//! A call's own limits bound what it maps and its stack. They do not count the kernel's tables for what is mapped, which can
//! be far larger: a mapping of two pages can have 16 KiB of them, and a process may have some 65,530 mappings (sysctl
//! vm.max_map_count), so 1 GiB. Only the control group of all calls bounds that: when it is full, the kernel ends the
//! largest of them. Without that control group nothing does, which is said as what jails go without.

mod bpf;
mod control;
mod filter;
mod jail;
mod probe;
mod run;
mod spawn;
mod sys;
mod wire;

/// System calls that programs may make.
pub(in crate::exec) const SYSTEM_CALLS: usize = filter::ALLOWED.len();

/// Programs that run at once in one jail. 256: each may have 16 threads, and 4,096 of them are more than a machine runs
/// well. So a node can have no more slots than this.
pub(in crate::exec) const RUNS_MAX: usize = 256;

pub(in crate::exec) use probe::probe_program;
pub(in crate::exec) use spawn::THREADS;

use super::protocol::{Hello, ToLauncher};
use crate::exec::{priority, sandbox};
use control::Groups;
use jail::Kit;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, send, socketpair};
use rustix::process::{Pid, Resource, Rlimit, Signal, geteuid, getrlimit, kill_process, setrlimit};
use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use wire::{Event, Wire};

/// First argument of a process that is to be a launcher.
pub const ARGUMENT: &str = "__jail-launcher";

/// What the kernel ends first when memory is short: jails and what runs in them, not the node. Source: proc(5),
/// oom_score_adj, the highest.
const OOM_SCORE: &str = "1000";

/// What to do where files have run out: the launcher keeps one for each jail.
const FILES: &str =
    "let the node have more open files (ulimit -n; with systemd, LimitNOFILE), or fewer jails (exec.memexec.jails)";

/// User and group id within a jail: nobody's.
const INSIDE: u32 = 65534;

/// Runs the launcher on the socket that is its standard input, to its end.
pub fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: the launcher of jails, which only a node starts, cannot go on: {why}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> io::Result<()> {
    // No parent-death signal: it would leave no time to remove the control groups.
    sandbox::close_from(3)?;
    sandbox::default_signals()?;
    open_all()?;
    rustix::thread::set_name(c"collector-jails")?;
    priority::level(); // whichever thread of the node started it
    if geteuid().is_root() {
        // Here, because jails may not: a process that may change its groups could leave one that denies it something.
        rustix::thread::set_thread_groups(&[])?;
    }
    let mut node = Wire::new(rustix::stdio::stdin())?;
    let Event::Packet(ToLauncher::Settings { cgroup, memory_bytes, tasks }, _) = node.next()? else {
        return Ok(());
    };
    let kit = match Kit::new() {
        Ok(kit) => kit,
        Err(why) => return node.send(&Hello::Failed { why }),
    };
    // Where the system denies it, the kernel chooses as it always does.
    let _ = fs::write("/proc/self/oom_score_adj", OOM_SCORE);
    let (groups, without) = Groups::join(&cgroup, memory_bytes, tasks);
    node.send(&Hello::Ready { without })?;
    let mut jails = Jails { kit, standing: HashMap::new() };
    let end = jails.make_until_closed(&mut node);
    jails.end();
    groups.leave();
    end
}

/// A file for every jail: the usual limit of 1,024 is for programs that cannot have more.
fn open_all() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?)
}

/// The jails that stand.
struct Jails {
    kit: Kit,
    /// The processes.
    standing: HashMap<Pid, Standing>,
}

/// What is kept of a jail until all its processes are gone, as they are once it has been waited for. Source:
/// pid_namespaces(7).
struct Standing {
    uid: u32,
    /// Our end of a socket that breaks when the launcher is gone.
    _lifeline: OwnedFd,
    /// The jail's end of its socket: the node finds it closed when this is dropped.
    _socket: OwnedFd,
}

impl Jails {
    fn make_until_closed(&mut self, node: &mut Wire) -> io::Result<()> {
        loop {
            match node.next()? {
                Event::Closed => return Ok(()),
                Event::Children => {
                    while let Some(ended) = sys::reap()? {
                        self.standing.remove(&ended.pid);
                    }
                }
                Event::Packet(ToLauncher::Settings { .. }, _) => return Err(wire::unexpected()),
                Event::Packet(ToLauncher::Kill { uid }, _) => {
                    for (pid, _) in self.standing.iter().filter(|(_, jail)| jail.uid == uid) {
                        // It has ended and is not waited for yet.
                        let _ = kill_process(*pid, Signal::KILL);
                    }
                }
                Event::Packet(ToLauncher::Spawn { uid }, files) => {
                    let [socket] = <[OwnedFd; 1]>::try_from(files).map_err(|_| wire::unexpected())?;
                    match self.make(node, &socket, uid) {
                        Ok((pid, lifeline)) => {
                            self.standing.insert(pid, Standing { uid, _lifeline: lifeline, _socket: socket });
                        }
                        Err(why) => {
                            // Nobody listens any more: then nobody wants this jail.
                            let _ = wire::send(&socket, &Hello::Failed { why });
                        }
                    }
                }
            }
        }
    }

    /// Makes a jail.
    ///
    /// This needs two files beside `socket`, and one of them is kept with it: so where files run out, they do here, and
    /// there is always one for the next `socket`.
    ///
    /// * returns: its process, and our end of its lifeline.
    /// * errors: why it cannot be, for operators; the others stand.
    fn make(&mut self, node: &mut Wire, socket: &OwnedFd, uid: u32) -> Result<(Pid, OwnedFd), String> {
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
            .map_err(|why| format!("no socket for it: {why}; {FILES}"))?;
        let pid = match sys::clone_into_namespaces() {
            Ok(None) => {
                drop(ours);
                jail::main(&self.kit, node, socket, theirs)
            }
            Ok(Some(pid)) => pid,
            Err(why) => return Err(format!("no user and other namespaces: {why}; {}", jail::NAMESPACES)),
        };
        // If this fails, it reads the end of the lifeline, and ends.
        map_ids(pid, uid)?;
        // A jail that is gone already has said why, or is seen to be gone.
        let _ = send(&ours, b"!", SendFlags::NOSIGNAL);
        Ok((pid, ours))
    }

    /// Kills them and waits until they are gone, so that their control groups are empty.
    fn end(self) {
        for pid in self.standing.into_keys() {
            let _ = kill_process(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        }
    }
}

/// Says who the jail is outside of itself: where the launcher is root, the id that it is told; else what it is itself.
fn map_ids(pid: Pid, uid: u32) -> Result<(), String> {
    let (uid, gid) = match geteuid().is_root() {
        true if uid == 0 => return Err("a jail must not be root: set exec.memexec.uid_base above 0".to_owned()),
        true => (uid, uid),
        false => (geteuid().as_raw(), rustix::process::getegid().as_raw()),
    };
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/{}/{file}", pid.as_raw_nonzero()), text).map_err(|why| {
            let advice = match why.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput => {
                    format!("set exec.memexec.uid_base to ids that this machine has, or {}", jail::NAMESPACES)
                }
                _ => FILES.to_owned(),
            };
            format!("cannot make it user {uid}: {why}; {advice}")
        })
    };
    // Before the groups: unprivileged processes may map groups only where they cannot be left.
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{INSIDE} {gid} 1"))?;
    write("uid_map", format!("{INSIDE} {uid} 1"))
}
