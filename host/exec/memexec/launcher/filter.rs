//! Which system calls a jail and the programs in it have.
//!
//! A jail installs the filters of [`of_a_jail`] once, and everything in it inherits them: what is not listed kills the
//! process. Every call adds the small filter of [`of_a_call`], which takes away what only the jail needs. That one is
//! small because the kernel works out a filter's answer to every system call whenever it installs one: 27 instructions
//! cost nothing that can be measured, 150 cost as much as the whole start of a process.
//!
//! What kills is also written to the kernel's log, by the kernel and at the rate it allows (sysctl kernel.printk_ratelimit):
//! there is no way to kill without. So what ordinary programs try is answered with an error ([`REFUSED`]), and what is left
//! there is worth an operator's eye.

use super::bpf::{Backwards, answer, argument, load, statement};
use super::spawn::{CLONE, PROGRAM};
use seccompiler::SeccompCmpArgLen::{Dword, Qword};
use seccompiler::SeccompCmpOp::{MaskedEq, Ne};
use seccompiler::{BpfProgram, Error, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule};
use std::collections::BTreeMap;
use std::ffi::{c_int, c_long};

/// What programs may do. At most 50, which a test counts.
pub(super) const ALLOWED: &[c_long] = &[
    // Their three files, and nothing that names another one.
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    // As fstat, which glibc makes of it. By a path it finds the empty root.
    libc::SYS_newfstatat,
    libc::SYS_fcntl,
    // Waiting: the event loops of Go and others, on pipes and on themselves.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(not(target_arch = "x86_64"))]
    libc::SYS_ppoll,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    // Memory, private, counted and not executable: see `narrowed`; the stack stays as it is: see `computed`.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    // Signals: handlers, and sending to oneself, which Landlock's scope makes all there is to send to.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_tgkill,
    libc::SYS_tkill,
    // Threads. Of `clone` only threads are left: see `of_a_call`.
    libc::SYS_clone,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    libc::SYS_prctl,
    libc::SYS_exit,
    libc::SYS_exit_group,
    // Time, where it does not come without a system call.
    libc::SYS_clock_gettime,
    libc::SYS_gettimeofday,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    // Themselves. Limits can be read: see `of_a_call`.
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_prlimit64,
    libc::SYS_getrandom,
];

/// What ordinary programs and their runtimes try and can do without: never done, answered with an error instead of death.
const REFUSED: &[(c_int, &[c_long])] = &[
    // Files: there are none.
    (
        libc::ENOENT,
        &[
            #[cfg(target_arch = "x86_64")]
            libc::SYS_open,
            libc::SYS_openat,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_lstat,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_access,
            libc::SYS_faccessat,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_readlink,
            libc::SYS_readlinkat,
            libc::SYS_getcwd,
        ],
    ),
    // Newer or faster ways; the older and plain ones are tried next.
    (
        libc::ENOSYS,
        &[
            libc::SYS_clone3,
            libc::SYS_statx,
            libc::SYS_faccessat2,
            libc::SYS_splice,
            libc::SYS_sendfile,
            libc::SYS_copy_file_range,
        ],
    ),
    // It can grow the stack past its limit, which no other limit counts. Allocators copy instead.
    (libc::ENOMEM, &[libc::SYS_mremap]),
    // Places in a file: pipes have none.
    (libc::ESPIPE, &[libc::SYS_lseek, libc::SYS_pread64, libc::SYS_pwrite64]),
    // Is it a terminal? How large? No.
    (libc::ENOTTY, &[libc::SYS_ioctl]),
    // Other processes, more files, and words about the machine.
    (
        libc::EPERM,
        &[
            #[cfg(target_arch = "x86_64")]
            libc::SYS_fork,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_vfork,
            libc::SYS_dup,
            #[cfg(target_arch = "x86_64")]
            libc::SYS_dup2,
            libc::SYS_pipe2,
            libc::SYS_getrusage,
            libc::SYS_uname,
            libc::SYS_sysinfo,
            libc::SYS_sched_setaffinity,
        ],
    ),
];

/// What the jail itself needs beyond [`ALLOWED`]. A call's own filter takes all of it away, but for its one execveat.
const JAIL: &[c_long] = &[
    // Its socket to the node.
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    // Its children.
    libc::SYS_wait4,
    libc::SYS_kill,
    // What a new process does until it is its program, in this order. After its own filter only `EXECUTE` is left.
    libc::SYS_setpriority,
    libc::SYS_landlock_restrict_self,
    libc::SYS_dup3,
    libc::SYS_close_range,
    libc::SYS_capset,
    libc::SYS_seccomp,
    EXECUTE,
];
const EXECUTE: c_long = libc::SYS_execveat;

