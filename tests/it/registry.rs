//! `CollectorRegistry` as semantics.md section 2 has it: registered, checked, kept, found.

use crate::support::*;
use collector::rpc::pb;
use pb::collector_registry_client::CollectorRegistryClient;
use prost::Message as _;
use prost_types::FileDescriptorProto;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

type Client = CollectorRegistryClient<tonic::transport::Channel>;

async fn client(node: &TestNode) -> Client {
    CollectorRegistryClient::new(channel(&node.address()).await).max_decoding_message_size(64 << 20)
}

async fn register(client: &mut Client, namespace: &str, files: &[FileDescriptorProto]) -> Result<Vec<String>, Status> {
    let (last, dependencies) = files.split_last().unwrap();
    let request = pb::RegisterProtoRequest {
        namespace: namespace.into(),
        file_descriptor: Some(raw(last)),
        dependencies: dependencies.iter().map(raw).collect(),
    };
    client.register_proto(request).await.map(|reply| reply.into_inner().registered_messages)
}

async fn register_service(
    client: &mut Client,
    namespace: &str,
    file: &FileDescriptorProto,
) -> Result<pb::RegisterServiceResponse, Status> {
    let request = pb::RegisterServiceRequest {
        namespace: namespace.into(),
        service_descriptor: Some(raw(&file.service[0])),
        file_descriptor: Some(raw(file)),
    };
    client.register_service(request).await.map(tonic::Response::into_inner)
}

async fn lookup(client: &mut Client, namespace: &str, service: &str) -> Result<pb::RegisteredService, Status> {
    let request = pb::LookupServiceRequest { namespace: namespace.into(), service_name: service.into() };
    client.lookup_service(request).await.map(|reply| reply.into_inner().service.unwrap())
}

async fn validate(client: &mut Client, namespace: &str, service: &str, method: &str) -> pb::ValidateMethodResponse {
    let request = pb::ValidateMethodRequest {
        namespace: namespace.into(),
        service_name: service.into(),
        method_name: method.into(),
    };
    client.validate_method(request).await.unwrap().into_inner()
}

async fn list(client: &mut Client, namespace: &str) -> Vec<String> {
    let request = pb::ListServicesRequest { namespace: namespace.into() };
    let services = client.list_services(request).await.unwrap().into_inner().services;
    services.into_iter().map(|service| service.id).collect()
}

/// `shop/v1/orders.proto` with these fields of `Order` and these methods.
fn orders(fields: &str, methods: &str) -> FileDescriptorProto {
    let text = format!(
        "syntax = \"proto3\"; package shop.v1; message Order {{ {fields} }} message Ask {{}} service Orders {{ {methods} }}"
    );
    compile(&[("shop/v1/orders.proto", &text)]).pop().unwrap()
}

const GET: &str = "rpc Get(Ask) returns (Order);";

#[tokio::test]
async fn a_service_is_registered_and_found_by_its_full_and_short_name() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    let file = orders("string id = 1;", "rpc Get(Ask) returns (Order); rpc Watch(Ask) returns (stream Order);");
    assert_eq!(register(&mut client, "acme", std::slice::from_ref(&file)).await.unwrap(), ["Order", "Ask"]);
    assert_eq!(lookup(&mut client, "acme", "Orders").await.unwrap_err().code(), Code::NotFound, "only its file is");

    let reply = register_service(&mut client, "acme", &file).await.unwrap();
    assert_eq!(reply.service_id, "acme/shop.v1.Orders");
    assert_eq!(reply.registered_methods, ["Get", "Watch"]);
    for name in ["shop.v1.Orders", "Orders"] {
        let found = lookup(&mut client, "acme", name).await.unwrap();
        assert_eq!((found.id.as_str(), found.service_name.as_str()), ("acme/shop.v1.Orders", "shop.v1.Orders"));
        assert_eq!(found.method_names, ["Get", "Watch"]);
        let service = found.service_descriptor.unwrap().bytes();
        let service = prost_types::ServiceDescriptorProto::decode(service).unwrap();
        assert_eq!(service.method[1].server_streaming, Some(true), "streaming flags are kept");
        let metadata = found.metadata.unwrap();
        assert!(metadata.created_at.is_some() && metadata.updated_at.is_some());
    }
    assert!(validate(&mut client, "acme", "Orders", "Get").await.is_valid);
}

