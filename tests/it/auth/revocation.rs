//! Credentials that end while they are used.

use super::credentials::Issuer;
use super::{Guarded, Signed};
use crate::support::{RawCodec, header, parts, plugin};
use collector::cli::PluginFile;
use collector::rpc::pb;
use pb::plugin::v1::plugins_client::PluginsClient;
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

/// How soon a stream has to be over.
const SOON: Duration = Duration::from_secs(1);

/// Reads a stream to its end; how it ended.
async fn end<T>(mut stream: Streaming<T>) -> Status {
    loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => return Status::ok("it ended by itself"),
            Err(status) => return status,
        }
    }
}

/// A stream of the plugin, with a request side that stays open.
async fn stream(channel: Signed, plugin: &PluginFile, method: &str, first: serde_json::Value) -> Streaming<Vec<u8>> {
    let schema = plugin.artifact.schema.as_ref().unwrap();
    let found = schema.services().iter().find_map(|service| service.method(method)).unwrap();
    let first = plugin.encode(found.input.name(), &first.to_string()).unwrap();
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::iter([first]).chain(tokio_stream::pending()));
    if !found.client_streaming {
        // One message and no more, then an end.
        let path = http::uri::PathAndQuery::try_from(format!("/streams.v1.Streams/{method}")).unwrap();
        let (metadata, extensions, _) = request.into_parts();
        let first = plugin.encode(found.input.name(), &json!({ "pauseMs": 20 }).to_string()).unwrap();
        let mut request = Request::from_parts(metadata, extensions, tokio_stream::iter([first]));
        request.metadata_mut().insert("collector-namespace", "acme".parse().unwrap());
        return grpc.streaming(request, path, RawCodec).await.unwrap().into_inner();
    }
    request.metadata_mut().insert("collector-namespace", "acme".parse().unwrap());
    let path = http::uri::PathAndQuery::try_from(format!("/streams.v1.Streams/{method}")).unwrap();
    grpc.streaming(request, path, RawCodec).await.unwrap().into_inner()
}

struct Open(Vec<(&'static str, tokio::task::JoinHandle<Status>)>);

impl Open {
    /// Opens one stream of each kind, each of which has said something.
    async fn new(node: &Guarded, plugin: &PluginFile, secret: &str) -> Self {
        let mut open = Vec::new();
        for (method, first) in [("Flood", json!({})), ("Chat", json!({ "text": "hello" }))] {
            let mut stream = stream(node.signed(secret), plugin, method, first).await;
            assert!(stream.message().await.unwrap().is_some(), "{method}");
            open.push((method, tokio::spawn(end(stream))));
        }
        let asked = ServerReflectionRequest {
            message_request: Some(MessageRequest::ListServices(String::new())),
            ..Default::default()
        };
        let asked = tokio_stream::iter([asked]).chain(tokio_stream::pending());
        let reflection = ServerReflectionClient::new(node.signed(secret)).server_reflection_info(asked).await;
        let mut reflection = reflection.unwrap().into_inner();
        assert!(reflection.message().await.unwrap().is_some());
        open.push(("reflection", tokio::spawn(end(reflection))));
        let watch = HealthClient::new(node.signed(secret)).watch(tonic_health::pb::HealthCheckRequest::default()).await;
        let mut watch = watch.unwrap().into_inner();
        assert!(watch.message().await.unwrap().is_some());
        open.push(("health", tokio::spawn(end(watch))));
        // An upload that never ends, which no answer has begun for.
        let upload = tokio_stream::iter(parts(header(), &[])).chain(tokio_stream::pending());
        let mut client = PluginsClient::new(node.signed(secret));
        let upload = async move { client.deploy(upload).await.map(drop).expect_err("no end was sent") };
        open.push(("upload", tokio::spawn(upload)));
        Self(open)
    }

    fn none_ended(&self) -> bool {
        self.0.iter().all(|(_, stream)| !stream.is_finished())
    }

    async fn all_cut(self) {
        let until = Instant::now() + SOON;
        for (what, stream) in self.0 {
            let left = until.saturating_duration_since(Instant::now());
            let status = timeout(left, stream).await.unwrap_or_else(|_| panic!("{what} is still open")).unwrap();
            assert_eq!(status.code(), Code::Unauthenticated, "{what}: {status:?}");
        }
    }
}

async fn deployed(node: &Guarded) -> PluginFile {
    let streams = plugin("streams");
    let mut client = PluginsClient::new(node.signed(&node.admin));
    client.deploy(tokio_stream::iter(parts(header(), &streams.bytes))).await.unwrap();
    streams
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u09_a_revoked_key_is_over_within_a_second_for_streams_too() {
    let node = Guarded::start().await;
    let streams = deployed(&node).await;
    let ((id, key), (_, other)) = (node.key(&["acme:deployer"]).await, node.key(&["acme:deployer"]).await);
    let (open, untouched) = (Open::new(&node, &streams, &key).await, Open::new(&node, &streams, &other).await);
    assert!(open.none_ended());
    node.keys(&node.admin).revoke(pb::admin::v1::RevokeRequest { id }).await.unwrap();
    let list = pb::ListServicesRequest { namespace: "acme".into() };
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(node.signed(&key));
    let refused = registry.list_services(list).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "from the next call on");
    open.all_cut().await;
    assert!(untouched.none_ended(), "others go on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u09_a_revoked_token_is_over_within_a_second_for_streams_too() {
    let issuer = Issuer::new();
    let node = Guarded::start_with(|config, folder| issuer.trusted(config, folder)).await;
    let streams = deployed(&node).await;
    let token = issuer.sign(|_| ());
    let open = Open::new(&node, &streams, &token).await;
    let (id, expires_at) = collector::tenancy::token_claims(&token).unwrap();
    let expires_at = Some(prost_types::Timestamp { seconds: expires_at / 1_000_000, nanos: 0 });
    node.keys(&node.admin).revoke_token(pb::admin::v1::RevokeTokenRequest { id, expires_at }).await.unwrap();
    open.all_cut().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn u09_an_expired_key_is_over_for_streams_too() {
    let node = Guarded::start().await;
    let streams = deployed(&node).await;
    let at = std::time::SystemTime::now() + Duration::from_secs(5);
    let create = pb::admin::v1::CreateRequest { expires_at: Some(at.into()), ..super::create(&["acme:deployer"]) };
    let key = node.keys(&node.admin).create(create).await.unwrap().into_inner().secret;
    let open = Open::new(&node, &streams, &key).await;
    assert!(open.none_ended());
    tokio::time::sleep(at.duration_since(std::time::SystemTime::now()).unwrap_or_default()).await;
    open.all_cut().await;
}
