//! What processes of ours give up before they touch what strangers made: jails ([`super::memexec::launcher`]) and the
//! compiler ([`super::compile`]).
#![allow(unsafe_code, reason = "close_range, landlock_restrict_self, signal and prctl exist only as C functions")]

use rustix::process::{DumpableBehavior, set_dumpable_behavior};
use rustix::thread::{CapabilitySet, CapabilitySets};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

/// Turns C's way of failing into Rust's.
pub(super) fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

/// Closes this and all higher file descriptors: what the node has open is not for here.
pub(super) fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: called where nothing that is open at or above `first` is used or closed again, as the callers take care of.
    let done = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    checked(i32::try_from(done).unwrap_or(-1)).map(drop)
}

/// Adds a set of Landlock rules to what this process may not do, for ever.
pub(super) fn restrict_self(rules: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes numbers only.
    let done = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, rules.as_raw_fd(), 0) };
    checked(i32::try_from(done).unwrap_or(-1)).map(drop)
}

/// Gives every signal its default action, whatever the node's parents or Rust's start have set: programs inherit what is
/// ignored.
pub(super) fn default_signals() -> io::Result<()> {
    for signal in 1..=libc::SIGRTMAX() {
        // SAFETY: SIG_DFL is no code of ours. KILL, STOP and the C library's own are refused, which is as good.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    Ok(())
}

/// Gives up all capabilities that programs could ever have again, the kernel's newest included.
fn drop_bounding_set() -> io::Result<()> {
    /// The kernel keeps capabilities in 64 bits.
    const CAPABILITIES: libc::c_ulong = 64;
    for capability in 0..CAPABILITIES {
        // SAFETY: takes a number.
        match checked(unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) }) {
            Err(why) if why.raw_os_error() == Some(libc::EINVAL) => break, // the last one that this kernel knows is past
            other => other?,
        };
    }
    Ok(())
}

/// Has no capability any more, nor after any exec, and may gain none.
pub(super) fn no_capabilities() -> io::Result<()> {
    match drop_bounding_set() {
        // Only who has the capability for it may: who has none loses nothing.
        Err(why) if why.kind() == io::ErrorKind::PermissionDenied && !rustix::process::geteuid().is_root() => {}
        other => other?,
    }
    rustix::thread::clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    rustix::thread::set_no_new_privs(true)?;
    // Nobody looks into this process.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    Ok(())
}
