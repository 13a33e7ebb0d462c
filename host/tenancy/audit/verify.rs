//! Reading the log as a stranger would: is it what was written?

use super::chain::{Hash, Kind, LINE_MAX, Sealed};
use super::file::{HEAD, read_head};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

/// Notes that are kept for an answer.
const NOTES_MAX: usize = 100;

/// What the log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Files that were read.
    pub files: usize,
    /// The first record that there is; 1, unless old files were removed.
    pub first: u64,
    /// The last record that is good.
    pub last: u64,
    /// Its hash, to be kept in another place.
    pub hash: String,
    /// What the node itself noted: lines that a crash tore, records that were missing when it started.
    pub notes: Vec<String>,
    /// The first thing that is wrong; nothing after it was looked at.
    pub problem: Option<Problem>,
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// File name.
    pub file: String,
    /// Line in the file, from 1; 0 where it is the end that is missing.
    pub line: u64,
    /// What it is.
    pub what: String,
}

/// The log's files, oldest first.
pub fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| first_record(path).is_some())
        .collect();
    found.sort(); // their numbers have leading zeros
    Ok(found)
}

/// The number of a file's first record, as its name has it.
pub(super) fn first_record(path: &Path) -> Option<u64> {
    path.file_name()?.to_str()?.strip_prefix("audit-")?.strip_suffix(".jsonl")?.parse().ok()
}

/// Checks every line of the log against the one before it, and its end against the head.
///
/// * errors: a file cannot be read, or there is none.
pub fn verify(folder: &Path) -> io::Result<Verified> {
    // First: a node that runs meanwhile goes on.
    let head = File::open(folder.join(HEAD)).ok().and_then(|head| read_head(&head));
    let files = files(folder)?;
    if files.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "there is no audit log here"));
    }
    let mut walk = Walk { head, ..Walk::default() };
    let mut problem = None;
    for path in &files {
        if let Err(wrong) = walk.file(path)? {
            problem = Some(wrong);
            break;
        }
    }
    if problem.is_none() {
        let name = files.last().map(|path| name_of(path)).unwrap_or_default();
        problem = walk.whole().err().map(|what| Problem { file: name, line: 0, what });
    }
    let (last, hash) = walk.last.unwrap_or_default();
    Ok(Verified { files: files.len(), first: walk.first, last, hash: hex::encode(hash), notes: walk.notes, problem })
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

#[derive(Default)]
struct Walk {
    head: Option<(u64, Hash)>,
    first: u64,
    last: Option<(u64, Hash)>,
    /// The last record that a record says was removed.
    removed: u64,
    notes: Vec<String>,
}

impl Walk {
    fn file(&mut self, path: &Path) -> io::Result<Result<(), Problem>> {
        let mut reader = BufReader::new(File::open(path)?);
        let mut number = 0;
        let mut line = Vec::new();
        loop {
            line.clear();
            let most = LINE_MAX as u64 + 1;
            reader.by_ref().take(most).read_until(b'\n', &mut line)?;
            if line.is_empty() {
                return Ok(Ok(()));
            }
            number += 1;
            let is_last = reader.fill_buf()?.is_empty();
            let whole = match line.strip_suffix(b"\n") {
                Some(whole) => self.line(whole, number == 1),
                None if is_last => {
                    self.note("the last line is not whole: it is being written, or a crash tore it".to_owned());
                    return Ok(Ok(()));
                }
                None => Err(format!("the line has more than {LINE_MAX} bytes")),
            };
            if let Err(what) = whole {
                return Ok(Err(Problem { file: name_of(path), line: number, what }));
            }
        }
    }

    fn line(&mut self, line: &[u8], begins_file: bool) -> Result<(), String> {
        let sealed = Sealed::read(line).ok_or("the line is no record: it was edited")?;
        let seq = sealed.record.seq;
        let before = match self.last {
            Some((last, hash)) => {
                if seq != last + 1 {
                    return Err(format!(
                        "record {seq} stands where record {} should: lines were dropped, added or moved",
                        last + 1
                    ));
                }
                hash
            }
            None => {
                self.first = seq;
                sealed.prev().ok_or("the first line of a file is missing")?
            }
        };
        if begins_file && sealed.prev() != Some(before) {
            return Err(format!("record {seq} does not begin a file after record {}", seq - 1));
        }
        if seq == 1 && before != [0; 32] {
            return Err("record 1 is not the first".to_owned());
        }
        if !sealed.follows(&before) {
            return Err(format!("record {seq} was edited, or another stood before it"));
        }
        if self.head.is_some_and(|(known, hash)| known == seq && hash != sealed.hash) {
            return Err(format!("record {seq} is not what the head says it was"));
        }
        self.last = Some((seq, sealed.hash));
        match sealed.record.kind {
            Kind::Removed => self.removed = self.removed.max(sealed.record.of.unwrap_or_default()),
            Kind::Note => self.note(format!("record {seq}: {}", sealed.record.note.unwrap_or_default())),
            _ => {}
        }
        Ok(())
    }

    fn note(&mut self, note: String) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }

    /// Whether both ends are where they should be.
    fn whole(&self) -> Result<(), String> {
        let last = self.last.map_or(0, |(last, _)| last);
        match self.head {
            Some((known, _)) if known > last => {
                return Err(format!("the end was cut: records {} to {known} are missing", last + 1));
            }
            None => return Err("there is no head: whether the end was cut cannot be told".to_owned()),
            Some(_) => {}
        }
        if self.first > self.removed + 1 {
            let to = self.first - 1;
            return Err(format!(
                "records {} to {to} are missing, and none says that they were removed",
                self.removed + 1
            ));
        }
        Ok(())
    }
}
