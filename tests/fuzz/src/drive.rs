//! One node in this process, and how bytes from a fuzzer become calls of it.
//!
//! Targets go through the port, like anybody: what is looked for is an answer that says the node is to blame (INTERNAL,
//! DATA_LOSS, HTTP 500), which is also what a panic becomes, and an end of the process. `tests/it` runs the seeds through
//! the same code, so that they stay good with a stable compiler too.

#[path = "guest.rs"]
pub mod guest;

use bytes::{BufMut as _, Bytes, BytesMut};
use collector::config::Config;
use collector::node::Node;
use collector::rpc::pb;
use collector::rpc::pb::plugin::v1::deploy_request::Part;
use collector::rpc::pb::plugin::v1::{DeployHeader, DeployRequest};
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message as _;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet, Struct};
use prost_types::{MethodDescriptorProto, ServiceDescriptorProto};
use std::net::SocketAddr;
use std::sync::OnceLock;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic_types::StatusExt as _;

/// What takes the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A `FileDescriptorProto` for RegisterProto, or an odd one a `ServiceDescriptorProto` for RegisterService.
    Descriptors,
    /// A message of any unary RPC of the node's own: the first byte says which.
    Convert,
    /// A `SearchRequest`, or a `ListRequest` after an odd first byte, of a collection that is there.
    Query,
    /// A page token of one of the listings.
    PageTokens,
    /// An upload.
    Prescan,
    /// Host calls and their arguments, for a guest that makes them as they are: see [`guest`]. After an even first byte it
    /// answers one message, after an odd one a stream.
    HostCalls,
    /// A JSON text for an RPC of the node's own: the first byte says which.
    ConnectJson,
}

impl Target {
    /// Each with the name of its folder of seeds.
    pub const ALL: [(Self, &str); 7] = [
        (Self::Descriptors, "descriptors"),
        (Self::Convert, "convert"),
        (Self::Query, "query"),
        (Self::PageTokens, "page_tokens"),
        (Self::Prescan, "prescan"),
        (Self::HostCalls, "host_calls"),
        (Self::ConnectJson, "connect_json"),
    ];
}

/// gRPC codes that put the blame on the node. Source: grpc/doc/statuscodes.md.
const OURS: [i32; 2] = [13, 15];
const NAMESPACE: &str = "fuzz";
const COLLECTION: &str = "notes";

/// The guest's service: `Call` and `Watch`, one message and a stream of them.
const GUEST: &str = "fuzz.v1.Guest";
/// The guest's secret.
const SECRET: (&str, &str) = ("token", "s3cr3t-t0ken");

/// A node and a client of it.
pub struct Fuzzed {
    runtime: Runtime,
    http2: Client<HttpConnector, Full<Bytes>>,
    http1: Client<HttpConnector, Full<Bytes>>,
    unary: Vec<String>,
    node: Node,
    _folder: tempfile::TempDir,
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status; 0 where the transport refused.
    http: u16,
    /// `grpc-status`.
    pub grpc: Option<i32>,
    /// `grpc-message`, for people.
    pub said: String,
    /// Whether the words are a guest's, and not the node's.
    guests: bool,
    /// All that came.
    pub body: Bytes,
}

impl Answer {
    /// Whether the node takes the blame.
    fn is_ours(&self) -> bool {
        match self.guests {
            true => self.said == guest::BLAME,
            false => {
                self.http >= 500 && self.http != 501 && self.http != 503 && self.http != 504
                    || self.grpc.is_some_and(|code| OURS.contains(&code))
            }
        }
    }
}

