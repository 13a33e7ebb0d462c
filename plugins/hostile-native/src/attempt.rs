//! Questions to the kernel, by name.

#![allow(unsafe_code, reason = "any system call, with any arguments")]

use std::io;

/// One thing that a sandbox must not allow.
pub(crate) struct Attempt {
    pub(crate) name: String,
    run: Box<dyn Fn() -> io::Result<()>>,
}

impl Attempt {
    /// * `run`: harmless, also where it is allowed.
    pub(crate) fn new(name: impl Into<String>, run: impl Fn() -> io::Result<()> + 'static) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }
}

/// Every attempt.
pub(crate) fn all() -> Vec<Attempt> {
    let parts = [
        crate::files::attempts(),
        crate::processes::attempts(),
        crate::sockets::attempts(),
        crate::kernel::attempts(),
        crate::memory::attempts(),
    ];
    parts.into_iter().flatten().collect()
}

/// Tries what is named, or everything.
pub(crate) fn report(names: &str) -> String {
    let wanted: Vec<&str> = names.lines().collect();
    let chosen = all().into_iter().filter(|one| wanted.is_empty() || wanted.contains(&one.name.as_str()));
    chosen.map(|one| format!("{}: {}\n", one.name, outcome(&(one.run)()))).collect()
}

/// `ok`, or the error's name.
pub(crate) fn outcome(result: &io::Result<()>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.raw_os_error().map_or_else(|| error.to_string(), name_of),
    }
}

/// Any system call.
///
/// # Safety
///
/// As of the call itself: what is a pointer must be null, or good for what the kernel does with it.
pub(crate) unsafe fn call<const N: usize>(number: libc::c_long, given: [i64; N]) -> i64 {
    let mut all = [0; 6];
    all.iter_mut().zip(given).for_each(|(slot, value)| *slot = value);
    let [a, b, c, d, e, f] = all;
    // SAFETY: the caller's; arguments that a call does not have are not looked at.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

/// What a system call returned, as a result.
pub(crate) fn check(returned: impl Into<i64>) -> io::Result<i64> {
    match returned.into() {
        -1 => Err(io::Error::last_os_error()),
        fine => Ok(fine),
    }
}

/// Like `check`, where the arguments are wrong on purpose: an error of `proof` says that the call itself was allowed.
pub(crate) fn allowed(returned: impl Into<i64>, proof: &[i32]) -> io::Result<()> {
    match check(returned) {
        Err(error) if error.raw_os_error().is_some_and(|code| proof.contains(&code)) => Ok(()),
        other => other.map(drop),
    }
}

/// Source: errno(3), those that sandboxes answer with.
pub(crate) fn name_of(code: i32) -> String {
    let known = match code {
        libc::EPERM => "EPERM",
        libc::ENOENT => "ENOENT",
        libc::ESRCH => "ESRCH",
        libc::EIO => "EIO",
        libc::EBADF => "EBADF",
        libc::EAGAIN => "EAGAIN",
        libc::ENOMEM => "ENOMEM",
        libc::EACCES => "EACCES",
        libc::EFAULT => "EFAULT",
        libc::EBUSY => "EBUSY",
        libc::EEXIST => "EEXIST",
        libc::ENODEV => "ENODEV",
        libc::ENOTDIR => "ENOTDIR",
        libc::EINVAL => "EINVAL",
        libc::EMFILE => "EMFILE",
        libc::EFBIG => "EFBIG",
        libc::ENOSPC => "ENOSPC",
        libc::EROFS => "EROFS",
        libc::ENOSYS => "ENOSYS",
        libc::EAFNOSUPPORT => "EAFNOSUPPORT",
        libc::EPROTONOSUPPORT => "EPROTONOSUPPORT",
        libc::ESOCKTNOSUPPORT => "ESOCKTNOSUPPORT",
        libc::ENETUNREACH => "ENETUNREACH",
        libc::ECONNREFUSED => "ECONNREFUSED",
        libc::EOPNOTSUPP => "EOPNOTSUPP",
        other => return format!("errno {other}"),
    };
    known.to_owned()
}
