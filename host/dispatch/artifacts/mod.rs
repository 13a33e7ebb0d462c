//! What was uploaded: content-addressed files, per namespace, bounded.
//!
//! `<folder>/<namespace>/<digest>`. A namespace finds only what was uploaded in it: knowing a digest is no right to the
//! bytes behind it. Files are whole or absent; one torn by a crash fails its digest and counts as absent. Files and index
//! change together, under the index's lock, so that neither knows of something that the other does not.

mod component;
mod elf;
mod index;
mod prescan;
mod sniff;

pub use component::{Component, ComponentError};
pub use elf::{Elf, ElfError};
pub use prescan::{Scan, TooMuch, prescan};
pub use sniff::{Found, sniff};

use crate::domain::{Digest, ImageRef, Kind, Namespace};
use crate::exec::{Code, ExecError, Origin};
use crate::registry::Schema;
use crate::store::Headroom;
use crate::tenancy::Permit;
use bytes::Bytes;
use index::Index;
use moka::future::Cache;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// The section in which the SDK puts the service's descriptors, in components and in native binaries alike. Source:
/// design.md section 2.
const DESCRIPTORS: &str = "collector:descriptors";

/// Says whether code of a kind may run for a namespace; asked before anything of an upload is kept.
pub type Accepts = Box<dyn Fn(&Namespace, Kind) -> Result<(), ExecError> + Send + Sync>;

/// The `[artifacts]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// MiB that one artifact may have. 32: what one gRPC message with a service binary may carry.
    pub max_mib: usize,
    /// MiB of all artifacts on disk; the least recently used go first. 4096: 50,000 components of 80 KB.
    pub disk_mib: u64,
    /// Artifacts on disk, whatever their size. 100,000: each costs 300 bytes of memory and two inodes at most.
    pub count: usize,
    /// MiB of uploads that are taken in at once; more are RESOURCE_EXHAUSTED. 256: eight of the largest.
    pub uploading_mib: usize,
    /// MiB of descriptors kept in memory. 64: those of about 1,000 plugins.
    pub known_mib: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_mib: 32, disk_mib: 4_096, count: 100_000, uploading_mib: 256, known_mib: 64 }
    }
}

/// What is known of an artifact after looking into it.
#[derive(Debug)]
pub struct Artifact {
    /// Its identity.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
    /// What it says about itself; `None` without descriptors.
    pub schema: Option<Schema>,
    /// What it imports, as it names it.
    pub imports: Vec<String>,
    /// Its size.
    pub bytes: u64,
}

/// An artifact of a namespace, ready to run.
#[derive(Debug)]
pub struct Stored {
    /// What is known of it.
    pub artifact: Arc<Artifact>,
    /// What runs.
    pub code: Code,
}

impl Stored {
    /// A container image: the engine keeps it, nothing of it is here, and it says nothing about itself.
    pub fn image(image: ImageRef) -> Self {
        let (digest, imports) = (image.digest(), Vec::new());
        let artifact = Artifact { digest, kind: Kind::Image, schema: None, imports, bytes: 0 };
        Self { artifact: Arc::new(artifact), code: Code::image(image) }
    }
}