#[tokio::test]
async fn the_same_again_is_ok_and_a_compatible_revision_is_taken() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    let first = orders("string id = 1;", GET);
    for _ in 0..2 {
        register_service(&mut client, "acme", &first).await.unwrap();
    }
    let before = lookup(&mut client, "acme", "Orders").await.unwrap().metadata.unwrap();
    register_service(&mut client, "acme", &first).await.unwrap();
    assert_eq!(lookup(&mut client, "acme", "Orders").await.unwrap().metadata.unwrap(), before, "unchanged");
    let more = orders("string id = 1; int64 total = 2;", "rpc Get(Ask) returns (Order); rpc Put(Order) returns (Ask);");
    register(&mut client, "acme", &[more]).await.unwrap();
    let after = lookup(&mut client, "acme", "Orders").await.unwrap();
    assert_eq!(after.method_names, ["Get", "Put"], "the service follows its file");
    assert_eq!(after.metadata.unwrap().created_at, before.created_at);
}

#[tokio::test]
async fn d05_a_breaking_revision_is_refused_with_every_break_named() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    register_service(&mut client, "acme", &orders("string id = 1; int64 total = 2;", GET)).await.unwrap();
    let broken = orders("int32 id = 1; int64 sum = 2;", "rpc Fetch(Ask) returns (Order);");
    let status = register(&mut client, "acme", &[broken]).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::FailedPrecondition, "BREAKING_CHANGE".into()));
    let named: Vec<String> =
        status.get_details_precondition_failure().unwrap().violations.into_iter().map(|v| v.subject).collect();
    for wanted in ["shop.v1.Order.id", "shop.v1.Order.", "shop.v1.Orders"] {
        assert!(named.iter().any(|line| line.contains(wanted)), "{wanted} in {named:?}");
    }
    assert!(named.len() >= 3, "{named:?}");
    assert_eq!(lookup(&mut client, "acme", "Orders").await.unwrap().method_names, ["Get"], "nothing changed");
}

#[tokio::test]
async fn imports_have_to_be_there_and_come_along() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    let files = compile(&[
        ("common/money.proto", "syntax = \"proto3\"; package common; message Money { int64 units = 1; }"),
        (
            "shop/order.proto",
            "syntax = \"proto3\"; package shop; import \"common/money.proto\"; import \"google/protobuf/timestamp.proto\";
             message Order { common.Money total = 1; google.protobuf.Timestamp at = 2; }",
        ),
    ]);
    let own: Vec<FileDescriptorProto> =
        files.iter().filter(|file| !file.name().starts_with("google/")).cloned().collect();
    let status = register(&mut client, "acme", &own[1..]).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::InvalidArgument, "MISSING_IMPORT".into()));
    assert!(status.message().contains("common/money.proto"), "{}", status.message());
    register(&mut client, "acme", &own).await.unwrap();
    register(&mut client, "acme", &own[1..]).await.unwrap();
    register(&mut client, "other", &files).await.unwrap(); // with its own copy of timestamp.proto
}

#[tokio::test]
async fn d01_imports_that_go_in_circles_are_refused() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    for length in [1, 2, 200] {
        let file = |n: usize| FileDescriptorProto {
            name: Some(format!("c{n}.proto")),
            dependency: vec![format!("c{}.proto", (n + 1) % length)],
            syntax: Some("proto3".into()),
            ..Default::default()
        };
        let files: Vec<FileDescriptorProto> = (0..length).map(file).collect();
        let status = register(&mut client, "acme", &files).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{length}: {status:?}");
    }
    let missing = FileDescriptorProto { name: Some("c0.proto".into()), ..Default::default() };
    register(&mut client, "acme", &[missing]).await.unwrap();
}

