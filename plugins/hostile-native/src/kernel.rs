//! The kernel's wider doors: system calls with a history of holes, and those that change what everybody sees.
//!
//! Arguments are wrong on purpose wherever success would change something; which errors prove that the call was let
//! through stands beside each.

#![allow(unsafe_code, reason = "calls the kernel with arguments that no wrapper takes")]

use crate::attempt::{Attempt, allowed, call, check};
use libc::{EBADF, EBUSY, EFAULT, EINVAL, ENODEV, ENOEXEC, ENOKEY};
use std::ptr::null;

/// `personality` that makes all readable memory executable. Source: personality(2), READ_IMPLIES_EXEC.
const READ_IMPLIES_EXEC: i64 = 0x0040_0000;
/// `keyctl` for the id of a keyring, and the session's. Source: keyctl(2).
const KEYCTL_GET_KEYRING_ID: i64 = 0;
const KEY_SPEC_SESSION_KEYRING: i64 = -3;
/// Capability sets of the current layout. Source: capset(2), _LINUX_CAPABILITY_VERSION_3.
const CAPABILITIES: [u32; 2] = [0x2008_0522, 0];

pub(crate) fn attempts() -> Vec<Attempt> {
    [privileges(), doors()].into_iter().flatten().collect()
}

/// Becoming somebody else, or somewhere else.
fn privileges() -> Vec<Attempt> {
    // SAFETY: every pointer is null or a C string literal; what could take effect is undone by the end of the process.
    unsafe {
        vec![
            Attempt::new("setresuid 0", || check(call(libc::SYS_setresuid, [])).map(drop)),
            Attempt::new("setresgid 0", || check(call(libc::SYS_setresgid, [])).map(drop)),
            Attempt::new("all capabilities", all_capabilities),
            Attempt::new("unshare user", || check(libc::unshare(libc::CLONE_NEWUSER)).map(drop)),
            Attempt::new("unshare mount", || check(libc::unshare(libc::CLONE_NEWNS)).map(drop)),
            Attempt::new("unshare net", || check(libc::unshare(libc::CLONE_NEWNET)).map(drop)),
            Attempt::new("setns", || allowed(libc::setns(-1, 0), &[EBADF, EINVAL])),
            Attempt::new("chroot", || check(libc::chroot(c"/".as_ptr())).map(drop)),
            Attempt::new("pivot_root", || {
                allowed(call(libc::SYS_pivot_root, [c"/".as_ptr() as i64; 2]), &[EBUSY, EINVAL])
            }),
            Attempt::new("mount", || {
                allowed(libc::mount(c"none".as_ptr(), c"/".as_ptr(), c"no-such-fs".as_ptr(), 0, null()), &[ENODEV])
            }),
            Attempt::new("fsopen", || allowed(call(libc::SYS_fsopen, [c"no-such-fs".as_ptr() as i64]), &[ENODEV])),
            Attempt::new("sethostname", || allowed(call(libc::SYS_sethostname, [0, -1]), &[EINVAL])),
            Attempt::new("clock_settime", || allowed(call(libc::SYS_clock_settime, []), &[EFAULT])),
            Attempt::new("reboot", || allowed(call(libc::SYS_reboot, []), &[EINVAL])),
            Attempt::new("init_module", || allowed(call(libc::SYS_init_module, []), &[EFAULT, EINVAL, ENOEXEC])),
        ]
    }
}

fn all_capabilities() -> std::io::Result<()> {
    let everything = [u32::MAX; 6];
    // SAFETY: head and sets have the sizes of this layout, and the kernel reads no more.
    check(unsafe { call(libc::SYS_capset, [CAPABILITIES.as_ptr() as i64, everything.as_ptr() as i64]) }).map(drop)
}

/// Calls with a history.
fn doors() -> Vec<Attempt> {
    // SAFETY: every pointer is null or a C string literal; no call here has a valid argument that changes anything.
    unsafe {
        vec![
            Attempt::new("io_uring_setup", || allowed(call(libc::SYS_io_uring_setup, [1, 0]), &[EFAULT])),
            Attempt::new("bpf", || allowed(call(libc::SYS_bpf, []), &[EINVAL, EFAULT])),
            Attempt::new("perf_event_open", || {
                allowed(call(libc::SYS_perf_event_open, [0, 0, -1, -1, 0]), &[EFAULT, EINVAL])
            }),
            Attempt::new("keyctl", || {
                let id = KEY_SPEC_SESSION_KEYRING;
                allowed(call(libc::SYS_keyctl, [KEYCTL_GET_KEYRING_ID, id, 0]), &[ENOKEY])
            }),
            Attempt::new("add_key", || allowed(call(libc::SYS_add_key, []), &[EFAULT, EINVAL])),
            Attempt::new("request_key", || allowed(call(libc::SYS_request_key, []), &[EFAULT])),
            Attempt::new("userfaultfd", || check(call(libc::SYS_userfaultfd, [1])).map(drop)),
            Attempt::new("personality", || check(call(libc::SYS_personality, [READ_IMPLIES_EXEC])).map(drop)),
            Attempt::new("fanotify_init", || check(call(libc::SYS_fanotify_init, [])).map(drop)),
            Attempt::new("inotify_init1", || check(call(libc::SYS_inotify_init1, [])).map(drop)),
            Attempt::new("shmget", || check(libc::shmget(libc::IPC_PRIVATE, 4096, 0o600)).map(drop)),
            Attempt::new("mq_open", || allowed(call(libc::SYS_mq_open, []), &[EFAULT])),
            Attempt::new("seccomp", || allowed(call(libc::SYS_seccomp, [1, 0, 0]), &[EFAULT])),
            Attempt::new("ptrace traceme", || check(call(libc::SYS_ptrace, [])).map(drop)),
            Attempt::new("syslog", || check(call(libc::SYS_syslog, [10, 0, 0])).map(drop)),
            Attempt::new("quotactl", || allowed(call(libc::SYS_quotactl, []), &[ENODEV, EFAULT])),
        ]
    }
}
