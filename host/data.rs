//! The data folder: whose it is, and what the node keeps there about itself.
//!
//! `node.lock` held while the node lives, `node.key` authenticates compiled code, `node.id` names the node, `tls/`
//! holds a certificate of its own making, `artifacts/`, `compiled/` and `files/` belong to the modules of those names.

use std::fs::{File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// Another node has it.
    #[error("another node is using the data folder {0}; stop it, or give this one its own with --data")]
    Locked(PathBuf),
    /// The folder can be changed by others.
    #[error("the data folder {0} can be changed by other users; make it this user's own (chown, chmod go-w)")]
    NotPrivate(PathBuf),
    /// The key can be read by others.
    #[error(
        "the node's key in {0} can be read by other users; make it private (chown, chmod 600) or remove it for a new one"
    )]
    KeyNotPrivate(PathBuf),
    /// The key or the id is not what this node writes.
    #[error("{0} is damaged; remove it for a new one")]
    Damaged(PathBuf),
    /// The system said no.
    #[error("cannot {what} in the data folder: {why}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// What it said.
        why: io::Error,
    },
}

/// Where in a data folder the audit log is.
pub const AUDIT: &str = "audit";

/// A locked data folder.
#[derive(Debug)]
pub struct DataFolder {
    root: PathBuf,
    key: [u8; 32],
    id: String,
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is missing, private to this user, and locks it.
    ///
    /// * errors: `Locked` if another process has it; the lock goes with the process, however it ends.
    pub fn open(root: &Path) -> Result<Self, DataError> {
        let io = |what| move |why| DataError::Io { what, why };
        if !root.exists() {
            std::fs::create_dir_all(root).map_err(io("make a folder"))?;
            std::fs::set_permissions(root, Permissions::from_mode(0o700)).map_err(io("make private"))?;
        }
        let about = std::fs::metadata(root).map_err(io("look at"))?;
        if about.permissions().mode() & 0o022 != 0 || !is_ours(&about) {
            return Err(DataError::NotPrivate(root.to_owned()));
        }
        let lock = private().create(true).truncate(false).open(root.join("node.lock")).map_err(io("open the lock"))?;
        if !take(&lock).map_err(io("take the lock"))? {
            return Err(DataError::Locked(root.to_owned()));
        }
        let key = key(&root.join("node.key"))?;
        let id = id(&root.join("node.id"))?;
        // Machine code is mapped from here: nobody else may so much as look.
        let compiled = root.join("compiled");
        std::fs::create_dir_all(&compiled).map_err(io("make a folder"))?;
        std::fs::set_permissions(&compiled, Permissions::from_mode(0o700)).map_err(io("make private"))?;
        Ok(Self { root: root.to_owned(), key, id, _lock: lock })
    }

    /// Authenticates what this node wrote for itself.
    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// The node's name, made once.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Folder of uploaded artifacts.
    pub fn artifacts(&self) -> PathBuf {
        self.root.join("artifacts")
    }

    /// Folder of the databases.
    pub fn records(&self) -> PathBuf {
        self.root.join("records")
    }

    /// Folder of the files of guests.
    pub fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    /// Folder of the audit log.
    pub fn audit(&self) -> PathBuf {
        self.root.join(AUDIT)
    }

    /// Folder of a certificate of the node's own making.
    pub fn tls(&self) -> PathBuf {
        self.root.join("tls")
    }

    /// Folder of compiled code.
    pub fn compiled(&self) -> PathBuf {
        self.root.join("compiled")
    }
}

/// Whether it belongs to the user that this process runs as.
fn is_ours(about: &Metadata) -> bool {
    about.uid() == rustix::process::geteuid().as_raw()
}

fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    options
}

/// Reads a small file, or makes it with `fresh` content, durably.
fn read_or_make(path: &Path, fresh: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match File::open(path) {
        Ok(file) => {
            let mut content = Vec::new();
            file.take(1_024).read_to_end(&mut content)?;
            Ok(content)
        }
        Err(why) if why.kind() == io::ErrorKind::NotFound => {
            let content = fresh()?;
            // Whole or absent, whatever happens in between; made readable for this user only.
            let folder = path.parent().unwrap_or(Path::new("."));
            let mut file = tempfile::NamedTempFile::new_in(folder)?;
            file.write_all(&content)?;
            file.as_file().sync_all()?;
            file.persist(path)?;
            File::open(folder)?.sync_all()?;
            Ok(content)
        }
        Err(why) => Err(why),
    }
}

fn key(path: &Path) -> Result<[u8; 32], DataError> {
    let fresh = || {
        let mut key = vec![0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        Ok(key)
    };
    let what = "read the node's key";
    let content = read_or_make(path, fresh).map_err(|why| DataError::Io { what, why })?;
    let about = std::fs::metadata(path).map_err(|why| DataError::Io { what, why })?;
    if about.permissions().mode() & 0o077 != 0 || !is_ours(&about) {
        return Err(DataError::KeyNotPrivate(path.to_owned()));
    }
    content.try_into().map_err(|_| DataError::Damaged(path.to_owned()))
}

fn id(path: &Path) -> Result<String, DataError> {
    let fresh = || Ok(uuid::Uuid::new_v4().to_string().into_bytes());
    let content = read_or_make(path, fresh).map_err(|why| DataError::Io { what: "read the node's id", why })?;
    let id = String::from_utf8(content).ok().filter(|id| uuid::Uuid::try_parse(id).is_ok());
    id.ok_or_else(|| DataError::Damaged(path.to_owned()))
}

/// How often, and how long, a lock that is taken is waited for. A fifth of a second in all: whoever gave it back may have
/// started a child just then, which has the lock as well until it runs a program of its own.
const TRIES: u32 = 10;
const PAUSE: Duration = Duration::from_millis(20);

/// Takes the lock, unless somebody has it.
fn take(lock: &File) -> io::Result<bool> {
    for _ in 0..TRIES {
        match lock.try_lock() {
            Ok(()) => return Ok(true),
            Err(TryLockError::WouldBlock) => std::thread::sleep(PAUSE),
            Err(TryLockError::Error(why)) => return Err(why),
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x09_a_second_node_on_one_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataFolder::open(dir.path()).unwrap();
        assert!(matches!(DataFolder::open(dir.path()), Err(DataError::Locked(_))));
        let (id, key) = (first.id().to_owned(), *first.key());
        drop(first);
        let again = DataFolder::open(dir.path()).unwrap();
        assert_eq!((again.id(), again.key()), (id.as_str(), &key), "identity survives a restart");
    }

    #[test]
    fn a_folder_that_others_can_change_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        for (mode, fits) in [(0o755, true), (0o775, false), (0o757, false)] {
            std::fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            let opened = DataFolder::open(dir.path());
            assert_eq!(opened.is_ok(), fits, "{mode:o}: {opened:?}");
        }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataFolder::open(dir.path()).unwrap());
        let path = dir.path().join("node.key");
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(DataFolder::open(dir.path()), Err(DataError::KeyNotPrivate(_))));
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(matches!(DataFolder::open(dir.path()), Err(DataError::Damaged(_))));
    }
}
