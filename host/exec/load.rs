//! Getting code ready: read, checked, made into what its executor runs, and kept in memory, each digest once at a time.

use super::{Code, ExecError, Origin};
use crate::domain::{Digest, Start};
use crate::lifecycle::Lifecycle;
use moka::future::Cache;
use std::sync::Arc;

/// Code that is ready, by digest. Bounded; the least recently used goes first: a scan over many digests must not be able
/// to keep busy ones out for good, and every newcomer has to be usable at once.
pub(super) struct Loaded<T> {
    cache: Cache<Digest, Arc<T>>,
    lifecycle: Lifecycle,
}

impl<T: Send + Sync + 'static> Loaded<T> {
    /// * `most_mib`: of all together, beside what is in use.
    /// * `cost`: bytes of one.
    pub(super) fn new(most_mib: u64, cost: fn(&T) -> usize, lifecycle: Lifecycle) -> Self {
        let cache = Cache::builder()
            .weigher(move |_: &Digest, one: &Arc<T>| u32::try_from(cost(one)).unwrap_or(u32::MAX))
            .max_capacity(most_mib << 20)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .build();
        Self { cache, lifecycle }
    }

    /// What runs for `code`, made by `make` if it is not there. However many ask at once, it is made once.
    ///
    /// * errors: those of `make`.
    /// * cancel: safe; making goes on in a task of its own, so that the next call finds it.
    pub(super) async fn get<F>(&self, code: &Code, make: impl Fn(Code) -> F) -> Result<(Arc<T>, Start), ExecError>
    where
        F: Future<Output = Result<T, ExecError>> + Send + 'static,
    {
        if let Some(ready) = self.cache.get(&code.digest).await {
            return Ok((ready, Start::Warm));
        }
        // Boxed: seldom, and kilobytes that every warm call would carry along.
        Ok((Box::pin(self.fetch(code, make)).await?, Start::Cold))
    }

    async fn fetch<F>(&self, code: &Code, make: impl Fn(Code) -> F) -> Result<Arc<T>, ExecError>
    where
        F: Future<Output = Result<T, ExecError>> + Send + 'static,
    {
        match self.make(code, make(code.clone())).await {
            // Perhaps it was another namespace's file that was missing, or line that was full, for which this call only
            // waited.
            Err(ExecError::Missing | ExecError::Busy) => self.make(code, make(code.clone())).await,
            made => made,
        }
    }

    async fn make(
        &self,
        code: &Code,
        fresh: impl Future<Output = Result<T, ExecError>> + Send + 'static,
    ) -> Result<Arc<T>, ExecError> {
        let (cache, digest) = (self.cache.clone(), code.digest);
        let made = async move { cache.try_get_with(digest, async { fresh.await.map(Arc::new) }).await };
        let task = self.lifecycle.spawn(made);
        task.await.map_err(ExecError::internal)?.map_err(|shared| (*shared).clone())
    }

    /// How many are ready.
    pub(super) async fn count(&self) -> u64 {
        self.cache.run_pending_tasks().await;
        self.cache.entry_count()
    }
}

/// All bytes of an artifact, checked against its digest.
///
/// * errors: `Missing` if the file is gone or is another one; `Internal` if it cannot be read now.
pub(super) async fn read(code: &Code) -> Result<Vec<u8>, ExecError> {
    let Origin::File(file) = code.origin.clone() else { return Err(ExecError::Missing) };
    let digest = code.digest;
    let whole = move || std::fs::read(file).map(|bytes| (Digest::of(&bytes) == digest).then_some(bytes));
    match blocking(whole).await? {
        Ok(whole) => whole.ok_or(ExecError::Missing),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Err(ExecError::Missing),
        // Too many open files, say: nothing is wrong with the artifact.
        Err(why) => Err(ExecError::internal(why)),
    }
}

/// Runs `work` where blocking is allowed.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ExecError> {
    tokio::task::spawn_blocking(work).await.map_err(ExecError::internal)
}
