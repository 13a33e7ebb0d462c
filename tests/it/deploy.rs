//! Deployments: uploaded once, answered by name, replaced without losing a call.

use crate::support::*;
use collector::rpc::pb;
use collector::rpc::pb::plugin::v1 as plugins_pb;
use plugins_pb::change::Action;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tonic::Code;
use tonic_types::StatusExt as _;

fn named(namespace: &str, name: &str) -> plugins_pb::GetRequest {
    plugins_pb::GetRequest { namespace: namespace.into(), name: name.into() }
}

fn activate(version: u32) -> plugins_pb::ActivateRequest {
    plugins_pb::ActivateRequest { namespace: "acme".into(), name: "greeter.v1.Greeter".into(), version }
}

fn undeploy(name: &str, version: u32) -> plugins_pb::UndeployRequest {
    plugins_pb::UndeployRequest { namespace: "acme".into(), name: name.into(), version }
}

#[tokio::test]
async fn what_is_deployed_answers_at_its_own_path() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let stub = Stub::new(&node, &greeter).await;
    let before = stub.call("SayHello", json!({ "name": "Ada" })).await.unwrap_err();
    assert_eq!(verdict(&before), (Code::Unimplemented, "NO_SERVICE".into()));

    let mut client = plugins(&node).await;
    let deployed = deploy_with(&mut client, header(), &greeter.bytes).await.unwrap();
    let deployment = deployed.deployment.unwrap();
    assert_eq!((deployed.version, deployment.active_version), (1, 1));
    assert_eq!(deployment.name, "greeter.v1.Greeter");
    assert_eq!(deployment.versions[0].services, ["greeter.v1.Greeter"]);
    assert_eq!(deployment.versions[0].digest, format!("sha256:{}", greeter.artifact.digest));
    let plan = deployed.plan.unwrap();
    let change = |method: &str| plugins_pb::Change {
        action: Action::Added.into(),
        service: "greeter.v1.Greeter".into(),
        method: method.into(),
    };
    for method in ["", "SayHello", "Describe", "Refuse"] {
        assert!(plan.changes.contains(&change(method)), "{method:?} in {:?}", plan.changes);
    }
    assert!(plan.breaking.is_empty() && plan.powers.iter().all(|power| power.granted), "{plan:?}");

    let answer = stub.call("SayHello", json!({ "name": "Ada" })).await.unwrap();
    assert_eq!(answer.replies, [json!({ "text": "Hello, Ada!" })]);
    assert_eq!(answer.receipt("collector-version"), "1");
    assert_eq!(answer.receipt("collector-start"), "warm", "compiled when it was deployed");
    // And by Serve, without code.
    let mut request = Call::new(&greeter, "SayHello", json!({ "name": "Ada" })).into_request();
    request.service_def = None;
    let served = raw_serve(&node, request).await.unwrap();
    assert_eq!(served.output.unwrap().type_url, "type.googleapis.com/greeter.v1.HelloReply");
}

#[tokio::test]
async fn a_known_digest_needs_no_bytes_and_bytes_have_to_match_it() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    let digest = format!("sha256:{}", greeter.artifact.digest);
    let by_digest = plugins_pb::DeployHeader { digest: digest.clone(), ..header() };
    let unknown = deploy_with(&mut client, by_digest.clone(), &[]).await.unwrap_err();
    assert_eq!(verdict(&unknown), (Code::NotFound, "ARTIFACT_NOT_FOUND".into()));
    let other = deploy_with(&mut client, by_digest.clone(), &variant(&greeter.bytes, "x")).await.unwrap_err();
    assert_eq!(other.code(), Code::InvalidArgument);
    assert_eq!(other.get_details_bad_request().unwrap().field_violations[0].field, "header.digest");
    let short = plugins_pb::DeployHeader { size_bytes: greeter.bytes.len() as u64 + 1, ..header() };
    let short = deploy_with(&mut client, short, &greeter.bytes).await.unwrap_err();
    assert_eq!(short.get_details_bad_request().unwrap().field_violations[0].field, "header.size_bytes");

    assert_eq!(deploy_with(&mut client, by_digest.clone(), &greeter.bytes).await.unwrap().version, 1);
    assert_eq!(
        deploy_with(&mut client, by_digest.clone(), &[]).await.unwrap().version,
        1,
        "the same is no new version"
    );
    let elsewhere = plugins_pb::DeployHeader { namespace: "other".into(), ..by_digest };
    let elsewhere = deploy_with(&mut client, elsewhere, &[]).await.unwrap_err();
    assert_eq!(elsewhere.code(), Code::NotFound, "a digest is no right to another tenant's bytes");
}

