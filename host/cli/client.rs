//! A client of one node.

use super::json::Plugin;
use crate::domain::{Digest, is_this_machine, one_line};
use crate::rpc::pb::admin::v1::keys_client::KeysClient;
use crate::rpc::pb::admin::v1::namespaces_client::NamespacesClient;
use crate::rpc::pb::admin::v1::peers_client::PeersClient;
use crate::rpc::pb::admin::v1::secrets_client::SecretsClient;
use crate::rpc::pb::collection_repo_client::CollectionRepoClient;
use crate::rpc::pb::collection_service_client::CollectionServiceClient;
use crate::rpc::pb::collective_dispatcher_client::CollectiveDispatcherClient;
use crate::rpc::pb::collector_registry_client::CollectorRegistryClient;
use crate::rpc::pb::plugin::v1::plugins_client::PluginsClient;
use crate::rpc::pb::record::v1::collections_client::CollectionsClient;
use crate::rpc::{Dialer, TlsError, Trust, pb};
use http::header::AUTHORIZATION;
use http::{HeaderValue, Uri};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::TokioExecutor;
use prost_types::Any;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::rustls;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// Largest reply that we take: what a node sends at most.
const REPLY_MAX: usize = (8 << 20) + (64 << 10);
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
    #[error("{0} is no address of a node; write http://HOST:PORT or https://HOST:PORT")]
    Address(String),
    /// The node may be another than it says.
    #[error("the node at {address} is not to be trusted ({why}); name the authority of its certificate with --ca FILE")]
    Untrusted {
        /// Where.
        address: String,
        /// What was wrong with its certificate.
        why: String,
    },
    /// Certificates of this side that cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A token that no header can carry. It is not shown: it is secret.
    #[error("the token has characters that no token has; give it as the node printed it")]
    Token,
    /// Everybody on the way would learn the token.
    #[error(
        "a token is not sent in clear to another machine; write https://, or add --insecure if the network is safe"
    )]
    TokenInClear,
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
            Self::Address(_)
            | Self::Connect { .. }
            | Self::Untrusted { .. }
            | Self::Tls(_)
            | Self::Token
            | Self::TokenInClear
            | Self::Metadata(_) => None,
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

/// How a client is let in, and whom it believes: the same flags and variables for every command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Access {
    /// PEM file of the authority that the node's certificate has to come from [default: those that browsers know]
    #[arg(long, env = "COLLECTOR_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM file of a client certificate to show
    #[arg(long, env = "COLLECTOR_CERT", value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// PEM file of its key
    #[arg(long, env = "COLLECTOR_KEY", value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// Token to show; better given in the variable, where other users do not see it
    #[arg(long, env = "COLLECTOR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<Token>,
    /// Send the token in clear to another machine
    #[arg(long)]
    pub insecure: bool,
}

/// A secret: it is not in any output.
#[derive(Clone)]
pub struct Token(String);

