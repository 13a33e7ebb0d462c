//! Files of a folder by name, a page at a time, in the memory of a page.

use super::way;
use super::{FilesError, Info, room};
use crate::domain::{Deadline, FileName};
use rustix::fs::FileType;
use std::collections::BTreeSet;
use std::os::fd::AsFd;

/// Entries after which the time is looked at.
const ENTRIES: u64 = 1_024;

/// A file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the folder.
    pub name: String,
    /// What it is.
    pub info: Info,
}

/// The first `most` files below a folder whose names come after `after` and begin with `prefix`, byte for byte.
///
/// Whatever is no file that could have been written by name is not there.
pub(super) fn list(
    at: impl AsFd,
    prefix: &str,
    after: &str,
    most: usize,
    until: Deadline,
) -> Result<Vec<Listed>, FilesError> {
    let mut listing = Listing { prefix, after, most, until, seen: 0, found: Vec::new() };
    listing.folder(at.as_fd(), "")?;
    Ok(listing.found)
}

struct Listing<'a> {
    prefix: &'a str,
    after: &'a str,
    most: usize,
    until: Deadline,
    seen: u64,
    found: Vec<Listed>,
}

impl Listing<'_> {
    /// * `path`: its name, with a `/` at its end, or nothing.
    fn folder(&mut self, at: impl AsFd, path: &str) -> Result<(), FilesError> {
        let mut from = String::new();
        loop {
            let (next, all) = self.next(&at, path, &from)?;
            for name in next {
                if self.found.len() >= self.most {
                    return Ok(());
                }
                let own = name.get(path.len()..).unwrap_or_default();
                match own.strip_suffix('/') {
                    // It may be gone, or something else, by now.
                    Some(folder) => {
                        if let Ok(below) = way::enter(&at, folder) {
                            self.folder(below, &name)?;
                        }
                    }
                    None => {
                        if let Some(stat) = way::look(&at, own)? {
                            self.found.push(Listed { name: name.clone(), info: room::info(&stat) });
                        }
                    }
                }
                from = name;
            }
            if all || self.found.len() >= self.most {
                return Ok(());
            }
        }
    }

    /// The next names in one folder after `from`, no more than are wanted, folders with a `/` at their end so that they
    /// stand where their files do, and whether these are all.
    fn next(&mut self, at: impl AsFd, path: &str, from: &str) -> Result<(Vec<String>, bool), FilesError> {
        let wanted = self.most - self.found.len();
        let (mut next, mut all) = (BTreeSet::new(), true);
        way::each(&at, |own, kind| {
            self.seen += 1;
            if self.seen.is_multiple_of(ENTRIES) && self.until.remaining().is_zero() {
                return Err(FilesError::Deadline);
            }
            let name = match kind {
                FileType::RegularFile => [path, own].concat(),
                FileType::Directory => [path, own, "/"].concat(),
                _ => return Ok(()),
            };
            if name.as_str() > from && self.fits(&name, kind == FileType::Directory) {
                next.insert(name);
            }
            if next.len() > wanted {
                next.pop_last();
                all = false;
            }
            Ok(())
        })?;
        Ok((next.into_iter().collect(), all))
    }

    fn fits(&self, name: &str, is_folder: bool) -> bool {
        let (prefix, after) = (self.prefix, self.after);
        let named = name.starts_with(prefix) || (is_folder && prefix.starts_with(name));
        let later = name > after || (is_folder && after.starts_with(name));
        // A folder's name is one that a file could have. One at the deepest place has no file.
        named && later && name.strip_suffix('/').unwrap_or(name).parse::<FileName>().is_ok()
    }
}
