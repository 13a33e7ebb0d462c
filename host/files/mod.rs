//! Files of namespaces, for guests: whole operations on names, nothing that stays open.
//!
//! ```text
//! <data>/files/<namespace>/<folder>/<part>/.../<part>     files/.tmp/ what is being written
//! ```
//! The way to a file is opened part by part, each part relative to the one before and never through a link, so there is no
//! path to leave by. Symbolic links, devices, sockets and pipes that somebody plants there are not seen. What is made is
//! for the node's user alone.
//!
//! Many may read in a namespace, or one may change something: whoever reads sees a file before or after a change. A file
//! that is replaced is whole before and after a crash; one that is written into may have a part of what was written last.
//! What a change has answered is on the disk.
//!
//! How much a namespace keeps is counted when it is first asked about, in the background after the start, and then kept
//! up: files count beside records against the same two quotas.

mod list;
mod room;
mod way;

pub use list::Listed;

use crate::domain::{Accounts, Deadline, Exceeded, FileName, FolderName, KeptFiles, Namespace};
use crate::lifecycle::Lifecycle;
use crate::store::{Headroom, Store, StoreError};
use bytes::Bytes;
use room::{Place, Room};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;
use tokio::sync::{OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore};

/// Most bytes that one read or write moves. 1 MiB: what a request to the outside may carry, too; it is in memory twice.
pub const BYTES_MAX: usize = 1 << 20;

/// Where files are written before they get their name. No namespace is called so.
const TEMPORARY: &str = ".tmp";

/// The `[files]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Operations under way at once, each on a thread. 16: as much as a disk does beside each other, and with the folders
    /// that each has open some 200 descriptors.
    pub at_once: usize,
    /// Reads of one namespace under way at once; changes come one after another. 4: no namespace has all the places.
    pub reads: u32,
    /// Namespaces of which it is remembered how much they keep, while nobody uses them. 4,096: about a MiB.
    pub namespaces: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { at_once: 16, reads: 4, namespaces: 4_096 }
    }
}

/// A setting that cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("files.{key} must be between 1 and {most}")]
pub struct BadSetting {
    /// Its key in the section.
    pub key: &'static str,
    /// The most that it may be.
    pub most: usize,
}

impl Config {
    /// Refuses numbers that cannot be kept.
    pub fn check(&self) -> Result<(), BadSetting> {
        let reads = usize::try_from(self.reads).unwrap_or(usize::MAX);
        // At most 128 threads: tokio has 512, and others need some.
        for (key, value, most) in
            [("at_once", self.at_once, 128), ("reads", reads, 128), ("namespaces", self.namespaces, 1_000_000)]
        {
            if !(1..=most).contains(&value) {
                return Err(BadSetting { key, most });
            }
        }
        Ok(())
    }
}

/// Why something was not done with a file.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// There is no file of this name.
    #[error("there is no such file")]
    NotFound,
    /// The name is a folder's.
    #[error("a folder has this name; choose another")]
    Taken,
    /// A part before the last is no folder.
    #[error("a part of the name before the last is a file; choose another")]
    NotFolder,
    /// More than one call moves.
    #[error("one call moves at most {BYTES_MAX} bytes; make several")]
    TooLarge,
    /// To be written behind the end.
    #[error("the file has {size} bytes, writing begins at most there")]
    OutOfRange {
        /// Its size.
        size: u64,
    },
    /// No room.
    #[error(transparent)]
    Over(#[from] Exceeded),
    /// Longer than this machine's disk takes.
    #[error("a part of the name is longer than the node's disk takes; choose a shorter one")]
    TooLong,
    /// The machine has no room.
    #[error("the node's disk is full; try again later")]
    Full,
    /// How much the namespace keeps cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The call's time is up.
    #[error("the call's time is up")]
    Deadline,
    /// The node is going down.
    #[error("the node is shutting down")]
    Draining,
    /// The system said no.
    #[error("files cannot be used")]
    Io(#[source] io::Error),
}

impl From<Errno> for FilesError {
    fn from(why: Errno) -> Self {
        match why {
            Errno::NOENT => Self::NotFound,
            Errno::NAMETOOLONG => Self::TooLong,
            Errno::NOSPC | Errno::DQUOT | Errno::FBIG | Errno::MLINK => Self::Full,
            why => Self::Io(why.into()),
        }
    }
}

impl From<io::Error> for FilesError {
    fn from(why: io::Error) -> Self {
        match why.raw_os_error() {
            Some(code) => Errno::from_raw_os_error(code).into(),
            None => Self::Io(why),
        }
    }
}

/// A folder of a namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// Whose.
    pub namespace: Namespace,
    /// Its name.
    pub name: FolderName,
}

/// A file, without what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Info {
    /// Bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: SystemTime,
}

/// How much a namespace keeps; `None`: to be counted.
type Count = RwLock<Option<KeptFiles>>;

/// All files of a node. Clones are the same.
#[derive(Clone)]
pub struct Files(Arc<Inner>);

