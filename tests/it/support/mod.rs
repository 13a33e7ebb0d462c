//! What the tests stand on: nodes in temporary folders, the example plugins, a client that speaks JSON.

mod authority;
mod cli;
mod container;
mod errands;
pub mod faults;
mod guests;
#[cfg(target_arch = "x86_64")]
mod jails;
mod native;
mod orders;
mod process;
mod processes;
mod protos;
mod records;
mod wat;

pub use authority::Authority;
pub use cli::{Cli, text};
pub use container::{
    Mood, NODE_KEY, OciRegistry, Proxy, Rig, clean_after, container_config, docker, engine_socket, error, image_job,
    job, output_of, tool,
};
pub use errands::*;
pub use guests::{component, native};
#[cfg(target_arch = "x86_64")]
pub use jails::{Launcher, ZEROES, asks_by_the_old_door, call, elf, gives_back, spins, splits_its_stack, tries, waits};
pub use native::*;
pub use orders::*;
pub use process::NodeProcess;
pub use processes::{cpu_time, descendants, descriptors, niceness, running};
pub use protos::{compile, protox_file, raw};
pub use records::*;
pub use wat::{distinct_command, echo_handler, run_command, wasi_command, wat};

use bytes::Bytes;
use collector::cli::{Answer, ClientError, NodeClient, PluginFile, Target};
use collector::config::Config;
use collector::exec::Native;
use collector::node::Node;
use collector::rpc::pb;
use collector::rpc::pb::serve_request::ServiceDef;
use prost_types::Any;
use serde_json::{Value, json};
use std::time::Duration;
use tempfile::TempDir;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// A node of this process, with a data folder of its own.
pub struct TestNode {
    pub node: Option<Node>,
    pub client: NodeClient,
    pub config: Config,
    data: TempDir,
}

/// Small pools, so that many nodes fit in one test process.
pub fn test_config() -> Config {
    let mut config = Config::default();
    config.server.listen.set_port(0);
    config.server.grace_ms = 2_000;
    config.wasm.slots = 16;
    config.limits.deadline_ms = 30_000;
    // A test's own file is no node.
    config.exec.memexec.launcher = env!("CARGO_BIN_EXE_collector").into();
    config.wasm.compiler = env!("CARGO_BIN_EXE_collector").into();
    config
}

impl TestNode {
    pub async fn start() -> Self {
        Self::start_with(|_| ()).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut config = test_config();
        change(&mut config);
        config.data = data.path().join("data");
        let node = Node::start(config.clone()).await.unwrap();
        let client = connect(&node).await;
        Self { node: Some(node), client, config, data }
    }

    /// Stops the node and starts one on the same data folder.
    pub async fn restart(&mut self) {
        self.restart_with(|_| ()).await;
    }

    pub async fn restart_with(&mut self, change: impl FnOnce(&mut Config)) {
        self.node.take().unwrap().stop().await;
        change(&mut self.config);
        let node = Node::start(self.config.clone()).await.unwrap();
        self.client = connect(&node).await;
        self.node = Some(node);
    }

    pub fn node(&self) -> &Node {
        self.node.as_ref().unwrap()
    }

    pub fn address(&self) -> String {
        format!("http://{}", self.node().address())
    }

    pub fn data(&self) -> std::path::PathBuf {
        self.data.path().join("data")
    }

    /// Calls a method of a plugin in namespace `acme` with JSON, uploading it with the call.
    pub async fn call(&self, plugin: &PluginFile, method: &str, request: Value) -> Result<Called, Status> {
        Call::new(plugin, method, request).run(&self.client).await
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let Some(id) = self.node.take().map(|node| node.id().to_owned()) else { return };
        if self.config.exec.wants(Native::Container) {
            clean_after(&id);
        }
    }
}

async fn connect(node: &Node) -> NodeClient {
    NodeClient::connect(&format!("http://{}", node.address())).await.unwrap()
}

/// A stock tonic channel.
pub async fn channel(address: &str) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(address.to_owned()).unwrap().connect().await.unwrap()
}

/// The body of a plain HTTP/1.1 GET.
pub async fn http_get(address: &str, path: &str) -> Vec<u8> {
    let request = http::Request::get(format!("{address}{path}")).body(tonic::body::Body::empty()).unwrap();
    let (status, body) = http(request).await;
    assert_eq!(status, 200);
    body
}

