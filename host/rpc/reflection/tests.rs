use super::*;
use crate::store::SqliteStore;
use bytes::Bytes;
use futures_util::FutureExt as _;
use prost::Message as _;
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto, ServiceDescriptorProto};
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{
    ErrorResponse, ExtensionNumberResponse, ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse,
};

const IDLE: Duration = Duration::from_secs(60);

struct Node {
    _data: tempfile::TempDir,
    registry: Arc<Registry>,
    lifecycle: Lifecycle,
    service: ReflectionService,
}

impl Node {
    async fn new() -> Self {
        let lifecycle = Lifecycle::default();
        let built_in = crate::rpc::built_in();
        let data = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(data.path()).unwrap());
        let registry = Registry::open(store, &built_in, Default::default(), lifecycle.clone()).await;
        let registry = Arc::new(registry.unwrap());
        let default = name("main");
        let service =
            ReflectionService::new(Arc::clone(&registry), Tenancy::default(), default, IDLE, lifecycle.clone());
        Self { _data: data, registry, lifecycle, service }
    }

    async fn register(&self, namespace: &str, file: &FileDescriptorProto, dependencies: &[FileDescriptorProto]) {
        let permit = Tenancy::default().authorize(&Caller::anonymous(), &name(namespace), Verb::Deploy).unwrap();
        let dependencies = dependencies.iter().map(raw).collect();
        self.registry.register_proto(&permit, raw(file), dependencies, false).await.unwrap();
    }

    fn ask(&self, namespace: &str, request: MessageRequest) -> MessageResponse {
        let view = self.service.view(&Caller::anonymous(), &name(namespace));
        let request = ServerReflectionRequest { host: "h".into(), message_request: Some(request) };
        let reply = versions::v1::respond(&view, request.clone()).unwrap();
        assert_eq!((reply.valid_host, reply.original_request), ("h".into(), Some(request)));
        reply.message_response.unwrap()
    }

    fn files(&self, namespace: &str, request: MessageRequest) -> Vec<Bytes> {
        match self.ask(namespace, request) {
            MessageResponse::FileDescriptorResponse(files) => {
                files.file_descriptor_proto.into_iter().map(Bytes::from).collect()
            }
            other => panic!("no files: {other:?}"),
        }
    }

    fn error(&self, namespace: &str, request: MessageRequest) -> (Code, String) {
        match self.ask(namespace, request) {
            MessageResponse::ErrorResponse(ErrorResponse { error_code, error_message }) => {
                (Code::from(error_code), error_message)
            }
            other => panic!("no error: {other:?}"),
        }
    }
}

fn name(namespace: &str) -> Namespace {
    namespace.parse().unwrap()
}

fn raw(file: &FileDescriptorProto) -> Bytes {
    file.encode_to_vec().into()
}

fn field(name: &str, number: i32) -> FieldDescriptorProto {
    FieldDescriptorProto {
        name: Some(name.into()),
        number: Some(number),
        r#type: Some(9),
        label: Some(1),
        ..Default::default()
    }
}

/// `shop/{name}.proto` in package `shop.v1`, with one message, and one service over it.
fn file(name: &str, message: &str, service: Option<&str>, imports: &[&str]) -> FileDescriptorProto {
    let all = format!(".shop.v1.{message}");
    let method = prost_types::MethodDescriptorProto {
        name: Some("Get".into()),
        input_type: Some(all.clone()),
        output_type: Some(all),
        ..Default::default()
    };
    let service = service.map(|name| ServiceDescriptorProto {
        name: Some(name.into()),
        method: vec![method],
        ..Default::default()
    });
    FileDescriptorProto {
        name: Some(format!("shop/{name}.proto")),
        package: Some("shop.v1".into()),
        syntax: Some("proto3".into()),
        dependency: imports.iter().map(|import| (*import).to_owned()).collect(),
        message_type: vec![DescriptorProto {
            name: Some(message.into()),
            field: vec![field("id", 1)],
            ..Default::default()
        }],
        service: service.into_iter().collect(),
        ..Default::default()
    }
}

fn symbol(name: &str) -> MessageRequest {
    MessageRequest::FileContainingSymbol(name.into())
}

