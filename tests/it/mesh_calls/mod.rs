//! Calls that another node answers: native ones of every kind, and Dispatch.

mod guarded;
mod impostor;
mod lies;
mod lost;
pub(crate) mod statements;
mod travel;

use crate::mesh_links::reserve;
use crate::support::*;
use collector::mesh::{Entry, Served};
use collector::rpc::pb;
use pb::collective_dispatcher_client::CollectiveDispatcherClient;
use prost::Message as _;
use prost_types::Any;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

fn peer(address: &str, allows: &[&str]) -> Entry {
    let allows = allows.iter().map(|text| text.parse().unwrap()).collect();
    Entry { address: address.into(), allows, ..Entry::default() }
}

async fn node(id: &str, at: &str, peers: &[Entry]) -> TestNode {
    TestNode::start_with(|config| {
        config.server.listen = at.parse().unwrap();
        config.mesh.id = id.into();
        config.peers = peers.to_vec();
        config.server.grace_ms = 500;
    })
    .await
}

/// Nodes that are each other's peers; each may do this on behalf of its callers.
async fn mesh_of<const N: usize>(ids: [&str; N], allows: &[&str]) -> [TestNode; N] {
    let places = ids.map(|id| (id, reserve()));
    let mut nodes = Vec::new();
    for (id, at) in &places {
        let others = places.iter().filter(|(other, _)| other != id);
        let others: Vec<Entry> = others.map(|(_, at)| peer(at, allows)).collect();
        nodes.push(node(id, at, &others).await);
    }
    for node in &nodes {
        until("all links", async || node.node().mesh().topology().peers().count() == N - 1).await;
    }
    nodes.try_into().unwrap_or_else(|_| unreachable!())
}

/// Deploys to `acme`, and waits until the other knows.
async fn deploy_known(to: &TestNode, plugin: &collector::cli::PluginFile, others: &[&TestNode]) {
    deploy(to, plugin).await;
    let service = &plugin.artifact.schema.as_ref().unwrap().services()[0].name;
    let what = Served { namespace: "acme".parse().unwrap(), service: service.clone() };
    for other in others {
        let knows =
            || other.node().mesh().topology().servers(&what).iter().any(|(peer, _)| peer.id.as_str() == to.node().id());
        until("the offer", async || knows()).await;
    }
}

async fn dispatcher(node: &TestNode) -> CollectiveDispatcherClient<Channel> {
    CollectiveDispatcherClient::new(channel(&node.address()).await)
}

fn dispatch(service: &str, method: &str, input: Option<Any>) -> pb::DispatchRequest {
    pb::DispatchRequest {
        namespace: "acme".into(),
        service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: service.into() }),
        method_name: method.into(),
        input,
        ..Default::default()
    }
}

fn any(name: &str, value: Vec<u8>) -> Option<Any> {
    Some(Any { type_url: format!("type.googleapis.com/{name}"), value })
}

