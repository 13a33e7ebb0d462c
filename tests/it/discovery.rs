//! What a node says about itself and its namespaces: reflection in both versions, and health.

use crate::support::*;
use bytes::Bytes;
use collector::rpc::{RawDescriptor, pb};
use pb::collector_registry_client::CollectorRegistryClient;
use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, MethodDescriptorProto, ServiceDescriptorProto,
};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::v1alpha;

/// All of the node's own services, ordered.
const BUILT_IN: [&str; 14] = [
    "collector.CollectionRepo",
    "collector.CollectionService",
    "collector.CollectiveDispatcher",
    "collector.CollectorRegistry",
    "collector.admin.v1.Keys",
    "collector.admin.v1.Namespaces",
    "collector.admin.v1.Peers",
    "collector.admin.v1.Secrets",
    "collector.mesh.v1.Mesh",
    "collector.plugin.v1.Plugins",
    "collector.record.v1.Collections",
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];
/// How long a loaded machine may take for one answer.
const PATIENCE: Duration = Duration::from_secs(20);

// What is registered.

fn field(name: &str, number: i32, of: Option<&str>) -> FieldDescriptorProto {
    use prost_types::field_descriptor_proto::{Label, Type};
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        label: Some(Label::Optional.into()),
        r#type: Some(if of.is_some() { Type::Message } else { Type::String }.into()),
        type_name: of.map(str::to_owned),
        ..Default::default()
    }
}

fn file(name: &str, message: DescriptorProto, imports: &[&str]) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(name.into()),
        package: Some("shop.v1".into()),
        syntax: Some("proto3".into()),
        dependency: imports.iter().map(|import| (*import).to_owned()).collect(),
        message_type: vec![message],
        ..Default::default()
    }
}

fn message(name: &str, field: FieldDescriptorProto) -> DescriptorProto {
    DescriptorProto { name: Some(name.into()), field: vec![field], ..Default::default() }
}

/// `shop/money.proto`.
fn money() -> FileDescriptorProto {
    file("shop/money.proto", message("Money", field("amount", 1, None)), &[])
}

/// `shop/options.proto`: who may call a method, as an option of methods.
fn options() -> FileDescriptorProto {
    let mut options = file("shop/options.proto", message("Audience", field("name", 1, None)), &[DESCRIPTOR]);
    let extendee = Some(".google.protobuf.MethodOptions".into());
    options.extension = vec![FieldDescriptorProto { extendee, ..field("audience", 50_001, None) }];
    options
}

const DESCRIPTOR: &str = "google/protobuf/descriptor.proto";

/// `shop/orders.proto` with the service `shop.v1.Orders`; `currency` is what tells two of them apart.
fn orders(currency: &str) -> FileDescriptorProto {
    let mut order = message("Order", field("total", 1, Some(".shop.v1.Money")));
    order.field.push(field(currency, 2, None));
    let mut orders = file("shop/orders.proto", order, &["shop/money.proto", "shop/options.proto"]);
    let method = MethodDescriptorProto {
        name: Some("Get".into()),
        input_type: Some(".shop.v1.Order".into()),
        output_type: Some(".shop.v1.Order".into()),
        ..Default::default()
    };
    orders.service =
        vec![ServiceDescriptorProto { name: Some("Orders".into()), method: vec![method], ..Default::default() }];
    orders
}

async fn channel(node: &TestNode) -> Channel {
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", node.node().address())).unwrap();
    endpoint.connect().await.unwrap()
}

async fn register(node: &TestNode, namespace: &str, file: FileDescriptorProto, dependencies: &[FileDescriptorProto]) {
    let mut client = CollectorRegistryClient::new(channel(node).await);
    let request = pb::RegisterProtoRequest {
        namespace: namespace.into(),
        file_descriptor: Some(RawDescriptor::of(&file)),
        dependencies: dependencies.iter().map(RawDescriptor::of).collect(),
    };
    client.register_proto(request).await.unwrap();
}

/// Registers `shop.v1.Orders` and its types.
async fn register_orders(node: &TestNode, namespace: &str, currency: &str) {
    register(node, namespace, orders(currency), &[money(), options()]).await;
    let file = orders(currency);
    let service = RawDescriptor::of(file.service.first().unwrap());
    register_service(node, namespace, service, RawDescriptor::of(&file)).await;
}