#[tokio::test]
async fn d02_a_well_known_file_with_other_content_is_refused() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    let text = "syntax = \"proto3\"; package google.protobuf; message Timestamp { string when = 1; }";
    let file = protox_file("google/protobuf/timestamp.proto", text);
    let status = register(&mut client, "acme", &[file]).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::PermissionDenied, "RESERVED_FILE".into()));
    let posing = protox_file("mine.proto", "syntax = \"proto3\"; package collector; message Mine {}");
    let status = register(&mut client, "acme", &[posing]).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn d04_two_namespaces_have_the_same_names_and_their_own_types() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    register_service(&mut client, "a", &orders("string id = 1;", GET)).await.unwrap();
    register_service(&mut client, "b", &orders("int64 key = 1;", "rpc Fetch(Ask) returns (Order);")).await.unwrap();
    assert_eq!(lookup(&mut client, "a", "Orders").await.unwrap().method_names, ["Get"]);
    assert_eq!(lookup(&mut client, "b", "Orders").await.unwrap().method_names, ["Fetch"]);
    assert!(!validate(&mut client, "a", "Orders", "Fetch").await.is_valid);
    assert_eq!(lookup(&mut client, "c", "Orders").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn d10_of_clients_that_race_one_wins_and_stays() {
    let data = tempfile::tempdir().unwrap();
    let mut node = NodeProcess::start(data.path(), &[]);
    let channel_ = channel(&node.address).await;
    let tasks: Vec<_> = (0..32)
        .map(|n| {
            let mut client = CollectorRegistryClient::new(channel_.clone());
            let text = format!("syntax = \"proto3\"; package race; message Winner {{ string n{n} = 1; }}");
            let file = compile(&[(&format!("race/{n}.proto"), &text)]).pop().unwrap();
            tokio::spawn(async move { (n, register(&mut client, "acme", &[file]).await) })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        match task.await.unwrap() {
            (n, Ok(_)) => winners.push(n),
            (_, Err(status)) => assert_eq!(verdict(&status), (Code::AlreadyExists, "SYMBOL_TAKEN".into())),
        }
    }
    assert_eq!(winners.len(), 1, "{winners:?}");
    node.signal(rustix::process::Signal::KILL);
    node.wait();
    let node = NodeProcess::start(data.path(), &[]);
    let mut client = CollectorRegistryClient::new(channel(&node.address).await);
    let again = |n: usize| {
        let text = format!("syntax = \"proto3\"; package race; message Winner {{ string n{n} = 1; }}");
        compile(&[(&format!("race/{n}.proto"), &text)]).pop().unwrap()
    };
    register(&mut client, "acme", &[again(winners[0])]).await.unwrap();
    let loser = (winners[0] + 1) % 32;
    assert_eq!(register(&mut client, "acme", &[again(loser)]).await.unwrap_err().code(), Code::AlreadyExists);
}

#[tokio::test]
async fn registrations_survive_kill_9_with_their_custom_options() {
    let data = tempfile::tempdir().unwrap();
    let mut node = NodeProcess::start(data.path(), &[]);
    let mut client = CollectorRegistryClient::new(channel(&node.address).await);
    let file = orders("string id = 1;", GET);
    let mut bytes = file.encode_to_vec();
    bytes.extend_from_slice(b"\xc2\x3e\x06custom"); // field 1000: what a custom option looks like to old code
    let mut service = file.service[0].encode_to_vec();
    service.extend_from_slice(b"\xc2\x3e\x06option");
    let request = pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(bytes::Bytes::from(service.clone()).into()),
        file_descriptor: None,
    };
    let plain = pb::RegisterProtoRequest {
        namespace: "acme".into(),
        file_descriptor: Some(bytes::Bytes::from(bytes.clone()).into()),
        dependencies: vec![],
    };
    client.register_proto(plain).await.unwrap();
    client.register_service(request).await.unwrap();
    let before = lookup(&mut client, "acme", "Orders").await.unwrap();
    node.signal(rustix::process::Signal::KILL);
    node.wait();

    let node = NodeProcess::start(data.path(), &[]);
    let mut client = CollectorRegistryClient::new(channel(&node.address).await);
    let after = lookup(&mut client, "acme", "shop.v1.Orders").await.unwrap();
    assert_eq!(after, before);
    let set = http_get(&node.address, "/descriptors/acme.binpb").await;
    assert!(set.windows(9).any(|window| window == b"\xc2\x3e\x06custom"), "the file's option is served");
}

#[tokio::test]
async fn every_namespace_has_the_nodes_own_services_with_all_their_methods() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    register(&mut client, "acme", &[orders("", "")]).await.unwrap();
    for namespace in ["acme", "default", "never-used"] {
        let ids = list(&mut client, namespace).await;
        for service in [
            "collector.CollectionRepo",
            "collector.CollectionService",
            "collector.CollectiveDispatcher",
            "collector.CollectorRegistry",
            "collector.admin.v1.Namespaces",
            "collector.plugin.v1.Plugins",
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
        ] {
            assert!(ids.contains(&format!("{namespace}/{service}")), "{service} in {ids:?}");
        }
        assert!(ids.is_sorted());
    }
    let contract = prost_types::FileDescriptorSet::decode(pb::FILE_DESCRIPTOR_SET).unwrap();
    let declared = contract.file.iter().flat_map(|file| file.service.iter());
    for service in declared.filter(|s| ["CollectionService", "CollectionRepo", "Plugins"].contains(&s.name())) {
        let found = lookup(&mut client, "default", service.name()).await.unwrap();
        let methods: Vec<&str> = service.method.iter().map(|method| method.name()).collect();
        assert_eq!(found.method_names, methods);
    }
    let all = list(&mut client, "").await;
    assert!(all.iter().any(|id| id.starts_with("acme/")) && all.iter().any(|id| id.starts_with("default/")));
    assert!(!all.iter().any(|id| id.starts_with("system/")), "the node's own namespace is for its operators");
}