impl Fuzzed {
    /// The node of this process.
    pub fn get() -> &'static Self {
        static NODE: OnceLock<Fuzzed> = OnceLock::new();
        NODE.get_or_init(Self::start)
    }

    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { data: folder.path().join("data"), ..Config::default() };
        config.server.listen = ([127, 0, 0, 1], 0).into();
        config.limits.deadline_ms = 5_000;
        // This program is not the node's own.
        config.wasm.compile_in_child = false;
        // One server that the guest may reach, in this process.
        config.net.allow = vec!["127.0.0.1/32".to_owned()];
        let mirror = runtime.block_on(mirror());
        let node = runtime.block_on(Node::start(config)).unwrap();
        // Or each request waits 40 ms for an acknowledgement between its head and its body.
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = |http2| Client::builder(TokioExecutor::new()).http2_only(http2).build(connector.clone());
        let (http2, http1) = (client(true), client(false));
        let fuzzed = Self { runtime, http2, http1, unary: unary_paths(), node, _folder: folder };
        fuzzed.prepare(mirror);
        fuzzed
    }

    /// A collection with a record in it, and the guest with all that it may be granted.
    fn prepare(&self, mirror: SocketAddr) {
        let collection = pb::Collection { namespace: NAMESPACE.into(), name: COLLECTION.into(), ..Default::default() };
        let collection = pb::CreateCollectionRequest { collection: Some(collection) };
        let made = self.grpc("/collector.CollectionRepo/CreateCollection", &collection.encode_to_vec(), false);
        assert_eq!(made.grpc, Some(0), "{}", made.said);
        let fields = [("title".to_owned(), prost_types::Value::from("a \"quoted\" word")), ("n".to_owned(), 7.into())];
        let item = Struct { fields: fields.into() };
        let item = prost_types::Any { type_url: STRUCT.into(), value: item.encode_to_vec() };
        let record = pb::CreateRequest {
            namespace: NAMESPACE.into(),
            collection_name: COLLECTION.into(),
            id: "one".into(),
            item: Some(item),
            ..Default::default()
        };
        let made = self.grpc("/collector.CollectionService/Create", &record.encode_to_vec(), false);
        assert_eq!(made.grpc, Some(0), "{}", made.said);

        let (name, value) = (SECRET.0.into(), Bytes::from(SECRET.1).into());
        let secret = pb::admin::v1::SetSecretRequest { namespace: NAMESPACE.into(), name, value };
        let made = self.grpc("/collector.admin.v1.Secrets/SetSecret", &secret.encode_to_vec(), false);
        assert_eq!(made.grpc, Some(0), "{}", made.said);

        let code = wat::parse_str(guest::text(&format!("http://{mirror}/"), &descriptors())).unwrap();
        let grants = [
            "config=color=green",
            "secret=token",
            "secret=unset",
            "collections=notes:write",
            "files=shared:write",
            "dispatch=*",
            "http=http://10.0.0.1",
            &format!("http=http://{mirror}"),
        ];
        let header = DeployHeader {
            namespace: NAMESPACE.into(),
            grants: grants.map(str::to_owned).to_vec(),
            ..Default::default()
        };
        let made = self.deploy(header, code.into());
        assert_eq!(made.grpc, Some(0), "{}", made.said);
    }

    /// Gives `data` to a target.
    ///
    /// * panics: the node took the blame for it.
    pub fn run(&self, target: Target, data: &[u8]) {
        if let Some(answer) = self.answer(target, data).filter(Answer::is_ours) {
            panic!("{target:?}: HTTP {}, gRPC {:?}: {}", answer.http, answer.grpc, answer.said);
        }
    }

    /// Gives `data` to a target; `None` where it is too short or odd for there to be anything to ask.
    pub fn answer(&self, target: Target, data: &[u8]) -> Option<Answer> {
        match target {
            Target::Descriptors => self.descriptors(data),
            Target::Convert => self.convert(data),
            Target::Query => self.query(data),
            Target::PageTokens => self.page_token(data),
            Target::Prescan => self.upload(data),
            Target::HostCalls => self.host_calls(data),
            Target::ConnectJson => self.json(data),
        }
    }

    fn descriptors(&self, data: &[u8]) -> Option<Answer> {
        let (odd, descriptor) = data.split_first()?;
        let path = match odd % 2 {
            0 => "/collector.CollectorRegistry/RegisterProto",
            _ => "/collector.CollectorRegistry/RegisterService",
        };
        // By hand: a descriptor travels as it is, not as a decoder would have it.
        let mut request = BytesMut::new();
        bytes_field(&mut request, 1, NAMESPACE.as_bytes());
        bytes_field(&mut request, 2, descriptor);
        Some(self.grpc(path, &request, true))
    }

    fn convert(&self, data: &[u8]) -> Option<Answer> {
        let (which, message) = data.split_first()?;
        Some(self.grpc(&self.unary[usize::from(*which) % self.unary.len()], message, true))
    }

    fn query(&self, data: &[u8]) -> Option<Answer> {
        let (which, message) = data.split_first()?;
        let (namespace, collection_name) = (NAMESPACE.to_owned(), COLLECTION.to_owned());
        Some(match which % 2 {
            0 => {
                let asked = pb::SearchRequest::decode(message).ok()?;
                let asked = pb::SearchRequest { namespace, collection_name, ..asked };
                self.grpc("/collector.CollectionService/Search", &asked.encode_to_vec(), false)
            }
            _ => {
                let asked = pb::ListRequest::decode(message).ok()?;
                let asked = pb::ListRequest { namespace, collection_name, ..asked };
                self.grpc("/collector.CollectionService/List", &asked.encode_to_vec(), false)
            }
        })
    }

    fn page_token(&self, data: &[u8]) -> Option<Answer> {
        let (which, token) = data.split_first()?;
        let page_token = std::str::from_utf8(token).ok().filter(|token| !token.is_empty())?.to_owned();
        let (namespace, collection_name) = (NAMESPACE.to_owned(), COLLECTION.to_owned());
        let answer = match which % 3 {
            0 => {
                let list = pb::ListRequest { namespace, collection_name, page_token, ..Default::default() };
                self.grpc("/collector.CollectionService/List", &list.encode_to_vec(), false)
            }
            1 => {
                let list = pb::plugin::v1::ListRequest { namespace, page_token, ..Default::default() };
                self.grpc("/collector.plugin.v1.Plugins/List", &list.encode_to_vec(), false)
            }
            _ => {
                let list = pb::DiscoverRequest { namespace, page_token, ..Default::default() };
                self.grpc("/collector.CollectionRepo/Discover", &list.encode_to_vec(), false)
            }
        };
        assert_ne!(answer.grpc, Some(0), "a token was forged: {page_token_of:?}", page_token_of = data);
        Some(answer)
    }

    fn upload(&self, data: &[u8]) -> Option<Answer> {
        let header = DeployHeader { namespace: NAMESPACE.into(), validate_only: true, ..Default::default() };
        Some(self.deploy(header, Bytes::copy_from_slice(data)))
    }

    fn deploy(&self, header: DeployHeader, code: Bytes) -> Answer {
        let mut body = BytesMut::new();
        for part in [Part::Header(header), Part::Chunk(code)] {
            frame(&mut body, &DeployRequest { part: Some(part) }.encode_to_vec());
        }
        self.send("/collector.plugin.v1.Plugins/Deploy", body.freeze(), false)
    }

    fn host_calls(&self, data: &[u8]) -> Option<Answer> {
        let (which, words) = data.split_first()?;
        let message = guest::message(words);
        let (method, times) = if which % 2 == 0 { ("Call", 1) } else { ("Watch", 2) };
        let mut body = BytesMut::new();
        (0..times).for_each(|_| frame(&mut body, &message));
        Some(self.send(&format!("/{GUEST}/{method}"), body.freeze(), false))
    }

    fn json(&self, data: &[u8]) -> Option<Answer> {
        let (which, text) = data.split_first()?;
        let path = &self.unary[usize::from(*which) % self.unary.len()];
        let request = Request::post(self.uri(path))
            .header("content-type", "application/json")
            .header("collector-validate-only", "true")
            .body(Full::new(Bytes::copy_from_slice(text)));
        let client = if which % 2 == 0 { &self.http1 } else { &self.http2 };
        Some(self.runtime.block_on(answer(client, request.unwrap())))
    }

    fn grpc(&self, path: &str, message: &[u8], validate_only: bool) -> Answer {
        let mut body = BytesMut::new();
        frame(&mut body, message);
        self.send(path, body.freeze(), validate_only)
    }

    fn send(&self, path: &str, body: Bytes, validate_only: bool) -> Answer {
        let mut request =
            Request::post(self.uri(path)).header("content-type", "application/grpc").header("te", "trailers");
        if path.contains(GUEST) {
            request = request.header("collector-namespace", NAMESPACE);
        }
        if validate_only && !path.contains("Dispatcher") {
            request = request.header("collector-validate-only", "true");
        }
        self.runtime.block_on(answer(&self.http2, request.body(Full::new(body)).unwrap()))
    }

    fn uri(&self, path: &str) -> String {
        format!("http://{}{path}", self.node.address())
    }
}

