//! Ends that nobody expects.

#![allow(unsafe_code, reason = "ends without the standard library's good manners")]

use std::time::Duration;

/// Writes where no memory is.
pub(crate) fn crash() -> String {
    // SAFETY: there is none that this could be; the kernel ends the process here.
    unsafe { std::ptr::without_provenance_mut::<u8>(1).write_volatile(1) };
    String::new()
}

/// Ends by this signal, if it ends.
#[allow(clippy::cast_possible_truncation, reason = "the kernel refuses a signal that does not exist")]
pub(crate) fn raise(signal: u64) -> String {
    // SAFETY: the default of every signal is to end the process, or nothing.
    unsafe {
        libc::signal(signal as i32, libc::SIG_DFL);
        libc::raise(signal as i32);
    }
    format!("lived through signal {signal}\n")
}

/// Closes its three streams, unread and unwritten, and goes on for so many milliseconds.
pub(crate) fn close_everything(ms: u64) -> String {
    close_streams();
    std::thread::sleep(Duration::from_millis(ms));
    String::new()
}

/// Closes the standard streams; what is said from here on goes nowhere.
pub(crate) fn close_streams() {
    for file in 0..3 {
        // SAFETY: whoever uses them is told that they are closed.
        unsafe { libc::close(file) };
    }
}