#[tokio::test]
async fn d11_validate_method_answers_whatever_it_is_asked() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    register_service(&mut client, "acme", &orders("string id = 1;", GET)).await.unwrap();
    use pb::status::Code as Body;
    let cases = [
        ("acme", "shop.v1.Orders", "Get", Body::Ok),
        ("acme", "Orders", "Put", Body::Unimplemented),
        ("acme", "orders", "Get", Body::Unimplemented),
        ("acme", "Orders", "get", Body::Unimplemented),
        ("acme", "../Orders", "Get", Body::InvalidArgument),
        ("acme", "", "Get", Body::InvalidArgument),
        ("", "Orders", "Get", Body::InvalidArgument),
        ("other", "Orders", "Get", Body::Unimplemented),
        ("system", "Orders", "Get", Body::Unimplemented),
    ];
    for (namespace, service, method, code) in cases {
        let reply = validate(&mut client, namespace, service, method).await;
        assert_eq!(reply.status.unwrap().code(), code, "{namespace}/{service}/{method}: {}", reply.message);
        assert_eq!(reply.is_valid, code == Body::Ok);
        assert_eq!(reply.message.is_empty(), reply.is_valid);
    }
    let two = compile(&[(
        "b.proto",
        "syntax = \"proto3\"; package b; message M {} service Orders { rpc Get(M) returns (M); }",
    )]);
    register_service(&mut client, "acme", &two[0]).await.unwrap();
    assert_eq!(validate(&mut client, "acme", "Orders", "Get").await.status.unwrap().code(), Body::FailedPrecondition);
    let status = lookup(&mut client, "acme", "Orders").await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("b.Orders") && status.message().contains("shop.v1.Orders"));
}

