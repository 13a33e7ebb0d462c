//! `collector.plugin.v1.Plugins`: convert, one domain call, convert.

use super::convert::{self, BadRequest};
use super::edge::{self, RequestId};
use super::mesh::{Spread, Targets, order};
use super::page::Pages;
use super::pb::plugin::v1 as pb;
use super::status;
use crate::dispatch::artifacts::{Artifact, ArtifactError, Artifacts, Stored};
use crate::dispatch::deployments::{self, DeployError, Deployed, Deployment, Deployments, GrantChange, Order};
use crate::domain::{DeploymentName, Digest, Namespace};
use crate::registry::{Action, Schema, timestamp};
use crate::tenancy::{Caller, Grant, Grants, Permit, Tenancy, Verb};
use bytes::{Bytes, BytesMut};
use pb::deploy_request::Part;
use std::sync::Arc;
use tonic::{Request, Response, Status, Streaming};

/// Bytes of one page. 3 MiB: stock clients take 4 MiB.
const PAGE_BYTES: usize = 3 << 20;

/// The service.
pub struct PluginsService {
    deployments: Arc<Deployments>,
    artifacts: Arc<Artifacts>,
    spread: Spread,
    tenancy: Tenancy,
    pages: Pages,
    max_bytes: usize,
}

impl PluginsService {
    /// * `spread`: brings what is deployed to other collectors.
    /// * `max_bytes`: of one artifact.
    pub(super) fn new(
        (deployments, artifacts, spread): (Arc<Deployments>, Arc<Artifacts>, Spread),
        tenancy: Tenancy,
        pages: Pages,
        max_bytes: usize,
    ) -> Self {
        Self { deployments, artifacts, spread, tenancy, pages, max_bytes }
    }

    fn permit(&self, caller: &Caller, namespace: &str, verb: Verb, id: &RequestId) -> Result<Permit, Status> {
        let namespace: Namespace =
            convert::required("namespace", namespace).map_err(|why| status::bad_request(why, id))?;
        self.tenancy.authorize(caller, &namespace, verb).map_err(|why| status::deploy(why.into(), id))
    }

    fn find(&self, permit: &Permit, name: &DeploymentName, id: &RequestId) -> Result<Arc<Deployment>, Status> {
        let found = self.deployments.get(permit.namespace(), name).ok_or(DeployError::NotFound);
        found.map_err(|why| status::deploy(why, id))
    }

    async fn regrant(
        &self,
        caller: &Caller,
        namespace: &str,
        name: &str,
        change: GrantChange,
        id: &RequestId,
    ) -> Result<pb::Deployment, Status> {
        let permit = self.permit(caller, namespace, Verb::Manage, id)?;
        let name = convert::required("name", name).map_err(|why| status::bad_request(why, id))?;
        if matches!(&change, GrantChange::Give(none) if none.is_empty())
            || matches!(&change, GrantChange::Take(none) if none.is_empty())
        {
            return Err(status::bad_request(BadRequest::Required("grants"), id));
        }
        let done = self.deployments.regrant(permit, name, change).await;
        done.map(|deployment| convert_deployment(&deployment)).map_err(|why| status::deploy(why, id))
    }

    /// What is known of a version's code.
    async fn artifact(&self, permit: &Permit, version: &deployments::Version) -> Result<Arc<Artifact>, ArtifactError> {
        match &version.image {
            Some(image) => Ok(Stored::image(image.clone()).artifact),
            None => Ok(self.artifacts.find(permit, &version.digest).await?.artifact),
        }
    }

    /// The artifact that an upload is about: known by its digest, or the bytes that follow.
    async fn receive(
        &self,
        permit: &Permit,
        upload: Upload,
        parts: &mut Streaming<pb::DeployRequest>,
        id: &RequestId,
    ) -> Result<Stored, Status> {
        let failed = |why: deployments::DeployError| status::deploy(why, id);
        if let Some(digest) = &upload.digest
            && let Ok(known) = self.artifacts.find(permit, digest).await
        {
            return Ok(known);
        }
        let mut bytes = BytesMut::new();
        let mut room = self.artifacts.room();
        while let Some(part) = parts.message().await? {
            let Some(Part::Chunk(chunk)) = part.part else {
                return Err(field("header", "comes once, before the chunks", id));
            };
            if bytes.len() + chunk.len() > self.max_bytes {
                let (bytes, most) = (bytes.len() + chunk.len(), self.max_bytes);
                let why = ArtifactError::TooLarge { bytes, most };
                return Err(failed(why.into()));
            }
            room.grow(chunk.len()).map_err(|why| failed(why.into()))?;
            bytes.extend_from_slice(&chunk);
        }
        drop(room); // taking the artifact in counts it again
        let bytes: Bytes = bytes.freeze();
        upload.check(&bytes, id)?;
        self.artifacts.admit(permit, bytes).await.map_err(|why| failed(why.into()))
    }
}

