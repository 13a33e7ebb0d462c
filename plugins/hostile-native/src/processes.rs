//! Other processes: making them, seeing them, outliving one's own end.

#![allow(unsafe_code, reason = "makes processes and signals them")]

use crate::attempt::{Attempt, allowed, call, check, name_of};
use std::io;
use std::time::Duration;

/// Where a bomb stops by itself: far above what any sandbox allows, and no machine's end.
const BOMB: u32 = 10_000;
/// Stack of a thread that only waits.
const THREAD_STACK: usize = 16 << 10;

pub(crate) fn attempts() -> Vec<Attempt> {
    // Signal 0 asks for the right to send one, and sends none: kill(2).
    // SAFETY: none of these calls takes a pointer, but `process_vm_readv` and `ptrace`, which get none.
    unsafe {
        vec![
            Attempt::new("kill everybody", || check(libc::kill(-1, 0)).map(drop)),
            Attempt::new("kill the parent", || parent().and_then(|id| check(libc::kill(id, 0)).map(drop))),
            Attempt::new("tgkill the parent", || parent().and_then(tgkill)),
            Attempt::new("pidfd_open the parent", || parent().and_then(pidfd)),
            Attempt::new("ptrace the parent", || parent().and_then(trace)),
            Attempt::new("process_vm_readv of the parent", || parent().and_then(peek)),
            Attempt::new("see other processes", see_others),
            Attempt::new("fork", || forked(libc::fork())),
            Attempt::new("vfork by clone", || forked_raw(libc::CLONE_VFORK)),
            Attempt::new("clone into a user namespace", || forked_raw(libc::CLONE_NEWUSER)),
            Attempt::new("clone3", || allowed(call(libc::SYS_clone3, []), &[libc::EINVAL, libc::EFAULT])),
        ]
    }
}

/// Who started this process; nobody is `ESRCH`.
fn parent() -> io::Result<i32> {
    // SAFETY: takes nothing and gives a number.
    match unsafe { libc::getppid() } {
        0 => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        id => Ok(id),
    }
}

fn tgkill(id: i32) -> io::Result<()> {
    // SAFETY: numbers only; signal 0 is not sent.
    check(unsafe { call(libc::SYS_tgkill, [id.into(), id.into()]) }).map(drop)
}

fn pidfd(id: i32) -> io::Result<()> {
    // SAFETY: numbers only; the process ends soon, and the descriptor with it.
    check(unsafe { call(libc::SYS_pidfd_open, [id.into()]) }).map(drop)
}

fn trace(id: i32) -> io::Result<()> {
    // SAFETY: numbers only. It does not stop the other, and ends with this process.
    check(unsafe { call(libc::SYS_ptrace, [libc::PTRACE_SEIZE.into(), id.into()]) }).map(drop)
}

fn peek(id: i32) -> io::Result<()> {
    // Nothing from nowhere: EPERM where it is not allowed, 0 bytes where it is.
    // SAFETY: no vectors, so no memory is touched.
    check(unsafe { call(libc::SYS_process_vm_readv, [id.into()]) }).map(drop)
}

/// Any process but the ones of this sandbox: its first, and this.
fn see_others() -> io::Result<()> {
    let own = std::process::id();
    let ids = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    match ids.filter(|id| *id != own && *id != 1).count() {
        0 => Err(io::Error::from_raw_os_error(libc::ESRCH)),
        _ => Ok(()),
    }
}

/// A child that came to be is ended at once.
fn forked(id: i32) -> io::Result<()> {
    match id {
        // SAFETY: the child does nothing else.
        0 => unsafe { libc::_exit(0) },
        id => check(id).map(drop),
    }
}

fn forked_raw(flags: i32) -> io::Result<()> {
    // SAFETY: as fork: no memory is shared, and the child ends at once.
    let id = unsafe { call(libc::SYS_clone, [i64::from(flags | libc::SIGCHLD)]) };
    forked(i32::try_from(id).unwrap_or(-1))
}

/// Forks as fast as it can, and so does every child.
pub(crate) fn fork_bomb() -> String {
    for made in 0..BOMB {
        // SAFETY: single-threaded; the children do nothing but the same.
        match unsafe { libc::fork() } {
            0 => breed(),
            -1 => return format!("fork: {made}, then {}\n", last_error()),
            _ => {}
        }
    }
    format!("fork: {BOMB}\n")
}

fn breed() -> ! {
    for _ in 0..BOMB {
        // SAFETY: as in `fork_bomb`.
        unsafe { libc::fork() };
    }
    loop {
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// Starts threads until it gets no more.
pub(crate) fn thread_bomb() -> String {
    for made in 0..BOMB {
        let thread = std::thread::Builder::new().stack_size(THREAD_STACK);
        if let Err(error) = thread.spawn(|| std::thread::sleep(Duration::from_secs(3600))) {
            return format!("thread: {made}, then {}\n", error.raw_os_error().map_or_else(String::new, name_of));
        }
    }
    format!("thread: {BOMB}\n")
}

/// Leaves a process behind that has no parent, no session and no terminal, and does not listen to signals.
pub(crate) fn leave_behind() -> String {
    // SAFETY: single-threaded; child and grandchild call nothing that needs a lock of this process.
    unsafe {
        match libc::fork() {
            0 => {
                libc::setsid();
                if libc::fork() == 0 {
                    deaf();
                    crate::ending::close_streams();
                    wait_forever()
                }
                libc::_exit(0)
            }
            -1 => format!("fork: {}\n", last_error()),
            _ => "left one behind\n".to_owned(),
        }
    }
}

/// Never ends, and does not listen to signals.
pub(crate) fn ignore_signals() -> String {
    deaf();
    wait_forever()
}

fn deaf() {
    for signal in 1..32 {
        // SAFETY: ignoring a signal runs no code; the two that cannot be ignored are refused.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn wait_forever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn last_error() -> String {
    name_of(io::Error::last_os_error().raw_os_error().unwrap_or_default())
}
