//! What was uploaded: content-addressed files, per namespace, bounded.
//!
//! `<folder>/<namespace>/<digest>`. A namespace finds only what was uploaded in it: knowing a digest is no right to the
//! bytes behind it. Files are whole or absent; one torn by a crash fails its digest and counts as absent.

mod component;
mod index;
mod sniff;

pub use component::{Component, ComponentError};
pub use sniff::{Found, sniff};

use crate::domain::{Digest, Kind, Namespace};
use crate::exec::{Code, CodeBytes};
use crate::registry::Schema;
use crate::tenancy::Permit;
use bytes::Bytes;
use index::Index;
use moka::future::Cache;
use serde::{Deserialize, Serialize};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Semaphore;

/// The `[artifacts]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// MiB that one artifact may have. 32: what one gRPC message with a service binary may carry.
    pub max_mib: usize,
    /// MiB of all artifacts on disk; the least recently used go first. 4096: 50,000 components of 80 KB.
    pub disk_mib: u64,
    /// Descriptors kept in memory, by artifact. 512: as many as compiled components.
    pub known: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_mib: 32, disk_mib: 4_096, known: 512 }
    }
}

/// What is known of an artifact after looking into it.
#[derive(Debug)]
pub struct Artifact {
    /// Its identity.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
    /// What it says about itself; `None` for a component without descriptors.
    pub schema: Option<Schema>,
}