#[tokio::test]
async fn a_stream_without_a_header_or_with_two_is_refused() {
    let node = TestNode::start().await;
    let mut client = plugins(&node).await;
    let greeter = plugin("greeter");
    let no_header = parts(header(), &greeter.bytes).split_off(1);
    let status = client.deploy(tokio_stream::iter(no_header)).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "header is required"));
    let mut twice = parts(header(), &greeter.bytes);
    twice.insert(1, twice[0].clone());
    let status = client.deploy(tokio_stream::iter(twice)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let nothing = client.deploy(tokio_stream::iter(parts(header(), &[]))).await.unwrap_err();
    assert_eq!(verdict(&nothing), (Code::InvalidArgument, "ARTIFACT_EMPTY".into()));
    let junk = client.deploy(tokio_stream::iter(parts(header(), b"\0asm\x01\0\0\0"))).await.unwrap_err();
    assert_eq!(verdict(&junk), (Code::InvalidArgument, "ARTIFACT_KIND".into()));
    let list = client.list(plugins_pb::ListRequest::default()).await.unwrap().into_inner();
    assert!(list.deployments.is_empty());
}

#[tokio::test]
async fn an_artifact_is_as_large_as_it_may_be() {
    let greeter = plugin("greeter");
    let node = TestNode::start_with(|config| config.artifacts.max_mib = 1).await;
    let mut client = plugins(&node).await;
    let padded = |bytes: usize| {
        // A custom section that fills the component up: id, a five-byte length, a one-byte name.
        let rest = bytes - greeter.bytes.len() - 6;
        let mut all = greeter.bytes.to_vec();
        all.push(0);
        let length = u32::try_from(rest).unwrap();
        all.extend((0..5).map(|n| u8::try_from((length >> (7 * n)) & 0x7f).unwrap() | if n < 4 { 0x80 } else { 0 }));
        all.extend([1, b'p']);
        all.resize(bytes, 0);
        all
    };
    assert_eq!(deploy_with(&mut client, header(), &padded(1 << 20)).await.unwrap().version, 1);
    let over = deploy_with(&mut client, header(), &padded((1 << 20) + 1)).await.unwrap_err();
    assert_eq!(verdict(&over), (Code::ResourceExhausted, "ARTIFACT_TOO_LARGE".into()));
}

