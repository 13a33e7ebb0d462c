//! A peer that asks for code and does not read it.

use super::*;
use crate::mesh_calls::statements::{Bold, millis, statement};
use crate::quotas::usage;
use tonic::transport::Endpoint;
use tonic::{Request, Streaming};

const FETCH: &str = "/collector.mesh.v1.Mesh/Fetch";

async fn fetch(bold: &Bold, digest: &str) -> Streaming<mesh_pb::FetchChunk> {
    let mut request = Request::new(mesh_pb::FetchRequest { namespace: "acme".into(), digest: digest.into() });
    let statement = bold.key.sign(&statement(FETCH, &["a"]), millis());
    request.metadata_mut().insert("collector-forward", statement.parse().unwrap());
    let mut client = mesh_pb::mesh_client::MeshClient::new(bold.channel.clone());
    client.fetch(request).await.unwrap().into_inner()
}

/// Descriptors that this process has of the node's artifacts.
fn open_artifacts(node: &TestNode) -> usize {
    let folder = node.data().join("artifacts");
    let all = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    all.filter(|one| std::fs::read_link(one.path()).is_ok_and(|file| file.starts_with(&folder))).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_a_peer_that_does_not_read_what_it_fetches_holds_nothing_for_long() {
    let at = reserve();
    let b = TestNode::start_with(|config| {
        config.server.listen = reserve().parse().unwrap();
        config.mesh.id = "b".into();
        config.mesh.read_idle_s = 1;
        config.peers = vec![peer(&at, &["acme:deployer"])];
    });
    let b = b.await;
    let bytes = padded(&plugin("greeter").bytes, 4 << 20);
    deploy_with(&mut plugins(&b).await, header(), &bytes).await.unwrap();
    let digest = format!("sha256:{}", collector::domain::Digest::of(&bytes));
    // Windows far smaller than the artifact.
    let endpoint = Endpoint::from_shared(b.address()).unwrap().initial_stream_window_size(64 << 10);
    let bold = Bold::over(endpoint.connect().await.unwrap(), "a", &at).await;

    let mut stalled = fetch(&bold, &digest).await;
    let first = stalled.message().await.unwrap().unwrap();
    assert!(bytes.starts_with(&first.data));
    assert_eq!((usage(&b, "acme").await.running_calls, open_artifacts(&b)), (1, 1), "it is being read");
    until("its place is free", async || usage(&b, "acme").await.running_calls == 0).await;
    assert_eq!(open_artifacts(&b), 0);
    // What was on its way comes, and then why nothing follows.
    let mut read = first.data.len();
    let ended = loop {
        match stalled.message().await {
            Ok(Some(chunk)) => read += chunk.data.len(),
            Ok(None) => panic!("it ended well after {read} bytes"),
            Err(why) => break why,
        }
    };
    assert_eq!(verdict(&ended), (Code::DeadlineExceeded, "DEADLINE".into()), "{ended:?}");
    assert!(read < bytes.len());

    // Who reads gets all of it, over the same connection.
    let mut whole = Vec::new();
    let mut chunks = fetch(&bold, &digest).await;
    while let Some(chunk) = chunks.message().await.unwrap() {
        whole.extend_from_slice(&chunk.data);
    }
    assert!(whole == bytes);
}
