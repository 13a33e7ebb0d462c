//! A client of one node.

use super::json::Plugin;
use crate::domain::{Digest, one_line};
use crate::rpc::pb;
use crate::rpc::pb::admin::v1::namespaces_client::NamespacesClient;
use crate::rpc::pb::collection_repo_client::CollectionRepoClient;
use crate::rpc::pb::collection_service_client::CollectionServiceClient;
use crate::rpc::pb::collective_dispatcher_client::CollectiveDispatcherClient;
use crate::rpc::pb::collector_registry_client::CollectorRegistryClient;
use crate::rpc::pb::plugin::v1::plugins_client::PluginsClient;
use crate::rpc::pb::record::v1::collections_client::CollectionsClient;
use http::Uri;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost_types::Any;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// Largest reply that we take: what a node sends at most.
const REPLY_MAX: usize = (8 << 20) + (64 << 10);
/// How long a node gets to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How much longer than a call's deadline this client waits for the node to say that it has passed.
pub(super) const VERDICT_PATIENCE: Duration = Duration::from_secs(2);

/// Largest listing that we take: what a node sends at most.
const LISTING_MAX: usize = 64 << 20;
/// The node's reason for refusing a revision that callers would not survive.
pub(super) const BREAKING: &str = "BREAKING_CHANGE";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{0} is no address of a node; write http://HOST:PORT")]
    Address(String),
    /// Nobody there.
    #[error("no node answers at {address} ({why}); start one with `collector dev`")]
    Connect {
        /// Where.
        address: String,
        /// The system's words.
        why: String,
    },
    /// A metadata pair that gRPC cannot carry.
    #[error("{0:?} is no metadata; write key:value in ASCII")]
    Metadata(String),
    /// The node refused, or the call failed.
    #[error("{}", describe(.0))]
    Call(Box<Status>),
}

impl From<Status> for ClientError {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

impl ClientError {
    /// The status of a call that failed.
    pub fn status(&self) -> Option<&Status> {
        match self {
            Self::Call(status) => Some(status),
            Self::Address(_) | Self::Connect { .. } | Self::Metadata(_) => None,
        }
    }
}

/// The status in words, and below it, one a line, the violations that its message does not name.
fn describe(status: &Status) -> String {
    let reason = reason(status).map(|reason| format!(" [{reason}]")).unwrap_or_default();
    let mut text = format!("{:?}: {}{reason}", status.code(), status.message());
    for violation in violations(status).iter().filter(|violation| !status.message().contains(violation.as_str())) {
        text.push_str("\n  - ");
        text.push_str(&one_line(violation, 1_024));
    }
    text
}

/// The node's own word for why it refused; stable.
pub(super) fn reason(status: &Status) -> Option<String> {
    status.get_details_error_info().map(|info| info.reason)
}

/// What a refusal lists: each broken precondition in its own words.
pub(super) fn violations(status: &Status) -> Vec<String> {
    let failure = status.get_details_precondition_failure();
    let violations = failure.into_iter().flat_map(|failure| failure.violations);
    let words = violations.map(|one| if one.description.is_empty() { one.subject } else { one.description });
    words.filter(|words| !words.is_empty()).collect()
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The reply.
    pub output: Any,
    /// Who answered.
    pub executor_id: String,
    /// The `collector-*` trailers.
    pub receipt: BTreeMap<String, String>,
    /// From sending to the answer, as this client saw it.
    pub took: Duration,
}

/// What to call.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Where.
    pub namespace: String,
    /// Full or short name.
    pub service: String,
    /// Simple name.
    pub method: String,
    /// `key:value` pairs of metadata.
    pub headers: Vec<String>,
    /// Deadline of the call.
    pub timeout: Option<Duration>,
}

