//! `collector.admin.v1.Secrets`: convert, one domain call, convert.

use super::convert;
use super::edge::{self, RequestId};
use super::pb::admin::v1 as pb;
use super::status;
use crate::domain::{Namespace, SecretName};
use crate::tenancy::{Permit, Secrets, Tenancy, Verb};
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

/// The service.
pub(super) struct SecretsService {
    secrets: Secrets,
    tenancy: Tenancy,
}

impl SecretsService {
    pub(super) fn new(secrets: Secrets, tenancy: Tenancy) -> Self {
        Self { secrets, tenancy }
    }

    fn permit<T>(&self, request: &Request<T>, namespace: &str, id: &RequestId) -> Result<Permit, Status> {
        let caller = edge::caller(request)?;
        let namespace = convert::required("namespace", namespace).map_err(|why| status::bad_request(why, id))?;
        let namespace: Namespace = namespace;
        self.tenancy.authorize(&caller, &namespace, Verb::Manage).map_err(|why| status::refused(&why, id))
    }
}

fn name(text: &str, id: &RequestId) -> Result<SecretName, Status> {
    convert::required("name", text).map_err(|why| status::bad_request(why, id))
}

#[tonic::async_trait]
impl pb::secrets_server::Secrets for SecretsService {
    async fn set_secret(
        &self,
        request: Request<pb::SetSecretRequest>,
    ) -> Result<Response<pb::SetSecretResponse>, Status> {
        let id = edge::request_id(&request);
        let permit = self.permit(&request, &request.get_ref().namespace, &id)?;
        let request = request.into_inner();
        let value = Zeroizing::new(request.value);
        let name = name(&request.name, &id)?;
        let set = self.secrets.set(&permit, name, value).await;
        set.map(|()| Response::new(pb::SetSecretResponse {})).map_err(|why| status::secret(why, &id))
    }

    async fn list_secrets(
        &self,
        request: Request<pb::ListSecretsRequest>,
    ) -> Result<Response<pb::ListSecretsResponse>, Status> {
        let id = edge::request_id(&request);
        let permit = self.permit(&request, &request.get_ref().namespace, &id)?;
        let names = self.secrets.names(&permit).iter().map(ToString::to_string).collect();
        Ok(Response::new(pb::ListSecretsResponse { names }))
    }

    async fn delete_secret(
        &self,
        request: Request<pb::DeleteSecretRequest>,
    ) -> Result<Response<pb::DeleteSecretResponse>, Status> {
        let id = edge::request_id(&request);
        let permit = self.permit(&request, &request.get_ref().namespace, &id)?;
        let name = name(&request.get_ref().name, &id)?;
        let deleted = self.secrets.delete(&permit, name).await;
        deleted.map(|()| Response::new(pb::DeleteSecretResponse {})).map_err(|why| status::secret(why, &id))
    }
}
