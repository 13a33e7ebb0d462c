//! Links with TLS: who a collector is stands in its certificate, and the operator says which one that is.

use super::*;
use collector::rpc::pb::mesh::v1::{LinkRequest, mesh_client::MeshClient};
use collector::rpc::{ClientCertificates, Dialer, Trust};
use collector::tenancy::Mode;
use std::path::PathBuf;
use tempfile::TempDir;
use tonic::Code;

fn uri(id: &str) -> String {
    format!("spiffe://mesh.test/collector/{id}")
}

/// Starts a node that shows `files` and knows `other` by its identity.
async fn start(
    (id, at): (&str, &str),
    authority: &Authority,
    files: &(PathBuf, PathBuf),
    (other, place): (&str, &str),
    required: bool,
) -> (Node, TempDir) {
    let data = tempfile::tempdir().unwrap();
    let mut config = test_config();
    config.data = data.path().join("data");
    let entry = Entry { identity: uri(other), ..peer(place, &["*:invoker"]) };
    settings(&mut config, id, at, &[entry]);
    let tls = &mut config.server.tls;
    (tls.certificate, tls.key, tls.client_ca) = (files.0.clone(), files.1.clone(), authority.ca());
    tls.client_certificates = ClientCertificates::Optional;
    config.mesh.link_s = 2;
    if required {
        config.auth.mode = Mode::Required;
    }
    (Node::start(config).await.unwrap(), data)
}

fn is_linked(node: &Node, address: &str) -> bool {
    phase(node, address) == Some(Phase::Linked)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_certificates_link_whether_callers_are_asked_or_not() {
    let authority = Authority::new();
    let files = ["a", "b"].map(|id| authority.identify(id, &[&uri(id)], true));
    for required in [false, true] {
        let (here, there) = (reserve(), reserve());
        let (a, _a) = start(("a", &here), &authority, &files[0], ("b", &there), required).await;
        let (b, _b) = start(("b", &there), &authority, &files[1], ("a", &here), required).await;
        until("both links", async || is_linked(&a, &there) && is_linked(&b, &here)).await;
        assert_eq!(link(&a, &there).unwrap().peer.unwrap().as_str(), "b");
        // Longer than a link stays: they are made anew.
        let since = link(&a, &there).unwrap().since;
        tokio::time::sleep(Duration::from_secs(4)).await;
        let now = link(&a, &there).unwrap();
        assert_eq!((now.phase, now.since), (Phase::Linked, since), "required: {required}");
        tokio::join!(a.stop(), b.stop());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_certificates_that_are_not_what_the_operator_named_link_nothing() {
    let (authority, other) = (Authority::new(), Authority::new());
    let good = authority.identify("a", &[&uri("a")], true);
    let (b, c) = (uri("b"), uri("c"));
    let elsewhere = "spiffe://other.test/collector/b";
    let cases: [(&str, (PathBuf, PathBuf)); 5] = [
        ("expired", authority.identify("expired", &[&b], false)),
        ("other domain", authority.identify("domain", &[elsewhere], true)),
        ("two URIs", authority.identify("two", &[&b, &c], true)),
        ("no URI", authority.identify("none", &[], true)),
        ("other authority", other.identify("forged", &[&b], true)),
    ];
    let mut running = Vec::new();
    for (name, files) in cases {
        let (here, there) = (reserve(), reserve());
        let a = start(("a", &here), &authority, &good, ("b", &there), true).await;
        let b = start(("b", &there), &authority, &files, ("a", &here), true).await;
        running.push((name, here, there, a, b));
    }
    for (name, here, there, (a, _), (b, _)) in &running {
        until(name, async || phase(a, there) == Some(Phase::Refused)).await;
        // Nor does a let it in.
        until(name, async || !problem(b, here).is_empty()).await;
        assert!(!is_linked(b, here), "{name}");
    }
    for (name, here, there, (a, _), (b, _)) in &running {
        assert!(!is_linked(a, there) && !is_linked(b, here), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_a_link_ends_when_its_certificate_is_good_no_longer() {
    let authority = Authority::new();
    let files = ["a", "b"].map(|id| authority.identify(id, &[&uri(id)], true));
    let (here, there) = (reserve(), reserve());
    let (a, _a) = start(("a", &here), &authority, &files[0], ("b", &there), true).await;
    let (b, _b) = start(("b", &there), &authority, &files[1], ("a", &here), true).await;
    until("both links", async || is_linked(&a, &there) && is_linked(&b, &here)).await;
    // Another name, from the same authority: what a shows from now on, as server and as client.
    authority.identify("a", &[&uri("c")], true);
    let began = Instant::now();
    until("the end of both links", async || !is_linked(&a, &there) && !is_linked(&b, &here)).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}: link_s is 2", began.elapsed());
    authority.identify("a", &[&uri("a")], true);
    until("both links again", async || is_linked(&a, &there) && is_linked(&b, &here)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m07_a_good_certificate_of_nobody_the_operator_named_opens_no_link() {
    let authority = Authority::new();
    let files = authority.identify("a", &[&uri("a")], true);
    let (a, _a) = start(("a", "127.0.0.1:0"), &authority, &files, ("b", &reserve()), true).await;
    let url = format!("http://localhost:{}", a.address().port());
    let knock = async |identity: Option<(PathBuf, PathBuf)>, id: &str| {
        let pair = identity.as_ref().map(|(certificate, key)| (certificate.as_path(), key.as_path()));
        let dialer = Dialer::trusting(Trust { ca: Some(&authority.ca()), identity: pair }).unwrap();
        let endpoint = tonic::transport::Endpoint::from_shared(url.clone()).unwrap();
        let channel = endpoint.connect_with_connector(dialer).await.unwrap();
        let request = LinkRequest { collector_id: id.into(), link_id: vec![1; 16], link_key: vec![2; 32] };
        MeshClient::new(channel).link(request).await.map(drop).map_err(|why| why.code())
    };
    let c = authority.identify("c", &[&uri("c")], true);
    let b = authority.identify("b", &[&uri("b")], true);
    assert_eq!(knock(None, "b").await, Err(Code::Unauthenticated));
    assert_eq!(knock(Some(c), "b").await, Err(Code::Unauthenticated), "nobody that the node knows");
    assert_eq!(knock(Some(b.clone()), "c").await, Err(Code::PermissionDenied), "another id than the certificate's");
    assert_eq!(knock(Some(b), "b").await, Ok(()));
}
