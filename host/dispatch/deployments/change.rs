//! Deploying, activating, taking away.

use super::error::DeployError;
use super::plan::{Plan, missing, powers};
use super::{Deployment, Deployments, Version, record};
use crate::dispatch::artifacts::{Artifact, Stored};
use crate::domain::{DeploymentName, Digest, Exceeded, ImageRef, Namespace, Scope, ServiceName};
use crate::exec::{Code, ExecError, Origin};
use crate::registry::{Edit, RegistryError, Snapshot, Staged, now};
use crate::store::{Change as StoreChange, StoreError};
use crate::tenancy::{Grant, Grants, Permit, Quota, Refused};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

/// What is to be deployed, and how.
#[derive(Debug)]
pub struct Order {
    /// `None`: the full name of the first service.
    pub name: Option<DeploymentName>,
    /// The artifact, in the namespace already.
    pub stored: Stored,
    /// Services that a component without descriptors answers.
    pub services: Vec<ServiceName>,
    /// Only say what would happen.
    pub validate_only: bool,
    /// Leave the active version as it is.
    pub keep_inactive: bool,
    /// Beside those that the deployment has.
    pub grants: Vec<Grant>,
}

/// What is to become of the grants of a deployment.
#[derive(Debug)]
pub enum GrantChange {
    /// These come.
    Give(Vec<Grant>),
    /// These go; as [`Grants::without`] takes them.
    Take(Vec<String>),
}

/// A version to be.
struct New {
    artifact: Arc<Artifact>,
    image: Option<ImageRef>,
    services: Vec<ServiceName>,
    keep_inactive: bool,
    grants: Vec<Grant>,
}

/// What a deployment did, or would do.
#[derive(Debug)]
pub struct Deployed {
    /// As it is now, and the number of the version; `None` if nothing was to be done.
    pub deployment: Option<(Arc<Deployment>, u32)>,
    /// The difference.
    pub plan: Plan,
}

impl Deployments {
    /// Adds a version and, unless told otherwise, makes it the active one.
    ///
    /// * cancel: goes on; only the answer is lost. Source: `Deploy`, proto/collector/plugin/v1/plugins.proto.
    pub async fn deploy(self: &Arc<Self>, permit: Permit, order: Order) -> Result<Deployed, DeployError> {
        let this = Arc::clone(self);
        self.tracked(async move { this.deploy_now(&permit, order).await }).await
    }

    /// Makes a version the active one; 0: the newest.
    ///
    /// * cancel: goes on; only the answer is lost.
    pub async fn activate(
        self: &Arc<Self>,
        permit: Permit,
        name: DeploymentName,
        number: u32,
    ) -> Result<Arc<Deployment>, DeployError> {
        let this = Arc::clone(self);
        self.tracked(async move { this.activate_now(&permit, &name, number).await }).await
    }

    /// Takes a deployment away with its services, or with a `number` above 0 one version that is not active.
    ///
    /// * cancel: goes on; only the answer is lost.
    pub async fn undeploy(
        self: &Arc<Self>,
        permit: Permit,
        name: DeploymentName,
        number: u32,
    ) -> Result<(), DeployError> {
        let this = Arc::clone(self);
        self.tracked(async move { this.undeploy_now(&permit, &name, number).await }).await
    }

    /// Gives grants to a deployment, or takes them away. Calls that run now have them, or not, with their next host call.
    ///
    /// * cancel: goes on; only the answer is lost.
    pub async fn regrant(
        self: &Arc<Self>,
        permit: Permit,
        name: DeploymentName,
        change: GrantChange,
    ) -> Result<Arc<Deployment>, DeployError> {
        let this = Arc::clone(self);
        self.tracked(async move { this.regrant_now(&permit, &name, change).await }).await
    }

