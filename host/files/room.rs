//! What is done with a file, on a thread: looking, and changing with the count kept up.

use super::way::{self, BLOCK, Found, Way, cost};
use super::{FilesError, Folder, Info};
use crate::domain::{Ceiling, FileName, KeptFiles, Namespace};
use crate::store::Footprint;
use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, SystemTime};
use uuid::Uuid;

/// Folders below each other that are looked into: as many as a name has parts.
const DEPTH_MAX: usize = 8;
/// Entries after which it is asked whether to go on.
const ENTRIES: u64 = 1_024;

/// A folder of a namespace on the disk.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) root: &'a OwnedFd,
    pub(super) temporary: &'a OwnedFd,
    pub(super) folder: &'a Folder,
}

impl<'a> Place<'a> {
    fn way(&self, name: &'a FileName) -> Result<Way<'a>, FilesError> {
        let Folder { namespace, name: folder } = self.folder;
        Way::open(self.root, &[namespace.as_str(), folder.as_str()], name.as_str())
    }

    /// The folder itself; `None`: nothing was ever kept in it.
    pub(super) fn enter(&self) -> Result<Option<OwnedFd>, FilesError> {
        let Folder { namespace, name } = self.folder;
        match way::enter(self.root, namespace.as_str()).and_then(|at| way::enter(at, name.as_str())) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(why) => Err(why.into()),
        }
    }

    pub(super) fn stat(&self, name: &'a FileName) -> Result<Info, FilesError> {
        Ok(info(&self.opened(name, OFlags::RDONLY)?.1))
    }

    pub(super) fn read(&self, name: &'a FileName, (offset, length): (u64, usize)) -> Result<Bytes, FilesError> {
        let (file, stat) = self.opened(name, OFlags::RDONLY)?;
        let left = usize::try_from(way::size(&stat).saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(left)];
        file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes.into())
    }

    /// A file that is there.
    fn opened(&self, name: &'a FileName, how: OFlags) -> Result<(File, Stat), FilesError> {
        let way = match self.way(name) {
            Ok(way) if way.is_whole() => way,
            Ok(_) | Err(FilesError::NotFolder) => return Err(FilesError::NotFound),
            Err(why) => return Err(why),
        };
        open(&way, how)
    }
}

/// Opens the file at the end of a way. Not waiting: a pipe would.
fn open(way: &Way<'_>, how: OFlags) -> Result<(File, Stat), FilesError> {
    let how = how | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    // A folder cannot be written, a link is not followed, a pipe or socket has nobody behind it.
    let opened = match rustix::fs::openat(way.end(), way.last(), how, Mode::empty()) {
        Err(Errno::LOOP | Errno::ISDIR | Errno::NXIO) => return Err(FilesError::NotFound),
        opened => opened?,
    };
    let stat = rustix::fs::fstat(&opened)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((opened.into(), stat)),
        _ => Err(FilesError::NotFound),
    }
}

pub(super) fn info(stat: &Stat) -> Info {
    let seconds = Duration::from_secs(u64::try_from(stat.st_mtime).unwrap_or_default());
    let modified = seconds.saturating_add(Duration::from_nanos(stat.st_mtime_nsec));
    Info {
        size: way::size(stat),
        modified: SystemTime::UNIX_EPOCH.checked_add(modified).unwrap_or(SystemTime::UNIX_EPOCH),
    }
}

/// A folder, how much its namespace keeps and how much it may.
pub(super) struct Room<'a> {
    pub(super) place: Place<'a>,
    pub(super) kept: &'a mut KeptFiles,
    /// What its records use of the same quotas.
    pub(super) held: Footprint,
    pub(super) ceiling: Ceiling,
}