#[tokio::test]
async fn versions_are_numbered_and_activated_forward_and_back() {
    let mut node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    for (number, name) in [(1, "one"), (2, "two"), (3, "three")] {
        let bytes = variant(&greeter.bytes, name);
        assert_eq!(deploy_with(&mut client, header(), &bytes).await.unwrap().version, number);
    }
    let inactive = plugins_pb::DeployHeader { keep_inactive: true, ..header() };
    let deployed = deploy_with(&mut client, inactive, &variant(&greeter.bytes, "four")).await.unwrap();
    assert_eq!((deployed.version, deployed.deployment.unwrap().active_version), (4, 3));

    let stub = Stub::new(&node, &greeter).await;
    let version = async |stub: &Stub<'_>| {
        stub.call("SayHello", json!({ "name": "Ada" })).await.unwrap().receipt("collector-version").to_owned()
    };
    assert_eq!(version(&stub).await, "3");
    for (wanted, active) in [(1, "1"), (2, "2"), (0, "4"), (1, "1")] {
        client.activate(activate(wanted)).await.unwrap();
        assert_eq!(version(&stub).await, active);
    }
    let missing = client.activate(activate(9)).await.unwrap_err();
    assert_eq!(verdict(&missing), (Code::NotFound, "VERSION_NOT_FOUND".into()));

    node.restart().await;
    let stub = Stub::new(&node, &greeter).await;
    assert_eq!(version(&stub).await, "1", "what is active survives a restart");
    let mut client = plugins(&node).await;
    let active = client.undeploy(undeploy("greeter.v1.Greeter", 1)).await.unwrap_err();
    assert_eq!(verdict(&active), (Code::FailedPrecondition, "VERSION_ACTIVE".into()));
    client.undeploy(undeploy("greeter.v1.Greeter", 4)).await.unwrap();
    let found = client.get(named("acme", "greeter.v1.Greeter")).await.unwrap().into_inner().deployment.unwrap();
    let numbers: Vec<u32> = found.versions.iter().map(|version| version.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    let next = deploy_with(&mut client, header(), &variant(&greeter.bytes, "five")).await.unwrap();
    assert_eq!(next.version, 5, "a number is given once");
}

#[tokio::test]
async fn the_oldest_versions_go_when_there_are_too_many() {
    let node = TestNode::start_with(|config| config.deployments.versions = 3).await;
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    deploy_with(&mut client, header(), &greeter.bytes).await.unwrap();
    for n in 2..=5 {
        let inactive = plugins_pb::DeployHeader { keep_inactive: true, ..header() };
        deploy_with(&mut client, inactive, &variant(&greeter.bytes, &n.to_string())).await.unwrap();
    }
    let found = client.get(named("acme", "greeter.v1.Greeter")).await.unwrap().into_inner().deployment.unwrap();
    let numbers: Vec<u32> = found.versions.iter().map(|version| version.number).collect();
    assert_eq!((numbers, found.active_version), (vec![1, 4, 5], 1), "the active one stays");
}

#[tokio::test]
async fn validate_only_says_what_would_happen_and_does_nothing() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    let only = plugins_pb::DeployHeader { validate_only: true, ..header() };
    let plan = deploy_with(&mut client, only.clone(), &greeter.bytes).await.unwrap();
    assert_eq!((plan.deployment, plan.version), (None, 0));
    assert!(!plan.plan.unwrap().changes.is_empty());
    let stub = Stub::new(&node, &greeter).await;
    assert_eq!(stub.call("SayHello", json!({})).await.unwrap_err().code(), Code::Unimplemented);
    assert_eq!(client.get(named("acme", "greeter.v1.Greeter")).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(node.node().wasm_stats().await.compiled, 0);

    let sockets = std::fs::read(component("misbehave-sockets")).unwrap();
    let plan = deploy_with(&mut client, only, &sockets).await.unwrap().plan.unwrap();
    assert!(plan.powers.iter().any(|power| !power.granted && power.import.starts_with("wasi:sockets")), "{plan:?}");
    let refused = deploy_with(&mut client, header(), &sockets).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::FailedPrecondition, "IMPORTS_NOT_GRANTED".into()), "W07");
    assert!(refused.message().contains("wasi:sockets"), "{}", refused.message());
}