#[tokio::test]
async fn a_service_without_a_file_finds_its_types_or_names_what_is_missing() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    let method = |input: &str| prost_types::MethodDescriptorProto {
        name: Some("Get".into()),
        input_type: Some(input.into()),
        output_type: Some(".shop.v1.Order".into()),
        ..Default::default()
    };
    let service = |input: &str| pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&prost_types::ServiceDescriptorProto {
            name: Some("Loose".into()),
            method: vec![method(input)],
            options: None,
        })),
        file_descriptor: None,
    };
    let status = client.register_service(service(".shop.v1.Ask")).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::InvalidArgument, "UNRESOLVED_TYPE".into()));
    assert!(status.message().contains("shop.v1.Ask"), "{}", status.message());
    register(&mut client, "acme", &[orders("string id = 1;", "")]).await.unwrap();
    for _ in 0..2 {
        let reply = client.register_service(service(".shop.v1.Ask")).await.unwrap().into_inner();
        assert_eq!(reply.service_id, "acme/Loose");
    }
    let status = client.register_service(service(".shop.v1.Order")).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::FailedPrecondition, "BREAKING_CHANGE".into()));
}

#[tokio::test]
async fn validate_only_checks_and_keeps_nothing() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    let file = orders("string id = 1;", GET);
    let mut request = tonic::Request::new(pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&file.service[0])),
        file_descriptor: Some(raw(&file)),
    });
    request.metadata_mut().insert("collector-validate-only", "true".parse().unwrap());
    assert_eq!(client.register_service(request).await.unwrap().into_inner().registered_methods, ["Get"]);
    assert_eq!(lookup(&mut client, "acme", "Orders").await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn required_fields_are_named() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    let nothing = client.register_proto(pb::RegisterProtoRequest::default()).await.unwrap_err();
    assert_eq!((nothing.code(), nothing.message()), (Code::InvalidArgument, "namespace is required"));
    let request = pb::RegisterProtoRequest { namespace: "acme".into(), ..Default::default() };
    assert_eq!(client.register_proto(request.clone()).await.unwrap_err().message(), "file_descriptor is required");
    let request = pb::RegisterProtoRequest { file_descriptor: Some(raw(&FileDescriptorProto::default())), ..request };
    assert_eq!(client.register_proto(request).await.unwrap_err().message(), "file_descriptor.name is required");
    let request = pb::RegisterServiceRequest { namespace: "acme".into(), ..Default::default() };
    assert_eq!(client.register_service(request).await.unwrap_err().message(), "service_descriptor is required");
    let request = pb::LookupServiceRequest { namespace: "acme".into(), ..Default::default() };
    assert_eq!(client.lookup_service(request).await.unwrap_err().message(), "service_name is required");
    let system = pb::RegisterProtoRequest {
        namespace: "system".into(),
        file_descriptor: Some(raw(&orders("", ""))),
        dependencies: vec![],
    };
    assert_eq!(client.register_proto(system).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_namespace_holds_as_many_files_as_it_may() {
    let node = TestNode::start_with(|config| config.registry.files = 2).await;
    let mut client = client(&node).await;
    let file = |n: usize| protox_file(&format!("f{n}.proto"), &format!("syntax = \"proto3\"; message M{n} {{}}"));
    for n in 0..2 {
        register(&mut client, "acme", &[file(n)]).await.unwrap();
    }
    let status = register(&mut client, "acme", &[file(2)]).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::ResourceExhausted, "TOO_MANY".into()));
    assert!(status.message().contains("registry.files"), "{}", status.message());
    register(&mut client, "acme", &[file(1)]).await.unwrap();
    register(&mut client, "other", &[file(2)]).await.unwrap();
}