/// Pages that a jail never has: shared ones and stacks are not counted in a process' limit, huge ones are the machine's
/// reserve.
const MAP_NEVER: [c_int; 3] = [libc::MAP_SHARED, libc::MAP_GROWSDOWN, libc::MAP_HUGETLB];
/// Commands of fcntl(2) that are for programs. Others set who gets signals, watch folders, seal, or grow pipes.
const FCNTL: [c_int; 6] =
    [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];
/// Options of prctl(2): names of threads, and the one that comes with every filter.
const PRCTL: [c_int; 3] = [libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_NO_NEW_PRIVS];
/// Options of arch_prctl(2): the registers that point to a thread's own data. Others make stacks that nothing counts.
/// Source: asm/prctl.h, ARCH_SET_GS to ARCH_GET_GS.
#[cfg(target_arch = "x86_64")]
const ARCH_PRCTL: [c_int; 4] = [0x1001, 0x1002, 0x1003, 0x1004];
/// Advice on memory that allocators give: it comes back zeroed, or in larger pages. Others share, hide, lock or move pages.
const ADVICE: [c_int; 5] =
    [libc::MADV_DONTNEED, libc::MADV_FREE, libc::MADV_WILLNEED, libc::MADV_HUGEPAGE, libc::MADV_NOHUGEPAGE];
/// Operations of futex(2) that lend a thread's priority to another: much of the kernel, for what there is no priority to
/// lend of. C libraries ask whether they are there. Source: linux/futex.h, FUTEX_LOCK_PI and so on.
const FUTEX_PRIORITY: [c_int; 6] = [
    libc::FUTEX_LOCK_PI,
    libc::FUTEX_UNLOCK_PI,
    libc::FUTEX_TRYLOCK_PI,
    libc::FUTEX_WAIT_REQUEUE_PI,
    libc::FUTEX_CMP_REQUEUE_PI,
    libc::FUTEX_LOCK_PI2,
];
/// What a new thread may be told: all that glibc, musl and Go say.
const THREAD: c_int = libc::CLONE_VM
    | libc::CLONE_FS
    | libc::CLONE_FILES
    | libc::CLONE_SIGHAND
    | libc::CLONE_THREAD
    | libc::CLONE_SYSVSEM
    | libc::CLONE_SETTLS
    | libc::CLONE_PARENT_SETTID
    | libc::CLONE_CHILD_CLEARTID
    | libc::CLONE_DETACHED;

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// The filters of a jail and all that comes of it, to be installed together. The strictest answer of all counts: what one
/// lists as allowed, another may refuse.
///
/// * `stacks`: where the area of stacks begins: [`stack_area`].
pub(super) fn of_a_jail(stacks: u64) -> Result<Vec<BpfProgram>, Error> {
    let listed = REFUSED.iter().flat_map(|(_, calls)| *calls).chain(ALLOWED).chain(JAIL);
    let listed: Rules = listed.map(|call| (*call, Vec::new())).collect();
    let mut filters = vec![SeccompFilter::new(listed, SeccompAction::KillProcess, SeccompAction::Allow, arch()?)?];
    let mut refuse = |errno: c_int, rules: Rules| {
        let answer = SeccompAction::Errno(errno.unsigned_abs());
        filters.push(SeccompFilter::new(rules, SeccompAction::Allow, answer, arch()?)?);
        Ok::<_, Error>(())
    };
    for (errno, calls) in REFUSED {
        refuse(*errno, calls.iter().map(|call| (*call, Vec::new())).collect())?;
    }
    refuse(0, passed_over()?)?;
    refuse(libc::EINVAL, Rules::from([(libc::SYS_madvise, vec![none_of(2, &ADVICE)?])]))?;
    refuse(libc::ENOSYS, Rules::from([(libc::SYS_futex, lending()?)]))?;
    // Last: where two filters answer with an error, the later one's counts.
    refuse(libc::EPERM, narrowed()?)?;
    let by_rule = filters.into_iter().map(|filter| filter.try_into().map_err(Error::Backend));
    by_rule.chain([Ok(computed(stacks))]).collect()
}

fn arch() -> Result<seccompiler::TargetArch, Error> {
    std::env::consts::ARCH.try_into().map_err(Error::Backend)
}

