//! Which threads go first.
//!
//! What waits for an answer goes before what is being worked out: guests and compilers give way.
#![allow(unsafe_code, reason = "sched_setattr exists only as a system call")]

use std::io;

/// Niceness of guests' own threads and of compilers: about a quarter of the share of an I/O thread when both want the
/// core. With less (19, SCHED_IDLE) guests hardly run beside another program that wants the machine.
const NICENESS: i32 = 6;
/// Niceness of the network's threads, where the machine lets a program have it (CAP_SYS_NICE, or RLIMIT_NICE of 25 and more).
/// About eleven times the share of a guest's thread. Without it a thread that has just answered many calls has to let
/// guests catch up, and who calls next waits for the timer (4 ms).
const AHEAD: i32 = -5;
/// How long such a thread may go on before the scheduler looks again, in nanoseconds. 20 ms: longer than that of any
/// other thread, so that since Linux 6.12 every other one that wakes up goes first, instead of at the next timer tick
/// (4 ms and more). Source: sched_setattr(2), `sched_runtime` of SCHED_OTHER; PREEMPT_SHORT in kernel/sched/features.h.
const SLICE: u64 = 20_000_000;

/// `struct sched_attr`, its first version. Source: include/uapi/linux/sched/types.h.
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Lowers the calling thread's priority. Linux keeps it per thread; where that fails nothing is lost but fairness.
pub(in crate::exec) fn lower() {
    let plainly = |_| rustix::process::setpriority_process(None, NICENESS);
    if let Err(why) = set(NICENESS, SLICE).or_else(plainly) {
        tracing::debug!(%why, "this thread keeps its priority");
    }
}

/// Raises the calling thread's priority, unless somebody chose one for it. Where the machine does not let it nothing is
/// lost but fairness.
pub fn raise() {
    change(0, AHEAD);
}

/// Undoes that in a program which such a thread has started.
pub(in crate::exec) fn level() {
    change(AHEAD, 0);
}

fn change(from: i32, to: i32) {
    if rustix::process::getpriority_process(None).is_ok_and(|nice| nice == from) {
        let _ = rustix::process::setpriority_process(None, to);
    }
}

fn set(nice: i32, runtime: u64) -> io::Result<()> {
    let attributes = Attributes {
        size: u32::try_from(size_of::<Attributes>()).unwrap_or_default(),
        policy: 0, // SCHED_OTHER
        flags: 0,
        nice,
        priority: 0,
        runtime,
        deadline: 0,
        period: 0,
    };
    // SAFETY: the kernel reads `size` bytes of a value that lives until the call returns, and changes nothing of ours.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_thread_gives_way() {
        let thread = std::thread::spawn(|| {
            super::lower();
            rustix::process::getpriority_process(None).unwrap()
        });
        assert_eq!(thread.join().unwrap(), super::NICENESS);
    }

    #[test]
    fn a_thread_goes_ahead_where_it_may_and_a_guest_never_does() {
        let nice = || rustix::process::getpriority_process(None).unwrap();
        let thread = std::thread::spawn(move || {
            let before = nice();
            super::raise();
            let raised = nice();
            super::level();
            assert_eq!(nice(), before);
            super::lower();
            let lowered = nice();
            super::raise();
            super::level();
            (before, raised, lowered, nice())
        });
        let (before, raised, lowered, again) = thread.join().unwrap();
        assert!(raised == before || (before == 0 && raised == super::AHEAD), "{before} to {raised}");
        assert_eq!((lowered, again), (super::NICENESS, super::NICENESS), "what was chosen stays");
    }
}
