//! The node calls itself over its own port before it reports healthy. Source: design.md section 6.

use crate::rpc::{Dialer, pb};
use crate::tenancy::Secret;
use std::net::SocketAddr;
use std::time::Duration;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};

/// How long the node gets to answer itself. Loopback takes a millisecond; five seconds is a broken machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls every core service once; an answer of the service itself is wanted, good or bad.
///
/// * `dialer`: encrypts where the port does, and is let in where clients need certificates.
/// * `secret`: by which the node knows itself, where callers are asked who they are.
pub(crate) async fn run(address: SocketAddr, dialer: Dialer, secret: Option<&Secret>) -> Result<(), String> {
    let bearer = secret.map(|secret| format!("Bearer {}", secret.expose()).parse::<AsciiMetadataValue>());
    let bearer = bearer.transpose().map_err(|why| why.to_string())?;
    let signed = move |mut request: Request<()>| {
        if let Some(bearer) = &bearer {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    };
    // 0.0.0.0 and [::] are where to listen, not where to call.
    let mut target = address;
    if address.ip().is_unspecified() {
        target.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    let endpoint = Endpoint::from_shared(format!("http://{target}")).map_err(|why| why.to_string())?;
    let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
    let channel = endpoint.connect_with_connector(dialer).await.map_err(|why| why.to_string())?;
    let mut dispatcher =
        pb::collective_dispatcher_client::CollectiveDispatcherClient::with_interceptor(channel.clone(), signed.clone());
    answered("CollectiveDispatcher", dispatcher.serve(pb::ServeRequest::default()).await)?;
    let mut registry =
        pb::collector_registry_client::CollectorRegistryClient::with_interceptor(channel.clone(), signed.clone());
    answered("CollectorRegistry", registry.lookup_service(pb::LookupServiceRequest::default()).await)?;
    let mut collections =
        pb::collection_service_client::CollectionServiceClient::with_interceptor(channel.clone(), signed.clone());
    answered("CollectionService", collections.meta(pb::MetaRequest::default()).await)?;
    let mut repo = pb::collection_repo_client::CollectionRepoClient::with_interceptor(channel, signed);
    answered("CollectionRepo", repo.route(pb::RouteRequest::default()).await)
}

/// Whether the service itself spoke. tonic says UNIMPLEMENTED with an empty message for a service that is not there.
fn answered<T>(service: &str, answer: Result<T, Status>) -> Result<(), String> {
    match answer {
        Err(status) if matches!(status.code(), Code::InvalidArgument | Code::NotFound) => Ok(()),
        Err(status) if status.code() == Code::Unimplemented && !status.message().is_empty() => Ok(()),
        Err(status) => Err(format!("{service}: {status}")),
        Ok(_) => Ok(()),
    }
}