/// Refused ways of using what is allowed: each entry is a rule that matches what is refused.
fn narrowed() -> Result<Rules, Error> {
    let any = |argument, flags: &[c_int]| flags.iter().map(|flag| has(argument, *flag)).collect::<Result<Vec<_>, _>>();
    let map = any(2, &[libc::PROT_EXEC])?.into_iter().chain(any(3, &MAP_NEVER)?);
    Ok(BTreeMap::from([
        (libc::SYS_mmap, map.collect()),
        (libc::SYS_mprotect, any(2, &[libc::PROT_EXEC])?),
        (libc::SYS_fcntl, vec![none_of(1, &FCNTL)?]),
        (libc::SYS_prctl, vec![none_of(0, &PRCTL)?]),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_arch_prctl, vec![none_of(0, &ARCH_PRCTL)?]),
        // Of another process than oneself.
        (libc::SYS_prlimit64, vec![some(0)?]),
        // What only the jail does, and how it does it.
        (EXECUTE, vec![none_of(0, &[PROGRAM])?, none_of(4, &[libc::AT_EMPTY_PATH])?]),
        (libc::SYS_kill, vec![none_of(1, &[libc::SIGKILL])?]),
        (libc::SYS_seccomp, vec![none_of(0, &[libc::SECCOMP_SET_MODE_FILTER.cast_signed()])?, some(1)?]),
    ]))
}

/// Operations of futex(2), whatever the flags beside them say.
fn lending() -> Result<Vec<SeccompRule>, Error> {
    let command = !bits(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) & u64::from(u32::MAX);
    let is = |operation: &c_int| SeccompCondition::new(1, Dword, MaskedEq(command), bits(*operation));
    let each = FUTEX_PRIORITY.iter().map(|operation| Ok(SeccompRule::new(vec![is(operation)?])?));
    each.collect()
}

/// Ways that are answered with "done" and not done: taking the right to write from memory. The kernel counts a process'
/// writable memory only, so what was filled and is then only readable would be free. Refusing it is no way: C libraries
/// protect their tables so at every start, and Rust the stacks of its threads' signal handlers.
fn passed_over() -> Result<Rules, Error> {
    let readable = SeccompCondition::new(2, Dword, MaskedEq(bits(libc::PROT_WRITE)), 0)?;
    Ok(BTreeMap::from([(libc::SYS_mprotect, vec![SeccompRule::new(vec![readable])?])]))
}

/// Arguments that are sets of flags are 32 bits, of which none is a sign.
fn bits(flags: c_int) -> u64 {
    u64::from(flags.unsigned_abs())
}

fn has(argument: u8, flag: c_int) -> Result<SeccompRule, Error> {
    let flag = bits(flag);
    Ok(SeccompRule::new(vec![SeccompCondition::new(argument, Dword, MaskedEq(flag), flag)?])?)
}

/// Anything but zero.
fn some(argument: u8) -> Result<SeccompRule, Error> {
    Ok(SeccompRule::new(vec![SeccompCondition::new(argument, Qword, Ne, 0)?])?)
}

fn none_of(argument: u8, values: &[c_int]) -> Result<SeccompRule, Error> {
    let each = values.iter().map(|value| SeccompCondition::new(argument, Dword, Ne, bits(*value)));
    Ok(SeccompRule::new(each.collect::<Result<_, _>>()?)?)
}

/// Where the area of stacks begins: above all that mmap(2) hands out by itself, and below all that a stack grows to.
///
/// The kernel puts the top of a stack at random into the last bytes of a process' addresses (of 47 bits on x86_64, 39 to 48
/// on aarch64: as our own is), lets it grow as far as its limit says, and leaves a gap of 1 MiB below that. This is in the
/// gap. Source: arch/x86/mm/mmap.c and mm/util.c, mmap_base(); STACK_RND_MASK in asm/elf.h; fs/exec.c, setup_arg_pages().
///
/// * returns: what is right only where addresses are random, which [`super::jail::Kit::new`] sees to.
pub(super) fn stack_area() -> u64 {
    /// How far down the top may be.
    const RANDOM: u64 = if cfg!(target_arch = "x86_64") { 16 << 30 } else { 1 << 30 };
    /// The top is up to two pages lower, to spread the cache's lines.
    const SPREAD: u64 = 64 << 10;
    let here = 0_u8;
    let end = (&raw const here).addr().next_power_of_two() as u64;
    end.saturating_sub(RANDOM + super::jail::STACK + SPREAD)
}