/// What a header says about the bytes.
struct Upload {
    digest: Option<Digest>,
    size: u64,
}

impl Upload {
    fn read(header: &pb::DeployHeader) -> Result<Self, BadRequest> {
        let digest = match header.digest.as_str() {
            "" => None,
            text => Some(convert::digest("header.digest", text)?),
        };
        Ok(Self { digest, size: header.size_bytes })
    }

    fn check(&self, bytes: &[u8], id: &RequestId) -> Result<(), Status> {
        if bytes.is_empty() && self.digest.is_some() {
            return Err(status::deploy(ArtifactError::NotFound.into(), id));
        }
        if self.size > 0 && self.size != bytes.len() as u64 {
            let problem = format!("is {}, but {} bytes came", self.size, bytes.len());
            return Err(field("header.size_bytes", &problem, id));
        }
        match self.digest {
            Some(wanted) if Digest::of(bytes) != wanted => {
                Err(field("header.digest", "is not the digest of the bytes that came", id))
            }
            _ => Ok(()),
        }
    }
}

fn field(name: &str, problem: &str, id: &RequestId) -> Status {
    status::bad_request(BadRequest::Field { field: name.to_owned(), problem: problem.to_owned() }, id)
}

#[tonic::async_trait]
impl pb::plugins_server::Plugins for PluginsService {
    async fn deploy(
        &self,
        request: Request<Streaming<pb::DeployRequest>>,
    ) -> Result<Response<pb::DeployResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let validate_only = convert::validate_only(request.metadata());
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|part| part.part);
        let Some(Part::Header(header)) = first else {
            return Err(status::bad_request(BadRequest::Required("header"), &id));
        };
        let permit = self.permit(&caller, &header.namespace, Verb::Deploy, &id)?;
        let bad = |why| status::bad_request(why, &id);
        let grants = grants(&header.grants).map_err(|why| status::deploy(why, &id))?;
        if !grants.is_empty() {
            self.permit(&caller, &header.namespace, Verb::Manage, &id)?;
        }
        let name = match header.name.as_str() {
            "" => None,
            name => Some(convert::required("header.name", name).map_err(bad)?),
        };
        let services = header.services.iter().map(|name| convert::required("header.services", name));
        let services = services.collect::<Result<_, _>>().map_err(bad)?;
        let targets = targets(&header).map_err(bad)?;
        let stored = match header.image.as_str() {
            "" => self.receive(&permit, Upload::read(&header).map_err(bad)?, &mut parts, &id).await?,
            image => Stored::image(convert::image("header.image", image).map_err(bad)?),
        };
        let validate_only = validate_only || header.validate_only;
        let digest = stored.artifact.digest;
        let wanted = Order { name, stored, services, validate_only, keep_inactive: header.keep_inactive, grants };
        let deployed = self.deployments.deploy(permit.clone(), wanted).await;
        let deployed = deployed.map_err(|why| status::deploy(why, &id))?;
        let placed = match (targets, &deployed.deployment) {
            (Some(targets), Some((deployment, _))) => {
                let order = order(deployment, &digest, (header.services, header.grants));
                self.spread.to(targets, &permit, order).await
            }
            _ => Vec::new(),
        };
        Ok(Response::new(pb::DeployResponse { placed, ..convert_deployed(deployed) }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let namespace = match request.namespace.as_str() {
            "" => None,
            one => Some(self.permit(&caller, one, Verb::Discover, &id)?.namespace().clone()),
        };
        let size = convert::page_size(request.page_size).map_err(|why| status::bad_request(why, &id))?;
        let query = format!("Plugins.List {}", request.namespace);
        let after = self.pages.read(&query, &request.page_token).map_err(|why| status::bad_request(why, &id))?;
        let after = after.as_deref().and_then(|text| text.split_once('/'));
        let after = after.and_then(|(namespace, name)| Some((namespace.parse().ok()?, name.parse().ok()?)));
        let seen = |namespace: &Namespace| self.tenancy.allows(&caller, namespace, Verb::Discover);
        let mut found = self.deployments.list(namespace.as_ref(), after.as_ref(), size + 1, seen);
        let fits = fitting(&found).min(size);
        let more = found.len() > fits;
        found.truncate(fits);
        let next = found.last().filter(|_| more);
        let token = |last: &Arc<Deployment>| self.pages.token(&query, &format!("{}/{}", last.namespace, last.name));
        let next_page_token = next.map(token).unwrap_or_default();
        let deployments = found.iter().map(|one| convert_deployment(one)).collect();
        Ok(Response::new(pb::ListResponse { deployments, next_page_token }))
    }

    async fn get(&self, request: Request<pb::GetRequest>) -> Result<Response<pb::GetResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let permit = self.permit(&caller, &request.namespace, Verb::Discover, &id)?;
        let name = convert::required("name", &request.name).map_err(|why| status::bad_request(why, &id))?;
        let found = self.find(&permit, &name, &id)?;
        Ok(Response::new(pb::GetResponse { deployment: Some(convert_deployment(&found)) }))
    }

    async fn activate(&self, request: Request<pb::ActivateRequest>) -> Result<Response<pb::ActivateResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let permit = self.permit(&caller, &request.namespace, Verb::Deploy, &id)?;
        let name = convert::required("name", &request.name).map_err(|why| status::bad_request(why, &id))?;
        let done = self.deployments.activate(permit, name, request.version).await;
        let deployment = done.map_err(|why| status::deploy(why, &id))?;
        Ok(Response::new(pb::ActivateResponse { deployment: Some(convert_deployment(&deployment)) }))
    }

    async fn undeploy(&self, request: Request<pb::UndeployRequest>) -> Result<Response<pb::UndeployResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let permit = self.permit(&caller, &request.namespace, Verb::Deploy, &id)?;
        let name = convert::required("name", &request.name).map_err(|why| status::bad_request(why, &id))?;
        let done = self.deployments.undeploy(permit, name, request.version).await;
        done.map(|()| Response::new(pb::UndeployResponse {})).map_err(|why| status::deploy(why, &id))
    }

    async fn grant(&self, request: Request<pb::GrantRequest>) -> Result<Response<pb::GrantResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let pb::GrantRequest { namespace, name, grants: texts } = request.into_inner();
        let change = grants(&texts).map(GrantChange::Give).map_err(|why| status::deploy(why, &id))?;
        let deployment = Some(self.regrant(&caller, &namespace, &name, change, &id).await?);
        Ok(Response::new(pb::GrantResponse { deployment }))
    }

    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> Result<Response<pb::RevokeResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let pb::RevokeRequest { namespace, name, grants } = request.into_inner();
        let deployment = self.regrant(&caller, &namespace, &name, GrantChange::Take(grants), &id).await?;
        Ok(Response::new(pb::RevokeResponse { deployment: Some(deployment) }))
    }

    async fn inspect(&self, request: Request<pb::InspectRequest>) -> Result<Response<pb::InspectResponse>, Status> {
        use pb::inspect_request::Artifact as Wanted;
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let permit = self.permit(&caller, &request.namespace, Verb::Discover, &id)?;
        let bad = |why| status::bad_request(why, &id);
        let mut grants = Grants::default();
        let artifact = match request.artifact {
            None => return Err(bad(BadRequest::Required("digest or name"))),
            Some(Wanted::Digest(text)) => {
                let digest = convert::digest("digest", &text).map_err(bad)?;
                self.artifacts.find(&permit, &digest).await.map_err(|why| status::deploy(why.into(), &id))?.artifact
            }
            Some(Wanted::Name(name)) => {
                let name = convert::required("name", &name).map_err(bad)?;
                let found = self.find(&permit, &name, &id)?;
                let version = found.version(found.active).ok_or(DeployError::NotFound);
                let version = version.map_err(|why| status::deploy(why, &id))?;
                grants = found.grants.clone();
                self.artifact(&permit, version).await.map_err(|why| status::deploy(why.into(), &id))?
            }
        };
        let schema = artifact.schema.as_ref();
        let services = schema.map(Schema::services).unwrap_or_default();
        Ok(Response::new(pb::InspectResponse {
            digest: format!("sha256:{}", artifact.digest),
            kind: artifact.kind.name().to_owned(),
            size_bytes: artifact.bytes,
            services: services.iter().map(|service| service.name.to_string()).collect(),
            powers: deployments::powers(&artifact.imports, &grants).iter().map(convert_power).collect(),
            descriptors: schema.map(|schema| schema.encoded().clone()).unwrap_or_default(),
        }))
    }
}