const STRUCT: &str = "type.googleapis.com/google.protobuf.Struct";

async fn answer(client: &Client<HttpConnector, Full<Bytes>>, request: Request<Full<Bytes>>) -> Answer {
    let guests = request.uri().path().contains(GUEST);
    // The transport's own refusals are answers too.
    let Ok(response) = client.request(request).await else {
        return Answer { http: 0, grpc: None, said: String::new(), guests: false, body: Bytes::new() };
    };
    let http = response.status().as_u16();
    let mut headers = response.headers().clone();
    let mut body = Bytes::new();
    if let Ok(whole) = response.into_body().collect().await {
        headers.extend(whole.trailers().cloned().unwrap_or_default());
        body = whole.to_bytes();
    }
    let status = tonic::Status::from_header_map(&headers);
    // The node's words come with a reason of its own, which it lets no guest forge.
    let reason = status.as_ref().and_then(|status| status.get_details_error_info());
    Answer {
        http,
        grpc: status.as_ref().map(|status| status.code().into()),
        said: status.as_ref().map(|status| status.message().to_owned()).unwrap_or_default(),
        guests: guests && reason.is_none_or(|reason| reason.domain != "collector"),
        body,
    }
}

/// A server that answers with what it was sent.
async fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut peer, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut heard = vec![0; 64 << 10];
                let count = peer.read(&mut heard).await.unwrap_or_default();
                let head = format!("HTTP/1.1 200 OK\r\nx-twice: 1\r\nx-twice: 2\r\ncontent-length: {count}\r\n\r\n");
                let said = [head.as_bytes(), &heard[..count]].concat();
                let _gone = peer.write_all(&said).await;
                let _gone = peer.shutdown().await;
            });
        }
    });
    address
}

