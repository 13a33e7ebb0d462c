//! The images that containers are made of: one per binary, made from nothing but the binary; or one that an operator
//! allows, pulled by its digest.
//!
//! The engine keeps them; here is who they are. The least recently used ones go first, and none goes while somebody uses
//! it: an image that fell out of the cache is removed when the last container of it is gone.

use super::engine::Engine;
use super::life::NODE_LABEL;
use super::maker::{Made, Maker};
use super::pull;
use crate::domain::{Digest, ImageRef};
use crate::exec::{Code, ExecError, Origin};
use bollard::models::ImageSummary;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use moka::future::Cache;
use std::sync::{Arc, Mutex, PoisonError};

/// What an image is known by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    /// Made from the binary with this digest.
    Binary(Digest),
    /// From a registry.
    Pulled(ImageRef),
}

impl Key {
    fn of(code: &Code) -> Self {
        match &code.origin {
            Origin::File(_) => Self::Binary(code.digest),
            Origin::Image(image) => Self::Pulled(image.clone()),
        }
    }
}

/// An image that the engine has.
pub(super) struct Image {
    /// How the engine is told which one: an id, or a name with a digest. Never a tag, which others may move.
    reference: String,
    /// Whether it is ours to remove when nobody needs it any more.
    ours: bool,
    needs: Mutex<Needs>,
    engine: Arc<Engine>,
}

/// Who needs an image.
#[derive(Default)]
struct Needs {
    users: usize,
    evicted: bool,
}

/// An image in use: it stays in the engine until this is dropped.
pub(super) struct InUse(Arc<Image>);

/// All images that this node uses. Clones share them.
#[derive(Clone)]
pub(super) struct Images {
    cache: Cache<Key, Arc<Image>>,
    maker: Arc<Maker>,
    engine: Arc<Engine>,
}

impl Images {
    /// * `node_key`: authenticates what this node has made.
    /// * `with_runner`: whether images of binaries can be kept running between calls.
    pub(super) fn new(engine: &Arc<Engine>, node_key: &[u8; 32], with_runner: bool) -> Self {
        let cache = Cache::builder()
            .max_capacity(engine.config.images_kept as u64)
            .eviction_policy(moka::policy::EvictionPolicy::lru())
            .eviction_listener(|_key, image: Arc<Image>, _cause| image.change(|needs| needs.evicted = true))
            .build();
        Self { cache, maker: Arc::new(Maker::new(engine, node_key, with_runner)), engine: Arc::clone(engine) }
    }

    /// The image for `code`. However many ask at once, it is made or pulled once.
    ///
    /// * errors: `Busy`, `Missing`, `ImageNotAllowed`, `Pull`, `Image`, `Broken`.
    /// * cancel: safe; the work goes on in a task of its own, so that the next call finds it.
    pub(super) async fn get(&self, code: &Code) -> Result<InUse, ExecError> {
        if let Origin::Image(image) = &code.origin
            && !self.engine.config.lists(image.repository())
        {
            return Err(ExecError::ImageNotAllowed);
        }
        let key = Key::of(code);
        if let Some(image) = self.cache.get(&key).await {
            return Ok(InUse::of(image));
        }
        match self.make(key.clone(), code).await {
            // Perhaps it was another namespace's file that was missing, for which this call only waited.
            Err(ExecError::Missing) => self.make(key, code).await,
            made => made,
        }
    }

    async fn make(&self, key: Key, code: &Code) -> Result<InUse, ExecError> {
        let (cache, maker, code) = (self.cache.clone(), Arc::clone(&self.maker), code.clone());
        let task = self.engine.lifecycle.spawn(async move {
            let made = cache.try_get_with(key, async { maker.make(&code).await.map(Arc::new) }).await.map(InUse::of);
            cache.run_pending_tasks().await; // now, not some time later: over the bound the engine's disk fills
            made
        });
        task.await.map_err(ExecError::internal)?.map_err(|shared| (*shared).clone())
    }