struct Inner {
    root: OwnedFd,
    temporary: OwnedFd,
    config: Config,
    store: Arc<dyn Store>,
    /// What stays free on the volume.
    headroom: Headroom,
    accounts: Arc<dyn Accounts>,
    lifecycle: Lifecycle,
    places: Arc<Semaphore>,
    counts: Mutex<HashMap<Namespace, Arc<Count>>>,
}

/// The right to change a namespace, and a thread for it.
struct Turn {
    kept: OwnedRwLockWriteGuard<Option<KeptFiles>>,
    _place: OwnedSemaphorePermit,
}

impl Files {
    /// Makes the folder where it is missing, takes away what an earlier run had begun to write, and begins to count.
    ///
    /// * `store`: knows how much of the same quotas records use.
    /// * `headroom`: what writes leave free.
    /// * errors: the folder cannot be used.
    pub fn open(
        folder: &Path,
        config: Config,
        (store, headroom): (Arc<dyn Store>, Headroom),
        accounts: Arc<dyn Accounts>,
        lifecycle: Lifecycle,
    ) -> io::Result<Self> {
        way::ensure(CWD, folder)?;
        let root =
            rustix::fs::openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        way::ensure(&root, TEMPORARY)?;
        let temporary = way::enter(&root, TEMPORARY)?;
        for name in way::names(&temporary)? {
            // What is no file is not ours, and in nobody's way.
            let _ = rustix::fs::unlinkat(&temporary, name.as_str(), AtFlags::empty());
        }
        let places = Arc::new(Semaphore::new(config.at_once));
        let counts = Mutex::default();
        let files =
            Self(Arc::new(Inner { root, temporary, config, store, headroom, accounts, lifecycle, places, counts }));
        let (counter, known) = (files.clone(), way::names(&files.0.root)?);
        files.0.lifecycle.spawn(async move { counter.count_all(known).await });
        Ok(files)
    }

    /// Part of a file. Fewer bytes than asked for: it ends there.
    ///
    /// * errors: `NotFound`, `TooLarge`.
    /// * cancel, of all: a change that has begun is made whole.
    pub async fn read(
        &self,
        folder: &Folder,
        name: FileName,
        range: (u64, usize),
        until: Deadline,
    ) -> Result<Bytes, FilesError> {
        if range.1 > BYTES_MAX {
            return Err(FilesError::TooLarge);
        }
        self.look(folder, until, move |place| place.read(&name, range)).await
    }

    /// What a file is.
    ///
    /// * errors: `NotFound`.
    pub async fn stat(&self, folder: &Folder, name: FileName, until: Deadline) -> Result<Info, FilesError> {
        self.look(folder, until, move |place| place.stat(&name)).await
    }

    /// The first `most` files after a name, by name, byte for byte.
    ///
    /// * `prefix`: that their names begin with.
    pub async fn list(
        &self,
        folder: &Folder,
        prefix: String,
        after: String,
        most: usize,
        until: Deadline,
    ) -> Result<Vec<Listed>, FilesError> {
        self.look(folder, until, move |place| match place.enter()? {
            Some(at) => list::list(&at, &prefix, &after, most, until),
            None => Ok(Vec::new()),
        })
        .await
    }

    /// Writes a file: the whole of it, or, with an offset, into one that is there.
    ///
    /// * errors: `TooLarge`, `Taken`, `NotFolder`, `Over`, `Full`; with an offset `NotFound`, `OutOfRange`.
    pub async fn write(
        &self,
        folder: &Folder,
        name: FileName,
        offset: Option<u64>,
        bytes: Bytes,
        until: Deadline,
    ) -> Result<(), FilesError> {
        if bytes.len() > BYTES_MAX {
            return Err(FilesError::TooLarge);
        }
        let files = Arc::clone(&self.0);
        self.change(folder, until, move |room| match offset {
            _ if files.headroom.is_short_at(&files.root) => Err(FilesError::Full),
            None => room.replace(&name, &bytes),
            Some(offset) => room.write_at(&name, offset, &bytes),
        })
        .await
    }

    /// Takes a file away, and folders that are empty then.
    ///
    /// * errors: `NotFound`.
    pub async fn delete(&self, folder: &Folder, name: FileName, until: Deadline) -> Result<(), FilesError> {
        self.change(folder, until, move |room| room.delete(&name)).await
    }

    /// Gives a file another name in its folder; one that has the name is replaced.
    ///
    /// * errors: `NotFound`, `Taken`, `NotFolder`, `Over`.
    pub async fn rename(
        &self,
        folder: &Folder,
        from: FileName,
        to: FileName,
        until: Deadline,
    ) -> Result<(), FilesError> {
        self.change(folder, until, move |room| room.rename(&from, &to)).await
    }

    /// Reads on a thread, beside other reads of the namespace.
    async fn look<T: Send + 'static>(
        &self,
        folder: &Folder,
        until: Deadline,
        work: impl FnOnce(&Place<'_>) -> Result<T, FilesError> + Send + 'static,
    ) -> Result<T, FilesError> {
        let (inner, folder) = (Arc::clone(&self.0), folder.clone());
        let look = async move {
            let turn = inner.count(&folder.namespace).read_owned().await;
            let place = inner.place().await?;
            let work = move || {
                let _held = (turn, place);
                work(&inner.at(&folder))
            };
            tokio::task::spawn_blocking(work).await.map_err(|gone| FilesError::Io(gone.into()))?
        };
        tokio::time::timeout_at(until.instant(), look).await.map_err(|_| FilesError::Deadline)?
    }

