//! Code that travels: an artifact that another collector has is fetched, checked by its digest, deployed, and answers here.
//!
//! Whoever wants the same at the same time waits for the first, and finds what that one fetched. What fails leaves
//! nothing but, at most, an artifact that no deployment stands on, as an upload would.

use super::artifacts::{ArtifactError, Artifacts, Stored};
use super::deployments::{DeployError, Deployment, Deployments, Order};
use crate::domain::{BoxFuture, CollectorId, DeploymentName, Digest, Namespace, ServiceName};
use crate::tenancy::{Grant, Permit};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::timeout;

/// How long fetching may take. 60 s: the largest artifact at 5 Mbit/s.
const FETCH_TIME: Duration = Duration::from_secs(60);

/// An artifact in the order of its bytes.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<Bytes, FetchError>> + Send>>;

/// Reaches other collectors.
pub trait Sources: Send + Sync {
    /// Reads an artifact of the permit's namespace at another collector, on behalf of the permit's caller.
    ///
    /// * cancel: the other side stops sending.
    fn fetch(
        &self,
        from: &CollectorId,
        permit: &Permit,
        digest: &Digest,
    ) -> BoxFuture<'static, Result<Chunks, FetchError>>;
}

/// What is to be deployed, and where it comes from.
#[derive(Debug)]
pub struct Placement {
    /// Who has it.
    pub from: CollectorId,
    /// `None`: the full name of the first service.
    pub name: Option<DeploymentName>,
    /// The artifact.
    pub digest: Digest,
    /// Full name of the service that it is wanted for. What answers another, or would take the place of what answers here,
    /// is not deployed: who has the code names both.
    pub wanted: Option<Arc<str>>,
    /// Services that a component without descriptors answers.
    pub services: Vec<ServiceName>,
    /// Beside those that the deployment has.
    pub grants: Vec<Grant>,
}

/// Why an artifact did not come.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is no way to it.
    #[error("this collector has no link to the one that has the code: make that one its peer too")]
    NoLink,
    /// It does not answer, or stopped.
    #[error("the collector that has the code was lost before all of it had come; try again")]
    Lost,
    /// It does not give it.
    #[error("the collector that has the code does not give it: {0}")]
    Refused(String),
    /// Its time is up.
    #[error("the code did not come within {} s; try again", FETCH_TIME.as_secs())]
    Slow,
    /// It is for something else.
    #[error("the code that came answers other services than the one that it was to bring")]
    Other,
    /// What came is something else.
    #[error("what came is not the code with this digest")]
    Altered,
}

/// Why code was not placed here.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// It did not come.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It would take another's place, or have what that one was given.
    #[error("the deployment {0} is there already, and answers other services or has grants: deploy the code yourself")]
    Taken(DeploymentName),
    /// It came and was refused.
    #[error(transparent)]
    Deploy(#[from] DeployError),
}

type Turn = tokio::sync::Mutex<()>;
/// Those that somebody has or waits for.
type Turns = HashMap<(Namespace, Digest), Weak<Turn>>;

/// Places code on this node.
pub struct Placing {
    deployments: Arc<Deployments>,
    artifacts: Arc<Artifacts>,
    sources: Arc<dyn Sources>,
    max_bytes: usize,
    /// Who fetches what at the moment.
    turns: Mutex<Turns>,
}

impl Placing {
    /// * `max_bytes`: of one artifact.
    pub fn new(
        deployments: Arc<Deployments>,
        artifacts: Arc<Artifacts>,
        sources: Arc<dyn Sources>,
        max_bytes: usize,
    ) -> Self {
        Self { deployments, artifacts, sources, max_bytes, turns: Mutex::default() }
    }