/// A connection to a node. Clones share it.
///
/// On hyper's client instead of tonic's channel: the channel ends a call at its deadline with a bare CANCELLED, before
/// the node's own verdict arrives.
#[derive(Debug, Clone)]
pub struct NodeClient {
    channel: Channel,
    origin: Uri,
}

/// What all services of a node are reached through.
pub(super) type Channel = Client<HttpConnector, Body>;

impl NodeClient {
    /// Connects to `http://HOST:PORT`.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        let uri: Uri = address.parse().map_err(|_| ClientError::Address(address.to_owned()))?;
        let (Some("http"), Some(host)) = (uri.scheme_str(), uri.host()) else {
            return Err(ClientError::Address(address.to_owned()));
        };
        let host = host.trim_matches(['[', ']']).to_owned();
        let dial = timeout(CONNECT_PATIENCE, TcpStream::connect((host, uri.port_u16().unwrap_or(80)))).await;
        let refused = |why: String| ClientError::Connect { address: address.to_owned(), why };
        let dialled = dial.map_err(|_| refused("no answer in 5 s".to_owned()))?;
        drop(dialled.map_err(|why| refused(why.to_string()))?);

        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let channel = Client::builder(TokioExecutor::new()).http2_only(true).build(connector);
        Ok(Self { channel, origin: uri })
    }

    /// The same connection for calls whose types are known at run time only.
    pub(super) fn dynamic(&self) -> Grpc<Channel> {
        Grpc::with_origin(self.channel.clone(), self.origin.clone()).max_decoding_message_size(REPLY_MAX)
    }

    /// The same connection for `CollectorRegistry`.
    pub(super) fn registry(&self) -> CollectorRegistryClient<Channel> {
        CollectorRegistryClient::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(LISTING_MAX)
    }

    /// The same connection for `Plugins`.
    pub(super) fn plugins(&self) -> PluginsClient<Channel> {
        PluginsClient::with_origin(self.channel.clone(), self.origin.clone()).max_decoding_message_size(LISTING_MAX)
    }

    /// The same connection for `CollectionRepo`.
    pub(super) fn repo(&self) -> CollectionRepoClient<Channel> {
        CollectionRepoClient::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(LISTING_MAX)
    }

    /// The same connection for `CollectionService`.
    pub(super) fn records(&self) -> CollectionServiceClient<Channel> {
        CollectionServiceClient::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(LISTING_MAX)
    }

    /// The same connection for `collector.record.v1.Collections`.
    pub(super) fn caretaker(&self) -> CollectionsClient<Channel> {
        CollectionsClient::with_origin(self.channel.clone(), self.origin.clone()).max_decoding_message_size(REPLY_MAX)
    }

    /// The same connection for `collector.admin.v1.Namespaces`.
    pub(super) fn namespaces(&self) -> NamespacesClient<Channel> {
        NamespacesClient::with_origin(self.channel.clone(), self.origin.clone()).max_decoding_message_size(REPLY_MAX)
    }

    fn dispatcher(&self) -> CollectiveDispatcherClient<Channel> {
        CollectiveDispatcherClient::with_origin(self.channel.clone(), self.origin.clone())
            .max_decoding_message_size(REPLY_MAX)
    }

    /// Calls by digest, and uploads the plugin first where the node does not have it.
    pub async fn call(&self, target: &Target, plugin: &Plugin, input: Any) -> Result<Answer, ClientError> {
        match self.serve(target, by_digest(&plugin.artifact.digest), input.clone()).await {
            Err(ClientError::Call(status)) if is_unknown_artifact(&status) => {
                self.serve(target, with_bytes(plugin), input).await
            }
            answer => answer,
        }
    }

    /// One `Serve` under the node's own limits.
    pub async fn serve(
        &self,
        target: &Target,
        code: pb::serve_request::ServiceDef,
        input: Any,
    ) -> Result<Answer, ClientError> {
        self.serve_with(target, code, input, HashMap::new()).await
    }

    /// One `Serve`.
    ///
    /// * `context`: `execution_context`, limits lower than the node's.
    pub async fn serve_with(
        &self,
        target: &Target,
        code: pb::serve_request::ServiceDef,
        input: Any,
        context: HashMap<String, String>,
    ) -> Result<Answer, ClientError> {
        let mut request = Request::new(pb::ServeRequest {
            namespace: target.namespace.clone(),
            service: Some(pb::ServiceTypeRef {
                namespace: target.namespace.clone(),
                service_name: target.service.clone(),
            }),
            method_name: target.method.clone(),
            input: Some(input),
            execution_context: context,
            service_def: Some(code),
        });
        prepare(&mut request, target)?;
        let began = Instant::now();
        let mut client = self.dispatcher();
        let give_up = target.timeout.map(|limit| began + limit + VERDICT_PATIENCE);
        let answer = by(give_up, client.serve(request)).await?;
        let took = began.elapsed();
        let (metadata, reply, _) = answer.into_parts();
        let output = reply.output.unwrap_or_default();
        Ok(Answer { output, executor_id: reply.executor_id, receipt: receipt(&metadata), took })
    }
}

