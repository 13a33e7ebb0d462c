//! A second stage: code that was not uploaded, and memory that is both written and run.

#![allow(unsafe_code, reason = "maps memory, and runs other programs in place of this one")]

use crate::attempt::{Attempt, allowed, call, check};
use libc::{MAP_ANONYMOUS, MAP_PRIVATE, MAP_SHARED, PROT_EXEC, PROT_READ, PROT_WRITE};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _};
use std::ptr::{null, null_mut};

/// Any page size divides it.
const PAGE: usize = 64 << 10;
/// What the kernel finds to be no program, after all permissions were checked.
const NO_PROGRAM: &[u8] = b"none";

pub(crate) fn attempts() -> Vec<Attempt> {
    vec![
        Attempt::new("memfd_create", || memfd().map(drop)),
        Attempt::new("memfd_create and execveat", second_stage),
        Attempt::new("execve /proc/self/exe", || run(c"/proc/self/exe")),
        Attempt::new("execve /plugin", || run(c"/plugin")),
        Attempt::new("execve /bin/sh", || run(c"/bin/sh")),
        Attempt::new("execve of a file that it wrote", run_written),
        Attempt::new("execveat of what is open", || (3..64).map(execveat).fold(Err(nothing()), Result::or)),
        Attempt::new("map RWX", || map(PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS).map(drop)),
        Attempt::new("map shared", || map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS).map(drop)),
        Attempt::new("written memory made executable", written_then_run),
        Attempt::new("own code made writable", own_code),
        Attempt::new("own file written", own_file),
    ]
}

fn memfd() -> io::Result<std::fs::File> {
    // SAFETY: the name is a C string; whoever gets the descriptor owns it.
    unsafe {
        let file = check(call(libc::SYS_memfd_create, [c"second".as_ptr() as i64]))?;
        Ok(std::fs::File::from_raw_fd(i32::try_from(file).unwrap_or(-1)))
    }
}

/// A program made in memory, and run: that it is none is found out last.
fn second_stage() -> io::Result<()> {
    let mut file = memfd()?;
    io::Write::write_all(&mut file, NO_PROGRAM)?;
    execveat(file.as_raw_fd())
}

fn execveat(file: i32) -> io::Result<()> {
    let (words, nothing) = ([c"second".as_ptr(), null()], [null::<libc::c_char>()]);
    let (argv, none) = (words.as_ptr() as i64, nothing.as_ptr() as i64);
    let given = [file.into(), c"".as_ptr() as i64, argv, none, libc::AT_EMPTY_PATH.into()];
    // SAFETY: the lists end in null and live through the call.
    allowed(unsafe { call(libc::SYS_execveat, given) }, &[libc::ENOEXEC])
}

fn nothing() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// What would run in the place of this program never tells, so that its silence does.
fn run(program: &std::ffi::CStr) -> io::Result<()> {
    let (argv, none) = ([program.as_ptr(), null()], [null::<libc::c_char>()]);
    // SAFETY: the lists end in null and live through the call.
    check(unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), none.as_ptr()) }).map(drop)
}

/// That the file is no program is found out last.
fn run_written() -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write("/tmp/collector-hostile", NO_PROGRAM)?;
    std::fs::set_permissions("/tmp/collector-hostile", std::fs::Permissions::from_mode(0o700))?;
    match run(c"/tmp/collector-hostile") {
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => Ok(()),
        other => other,
    }
}

fn map(protection: i32, flags: i32) -> io::Result<*mut u8> {
    // SAFETY: new memory at a place of the kernel's choice.
    let at = unsafe { libc::mmap(null_mut(), PAGE, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(at.cast()) }
}

fn written_then_run() -> io::Result<()> {
    let at = map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)?;
    // SAFETY: the memory was just mapped, writable, and nobody else has it.
    unsafe {
        at.write(0xc3); // `ret`, were it to be run
        check(libc::mprotect(at.cast(), PAGE, PROT_READ | PROT_EXEC)).map(drop)
    }
}

/// The page of this very function.
fn own_code() -> io::Result<()> {
    let page = (own_code as *const () as usize) & !0xfff;
    // SAFETY: protection of a page of code gets wider at most, and nothing is written.
    check(unsafe { libc::mprotect(page as *mut _, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC) }).map(drop)
}

/// The file that this program was started from, as far as it has a name or a descriptor.
fn own_file() -> io::Result<()> {
    let by_name = std::fs::OpenOptions::new().append(true).open("/proc/self/exe").map(drop);
    let written = (3..64).any(|file| {
        // SAFETY: writes nothing, to a descriptor that may not be there.
        unsafe { libc::write(file, null(), 0) == 0 }
    });
    if written { Ok(()) } else { by_name }
}