    /// Fetches an artifact unless it is here, and deploys it.
    ///
    /// * `permit`: to deploy.
    /// * returns: the deployment, and the number of its version with this artifact, which is active.
    /// * cancel: before the artifact is whole nothing is left; after that as [`Deployments::deploy`].
    pub async fn place(&self, permit: &Permit, wanted: Placement) -> Result<(Arc<Deployment>, u32), PlaceError> {
        let turn = self.turn(permit.namespace(), &wanted.digest);
        let _first = turn.lock().await;
        if let Some(there) = self.answered(permit, &wanted) {
            return Ok(there);
        }
        let stored = match self.artifacts.find(permit, &wanted.digest).await {
            Ok(stored) => stored,
            Err(ArtifactError::NotFound) => {
                let fetched = timeout(FETCH_TIME, self.fetch(permit, &wanted)).await;
                fetched.map_err(|_elapsed| FetchError::Slow)??
            }
            Err(why) => return Err(DeployError::from(why).into()),
        };
        if let Some(service) = &wanted.wanted {
            self.fits(permit, service, &wanted, &stored)?;
        }
        let Placement { name, services, grants, .. } = wanted;
        let order = Order { name, stored, services, validate_only: false, keep_inactive: false, grants };
        let deployed = self.deployments.deploy(permit.clone(), order).await?;
        Ok(deployed.deployment.ok_or(DeployError::NotFound)?)
    }

    /// What answers the service that the code is wanted for: whoever waited for another finds what that one placed.
    fn answered(&self, permit: &Permit, wanted: &Placement) -> Option<(Arc<Deployment>, u32)> {
        let active = self.deployments.active(permit.namespace(), wanted.wanted.as_deref()?)?;
        Some((self.deployments.get(permit.namespace(), &active.deployment)?, active.version))
    }

    /// Whether the code answers the service, nothing that is answered here already, and under a name that is free or the
    /// service's own.
    fn fits(&self, permit: &Permit, service: &Arc<str>, wanted: &Placement, stored: &Stored) -> Result<(), PlaceError> {
        // Code without descriptors names no services, nor does a peer for it: it is not deployed.
        let Some(schema) = &stored.artifact.schema else { return Ok(()) };
        let (services, namespace) = (schema.services(), permit.namespace());
        if services.iter().all(|one| *one.name != **service) {
            return Err(FetchError::Other.into());
        }
        if let Some(active) = services.iter().find_map(|one| self.deployments.active(namespace, &one.name)) {
            return Err(PlaceError::Taken(active.deployment.clone()));
        }
        // The name that it will have, whoever gives it.
        let first = || services.first().and_then(|first| first.name.parse().ok());
        let there = wanted.name.clone().or_else(first).and_then(|name| self.deployments.get(namespace, &name));
        let is_its_own = |there: &Deployment| {
            let has = there.versions.iter().any(|version| version.services.contains(service));
            has && there.grants.iter().next().is_none()
        };
        match there.filter(|there| !is_its_own(there)) {
            Some(there) => Err(PlaceError::Taken(there.name.clone())),
            None => Ok(()),
        }
    }

    async fn fetch(&self, permit: &Permit, wanted: &Placement) -> Result<Stored, PlaceError> {
        let deploy = |why: ArtifactError| PlaceError::from(DeployError::from(why));
        let mut chunks = self.sources.fetch(&wanted.from, permit, &wanted.digest).await?;
        let (mut bytes, mut room) = (BytesMut::new(), self.artifacts.room());
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            let (bytes_now, most) = (bytes.len().saturating_add(chunk.len()), self.max_bytes);
            if bytes_now > most {
                return Err(deploy(ArtifactError::TooLarge { bytes: bytes_now, most }));
            }
            room.grow(chunk.len()).map_err(deploy)?;
            bytes.extend_from_slice(&chunk);
        }
        drop((chunks, room)); // taking the artifact in counts it again
        let (bytes, digest) = (bytes.freeze(), wanted.digest);
        let hashed = bytes.clone();
        let found = tokio::task::spawn_blocking(move || Digest::of(&hashed)).await;
        if found.map_err(|gone| DeployError::Internal(gone.into()))? != digest {
            tracing::warn!(peer = %wanted.from, %digest, "a peer sent other bytes than it was asked for");
            return Err(FetchError::Altered.into());
        }
        self.artifacts.admit(permit, bytes).await.map_err(deploy)
    }

    /// One for each artifact that somebody places at the moment.
    fn turn(&self, namespace: &Namespace, digest: &Digest) -> Arc<Turn> {
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as there are calls that place something: looking through them costs less than one of those.
        turns.retain(|_, turn| turn.strong_count() > 0);
        let key = (namespace.clone(), *digest);
        if let Some(turn) = turns.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::<Turn>::default();
        turns.insert(key, Arc::downgrade(&turn));
        turn
    }
}
