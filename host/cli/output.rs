//! Answers on stdout, for people or as one JSON value; everything else goes to stderr.

use super::ClientError;
use anyhow::Context as _;
use serde_json::{Value, json};
use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

/// First exit code of a failed call: 64 + its gRPC code, as plugins built as commands do it.
const EXIT_BASE: i32 = 64;

/// Where answers go.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    json: bool,
}

impl Output {
    pub(super) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Prints an answer: `text` for people, `value` for programs. A closed pipe is nobody's error.
    pub(super) fn answer(&self, text: &str, value: &Value) {
        let mut out = std::io::stdout().lock();
        let _ = if self.json { writeln!(out, "{value}") } else { writeln!(out, "{}", text.trim_end()) };
        let _ = out.flush();
    }

    /// Prints one line of an answer that comes in parts.
    ///
    /// * returns: false if the reader has left.
    pub(super) fn line(&self, text: &str) -> anyhow::Result<bool> {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Ok(()) => Ok(true),
            Err(why) if why.kind() == ErrorKind::BrokenPipe => Ok(false),
            Err(why) => Err(why).context("cannot write to stdout"),
        }
    }

    /// Writes bytes as they are. A reader that has left is nobody's error; a full disk is.
    pub(super) fn raw(&self, bytes: &[u8]) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        match out.write_all(bytes).and_then(|()| out.flush()) {
            Err(why) if why.kind() != ErrorKind::BrokenPipe => Err(why).context("cannot write to stdout"),
            _ => Ok(()),
        }
    }

    /// Whether programs read this.
    pub(super) fn is_json(&self) -> bool {
        self.json
    }

    /// Prints text as it comes, for people only.
    pub(super) fn text(&self, text: &str) {
        if !self.json {
            self.answer(text, &Value::Null);
        }
    }

    /// Prints what was shown as text before, for programs only.
    pub(super) fn finish(&self, value: &Value) {
        if self.json {
            self.answer("", value);
        }
    }

    /// Prints an error that is not the end.
    pub(super) fn error(&self, text: &str) {
        println_err(&if self.json { json!({ "error": text }).to_string() } else { text.to_owned() });
    }

    /// Prints an error and says how the process ends.
    pub(super) fn failure(&self, why: &anyhow::Error) -> ExitCode {
        let status = why.downcast_ref::<ClientError>().and_then(ClientError::status);
        let code = status.map_or(1, |status| EXIT_BASE + i32::from(status.code()));
        if self.json {
            let grpc = status.map(|status| json!({ "code": i32::from(status.code()), "message": status.message() }));
            println_err(&json!({ "error": format!("{why:#}"), "grpc": grpc }).to_string());
        } else {
            println_err(&format!("error: {why:#}"));
        }
        ExitCode::from(u8::try_from(code).unwrap_or(1))
    }
}

/// Rows in columns that line up, a header above them. A row with one cell is a heading, as wide as it likes.
pub(super) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let header: Vec<String> = header.iter().map(|&cell| cell.to_owned()).collect();
    let mut widths = vec![0; header.len()];
    for row in std::iter::once(&header).chain(rows.iter().filter(|row| row.len() > 1)) {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let lines: Vec<String> = std::iter::once(&header).chain(rows).map(line).collect();
    lines.join("\n")
}

fn println_err(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_headings_do_not_push_them() {
        let row = |cells: &[&str]| cells.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>();
        let rows = [row(&["a.very.long.Heading"]), row(&["  Get", "größe", "x"]), row(&["  Put", "y", ""])];
        let text = "NAME   IN     OUT\na.very.long.Heading\n  Get  größe  x\n  Put  y";
        assert_eq!(table(&["NAME", "IN", "OUT"], &rows), text);
    }
}