/// What the guest says of itself.
fn descriptors() -> Vec<u8> {
    use prost_types::field_descriptor_proto::{Label, Type};
    let words = FieldDescriptorProto {
        name: Some("words".into()),
        number: Some(1),
        label: Some(Label::Optional.into()),
        r#type: Some(Type::Bytes.into()),
        ..Default::default()
    };
    let method = |name: &str, streams| MethodDescriptorProto {
        name: Some(name.into()),
        input_type: Some(".fuzz.v1.Words".into()),
        output_type: Some(".fuzz.v1.Words".into()),
        client_streaming: Some(streams),
        server_streaming: Some(streams),
        ..Default::default()
    };
    let file = FileDescriptorProto {
        name: Some("fuzz/v1/guest.proto".into()),
        package: Some("fuzz.v1".into()),
        syntax: Some("proto3".into()),
        message_type: vec![DescriptorProto { name: Some("Words".into()), field: vec![words], ..Default::default() }],
        service: vec![ServiceDescriptorProto {
            name: Some("Guest".into()),
            method: vec![method("Call", false), method("Watch", true)],
            ..Default::default()
        }],
        ..Default::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

/// Paths of the unary RPCs of the node's own services.
fn unary_paths() -> Vec<String> {
    let set = FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
    let services = collector::rpc::built_in().services;
    let mut paths = vec!["/grpc.health.v1.Health/Check".to_owned()];
    for file in set.file {
        for service in &file.service {
            let name = format!("{}.{}", file.package(), service.name());
            let unary = service.method.iter().filter(|method| !method.client_streaming() && !method.server_streaming());
            if services.contains(&name) {
                paths.extend(unary.map(|method| format!("/{name}/{}", method.name())));
            }
        }
    }
    paths
}

/// A message behind its gRPC head. Source: PROTOCOL-HTTP2.md.
fn frame(body: &mut BytesMut, message: &[u8]) {
    body.put_u8(0);
    body.put_u32(u32::try_from(message.len()).unwrap());
    body.put_slice(message);
}

/// A length-delimited field of protobuf.
fn bytes_field(message: &mut BytesMut, number: u32, value: &[u8]) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, message);
    prost::encoding::encode_varint(value.len() as u64, message);
    message.put_slice(value);
}
