//! What the docs promise about `tracing`: with its feature `log` and no subscriber, its events are lines of the plugin's log.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may panic")]

use std::sync::Mutex;

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Seen;

impl log::Log for Seen {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        LINES.lock().unwrap().push(format!("{} {}: {}", record.level(), record.target(), record.args()));
    }
    fn flush(&self) {}
}

#[test]
fn events_of_tracing_are_lines_of_log() {
    log::set_logger(&Seen).unwrap();
    log::set_max_level(log::LevelFilter::Debug);
    tracing::info!(name = "Ann", "greeting");
    tracing::trace!("not this");
    let lines = LINES.lock().unwrap();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("INFO events: greeting name="), "{lines:?}");
}