    async fn tracked<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, DeployError>> + Send + 'static,
    ) -> Result<T, DeployError> {
        self.lifecycle.spawn(work).await.map_err(|gone| DeployError::Internal(gone.into()))?
    }

    async fn deploy_now(self: &Arc<Self>, permit: &Permit, order: Order) -> Result<Deployed, DeployError> {
        let artifact = Arc::clone(&order.stored.artifact);
        let named = named(&artifact, &order);
        let before = named.as_ref().ok().and_then(|(name, _)| self.get(permit.namespace(), name));
        let grants = before.map(|before| before.grants.clone()).unwrap_or_default().with(&order.grants)?;
        let powers = powers(&artifact.imports, &grants);
        let missing = missing(&powers);
        if !missing.is_empty() && !order.validate_only {
            return Err(DeployError::Imports(missing));
        }
        let (name, wanted) = named?;
        // Both ask whether it may run here: what was uploaded once may have been ruled out since.
        match order.validate_only {
            true => self.executor.accepts(permit.namespace(), artifact.kind)?,
            false => self.prepare(permit, &order.stored.code).await?,
        }
        let image = match order.stored.code.origin {
            Origin::Image(image) => Some(image),
            Origin::File(_) => None,
        };
        let new = New {
            artifact: Arc::clone(&artifact),
            image,
            services: wanted,
            keep_inactive: order.keep_inactive,
            grants: order.grants,
        };
        let kept_here = new.image.is_none();
        let (staged, (next, number)) = self.stage(permit, &name, new).await?;
        let plan = Plan { changes: staged.changes().to_vec(), breaking: staged.breaking().to_vec(), powers };
        if order.validate_only {
            return Ok(Deployed { deployment: None, plan });
        }
        if !plan.breaking.is_empty() {
            return Err(RegistryError::Breaking(plan.breaking).into());
        }
        if kept_here {
            self.artifacts.pin(permit, &artifact.digest).await?;
        }
        let deployment = match self.commit(permit, staged, &name, Some(next)).await {
            Ok(deployment) => deployment.ok_or(DeployError::NotFound)?,
            Err(why) => {
                self.unpin_after(permit, artifact.digest, &why).await;
                return Err(why);
            }
        };
        Ok(Deployed { deployment: Some((deployment, number)), plan })
    }

    /// Gives the artifact of a deployment that failed back, unless it may have succeeded after all.
    async fn unpin_after(&self, permit: &Permit, digest: Digest, why: &DeployError) {
        let uncertain =
            matches!(why, DeployError::Registry(RegistryError::Store(StoreError::Io(_) | StoreError::Closed)));
        if !uncertain && let Ok(_turn) = self.registry.hold(permit).await {
            self.unpin_unused(permit, [digest]);
        }
    }

    /// Compiles before anything changes: what cannot run is not activated.
    async fn prepare(&self, permit: &Permit, code: &Code) -> Result<(), DeployError> {
        let ready = self.executor.prepare(permit.namespace(), permit.caller().payer(), code).await;
        if matches!(ready, Err(ExecError::Missing)) {
            self.artifacts.forget(permit, &code.digest).await; // so that the next upload is kept
        }
        Ok(ready?)
    }

    /// Works out what the artifact registers and what the deployment becomes; holds the namespace's turn from here on.
    async fn stage(
        self: &Arc<Self>,
        permit: &Permit,
        name: &DeploymentName,
        new: New,
    ) -> Result<(Staged, (Deployment, u32)), DeployError> {
        let (this, name, namespace) = (Arc::clone(self), name.clone(), permit.namespace().clone());
        let quota = permit.quota();
        let edit = move |snapshot: &Snapshot| {
            let next = this.full_names(snapshot, &new, &name);
            let next = next.and_then(|services| this.with_version(&namespace, &name, &new, services));
            let next = next.and_then(|(next, number)| this.within(&quota, next).map(|next| (next, number)));
            let (next, number) = match next {
                Ok(next) => next,
                Err(why) => return Ok((Edit::default(), Err(why))),
            };
            let named: Vec<String> = match (&new.artifact.schema, next.version(number)) {
                (None, Some(version)) => version.services.iter().map(ToString::to_string).collect(),
                _ => Vec::new(),
            };
            let (services, files) = this.left_over(&namespace, &name, Some(&next));
            let elsewhere = this.files_of_others(&namespace, &name);
            let old = next.versions.iter().flat_map(|version| version.files.clone());
            let edit = Edit::of_component(new.artifact.schema.as_ref(), &named)?
                .without(snapshot, services, files)
                .with_renames(snapshot, old.filter(|file| !elsewhere.contains(file)).collect());
            Ok((edit, Ok((next, number))))
        };
        let (staged, next) = self.registry.stage(permit, edit).await?;
        Ok((staged, next?))
    }

    /// Services and files that a deployment had and will have no more, those excepted that others have.
    fn left_over(
        &self,
        namespace: &Namespace,
        name: &DeploymentName,
        next: Option<&Deployment>,
    ) -> (BTreeSet<Arc<str>>, BTreeSet<Arc<str>>) {
        let of = |deployment: &Deployment| {
            let versions = || deployment.versions.iter();
            let services: BTreeSet<Arc<str>> = versions().flat_map(|version| version.services.clone()).collect();
            let files: BTreeSet<Arc<str>> = versions().flat_map(|version| version.files.clone()).collect();
            (services, files)
        };
        let (services, files) = self.get(namespace, name).map(|before| of(&before)).unwrap_or_default();
        let (kept_services, kept_files) = next.map(of).unwrap_or_default();
        let elsewhere = self.files_of_others(namespace, name);
        let files = files.into_iter().filter(|file| !kept_files.contains(file) && !elsewhere.contains(file));
        (services.difference(&kept_services).cloned().collect(), files.collect())
    }

    /// The services by their full names, none of which may be somebody else's.
    fn full_names(&self, snapshot: &Snapshot, new: &New, name: &DeploymentName) -> Result<Vec<Arc<str>>, DeployError> {
        let mut services = Vec::with_capacity(new.services.len());
        let owners = self.owners(snapshot.namespace());
        for service in &new.services {
            let full: Arc<str> = match new.artifact.schema {
                Some(_) => service.as_str().into(),
                None => {
                    let found = snapshot.find_service(service);
                    Arc::clone(&found.map_err(|_| DeployError::NotRegistered(service.to_string()))?.name)
                }
            };
            if snapshot.is_built_in(&full) {
                return Err(DeployError::BuiltIn(full.to_string()));
            }
            if let Some(owner) = owners.get(&full).filter(|owner| *owner != name) {
                return Err(DeployError::Served { service: full.to_string(), owner: owner.to_string() });
            }
            services.push(full);
        }
        Ok(services)
    }

    fn files_of_others(&self, namespace: &Namespace, name: &DeploymentName) -> HashSet<Arc<str>> {
        let others = self.of(namespace).into_iter().filter(|one| one.name != *name);
        others
            .flat_map(|one| one.versions.iter().flat_map(|version| version.files.clone()).collect::<Vec<_>>())
            .collect()
    }

    /// The deployment with one more version, or with the newest one made active if it has the same artifact.
    fn with_version(
        &self,
        namespace: &Namespace,
        name: &DeploymentName,
        new: &New,
        services: Vec<Arc<str>>,
    ) -> Result<(Deployment, u32), DeployError> {
        let all = self.of(namespace);
        let mut next = match self.get(namespace, name) {
            Some(before) => Deployment::clone(&before),
            None if all.len() >= self.config.count => return Err(DeployError::TooMany(self.config.count)),
            None => Deployment::new(namespace.clone(), name.clone()),
        };
        next.grants = next.grants.with(&new.grants)?;
        let number = next.add(new, services);
        if !new.keep_inactive {
            next.active = number;
        }
        next.forget_oldest(self.config.versions, number);
        let others = all.iter().filter(|one| one.name != *name).flat_map(|one| &one.versions);
        let kept: HashMap<Digest, u64> = others.chain(&next.versions).map(|v| (v.digest, v.bytes)).collect();
        if kept.values().sum::<u64>() > self.config.mib << 20 {
            return Err(DeployError::TooLarge(self.config.mib));
        }
        Ok((next, number))
    }

    /// The deployment, unless with it the namespace would have more artifacts than its quota.
    fn within(&self, quota: &Quota, next: Deployment) -> Result<Deployment, DeployError> {
        let all = self.of(&next.namespace);
        let others = all.iter().filter(|one| one.name != next.name).flat_map(|one| &one.versions);
        let kept: HashMap<Digest, u64> = others.chain(&next.versions).map(|v| (v.digest, v.bytes)).collect();
        let over = |quota, limit| Exceeded { quota, scope: Scope::Namespace, limit, wait: None };
        if quota.artifacts > 0 && kept.len() as u64 > quota.artifacts {
            return Err(Refused::Quota(over("artifacts", quota.artifacts)).into());
        }
        if quota.artifacts_mib > 0 && kept.values().sum::<u64>() > quota.artifacts_mib << 20 {
            return Err(Refused::Quota(over("artifacts_mib", quota.artifacts_mib)).into());
        }
        Ok(next)
    }

    async fn activate_now(
        self: &Arc<Self>,
        permit: &Permit,
        name: &DeploymentName,
        number: u32,
    ) -> Result<Arc<Deployment>, DeployError> {
        let before = self.get(permit.namespace(), name).ok_or(DeployError::NotFound)?;
        let version = before.version(number).ok_or_else(|| no_version(&before, number))?;
        self.prepare(permit, &version.code(&self.artifacts, permit.namespace())).await?;
        let number = version.number;
        let staged = self.registry.hold(permit).await?;
        // As it is now, with the turn held.
        let before = self.get(permit.namespace(), name).ok_or(DeployError::NotFound)?;
        let version = before.version(number).ok_or_else(|| no_version(&before, number))?;
        let missing = missing(&powers(&version.imports, &before.grants));
        if !missing.is_empty() {
            return Err(DeployError::Imports(missing));
        }
        let next = Deployment { active: number, ..Deployment::clone(&before) };
        self.commit(permit, staged, name, Some(next)).await?.ok_or(DeployError::NotFound)
    }

    async fn regrant_now(
        &self,
        permit: &Permit,
        name: &DeploymentName,
        change: GrantChange,
    ) -> Result<Arc<Deployment>, DeployError> {
        let staged = self.registry.hold(permit).await?;
        let before = self.get(permit.namespace(), name).ok_or(DeployError::NotFound)?;
        let grants = match change {
            GrantChange::Give(more) => before.grants.with(&more)?,
            GrantChange::Take(less) => before.grants.without(&less)?,
        };
        let next = Deployment { grants, ..Deployment::clone(&before) };
        self.commit(permit, staged, name, Some(next)).await?.ok_or(DeployError::NotFound)
    }

    async fn undeploy_now(
        self: &Arc<Self>,
        permit: &Permit,
        name: &DeploymentName,
        number: u32,
    ) -> Result<(), DeployError> {
        let (this, wanted, namespace) = (Arc::clone(self), name.clone(), permit.namespace().clone());
        let edit = move |snapshot: &Snapshot| {
            let next = match this.less(&namespace, &wanted, number) {
                Ok(next) => next,
                Err(why) => return Ok((Edit::default(), Err(why))),
            };
            let (services, files) = this.left_over(&namespace, &wanted, next.as_ref());
            Ok((Edit::default().without(snapshot, services, files), Ok(next)))
        };
        let (staged, next) = self.registry.stage(permit, edit).await?;
        self.commit(permit, staged, name, next?).await.map(drop)
    }

    /// The deployment without a version, or with 0 no deployment.
    fn less(
        &self,
        namespace: &Namespace,
        name: &DeploymentName,
        number: u32,
    ) -> Result<Option<Deployment>, DeployError> {
        let before = self.get(namespace, name).ok_or(DeployError::NotFound)?;
        match number {
            0 => Ok(None),
            _ if before.version(number).is_none() => Err(no_version(&before, number)),
            _ if before.active == number => Err(DeployError::IsActive(number)),
            _ => {
                let mut next = Deployment::clone(&before);
                next.versions.retain(|version| version.number != number);
                Ok(Some(next))
            }
        }
    }

    /// Makes it durable, then swaps it in. `None` takes the deployment away.
    async fn commit(
        &self,
        permit: &Permit,
        staged: Staged,
        name: &DeploymentName,
        next: Option<Deployment>,
    ) -> Result<Option<Arc<Deployment>>, DeployError> {
        let namespace = permit.namespace();
        let before = self.get(namespace, name);
        let next = next.map(|next| Deployment { updated_at: now(), ..next });
        let records: Vec<StoreChange> = match (&next, &before) {
            (Some(next), _) => vec![record::put(next)],
            (None, Some(before)) => vec![record::delete(before)],
            (None, None) => return Err(DeployError::NotFound),
        };
        // With the turn held until the end, so that no other change of the namespace comes in between.
        let swap = || {
            self.live.rcu(|live| {
                let mut live = (**live).clone();
                match &next {
                    Some(next) => live.put(&self.artifacts, next.clone()),
                    None => live.take(namespace, name),
                }
                live
            });
            self.unpin_unused(permit, before.iter().flat_map(|before| before.versions.iter().map(|v| v.digest)));
        };
        self.registry.commit(staged, records, swap).await?;
        Ok(self.get(namespace, name))
    }

    /// Gives artifacts back to the common store that no version of the namespace stands on.
    fn unpin_unused(&self, permit: &Permit, digests: impl IntoIterator<Item = Digest>) {
        let all = self.of(permit.namespace());
        for digest in digests {
            if !all.iter().any(|deployment| deployment.holds(&digest)) {
                self.artifacts.unpin(permit, &digest);
            }
        }
    }
}