#[tokio::test]
async fn a_file_comes_first_and_then_all_its_imports_each_once() {
    let node = Node::new().await;
    let base = file("base", "Base", None, &[]);
    let left = file("left", "Left", None, &["shop/base.proto"]);
    let right = file("right", "Right", None, &["shop/base.proto"]);
    let top = file("top", "Top", Some("Tops"), &["shop/left.proto", "shop/right.proto"]);
    node.register("acme", &top, &[base.clone(), left.clone(), right.clone()]).await;

    let by_name = node.files("acme", MessageRequest::FileByFilename("shop/top.proto".into()));
    assert_eq!(by_name.first(), Some(&raw(&top)));
    assert_eq!(by_name.len(), 4);
    for import in [&base, &left, &right] {
        assert_eq!(by_name.iter().filter(|found| **found == raw(import)).count(), 1, "{}", import.name());
    }
    for same in ["shop.v1.Top", ".shop.v1.Top", "shop.v1.Top.id", "shop.v1.Tops", "shop.v1.Tops.Get"] {
        assert_eq!(node.files("acme", symbol(same)), by_name, "{same}");
    }
    assert_eq!(node.files("acme", symbol("shop.v1.Base")), [raw(&base)]);
    for unknown in ["shop.v1.Top.no", "shop.v1.Tops.No", "shop.v1", "Top", "", "."] {
        assert_eq!(node.error("acme", symbol(unknown)).0, Code::NotFound, "{unknown}");
    }
    let (code, message) = node.error("acme", MessageRequest::FileByFilename("no\n.proto".into()));
    assert_eq!((code, message.as_str()), (Code::NotFound, "there is no file no\\n.proto here"));
    assert_eq!(node.error("main", symbol("shop.v1.Top")).0, Code::NotFound, "another namespace");
}

#[tokio::test]
async fn extensions_are_found_by_type_and_number() {
    let node = Node::new().await;
    let mut options = file("options", "Unused", None, &["google/protobuf/descriptor.proto"]);
    for (name, number) in [("b", 50_002), ("a", 50_001)] {
        let extendee = Some(".google.protobuf.MethodOptions".into());
        options.extension.push(FieldDescriptorProto { extendee, ..field(name, number) });
    }
    node.register("acme", &options, &[]).await;
    let find = |containing_type: &str, extension_number| {
        let containing_type = containing_type.to_owned();
        MessageRequest::FileContainingExtension(ExtensionRequest { containing_type, extension_number })
    };
    for of in ["google.protobuf.MethodOptions", ".google.protobuf.MethodOptions"] {
        let files = node.files("acme", find(of, 50_001));
        assert_eq!((files.len(), files.first()), (2, Some(&raw(&options))));
        assert_eq!(node.error("acme", find(of, 50_003)).0, Code::NotFound);
        let wanted = ExtensionNumberResponse {
            base_type_name: "google.protobuf.MethodOptions".into(),
            extension_number: vec![50_001, 50_002],
        };
        let found = node.ask("acme", MessageRequest::AllExtensionNumbersOfType(of.into()));
        assert_eq!(found, MessageResponse::AllExtensionNumbersResponse(wanted));
    }
    for unknown in ["no.Such", "shop.v1.a", "collector.CollectorRegistry"] {
        let found = node.error("acme", MessageRequest::AllExtensionNumbersOfType(unknown.into()));
        assert_eq!(found.0, Code::NotFound, "{unknown}");
    }
}

#[tokio::test]
async fn an_answer_that_clients_could_not_take_is_refused_by_name() {
    let node = Node::new().await;
    let mut leaves = Vec::new();
    for n in 0..10 {
        let mut leaf = file(&format!("leaf{n}"), &format!("Leaf{n}"), None, &[]);
        let long = "x".repeat(230);
        leaf.message_type.extend(
            (0..1_900).map(|i| DescriptorProto { name: Some(format!("L{n}_{i}_{long}")), ..Default::default() }),
        );
        leaves.push(leaf);
    }
    let imports: Vec<String> = leaves.iter().map(|leaf| leaf.name().to_owned()).collect();
    let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
    let top = file("top", "Top", None, &imports);
    node.register("acme", &top, &leaves).await;
    let (code, message) = node.error("acme", symbol("shop.v1.Top"));
    assert_eq!(code, Code::ResourceExhausted);
    assert!(message.contains("shop/top.proto, shop/leaf"), "{message}");
    assert_eq!(node.files("acme", symbol("shop.v1.Leaf3")).len(), 1);
}

fn requests(of: &[MessageRequest]) -> Vec<Result<ServerReflectionRequest, Status>> {
    let request =
        |one: &MessageRequest| ServerReflectionRequest { message_request: Some(one.clone()), ..Default::default() };
    of.iter().map(request).map(Ok).collect()
}

fn list() -> MessageRequest {
    MessageRequest::ListServices(String::new())
}

