//! The way to a file: folders opened one after another, each relative to the one before, none through a link.

use super::FilesError;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What a folder, and the smallest file, takes on disk, and what bytes are counted in. 4 KiB: a block of most file systems.
pub(super) const BLOCK: u64 = 4 << 10;

/// What so many bytes take.
pub(super) fn cost(size: u64) -> u64 {
    size.div_ceil(BLOCK).max(1).saturating_mul(BLOCK)
}

/// What is under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// Nothing.
    Nothing,
    /// A file of so many bytes.
    File(u64),
    /// A folder, or what is never touched.
    Other,
}

/// Makes a folder for this user alone, unless it is there.
pub(super) fn ensure(at: impl AsFd, name: impl rustix::path::Arg) -> Result<(), Errno> {
    match rustix::fs::mkdirat(at, name, Mode::RWXU) {
        Err(why) if why != Errno::EXIST => Err(why),
        _ => Ok(()),
    }
}

/// Opens a folder that is one; never a link to one.
pub(super) fn enter(at: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let how = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, how, Mode::empty())
}

/// Names in a folder that are UTF-8, without `.` and `..`.
pub(super) fn names(at: &OwnedFd) -> Result<Vec<String>, Errno> {
    let mut names = Vec::new();
    each(at, |name, _| {
        names.push(name.to_owned());
        Ok(())
    })?;
    Ok(names)
}

/// Shows each entry of a folder whose name is UTF-8, with what it is.
pub(super) fn each<E: From<Errno>>(
    at: impl AsFd,
    mut show: impl FnMut(&str, FileType) -> Result<(), E>,
) -> Result<(), E> {
    for entry in Dir::read_from(&at)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().to_str() else { continue };
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            // Not every file system says.
            FileType::Unknown => match look(&at, name)? {
                Some(stat) => FileType::from_raw_mode(stat.st_mode),
                None => continue,
            },
            kind => kind,
        };
        show(name, kind)?;
    }
    Ok(())
}

/// What is under a name itself, not behind it.
pub(super) fn look(at: impl AsFd, name: &str) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(why) => Err(why),
    }
}

/// The size that a file system tells.
pub(super) fn size(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or_default()
}

/// Folders to a file as far as they are there.
pub(super) struct Way<'a> {
    root: BorrowedFd<'a>,
    names: Vec<&'a str>,
    opened: Vec<OwnedFd>,
    last: &'a str,
    /// So many of the folders count as nothing.
    free: usize,
}

impl<'a> Way<'a> {
    /// * `free`: folders that are the operator's doing, not the guest's.
    /// * `name`: from there on.
    /// * errors: `NotFolder`.
    pub(super) fn open(root: &'a OwnedFd, free: &[&'a str], name: &'a str) -> Result<Self, FilesError> {
        let mut names = free.to_vec();
        let (parents, last) = name.rsplit_once('/').map_or(("", name), |(parents, last)| (parents, last));
        names.extend(parents.split('/').filter(|part| !part.is_empty()));
        let mut way =
            Self { root: root.as_fd(), opened: Vec::with_capacity(names.len()), names, last, free: free.len() };
        for name in way.names.clone() {
            match enter(way.end(), name) {
                Ok(folder) => way.opened.push(folder),
                Err(Errno::NOENT) => break,
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(FilesError::NotFolder),
                Err(why) => return Err(why.into()),
            }
        }
        Ok(way)
    }

    /// The last folder that is there.
    pub(super) fn end(&self) -> BorrowedFd<'_> {
        self.opened.last().map_or(self.root, AsFd::as_fd)
    }

    /// The file's own name in it.
    pub(super) fn last(&self) -> &'a str {
        self.last
    }

    /// Whether all folders are there.
    pub(super) fn is_whole(&self) -> bool {
        self.opened.len() == self.names.len()
    }

    /// What is at its end.
    pub(super) fn found(&self) -> Result<Found, FilesError> {
        let stat = if self.is_whole() { look(self.end(), self.last)? } else { None };
        Ok(match stat {
            None => Found::Nothing,
            Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => Found::File(size(&stat)),
            Some(_) => Found::Other,
        })
    }

    /// What the folders take that are not there yet.
    pub(super) fn missing(&self) -> u64 {
        let missing = self.names.len() - self.opened.len().max(self.free).min(self.names.len());
        BLOCK.saturating_mul(missing as u64)
    }

    /// Makes what is missing, durably.
    ///
    /// * `bytes`: grows by what it takes.
    pub(super) fn make(&mut self, bytes: &mut u64) -> Result<(), FilesError> {
        for (index, name) in self.names.clone().into_iter().enumerate().skip(self.opened.len()) {
            ensure(self.end(), name)?;
            if index >= self.free {
                *bytes = bytes.saturating_add(BLOCK);
            }
            rustix::fs::fsync(self.end())?;
            self.opened.push(enter(self.end(), name)?);
        }
        Ok(())
    }

    /// Takes folders away from the end on, while they are empty, and makes durable what happened at the end that is left.
    ///
    /// * `bytes`: shrinks by what they took.
    pub(super) fn prune(&mut self, bytes: &mut u64) -> Result<(), FilesError> {
        while let Some(name) = self.opened.len().checked_sub(1).and_then(|last| self.names.get(last)) {
            let (name, last) = (*name, self.opened.pop());
            if rustix::fs::unlinkat(self.end(), name, AtFlags::REMOVEDIR).is_err() {
                // It is not empty.
                self.opened.extend(last);
                break;
            }
            if self.opened.len() >= self.free {
                *bytes = bytes.saturating_sub(BLOCK);
            }
        }
        Ok(rustix::fs::fsync(self.end())?)
    }
}
