//! Two tenants with the same names: neither ever sees the other's types, whichever way it looks.

use crate::support::*;
use collector::rpc::pb;
use pb::collector_registry_client::CollectorRegistryClient;
use pb::plugin::v1::DeployHeader;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_stream::StreamExt as _;
use tonic::{Code, Request, Status};
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

/// The names that both have.
const FILE: &str = "same/v1/same.proto";
const SERVICE: &str = "same.v1.Same";

/// What one tenant makes of them: the fields of the one message, by number, with their types.
#[derive(Debug, Clone)]
struct Tenant {
    names: Vec<String>,
    kinds: Vec<&'static str>,
    method: String,
}

impl Tenant {
    fn file(&self) -> FileDescriptorProto {
        let fields = self.fields().map(|(name, kind, number)| format!("{kind} {name} = {number};"));
        let fields: String = fields.collect();
        let method = &self.method;
        let text = format!(
            "syntax = \"proto3\"; package same.v1; message Thing {{ {fields} }}
             service Same {{ rpc {method}(Thing) returns (Thing); }}"
        );
        compile(&[(FILE, &text)]).pop().unwrap()
    }

    fn fields(&self) -> impl Iterator<Item = (&str, &'static str, usize)> {
        self.names.iter().zip(&self.kinds).zip(1..).map(|((name, kind), number)| (name.as_str(), *kind, number))
    }

    fn kind(&self) -> MessageDescriptor {
        let set = FileDescriptorSet { file: vec![self.file()] };
        DescriptorPool::from_file_descriptor_set(set).unwrap().get_message_by_name("same.v1.Thing").unwrap()
    }

    /// The same message as bytes.
    fn bytes(&self) -> Vec<u8> {
        DynamicMessage::deserialize(self.kind(), self.json()).unwrap().encode_to_vec()
    }

    /// A message with every field set.
    fn json(&self) -> Value {
        let value = |kind: &str| match kind {
            "string" => json!("text"),
            "bool" => json!(true),
            "int32" => json!(7),
            _ => json!("7"),
        };
        Value::Object(self.fields().map(|(name, kind, _)| (camel(name), value(kind))).collect::<Map<_, _>>())
    }
}

/// The JSON name of a field. Source: the protobuf language guide.
fn camel(name: &str) -> String {
    let mut parts = name.split('_');
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |name, part| name + &part[..1].to_uppercase() + &part[1..])
}

/// Two tenants whose field and method names differ in every letter.
fn tenants() -> impl Strategy<Value = [Tenant; 2]> {
    let text = |regex: &str| prop::string::string_regex(regex).unwrap();
    let tenant = |mark: &'static str| {
        let names = btree_set(text(&format!("{mark}{{3,8}}_{mark}{{3}}")), 1..5);
        (
            names,
            vec(prop::sample::select(vec!["string", "bool", "int32", "int64"]), 5),
            text(&format!("{}{mark}{{3,6}}", mark.to_uppercase())),
        )
            .prop_map(|(names, kinds, method): (BTreeSet<String>, _, _)| Tenant {
                names: names.into_iter().collect(),
                kinds,
                method,
            })
    };
    (tenant("q"), tenant("z")).prop_map(|(one, other)| [one, other])
}

struct Case<'a> {
    node: &'a TestNode,
    namespace: String,
    own: &'a Tenant,
    foreign: &'a Tenant,
}