impl From<String> for Token {
    fn from(token: String) -> Self {
        Self(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl Access {
    /// The header that shows the token.
    fn authorization(&self, uri: &Uri) -> Result<Option<HeaderValue>, ClientError> {
        let Some(Token(token)) = &self.token else { return Ok(None) };
        if !self.insecure && uri.scheme_str() != Some("https") && !is_loopback(uri) {
            return Err(ClientError::TokenInClear);
        }
        let is_token = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
        let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_token);
        let mut value = value.ok_or(ClientError::Token)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    fn dialer(&self, uri: &Uri) -> Result<Dialer, ClientError> {
        if uri.scheme_str() != Some("https") {
            return Ok(Dialer::plain());
        }
        let identity = self.cert.as_deref().zip(self.key.as_deref());
        Ok(Dialer::trusting(Trust { ca: self.ca.as_deref(), identity })?)
    }
}

/// Whether what is sent there stays on this machine.
fn is_loopback(uri: &Uri) -> bool {
    is_this_machine(uri.host().unwrap_or_default())
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
#[derive(Debug, Clone)]
pub(super) struct Channel {
    client: Client<Dialer, Body>,
    authorization: Option<HeaderValue>,
}

impl tower::Service<http::Request<Body>> for Channel {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper_util::client::legacy::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> ResponseFuture {
        if let Some(authorization) = &self.authorization {
            request.headers_mut().entry(AUTHORIZATION).or_insert_with(|| authorization.clone());
        }
        self.client.request(request)
    }
}

impl NodeClient {
    /// Connects to `http://HOST:PORT` as nobody in particular.
    pub async fn connect(address: &str) -> Result<Self, ClientError> {
        Self::connect_with(address, &Access::default()).await
    }

    /// Connects to `http://HOST:PORT` or `https://HOST:PORT`.
    pub async fn connect_with(address: &str, access: &Access) -> Result<Self, ClientError> {
        let uri: Uri = address.parse().map_err(|_| ClientError::Address(address.to_owned()))?;
        let (Some("http" | "https"), Some(_host)) = (uri.scheme_str(), uri.host()) else {
            return Err(ClientError::Address(address.to_owned()));
        };
        let authorization = access.authorization(&uri)?;
        let dialer = access.dialer(&uri)?;
        drop(dialer.dial(&uri).await.map_err(|why| unreachable(address, &why))?);

        let client = Client::builder(TokioExecutor::new()).http2_only(true).build(dialer);
        Ok(Self { channel: Channel { client, authorization }, origin: uri })
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

    /// The same connection for `Secrets`.
    pub(super) fn secrets(&self) -> SecretsClient<Channel> {
        SecretsClient::with_origin(self.channel.clone(), self.origin.clone())
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

    /// The same connection for `collector.admin.v1.Keys`.
    pub(super) fn keys(&self) -> KeysClient<Channel> {
        KeysClient::with_origin(self.channel.clone(), self.origin.clone()).max_decoding_message_size(REPLY_MAX)
    }

    /// The same connection for `collector.admin.v1.Namespaces`.
    pub(super) fn namespaces(&self) -> NamespacesClient<Channel> {
        NamespacesClient::with_origin(self.channel.clone(), self.origin.clone()).max_decoding_message_size(REPLY_MAX)
    }

    /// The same connection for `collector.admin.v1.Peers`.
    pub(super) fn peers(&self) -> PeersClient<Channel> {
        PeersClient::with_origin(self.channel.clone(), self.origin.clone()).max_decoding_message_size(REPLY_MAX)
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

fn unreachable(address: &str, why: &std::io::Error) -> ClientError {
    let (address, said) = (address.to_owned(), why.to_string());
    match why.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) {
        true => ClientError::Untrusted { address, why: said },
        false => ClientError::Connect { address, why: said },
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

#[cfg(test)]
mod tests {
    use super::*;

    fn access(token: &str) -> Access {
        Access { token: Some(token.to_owned().into()), ..Access::default() }
    }

    #[test]
    fn a_token_goes_in_clear_only_to_this_machine_or_when_told_so() {
        let sent = |address: &str, insecure| {
            let access = Access { insecure, ..access("secret") };
            access.authorization(&address.parse().unwrap()).is_ok_and(|header| header.is_some())
        };
        for safe in ["http://localhost:1", "http://127.0.0.9:1", "http://[::1]:1", "https://node.example:1"] {
            assert!(sent(safe, false), "{safe}");
        }
        for other in ["http://10.0.0.1:1", "http://localhost.example:1", "http://[2001:db8::1]:1", "http://0.0.0.0:1"] {
            assert!(!sent(other, false) && sent(other, true), "{other}");
        }
    }

    #[test]
    fn a_token_is_never_shown() {
        let local = "http://localhost:1".parse().unwrap();
        for odd in ["", "sec ret", "secret\n", "secr\u{e9}t"] {
            let said = access(odd).authorization(&local).unwrap_err().to_string();
            assert!(!said.contains("sec"), "{said}");
        }
        let header = access("secret").authorization(&local).unwrap().unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer secret");
        assert!(!format!("{header:?} {:?}", access("secret")).contains("secret"));
    }
}