async fn register_service(node: &TestNode, namespace: &str, service: RawDescriptor, file: RawDescriptor) {
    let mut client = CollectorRegistryClient::new(channel(node).await);
    let request = pb::RegisterServiceRequest {
        namespace: namespace.into(),
        service_descriptor: Some(service),
        file_descriptor: Some(file),
    };
    client.register_service(request).await.unwrap();
}

// Asking.

/// One open stream.
struct Stream {
    ask: mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
}

fn within<T>(namespace: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(namespace) = namespace {
        request.metadata_mut().insert("collector-namespace", namespace.parse().unwrap());
    }
    request
}

impl Stream {
    async fn open(node: &TestNode, namespace: Option<&str>) -> Result<Self, Status> {
        let (ask, asked) = mpsc::channel(1);
        let mut client = ServerReflectionClient::new(channel(node).await).max_decoding_message_size(8 << 20);
        let answers = client.server_reflection_info(within(namespace, ReceiverStream::new(asked))).await?;
        Ok(Self { ask, answers: answers.into_inner() })
    }

    async fn send(&mut self, request: ServerReflectionRequest) -> Result<ServerReflectionResponse, Status> {
        let _ = self.ask.send(request).await; // the answer says more
        let answer = timeout(PATIENCE, self.answers.message()).await.expect("the node answers")?;
        Ok(answer.expect("the stream is open"))
    }

    async fn ask(&mut self, request: MessageRequest) -> MessageResponse {
        let request = ServerReflectionRequest { host: "here".into(), message_request: Some(request) };
        let answer = self.send(request.clone()).await.unwrap();
        assert_eq!((answer.valid_host.as_str(), answer.original_request), ("here", Some(request)));
        answer.message_response.unwrap()
    }

    async fn files(&mut self, request: MessageRequest) -> Vec<Vec<u8>> {
        match self.ask(request).await {
            MessageResponse::FileDescriptorResponse(files) => files.file_descriptor_proto,
            other => panic!("no files: {other:?}"),
        }
    }

    async fn services(&mut self) -> Vec<String> {
        match self.ask(list()).await {
            MessageResponse::ListServicesResponse(list) => {
                list.service.into_iter().map(|service| service.name).collect()
            }
            other => panic!("no list: {other:?}"),
        }
    }

    async fn assert_unknown(&mut self, request: MessageRequest) {
        match self.ask(request.clone()).await {
            MessageResponse::ErrorResponse(error) => {
                assert_eq!(Code::from(error.error_code), Code::NotFound, "{request:?}");
                assert!(!error.error_message.is_empty());
            }
            other => panic!("{request:?}: {other:?}"),
        }
    }
}

fn list() -> MessageRequest {
    MessageRequest::ListServices("*".into())
}

fn symbol(name: &str) -> MessageRequest {
    MessageRequest::FileContainingSymbol(name.into())
}

fn file_named(name: &str) -> MessageRequest {
    MessageRequest::FileByFilename(name.into())
}

fn extension(of: &str, extension_number: i32) -> MessageRequest {
    MessageRequest::FileContainingExtension(ExtensionRequest { containing_type: of.into(), extension_number })
}

fn with_orders() -> Vec<String> {
    BUILT_IN.into_iter().chain(["shop.v1.Orders"]).map(str::to_owned).collect()
}

#[tokio::test]
async fn types_are_found_by_every_name_with_all_that_they_need() {
    let node = TestNode::start().await;
    register_orders(&node, "acme", "currency").await;
    let mut stream = Stream::open(&node, Some("acme")).await.unwrap();
    assert_eq!(stream.services().await, with_orders());

    let files = stream.files(file_named("shop/orders.proto")).await;
    assert_eq!(files.first(), Some(&orders("currency").encode_to_vec()), "what was asked for comes first");
    let decoded = files.iter().map(|file| FileDescriptorProto::decode(&**file).unwrap());
    let mut names: Vec<String> = decoded.map(|file| file.name().to_owned()).collect();
    names.sort_unstable();
    assert_eq!(names, [DESCRIPTOR, "shop/money.proto", "shop/options.proto", "shop/orders.proto"]);
    for same in [
        "shop.v1.Orders",
        ".shop.v1.Orders",
        "shop.v1.Orders.Get",
        "shop.v1.Order",
        "shop.v1.Order.total",
        ".shop.v1.Order.currency",
    ] {
        assert_eq!(stream.files(symbol(same)).await, files, "{same}");
    }
    assert_eq!(stream.files(symbol("shop.v1.Money")).await, [money().encode_to_vec()]);

    let method_options = "google.protobuf.MethodOptions";
    let found = stream.files(extension(method_options, 50_001)).await;
    assert_eq!((found.len(), found.first()), (2, Some(&options().encode_to_vec())));
    assert_eq!(stream.files(symbol("shop.v1.audience")).await, found);
    match stream.ask(MessageRequest::AllExtensionNumbersOfType(format!(".{method_options}"))).await {
        MessageResponse::AllExtensionNumbersResponse(numbers) => {
            assert_eq!((numbers.base_type_name.as_str(), numbers.extension_number), (method_options, vec![50_001]));
        }
        other => panic!("no numbers: {other:?}"),
    }
}