impl Deployment {
    fn new(namespace: Namespace, name: DeploymentName) -> Self {
        Self {
            namespace,
            name,
            active: 0,
            newest: 0,
            versions: Vec::new(),
            created_at: now(),
            updated_at: 0,
            grants: Grants::default(),
        }
    }

    /// Adds a version, unless the newest is the same; returns its number.
    fn add(&mut self, new: &New, services: Vec<Arc<str>>) -> u32 {
        let New { artifact, image, .. } = new;
        if let Some(newest) = self.versions.last()
            && newest.digest == artifact.digest
            && newest.image == *image
            && newest.services == services
        {
            return newest.number;
        }
        self.newest = self.newest.saturating_add(1);
        self.versions.push(Version {
            number: self.newest,
            digest: artifact.digest,
            kind: artifact.kind,
            image: image.clone(),
            bytes: artifact.bytes,
            services,
            imports: artifact.imports.clone(),
            files: artifact.schema.as_ref().map(|schema| schema.file_names()).unwrap_or_default(),
            created_at: now(),
        });
        self.newest
    }

    /// Forgets the oldest versions above `most`, but neither the active one nor `kept`.
    fn forget_oldest(&mut self, most: usize, kept: u32) {
        while self.versions.len() > most.max(2) {
            let stays = [self.active, kept];
            match self.versions.iter().position(|version| !stays.contains(&version.number)) {
                Some(oldest) => drop(self.versions.remove(oldest)),
                None => break,
            }
        }
    }
}

/// The name that it goes by, and what it answers.
fn named(artifact: &Artifact, order: &Order) -> Result<(DeploymentName, Vec<ServiceName>), DeployError> {
    let wanted = services(artifact, &order.services)?;
    let first = wanted.first().ok_or(DeployError::NoServices)?;
    let name = match &order.name {
        Some(name) => name.clone(),
        None => first.as_str().parse()?,
    };
    Ok((name, wanted))
}

/// What the artifact answers, in its own words or in its deployer's.
fn services(artifact: &Artifact, given: &[ServiceName]) -> Result<Vec<ServiceName>, DeployError> {
    let Some(schema) = &artifact.schema else { return Ok(given.to_vec()) };
    if !given.is_empty() {
        return Err(DeployError::ServicesGiven);
    }
    schema.services().iter().map(|service| Ok(service.name.parse()?)).collect()
}

fn no_version(deployment: &Deployment, wanted: u32) -> DeployError {
    let known = deployment.versions.iter().map(|version| version.number.to_string()).collect();
    DeployError::NoVersion { wanted, known }
}