/// Why bytes did not become an artifact, or were not found.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    /// No bytes at all.
    #[error("service binary is empty")]
    Empty,
    /// Above `artifacts.max_mib`.
    #[error("the binary has {bytes} bytes, at most {most} are allowed (artifacts.max_mib)")]
    TooLarge {
        /// Its size.
        bytes: usize,
        /// The ceiling.
        most: usize,
    },
    /// Nothing that runs here.
    #[error("{0}")]
    NotRunnable(Found),
    /// Of a kind that does not run for the namespace, or not on this machine.
    #[error(transparent)]
    Refused(#[from] ExecError),
    /// A native binary that does not run here.
    #[error(transparent)]
    Elf(#[from] ElfError),
    /// A component that is broken or of a kind that does not run here.
    #[error("{0}")]
    Component(#[from] ComponentError),
    /// Too many bytes are being taken in.
    #[error("the node is busy with other uploads, try again later")]
    Busy,
    /// No space left, but for what is kept free.
    #[error("no space left in the node's storage; what was uploaded before goes on running")]
    Full,
    /// No such artifact in the namespace.
    #[error("no artifact with this digest was uploaded to this namespace, or it was removed since")]
    NotFound,
    /// Ours.
    #[error("the artifact store failed")]
    Io(#[source] anyhow::Error),
}

/// Bytes that are hashed where they arrive; more would keep an I/O thread for over a millisecond.
const HASHED_IN_PLACE: usize = 256 << 10;
/// Uploads that are hashed or looked into at once. 2: a flood of large ones leaves the CPU to calls.
const LOOKERS: usize = 2;
/// What a known artifact costs in memory beside its descriptors.
const KNOWN_COST: usize = 1 << 10;
/// What one import costs beside its name.
const KNOWN_IMPORT: usize = 48;
/// How much larger descriptors are in memory, linked and indexed, than encoded.
const DESCRIPTOR_GROWTH: usize = 8;

/// The artifact store.
pub struct Artifacts {
    known: Cache<Digest, Arc<Artifact>>,
    index: Arc<Mutex<Index>>,
    accepts: Accepts,
    max_bytes: usize,
    lookers: Arc<Semaphore>,
    uploads: Semaphore,
    /// Where they are kept, and what stays free there.
    volume: (PathBuf, Headroom),
}

impl Artifacts {
    /// Opens the folder, lists what is in it, and removes what is over the bounds.
    ///
    /// * `pinned`: artifacts that deployments stand on; the bounds do not count them.
    /// * `accepts`: says what may be uploaded.
    pub fn open(
        folder: &Path,
        config: &Config,
        pinned: Vec<(Namespace, Digest)>,
        accepts: Accepts,
    ) -> io::Result<Self> {
        let index = Index::open(folder, config.disk_mib << 20, config.count, pinned)?;
        let cost = |_: &Digest, artifact: &Arc<Artifact>| {
            let descriptors = artifact.schema.as_ref().map_or(0, |schema| schema.encoded().len() + schema.weight());
            let imports: usize = artifact.imports.iter().map(|import| import.len() + KNOWN_IMPORT).sum();
            u32::try_from(KNOWN_COST + descriptors * DESCRIPTOR_GROWTH + imports).unwrap_or(u32::MAX)
        };
        let known = Cache::builder()
            .weigher(cost)
            .max_capacity(config.known_mib << 20)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        Ok(Self {
            known,
            index: Arc::new(Mutex::new(index)),
            accepts,
            max_bytes: config.max_mib << 20,
            lookers: Arc::new(Semaphore::new(LOOKERS)),
            uploads: Semaphore::new(config.uploading_mib.max(config.max_mib) << 10),
            volume: (folder.to_owned(), Headroom::default()),
        })
    }

    /// The same, with so much left free on its volume.
    #[must_use]
    pub fn leaving(self, headroom: Headroom) -> Self {
        Self { volume: (self.volume.0, headroom), ..self }
    }

    /// Room for an upload that arrives piece by piece.
    pub fn room(&self) -> Room<'_> {
        Room { uploads: &self.uploads, held: None }
    }

    /// Takes uploaded bytes: decides what they are, looks inside, keeps them.
    ///
    /// * errors: all but `NotFound`; nothing is kept of what is refused.
    /// * cancel: safe; a file is whole and counted, or absent.
    pub async fn admit(&self, permit: &Permit, bytes: Bytes) -> Result<Stored, ArtifactError> {
        if bytes.is_empty() {
            return Err(ArtifactError::Empty);
        }
        if bytes.len() > self.max_bytes {
            return Err(ArtifactError::TooLarge { bytes: bytes.len(), most: self.max_bytes });
        }
        if let Some(kind) = sniff(&bytes).kind() {
            (self.accepts)(permit.namespace(), kind)?;
        }
        let held = u32::try_from(bytes.len() >> 10).unwrap_or(u32::MAX).max(1);
        let _room = self.uploads.try_acquire_many(held).map_err(|_full| ArtifactError::Busy)?;
        let digest = self.hash(&bytes).await?;
        let artifact = match self.known.get(&digest).await {
            Some(artifact) => artifact,
            None => self.look_into(digest, bytes.clone()).await?,
        };
        if !self.index().touch(permit.namespace(), &digest) {
            let (index, namespace) = (Arc::clone(&self.index), permit.namespace().clone());
            let (folder, headroom) = self.volume.clone();
            let kept = blocking(move || {
                if headroom.is_short(&folder) {
                    return Err(io::ErrorKind::StorageFull.into());
                }
                // Written beside the lock, counted and put in place under it.
                let written = lock(&index).temporary()?.write(&bytes)?;
                lock(&index).insert(namespace, digest, written)?;
                while lock(&index).evict_one() {}
                Ok::<_, io::Error>(())
            });
            kept.await?.map_err(|why| match why.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ArtifactError::Full,
                _ => ArtifactError::Io(why.into()),
            })?;
        }
        Ok(self.stored(permit, artifact))
    }

    /// Finds what was uploaded to the namespace before.
    ///
    /// * errors: `NotFound`, also for another namespace's artifact and for a damaged one.
    pub async fn find(&self, permit: &Permit, digest: &Digest) -> Result<Stored, ArtifactError> {
        if !self.index().touch(permit.namespace(), digest) {
            return Err(ArtifactError::NotFound);
        }
        if let Some(artifact) = self.known.get(digest).await {
            return Ok(self.stored(permit, artifact));
        }
        // In turns from here on: whole files are in memory.
        let turn = self.turn().await?;
        if let Some(artifact) = self.known.get(digest).await {
            return Ok(self.stored(permit, artifact));
        }
        let (file, wanted) = (self.index().path(permit.namespace(), digest), *digest);
        let looked = blocking(move || {
            let _turn = turn; // held by the work, not by its caller, who may leave
            let bytes = std::fs::read(&file)?;
            Ok::<_, io::Error>((Digest::of(&bytes) == wanted).then(|| inspect_again(wanted, &bytes)))
        });
        match looked.await? {
            Ok(Some(artifact)) => {
                let artifact = Arc::new(artifact?);
                self.known.insert(*digest, Arc::clone(&artifact)).await;
                Ok(self.stored(permit, artifact))
            }
            // Too many open files, say: nothing is wrong with the artifact.
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(ArtifactError::Io(why.into())),
            Ok(None) | Err(_) => {
                self.forget(permit, digest).await;
                Err(ArtifactError::NotFound)
            }
        }
    }

    /// Keeps an artifact that is there, durably and whatever the bounds.
    ///
    /// * errors: `NotFound` if it was removed meanwhile, `Io`.
    pub async fn pin(&self, permit: &Permit, digest: &Digest) -> Result<(), ArtifactError> {
        let (index, namespace, digest) = (Arc::clone(&self.index), permit.namespace().clone(), *digest);
        let pinned = blocking(move || {
            // Synced beside the lock: a slow disk is nobody else's wait.
            let (folder, path) = {
                let index = lock(&index);
                (index.folder().to_owned(), index.path(&namespace, &digest))
            };
            let file = File::open(path)?;
            file.sync_all()?;
            File::open(folder.join(namespace.as_str()))?.sync_all()?;
            File::open(folder)?.sync_all()?;
            let size = file.metadata()?.len();
            Ok::<_, io::Error>(lock(&index).pin(&namespace, &digest, size))
        });
        match pinned.await? {
            Ok(true) => Ok(()),
            Ok(false) => Err(ArtifactError::NotFound),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Err(ArtifactError::NotFound),
            Err(why) => Err(ArtifactError::Io(why.into())),
        }
    }

    /// Counts an artifact among the others again: no deployment stands on it any more.
    pub fn unpin(&self, permit: &Permit, digest: &Digest) {
        self.index().unpin(permit.namespace(), digest);
    }

    /// What runs as this artifact of the namespace, whether or not its file is there at the moment.
    pub fn code(&self, namespace: &Namespace, digest: Digest, kind: Kind) -> Code {
        Code { digest, kind, origin: Origin::File(self.index().path(namespace, &digest)) }
    }

    /// Removes an artifact whose file turned out to be gone or damaged, so that it can be uploaded again. It is looked at
    /// once more: others found it so as well, and it may have been uploaded since.
    pub async fn forget(&self, permit: &Permit, digest: &Digest) {
        let Ok(turn) = self.turn().await else { return };
        let (index, namespace, digest) = (Arc::clone(&self.index), permit.namespace().clone(), *digest);
        let look = move || {
            let _turn = turn; // a whole file is in memory
            let path = lock(&index).path(&namespace, &digest);
            let seen = identity(&path);
            let gone = match std::fs::read(&path) {
                Ok(bytes) => Digest::of(&bytes) != digest,
                // Too many open files, say: nothing is wrong with the artifact.
                Err(why) => why.kind() == io::ErrorKind::NotFound,
            };
            let mut index = lock(&index);
            if gone && identity(&path) == seen {
                index.remove(&namespace, &digest);
            }
        };
        let _ = blocking(look).await;
    }

    /// Decides the kind and reads the descriptors. CPU work on hostile bytes, so off the I/O threads and in turns.
    async fn look_into(&self, digest: Digest, bytes: Bytes) -> Result<Arc<Artifact>, ArtifactError> {
        let turn = self.turn().await?;
        if let Some(artifact) = self.known.get(&digest).await {
            return Ok(artifact); // whoever had the turn before looked into the same bytes
        }
        let looked = blocking(move || {
            let _turn = turn; // held by the work, not by its caller, who may leave
            inspect(digest, &bytes)
        });
        let artifact = Arc::new(looked.await??);
        self.known.insert(digest, Arc::clone(&artifact)).await;
        Ok(artifact)
    }

    async fn hash(&self, bytes: &Bytes) -> Result<Digest, ArtifactError> {
        if bytes.len() <= HASHED_IN_PLACE {
            return Ok(Digest::of(bytes));
        }
        let (turn, bytes) = (self.turn().await?, bytes.clone());
        blocking(move || {
            let _turn = turn;
            Digest::of(&bytes)
        })
        .await
    }

    async fn turn(&self) -> Result<tokio::sync::OwnedSemaphorePermit, ArtifactError> {
        Arc::clone(&self.lookers).acquire_owned().await.map_err(|closed| ArtifactError::Io(closed.into()))
    }

    fn stored(&self, permit: &Permit, artifact: Arc<Artifact>) -> Stored {
        let code = self.code(permit.namespace(), artifact.digest, artifact.kind);
        Stored { artifact, code }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        lock(&self.index)
    }
}

/// Tells a file from one that took its place, which was made or renamed later; `None` if there is none.
fn identity(path: &Path) -> Option<(u64, i64, i64)> {
    let file = std::fs::symlink_metadata(path).ok()?;
    Some((file.ino(), file.ctime(), file.ctime_nsec()))
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a growing upload holds of the room for uploads; given back on drop.
pub struct Room<'a> {
    uploads: &'a Semaphore,
    held: Option<SemaphorePermit<'a>>,
}

impl Room<'_> {
    /// Makes room for so many bytes more.
    ///
    /// * errors: `Busy` if other uploads have it.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ArtifactError> {
        let kib = u32::try_from(bytes.div_ceil(1 << 10)).unwrap_or(u32::MAX);
        let more = self.uploads.try_acquire_many(kib).map_err(|_full| ArtifactError::Busy)?;
        match &mut self.held {
            Some(held) => held.merge(more),
            None => self.held = Some(more),
        }
        Ok(())
    }
}

