//! What the compiler's process gives up before it sees a byte of the component.

use crate::exec::{priority, sandbox};
use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetError, Scope,
};
use rustix::process::{Resource, Rlimit, setrlimit};
use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq};
use seccompiler::{BpfProgram, Error, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, apply_filter};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_long};
use std::fmt::Display;

/// Addresses beside the memory that can be written: this program's own file, mapped. Its debug build has 400 MiB.
const ADDRESSES: u64 = 2 << 30;
/// Bytes of the stack. 8 MiB: the usual default; the compiler's own recursion needs a tenth of it.
const STACK: u64 = 8 << 20;
/// What may be open: three pipes, which are. No more can be opened.
const OPEN_FILES: u64 = 3;

/// All that a compiler needs of the system: memory, its pipes, an end.
const ALLOWED: &[c_long] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Gives up everything else, for ever.
///
/// * errors: the step that this machine does not let it take, for operators.
pub(super) fn confine(cpu_seconds: u64, memory_bytes: u64) -> Result<(), String> {
    // Its tenant waits, others work: as the slow lane of guests. Where it fails nothing is lost but fairness.
    priority::lower();
    // What the kernel ends first when memory is short: this, not the node.
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let limits = [
        // A second to end by itself when SIGXCPU says that it is over.
        (Resource::Cpu, cpu_seconds, cpu_seconds.saturating_add(1)),
        (Resource::Data, memory_bytes, memory_bytes),
        (Resource::As, memory_bytes.saturating_add(ADDRESSES), memory_bytes.saturating_add(ADDRESSES)),
        (Resource::Stack, STACK, STACK),
        (Resource::Fsize, 0, 0),
        (Resource::Nofile, OPEN_FILES, OPEN_FILES),
        // 1 and not 0: at 0 a system that hands core dumps to a program still does. Source: core(5).
        (Resource::Core, 1, 1),
        (Resource::Memlock, 0, 0),
        (Resource::Msgqueue, 0, 0),
    ];
    landlock().map_err(|why| failed("forbid files and the network", why))?;
    for (resource, current, maximum) in limits {
        // What the node was started with is a limit for its children too.
        let most = rustix::process::getrlimit(resource).maximum.unwrap_or(u64::MAX);
        let limit = Rlimit { current: Some(current.min(most)), maximum: Some(maximum.min(most)) };
        setrlimit(resource, limit).map_err(|why| failed(&format!("set the limit {resource:?}"), why))?;
    }
    sandbox::no_capabilities().map_err(|why| failed("give up capabilities", why))?;
    let filter = filter().map_err(|why| failed("make a filter of system calls", why))?;
    apply_filter(&filter).map_err(|why| failed("forbid system calls", why))
}

fn failed(what: &str, why: impl Display) -> String {
    format!("it cannot {what}: {why}")
}

/// No file, no connection, no signal to others, as far as this kernel knows how. Best effort: the filter of system calls
/// leaves no way to ask for any of them, this is the second lock on the same door.
fn landlock() -> Result<(), RulesetError> {
    let abi = ABI::V6;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        .restrict_self()
        .map(drop)
}

/// What is not listed is answered with EPERM: a compiler that goes wrong is told no, and fails. Killing it instead would
/// make every new version of the C library a risk, and keeps no door shut that is open so.
fn filter() -> Result<BpfProgram, Error> {
    let mut rules: BTreeMap<c_long, Vec<SeccompRule>> = ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // Memory of its own that is never code: a compiler writes machine code, it does not run it.
    let private = masked(3, libc::MAP_TYPE, libc::MAP_PRIVATE)?;
    rules.insert(libc::SYS_mmap, vec![SeccompRule::new(vec![masked(2, libc::PROT_EXEC, 0)?, private])?]);
    rules.insert(libc::SYS_mprotect, vec![SeccompRule::new(vec![masked(2, libc::PROT_EXEC, 0)?])?]);
    // Aborting: a signal to oneself. The node is the same user's: before Linux 6.12 nothing else keeps one from it.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![SeccompRule::new(vec![SeccompCondition::new(0, Dword, Eq, own)?])?]);
    let arch = std::env::consts::ARCH.try_into().map_err(Error::Backend)?;
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, refuse, SeccompAction::Allow, arch)?;
    filter.try_into().map_err(Error::Backend)
}

fn masked(argument: u8, mask: c_int, value: c_int) -> Result<SeccompCondition, Error> {
    let bits = |flags: c_int| u64::from(flags.unsigned_abs());
    Ok(SeccompCondition::new(argument, Dword, MaskedEq(bits(mask)), bits(value))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// Sends no signal, asks only whether it may.
    #[allow(unsafe_code, reason = "tgkill exists only as a system call")]
    fn may_signal(process: u32, thread: u32) -> bool {
        // SAFETY: takes numbers only.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, 0) == 0 }
    }

    #[test]
    fn a_compiler_that_was_taken_over_signals_nobody_but_itself() {
        let mut other = Command::new("sleep").arg("60").spawn().unwrap();
        let (own, theirs) = (std::process::id(), other.id());
        // A filter is of the thread that takes it; this one ends with it.
        let asked = std::thread::spawn(move || {
            let before = may_signal(theirs, theirs);
            apply_filter(&filter().unwrap()).unwrap();
            (before, may_signal(theirs, theirs), may_signal(own, own))
        });
        let asked = asked.join().unwrap();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(asked, (true, false, true), "before the filter, after it, itself");
    }
}
