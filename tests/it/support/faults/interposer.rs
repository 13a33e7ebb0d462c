//! A library that stands between a node and the system calls that write: `LD_PRELOAD`ed into a process, it fails them as a
//! control file says. Not a module of the tests: they compile it on its own (`--crate-type=cdylib`).
//!
//! `FAULTS_CONTROL`: a file of [`WORDS`] little-endian words, shared. `FAULTS_FOLDER`: only files below it are touched,
//! so that sockets, logs and libraries never fail.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::SeqCst};

/// Words of the control file. 0: fsyncs and fdatasyncs that succeed before some fail. 1: how many fail then. 2: writes that
/// succeed before the disk is full. 3: whether it fills up at all. 4: writes seen. 5: syncs seen.
const WORDS: usize = 6;

const EIO: c_int = 5;
const ENOSPC: c_int = 28;
const O_RDWR: c_int = 2;
const PROT_READ_WRITE: c_int = 3;
const MAP_SHARED: c_int = 1;
const RTLD_NEXT: *mut c_void = -1_isize as *mut c_void;

unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn getenv(name: *const c_char) -> *const c_char;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn mmap(at: *mut c_void, length: usize, prot: c_int, flags: c_int, fd: c_int, offset: c_long) -> *mut c_void;
    fn readlink(path: *const c_char, into: *mut c_char, size: usize) -> isize;
    fn __errno_location() -> *mut c_int;
}

/// The control file, mapped; `None` where the environment names none.
fn control() -> Option<&'static [AtomicU64; WORDS]> {
    static MAPPED: OnceLock<Option<&'static [AtomicU64; WORDS]>> = OnceLock::new();
    *MAPPED.get_or_init(|| {
        // SAFETY: the name is NUL-terminated, and nothing changes the environment of a node that has started.
        let path = unsafe { getenv(c"FAULTS_CONTROL".as_ptr()) };
        if path.is_null() {
            return None;
        }
        // SAFETY: the path is a C string of the environment; the mapping is checked before it is used and never unmapped.
        let at = unsafe {
            let fd = open(path, O_RDWR);
            mmap(std::ptr::null_mut(), WORDS * 8, PROT_READ_WRITE, MAP_SHARED, fd, 0)
        };
        // SAFETY: a mapping is aligned to a page, the test made the file large enough, and both sides use it atomically.
        (at as isize != -1).then(|| unsafe { &*at.cast() })
    })
}

/// Whether a descriptor is of a file that faults are for.
fn is_ours(fd: c_int) -> bool {
    // SAFETY: as in `control`.
    let folder = unsafe { getenv(c"FAULTS_FOLDER".as_ptr()) };
    if folder.is_null() {
        return false;
    }
    // SAFETY: checked above; it stays where it is.
    let folder = unsafe { CStr::from_ptr(folder) }.to_bytes();
    let name = format!("/proc/self/fd/{fd}\0");
    let mut path = [0_u8; 4_096];
    // SAFETY: the name is NUL-terminated, and the size is the buffer's.
    let length = unsafe { readlink(name.as_ptr().cast(), path.as_mut_ptr().cast(), path.len()) };
    usize::try_from(length).is_ok_and(|length| path[..length].starts_with(folder))
}

/// Takes one from a word, if there is one left.
fn take(word: &AtomicU64) -> bool {
    word.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
}

/// Whether a sync of this file is to fail.
fn sync_fails(fd: c_int) -> bool {
    let Some(control) = control() else { return false };
    if !is_ours(fd) {
        return false;
    }
    control[5].fetch_add(1, SeqCst);
    let fails = control[1].load(SeqCst) > 0 && !take(&control[0]) && take(&control[1]);
    fails && fail(EIO)
}

/// Whether a write to this file meets a full disk.
fn write_fails(fd: c_int) -> bool {
    let Some(control) = control() else { return false };
    if !is_ours(fd) {
        return false;
    }
    control[4].fetch_add(1, SeqCst);
    let full = control[3].load(SeqCst) > 0 && !take(&control[2]);
    full && fail(ENOSPC)
}

fn fail(why: c_int) -> bool {
    // SAFETY: it is this thread's own.
    unsafe { *__errno_location() = why };
    true
}

/// The function of this name that would have been called.
fn real(name: &'static CStr, cached: &AtomicPtr<c_void>) -> *mut c_void {
    let known = cached.load(SeqCst);
    if !known.is_null() {
        return known;
    }
    // SAFETY: the name is NUL-terminated. Every name here is one that libc has.
    let found = unsafe { dlsym(RTLD_NEXT, name.as_ptr()) };
    cached.store(found, SeqCst);
    found
}

macro_rules! interpose {
    ($name:ident, $c_name:literal, $fails:ident, ($($arg:ident: $kind:ty),*) -> $out:ty) => {
        /// As in libc, but for the faults.
        ///
        /// # Safety
        /// As in libc.
        // SAFETY: the name is libc's, and so is the signature; replacing it is what this library is for.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(fd: c_int $(, $arg: $kind)*) -> $out {
            static REAL: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
            if $fails(fd) {
                return -1;
            }
            // SAFETY: what `dlsym` finds under this name has this signature.
            let real: unsafe extern "C" fn(c_int $(, $kind)*) -> $out =
                unsafe { std::mem::transmute(real($c_name, &REAL)) };
            // SAFETY: the caller keeps libc's rules.
            unsafe { real(fd $(, $arg)*) }
        }
    };
}

interpose!(fsync, c"fsync", sync_fails, () -> c_int);
interpose!(fdatasync, c"fdatasync", sync_fails, () -> c_int);
interpose!(write, c"write", write_fails, (from: *const c_void, size: usize) -> isize);
interpose!(pwrite, c"pwrite", write_fails, (from: *const c_void, size: usize, at: i64) -> isize);
interpose!(pwrite64, c"pwrite64", write_fails, (from: *const c_void, size: usize, at: i64) -> isize);
