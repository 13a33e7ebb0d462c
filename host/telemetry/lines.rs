//! Each event is one physical line without escape codes, whatever is in its values.

use crate::domain::one_line;
use std::io::{self, Write};
use tracing_subscriber::fmt::MakeWriter;

/// What begins a colour.
const ESCAPE: char = '\u{1b}';

/// Writes to stderr.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lines<W> {
    out: W,
    colours: bool,
}

impl<W> Lines<W> {
    /// * `colours`: lines have our own on their way to a terminal; in values they are escaped before they get here.
    pub(super) fn new(out: W, colours: bool) -> Self {
        Self { out, colours }
    }
}

impl<'a, O: Write, W: Fn() -> O> MakeWriter<'a> for Lines<W> {
    type Writer = Line<O>;

    fn make_writer(&'a self) -> Line<O> {
        Line { out: (self.out)(), colours: self.colours }
    }
}

/// Writes one event, which comes whole.
pub(super) struct Line<O> {
    out: O,
    colours: bool,
}

impl<O: Write> Write for Line<O> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let body = event.strip_suffix(b"\n").unwrap_or(event);
        let text = String::from_utf8_lossy(body);
        let safe = match self.colours {
            false => one_line(&text, usize::MAX),
            true => text.split(ESCAPE).map(|part| one_line(part, usize::MAX)).collect::<Vec<_>>().join("\u{1b}"),
        };
        self.out.write_all(format!("{safe}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
