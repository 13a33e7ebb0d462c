//! Callers that are known by their certificates, and certificates that are taken back.

use crate::support::{Authority, test_config, until};
use collector::node::Node;
use collector::rpc::{Dialer, Trust, pb};
use collector::tenancy::{Bindings, Mode};
use pb::collector_registry_client::CollectorRegistryClient;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// How soon a connection has to be cut.
const SOON: Duration = Duration::from_secs(1);

/// A node that believes an authority, and lists of what that has taken back.
struct Certified {
    authority: Authority,
    node: Node,
    _data: TempDir,
}

type Files = (PathBuf, PathBuf);

impl Certified {
    /// * `known`: URIs, and what their holders may do.
    async fn start(known: &[(&str, &str)]) -> Self {
        let (authority, data) = (Authority::new(), tempfile::tempdir().unwrap());
        let mut config = test_config();
        config.data = data.path().join("data");
        let tls = &mut config.server.tls;
        (tls.certificate, tls.key) = authority.issue("localhost");
        (tls.client_ca, tls.client_crl) = (authority.ca(), authority.crl());
        config.auth.mode = Mode::Required;
        for (uri, role) in known {
            config.auth.certificates.insert((*uri).to_owned(), Bindings(vec![role.parse().unwrap()]));
        }
        let node = Node::start(config).await.unwrap();
        Self { authority, node, _data: data }
    }

    async fn channel(&self, shown: Option<&Files>) -> Result<Channel, tonic::transport::Error> {
        let identity = shown.map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let dialer = Dialer::trusting(Trust { ca: Some(&self.authority.ca()), identity }).unwrap();
        let url = format!("http://localhost:{}", self.node.address().port());
        Endpoint::from_shared(url).unwrap().connect_with_connector(dialer).await
    }

    /// What becomes of a call on a connection of its own.
    async fn lists(&self, shown: Option<&Files>, namespace: &str) -> Result<(), Code> {
        let channel = self.channel(shown).await.map_err(|_refused| Code::Unavailable)?;
        let request = pb::ListServicesRequest { namespace: namespace.into() };
        CollectorRegistryClient::new(channel).list_services(request).await.map(drop).map_err(|why| why.code())
    }

    /// A stream that goes on until somebody ends it.
    async fn watch(&self, shown: &Files) -> Streaming<HealthCheckResponse> {
        let mut client = HealthClient::new(self.channel(Some(shown)).await.unwrap());
        let mut stream = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        stream
    }
}

async fn end(stream: &mut Streaming<HealthCheckResponse>) -> Result<(), Status> {
    while stream.message().await?.is_some() {}
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_the_operator_named_is_a_caller_with_its_roles() {
    let place = Certified::start(&[("spiffe://d/ada", "acme:reader")]).await;
    let ada = place.authority.identify("ada", &["spiffe://d/ada"], true);
    let eve = place.authority.identify("eve", &["spiffe://d/eve"], true);
    let other = Authority::new();
    let forged = other.identify("ada", &["spiffe://d/ada"], true);
    assert_eq!(place.lists(Some(&ada), "acme").await, Ok(()));
    assert_eq!(place.lists(Some(&ada), "rival").await, Err(Code::PermissionDenied));
    assert_eq!(place.lists(Some(&eve), "acme").await, Err(Code::Unauthenticated), "nobody that the operator named");
    assert_eq!(place.lists(None, "acme").await, Err(Code::Unauthenticated));
    assert!(place.lists(Some(&forged), "acme").await.is_err(), "of another authority");
}

#[tokio::test(flavor = "multi_thread")]
async fn u09_a_certificate_that_is_taken_back_is_good_for_nothing_within_a_second() {
    let place = Certified::start(&[("spiffe://d/ada", "acme:reader"), ("spiffe://d/bob", "acme:reader")]).await;
    let ada = place.authority.identify("ada", &["spiffe://d/ada"], true);
    let bob = place.authority.identify("bob", &["spiffe://d/bob"], true);
    let (mut hers, mut his) = (place.watch(&ada).await, place.watch(&bob).await);
    place.authority.revoke(&[&ada.0]);
    let cut = timeout(SOON, end(&mut hers)).await;
    assert!(cut.is_ok_and(|ended| ended.is_err()), "her open stream is cut");
    until("no call of hers", async || place.lists(Some(&ada), "acme").await.is_err()).await;
    assert_eq!(place.lists(Some(&bob), "acme").await, Ok(()));
    // A list that cannot be read takes nothing back, and gives nothing back.
    std::fs::write(place.authority.crl(), "").unwrap();
    assert!(timeout(2 * SOON, end(&mut his)).await.is_err(), "his goes on");
    assert!(place.lists(Some(&ada), "acme").await.is_err());
    let again = place.authority.identify("ada", &["spiffe://d/ada"], true);
    assert_eq!(place.lists(Some(&again), "acme").await, Ok(()), "she has another");
}
