//! `collector.admin.v1.Keys`: convert, one domain call, convert.

use super::convert::{self, BadRequest};
use super::edge;
use super::page::Pages;
use super::pb::admin::v1 as pb;
use super::status;
use crate::domain::{Namespace, micros, timestamp};
use crate::tenancy::{Binding, Key, NewKey, Tenancy};
use tonic::{Request, Response, Status};

/// The service.
pub struct KeysService {
    tenancy: Tenancy,
    pages: Pages,
}

impl KeysService {
    /// * `tenancy`: keeps the keys.
    pub fn new(tenancy: Tenancy, pages: Pages) -> Self {
        Self { tenancy, pages }
    }
}

#[tonic::async_trait]
impl pb::keys_server::Keys for KeysService {
    async fn create(&self, request: Request<pb::CreateRequest>) -> Result<Response<pb::CreateResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let new = new_key(request.into_inner()).map_err(|why| status::bad_request(why, &id))?;
        let (key, secret) = self.tenancy.create_key(&caller, new).await.map_err(|why| status::key(why, &id))?;
        let secret = secret.expose().to_owned();
        Ok(Response::new(pb::CreateResponse { key: Some(key.into()), secret }))
    }

    async fn list(&self, request: Request<pb::ListRequest>) -> Result<Response<pb::ListResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let bad = |why| status::bad_request(why, &id);
        let request = request.get_ref();
        let namespace: Option<Namespace> = match request.namespace.as_str() {
            "" => None,
            one => Some(convert::required("namespace", one).map_err(bad)?),
        };
        let size = convert::page_size(request.page_size).map_err(bad)?;
        let query = format!("Keys.List {}", request.namespace);
        let after = self.pages.read(&query, &request.page_token).map_err(bad)?;
        let found = self.tenancy.list_keys(&caller, namespace.as_ref(), after.as_deref(), size + 1);
        let mut found = found.map_err(|why| status::key(why, &id))?;
        let more = found.len() > size;
        found.truncate(size);
        let last = found.last().filter(|_| more);
        let next_page_token = last.map(|last| self.pages.token(&query, &last.id)).unwrap_or_default();
        Ok(Response::new(pb::ListResponse { keys: found.into_iter().map(Into::into).collect(), next_page_token }))
    }

    async fn revoke(&self, request: Request<pb::RevokeRequest>) -> Result<Response<pb::RevokeResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let key = self.tenancy.revoke_key(&caller, &request.get_ref().id).await;
        let key = key.map_err(|why| status::key(why, &id))?;
        Ok(Response::new(pb::RevokeResponse { key: Some(key.into()) }))
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let id = edge::request_id(&request);
        let caller = edge::caller(&request)?;
        let pb::RevokeTokenRequest { id: token, expires_at } = request.into_inner();
        let missing = || status::bad_request(BadRequest::Required("expires_at"), &id);
        let expires_at = micros(Some(expires_at.ok_or_else(missing)?));
        let revoked = self.tenancy.revoke_token(&caller, token, expires_at).await;
        revoked.map_err(|why| status::key(why, &id))?;
        Ok(Response::new(pb::RevokeTokenResponse {}))
    }
}

fn new_key(request: pb::CreateRequest) -> Result<NewKey, BadRequest> {
    let binding = |(index, text): (usize, &String)| {
        text.parse::<Binding>()
            .map_err(|why| BadRequest::Field { field: format!("bindings[{index}]"), problem: why.to_string() })
    };
    let bindings = request.bindings.iter().enumerate().map(binding).collect::<Result<_, _>>()?;
    let expires_at = request.expires_at.map(|at| micros(Some(at)));
    Ok(NewKey { label: request.label, bindings, expires_at })
}

impl From<Key> for pb::Key {
    fn from(key: Key) -> Self {
        Self {
            id: key.id.to_string(),
            label: key.label,
            bindings: key.bindings.iter().map(ToString::to_string).collect(),
            expires_at: key.expires_at.map(timestamp),
            created_at: Some(timestamp(key.created_at)),
            revoked_at: key.revoked_at.map(timestamp),
            ends_with: key.ending,
            created_by: key.created_by,
        }
    }
}
