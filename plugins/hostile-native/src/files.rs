//! Looking for files, and making some.

#![allow(unsafe_code, reason = "asks the kernel directly, around every check of the standard library")]

use crate::attempt::{Attempt, call, check};
use std::ffi::CString;
use std::io;

/// What a host has and an empty root has not.
const SECRETS: [&str; 16] = [
    "/",
    ".",
    "..",
    "/bin/sh",
    "/dev/null",
    "/dev/shm",
    "/etc/passwd",
    "/proc",
    "/proc/1/cmdline",
    "/proc/self/environ",
    "/proc/self/exe",
    "/proc/self/maps",
    "/root",
    "/sys",
    "/tmp",
    "/var/run/docker.sock",
];
/// Where a program may hope to write. The files are removed again.
const WRITABLE: [&str; 6] = ["/", "/tmp", "/dev/shm", "/run", "/var/tmp", "."];
/// Descriptors that a process may have by default. Source: getrlimit(2), RLIMIT_NOFILE.
const DESCRIPTORS: i32 = 1024;

pub(crate) fn attempts() -> Vec<Attempt> {
    let read = SECRETS.map(|path| Attempt::new(format!("open {path}"), move || open(path, libc::O_RDONLY)));
    let stat = SECRETS.map(|path| Attempt::new(format!("stat {path}"), move || stat(path)));
    let make = WRITABLE.map(|folder| Attempt::new(format!("create in {folder}"), move || create(folder)));
    let other = [
        Attempt::new("readlink /proc/self/exe", || std::fs::read_link("/proc/self/exe").map(drop)),
        Attempt::new("mkdir /collector-hostile", make_folder),
        Attempt::new("symlink /collector-hostile", make_link),
        Attempt::new("open_by_handle_at", open_by_handle),
    ];
    read.into_iter().chain(stat).chain(make).chain(other).collect()
}

fn path(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn open(name: &str, flags: i32) -> io::Result<()> {
    // SAFETY: the path is a C string that lives through the call; the descriptor is closed once.
    unsafe {
        let file = check(libc::open(path(name).as_ptr(), flags | libc::O_CLOEXEC))?;
        check(libc::close(i32::try_from(file).unwrap_or(-1))).map(drop)
    }
}

fn stat(name: &str) -> io::Result<()> {
    let mut found = std::mem::MaybeUninit::<libc::stat>::uninit();
    // SAFETY: the path is a C string, and the kernel fills the memory of the right size or leaves it.
    unsafe { check(libc::stat(path(name).as_ptr(), found.as_mut_ptr())).map(drop) }
}

fn create(folder: &str) -> io::Result<()> {
    let file = format!("{folder}/collector-hostile");
    std::fs::write(&file, b"here")?;
    std::fs::remove_file(&file)
}

fn make_folder() -> io::Result<()> {
    std::fs::create_dir("/collector-hostile")?;
    std::fs::remove_dir("/collector-hostile")
}

fn make_link() -> io::Result<()> {
    std::os::unix::fs::symlink("/etc/passwd", "/collector-hostile")?;
    std::fs::remove_file("/collector-hostile")
}

/// The way out of a folder that early containers forgot. Source: open_by_handle_at(2).
fn open_by_handle() -> io::Result<()> {
    // A handle of no bytes: EINVAL where the call is allowed.
    let handle = [0_u32; 2];
    // SAFETY: the kernel reads the two words of the handle's head and no more.
    let returned = unsafe { call(libc::SYS_open_by_handle_at, [libc::AT_FDCWD.into(), handle.as_ptr() as i64]) };
    crate::attempt::allowed(returned, &[libc::EINVAL, libc::ESTALE, libc::EBADF])
}

/// The numbers of all open descriptors.
pub(crate) fn descriptors() -> String {
    // SAFETY: asks for a number's flags and touches nothing.
    let is_open = |file: &i32| unsafe { libc::fcntl(*file, libc::F_GETFD) } != -1;
    let open: Vec<String> = (0..DESCRIPTORS).filter(is_open).map(|file| file.to_string()).collect();
    format!("{}\n", open.join(" "))
}