impl Case<'_> {
    /// Registers the types and deploys an echo for them.
    async fn set_up(&self) {
        let file = self.own.file();
        let mut registry = CollectorRegistryClient::new(channel(&self.node.address()).await);
        let request = pb::RegisterServiceRequest {
            namespace: self.namespace.clone(),
            service_descriptor: Some(raw(&file.service[0])),
            file_descriptor: Some(raw(&file)),
        };
        registry.register_service(request).await.unwrap();
        let header =
            DeployHeader { namespace: self.namespace.clone(), services: vec![SERVICE.into()], ..Default::default() };
        deploy_with(&mut plugins(self.node).await, header, &echo_handler()).await.unwrap();
    }

    /// Looks in every way there is; everything seen is the tenant's own.
    async fn look(&self) {
        let file = self.own.file();
        let mut seen = self.reflected().await;
        assert_eq!(seen, vec![file.encode_to_vec()], "reflection");
        let set = http_get(&self.node.address(), &format!("/descriptors/{}.binpb", self.namespace)).await;
        let files = FileDescriptorSet::decode(set.as_slice()).unwrap().file;
        assert_eq!(files, std::slice::from_ref(&file), "descriptors");

        let own = self.own.bytes();
        assert_eq!(self.call(&self.own.method, own.clone()).await.unwrap(), own, "a native call by the own types");
        let foreign = self.foreign.bytes();
        let fits = DynamicMessage::decode(self.own.kind(), foreign.as_slice()).is_ok();
        let called = self.call(&self.own.method, foreign).await;
        assert_eq!(called.is_ok(), fits, "checked by the own types: {called:?}");
        let unknown = self.call(&self.foreign.method, own).await.unwrap_err();
        assert_eq!(verdict(&unknown), (Code::Unimplemented, "NO_METHOD".into()));
        seen.push(unknown.message().replace(&self.foreign.method, "").into_bytes());
        seen.extend(called.err().map(|status| format!("{status:?}").into_bytes()));

        let own = self.post(&self.own.method, &self.own.json()).await;
        assert_eq!(own, (200, self.own.json()), "JSON in, JSON out, by the own types");
        let (code, error) = self.post(&self.own.method, &self.foreign.json()).await;
        assert_eq!(code, 400, "{error}");
        seen.push(without_echo(&error, self.foreign));
        let (code, error) = self.post(&self.foreign.method, &json!({})).await;
        assert_eq!(code, 501, "{error}");
        seen.push(error.to_string().replace(&self.foreign.method, "").into_bytes());
        seen.push(self.list().await);
        for text in seen {
            let text = String::from_utf8_lossy(&text).into_owned();
            for foreign in self.foreign.names.iter().chain([&self.foreign.method]) {
                assert!(!text.contains(foreign), "{foreign} of the other tenant in {text:?}");
            }
        }
    }

    async fn reflected(&self) -> Vec<Vec<u8>> {
        let mut client = ServerReflectionClient::new(channel(&self.node.address()).await);
        let asked = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(SERVICE.into())),
        };
        let mut request = Request::new(tokio_stream::iter([asked]));
        request.metadata_mut().insert("collector-namespace", self.namespace.parse().unwrap());
        let mut replies = client.server_reflection_info(request).await.unwrap().into_inner();
        match replies.next().await.unwrap().unwrap().message_response {
            Some(MessageResponse::FileDescriptorResponse(files)) => files.file_descriptor_proto,
            other => panic!("{other:?}"),
        }
    }

    async fn list(&self) -> Vec<u8> {
        let mut registry = CollectorRegistryClient::new(channel(&self.node.address()).await);
        let request = pb::ListServicesRequest { namespace: self.namespace.clone() };
        let services = registry.list_services(request).await.unwrap().into_inner().services;
        services.iter().flat_map(|service| format!("{service:?} {:?}", service.method_names).into_bytes()).collect()
    }

    /// A native gRPC call.
    async fn call(&self, method: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        let mut grpc = tonic::client::Grpc::new(channel(&self.node.address()).await);
        grpc.ready().await.unwrap();
        let mut request = Request::new(message);
        request.metadata_mut().insert("collector-namespace", self.namespace.parse().unwrap());
        let path = format!("/{SERVICE}/{method}").parse().unwrap();
        grpc.unary(request, path, RawCodec).await.map(tonic::Response::into_inner)
    }

    /// A Connect call: HTTP status and JSON.
    async fn post(&self, method: &str, body: &Value) -> (u16, Value) {
        let headers = [("collector-namespace", self.namespace.as_str())];
        http_post(&self.node.address(), &format!("/{SERVICE}/{method}"), &headers, body).await
    }
}

/// An error may repeat what its own caller just said, and nothing else.
fn without_echo(error: &Value, said: &Tenant) -> Vec<u8> {
    let mut text = error.to_string();
    for name in &said.names {
        text = text.replace(&camel(name), "").replace(name, "");
    }
    text.into_bytes()
}

#[test]
fn d04_neither_of_two_tenants_ever_sees_the_others_types() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let node = runtime.block_on(TestNode::start());
    let cases = AtomicUsize::new(0);
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let result = runner.run(&tenants(), |[one, other]| {
        let n = cases.fetch_add(1, Ordering::Relaxed);
        let case = |mark: &str, own, foreign| Case { node: &node, namespace: format!("{mark}{n}"), own, foreign };
        let (a, b) = (case("a", &one, &other), case("b", &other, &one));
        let look = async {
            a.set_up().await;
            b.set_up().await;
            a.look().await;
            b.look().await;
        };
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| runtime.block_on(look)));
        looked.map_err(|_| TestCaseError::fail("one saw what is the other's"))
    });
    if let Err(TestError::Fail(why, tenants)) = result {
        panic!("{why}: {tenants:#?}");
    }
    assert!(cases.load(Ordering::Relaxed) >= 24);
    let _stopped = runtime.enter();
    drop(node);
}
