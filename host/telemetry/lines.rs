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

/// The same with colours left in: nothing else that begins with an escape.
fn coloured(text: &str) -> String {
    let mut parts = text.split(ESCAPE);
    let mut safe = one_line(parts.next().unwrap_or_default(), usize::MAX);
    for part in parts {
        if is_colour(part) {
            safe.push(ESCAPE);
        } else {
            safe.push_str("\\x1b");
        }
        safe.push_str(&one_line(part, usize::MAX));
    }
    safe
}

/// Whether this is what follows the escape of a colour: `[`, numbers, `m`. Source: ECMA-48, SGR.
fn is_colour(part: &str) -> bool {
    let rest = part.strip_prefix('[').map(|rest| rest.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';'));
    rest.is_some_and(|rest| rest.starts_with('m'))
}

impl<O: Write> Write for Line<O> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let body = event.strip_suffix(b"\n").unwrap_or(event);
        let text = String::from_utf8_lossy(body);
        let safe = match self.colours {
            false => one_line(&text, usize::MAX),
            true => coloured(&text),
        };
        self.out.write_all(format!("{safe}\n").as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