/// What rules cannot say: sums, and bits that must not be set beside one that must.
///
/// The limit of a stack is one of each piece of it, and no other limit counts stacks. So nothing may cut one into pieces:
/// no range that ends in the area of stacks can be unmapped, protected, advised on or mapped over. Then, processes are
/// made in one way, and threads as [`THREAD`] says.
fn computed(stacks: u64) -> BpfProgram {
    let half = |offset| u32::try_from((stacks >> offset) & u64::from(u32::MAX)).unwrap_or_default();
    let (upper, lower) = (half(32), half(0));
    let to_x = statement(libc::BPF_MISC | libc::BPF_TAX, 0);
    let from_x = statement(libc::BPF_MISC | libc::BPF_TXA, 0);
    let add_x = statement(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_X, 0);
    let (keep, kept) = (statement(libc::BPF_ST, 0), statement(libc::BPF_LD | libc::BPF_MEM, 0));
    let (above, not_below_x) = (libc::BPF_JGT | libc::BPF_K, libc::BPF_JGE | libc::BPF_X);

    let mut code = Backwards::default();
    let allow = code.put(answer(libc::SECCOMP_RET_ALLOW));
    let refuse = code.put(answer(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()));

    // Is the end in the area? X is its lower half, what is kept the upper.
    code.jump(above, lower, refuse, allow);
    let same = code.put(from_x);
    let not_above = code.jump_if(upper, same, allow);
    code.jump(above, upper, refuse, not_above);
    code.put(kept);
    let compare = code.put(to_x);
    // The lower halves' sum is smaller than one of them: one more for the upper half.
    code.put(from_x);
    code.put(keep);
    code.put(statement(libc::BPF_ALU | libc::BPF_ADD | libc::BPF_K, 1));
    code.put(kept);
    let carry = code.put(to_x);
    code.jump(not_below_x, 0, compare, carry);
    for step in [add_x, load(argument(0)), to_x, load(argument(1)), keep, add_x] {
        code.put(step);
    }
    // Neither begins nor is as large as the area: so no sum here is too large for its 32 bits.
    let small = code.here();
    code.jump(above, upper, refuse, small);
    code.put(load(argument(0) + 4));
    let long = code.put(to_x);
    code.jump(above, upper, refuse, long);
    let range = code.put(load(argument(1) + 4));

    let fixed = (libc::MAP_FIXED | libc::MAP_FIXED_NOREPLACE).unsigned_abs();
    code.jump(libc::BPF_JSET | libc::BPF_K, fixed, range, allow);
    let map = code.put(load(argument(3)));

    let other = thread(&mut code, allow, refuse);
    code.jump_if(CLONE.unsigned_abs(), allow, other);
    let clone = code.put(load(argument(0)));

    let mut next = allow;
    let ranges = [libc::SYS_munmap, libc::SYS_mprotect, libc::SYS_madvise].map(|call| (call, range));
    for (call, target) in [(libc::SYS_mmap, map), (libc::SYS_clone, clone)].into_iter().chain(ranges) {
        next = code.jump_if(u32::try_from(call).unwrap_or(u32::MAX), target, next);
    }
    code.put(load(0)); // the number of the system call
    let same = |one: libc::sock_filter| seccompiler::sock_filter { code: one.code, jt: one.jt, jf: one.jf, k: one.k };
    code.finish().into_iter().map(same).collect()
}

/// Are the loaded flags those of a thread, and nothing more?
fn thread(code: &mut Backwards, allow: usize, refuse: usize) -> usize {
    code.jump_if(libc::CLONE_THREAD.unsigned_abs(), allow, refuse);
    code.put(statement(libc::BPF_ALU | libc::BPF_AND, libc::CLONE_THREAD.unsigned_abs() | !THREAD.unsigned_abs()))
}

/// The filter of one call: refuses what is only for the jail, new processes, new limits, and every execution but that of
/// its program.
pub(super) fn of_a_call() -> Vec<libc::sock_filter> {
    // The answers, then one block for each call that depends on its arguments.
    let mut code = Backwards::default();
    let allow = code.put(answer(libc::SECCOMP_RET_ALLOW));
    let refuse = code.put(answer(libc::SECCOMP_RET_ERRNO | libc::EPERM.unsigned_abs()));

    code.jump_if(libc::AT_EMPTY_PATH.unsigned_abs(), allow, refuse);
    let flags = code.put(load(argument(4)));
    code.jump_if(PROGRAM.unsigned_abs(), flags, refuse);
    let execute = code.put(load(argument(0)));

    code.jump_if(0, allow, refuse);
    let high = code.put(load(argument(2) + 4));
    code.jump_if(0, high, refuse);
    let limit = code.put(load(argument(2)));

    thread(&mut code, allow, refuse);
    let clone = code.put(load(argument(0)));

    let mut next = allow;
    let depends = [(EXECUTE, execute), (libc::SYS_prlimit64, limit), (libc::SYS_clone, clone)];
    for (call, target) in depends.into_iter().chain(JAIL.iter().filter(|call| **call != EXECUTE).map(|c| (*c, refuse)))
    {
        next = code.jump_if(u32::try_from(call).unwrap_or(u32::MAX), target, next);
    }
    code.put(load(0)); // the number of the system call
    code.finish()
}

#[cfg(test)]
mod tests;
