//! Native calls by a stock tonic client, with messages as JSON.

use super::{RawCodec, TestNode, channel};
use collector::cli::PluginFile;
use collector::registry::{Method, Schema};
use collector::rpc::pb::plugin::v1 as plugins;
use plugins::deploy_request::Part;
use plugins::plugins_client::PluginsClient;
use serde_json::Value;
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

/// Uploads in chunks of this.
const CHUNK: usize = 64 << 10;

pub type Plugins = PluginsClient<Channel>;

pub async fn plugins(node: &TestNode) -> Plugins {
    PluginsClient::new(channel(&node.address()).await).max_decoding_message_size(64 << 20)
}

/// A header for namespace `acme`, with nothing else said.
pub fn header() -> plugins::DeployHeader {
    plugins::DeployHeader { namespace: "acme".into(), ..Default::default() }
}

/// The parts of an upload.
pub fn parts(header: plugins::DeployHeader, bytes: &[u8]) -> Vec<plugins::DeployRequest> {
    let part = |part| plugins::DeployRequest { part: Some(part) };
    let chunks = bytes.chunks(CHUNK).map(|chunk| part(Part::Chunk(chunk.to_vec().into())));
    std::iter::once(part(Part::Header(header))).chain(chunks).collect()
}

pub async fn deploy_with(
    client: &mut Plugins,
    header: plugins::DeployHeader,
    bytes: &[u8],
) -> Result<plugins::DeployResponse, Status> {
    client.deploy(tokio_stream::iter(parts(header, bytes))).await.map(Response::into_inner)
}

/// Deploys a plugin to `acme`; returns the version.
pub async fn deploy(node: &TestNode, plugin: &PluginFile) -> u32 {
    deploy_with(&mut plugins(node).await, header(), &plugin.bytes).await.unwrap().version
}

/// A stock client of one plugin's services.
#[derive(Clone)]
pub struct Stub<'a> {
    pub channel: Channel,
    pub plugin: &'a PluginFile,
    pub namespace: String,
    pub timeout: Option<Duration>,
}

/// The end of a call.
#[derive(Debug)]
pub struct Answered {
    pub replies: Vec<Value>,
    pub trailers: MetadataMap,
}

impl<'a> Stub<'a> {
    pub async fn new(node: &TestNode, plugin: &'a PluginFile) -> Self {
        Self { channel: channel(&node.address()).await, plugin, namespace: "acme".into(), timeout: None }
    }

    pub fn method(&self, method: &str) -> (&'a str, &'a Method) {
        let services = self.plugin.artifact.schema.as_ref().map(Schema::services).unwrap();
        let of = |method: &str| services.iter().find_map(|s| Some((&*s.name, s.method(method)?)));
        of(method).unwrap_or_else(|| panic!("no {method}"))
    }

    pub fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.metadata_mut().insert("collector-namespace", self.namespace.parse().unwrap());
        if let Some(timeout) = self.timeout {
            request.set_timeout(timeout);
        }
        request
    }

    pub fn encode(&self, method: &str, message: &Value) -> Vec<u8> {
        self.plugin.encode(self.method(method).1.input.name(), &message.to_string()).unwrap()
    }

    pub fn decode(&self, method: &str, bytes: &[u8]) -> Value {
        self.plugin.decode(self.method(method).1.output.name(), bytes).unwrap()
    }

    pub async fn grpc(&self) -> tonic::client::Grpc<Channel> {
        let mut grpc = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(16 << 20);
        grpc.ready().await.unwrap();
        grpc
    }

    pub fn path(&self, method: &str) -> http::uri::PathAndQuery {
        format!("/{}/{method}", self.method(method).0).parse().unwrap()
    }

    /// A unary call.
    pub async fn call(&self, method: &str, message: Value) -> Result<Answered, Status> {
        let request = self.request(self.encode(method, &message));
        let response = self.grpc().await.unary(request, self.path(method), RawCodec).await?;
        let (trailers, reply, _) = response.into_parts();
        Ok(Answered { replies: vec![self.decode(method, &reply)], trailers })
    }

    /// A streaming call of any kind, driven to its end.
    pub async fn stream(&self, method: &str, messages: Vec<Value>) -> Result<Answered, Status> {
        let encoded: Vec<Vec<u8>> = messages.iter().map(|message| self.encode(method, message)).collect();
        let request = self.request(tokio_stream::iter(encoded));
        let response = self.grpc().await.streaming(request, self.path(method), RawCodec).await?;
        let mut replies = Vec::new();
        let mut stream = response.into_inner();
        while let Some(reply) = stream.next().await {
            replies.push(self.decode(method, &reply?));
        }
        let trailers = stream.trailers().await?.unwrap_or_default();
        Ok(Answered { replies, trailers })
    }
}

impl Answered {
    pub fn receipt(&self, key: &str) -> &str {
        self.trailers.get(key).unwrap_or_else(|| panic!("no {key} in {:?}", self.trailers)).to_str().unwrap()
    }
}

/// The same component with other bytes: a custom section more.
pub fn variant(bytes: &[u8], name: &str) -> Vec<u8> {
    with_section(bytes, name, &[])
}

/// The same component with so many bytes more that mean nothing.
pub fn padded(bytes: &[u8], by: usize) -> Vec<u8> {
    with_section(bytes, "padding", &vec![0; by])
}

/// The component with these descriptors.
pub fn describing(bytes: &[u8], files: Vec<prost_types::FileDescriptorProto>) -> Vec<u8> {
    let set = prost_types::FileDescriptorSet { file: files };
    with_section(bytes, "collector:descriptors", &prost::Message::encode_to_vec(&set))
}

fn with_section(bytes: &[u8], name: &str, content: &[u8]) -> Vec<u8> {
    let mut section = Vec::new();
    prost::encoding::encode_varint(name.len() as u64, &mut section);
    section.extend_from_slice(name.as_bytes());
    section.extend_from_slice(content);
    let mut changed = bytes.to_vec();
    changed.push(0);
    prost::encoding::encode_varint(section.len() as u64, &mut changed);
    changed.extend(section);
    changed
}
