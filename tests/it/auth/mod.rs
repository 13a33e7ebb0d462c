//! Who calls, and what they may do: nodes that ask.

mod audited;
mod certificates;
mod cli;
mod credentials;
mod own;
mod revocation;
mod roles;

use crate::support::{RawCodec, channel, test_config};
use collector::config::Config;
use collector::node::{Node, OfflineKeys};
use collector::rpc::pb;
use collector::tenancy::{Mode, NewKey};
use tempfile::TempDir;
use tonic::metadata::AsciiMetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Request, Status};

/// A node that asks who calls.
pub(crate) struct Guarded {
    pub(crate) node: Node,
    pub(crate) channel: Channel,
    /// A key of everything.
    pub(crate) admin: String,
    _data: TempDir,
}

/// A channel that shows a key.
pub(crate) type Signed = InterceptedService<Channel, Bearer>;

/// Shows a key.
#[derive(Clone)]
pub(crate) struct Bearer(Option<AsciiMetadataValue>);

impl tonic::service::Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

impl Guarded {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| ()).await
    }

    /// * `change`: gets the folder that is the node's and the test's.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config, &std::path::Path)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut config = test_config();
        config.data = data.path().join("data");
        config.auth.mode = Mode::Required;
        change(&mut config, data.path());
        let keys = OfflineKeys::open(&config.data, &config.auth).await.unwrap();
        let (_, secret) = keys.create(new_key(&["*:admin"])).await.unwrap();
        drop(keys);
        let node = Node::start(config).await.unwrap();
        let channel = channel(&format!("http://{}", node.address())).await;
        Self { node, channel, admin: secret.expose().to_owned(), _data: data }
    }

    pub(crate) fn address(&self) -> String {
        format!("http://{}", self.node.address())
    }

    /// A channel that shows this.
    pub(crate) fn signed(&self, secret: &str) -> Signed {
        let bearer = Some(secret).filter(|secret| !secret.is_empty());
        let bearer = bearer.map(|secret| format!("Bearer {secret}").parse().unwrap());
        InterceptedService::new(self.channel.clone(), Bearer(bearer))
    }

    pub(crate) fn keys(&self, secret: &str) -> pb::admin::v1::keys_client::KeysClient<Signed> {
        pb::admin::v1::keys_client::KeysClient::new(self.signed(secret))
    }

    /// Makes a key with these bindings: its id and its text.
    pub(crate) async fn key(&self, bindings: &[&str]) -> (String, String) {
        let made = self.keys(&self.admin).create(create(bindings)).await.unwrap().into_inner();
        (made.key.unwrap().id, made.secret)
    }

    /// Calls with bytes; the first reply.
    pub(crate) async fn call(&self, secret: &str, path: &str, message: Vec<u8>) -> Result<Option<Vec<u8>>, Status> {
        self.call_in(secret, path, message, None).await
    }

    pub(crate) async fn call_in(
        &self,
        secret: &str,
        path: &str,
        message: Vec<u8>,
        namespace: Option<&str>,
    ) -> Result<Option<Vec<u8>>, Status> {
        let mut grpc = tonic::client::Grpc::new(self.signed(secret));
        grpc.ready().await.unwrap();
        let mut request = Request::new(tokio_stream::iter([message]));
        if let Some(namespace) = namespace {
            request.metadata_mut().insert("collector-namespace", namespace.parse().unwrap());
        }
        let path = http::uri::PathAndQuery::try_from(path).unwrap();
        let response = grpc.streaming(request, path, RawCodec).await?;
        response.into_inner().message().await
    }
}

pub(crate) fn new_key(bindings: &[&str]) -> NewKey {
    let bindings = bindings.iter().map(|text| text.parse().unwrap()).collect();
    NewKey { label: "test".into(), bindings, expires_at: None }
}

pub(crate) fn create(bindings: &[&str]) -> pb::admin::v1::CreateRequest {
    let bindings = bindings.iter().map(|text| (*text).to_owned()).collect();
    pb::admin::v1::CreateRequest { bindings, ..Default::default() }
}