fn listed(reply: ServerReflectionResponse) -> Vec<String> {
    match reply.message_response.unwrap() {
        MessageResponse::ListServicesResponse(list) => list.service.into_iter().map(|service| service.name).collect(),
        other => panic!("no list: {other:?}"),
    }
}

#[tokio::test]
async fn an_open_stream_sees_what_is_registered_meanwhile() {
    let node = Node::new().await;
    let (ask, asked) = tokio::sync::mpsc::channel(1);
    let asked = tokio_stream::wrappers::ReceiverStream::new(asked);
    let mut answers = node.service.answers(Caller::anonymous(), name("acme"), asked, versions::v1::respond);
    let [one] = requests(&[symbol("shop.v1.Order")]).try_into().unwrap();
    ask.send(one.clone()).await.unwrap();
    let first = answers.next().await.unwrap().unwrap();
    assert!(matches!(first.message_response, Some(MessageResponse::ErrorResponse(_))));
    node.register("acme", &file("order", "Order", None, &[]), &[]).await;
    ask.send(one).await.unwrap();
    let second = answers.next().await.unwrap().unwrap();
    assert!(matches!(second.message_response, Some(MessageResponse::FileDescriptorResponse(_))));
    drop(ask);
    assert!(answers.next().await.is_none(), "the client is done");
}

#[tokio::test]
async fn services_are_listed_by_name_and_what_may_not_be_seen_looks_unused() {
    let node = Node::new().await;
    let permit = Tenancy::default().authorize(&Caller::anonymous(), &name("acme"), Verb::Deploy).unwrap();
    let orders = file("order", "Order", Some("Orders"), &[]);
    let service = orders.service.first().unwrap().encode_to_vec().into();
    node.registry.register_service(&permit, service, Some(raw(&orders)), false).await.unwrap();
    let mut own = crate::rpc::built_in().services;
    own.sort();
    for unused in ["main", "system"] {
        let asked = stream::iter(requests(&[list()]));
        let mut answers = node.service.answers(Caller::anonymous(), name(unused), asked, versions::v1::respond);
        assert_eq!(listed(answers.next().await.unwrap().unwrap()), own, "{unused}");
    }
    own.push("shop.v1.Orders".into());
    let mut answers = node.service.answers(
        Caller::anonymous(),
        name("acme"),
        stream::iter(requests(&[list()])),
        versions::v1::respond,
    );
    assert_eq!(listed(answers.next().await.unwrap().unwrap()), own);
}

#[tokio::test]
async fn a_stream_ends_with_the_node_and_with_a_request_that_asks_nothing() {
    let node = Node::new().await;
    let mut idle = node.service.answers(Caller::anonymous(), name("acme"), stream::pending(), versions::v1::respond);
    assert!(idle.next().now_or_never().is_none());
    let unset = stream::iter([Ok(ServerReflectionRequest::default()), Ok(ServerReflectionRequest::default())]);
    let mut answers = node.service.answers(Caller::anonymous(), name("acme"), unset, versions::v1::respond);
    assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::InvalidArgument);
    assert!(answers.next().await.is_none());
    let broken = stream::iter([Err(Status::internal("failed to decode Protobuf message"))]);
    let mut answers = node.service.answers(Caller::anonymous(), name("acme"), broken, versions::v1::respond);
    assert_eq!(answers.next().await.unwrap().unwrap_err().code(), Code::InvalidArgument);

    node.lifecycle.drain();
    assert_eq!(idle.next().await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert!(idle.next().await.is_none());
}

#[tokio::test]
async fn both_versions_say_the_same() {
    let node = Node::new().await;
    node.register("acme", &file("order", "Order", Some("Orders"), &[]), &[]).await;
    let view = node.service.view(&Caller::anonymous(), &name("acme"));
    let extension = ExtensionRequest { containing_type: "shop.v1.Order".into(), extension_number: 7 };
    for one in [
        list(),
        symbol("shop.v1.Orders"),
        symbol("no.Such"),
        MessageRequest::FileByFilename("shop/order.proto".into()),
        MessageRequest::FileContainingExtension(extension),
        MessageRequest::AllExtensionNumbersOfType("shop.v1.Order".into()),
    ] {
        let request = ServerReflectionRequest { host: "h".into(), message_request: Some(one) };
        let older = v1alpha::ServerReflectionRequest::decode(&*request.encode_to_vec()).unwrap();
        let (new, old) = (versions::v1::respond(&view, request), versions::v1alpha::respond(&view, older));
        assert_eq!(new.unwrap().encode_to_vec(), old.unwrap().encode_to_vec());
    }
}
