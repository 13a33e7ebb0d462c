//! The files of the log: appended to, begun anew when they are large, found again after a crash.

use super::chain::{Hash, Kind, LINE_MAX, Line, Sealed, parse};
use super::config::{Config, Sync};
use super::verify::{files, first_record};
use rustix::fs::{FallocateFlags, fallocate};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How much of the newest file is looked at when the log is opened: the last lines, whatever their size.
const TAIL: u64 = 16 * LINE_MAX as u64;
/// Bytes of disk that are kept for lines to come. 1 MiB: some three thousand, enough to delete until there is space again.
const RESERVE: u64 = 1 << 20;
/// Where the newest line's number and hash are.
pub(super) const HEAD: &str = "head";

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be opened, it failed to {what}: {why}")]
pub struct AuditError {
    /// What was tried.
    pub(super) what: &'static str,
    /// What the system said.
    #[source]
    pub(super) why: io::Error,
}

/// The log as whoever holds its lock writes it.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    file: Arc<File>,
    head: File,
    /// Bytes of whole lines in `file`.
    length: u64,
    /// Up to where the disk has space for it.
    reserved: u64,
    seq: u64,
    last: Hash,
    /// Written since it was last made durable.
    dirty: bool,
    closed: bool,
    /// It could not be made durable, or holds half a line.
    failed: bool,
    sync: Sync,
    most_bytes: u64,
    most_files: usize,
}