impl Room<'_> {
    /// Whether there is room for more. Who brings nothing is never over.
    fn admit(&self, files: u64, bytes: u64) -> Result<(), FilesError> {
        if files == 0 && bytes == 0 {
            return Ok(());
        }
        let count = self.kept.count.saturating_add(files);
        let files_after = KeptFiles { count, bytes: self.kept.bytes.saturating_add(bytes) };
        let ceiling = Ceiling { files: files_after, ..self.ceiling };
        match ceiling.over(self.held.records, self.held.bytes, files > 0) {
            Some(over) => Err(over.into()),
            None => Ok(()),
        }
    }

    /// Writes beside, then gives it the name.
    pub(super) fn replace(&mut self, name: &FileName, bytes: &[u8]) -> Result<(), FilesError> {
        let place = self.place;
        let mut way = place.way(name)?;
        let (new, old) = match way.found()? {
            Found::Nothing => (1, 0),
            Found::File(size) => (0, cost(size)),
            Found::Other => return Err(FilesError::Taken),
        };
        let cost = cost(bytes.len() as u64);
        self.admit(new, cost.saturating_add(way.missing()).saturating_sub(old))?;
        let temporary = Uuid::new_v4().to_string();
        let named = write_new(place.temporary, &temporary, bytes)
            .and_then(|()| way.make(&mut self.kept.bytes))
            .and_then(|()| Ok(rustix::fs::renameat(place.temporary, &temporary, way.end(), way.last())?));
        if let Err(why) = named {
            let _ = rustix::fs::unlinkat(place.temporary, &temporary, AtFlags::empty());
            way.prune(&mut self.kept.bytes)?;
            return Err(why);
        }
        self.kept.count = self.kept.count.saturating_add(new);
        self.kept.bytes = self.kept.bytes.saturating_add(cost).saturating_sub(old);
        Ok(rustix::fs::fsync(way.end())?)
    }

    /// Writes into a file that is there, without holes.
    pub(super) fn write_at(&mut self, name: &FileName, offset: u64, bytes: &[u8]) -> Result<(), FilesError> {
        let (file, stat) = self.place.opened(name, OFlags::WRONLY)?;
        let size = way::size(&stat);
        let end = offset.checked_add(bytes.len() as u64).filter(|_| offset <= size);
        let end = end.ok_or(FilesError::OutOfRange { size })?;
        self.admit(0, cost(end.max(size)).saturating_sub(cost(size)))?;
        let written = file.write_all_at(bytes, offset).and_then(|()| file.sync_all());
        // However much of it was written.
        let after = way::size(&rustix::fs::fstat(&file)?);
        self.kept.bytes = self.kept.bytes.saturating_add(cost(after)).saturating_sub(cost(size));
        Ok(written?)
    }

    pub(super) fn delete(&mut self, name: &FileName) -> Result<(), FilesError> {
        let mut way = match self.place.way(name) {
            Err(FilesError::NotFolder) => return Err(FilesError::NotFound),
            way => way?,
        };
        let Found::File(size) = way.found()? else { return Err(FilesError::NotFound) };
        rustix::fs::unlinkat(way.end(), way.last(), AtFlags::empty())?;
        self.gone(size);
        way.prune(&mut self.kept.bytes)
    }

    pub(super) fn rename(&mut self, from: &FileName, to: &FileName) -> Result<(), FilesError> {
        let place = self.place;
        let mut old = match place.way(from) {
            Err(FilesError::NotFolder) => return Err(FilesError::NotFound),
            way => way?,
        };
        let Found::File(_) = old.found()? else { return Err(FilesError::NotFound) };
        if from == to {
            return Ok(());
        }
        let mut new = place.way(to)?;
        let replaced = new.found()?;
        if replaced == Found::Other {
            return Err(FilesError::Taken);
        }
        self.admit(0, new.missing())?;
        let named = new.make(&mut self.kept.bytes);
        let named = named.and_then(|()| Ok(rustix::fs::renameat(old.end(), old.last(), new.end(), new.last())?));
        if let Err(why) = named {
            new.prune(&mut self.kept.bytes)?;
            return Err(why);
        }
        if let Found::File(size) = replaced {
            self.gone(size);
        }
        rustix::fs::fsync(new.end())?;
        old.prune(&mut self.kept.bytes)
    }

    fn gone(&mut self, size: u64) {
        self.kept.count = self.kept.count.saturating_sub(1);
        self.kept.bytes = self.kept.bytes.saturating_sub(cost(size));
    }
}

/// Writes a file that nobody has, durably.
fn write_new(at: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), FilesError> {
    let how = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(at, name, how, Mode::RUSR | Mode::WUSR)?);
    file.write_all(bytes)?;
    Ok(file.sync_all()?)
}

/// Counts what a namespace keeps.
///
/// * `stop`: asked now and then whether to give up.
/// * errors: `Draining` where it said so.
pub(super) fn count(root: &OwnedFd, namespace: &Namespace, stop: impl Fn() -> bool) -> Result<KeptFiles, FilesError> {
    let mut walk = Walk { kept: KeptFiles::default(), seen: 0, stop };
    let namespace = match way::enter(root, namespace.as_str()) {
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(walk.kept),
        namespace => namespace?,
    };
    for name in way::names(&namespace)? {
        if let Ok(folder) = way::enter(&namespace, &name) {
            walk.folder(&folder, 1)?;
        }
    }
    Ok(walk.kept)
}

struct Walk<S> {
    kept: KeptFiles,
    seen: u64,
    stop: S,
}

impl<S: Fn() -> bool> Walk<S> {
    fn folder(&mut self, at: impl AsFd, depth: usize) -> Result<(), FilesError> {
        way::each(&at, |name, kind| {
            self.seen += 1;
            if self.seen.is_multiple_of(ENTRIES) && (self.stop)() {
                return Err(FilesError::Draining);
            }
            let bytes = match kind {
                FileType::RegularFile => match way::look(&at, name)? {
                    Some(stat) => cost(way::size(&stat)),
                    None => return Ok(()),
                },
                FileType::Directory => BLOCK,
                _ => return Ok(()),
            };
            self.kept.bytes = self.kept.bytes.saturating_add(bytes);
            self.kept.count = self.kept.count.saturating_add(u64::from(kind == FileType::RegularFile));
            match way::enter(&at, name) {
                Ok(below) if kind == FileType::Directory && depth < DEPTH_MAX => self.folder(below, depth + 1),
                _ => Ok(()),
            }
        })
    }
}
