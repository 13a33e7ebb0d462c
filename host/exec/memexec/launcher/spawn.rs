//! One call: a process of its own whose program comes from memory.
//!
//! The new process shares the jail's memory and the jail waits until it has become its program, so nothing is copied and
//! a start costs the same whatever the size of anything. Until then it does system calls only, in [`enter`].
//!
//! It has a user namespace of its own: limits of threads, of signals and of locked memory are counted per such
//! namespace, so calls do not use up each other's. It has no pid namespace of its own: the first process of one ignores
//! its own SIGABRT, and every failed assertion would look like a wild pointer. Calls of one namespace are kept apart by
//! Landlock's signal scope and by the filter instead, and the jail's pid namespace takes them along.
#![allow(unsafe_code, reason = "a process that shares memory until exec is made and set up by C functions only")]

use super::super::protocol::RunLimits;
use super::filter;
use rustix::process::Pid;
use std::cell::Cell;
use std::ffi::{CString, c_char, c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::ptr;

/// Where the program's file is while it becomes the process: above all that a program can open, so that nothing else
/// can ever be executed.
pub(super) const PROGRAM: RawFd = OPEN_FILES as RawFd;
/// Files that a program may have open.
const OPEN_FILES: u64 = 64;
/// How a process is made: in the jail's memory until it executes, its limits counted in a user namespace of its own.
pub(super) const CLONE: c_int = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_NEWUSER | libc::SIGCHLD;
/// How much less of the processor a program gets than its jail and the node, which have 0: a tenth of their weight, so that
/// kills and ends are done in time whatever runs. Source: setpriority(2), sched(7).
const NICE: c_int = 10;
/// Threads. 16: Go starts about ten on a machine of many cores. Source: threats.md B9, NPROC.
pub(in crate::exec) const THREADS: u64 = 16;
/// Bytes of addresses beyond the memory limit. 4 GiB: Go reserves one and glibc 64 MiB per thread without ever using
/// them. It keeps the tables of densely mapped addresses at 8 MiB; those of pages strewn about it does not bound: see
/// [`super`].
const ADDRESSES: u64 = 4 << 30;
/// Words of 16 bytes of stack until exec: 64 KiB, of which a few hundred bytes are used.
const STACK: usize = 4096;

/// What is to run.
pub(super) struct Program {
    /// Program, stdin, stdout, stderr.
    pub(super) files: [OwnedFd; 4],
    pub(super) argv: Vec<String>,
    pub(super) environment: Vec<String>,
    pub(super) limits: RunLimits,
}

/// Starts programs.
pub(super) struct Spawner<'a> {
    stack: Vec<u128>,
    /// The Landlock rules that every call adds for itself.
    domain: &'a OwnedFd,
    filter: Vec<libc::sock_filter>,
}

/// All that a new process needs, in the memory that it shares.
struct Plan {
    files: [RawFd; 4],
    domain: RawFd,
    limits: [(c_long, u64, u64); 5],
    filter: libc::sock_fprog,
    argv: *const *const c_char,
    environment: *const *const c_char,
    failed: Cell<Option<Failed>>,
}