/// Looks into bytes without keeping or running them, whether or not they may run here.
pub fn inspect(digest: Digest, bytes: &[u8]) -> Result<Artifact, ArtifactError> {
    look(digest, bytes, Component::read)
}

/// The same of bytes that were looked into before they were kept under their digest.
fn inspect_again(digest: Digest, bytes: &[u8]) -> Result<Artifact, ArtifactError> {
    look(digest, bytes, Component::read_again)
}

fn look(
    digest: Digest,
    bytes: &[u8],
    read: fn(&[u8]) -> Result<Component, ComponentError>,
) -> Result<Artifact, ArtifactError> {
    match sniff(bytes) {
        Found::Component => {
            let component = read(bytes)?;
            let kind = component.kind()?;
            let Component { imports, schema, .. } = component;
            Ok(Artifact { digest, kind, schema, imports, bytes: bytes.len() as u64 })
        }
        Found::Elf => {
            let Elf { schema } = Elf::read(bytes)?;
            Ok(Artifact { digest, kind: Kind::NativeElf, schema, imports: Vec::new(), bytes: bytes.len() as u64 })
        }
        other => Err(ArtifactError::NotRunnable(other)),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ArtifactError> {
    tokio::task::spawn_blocking(work).await.map_err(|gone| ArtifactError::Io(gone.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenancy::{Caller, Tenancy, Verb};

    #[tokio::test]
    async fn only_what_is_gone_or_damaged_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts =
            Artifacts::open(folder.path(), &Config::default(), Vec::new(), Box::new(|_, _| Ok(()))).unwrap();
        let permit =
            Tenancy::default().authorize(&Caller::anonymous(), &"acme".parse().unwrap(), Verb::Operate).unwrap();
        let text = r#"(component (instance $run) (export "wasi:cli/run@0.2.3" (instance $run)))"#;
        let bytes = Bytes::from(wat::parse_str(text).unwrap());
        let digest = Digest::of(&bytes);
        let file = folder.path().join("acme").join(digest.to_string());
        artifacts.admit(&permit, bytes.clone()).await.unwrap();
        artifacts.forget(&permit, &digest).await;
        assert!(artifacts.find(&permit, &digest).await.is_ok(), "whoever said so looked before it was uploaded");
        std::fs::write(&file, &bytes[1..]).unwrap();
        artifacts.forget(&permit, &digest).await;
        assert!(matches!(artifacts.find(&permit, &digest).await, Err(ArtifactError::NotFound)) && !file.exists());
        artifacts.admit(&permit, bytes).await.unwrap();
        std::fs::remove_file(&file).unwrap();
        artifacts.forget(&permit, &digest).await;
        assert!(matches!(artifacts.find(&permit, &digest).await, Err(ArtifactError::NotFound)));
    }
}
