//! Deployed, it is native gRPC like everything else.

use super::answers::{Text, register};
use super::{How, on_every_executor, subject};
use crate::support::*;
use collector::rpc::pb::plugin::v1::DeployHeader;
use prost::Message as _;
use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic::Code;

on_every_executor! {
    the_services_that_it_describes_are_grpc,
    the_services_that_it_is_deployed_for_are_grpc,
}

async fn the_services_that_it_describes_are_grpc(how: How) {
    let mut subject = subject!(how);
    let mut client = plugins(&subject.node).await;
    let deployed = deploy_with(&mut client, header(), &how.bytes("greeter")).await.unwrap();
    assert_eq!(deployed.version, 1);
    let greeter = plugin("greeter");
    let stub = Stub::new(&subject.node, &greeter).await;
    let greeted = stub.call("SayHello", json!({ "name": "Ada", "locale": "fr" })).await.unwrap();
    assert_eq!(greeted.replies, [json!({ "text": "Bonjour, Ada!" })]);
    assert_eq!(greeted.receipt("collector-executor"), how.executor());
    assert_eq!(greeted.receipt("collector-version"), "1");
    let refused = stub.call("Refuse", json!({ "code": 7, "message": "not you" })).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (Code::PermissionDenied, "not you"));

    // It is there again after a restart, by its kind and not by what its bytes look like.
    subject.node.restart().await;
    let stub = Stub::new(&subject.node, &greeter).await;
    let again = stub.call("SayHello", json!({ "name": "Ada" })).await.unwrap();
    assert_eq!(again.replies, [json!({ "text": "Hello, Ada!" })]);
    assert_eq!(again.receipt("collector-executor"), how.executor());
}

async fn the_services_that_it_is_deployed_for_are_grpc(how: How) {
    let subject = subject!(how);
    register(&subject.node).await;
    let mut client = plugins(&subject.node).await;
    let with = DeployHeader { services: vec!["contract.v1.Contract".into()], ..header() };
    deploy_with(&mut client, with, &how.bytes("contract")).await.unwrap();
    let grpc = async || {
        let mut grpc = tonic::client::Grpc::new(channel(&subject.node.address()).await);
        grpc.ready().await.unwrap();
        grpc
    };
    let request = |text: &str| {
        let mut request = tonic::Request::new(Text { text: text.into(), long_number: 0 }.encode_to_vec());
        request.metadata_mut().insert("collector-namespace", "acme".parse().unwrap());
        request
    };
    let at = http::uri::PathAndQuery::from_static;
    let path = at("/contract.v1.Contract/Json");
    let reply = grpc().await.unary(request("hi"), path, RawCodec).await.unwrap().into_inner();
    assert_eq!(Text::decode(&*reply).unwrap().text, r#"{"text":"hi"}"#);

    let path = at("/contract.v1.Contract/Echo");
    let status = match grpc().await.server_streaming(request("hi"), path, RawCodec).await {
        Err(status) => status,
        Ok(stream) => stream.into_inner().next().await.unwrap().unwrap_err(),
    };
    assert_eq!(verdict(&status), (Code::Unimplemented, "NO_STREAMING".into()), "a command answers once");
}