/// The step that failed, and the system's number for why.
#[derive(Clone, Copy)]
struct Failed(&'static str, c_int);

impl<'a> Spawner<'a> {
    pub(super) fn new(domain: &'a OwnedFd) -> Self {
        Self { stack: vec![0; STACK], domain, filter: filter::of_a_call() }
    }

    /// Starts a program; when this returns, it runs.
    ///
    /// * errors: which step failed and what the system said.
    pub(super) fn start(&mut self, program: &Program) -> Result<Pid, String> {
        let argv = Texts::new(&program.argv)?;
        let environment = Texts::new(&program.environment)?;
        let RunLimits { memory_bytes, cpu_seconds } = program.limits;
        let plan = Plan {
            files: program.files.each_ref().map(AsRawFd::as_raw_fd),
            domain: self.domain.as_raw_fd(),
            limits: [
                (c_long::from(libc::RLIMIT_DATA), memory_bytes, memory_bytes),
                (
                    c_long::from(libc::RLIMIT_AS),
                    memory_bytes.saturating_add(ADDRESSES),
                    memory_bytes.saturating_add(ADDRESSES),
                ),
                // A second to end by itself when SIGXCPU says that it is over.
                (c_long::from(libc::RLIMIT_CPU), cpu_seconds, cpu_seconds.saturating_add(1)),
                (c_long::from(libc::RLIMIT_NPROC), THREADS, THREADS),
                (c_long::from(libc::RLIMIT_NOFILE), OPEN_FILES, OPEN_FILES),
            ],
            filter: libc::sock_fprog {
                len: u16::try_from(self.filter.len()).map_err(|why| why.to_string())?,
                filter: self.filter.as_mut_ptr(),
            },
            argv: argv.pointers.as_ptr(),
            environment: environment.pointers.as_ptr(),
            failed: Cell::new(None),
        };
        // SAFETY: the stack is ours, whole, aligned to 16 bytes, and grows down from its end; `plan` and all that it points
        // to live until the call returns, which CLONE_VFORK delays until the new process is past its use of them.
        let pid = unsafe {
            let top = self.stack.as_mut_ptr().add(self.stack.len());
            libc::clone(child, top.cast(), CLONE, (&raw const plan).cast_mut().cast())
        };
        let failed = match pid {
            -1 => Some(Failed("make a process", last_error())),
            _ => plan.failed.get(),
        };
        match (failed, Pid::from_raw(pid)) {
            (None, Some(pid)) => Ok(pid),
            (Some(Failed(step, errno)), _) => Err(format!("cannot {step}: {}", io::Error::from_raw_os_error(errno))),
            (None, None) => Err("no process was made".to_owned()),
        }
    }
}

/// Texts as C wants them: pointers, and a null pointer after the last.
struct Texts {
    pointers: Vec<*const c_char>,
    _owned: Vec<CString>,
}

impl Texts {
    fn new(texts: &[String]) -> Result<Self, String> {
        let owned: Result<Vec<CString>, _> = texts.iter().map(|text| CString::new(text.as_bytes())).collect();
        let owned = owned.map_err(|_| "an argument or a variable holds a zero byte".to_owned())?;
        let pointers = owned.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        Ok(Self { pointers, _owned: owned })
    }
}

/// The new process, on its own stack and in the jail's memory. Nothing here may allocate, lock or panic.
extern "C" fn child(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes a `Plan` and waits, so nobody else touches it meanwhile.
    let plan = unsafe { &*plan.cast::<Plan>() };
    if let Err(failed) = enter(plan) {
        plan.failed.set(Some(failed));
    }
    1
}

/// Gives up what the jail has and a call does not need, then becomes the program: it returns only if that failed.
fn enter(plan: &Plan) -> Result<(), Failed> {
    // SAFETY: system calls on values and pointers that `plan` keeps valid. What they change is this process' own:
    // descriptors, limits, credentials and filters are not shared, only memory is.
    unsafe {
        let (none, old, size) = (0_u64, ptr::null_mut::<u64>(), size_of::<u64>());
        step("let signals in", libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const none, old, size))?;
        step("stand back", libc::syscall(libc::SYS_setpriority, libc::PRIO_PROCESS, 0, NICE))?;
        step("leave the others' reach", libc::syscall(libc::SYS_landlock_restrict_self, plan.domain, 0))?;
        for (from, (to, flags)) in plan.files.iter().zip([(PROGRAM, libc::O_CLOEXEC), (0, 0), (1, 0), (2, 0)]) {
            step("pass its files", libc::syscall(libc::SYS_dup3, *from, to, flags))?;
        }
        step("close other files", libc::syscall(libc::SYS_close_range, 3, PROGRAM - 1, 0))?;
        step("close other files", libc::syscall(libc::SYS_close_range, PROGRAM + 1, libc::c_int::MAX, 0))?;
        for (resource, rlim_cur, rlim_max) in &plan.limits {
            let limit = libc::rlimit64 { rlim_cur: *rlim_cur, rlim_max: *rlim_max };
            let unread = ptr::null_mut::<libc::rlimit64>();
            step("set its limits", libc::syscall(libc::SYS_prlimit64, 0, *resource, &raw const limit, unread))?;
        }
        give_up_powers()?;
        let filter = &raw const plan.filter;
        step("forbid system calls", libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, filter))?;
        let (here, argv, environment) = (c"".as_ptr(), plan.argv, plan.environment);
        step("execute it", libc::syscall(libc::SYS_execveat, PROGRAM, here, argv, environment, libc::AT_EMPTY_PATH))
    }
}

/// A new user namespace begins with all capabilities in it. Its bounding set stays: the program runs as nobody and may gain
/// nothing by executing, so there is no way to one of them; and 41 calls would be a quarter of a start.
fn give_up_powers() -> Result<(), Failed> {
    /// Source: capget(2), `_LINUX_CAPABILITY_VERSION_3`, with sets of 64 bits in two halves.
    const HEADER: [u32; 2] = [0x2008_0522, 0];
    const NONE: [u32; 6] = [0; 6];
    // SAFETY: both are what capset(2) reads for version 3.
    step("give up capabilities", unsafe { libc::syscall(libc::SYS_capset, HEADER.as_ptr(), NONE.as_ptr()) })
}

fn step(what: &'static str, result: c_long) -> Result<(), Failed> {
    match result {
        -1 => Err(Failed(what, last_error())),
        _ => Ok(()),
    }
}

/// Reads a number: no allocation.
fn last_error() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}
