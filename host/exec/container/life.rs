//! The life of one container: made under a name of ours, gone when its owner lets go of it.

use super::engine::{Engine, EngineError};
use super::images::InUse;
use crate::domain::Kind;
use crate::exec::claim::Claim;
use crate::exec::{BoxFuture, ExecError};
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, ListContainersOptionsBuilder, RemoveContainerOptionsBuilder,
};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// Label of all that this node makes in the engine; its value is the node's id.
pub(super) const NODE_LABEL: &str = "collector.node";
/// How long until removing a container is tried again. A second: an engine that restarts takes some of them.
const REMOVE_AGAIN: Duration = Duration::from_secs(1);
/// Attempts after which operators are told. As many as an engine's restart takes.
const REMOVALS_QUIET: u32 = 20;

/// A container of ours. Dropped, it is killed and removed by a task that outlives its owner.
pub(super) struct Container {
    name: String,
    engine: Arc<Engine>,
    /// What it runs is not removed while it is there.
    image: Option<InUse>,
    /// Of the call that has it. Slot and memory are free only when what ran in it is gone.
    claim: Option<Arc<Claim>>,
    /// Since when that call has it; not while it is being made.
    since: Option<Instant>,
    /// There is something to remove.
    there: bool,
}

impl Container {
    /// Makes one. It does not run yet.
    ///
    /// * `kind`: of what runs in it.
    /// * errors: `Missing` if the engine does not have the image any more; then with the claim.
    /// * cancel: safe; what comes into being is removed.
    pub(super) async fn create(
        engine: &Arc<Engine>,
        body: ContainerCreateBody,
        kind: Kind,
        image: InUse,
        claim: Arc<Claim>,
    ) -> Result<Self, (ExecError, Option<Arc<Claim>>)> {
        let name = format!("collector-{}", Uuid::new_v4().simple());
        engine.live().insert(name.clone());
        let (image, claim) = (Some(image), Some(claim));
        let mut container = Self { name, engine: Arc::clone(engine), image, claim, since: None, there: true };
        let made = engine.lifecycle.spawn(async move {
            let options = CreateContainerOptionsBuilder::new().name(&container.name).build();
            let engine = Arc::clone(&container.engine);
            let made = engine
                .ask("create a container", |docker| async move { docker.create_container(Some(options), body).await });
            match made.await {
                Ok(_made) => {
                    container.since = Some(Instant::now());
                    Ok(container)
                }
                // More than that may be a proxy's word after the engine has made it.
                Err(why @ EngineError::Refused { status: ..500, .. }) => {
                    container.there = false;
                    Err((why, container.claim.take()))
                }
                // Perhaps it did and could not say so.
                Err(why) => Err((why, None)),
            }
        });
        match made.await {
            Ok(Ok(container)) => Ok(container),
            Ok(Err((EngineError::Refused { status: 404, .. }, claim))) => Err((ExecError::Missing, claim)),
            Ok(Err((why, claim))) => Err((why.of(kind), claim)),
            Err(panicked) => Err((ExecError::internal(panicked), None)),
        }
    }

    /// Its name in the engine.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The engine that has it.
    pub(super) fn engine(&self) -> &Arc<Engine> {
        &self.engine
    }

    /// It is the next call's.
    pub(super) fn hold(&mut self, claim: Arc<Claim>) {
        (self.claim, self.since) = (Some(claim), Some(Instant::now()));
    }

    /// It waits for the next call: what this one held is free.
    pub(super) fn release(&mut self) {
        self.charge();
        self.claim = None;
    }

    /// Charges the call for the time that it had the container, on all of its processors. What it computed of that time
    /// nobody can ask cheaply: the engine tells by a request of its own, and no more once the container has ended. How
    /// long it takes until the container is removed is the engine's time.
    fn charge(&mut self) {
        if let (Some(claim), Some(since)) = (&self.claim, self.since.take()) {
            claim.charge(since.elapsed().saturating_mul(self.engine.config.cpus));
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        self.charge();
        // Without a runtime the process is about to end: the next start removes it.
        if !self.there || tokio::runtime::Handle::try_current().is_err() {
            self.engine.live().remove(&self.name);
            return;
        }
        let (engine, name) = (Arc::clone(&self.engine), std::mem::take(&mut self.name));
        let held = (self.image.take(), self.claim.take());
        self.engine.lifecycle.spawn(async move {
            engine.remove(&name).await;
            engine.live().remove(&name);
            drop(held);
        });
    }
}

impl Engine {
    /// Kills and removes a container, however long the engine is away: until the node ends. What is left then, the next
    /// start removes.
    async fn remove(self: &Arc<Self>, name: &str) {
        for attempt in 1_u32.. {
            let last = self.lifecycle.is_killed();
            let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
            let removed = self
                .ask("remove a container", |docker| async move { docker.remove_container(name, Some(options)).await });
            if matches!(removed.await, Ok(()) | Err(EngineError::Refused { status: 404, .. })) {
                return;
            }
            if last || attempt == REMOVALS_QUIET {
                tracing::warn!(
                    container = name,
                    "a container could not be removed so far, see why in the engine's log"
                );
            }
            tokio::select! {
                () = tokio::time::sleep(REMOVE_AGAIN) => {}
                () = self.lifecycle.killed() => if last { return },
            }
        }
    }

    /// Removes what earlier lives of this node left in the engine, or what could not be removed in this one.
    pub(super) fn reap(self: Arc<Self>) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.remove_left().await })
    }

    async fn remove_left(self: &Arc<Self>) {
        let ours = HashMap::from([("label".to_owned(), vec![format!("{NODE_LABEL}={}", self.node)])]);
        let options = ListContainersOptionsBuilder::new().all(true).filters(&ours).build();
        let found = self.ask("list containers", |docker| async move { docker.list_containers(Some(options)).await });
        let Ok(found) = found.await else { return };
        let names = found.into_iter().filter_map(|one| one.names?.into_iter().next());
        let names = names.map(|name| name.trim_start_matches('/').to_owned());
        let left: Vec<String> = names.filter(|name| !self.live().contains(name)).collect();
        if !left.is_empty() {
            tracing::info!(
                containers = left.len(),
                "removing containers that an earlier life of this node left behind"
            );
        }
        futures_util::future::join_all(left.iter().map(|name| self.remove(name))).await;
    }
}