    /// Changes something on a thread, alone in the namespace.
    async fn change(
        &self,
        folder: &Folder,
        until: Deadline,
        work: impl FnOnce(&mut Room<'_>) -> Result<(), FilesError> + Send + 'static,
    ) -> Result<(), FilesError> {
        let (inner, folder) = (Arc::clone(&self.0), folder.clone());
        let change = async move {
            let kept = inner.count(&folder.namespace).write_owned().await;
            // As late as can be: others wrote records while this waited.
            let held = inner.store.footprint(&folder.namespace).await?;
            let ceiling = inner.accounts.room(&folder.namespace);
            let turn = inner.turn(kept).await?;
            let lifecycle = inner.lifecycle.clone();
            // From here on it is done, whoever waits for it.
            let done = lifecycle.spawn(inner.alone(folder, turn, move |inner, folder, kept| {
                let mut room = Room { place: inner.at(folder), kept, held, ceiling };
                work(&mut room)
            }));
            done.await.map_err(|_gone| FilesError::Draining)?
        };
        tokio::time::timeout_at(until.instant(), change).await.map_err(|_| FilesError::Deadline)?
    }

    /// Counts what these namespaces keep, one after another.
    async fn count_all(self, names: Vec<String>) {
        for namespace in names.iter().filter_map(|name| name.parse::<Namespace>().ok()) {
            let inner = Arc::clone(&self.0);
            let Ok(turn) = inner.turn(inner.count(&namespace).write_owned().await).await else { return };
            // The folder does not matter: the namespace is counted.
            let Ok(name) = namespace.as_str().parse() else { continue };
            let counted = inner.alone(Folder { namespace, name }, turn, |_, _, _| Ok(())).await;
            match counted {
                Ok(()) => {}
                Err(FilesError::Draining) => return,
                Err(why) => tracing::warn!(error = &why as &dyn std::error::Error, "files cannot be counted"),
            }
        }
    }
}

impl Inner {
    /// How much a namespace keeps, and whose turn it is there.
    fn count(&self, namespace: &Namespace) -> Arc<Count> {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get(namespace) {
            return Arc::clone(count);
        }
        if counts.len() >= self.config.namespaces {
            counts.retain(|_, count| Arc::strong_count(count) > 1);
        }
        let count = Arc::new(RwLock::with_max_readers(None, self.config.reads));
        counts.insert(namespace.clone(), Arc::clone(&count));
        count
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, FilesError> {
        Arc::clone(&self.places).acquire_owned().await.map_err(|_| FilesError::Draining)
    }

    /// A place last: who has one waits for nobody.
    async fn turn(&self, kept: OwnedRwLockWriteGuard<Option<KeptFiles>>) -> Result<Turn, FilesError> {
        Ok(Turn { kept, _place: self.place().await? })
    }

    fn at<'a>(&'a self, folder: &'a Folder) -> Place<'a> {
        Place { root: &self.root, temporary: &self.temporary, folder }
    }

    /// Does something on a thread that changes what a namespace keeps.
    async fn alone(
        self: Arc<Self>,
        folder: Folder,
        mut turn: Turn,
        work: impl FnOnce(&Self, &Folder, &mut KeptFiles) -> Result<(), FilesError> + Send + 'static,
    ) -> Result<(), FilesError> {
        let work = move || {
            let mut kept = match *turn.kept {
                Some(kept) => kept,
                None => room::count(&self.root, &folder.namespace, || self.lifecycle.is_draining())?,
            };
            let done = work(&self, &folder, &mut kept);
            *turn.kept = Some(kept);
            self.accounts.keeps(&folder.namespace, kept);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(|gone| FilesError::Io(gone.into()))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_at_below_and_above_their_ranges() {
        let with = |at_once, reads, namespaces| Config { at_once, reads, namespaces }.check();
        assert!(Config::default().check().is_ok());
        assert!(with(1, 1, 1).is_ok() && with(128, 128, 1_000_000).is_ok());
        for (wrong, key) in [
            (with(0, 4, 1), "at_once"),
            (with(129, 4, 1), "at_once"),
            (with(1, 0, 1), "reads"),
            (with(1, 129, 1), "reads"),
            (with(1, 1, 0), "namespaces"),
            (with(1, 1, 1_000_001), "namespaces"),
        ] {
            assert_eq!(wrong.unwrap_err().key, key);
        }
    }

    #[test]
    fn files_and_folders_take_whole_blocks() {
        for (size, blocks) in [(0, 1), (1, 1), (4_096, 1), (4_097, 2), (1 << 20, 256)] {
            assert_eq!(way::cost(size), blocks * way::BLOCK, "{size}");
        }
        assert_eq!(way::cost(u64::MAX), u64::MAX, "and no number is too large");
    }
}
