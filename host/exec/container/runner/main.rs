//! The program inside a container that is kept between calls: runs `/plugin` once per call, as a fresh process, and sees
//! to it that nothing of it is left for the next one.
//!
//! `std` only, compiled by the node's build script for this machine, static, and put beside the plugin's binary.
//! What keeps calls apart: the runner cannot be traced or looked into (not dumpable); neither it nor any plugin reaches
//! the container's init (Landlock lets a process trace and open files of its own kind only); after a call everything
//! that runs is killed and `/tmp`, the only place to write to, is emptied. If any of it fails the container is given up.

mod wire;

use std::fs::File;
use std::io::{Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::FromRawFd;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitStatus, Stdio, exit};
use std::time::Duration;
use wire::{CALL, DONE, Fields, HEAD, HELLO, Head, PIECE_MAX, STDERR, STDOUT};

/// Largest call that is taken. 34 MiB: the largest request that a node can be set to, and its JSON.
const CALL_MAX: usize = 34 << 20;
/// How long output may wait for company: what comes within it travels together.
const LINGER_MS: i32 = 5;
/// A write to a pipe that is ready takes this much without blocking. Source: pipe(7), PIPE_BUF.
const ATOMIC: usize = 4_096;
/// How often killing is tried, a millisecond between: processes that end take a moment.
const KILLS: u32 = 1_000;
/// The exit code for a program that cannot be started. Source: POSIX shells.
const NOT_STARTED: i32 = 127;

/// Source: poll(2).
#[repr(C)]
struct PollFd {
    fd: RawFd,
    events: i16,
    revents: i16,
}

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;
const POLLERR: i16 = 8;
const POLLHUP: i16 = 16;

unsafe extern "C" {
    fn kill(pid: i32, signal: i32) -> i32;
    fn poll(fds: *mut PollFd, count: u64, timeout: i32) -> i32;
    fn prctl(option: i32, value: u64, unused3: u64, unused4: u64, unused5: u64) -> i32;
    fn syscall(number: i64, ...) -> i64;
}

fn main() {
    let (mut from, mut to) = (standard(0), standard(1));
    let stands = close_off();
    let why = stands.err().unwrap_or_default();
    send(&mut to, HELLO, 0, why.as_bytes());
    if !why.is_empty() {
        exit(1);
    }
    loop {
        let mut head = [0; HEAD];
        if from.read_exact(&mut head).is_err() {
            exit(0); // the node has left
        }
        let Some(head) = Head::read(&head, CALL_MAX) else { exit(2) };
        let mut body = vec![0; head.length];
        if head.kind != CALL || from.read_exact(&mut body).is_err() {
            exit(2);
        }
        let clean = serve(&mut to, head.id, &body);
        if clean.is_none() {
            exit(3);
        }
    }
}

/// One of the standard streams, unbuffered.
fn standard(fd: RawFd) -> ManuallyDrop<File> {
    // SAFETY: the streams are open from the start to the end, and never closed by the file.
    ManuallyDrop::new(unsafe { File::from_raw_fd(fd) })
}

/// Sends one frame in one write.
fn send(to: &mut File, kind: u8, id: u64, body: &[u8]) {
    let mut frame = Vec::new();
    push(&mut frame, kind, id, body);
    if to.write_all(&frame).is_err() {
        exit(0); // nobody reads any more
    }
}

fn push(frames: &mut Vec<u8>, kind: u8, id: u64, body: &[u8]) {
    frames.extend_from_slice(&Head { kind, length: body.len(), id }.bytes());
    frames.extend_from_slice(body);
}

/// One call. `None` if something of it may be left: nothing else may run here then.
fn serve(to: &mut File, id: u64, body: &[u8]) -> Option<()> {
    let mut fields = Fields(body);
    let (arguments, environment) = (texts(&mut fields)?, texts(&mut fields)?);
    let mut frames = Vec::new();
    let status = match start(&arguments, &environment) {
        Ok(child) => Exchange { to, id, frames: &mut frames }.run(child, fields.0)?,
        Err(why) => {
            push(&mut frames, STDERR, id, format!("the program cannot be started: {why}\n").as_bytes());
            ExitStatus::from_raw(NOT_STARTED << 8)
        }
    };
    let clean = empty("/tmp");
    let mut done = Vec::with_capacity(9);
    done.extend_from_slice(&status.code().unwrap_or(-1).to_le_bytes());
    done.extend_from_slice(&status.signal().unwrap_or(0).to_le_bytes());
    done.push(u8::from(clean));
    push(&mut frames, DONE, id, &done);
    if to.write_all(&frames).is_err() {
        exit(0);
    }
    clean.then_some(())
}