#[tokio::test]
async fn a_breaking_version_is_refused_and_shown_by_a_plan() {
    let node = TestNode::start().await;
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(channel(&node.address()).await);
    let text = "syntax = \"proto3\"; package greeter.v1;
        message HelloRequest { int32 name = 1; } message HelloReply { string text = 1; }
        service Greeter { rpc SayHello(HelloRequest) returns (HelloReply); rpc Gone(HelloRequest) returns (HelloReply); }";
    let file = compile(&[("greeter/v1/greeter.proto", text)]).pop().unwrap();
    let request = pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&file.service[0])),
        file_descriptor: Some(raw(&file)),
    };
    registry.register_service(request).await.unwrap();
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    let only = plugins_pb::DeployHeader { validate_only: true, ..header() };
    let plan = deploy_with(&mut client, only, &greeter.bytes).await.unwrap().plan.unwrap();
    for wanted in ["HelloRequest.name", "Gone"] {
        assert!(plan.breaking.iter().any(|line| line.contains(wanted)), "{wanted} in {:?}", plan.breaking);
    }
    let change = |action: Action, method: &str| plugins_pb::Change {
        action: action.into(),
        service: "greeter.v1.Greeter".into(),
        method: method.into(),
    };
    assert!(plan.changes.contains(&change(Action::Removed, "Gone")), "{:?}", plan.changes);
    assert!(plan.changes.contains(&change(Action::Added, "Describe")), "{:?}", plan.changes);
    let refused = deploy_with(&mut client, header(), &greeter.bytes).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::FailedPrecondition, "BREAKING_CHANGE".into()));
    assert_eq!(client.get(named("acme", "greeter.v1.Greeter")).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn undeploy_takes_the_services_along_unless_they_were_registered_by_name() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    let stub = Stub::new(&node, &greeter).await;
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(channel(&node.address()).await);
    let lookup = pb::LookupServiceRequest { namespace: "acme".into(), service_name: "Greeter".into() };
    for by_name in [false, true] {
        deploy_with(&mut client, header(), &greeter.bytes).await.unwrap();
        if by_name {
            let service = registry.lookup_service(lookup.clone()).await.unwrap().into_inner().service.unwrap();
            let request = pb::RegisterServiceRequest {
                namespace: "acme".into(),
                service_descriptor: service.service_descriptor,
                file_descriptor: None,
            };
            registry.register_service(request).await.unwrap();
        }
        client.undeploy(undeploy("greeter.v1.Greeter", 0)).await.unwrap();
        let status = stub.call("SayHello", json!({ "name": "Ada" })).await.unwrap_err();
        let reason = if by_name { "NO_IMPLEMENTATION" } else { "NO_SERVICE" };
        assert_eq!(verdict(&status), (Code::Unimplemented, reason.into()));
        assert_eq!(registry.lookup_service(lookup.clone()).await.is_ok(), by_name);
    }
    let gone = client.undeploy(undeploy("greeter.v1.Greeter", 0)).await.unwrap_err();
    assert_eq!(verdict(&gone), (Code::NotFound, "DEPLOYMENT_NOT_FOUND".into()));
}

#[tokio::test]
async fn a_service_has_one_deployment() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    deploy_with(&mut client, header(), &greeter.bytes).await.unwrap();
    let second = plugins_pb::DeployHeader { name: "second".into(), ..header() };
    let status = deploy_with(&mut client, second, &variant(&greeter.bytes, "x")).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::AlreadyExists, "SERVICE_TAKEN".into()));
    assert!(status.message().contains("greeter.v1.Greeter"), "{}", status.message());
    let elsewhere = plugins_pb::DeployHeader { namespace: "other".into(), name: "second".into(), ..header() };
    deploy_with(&mut client, elsewhere, &greeter.bytes).await.unwrap();
}

#[tokio::test]
async fn a_command_answers_for_the_service_that_it_is_deployed_for() {
    let node = TestNode::start().await;
    let bytes = std::fs::read(component("wordcount")).unwrap();
    let mut client = plugins(&node).await;
    let nameless = deploy_with(&mut client, header(), &bytes).await.unwrap_err();
    assert_eq!(verdict(&nameless), (Code::FailedPrecondition, "NO_SERVICES".into()));
    let with = plugins_pb::DeployHeader { services: vec!["words.v1.Words".into()], ..header() };
    let unregistered = deploy_with(&mut client, with.clone(), &bytes).await.unwrap_err();
    assert_eq!(verdict(&unregistered), (Code::FailedPrecondition, "NOT_REGISTERED".into()));

    let text = "syntax = \"proto3\"; package words.v1; import \"google/protobuf/empty.proto\";
        message Text {} service Words { rpc Count(Text) returns (google.protobuf.Empty); }";
    let files = compile(&[("words.proto", text)]);
    let file = files.last().unwrap();
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(channel(&node.address()).await);
    let request = pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&file.service[0])),
        file_descriptor: Some(raw(file)),
    };
    registry.register_service(request).await.unwrap();
    assert_eq!(deploy_with(&mut client, with, &bytes).await.unwrap().version, 1);
    // It answers with text ("1 1 3"), which is no google.protobuf.Empty: the node says so.
    let mut grpc = tonic::client::Grpc::new(channel(&node.address()).await);
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(b"\x0a\x01a".to_vec());
    request.metadata_mut().insert("collector-namespace", "acme".parse().unwrap());
    let path = http::uri::PathAndQuery::from_static("/words.v1.Words/Count");
    let status = grpc.unary(request, path, RawCodec).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::Unknown, "OUTPUT_TYPE".into()));
    assert!(status.metadata().contains_key("collector-run-us"), "it ran, so there is a receipt");
}