#[tokio::test]
async fn d07_options_that_a_compiler_left_unparsed_are_refused() {
    let node = TestNode::start().await;
    let mut client = client(&node).await;
    let mut file = orders("string id = 1;", GET);
    // 2,000 messages in messages as text: prost-reflect would parse them by recursion and overflow its stack.
    let option = prost_types::UninterpretedOption {
        name: vec![prost_types::uninterpreted_option::NamePart { name_part: "opt".into(), is_extension: true }],
        aggregate_value: Some("a{".repeat(2_000)),
        ..Default::default()
    };
    file.options = Some(prost_types::FileOptions { uninterpreted_option: vec![option.clone()], ..Default::default() });
    let status = register(&mut client, "acme", &[file]).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::InvalidArgument, "DESCRIPTORS_INVALID".into()));
    // The same within a service that comes beside its file.
    let whole = orders("string id = 1;", GET);
    let mut service = whole.service[0].clone();
    service.name = Some("Beside".into());
    service.options = Some(prost_types::ServiceOptions { uninterpreted_option: vec![option], ..Default::default() });
    for file_descriptor in [Some(raw(&whole)), None] {
        let request = pb::RegisterServiceRequest {
            namespace: "acme".into(),
            service_descriptor: Some(raw(&service)),
            file_descriptor,
        };
        let status = client.register_service(request).await.unwrap_err();
        assert_eq!(verdict(&status), (Code::InvalidArgument, "DESCRIPTORS_INVALID".into()));
    }
}

#[tokio::test]
async fn refused_registrations_take_up_no_namespaces() {
    let node = TestNode::start_with(|config| config.registry.namespaces = 2).await;
    let mut client = client(&node).await;
    for n in 0..5 {
        let empty = protox_file("", "syntax = \"proto3\";");
        assert!(register(&mut client, &format!("n{n}"), &[empty]).await.is_err());
        let cycle = FileDescriptorProto {
            name: Some("c.proto".into()),
            dependency: vec!["no.proto".into()],
            ..Default::default()
        };
        assert!(register(&mut client, &format!("n{n}"), &[cycle]).await.is_err());
    }
    for namespace in ["a", "b"] {
        register(&mut client, namespace, &[orders("", "")]).await.unwrap();
    }
    let status = register(&mut client, "c", &[orders("", "")]).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::ResourceExhausted, "TOO_MANY".into()));
}

#[tokio::test]
async fn services_that_share_a_file_survive_its_next_revision_and_a_restart() {
    let mut node = TestNode::start().await;
    let mut stub = client(&node).await;
    // More services than one write of the store takes changes.
    let common =
        |more: &str| protox_file("common.proto", &format!("syntax = \"proto3\"; package c; message M {{ {more} }}"));
    register(&mut stub, "acme", &[common("")]).await.unwrap();
    for n in 0..40 {
        let methods = "rpc Get(c.M) returns (c.M);";
        let services: String = (0..30).map(|s| format!("service S{n}x{s} {{ {methods} }}")).collect();
        let text = format!("syntax = \"proto3\"; package s; import \"common.proto\"; {services}");
        let common_text = "syntax = \"proto3\"; package c; message M {}";
        let file = compile(&[("common.proto", common_text), (&format!("s{n}.proto"), &text)]).pop().unwrap();
        register_service(&mut stub, "acme", &file).await.unwrap();
        for s in 1..30 {
            let request = pb::RegisterServiceRequest {
                namespace: "acme".into(),
                service_descriptor: Some(raw(&file.service[s])),
                file_descriptor: None,
            };
            stub.register_service(request).await.unwrap();
        }
    }
    register(&mut stub, "acme", &[common("string id = 1;")]).await.unwrap();
    node.restart().await;
    let mut stub = client(&node).await;
    let found = list(&mut stub, "acme").await;
    assert_eq!(found.iter().filter(|id| id.starts_with("acme/s.S")).count(), 1_200);
}