    /// The engine does not have it any more: somebody removed it there.
    ///
    /// * `reference`: which one that was; perhaps it is replaced already.
    pub(super) async fn forget(&self, code: &Code, reference: &str) {
        let key = Key::of(code);
        if self.cache.get(&key).await.is_some_and(|image| image.reference == reference) {
            self.cache.invalidate(&key).await;
        }
    }

    /// Takes over the images that an earlier life of this node made or pulled, and removes those of no use to this one.
    pub(super) async fn adopt(&self) {
        let options = ListImagesOptionsBuilder::new().digests(true).build();
        let found = self.engine.ask("list images", |docker| async move { docker.list_images(Some(options)).await });
        for summary in found.await.unwrap_or_default() {
            self.adopt_pulled(&summary).await;
            let claims = summary.labels.get(NODE_LABEL) == Some(&self.engine.node);
            match self.maker.whose(&summary) {
                Made::Ours(digest) => self.insert(Key::Binary(digest), summary.id).await,
                Made::Old => Image::new(&self.engine, summary.id, true).discard(),
                Made::Other if claims => {
                    tracing::warn!(image = summary.id, "an image says that this node has made it, which is not so");
                }
                Made::Other => {}
            }
        }
        self.cache.run_pending_tasks().await;
    }

    /// Takes over what the engine has of a listed repository, if it can run here.
    async fn adopt_pulled(&self, summary: &ImageSummary) {
        for image in summary.repo_digests.iter().filter_map(|name| name.parse::<ImageRef>().ok()) {
            if self.engine.config.lists(image.repository())
                && matches!(pull::is_there(&self.engine, &image).await, Ok(true))
            {
                let reference = image.to_string();
                self.insert(Key::Pulled(image), reference).await;
            }
        }
    }

    /// Unless a call has made it meanwhile, which then has its tag too.
    async fn insert(&self, key: Key, reference: String) {
        let image = Arc::new(Image::new(&self.engine, reference, true));
        self.cache.entry(key).or_insert(image).await;
    }

    /// How many there are, for tests and for operators.
    pub(super) async fn count(&self) -> u64 {
        self.cache.run_pending_tasks().await;
        self.cache.entry_count()
    }
}

impl InUse {
    fn of(image: Arc<Image>) -> Self {
        image.change(|needs| needs.users += 1);
        Self(image)
    }

    /// As the engine takes it.
    pub(super) fn reference(&self) -> &str {
        &self.0.reference
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.change(|needs| needs.users -= 1);
    }
}

impl Image {
    /// * `ours`: whether it is removed when nobody needs it any more.
    pub(super) fn new(engine: &Arc<Engine>, reference: String, ours: bool) -> Self {
        Self { reference, ours, needs: Mutex::default(), engine: Arc::clone(engine) }
    }

    /// Nobody needs it.
    fn discard(self) {
        Arc::new(self).change(|needs| needs.evicted = true);
    }

    /// Notes who needs it. Removed from the engine when nobody does; when the node ends its images stay for its next life.
    fn change(self: &Arc<Self>, change: impl FnOnce(&mut Needs)) {
        let unwanted = {
            let mut needs = self.needs.lock().unwrap_or_else(PoisonError::into_inner);
            change(&mut needs);
            needs.evicted && needs.users == 0
        };
        if !unwanted || !self.ours || tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        let image = Arc::clone(self);
        self.engine.lifecycle.spawn(async move { image.engine.remove_image(&image.reference).await });
    }
}

impl Engine {
    /// Removes an image, if no container needs it.
    pub(super) async fn remove_image(self: &Arc<Self>, reference: &str) {
        let options = RemoveImageOptionsBuilder::new().build();
        let removed = self
            .ask("remove an image", |docker| async move { docker.remove_image(reference, Some(options), None).await });
        if let Err(why) = removed.await {
            tracing::debug!(?why, "an image stays in the engine");
        }
    }
}