#[tokio::test]
async fn lists_come_in_pages_and_tokens_are_for_their_query() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    for namespace in ["a", "b", "c", "d", "e"] {
        let header = plugins_pb::DeployHeader { namespace: namespace.into(), ..header() };
        deploy_with(&mut client, header, &greeter.bytes).await.unwrap();
    }
    let mut request = plugins_pb::ListRequest { page_size: 2, ..Default::default() };
    let mut seen = Vec::new();
    loop {
        let page = client.list(request.clone()).await.unwrap().into_inner();
        assert!(page.deployments.len() <= 2);
        seen.extend(page.deployments.into_iter().map(|deployment| deployment.namespace));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(seen, ["a", "b", "c", "d", "e"]);
    request.namespace = "a".into();
    assert_eq!(client.list(request.clone()).await.unwrap_err().code(), Code::InvalidArgument, "another query");
    let negative = plugins_pb::ListRequest { page_size: -1, ..Default::default() };
    assert_eq!(client.list(negative).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test]
async fn inspect_tells_what_an_artifact_is_without_running_it() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    deploy(&node, &greeter).await;
    let mut client = plugins(&node).await;
    use plugins_pb::inspect_request::Artifact;
    let digest = format!("sha256:{}", greeter.artifact.digest);
    for artifact in [Artifact::Digest(digest.clone()), Artifact::Name("greeter.v1.Greeter".into())] {
        let request = plugins_pb::InspectRequest { namespace: "acme".into(), artifact: Some(artifact) };
        let found = client.inspect(request).await.unwrap().into_inner();
        assert_eq!((found.digest.as_str(), found.kind.as_str()), (digest.as_str(), "WasmHandler"));
        assert_eq!((found.size_bytes, found.services.len()), (greeter.bytes.len() as u64, 1));
        assert_eq!(found.descriptors, greeter.artifact.schema.as_ref().unwrap().encoded());
        assert!(found.powers.iter().all(|power| power.granted));
    }
    let request = plugins_pb::InspectRequest { namespace: "b".into(), artifact: Some(Artifact::Digest(digest)) };
    assert_eq!(client.inspect(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn deployed_artifacts_outlive_the_bounds_of_the_artifact_store() {
    let mut node = TestNode::start_with(|config| config.artifacts.count = 1).await;
    let greeter = plugin("greeter");
    deploy(&node, &greeter).await;
    let filler = plugin("markdown");
    for name in ["a", "b", "c"] {
        let mut call = Call::new(&filler, "Render", json!({ "source": "x" }));
        call.code = pb::serve_request::ServiceDef::ServiceBinary(variant(&filler.bytes, name).into());
        call.run(&node.client).await.unwrap();
    }
    node.restart().await;
    std::fs::remove_dir_all(node.data().join("compiled")).unwrap();
    node.restart().await;
    let stub = Stub::new(&node, &greeter).await;
    assert!(stub.call("SayHello", json!({ "name": "Ada" })).await.is_ok(), "compiled anew from its artifact");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_activations_under_load_lose_no_call() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    for name in ["one", "two"] {
        deploy_with(&mut client, header(), &variant(&greeter.bytes, name)).await.unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..8)
        .map(|_| {
            let (stop, answered, address) = (Arc::clone(&stop), Arc::clone(&answered), node.address());
            tokio::spawn(async move {
                let greeter = plugin("greeter");
                let stub = Stub {
                    channel: channel(&address).await,
                    plugin: &greeter,
                    namespace: "acme".into(),
                    timeout: None,
                };
                while !stop.load(Ordering::Relaxed) {
                    let answer = stub.call("SayHello", json!({ "name": "Ada" })).await.expect("no call fails");
                    assert_eq!(answer.replies, [json!({ "text": "Hello, Ada!" })]);
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let stub = Stub::new(&node, &greeter).await;
    for n in 0..100 {
        let wanted = n % 2 + 1;
        client.activate(activate(wanted)).await.unwrap();
        let answer = stub.call("SayHello", json!({ "name": "Ada" })).await.unwrap();
        assert_eq!(answer.receipt("collector-version"), wanted.to_string(), "the next call runs it");
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(answered.load(Ordering::Relaxed) > 100, "there was load");
}

#[tokio::test]
async fn a_call_in_flight_ends_on_the_version_it_began_with() {
    let node = TestNode::start().await;
    let misbehave = plugin("misbehave");
    let mut client = plugins(&node).await;
    deploy_with(&mut client, header(), &misbehave.bytes).await.unwrap();
    let address = node.address();
    let slow = tokio::spawn(async move {
        let misbehave = plugin("misbehave");
        let stub =
            Stub { channel: channel(&address).await, plugin: &misbehave, namespace: "acme".into(), timeout: None };
        stub.call("Sleep", amount(700)).await.unwrap().receipt("collector-version").to_owned()
    });
    until("the call runs", || async { node.node().wasm_stats().await.running > 0 }).await;
    deploy_with(&mut client, header(), &variant(&misbehave.bytes, "two")).await.unwrap();
    client.undeploy(undeploy("misbehave.v1.Misbehave", 0)).await.unwrap();
    assert_eq!(slow.await.unwrap(), "1");
}

/// A file with one service of one echoing method.
fn echoing(file: &str, package: &str, service: &str) -> prost_types::FileDescriptorProto {
    let text = format!(
        "syntax = \"proto3\"; package {package}; message Thing {{ string id = 1; }}
         service {service} {{ rpc Get(Thing) returns (Thing); }}"
    );
    compile(&[(file, &text)]).pop().unwrap()
}

async fn get(node: &TestNode, service: &str) -> Result<Vec<u8>, tonic::Status> {
    let mut grpc = tonic::client::Grpc::new(channel(&node.address()).await);
    grpc.ready().await.unwrap();
    let mut request = tonic::Request::new(b"\x0a\x01x".to_vec());
    request.metadata_mut().insert("collector-namespace", "acme".parse().unwrap());
    let path = format!("/{service}/Get").parse().unwrap();
    grpc.unary(request, path, RawCodec).await.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn what_only_an_older_version_brings_stays_as_long_as_that_version() {
    let mut node = TestNode::start().await;
    let (x, y) = (echoing("x.proto", "p.one", "A"), echoing("y.proto", "p.two", "B"));
    let both = describing(&echo_handler(), vec![x.clone(), y]);
    let one = describing(&echo_handler(), vec![x]);
    let name = || plugins_pb::DeployHeader { name: "pair".into(), ..header() };
    let mut client = plugins(&node).await;
    deploy_with(&mut client, name(), &both).await.unwrap();
    assert!(get(&node, "p.one.A").await.is_ok() && get(&node, "p.two.B").await.is_ok());
    deploy_with(&mut client, name(), &one).await.unwrap();
    for _ in 0..2 {
        assert!(get(&node, "p.one.A").await.is_ok());
        let without = get(&node, "p.two.B").await.unwrap_err();
        assert_eq!(verdict(&without), (Code::Unimplemented, "NO_IMPLEMENTATION".into()), "version 1 may come back");
        node.restart().await;
    }
    let mut client = plugins(&node).await;
    let back = plugins_pb::ActivateRequest { namespace: "acme".into(), name: "pair".into(), version: 1 };
    client.activate(back).await.unwrap();
    assert!(get(&node, "p.two.B").await.is_ok());
    let on = plugins_pb::ActivateRequest { namespace: "acme".into(), name: "pair".into(), version: 2 };
    client.activate(on).await.unwrap();
    client.undeploy(undeploy("pair", 1)).await.unwrap();
    let gone = get(&node, "p.two.B").await.unwrap_err();
    assert_eq!(verdict(&gone), (Code::Unimplemented, "NO_SERVICE".into()), "nothing brings it any more");
    node.restart().await;
    assert!(get(&node, "p.one.A").await.is_ok());
}

#[tokio::test]
async fn a_descriptor_file_may_be_renamed_from_one_version_to_the_next() {
    let mut node = TestNode::start().await;
    let mut client = plugins(&node).await;
    for file in ["old.proto", "new.proto"] {
        let bytes = describing(&echo_handler(), vec![echoing(file, "p.one", "A")]);
        deploy_with(&mut client, header(), &bytes).await.unwrap();
        assert!(get(&node, "p.one.A").await.is_ok(), "{file}");
    }
    let back = plugins_pb::ActivateRequest { namespace: "acme".into(), name: "p.one.A".into(), version: 1 };
    client.activate(back).await.unwrap();
    node.restart().await;
    assert!(get(&node, "p.one.A").await.is_ok());
}

#[tokio::test]
async fn a_namespace_keeps_as_many_mib_of_artifacts_as_it_may() {
    let node = TestNode::start_with(|config| config.deployments.mib = 1).await;
    let thumbnail = plugin("thumbnail");
    let mut client = plugins(&node).await;
    deploy_with(&mut client, header(), &variant(&thumbnail.bytes, "one")).await.unwrap();
    deploy_with(&mut client, header(), &variant(&thumbnail.bytes, "two")).await.unwrap();
    let over = deploy_with(&mut client, header(), &variant(&thumbnail.bytes, "three")).await.unwrap_err();
    assert_eq!(verdict(&over), (Code::ResourceExhausted, "TOO_MANY".into()));
    assert!(over.message().contains("deployments.mib"), "{}", over.message());
    client.undeploy(undeploy("thumbnail.v1.Thumbnail", 1)).await.unwrap();
    deploy_with(&mut client, header(), &variant(&thumbnail.bytes, "three")).await.unwrap();
}

#[tokio::test]
async fn an_artifact_whose_deployment_was_refused_is_one_among_others() {
    let node = TestNode::start_with(|config| config.artifacts.count = 1).await;
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(channel(&node.address()).await);
    let text = "syntax = \"proto3\"; package greeter.v1; message HelloRequest { int32 name = 1; }";
    let request = pb::RegisterProtoRequest {
        namespace: "acme".into(),
        file_descriptor: Some(raw(&compile(&[("greeter/v1/greeter.proto", text)])[0])),
        dependencies: vec![],
    };
    registry.register_proto(request).await.unwrap();
    let greeter = plugin("greeter");
    let mut client = plugins(&node).await;
    let digest = format!("sha256:{}", greeter.artifact.digest);
    let by_digest = || plugins_pb::DeployHeader { digest: digest.clone(), ..header() };
    for bytes in [&greeter.bytes[..], &[]] {
        let refused = deploy_with(&mut client, by_digest(), bytes).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::FailedPrecondition, "BREAKING_CHANGE".into()), "and its bytes are kept");
    }
    node.call(&plugin("markdown"), "Render", json!({ "source": "x" })).await.unwrap();
    let evicted = deploy_with(&mut client, by_digest(), &[]).await.unwrap_err();
    assert_eq!(verdict(&evicted), (Code::NotFound, "ARTIFACT_NOT_FOUND".into()));
}
