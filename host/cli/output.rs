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

fn println_err(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}
