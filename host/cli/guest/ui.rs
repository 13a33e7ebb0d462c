//! What a command shows while it works: bars on a terminal, one line per step elsewhere, nothing when quiet.
//!
//! All of it goes to stderr, so that stdout stays a result. Writing may fail (a closed pipe); that never stops the work.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{HumanDuration, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const STEP: &str = "{spinner} {msg} [{elapsed}]";
const BYTES: &str = "{spinner} {msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec}";
const FLOW: &str = "{spinner} {msg} {bytes} {bytes_per_sec}";
const RECORDS: &str = "{spinner} {msg} [{bar:30}] {human_pos}/{human_len} records {per_sec}";
const FRAMES: &str = "|/-\\ ";
const FRAME_TIME: Duration = Duration::from_millis(120);

/// Where progress goes. Cheap to clone; clones draw on the same screen area.
#[derive(Clone, Debug)]
pub struct Ui {
    output: Output,
}

#[derive(Clone, Debug)]
enum Output {
    Quiet,
    Plain,
    Live(MultiProgress),
}

impl Ui {
    /// * `quiet`: show nothing at all; errors are returned, not shown, so they are not lost.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let output = if quiet {
            Output::Quiet
        } else if std::io::stderr().is_terminal() {
            Output::Live(MultiProgress::with_draw_target(ProgressDrawTarget::stderr()))
        } else {
            Output::Plain
        };
        Self { output }
    }

    /// Whether nothing is shown.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        matches!(self.output, Output::Quiet)
    }

    /// Starts a step of unknown length; it ends when the returned value is dropped.
    #[must_use]
    pub fn step(&self, text: &str) -> Step {
        Step { _bar: self.bar(text, STEP, None) }
    }

    /// Starts a step measured in bytes; it ends when the returned value is dropped.
    /// * `total`: bytes at the end; 0: nobody knows.
    #[must_use]
    pub fn bytes(&self, text: &str, total: u64) -> Measured {
        let (template, total) = if total == 0 { (FLOW, None) } else { (BYTES, Some(total)) };
        Measured { bar: self.bar(text, template, total) }
    }

    /// Starts a step measured in records; it ends when the returned value is dropped.
    /// * `total`: records at the end, as far as that is known now.
    #[must_use]
    pub fn records(&self, text: &str, total: u64) -> Measured {
        Measured { bar: self.bar(text, RECORDS, Some(total)) }
    }

    /// Shows one line that stays.
    pub fn note(&self, text: &str) {
        match &self.output {
            Output::Quiet => {}
            Output::Plain => say(text),
            Output::Live(screen) => screen.suspend(|| say(text)),
        }
    }

    fn bar(&self, text: &str, template: &str, total: Option<u64>) -> Bar {
        let Output::Live(screen) = &self.output else {
            self.note(text);
            return Bar(None);
        };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = screen.add(total.map_or_else(ProgressBar::new_spinner, ProgressBar::new));
        bar.set_style(style.tick_chars(FRAMES).progress_chars("=> "));
        bar.set_message(text.to_owned());
        bar.enable_steady_tick(FRAME_TIME);
        Bar(Some((bar, self.clone())))
    }
}

/// A message that cannot be shown has nowhere else to go, so the outcome is dropped.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A step under way, shown until dropped.
#[derive(Debug)]
pub struct Step {
    _bar: Bar,
}

/// A step that is measured, shown until dropped.
#[derive(Debug)]
pub struct Measured {
    bar: Bar,
}

impl Measured {
    /// * `done`: so far, not since the last call.
    pub fn set(&self, done: u64) {
        if let Some((bar, _)) = &self.bar.0 {
            bar.set_position(done);
        }
    }
}

#[derive(Debug)]
struct Bar(Option<(ProgressBar, Ui)>);

impl Drop for Bar {
    /// Leaves a line that claims no success: an error drops its step too.
    fn drop(&mut self) {
        if let Some((bar, ui)) = self.0.take() {
            let line = format!("  {} [{}]", bar.message(), HumanDuration(bar.elapsed()));
            bar.finish_and_clear();
            ui.note(&line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_shows_nothing_and_still_works() {
        let ui = Ui::new(true);
        let bytes = ui.bytes("fetching", 10);
        bytes.set(10);
        let _step = ui.step("building");
        assert!(ui.is_quiet() && bytes.bar.0.is_none());
    }

    #[test]
    fn templates_are_valid() {
        for template in [STEP, BYTES, FLOW, RECORDS] {
            ProgressStyle::with_template(template).unwrap();
        }
    }
}