/// How many of the deployments one page holds, at least one.
fn fitting(found: &[Arc<Deployment>]) -> usize {
    let length = |names: &[Arc<str>]| names.iter().map(|name| name.len() + 4).sum::<usize>();
    let imports = |version: &deployments::Version| version.imports.iter().map(|import| import.len() + 4).sum::<usize>();
    let of = |v: &deployments::Version| 128 + length(&v.services) + length(&v.files) + imports(v);
    let grants = |one: &Deployment| one.grants.iter().map(|grant| grant.to_string().len() + 4).sum::<usize>();
    let sizes = found.iter().map(|one| 256 + grants(one) + one.versions.iter().map(of).sum::<usize>());
    let sums = sizes.scan(0, |sum, size| {
        *sum += size;
        Some(*sum)
    });
    sums.take_while(|sum| *sum <= PAGE_BYTES).count().max(1)
}

/// Which collectors are to have it besides.
fn targets(header: &pb::DeployHeader) -> Result<Option<Targets>, BadRequest> {
    let field = |problem: String| BadRequest::Field { field: "header.to".to_owned(), problem };
    let targets = Targets::read(&header.to).map_err(field)?;
    match targets.is_some() && (header.keep_inactive || !header.image.is_empty()) {
        true => Err(field("excludes header.image and header.keep_inactive".to_owned())),
        false => Ok(targets),
    }
}

