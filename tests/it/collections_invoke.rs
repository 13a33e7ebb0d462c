//! Methods run on records of a collection.

use crate::support::*;
use collector::cli::PluginFile;
use collector::rpc::pb;
use prost_types::Any;
use serde_json::json;
use tonic::{Code, Response, Status};

const HELLO: &str = "greeter.v1.HelloRequest";

/// A collection of greetings to be said, and the plugin that says them.
async fn greetings(node: &TestNode) -> (Records, PluginFile) {
    let greeter = plugin("greeter");
    deploy(node, &greeter).await;
    let records = Records::of(node).await;
    records.make(HELLO, &[]).await;
    for (id, name) in [("a", "Ada"), ("b", "Bob"), ("bad", "")] {
        records.put(id, hello(&greeter, name)).await;
    }
    (records, greeter)
}

fn hello(greeter: &PluginFile, name: &str) -> Any {
    let value = greeter.encode(HELLO, &json!({ "name": name }).to_string()).unwrap();
    Any { type_url: format!("type.googleapis.com/{HELLO}"), value }
}

fn invoke(records: &Records, method: &str, ids: &[&str]) -> pb::InvokeRequest {
    pb::InvokeRequest {
        namespace: records.place.namespace.into(),
        collection_name: records.place.collection.into(),
        method_name: method.into(),
        item_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        input: None,
    }
}

async fn run(records: &Records, request: pb::InvokeRequest) -> Result<Response<pb::InvokeResponse>, Status> {
    records.client.records.clone().invoke(request).await
}

fn texts(greeter: &PluginFile, outputs: &[Any]) -> Vec<String> {
    let text = |output: &Any| {
        assert_eq!(output.type_url, "type.googleapis.com/greeter.v1.HelloReply");
        greeter.decode("greeter.v1.HelloReply", &output.value).unwrap()["text"].as_str().unwrap().to_owned()
    };
    outputs.iter().map(text).collect()
}

#[tokio::test]
async fn a_method_runs_once_per_record_in_the_order_of_ids() {
    let node = TestNode::start().await;
    let (records, greeter) = greetings(&node).await;
    for method in ["SayHello", "Greeter/SayHello", "greeter.v1.Greeter/SayHello"] {
        let response = run(&records, invoke(&records, method, &["b", "a", "b"])).await.unwrap();
        assert!(response.metadata().get("collector-digest").is_some(), "the receipt of the last run");
        let said = texts(&greeter, &response.into_inner().outputs);
        assert!(
            said.len() == 3 && said[0].contains("Bob") && said[1].contains("Ada") && said[2] == said[0],
            "{said:?}"
        );
    }
    let with_input = pb::InvokeRequest { input: Some(hello(&greeter, "Eve")), ..invoke(&records, "SayHello", &[]) };
    let said = texts(&greeter, &run(&records, with_input).await.unwrap().into_inner().outputs);
    assert!(said.len() == 1 && said[0].contains("Eve"), "{said:?}");
}

#[tokio::test]
async fn what_cannot_run_is_refused_before_anything_has_run() {
    let node = TestNode::start().await;
    let (records, greeter) = greetings(&node).await;
    let refused = async |request| verdict(&run(&records, request).await.unwrap_err());
    assert_eq!(bad_fields(&run(&records, invoke(&records, "", &["a"])).await.unwrap_err()), ["method_name"]);
    let both = pb::InvokeRequest { input: Some(hello(&greeter, "Eve")), ..invoke(&records, "SayHello", &["a"]) };
    assert_eq!(bad_fields(&run(&records, both).await.unwrap_err()), ["input"]);
    let missing = (Code::NotFound, "RECORD_NOT_FOUND".to_owned());
    assert_eq!(refused(invoke(&records, "SayHello", &["a", "nobody"])).await, missing);
    assert_eq!(refused(invoke(&records, "Describe", &["a"])).await, (Code::Unimplemented, "NO_METHOD".into()));
    assert_eq!(refused(invoke(&records, "Greeter/Nope", &["a"])).await, (Code::Unimplemented, "NO_METHOD".into()));
    let other_input = run(&records, invoke(&records, "Greeter/Describe", &["a"])).await.unwrap_err();
    assert_eq!((other_input.code(), bad_fields(&other_input)), (Code::InvalidArgument, vec!["item_ids[0]".into()]));
    let ids: Vec<&str> = vec!["a"; 1_001];
    assert_eq!(bad_fields(&run(&records, invoke(&records, "SayHello", &ids)).await.unwrap_err()), ["item_ids"]);
    let keyed = with(invoke(&records, "SayHello", &["a"]), &[("idempotency-key", "k")]);
    assert_eq!(records.client.records.clone().invoke(keyed).await.unwrap_err().code(), Code::Unimplemented);
    let checked = with(invoke(&records, "SayHello", &["a"]), &[("collector-validate-only", "true")]);
    assert!(records.client.records.clone().invoke(checked).await.unwrap().into_inner().outputs.is_empty());
}

#[tokio::test]
async fn the_first_run_that_fails_ends_the_call_and_names_its_record() {
    let node = TestNode::start().await;
    let (records, _) = greetings(&node).await;
    let status = run(&records, invoke(&records, "SayHello", &["a", "bad", "b"])).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "the plugin's own code");
    assert!(status.message().contains("\"bad\""), "{}", status.message());
    assert!(status.metadata().get("collector-digest").is_some(), "with its receipt");
}

#[tokio::test]
async fn a_registered_service_without_code_has_no_implementation() {
    let node = TestNode::start().await;
    let records = Records::of(&node).await;
    let text = "syntax = \"proto3\"; package idle; message Ask { string a = 1; }
        service One { rpc Do(Ask) returns (Ask); } service Two { rpc Do(Ask) returns (Ask); rpc Only(Ask) returns (Ask);
        rpc Flow(Ask) returns (stream Ask); }";
    let file = compile(&[("idle.proto", text)]).pop().unwrap();
    for service in &file.service {
        let request = pb::RegisterServiceRequest {
            namespace: "acme".into(),
            service_descriptor: Some(raw(service)),
            file_descriptor: Some(raw(&file)),
        };
        records.client.registry.clone().register_service(request).await.unwrap();
    }
    records.make("idle.Ask", &[]).await;
    records.put("a", Any { type_url: "idle.Ask".into(), value: vec![] }).await;
    let only = run(&records, invoke(&records, "Only", &["a"])).await.unwrap_err();
    assert_eq!(verdict(&only), (Code::NotFound, "NO_IMPLEMENTATION".into()));
    let several = run(&records, invoke(&records, "Do", &["a"])).await.unwrap_err();
    assert_eq!(verdict(&several), (Code::FailedPrecondition, "AMBIGUOUS_METHOD".into()));
    assert!(several.message().contains("idle.One") && several.message().contains("idle.Two"), "{}", several.message());
}