async fn dispatched(node: &TestNode, request: pb::DispatchRequest) -> Result<pb::DispatchResponse, Status> {
    dispatcher(node).await.dispatch(request).await.map(Response::into_inner)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_four_kinds_of_native_call_are_answered_by_a_node_that_has_the_code() {
    let [a, b] = mesh_of(["a", "b"], &["acme:invoker"]).await;
    let plugin = plugin("streams");
    deploy_known(&b, &plugin, &[&a]).await;
    let stub = Stub::new(&a, &plugin).await;
    let unary = stub.call("Echo", json!({ "text": "hi" })).await.unwrap();
    assert_eq!(unary.replies, [json!({ "text": "hi" })]);
    let server = stub.stream("Count", vec![json!({ "to": "5" })]).await.unwrap();
    assert_eq!(server.replies.len(), 5);
    let numbers: Vec<Value> = (1..=100).map(|n| json!({ "value": n.to_string() })).collect();
    let client = stub.stream("Sum", numbers).await.unwrap();
    assert_eq!((&client.replies[0]["sum"], &client.replies[0]["count"]), (&json!("5050"), &json!("100")));
    for answer in [&unary, &server, &client] {
        assert_eq!(answer.receipt("collector-version"), "1", "the receipt comes along");
    }
    // A conversation: each line is answered before the next is said.
    let (say, said) = tokio::sync::mpsc::channel(1);
    let request = stub.request(tokio_stream::wrappers::ReceiverStream::new(said));
    let mut grpc = stub.grpc().await;
    let mut replies = grpc.streaming(request, stub.path("Chat"), RawCodec).await.unwrap().into_inner();
    for text in ["one", "two", "three"] {
        say.send(stub.encode("Chat", &json!({ "text": text }))).await.unwrap();
        let reply = replies.next().await.unwrap().unwrap();
        assert_eq!(stub.decode("Chat", &reply), json!({ "text": text.to_uppercase() }));
    }
    drop(say);
    assert!(replies.next().await.is_none());
    assert_eq!(a.node().wasm_stats().await.running, 0);
    until("nothing is left", async || b.node().wasm_stats().await.running == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guest_says_and_what_is_wrong_come_back_as_they_were_said() {
    let [a, b] = mesh_of(["a", "b"], &["acme:invoker"]).await;
    let plugin = plugin("streams");
    deploy_known(&b, &plugin, &[&a]).await;
    let (there, here) = (Stub::new(&a, &plugin).await, Stub::new(&b, &plugin).await);
    for (method, message) in [("Fail", json!({ "after": "2" })), ("Count", json!({ "to": "1" }))] {
        let (far, near) = (there.stream(method, vec![message.clone()]).await, here.stream(method, vec![message]).await);
        assert_eq!(
            far.map_err(|status| verdict(&status)).map(|a| a.replies),
            near.map_err(|s| verdict(&s)).map(|a| a.replies)
        );
    }
    let odd = |stub: &Stub<'_>| stub.request(b"\x0a\x02\xff\xff".to_vec());
    let wrong = there.grpc().await.unary(odd(&there), there.path("Echo"), RawCodec).await.unwrap_err();
    assert_eq!(verdict(&wrong), (Code::InvalidArgument, "INPUT_TYPE".into()));
    let mut unknown = there.grpc().await;
    let path = "/streams.v1.Nope/Echo".parse().unwrap();
    let unknown = unknown.unary(there.request(Vec::new()), path, RawCodec).await.unwrap_err();
    assert_eq!(verdict(&unknown), (Code::Unimplemented, "NO_SERVICE".into()), "nobody has it");
    let elsewhere = Stub { namespace: "other".into(), ..there.clone() };
    let elsewhere = elsewhere.call("Echo", json!({})).await.unwrap_err();
    assert_eq!(verdict(&elsewhere), (Code::Unimplemented, "NO_SERVICE".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_and_json_reach_code_that_another_node_has() {
    let [a, b] = mesh_of(["a", "b"], &["acme:invoker"]).await;
    let greeter = plugin("greeter");
    deploy_known(&b, &greeter, &[&a]).await;
    // Its types are known here, and no code.
    let text = std::fs::read_to_string("plugins/greeter/proto/greeter.proto").unwrap();
    let files = compile(&[("greeter.proto", &text)]);
    let client = Client::connect(&a.address()).await;
    client.register("acme", &files).await.unwrap();
    let service = files.last().unwrap().service[0].clone();
    let request = pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&service)),
        file_descriptor: Some(raw(files.last().unwrap())),
    };
    client.registry.clone().register_service(request).await.unwrap();
    let path = "/greeter.v1.Greeter/SayHello";
    let headers = [("collector-namespace", "acme")];
    let (status, reply) = http_post(&a.address(), path, &headers, &json!({ "name": "Ada" })).await;
    let (_, near) = http_post(&b.address(), path, &headers, &json!({ "name": "Ada" })).await;
    assert_eq!((status, &reply), (200, &near), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_that_only_newer_types_have_is_called_where_they_are() {
    let [a, b] = mesh_of(["a", "b"], &["acme:invoker"]).await;
    let greeter = plugin("greeter");
    deploy_known(&b, &greeter, &[&a]).await;
    let text = r#"syntax = "proto3";
        package greeter.v1;
        message Old { string name = 1; }
        service Greeter { rpc Wave(Old) returns (Old); }"#;
    let files = compile(&[("old.proto", text)]);
    let client = Client::connect(&a.address()).await;
    client.register("acme", &files).await.unwrap();
    let request = pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&files[0].service[0])),
        file_descriptor: Some(raw(&files[0])),
    };
    client.registry.clone().register_service(request).await.unwrap();
    let stub = Stub::new(&a, &greeter).await;
    let reply = stub.call("SayHello", json!({ "name": "you" })).await.unwrap();
    assert_eq!(reply.receipt("collector-version"), "1");
    for (node, method) in [(&a, "Wave"), (&a, "Nope"), (&b, "Nope")] {
        let stub = Stub::new(node, &greeter).await;
        let path = format!("/greeter.v1.Greeter/{method}").parse().unwrap();
        let refused = stub.grpc().await.unary(stub.request(Vec::new()), path, RawCodec).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::Unimplemented, "NO_METHOD".into()), "{method}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dispatch_says_who_ran_it_and_why_nobody_did() {
    let [a, b, c] = mesh_of(["a", "b", "c"], &["acme:invoker"]).await;
    let greeter = plugin("greeter");
    deploy_known(&b, &greeter, &[&a, &c]).await;
    let input = greeter.encode("greeter.v1.HelloRequest", r#"{"name":"Ada"}"#).unwrap();
    let hello = || dispatch("greeter.v1.Greeter", "SayHello", any("greeter.v1.HelloRequest", input.clone()));
    let to = |target: &str| pb::DispatchRequest { target_collector_id: target.into(), ..hello() };
    for request in [hello(), to("b"), pb::DispatchRequest { service: dispatch("Greeter", "", None).service, ..hello() }]
    {
        for node in [&a, &b] {
            let answer = dispatched(node, request.clone()).await.unwrap();
            assert_eq!(answer.handled_by_collector_id, "b");
            let output = answer.output.unwrap();
            assert_eq!(output.type_url, "type.googleapis.com/greeter.v1.HelloReply");
            assert!(!output.value.is_empty());
        }
    }
    let response = dispatcher(&a).await.dispatch(hello()).await.unwrap();
    assert_eq!(response.metadata().get("collector-version").unwrap(), "1", "the receipt comes along");

    let says = async |request: pb::DispatchRequest| {
        let status = dispatched(&a, request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let required = |field: &str| (Code::InvalidArgument, format!("{field} is required"));
    assert_eq!(says(pb::DispatchRequest { namespace: String::new(), ..hello() }).await, required("namespace"));
    assert_eq!(says(pb::DispatchRequest { service: None, ..hello() }).await, required("service"));
    assert_eq!(says(pb::DispatchRequest { method_name: String::new(), ..hello() }).await, required("method_name"));
    for unknown in ["z", "no id at all"] {
        assert_eq!(says(to(unknown)).await, (Code::NotFound, "no connection to collector".into()));
    }
    let nobody = (Code::NotFound, "no collector found for namespace".to_owned());
    assert_eq!(says(to("a")).await, nobody, "itself is asked, and has it not");
    assert_eq!(says(to("c")).await, nobody, "the target's own words");
    assert_eq!(says(pb::DispatchRequest { namespace: "other".into(), ..hello() }).await, nobody);
    assert_eq!(says(dispatch("greeter.v1.Greeter", "Nope", None)).await.0, Code::Unimplemented);
    let wrong = dispatch("greeter.v1.Greeter", "SayHello", any("other.v1.Thing", Vec::new()));
    assert_eq!(says(wrong).await.0, Code::InvalidArgument, "the node that runs it looks");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_of_the_node_itself_are_dispatched_to_any_collector() {
    let [a, b] = mesh_of(["a", "b"], &["acme:admin"]).await;
    let place = Place::acme("notes");
    Client::connect(&b.address()).await.make(place.definition("", &[])).await.unwrap();
    let create = place.create("one", any("collector.NamespacedName", Vec::new()).unwrap());
    let call = |method: &str, name: &str, value: Vec<u8>, target: &str| pb::DispatchRequest {
        target_collector_id: target.into(),
        ..dispatch("CollectionService", method, any(name, value))
    };
    let made = dispatched(&a, call("Create", "collector.CreateRequest", create.encode_to_vec(), "b")).await.unwrap();
    assert_eq!(made.handled_by_collector_id, "b");
    let get = || place.get("one").encode_to_vec();
    let got = dispatched(&a, call("Get", "collector.GetRequest", get(), "b")).await.unwrap();
    assert_eq!(got.output.as_ref().unwrap().type_url, "type.googleapis.com/collector.GetResponse");
    let got = pb::GetResponse::decode(&*got.output.unwrap().value).unwrap();
    assert_eq!(got.item.unwrap().type_url, "type.googleapis.com/collector.NamespacedName");
    for target in ["", "a"] {
        let here = dispatched(&a, call("Get", "collector.GetRequest", get(), target)).await.unwrap_err();
        assert_eq!(here.code(), Code::NotFound, "built-in services are everywhere: it asks here");
    }
    let wrong = dispatched(&a, call("Get", "collector.ListRequest", get(), "b")).await.unwrap_err();
    assert_eq!(verdict(&wrong), (Code::InvalidArgument, "INPUT_TYPE".into()));
    let streams = dispatch("grpc.health.v1.Health", "Watch", None);
    assert_eq!(verdict(&dispatched(&a, streams).await.unwrap_err()), (Code::Unimplemented, "STREAMING".into()));
    let again = dispatch("CollectiveDispatcher", "Dispatch", None);
    let again = dispatched(&a, again).await.unwrap_err();
    assert_eq!(verdict(&again), (Code::Unimplemented, "NOT_DISPATCHED".into()), "no circles");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_shrinks_on_its_way_and_a_caller_that_leaves_stops_the_far_guest() {
    let [a, b] = mesh_of(["a", "b"], &["acme:invoker"]).await;
    let (streams, misbehave) = (plugin("streams"), plugin("misbehave"));
    deploy_known(&b, &streams, &[&a]).await;
    deploy_known(&b, &misbehave, &[&a]).await;
    let gone = async || until("the guest is gone", async || b.node().wasm_stats().await.running == 0).await;
    let runs = async || until("the guest runs", async || b.node().wasm_stats().await.running == 1).await;

    let slow = Stub { timeout: Some(Duration::from_millis(300)), ..Stub::new(&a, &misbehave).await };
    let late = slow.call("Sleep", amount(20_000)).await.unwrap_err();
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&late.code()), "{late:?}");
    gone().await;

    let patient = Stub::new(&a, &misbehave).await;
    let call = patient.call("Sleep", amount(20_000));
    tokio::select! {
        _ = call => panic!("it sleeps for 20 s"),
        () = runs() => {}
    }
    gone().await;

    // A stream that nobody reads any more, and one whose client says nothing.
    let stub = Stub::new(&a, &streams).await;
    let flood = stub.request(tokio_stream::iter([stub.encode("Flood", &json!({ "bytes": 1_000 }))]));
    let mut replies = stub.grpc().await.streaming(flood, stub.path("Flood"), RawCodec).await.unwrap().into_inner();
    for _ in 0..50 {
        assert!(replies.next().await.unwrap().is_ok());
    }
    drop(replies);
    gone().await;
    // tonic's client resets no stream that it still sends on: this one's whole connection goes.
    let (client, address) = (tokio::runtime::Runtime::new().unwrap(), a.address());
    client.spawn(async move {
        let plugin = self::plugin("streams");
        let stub = Stub { channel: channel(&address).await, plugin: &plugin, namespace: "acme".into(), timeout: None };
        let silent = stub.request(tokio_stream::pending());
        let _chat = stub.grpc().await.streaming(silent, stub.path("Chat"), RawCodec).await.unwrap();
        std::future::pending::<()>().await;
    });
    runs().await;
    client.shutdown_background();
    gone().await;
    assert_eq!(a.node().mesh().topology().peers().map(|peer| peer.in_flight()).sum::<usize>(), 0);
}