fn grants(texts: &[String]) -> Result<Vec<Grant>, DeployError> {
    texts.iter().map(|text| Ok(text.parse()?)).collect()
}

fn convert_power(power: &deployments::Power) -> pb::Power {
    pb::Power {
        import: power.import.clone(),
        granted: power.granted,
        grant: power.grant.unwrap_or_default().to_owned(),
    }
}

fn convert_deployed(deployed: Deployed) -> pb::DeployResponse {
    let change = |change: crate::registry::Change| pb::Change {
        action: match change.action {
            Action::Added => pb::change::Action::Added.into(),
            Action::Changed => pb::change::Action::Changed.into(),
            Action::Removed => pb::change::Action::Removed.into(),
        },
        service: change.service,
        method: change.method,
    };
    let plan = pb::Plan {
        changes: deployed.plan.changes.into_iter().map(change).collect(),
        breaking: deployed.plan.breaking,
        powers: deployed.plan.powers.iter().map(convert_power).collect(),
    };
    let (deployment, version) = deployed.deployment.unzip();
    let deployment = deployment.map(|deployment| convert_deployment(&deployment));
    pb::DeployResponse { deployment, version: version.unwrap_or_default(), plan: Some(plan), placed: Vec::new() }
}

fn convert_deployment(deployment: &Deployment) -> pb::Deployment {
    let strings = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
    let version = |version: &deployments::Version| pb::Version {
        number: version.number,
        digest: format!("sha256:{}", version.digest),
        kind: version.kind.name().to_owned(),
        size_bytes: version.bytes,
        services: strings(&version.services),
        imports: version.imports.clone(),
        created_at: Some(timestamp(version.created_at)),
        files: strings(&version.files),
        image: version.image.as_ref().map(ToString::to_string).unwrap_or_default(),
    };
    pb::Deployment {
        namespace: deployment.namespace.to_string(),
        name: deployment.name.to_string(),
        active_version: deployment.active,
        versions: deployment.versions.iter().map(version).collect(),
        created_at: Some(timestamp(deployment.created_at)),
        updated_at: Some(timestamp(deployment.updated_at)),
        newest_version: deployment.newest,
        grants: deployment.grants.iter().map(ToString::to_string).collect(),
    }
}