#[tokio::test]
async fn every_built_in_service_is_described_to_those_who_registered_nothing() {
    let node = TestNode::start().await;
    for namespace in [None, Some("unused"), Some("system")] {
        let mut stream = Stream::open(&node, namespace).await.unwrap();
        assert_eq!(stream.services().await, BUILT_IN, "{namespace:?}");
        for service in BUILT_IN {
            let files = stream.files(symbol(service)).await;
            let set = prost_types::FileDescriptorSet {
                file: files.iter().map(|file| FileDescriptorProto::decode(&**file).unwrap()).collect(),
            };
            let pool = prost_reflect::DescriptorPool::from_file_descriptor_set(set).unwrap();
            assert!(pool.get_service_by_name(service).is_some(), "{service}");
        }
        stream.assert_unknown(symbol("shop.v1.Orders")).await;
    }
}

#[tokio::test]
async fn v1alpha_says_byte_for_byte_what_v1_says() {
    let node = TestNode::start().await;
    register_orders(&node, "acme", "currency").await;
    let asked = [
        list(),
        symbol("shop.v1.Orders"),
        symbol("no.Such"),
        file_named("shop/orders.proto"),
        extension("google.protobuf.MethodOptions", 50_001),
        MessageRequest::AllExtensionNumbersOfType("google.protobuf.MethodOptions".into()),
    ];
    let asked = asked.map(|one| ServerReflectionRequest { host: "here".into(), message_request: Some(one) });
    let mut stream = Stream::open(&node, Some("acme")).await.unwrap();
    let mut new = Vec::new();
    for request in asked.clone() {
        new.push(stream.send(request).await.unwrap().encode_to_vec());
    }
    let older = asked.map(|request| v1alpha::ServerReflectionRequest::decode(&*request.encode_to_vec()).unwrap());
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&node).await);
    let answers = client.server_reflection_info(within(Some("acme"), tokio_stream::iter(older))).await.unwrap();
    let mut answers = answers.into_inner();
    let mut old = Vec::new();
    while let Some(answer) = timeout(PATIENCE, answers.message()).await.unwrap().unwrap() {
        old.push(answer.encode_to_vec());
    }
    assert_eq!(old, new, "and the stream ends when the client is done");
}

#[tokio::test]
async fn namespaces_see_their_own_bytes_under_the_same_names() {
    let node = TestNode::start().await;
    register_orders(&node, "acme", "currency").await;
    register_orders(&node, "other", "rate").await;
    for (namespace, currency) in [("acme", "currency"), ("other", "rate")] {
        let mut stream = Stream::open(&node, Some(namespace)).await.unwrap();
        for request in [symbol("shop.v1.Orders"), file_named("shop/orders.proto")] {
            let files = stream.files(request).await;
            assert_eq!(files.first(), Some(&orders(currency).encode_to_vec()), "{namespace}");
        }
    }
    let mut stream = Stream::open(&node, Some("other")).await.unwrap();
    stream.assert_unknown(symbol("shop.v1.Order.currency")).await;
    let mut stream = Stream::open(&node, Some("third")).await.unwrap();
    stream.assert_unknown(symbol("shop.v1.Orders")).await;
}

