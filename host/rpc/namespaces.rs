//! `collector.admin.v1.Namespaces`: convert, one domain call, convert.

use super::edge::{self, RequestId};
use super::page::Pages;
use super::pb::admin::v1 as pb;
use super::{convert, status};
use crate::dispatch::deployments::Deployments;
use crate::domain::{KeptFiles, Namespace};
use crate::store::Footprint;
use crate::tenancy::{Caller, Listed, Namespaces, Overrides, Permit, Quota, Tenancy, Usage, Verb};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Request, Response, Status};

/// The service.
pub struct NamespacesService {
    namespaces: Arc<Namespaces>,
    deployments: Arc<Deployments>,
    tenancy: Tenancy,
    pages: Pages,
}

impl NamespacesService {
    /// * `deployments`: know what artifacts a namespace stands on.
    pub fn new(namespaces: Arc<Namespaces>, deployments: Arc<Deployments>, tenancy: Tenancy, pages: Pages) -> Self {
        Self { namespaces, deployments, tenancy, pages }
    }

    fn permit(&self, caller: &Caller, namespace: &str, verb: Verb, id: &RequestId) -> Result<Permit, Status> {
        let namespace: Namespace =
            convert::required("namespace", namespace).map_err(|why| status::bad_request(why, id))?;
        self.tenancy.authorize(caller, &namespace, verb).map_err(|why| status::refused(&why, id))
    }

    fn info(&self, name: &Namespace, listed: Option<&Listed>) -> pb::NamespaceInfo {
        pb::NamespaceInfo {
            name: name.to_string(),
            created_at: listed.and_then(|listed| listed.created_at),
            updated_at: listed.and_then(|listed| listed.updated_at),
            quota: quota(&self.namespaces.quota(name)),
            own: listed.map(|listed| listed.overrides.clone().into_iter().collect()).unwrap_or_default(),
        }
    }
}

fn quota(quota: &Quota) -> HashMap<String, u64> {
    quota.fields().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn overrides(quota: HashMap<String, u64>) -> Overrides {
    quota.into_iter().collect()
}

fn duration(span: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(span).ok()
}

fn usage(
    usage: Usage,
    kept: Footprint,
    files: KeptFiles,
    (artifacts, artifact_bytes): (u64, u64),
) -> pb::NamespaceUsage {
    pb::NamespaceUsage {
        running_calls: usage.running,
        calls: usage.calls,
        refused: usage.refused,
        cpu: duration(usage.cpu),
        memory_bytes: usage.memory,
        stored_bytes: kept.bytes.saturating_add(files.bytes),
        stored_records: kept.records.saturating_add(files.count),
        files: files.count,
        file_bytes: files.bytes,
        artifacts,
        artifact_bytes,
        compile: duration(usage.compile),
        egress_bytes: usage.egress,
    }
}

#[tonic::async_trait]
impl pb::namespaces_server::Namespaces for NamespacesService {
    async fn create(
        &self,
        request: Request<pb::CreateNamespaceRequest>,
    ) -> Result<Response<pb::CreateNamespaceResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let permit = self.permit(&caller, &request.namespace, Verb::Operate, &id)?;
        let made = self.namespaces.create(&permit, overrides(request.quota)).await;
        let made = made.map_err(|why| status::namespace(&why, &id))?;
        let namespace = Some(self.info(&made.name, Some(&made)));
        Ok(Response::new(pb::CreateNamespaceResponse { namespace }))
    }

    async fn list(
        &self,
        request: Request<pb::ListNamespacesRequest>,
    ) -> Result<Response<pb::ListNamespacesResponse>, Status> {
        const QUERY: &str = "Namespaces.List";
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let bad = |why| status::bad_request(why, &id);
        let size = convert::page_size(request.page_size).map_err(bad)?;
        let after = self.pages.read(QUERY, &request.page_token).map_err(bad)?.and_then(|name| name.parse().ok());
        let seen = |name: &Namespace| self.tenancy.allows(&caller, name, Verb::Discover);
        let mut found = self.namespaces.list(after.as_ref(), size + 1, seen);
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().filter(|_| more);
        let next_page_token = next.map(|last| self.pages.token(QUERY, last.name.as_str())).unwrap_or_default();
        let namespaces = found.iter().map(|one| self.info(&one.name, Some(one))).collect();
        Ok(Response::new(pb::ListNamespacesResponse { namespaces, next_page_token }))
    }

    async fn get(
        &self,
        request: Request<pb::GetNamespaceRequest>,
    ) -> Result<Response<pb::GetNamespaceResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let permit = self.permit(&caller, &request.get_ref().namespace, Verb::Discover, &id)?;
        let name = permit.namespace();
        let namespace = Some(self.info(name, self.namespaces.get(name).as_deref()));
        Ok(Response::new(pb::GetNamespaceResponse { namespace }))
    }

    async fn set_quota(&self, request: Request<pb::SetQuotaRequest>) -> Result<Response<pb::SetQuotaResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let request = request.into_inner();
        let permit = self.permit(&caller, &request.namespace, Verb::Operate, &id)?;
        let done = self.namespaces.set_quota(&permit, overrides(request.quota), request.reset).await;
        let done = done.map_err(|why| status::namespace(&why, &id))?;
        let namespace = Some(self.info(&done.name, Some(&done)));
        Ok(Response::new(pb::SetQuotaResponse { namespace }))
    }

    async fn usage(&self, request: Request<pb::UsageRequest>) -> Result<Response<pb::UsageResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let permit = self.permit(&caller, &request.get_ref().namespace, Verb::Discover, &id)?;
        let (used, kept, files) =
            self.namespaces.usage(permit.namespace()).await.map_err(|why| status::namespace(&why, &id))?;
        let usage = Some(usage(used, kept, files, self.deployments.artifacts(permit.namespace())));
        Ok(Response::new(pb::UsageResponse { usage }))
    }
}