impl Log {
    pub(super) fn open(folder: &Path, config: &Config) -> Result<Self, AuditError> {
        let failed = |what| move |why| AuditError { what, why };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed("make its folder"))?;
        let head = private().read(true).write(true).create(true).truncate(false).open(folder.join(HEAD));
        let head = head.map_err(failed("open its head"))?;
        let known = read_head(&head);
        let found = Found::newest(folder).map_err(failed("read its newest file"))?;
        let (seq, last) = found.last;
        let file = match &found.path {
            Some(path) => append_to(path),
            None => create(folder, seq + 1),
        };
        let mut log = Self {
            folder: folder.to_owned(),
            file: Arc::new(file.map_err(failed("open its newest file"))?),
            head,
            length: found.length,
            reserved: 0,
            seq,
            last,
            dirty: false,
            closed: false,
            failed: false,
            sync: config.sync,
            most_bytes: config.file_mib << 20,
            most_files: config.files,
        };
        log.greet(&found, known).map_err(failed("write to its newest file"))?;
        Ok(log)
    }

    /// Writes what was found wrong, and that the node is here.
    fn greet(&mut self, found: &Found, head: Option<(u64, Hash)>) -> io::Result<()> {
        if self.length == 0 {
            self.put(&Line { prev: Some(self.last), ..Line::new(Kind::File) })?;
        }
        let (seq, last) = found.last;
        let mut notes = Vec::new();
        if found.torn > 0 {
            notes.push(format!("cut {} bytes of a line that was not written whole", found.torn));
        }
        if found.damaged {
            notes.push("the last lines do not follow from each other".to_owned());
        }
        match head {
            Some((known, _)) if known > seq => {
                notes.push(format!("records {} to {known} are missing: cut, or lost with the power", seq + 1));
            }
            Some((known, hash)) if known == seq && hash != last => {
                notes.push(format!("record {seq} is not what it was"));
            }
            _ => {}
        }
        for note in &notes {
            tracing::warn!(note, "the audit log");
            self.put(&Line { note: Some(note), ..Line::new(Kind::Note) })?;
        }
        self.put(&Line::new(Kind::Start)).map(drop)
    }

    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// Writes a line: the system has it when this returns, the disk as [`Config::sync`] says.
    ///
    /// * returns: its number.
    /// * errors: it is not written, and nothing of it is left in the file.
    pub(super) fn append(&mut self, line: &Line<'_>) -> io::Result<u64> {
        if self.failed {
            self.reserved = 0; // cutting a file gives back what is kept behind its end
            self.file.set_len(self.length)?;
            self.file.sync_data()?;
            self.failed = false;
        }
        if self.length >= self.most_bytes {
            self.next_file()?;
        }
        // Also where it could not be written when the file was made.
        if self.length == 0 {
            self.begin_file()?;
        }
        let seq = self.put(line)?;
        if self.sync == Sync::Always {
            let synced = self.file.sync_data();
            self.failed = synced.is_err();
            synced?;
            self.dirty = false;
        }
        Ok(seq)
    }

    /// Keeps space for lines to come, so that what frees space can still be written down when there is none left.
    fn reserve(&mut self) {
        if self.length + RESERVE / 2 < self.reserved {
            return;
        }
        let end = self.length + RESERVE;
        match fallocate(&*self.file, FallocateFlags::KEEP_SIZE, 0, end) {
            Ok(()) => self.reserved = end,
            // There is what was kept before, or a file system that cannot do it.
            Err(why) => tracing::debug!(%why, "no space is kept for the audit log"),
        }
    }

    fn put(&mut self, line: &Line<'_>) -> io::Result<u64> {
        self.reserve();
        let seq = self.seq + 1;
        let (bytes, hash) = line.seal(seq, &self.last)?;
        if let Err(why) = (&*self.file).write_all(&bytes) {
            // Half of it may be there.
            self.failed = self.file.set_len(self.length).is_err();
            self.reserved = 0;
            return Err(why);
        }
        self.length += bytes.len() as u64;
        (self.seq, self.last, self.dirty) = (seq, hash, true);
        // Without it a cut tail would not be seen, and nothing else.
        if let Err(why) = self.head.write_all_at(&head_line(seq, &hash), 0) {
            tracing::warn!(%why, "the head of the audit log cannot be written");
        }
        Ok(seq)
    }

    /// Goes on in the next file.
    fn next_file(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let file = create(&self.folder, self.seq + 1)?;
        (self.file, self.length, self.reserved) = (Arc::new(file), 0, 0);
        Ok(())
    }

    /// Begins a file, and removes the oldest beyond the bound.
    fn begin_file(&mut self) -> io::Result<()> {
        self.put(&Line { prev: Some(self.last), ..Line::new(Kind::File) })?;
        File::open(&self.folder)?.sync_all()?;
        if self.most_files == 0 {
            return Ok(());
        }
        let all = files(&self.folder)?;
        let old = all.len().saturating_sub(self.most_files);
        if let Some(first_kept) = all.get(old).filter(|_| old > 0) {
            let of = first_record(first_kept).map(|first| first.saturating_sub(1));
            let note = format!("{old} of the oldest files, for audit.files = {}", self.most_files);
            self.put(&Line { of, note: Some(&note), ..Line::new(Kind::Removed) })?;
            for path in all.iter().take(old) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The file that has to be made durable, if it has.
    pub(super) fn unsynced(&mut self) -> Option<Arc<File>> {
        let due = std::mem::take(&mut self.dirty) && self.sync != Sync::Never;
        due.then(|| Arc::clone(&self.file))
    }

    /// Whether it was.
    pub(super) fn synced(&mut self, well: bool) {
        self.failed |= !well;
    }
}

/// Where the log ended.
struct Found {
    /// `None`: a file has to be made.
    path: Option<PathBuf>,
    length: u64,
    last: (u64, Hash),
    torn: u64,
    damaged: bool,
}

impl Found {
    /// Looks at the newest file that has a whole line, and cuts what follows the last of them.
    fn newest(folder: &Path) -> io::Result<Self> {
        let mut torn = 0;
        for path in files(folder)?.into_iter().rev() {
            let file = OpenOptions::new().read(true).write(true).open(&path)?;
            let size = file.metadata()?.len();
            let tail = tail(&file, size)?;
            let whole = tail.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let half = (tail.len() - whole) as u64;
            torn += half;
            let lines = tail.get(..whole).unwrap_or_default();
            if lines.is_empty() && size == half {
                // A crash when it was begun: the one before has the last line.
                fs::remove_file(&path)?;
                continue;
            }
            file.set_len(size - half)?;
            let (last, damaged) = chained(lines, size > TAIL);
            return Ok(Self { path: Some(path), length: size - half, last, torn, damaged });
        }
        Ok(Self { path: None, length: 0, last: (0, [0; 32]), torn, damaged: false })
    }
}

/// The last bytes of a file.
fn tail(mut file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
    file.take(TAIL).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Number and hash of the last of these lines, and whether they do not follow from each other.
///
/// * `is_cut`: the first of them is half a line.
fn chained(lines: &[u8], is_cut: bool) -> ((u64, Hash), bool) {
    let mut lines = lines.split_inclusive(|byte| *byte == b'\n');
    if is_cut {
        lines.next();
    }
    let mut last: Option<(u64, Hash)> = None;
    let mut damaged = false;
    for line in lines {
        let Some(sealed) = Sealed::read(line.strip_suffix(b"\n").unwrap_or(line)) else {
            damaged = true;
            continue;
        };
        let follows = last.is_none_or(|(seq, hash)| sealed.record.seq == seq + 1 && sealed.follows(&hash));
        damaged |= !follows;
        last = Some((sealed.record.seq, sealed.hash));
    }
    (last.unwrap_or((0, [0; 32])), damaged || last.is_none())
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600);
    options
}

fn append_to(path: &Path) -> io::Result<File> {
    private().append(true).open(path)
}

fn create(folder: &Path, first: u64) -> io::Result<File> {
    private().append(true).create_new(true).open(folder.join(format!("audit-{first:020}.jsonl")))
}

/// As long whatever it says, so that it is overwritten in one write.
fn head_line(seq: u64, hash: &Hash) -> Vec<u8> {
    format!("{seq:020} {}\n", hex::encode(hash)).into_bytes()
}

/// What the head says; `None` if it says nothing.
pub(super) fn read_head(head: &File) -> Option<(u64, Hash)> {
    let mut line = [0; 20 + 1 + 64];
    head.read_exact_at(&mut line, 0).ok()?;
    let (seq, hash) = line.split_at_checked(21)?;
    let seq = std::str::from_utf8(seq).ok()?.trim().parse().ok()?;
    Some((seq, parse(hash)?))
}

#[cfg(test)]
mod tests {
    use super::super::verify;
    use super::*;

    #[test]
    fn a_file_whose_first_line_could_not_be_written_begins_with_it_later() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("audit");
        let mut log = Log::open(&folder, &Config::default()).unwrap();
        // As far as it gets on a disk that is full.
        log.next_file().unwrap();
        log.append(&Line::new(Kind::Note)).unwrap();
        log.append(&Line::new(Kind::Note)).unwrap();
        let found = verify(&folder).unwrap();
        assert_eq!((found.problem, found.files, found.last), (None, 2, 5));
    }
}
