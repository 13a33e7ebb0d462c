//! The node calls itself over its own port before it reports healthy. Source: design.md section 6.

use crate::rpc::{Dialer, pb};
use std::net::SocketAddr;
use std::time::Duration;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

/// How long the node gets to answer itself. Loopback takes a millisecond; five seconds is a broken machine.
const PATIENCE: Duration = Duration::from_secs(5);

/// Calls every core service once; an answer of the service itself is wanted, good or bad.
///
/// * `dialer`: encrypts where the port does, and is let in where clients need certificates.
pub(crate) async fn run(address: SocketAddr, dialer: Dialer) -> Result<(), String> {
    // 0.0.0.0 and [::] are where to listen, not where to call.
    let mut target = address;
    if address.ip().is_unspecified() {
        target.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    let endpoint = Endpoint::from_shared(format!("http://{target}")).map_err(|why| why.to_string())?;
    let endpoint = endpoint.connect_timeout(PATIENCE).timeout(PATIENCE);
    let channel = endpoint.connect_with_connector(dialer).await.map_err(|why| why.to_string())?;
    let mut dispatcher = pb::collective_dispatcher_client::CollectiveDispatcherClient::new(channel.clone());
    answered("CollectiveDispatcher", dispatcher.serve(pb::ServeRequest::default()).await)?;
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(channel.clone());
    answered("CollectorRegistry", registry.lookup_service(pb::LookupServiceRequest::default()).await)?;
    let mut collections = pb::collection_service_client::CollectionServiceClient::new(channel.clone());
    answered("CollectionService", collections.meta(pb::MetaRequest::default()).await)?;
    let mut repo = pb::collection_repo_client::CollectionRepoClient::new(channel);
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