/// The next list of texts.
fn texts<'a>(fields: &mut Fields<'a>) -> Option<Vec<&'a str>> {
    let count = fields.number()?;
    let mut texts = Vec::new(); // grows with what is there, not with what the number says
    for _ in 0..count {
        let length = fields.number()?;
        texts.push(std::str::from_utf8(fields.take(length)?).ok()?);
    }
    Some(texts)
}

fn start(arguments: &[&str], environment: &[&str]) -> std::io::Result<Child> {
    let variables = environment.iter().filter_map(|pair| pair.split_once('='));
    let mut command = Command::new("/plugin");
    // Nothing that would need a fork: with these alone the standard library spawns without one. It is in `/` already.
    command.args(arguments).env_clear().envs(variables);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
}

/// A running call's three streams.
struct Exchange<'a> {
    to: &'a mut File,
    id: u64,
    /// Frames that wait to be sent.
    frames: &'a mut Vec<u8>,
}

impl Exchange<'_> {
    /// Until the program itself has ended, whatever it started; then all of that is killed.
    fn run(mut self, mut child: Child, input: &[u8]) -> Option<ExitStatus> {
        let ended = pidfd(child.id())?;
        let mut stdin = child.stdin.take();
        let mut left = input;
        let (mut stdout, mut stderr) = (child.stdout.take()?, child.stderr.take()?);
        let (mut out_open, mut err_open) = (true, true);
        loop {
            if left.is_empty() {
                stdin = None;
            }
            let none = |open: bool, fd: RawFd| if open { fd } else { -1 };
            let mut fds = [
                PollFd { fd: none(out_open, stdout.as_raw_fd()), events: POLLIN, revents: 0 },
                PollFd { fd: none(err_open, stderr.as_raw_fd()), events: POLLIN, revents: 0 },
                PollFd { fd: stdin.as_ref().map_or(-1, |stdin| stdin.as_raw_fd()), events: POLLOUT, revents: 0 },
                PollFd { fd: ended.as_raw_fd(), events: POLLIN, revents: 0 },
                PollFd { fd: 0, events: 0, revents: 0 },
            ];
            let linger = if self.frames.is_empty() { -1 } else { LINGER_MS };
            if wait(&mut fds, linger) == 0 {
                self.flush();
                continue;
            }
            let [out, err, feed, end, node] = fds;
            if node.revents & (POLLHUP | POLLERR) != 0 {
                exit(0); // the node has left; the container ends with this process, and all in it
            }
            if out.revents != 0 {
                out_open = self.pass(STDOUT, &mut stdout);
            }
            if err.revents != 0 {
                err_open = self.pass(STDERR, &mut stderr);
            }
            if let (true, Some(stdin)) = (feed.revents != 0, stdin.as_mut()) {
                left = after_feeding(stdin, left);
            }
            if end.revents != 0 {
                break;
            }
        }
        let status = child.wait().ok()?;
        if !kill_all() {
            return None;
        }
        // Whatever could write is dead: what is in the pipes is all there is.
        while out_open && self.pass(STDOUT, &mut stdout) {}
        while err_open && self.pass(STDERR, &mut stderr) {}
        Some(status)
    }

    /// Passes one piece on. `false` at the end of the stream.
    fn pass(&mut self, kind: u8, from: &mut impl Read) -> bool {
        let mut piece = [0; PIECE_MAX];
        let read = from.read(&mut piece).unwrap_or(0);
        if read > 0 {
            push(self.frames, kind, self.id, piece.get(..read).unwrap_or_default());
        }
        if self.frames.len() >= PIECE_MAX {
            self.flush();
        }
        read > 0
    }

    fn flush(&mut self) {
        if self.to.write_all(self.frames).is_err() {
            exit(0);
        }
        self.frames.clear();
    }
}