#[tokio::test]
async fn what_is_unknown_is_not_found_and_the_stream_goes_on() {
    let node = TestNode::start().await;
    register_orders(&node, "acme", "currency").await;
    let mut stream = Stream::open(&node, Some("acme")).await.unwrap();
    for unknown in [
        symbol(""),
        symbol("shop.v1"),
        symbol("Orders"),
        symbol("shop.v1.Orders.Put"),
        symbol("shop.v1.Order.no"),
        file_named("no.proto"),
        file_named("../shop/orders.proto"),
        extension("google.protobuf.MethodOptions", 50_002),
        extension("no.Such", 1),
        MessageRequest::AllExtensionNumbersOfType("no.Such".into()),
        MessageRequest::AllExtensionNumbersOfType("shop.v1.Orders".into()),
    ] {
        stream.assert_unknown(unknown).await;
    }
    assert_eq!(stream.services().await, with_orders());
    let unset = stream.send(ServerReflectionRequest::default()).await;
    assert_eq!(unset.unwrap_err().code(), Code::InvalidArgument);

    for malformed in ["../x", "-", "a b"] {
        let refused = Stream::open(&node, Some(malformed)).await.err().map(|status| status.code());
        assert_eq!(refused, Some(Code::InvalidArgument), "{malformed}");
    }
}

#[tokio::test]
async fn an_open_stream_sees_a_service_as_soon_as_it_is_registered() {
    let node = TestNode::start().await;
    let mut stream = Stream::open(&node, Some("acme")).await.unwrap();
    assert_eq!(stream.services().await, BUILT_IN);
    register_orders(&node, "acme", "currency").await;
    assert_eq!(stream.services().await, with_orders());
    assert_eq!(stream.files(symbol("shop.v1.Orders.Get")).await.len(), 4);
}

/// Appends a length-delimited field.
fn put(out: &mut Vec<u8>, number: u32, content: &[u8]) {
    prost::encoding::encode_key(number, prost::encoding::WireType::LengthDelimited, out);
    prost::encoding::encode_varint(content.len() as u64, out);
    out.extend_from_slice(content);
}

#[tokio::test]
async fn custom_options_come_back_as_they_were_sent() {
    let node = TestNode::start().await;
    register(&node, "acme", options(), &[]).await;
    register(&node, "acme", money(), &[]).await;
    // `rpc Get(Order) returns (Order) { option (audience) = "staff"; }`: known to nobody but the bytes.
    let mut file = orders("currency");
    let mut service = file.service.remove(0);
    let mut method = service.method.remove(0).encode_to_vec();
    let mut audience = Vec::new();
    put(&mut audience, 50_001, b"staff");
    put(&mut method, 4, &audience);
    let mut service = service.encode_to_vec();
    put(&mut service, 2, &method);
    let mut file = file.encode_to_vec();
    put(&mut file, 6, &service);
    let bytes = |raw: &[u8]| RawDescriptor::from(Bytes::copy_from_slice(raw));
    register_service(&node, "acme", bytes(&service), bytes(&file)).await;
    let mut stream = Stream::open(&node, Some("acme")).await.unwrap();
    for request in [symbol("shop.v1.Orders"), file_named("shop/orders.proto")] {
        assert_eq!(stream.files(request).await.first(), Some(&file));
    }
}

// Health.

async fn check(client: &mut HealthClient<Channel>, namespace: &str, service: &str) -> Result<ServingStatus, Code> {
    let request = within(Some(namespace), HealthCheckRequest { service: service.into() });
    client.check(request).await.map(|reply| reply.into_inner().status()).map_err(|status| status.code())
}

async fn watch(node: &TestNode, namespace: &str, service: &str) -> Streaming<tonic_health::pb::HealthCheckResponse> {
    let request = within(Some(namespace), HealthCheckRequest { service: service.into() });
    HealthClient::new(channel(node).await).watch(request).await.unwrap().into_inner()
}

/// The next status; `None`: the stream is over.
async fn next(watch: &mut Streaming<tonic_health::pb::HealthCheckResponse>) -> Option<ServingStatus> {
    timeout(PATIENCE, watch.message()).await.expect("the node speaks").unwrap().map(|reply| reply.status())
}