/// A plain HTTP/1.1 POST of JSON: status and JSON.
pub async fn http_post(address: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> (u16, Value) {
    let mut request = http::Request::post(format!("{address}{path}")).header("content-type", "application/json");
    for (key, value) in headers {
        request = request.header(*key, *value);
    }
    let body = tonic::body::Body::new(http_body_util::Full::new(Bytes::from(body.to_string())));
    let (status, body) = http(request.body(body).unwrap()).await;
    let json = serde_json::from_slice(&body);
    (status, json.unwrap_or_else(|_| panic!("{status}: {:?}", String::from_utf8_lossy(&body))))
}

async fn http(request: http::Request<tonic::body::Body>) -> (u16, Vec<u8>) {
    use http_body_util::BodyExt as _;
    let connector = hyper_util::client::legacy::connect::HttpConnector::new();
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build(connector);
    let response = client.request(request).await.unwrap();
    let status = response.status().as_u16();
    (status, response.into_body().collect().await.unwrap().to_bytes().to_vec())
}

/// An answer as tests like it.
#[derive(Debug)]
pub struct Called {
    pub reply: Value,
    pub answer: Answer,
}

impl Called {
    pub fn receipt(&self, key: &str) -> &str {
        self.answer.receipt.get(key).unwrap_or_else(|| panic!("no {key} in {:?}", self.answer.receipt))
    }
}

/// One call, to be changed before it runs.
pub struct Call<'a> {
    pub plugin: &'a PluginFile,
    pub target: Target,
    pub input: Any,
    pub code: ServiceDef,
    pub context: Vec<(&'a str, &'a str)>,
    output: String,
}

impl<'a> Call<'a> {
    pub fn new(plugin: &'a PluginFile, method: &str, request: Value) -> Self {
        let schema = plugin.artifact.schema.as_ref().expect("the plugin carries descriptors");
        let service = &schema.services()[0];
        let found = service.methods.iter().find(|known| known.name == method).expect("the method exists");
        let value = plugin.encode(found.input.name(), &request.to_string()).unwrap();
        Self {
            plugin,
            target: Target {
                namespace: "acme".into(),
                service: service.name.to_string(),
                method: method.into(),
                ..Target::default()
            },
            input: Any { type_url: format!("type.googleapis.com/{}", found.input.name()), value },
            code: ServiceDef::ServiceBinary(plugin.bytes.clone()),
            context: Vec::new(),
            output: found.output.name().to_owned(),
        }
    }

    pub fn by_digest(mut self) -> Self {
        self.code = by_digest(self.plugin);
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.target.timeout = Some(timeout);
        self
    }

    /// The message itself, for tests that send it by hand.
    pub fn into_request(self) -> pb::ServeRequest {
        pb::ServeRequest {
            namespace: self.target.namespace,
            service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: self.target.service }),
            method_name: self.target.method,
            input: Some(self.input),
            execution_context: Default::default(),
            service_def: Some(self.code),
        }
    }

    pub async fn run(self, client: &NodeClient) -> Result<Called, Status> {
        let context = self.context.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let answer = client.serve_with(&self.target, self.code, self.input, context).await.map_err(status)?;
        assert_eq!(answer.output.type_url, format!("type.googleapis.com/{}", self.output));
        let reply = self.plugin.decode(&self.output, &answer.output.value).unwrap();
        Ok(Called { reply, answer })
    }
}

pub fn by_digest(plugin: &PluginFile) -> ServiceDef {
    ServiceDef::ServiceUri(format!("sha256:{}", plugin.artifact.digest))
}

pub fn status(why: ClientError) -> Status {
    match why {
        ClientError::Call(status) => *status,
        other => panic!("no answer: {other}"),
    }
}

/// A plugin from `plugins/`, built once per test run.
pub fn plugin(name: &str) -> PluginFile {
    PluginFile::of(Bytes::from(std::fs::read(component(name)).unwrap())).unwrap()
}

/// `{"amount": ...}` for misbehave.
pub fn amount(amount: u64) -> Value {
    json!({ "amount": amount.to_string() })
}

/// Code and stable reason of a failure, for comparing.
pub fn verdict(status: &Status) -> (Code, String) {
    (status.code(), status.get_details_error_info().map(|info| info.reason).unwrap_or_default())
}

#[track_caller]
pub fn assert_verdict(result: Result<Called, Status>, code: Code, reason: &str) -> Status {
    let status = result.expect_err("the call should have failed");
    assert_eq!(verdict(&status), (code, reason.to_owned()), "{status:?}");
    status
}

/// A raw `Serve` with a hand-made request.
pub async fn raw_serve(node: &TestNode, request: pb::ServeRequest) -> Result<pb::ServeResponse, Status> {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", node.node().address()))
        .unwrap()
        .connect()
        .await
        .unwrap();
    let mut client = pb::collective_dispatcher_client::CollectiveDispatcherClient::new(channel);
    client.serve(request).await.map(tonic::Response::into_inner)
}

/// Sends bytes as they are, and takes any.
#[derive(Clone, Copy)]
pub struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(buffer, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let all = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, all).to_vec()))
    }
}

/// Says that a test is left out. On CI everything that tests need is there: that fails.
#[track_caller]
pub fn skip(why: &str) {
    leave_out("CI", "true", why);
}

/// Says that a test is left out, past the test's own output, which nobody sees of a test that passes.
///
/// * `variable`, `value`: where it has this value, what the test needs was promised: that fails.
#[track_caller]
pub fn leave_out(variable: &str, value: &str, why: &str) {
    use std::io::Write as _;
    assert!(std::env::var(variable).as_deref() != Ok(value), "{variable}={value} leaves nothing out: {why}");
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

/// Waits until a condition holds, checking often; panics with `what` after ten seconds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