/// Names an artifact that was uploaded before.
pub(super) fn by_digest(digest: &Digest) -> pb::serve_request::ServiceDef {
    pb::serve_request::ServiceDef::ServiceUri(format!("sha256:{digest}"))
}

/// Sends the plugin along.
pub(super) fn with_bytes(plugin: &Plugin) -> pb::serve_request::ServiceDef {
    pb::serve_request::ServiceDef::ServiceBinary(plugin.bytes.clone())
}

pub(super) fn is_unknown_artifact(status: &Status) -> bool {
    status.code() == Code::NotFound && reason(status).as_deref() == Some("ARTIFACT_NOT_FOUND")
}

/// Gives a request the target's metadata and deadline.
pub(super) fn prepare<T>(request: &mut Request<T>, target: &Target) -> Result<(), ClientError> {
    headers(request.metadata_mut(), &target.headers)?;
    if let Some(timeout) = target.timeout {
        request.set_timeout(timeout);
    }
    Ok(())
}

/// Waits for an answer, but not much longer than for the node's own verdict on the deadline.
pub(super) async fn by<T>(
    give_up: Option<Instant>,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, ClientError> {
    let answer = match give_up {
        None => answer.await,
        Some(limit) => match timeout_at(limit, answer).await {
            Ok(answer) => answer,
            Err(_silent) => Err(Status::deadline_exceeded("the node did not answer by the deadline")),
        },
    };
    Ok(answer?)
}

/// One request in a namespace.
///
/// * errors: a namespace that metadata cannot carry.
pub(super) fn request<T>(namespace: &str, message: T) -> Result<Request<T>, ClientError> {
    let mut request = Request::new(message);
    headers(request.metadata_mut(), &[format!("collector-namespace:{namespace}")])?;
    Ok(request)
}

/// Adds `key:value` pairs.
pub(super) fn headers(metadata: &mut MetadataMap, pairs: &[String]) -> Result<(), ClientError> {
    for pair in pairs {
        let bad = || ClientError::Metadata(pair.clone());
        let (key, value) = pair.split_once(':').ok_or_else(bad)?;
        let key = AsciiMetadataKey::from_bytes(key.trim().to_ascii_lowercase().as_bytes()).map_err(|_| bad())?;
        let value = AsciiMetadataValue::try_from(value.trim()).map_err(|_| bad())?;
        metadata.append(key, value);
    }
    Ok(())
}

/// The `collector-*` entries of trailers.
pub(super) fn receipt(metadata: &MetadataMap) -> BTreeMap<String, String> {
    let pairs = metadata.as_ref().iter().filter(|(key, _)| key.as_str().starts_with("collector-"));
    pairs.filter_map(|(key, value)| Some((key.to_string(), value.to_str().ok()?.to_owned()))).collect()
}