/// Writes what fits without waiting; returns the rest.
fn after_feeding<'a>(stdin: &mut impl Write, input: &'a [u8]) -> &'a [u8] {
    match stdin.write(input.get(..ATOMIC).unwrap_or(input)) {
        Ok(written) => input.get(written..).unwrap_or_default(),
        Err(_closed) => &[], // it need not read what it was sent
    }
}

/// Waits for any of them. 0: nothing came in time.
fn wait(fds: &mut [PollFd], timeout_ms: i32) -> i32 {
    // SAFETY: the pointer and the count are of one live slice, laid out as the kernel wants it.
    let ready = unsafe { poll(fds.as_mut_ptr(), fds.len() as u64, timeout_ms) };
    if ready < 0 && std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
        exit(4);
    }
    ready
}

/// A file that becomes readable when the process ends. Source: pidfd_open(2), the same number on all machines.
fn pidfd(pid: u32) -> Option<File> {
    const PIDFD_OPEN: i64 = 434;
    // SAFETY: takes two integers and returns a new file or -1.
    let fd = unsafe { syscall(PIDFD_OPEN, i64::from(pid), 0_i64) };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: it has just been opened and nobody else has it.
    Some(unsafe { File::from_raw_fd(fd) })
}

/// Kills everything in the container but this process and its init. Source: kill(2), pid -1.
fn kill_all() -> bool {
    const SIGKILL: i32 = 9;
    for _ in 0..KILLS {
        // SAFETY: takes two integers. In a container of its own it reaches what is in the container.
        if unsafe { kill(-1, SIGKILL) } != 0 {
            return true; // nobody is left
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// Removes all that a folder has.
fn empty(folder: &str) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries.into_iter().all(|entry| {
        let Ok(entry) = entry else { return false };
        let path = entry.path();
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder { std::fs::remove_dir_all(path).is_ok() } else { std::fs::remove_file(path).is_ok() }
    })
}

/// Makes this process unreadable for plugins, and everything outside of its own kind for it and them.
///
/// Landlock: whoever is in a domain can trace, and open the `/proc` files of, processes in it only. The init is outside.
/// The rules themselves change nothing: files can be made where there is a place to, `/tmp`. Source: landlock(7).
fn close_off() -> Result<(), &'static str> {
    const SET_DUMPABLE: i32 = 4;
    const SET_NO_NEW_PRIVS: i32 = 38;
    const CREATE_RULESET: i64 = 444;
    const ADD_RULE: i64 = 445;
    const RESTRICT_SELF: i64 = 446;
    const PATH_BENEATH: i64 = 1;
    /// Making anything (bits 6 to 12) and moving between folders (bit 13).
    const MAKE: u64 = 0b11_1111_1100_0000;
    /// Source: linux/landlock.h. It is packed there.
    #[repr(C, packed)]
    struct PathBeneath {
        allowed: u64,
        parent: i32,
    }
    // SAFETY: integers only.
    let private = unsafe { prctl(SET_DUMPABLE, 0, 0, 0, 0) == 0 && prctl(SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 };
    if !private {
        return Err("this process cannot be made private");
    }
    let handled: u64 = MAKE;
    // SAFETY: the pointer and the size are of one live number, as the first version of the interface has it.
    let rules = unsafe { syscall(CREATE_RULESET, &raw const handled, size_of::<u64>(), 0_i64) };
    let Ok(rules @ 0..) = i32::try_from(rules) else { return Err("the kernel has no Landlock (5.19 or later)") };
    // SAFETY: it has just been opened and nobody else has it.
    let rules = unsafe { File::from_raw_fd(rules) };
    let tmp = File::open("/tmp").map_err(|_why| "there is no /tmp")?;
    let rule = PathBeneath { allowed: MAKE, parent: tmp.as_raw_fd() };
    // SAFETY: the files are open, the rule is alive, and laid out as the kernel wants it.
    let closed = unsafe {
        syscall(ADD_RULE, i64::from(rules.as_raw_fd()), PATH_BENEATH, &raw const rule, 0_i64) == 0
            && syscall(RESTRICT_SELF, i64::from(rules.as_raw_fd()), 0_i64) == 0
    };
    if closed { Ok(()) } else { Err("Landlock cannot be used here") }
}
