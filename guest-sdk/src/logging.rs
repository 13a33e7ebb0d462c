//! Lines in the node's log: the backend of the [`log`] crate, and the line that a panic leaves.

use std::panic::PanicHookInfo;

/// How a line is meant; `Critical` comes right before the guest gives up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl From<log::Level> for Level {
    fn from(level: log::Level) -> Self {
        match level {
            log::Level::Trace => Self::Trace,
            log::Level::Debug => Self::Debug,
            log::Level::Info => Self::Info,
            log::Level::Warn => Self::Warn,
            log::Level::Error => Self::Error,
        }
    }
}

struct Lines;

impl log::Log for Lines {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        match record.args().as_str() {
            Some(text) => write(record.level().into(), record.target(), text),
            None => write(record.level().into(), record.target(), &record.args().to_string()),
        }
    }

    fn flush(&self) {}
}

/// Sends the lines of `log` to the node, and one line of level `critical` if the plugin panics.
/// A backend that is already there stays.
pub(crate) fn install() {
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(log::LevelFilter::Debug);
    }
    std::panic::set_hook(Box::new(|panic| write(Level::Critical, "panic", &panic_line(panic))));
}

/// `panicked at src/lib.rs:1:2: message`.
fn panic_line(panic: &PanicHookInfo<'_>) -> String {
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let text = text.unwrap_or("(a value that is not text)");
    match panic.location() {
        Some(at) => format!("panicked at {at}: {text}"),
        None => format!("panicked: {text}"),
    }
}

#[cfg(target_family = "wasm")]
use crate::component::node::write;

/// One line on standard error, which is where a command's log lines go.
#[cfg(not(target_family = "wasm"))]
fn write(level: Level, target: &str, message: &str) {
    let line = line(level, target, message);
    let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), line.as_bytes());
}

/// `INFO greeter: greeting Ann`, and whatever the message is, one physical line.
#[cfg(not(target_family = "wasm"))]
fn line(level: Level, target: &str, message: &str) -> String {
    let level = format!("{level:?}").to_uppercase();
    format!("{level} {target}: {}\n", one_line(message))
}

/// `text` with its control characters escaped.
#[cfg(not(target_family = "wasm"))]
pub(crate) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn a_line_is_one_physical_line() {
        assert_eq!(
            line(Level::Warn, "greeter::say", "a\nb\r\tc\u{1b}[1m ü"),
            "WARN greeter::say: a\\nb\\r\\tc\\u{1b}[1m ü\n"
        );
        assert_eq!(line(Level::Critical, "panic", ""), "CRITICAL panic: \n");
    }

    #[test]
    fn a_panic_says_where_and_what() {
        static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(|panic| {
            if std::thread::current().name() == Some("dies here") {
                SEEN.lock().unwrap().push(panic_line(panic));
            }
        }));
        let die = |body: fn()| {
            let thread = std::thread::Builder::new().name("dies here".into()).spawn(body).unwrap();
            assert!(thread.join().is_err());
        };
        die(|| panic!("plain"));
        die(|| panic!("with {}", 7));
        die(|| std::panic::panic_any(7_u8));
        std::panic::set_hook(before);
        let seen = SEEN.lock().unwrap();
        let at = |line: &str| line.replace(|c: char| c.is_ascii_digit(), "0");
        assert!(at(&seen[0]).contains("logging.rs:000:00: plain"), "{seen:?}");
        assert!(seen[1].ends_with(": with 7"), "{seen:?}");
        assert!(seen[2].ends_with(": (a value that is not text)"), "{seen:?}");
    }
}