#[tokio::test]
async fn health_knows_every_service_of_a_namespace_and_whether_it_has_code() {
    let node = TestNode::start().await;
    let mut client = HealthClient::new(channel(&node).await);
    for service in BUILT_IN.into_iter().chain([""]) {
        for namespace in ["acme", "unused", "system"] {
            assert_eq!(check(&mut client, namespace, service).await, Ok(ServingStatus::Serving), "{service:?}");
        }
    }
    assert_eq!(check(&mut client, "acme", "shop.v1.Orders").await, Err(Code::NotFound));
    register_orders(&node, "acme", "currency").await;
    assert_eq!(check(&mut client, "acme", "shop.v1.Orders").await, Ok(ServingStatus::NotServing));
    assert_eq!(check(&mut client, "other", "shop.v1.Orders").await, Err(Code::NotFound));
    for idle in ["collector.CollectiveWorker", "collector.CollectorConsole"] {
        assert_eq!(check(&mut client, "acme", idle).await, Err(Code::NotFound), "{idle}");
    }
    assert_eq!(check(&mut client, "../x", "").await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn a_watcher_hears_of_a_registration_and_nothing_twice() {
    let node = TestNode::start().await;
    let mut acme = watch(&node, "acme", "shop.v1.Orders").await;
    let mut other = watch(&node, "other", "shop.v1.Orders").await;
    assert_eq!(next(&mut acme).await, Some(ServingStatus::ServiceUnknown));
    assert_eq!(next(&mut other).await, Some(ServingStatus::ServiceUnknown));
    register_orders(&node, "acme", "currency").await;
    assert_eq!(next(&mut acme).await, Some(ServingStatus::NotServing));
    // Changes that are none for this service come before the one that is: a duplicate would be heard first.
    register(&node, "other", money(), &[]).await;
    register_orders(&node, "other", "rate").await;
    assert_eq!(next(&mut other).await, Some(ServingStatus::NotServing));
}

#[tokio::test]
async fn deployed_code_is_described_and_serves_until_it_is_taken_away() {
    use pb::plugin::v1::{DeployHeader, DeployRequest, UndeployRequest, deploy_request::Part};
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let schema = greeter.artifact.schema.as_ref().unwrap();
    let service = schema.services().first().unwrap().name.to_string();
    let mut watch = watch(&node, "acme", &service).await;
    assert_eq!(next(&mut watch).await, Some(ServingStatus::ServiceUnknown));
    let mut stream = Stream::open(&node, Some("acme")).await.unwrap();
    stream.assert_unknown(symbol(&service)).await;

    let header = DeployHeader { namespace: "acme".into(), name: "greeter".into(), ..Default::default() };
    let parts =
        [Part::Header(header), Part::Chunk(greeter.bytes.clone())].map(|part| DeployRequest { part: Some(part) });
    let mut plugins = pb::plugin::v1::plugins_client::PluginsClient::new(channel(&node).await);
    plugins.deploy(tokio_stream::iter(parts)).await.unwrap();
    assert_eq!(next(&mut watch).await, Some(ServingStatus::Serving));
    let found = stream.files(symbol(&service)).await;
    let own = |file: &&Vec<u8>| schema.files().any(|known| known == *file);
    assert!(found.first().as_ref().is_some_and(own), "the component's own bytes");
    assert!(stream.services().await.contains(&service));

    let all = UndeployRequest { namespace: "acme".into(), name: "greeter".into(), version: 0 };
    plugins.undeploy(all).await.unwrap();
    assert_eq!(next(&mut watch).await, Some(ServingStatus::ServiceUnknown));
    stream.assert_unknown(symbol(&service)).await;
    assert_eq!(stream.services().await, BUILT_IN);
}

#[tokio::test]
async fn streams_end_with_the_node() {
    let mut node = TestNode::start().await;
    let mut health = watch(&node, "acme", "").await;
    let mut unknown = watch(&node, "acme", "no.Such").await;
    assert_eq!(next(&mut health).await, Some(ServingStatus::Serving));
    assert_eq!(next(&mut unknown).await, Some(ServingStatus::ServiceUnknown));
    let mut stream = Stream::open(&node, Some("acme")).await.unwrap();
    assert_eq!(stream.services().await, BUILT_IN);

    let stopping = node.node.take().unwrap();
    let stopped = tokio::spawn(async move { stopping.stop().await });
    assert_eq!(next(&mut health).await, Some(ServingStatus::NotServing));
    assert_eq!(next(&mut health).await, None);
    assert_eq!(next(&mut unknown).await, None);
    let ended = timeout(PATIENCE, stream.answers.message()).await.expect("the stream ends");
    assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
    timeout(PATIENCE, stopped).await.expect("open streams hold nothing up").unwrap();
}