/// An artifact of a namespace, ready to run.
#[derive(Debug)]
pub struct Stored {
    /// What is known of it.
    pub artifact: Arc<Artifact>,
    /// What runs.
    pub code: Code,
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
    /// A native binary where none may run.
    #[error("native binaries do not run on this node; build the service for wasm32-wasip2 (setting exec.native)")]
    NativeOff,
    /// A component that is broken or of a kind that does not run here.
    #[error("{0}")]
    Component(#[from] ComponentError),
    /// No such artifact in the namespace.
    #[error("no artifact with this digest was uploaded to this namespace, or it was removed since")]
    NotFound,
    /// Ours.
    #[error("the artifact store failed")]
    Io(#[source] anyhow::Error),
}

/// The artifact store.
pub struct Artifacts {
    folder: PathBuf,
    known: Cache<Digest, Arc<Artifact>>,
    index: Arc<Mutex<Index>>,
    max_bytes: usize,
    lookers: Semaphore,
}

/// Bytes that are hashed where they arrive; more would keep an I/O thread for over a millisecond.
const HASHED_IN_PLACE: usize = 256 << 10;
/// Uploads that are hashed or looked into at once. 2: a flood of large ones leaves the CPU to calls.
const LOOKERS: usize = 2;

impl Artifacts {
    /// Opens the folder and lists what is in it.
    pub fn open(folder: &Path, config: &Config) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let index = Index::survey(folder, config.disk_mib << 20)?;
        let lru = moka::policy::EvictionPolicy::lru();
        Ok(Self {
            folder: folder.to_owned(),
            known: Cache::builder().max_capacity(config.known).eviction_policy(lru).build(),
            index: Arc::new(Mutex::new(index)),
            max_bytes: config.max_mib << 20,
            lookers: Semaphore::new(LOOKERS),
        })
    }

    /// Takes uploaded bytes: decides what they are, looks inside, keeps them.
    ///
    /// * errors: all but `NotFound`; nothing is kept of what is refused.
    /// * cancel: safe; a file is whole or absent.
    pub async fn admit(&self, permit: &Permit, bytes: Bytes) -> Result<Stored, ArtifactError> {
        if bytes.is_empty() {
            return Err(ArtifactError::Empty);
        }
        if bytes.len() > self.max_bytes {
            return Err(ArtifactError::TooLarge { bytes: bytes.len(), most: self.max_bytes });
        }
        let digest = self.hash(&bytes).await?;
        let artifact = match self.known.get(&digest).await {
            Some(artifact) => artifact,
            None => self.look_into(digest, bytes.clone()).await?,
        };
        if !self.touch(permit.namespace(), &digest) {
            self.keep(permit.namespace(), digest, bytes.clone()).await?;
        }
        Ok(Stored::new(artifact, CodeBytes::Memory(bytes)))
    }

    /// Finds what was uploaded to the namespace before.
    ///
    /// * errors: `NotFound`, also for another namespace's artifact and for a damaged one.
    pub async fn find(&self, permit: &Permit, digest: &Digest) -> Result<Stored, ArtifactError> {
        if !self.touch(permit.namespace(), digest) {
            return Err(ArtifactError::NotFound);
        }
        let path = self.path(permit.namespace(), digest);
        if let Some(artifact) = self.known.get(digest).await {
            return Ok(Stored::new(artifact, CodeBytes::File(path)));
        }
        let (file, wanted) = (path.clone(), *digest);
        let whole = move || std::fs::read(&file).ok().filter(|bytes| Digest::of(bytes) == wanted).map(Bytes::from);
        match blocking(whole).await? {
            Some(bytes) => Ok(Stored::new(self.look_into(*digest, bytes).await?, CodeBytes::File(path))),
            None => {
                self.forget(permit.namespace(), digest);
                Err(ArtifactError::NotFound)
            }
        }
    }

    /// Decides the kind and reads the descriptors. CPU work on hostile bytes, so off the I/O threads.
    async fn look_into(&self, digest: Digest, bytes: Bytes) -> Result<Arc<Artifact>, ArtifactError> {
        let _turn = self.lookers.acquire().await.map_err(|closed| ArtifactError::Io(closed.into()))?;
        let artifact = Arc::new(blocking(move || inspect(digest, &bytes)).await??);
        self.known.insert(digest, Arc::clone(&artifact)).await;
        Ok(artifact)
    }

    async fn hash(&self, bytes: &Bytes) -> Result<Digest, ArtifactError> {
        if bytes.len() <= HASHED_IN_PLACE {
            return Ok(Digest::of(bytes));
        }
        let _turn = self.lookers.acquire().await.map_err(|closed| ArtifactError::Io(closed.into()))?;
        let bytes = bytes.clone();
        blocking(move || Digest::of(&bytes)).await
    }

    async fn keep(&self, namespace: &Namespace, digest: Digest, bytes: Bytes) -> Result<(), ArtifactError> {
        let (folder, path) = (self.folder.join(namespace.as_str()), self.path(namespace, &digest));
        let size = bytes.len() as u64;
        let written = blocking(move || {
            std::fs::create_dir_all(&folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&folder)?;
            file.write_all(&bytes)?;
            file.persist(&path)?;
            Ok::<_, io::Error>(())
        });
        written.await?.map_err(|why| ArtifactError::Io(why.into()))?;
        for (namespace, digest) in self.index().insert(namespace.clone(), digest, size) {
            let _ = std::fs::remove_file(self.path(&namespace, &digest));
        }
        Ok(())
    }

    fn touch(&self, namespace: &Namespace, digest: &Digest) -> bool {
        self.index().touch(namespace, digest)
    }

    fn forget(&self, namespace: &Namespace, digest: &Digest) {
        self.index().remove(namespace, digest);
        let _ = std::fs::remove_file(self.path(namespace, digest));
    }

    fn index(&self) -> std::sync::MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, namespace: &Namespace, digest: &Digest) -> PathBuf {
        self.folder.join(namespace.as_str()).join(digest.to_string())
    }
}

impl Stored {
    fn new(artifact: Arc<Artifact>, bytes: CodeBytes) -> Self {
        let code = Code { digest: artifact.digest, kind: artifact.kind, bytes };
        Self { artifact, code }
    }
}

/// Looks into bytes without keeping or running them.
pub fn inspect(digest: Digest, bytes: &[u8]) -> Result<Artifact, ArtifactError> {
    match sniff(bytes) {
        Found::Component => {
            let component = Component::read(bytes)?;
            Ok(Artifact { digest, kind: component.kind()?, schema: component.schema })
        }
        Found::Elf => Err(ArtifactError::NativeOff),
        other => Err(ArtifactError::NotRunnable(other)),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ArtifactError> {
    tokio::task::spawn_blocking(work).await.map_err(|gone| ArtifactError::Io(gone.into()))
}
