//! Lines that became no record, and why.

use super::lines::Text;
use crate::domain::one_line;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// Rejects that are named where there is no file for them: an error is no place for a million.
const NAMED: usize = 10;

/// A line that became no record.
#[derive(Debug)]
pub(super) struct Reject {
    pub(super) line: Text,
    pub(super) error: String,
}

/// One line of the reject file.
#[derive(Serialize)]
struct Written<'a> {
    line: u64,
    error: &'a str,
    /// The line, word for word.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    /// Base64 instead of text that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<String>,
    /// Only the beginning of the line is here.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    cut: bool,
}

/// All rejects of an import.
#[derive(Debug)]
pub(super) struct Rejects {
    file: Option<(PathBuf, BufWriter<File>)>,
    pub(super) count: u64,
    /// The first ones, in words.
    pub(super) named: Vec<String>,
}

impl Rejects {
    /// * `path`: where they are written, overwritten; `None`: nowhere.
    pub(super) fn open(path: Option<&Path>) -> anyhow::Result<Self> {
        let open = |path: &Path| {
            let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            anyhow::Ok((path.to_owned(), BufWriter::new(file)))
        };
        Ok(Self { file: path.map(open).transpose()?, count: 0, named: Vec::new() })
    }

    pub(super) fn add(&mut self, reject: &Reject) -> anyhow::Result<()> {
        self.count += 1;
        if self.named.len() < NAMED {
            self.named.push(format!("line {}: {}", reject.line.number, one_line(&reject.error, 512)));
        }
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        let text = std::str::from_utf8(&reject.line.bytes).ok();
        let written = Written {
            line: reject.line.number,
            error: &reject.error,
            text,
            bytes: if text.is_some() { None } else { Some(BASE64.encode(&reject.line.bytes)) },
            cut: reject.line.too_long,
        };
        let line = serde_json::to_string(&written)?;
        writeln!(file, "{line}").with_context(|| format!("cannot write {}", path.display()))
    }

    /// Writes what is not written yet.
    ///
    /// * errors: there are rejects; the file is full.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        if let Some((path, file)) = &mut self.file {
            file.flush().with_context(|| format!("cannot write {}", path.display()))?;
        }
        match (self.count, self.file) {
            (0, _) => Ok(()),
            (count, Some((path, _))) => {
                anyhow::bail!("{count} lines were rejected; they and the reasons are in {}", path.display())
            }
            (count, None) => {
                let more = match count.saturating_sub(self.named.len() as u64) {
                    0 => String::new(),
                    more => format!("\n  and {more} more; --rejects FILE has them all"),
                };
                anyhow::bail!("{count} lines were rejected\n  {}{more}", self.named.join("\n  "))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(number: u64, bytes: &[u8]) -> Reject {
        Reject { line: Text { number, bytes: bytes.to_vec(), too_long: number == 3, end: 0 }, error: "no".into() }
    }

    #[test]
    fn rejects_are_written_word_for_word() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("rejects");
        let mut rejects = Rejects::open(Some(&path)).unwrap();
        for one in [reject(1, b"{\"a\": \t"), reject(2, b"\xff"), reject(3, b"aaa")] {
            rejects.add(&one).unwrap();
        }
        assert!(rejects.finish().unwrap_err().to_string().contains("3 lines were rejected"));
        let written = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = written.lines().collect();
        assert_eq!(lines[0], r#"{"line":1,"error":"no","text":"{\"a\": \t"}"#.replace('\t', "\\t"));
        assert_eq!(lines[1], r#"{"line":2,"error":"no","bytes":"/w=="}"#);
        assert_eq!(lines[2], r#"{"line":3,"error":"no","text":"aaa","cut":true}"#);
    }

    #[test]
    fn without_a_file_the_first_ones_are_named() {
        let mut rejects = Rejects::open(None).unwrap();
        (1..=12).for_each(|number| rejects.add(&reject(number, b"x")).unwrap());
        let why = rejects.finish().unwrap_err().to_string();
        assert!(why.contains("line 10: no") && !why.contains("line 11") && why.contains("and 2 more"), "{why}");
        Rejects::open(None).unwrap().finish().unwrap();
    }
}
