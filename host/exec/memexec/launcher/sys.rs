//! System calls of the launcher and of jails that no safe library has. Both are single-threaded.
#![allow(unsafe_code, reason = "clone, wait4 with its usage, signalfd and the like exist only as C functions")]

use super::super::protocol::How;
use crate::exec::sandbox::checked;
use rustix::process::Pid;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Bytes of one event of a signalfd.
pub(super) const CHILD_EVENT: usize = size_of::<libc::signalfd_siginfo>();

/// The worlds of its own that a jail lives in: ids, processes, mounts, network, System V IPC, names, control groups.
const NAMESPACES: libc::c_int = libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP;

/// A child that ended.
pub(super) struct Ended {
    pub(super) pid: Pid,
    pub(super) how: How,
    /// In bytes.
    pub(super) peak_memory: u64,
    /// Of all its threads.
    pub(super) cpu: Duration,
}

/// Goes on twice: as the caller, with the new process' id, and as a copy of it in namespaces of its own, with `None`.
pub(super) fn clone_into_namespaces() -> io::Result<Option<Pid>> {
    // x86_64 and aarch64 differ in what comes after the stack; all of it is unused.
    let (flags, none) = (libc::c_long::from(NAMESPACES | libc::SIGCHLD), 0 as libc::c_long);
    // SAFETY: without CLONE_VM and without a stack this is fork(2): the copy has its own memory, in which this only
    // thread goes on. No lock can be held by another thread, there is none.
    let pid = unsafe { libc::syscall(libc::SYS_clone, flags, none, none, none, none) };
    match i32::try_from(pid) {
        Ok(-1) | Err(_) => Err(io::Error::last_os_error()),
        Ok(pid) => Ok(Pid::from_raw(pid)),
    }
}

/// Takes back what whoever started the node has asked for, such as addresses that are not random (setarch, debuggers):
/// programs would inherit it.
pub(super) fn plain_personality() -> io::Result<()> {
    /// Source: linux/personality.h, PER_LINUX with no flags.
    const PLAIN: libc::c_ulong = 0;
    // SAFETY: takes a number.
    checked(unsafe { libc::personality(PLAIN) }).map(drop)
}

/// From now on the end of a child is readable here instead of a signal.
pub(super) fn child_events() -> io::Result<OwnedFd> {
    // SAFETY: `set` is a plain value that sigemptyset makes whole; the descriptor is new and nobody else's.
    unsafe {
        let mut set = std::mem::zeroed();
        checked(libc::sigemptyset(&raw mut set))?;
        checked(libc::sigaddset(&raw mut set, libc::SIGCHLD))?;
        checked(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()))?;
        let fd = checked(libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

/// Waits until one of both can be read. Whether it is the first.
pub(super) fn wait_readable(first: BorrowedFd<'_>, second: BorrowedFd<'_>) -> io::Result<bool> {
    let ask = |fd: BorrowedFd<'_>| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut both = [ask(first), ask(second)];
    loop {
        // SAFETY: two entries, as said. Not rustix' poll: that is ppoll, a call more for the filter to have.
        match checked(unsafe { libc::poll(both.as_mut_ptr(), 2, -1) }) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            Err(why) => return Err(why),
            Ok(_) => return Ok(both[0].revents != 0),
        }
    }
}

/// Takes one child that has ended, if any has.
pub(super) fn reap() -> io::Result<Option<Ended>> {
    let mut status = 0;
    // SAFETY: both are plain values that the kernel fills.
    let (pid, usage) = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        (libc::wait4(-1, &raw mut status, libc::WNOHANG, &raw mut usage), usage)
    };
    match checked(pid) {
        Err(why) if why.raw_os_error() == Some(libc::ECHILD) => Ok(None),
        Err(why) => Err(why),
        Ok(pid) => Ok(Pid::from_raw(pid).map(|pid| Ended {
            pid,
            how: match libc::WIFSIGNALED(status) {
                true => How::Signal(libc::WTERMSIG(status)),
                false => How::Exit(libc::WEXITSTATUS(status)),
            },
            peak_memory: u64::try_from(usage.ru_maxrss).unwrap_or_default() << 10,
            cpu: span(usage.ru_utime).saturating_add(span(usage.ru_stime)),
        })),
    }
}

/// What the kernel says of spent time is never negative.
fn span(spent: libc::timeval) -> Duration {
    let seconds = Duration::from_secs(u64::try_from(spent.tv_sec).unwrap_or_default());
    seconds.saturating_add(Duration::from_micros(u64::try_from(spent.tv_usec).unwrap_or_default()))
}
