use super::*;
use crate::domain::{Call, CodeSource, Deadline, LimitRequest};
use crate::tenancy::{Caller, Tenancy, Verb};
use prost::Message as _;
use prost_types::{
    DescriptorProto, FileDescriptorProto, FileDescriptorSet, MethodDescriptorProto, ServiceDescriptorProto,
};
use std::sync::Arc;
use std::time::Duration;

fn method(name: &str, server_streaming: bool) -> MethodDescriptorProto {
    MethodDescriptorProto {
        name: Some(name.into()),
        input_type: Some(".t.v1.Ask".into()),
        output_type: Some(".t.v1.Tell".into()),
        server_streaming: Some(server_streaming),
        ..Default::default()
    }
}

fn file(package: &str, services: &[&str]) -> FileDescriptorProto {
    FileDescriptorProto {
        name: Some(format!("{package}.proto")),
        package: Some(package.into()),
        syntax: Some("proto3".into()),
        dependency: if package == "t.v1" { vec![] } else { vec!["t.v1.proto".into()] },
        message_type: ["Ask", "Tell"]
            .map(|name| DescriptorProto { name: Some(name.into()), ..Default::default() })
            .to_vec(),
        service: services
            .iter()
            .map(|name| ServiceDescriptorProto {
                name: Some((*name).into()),
                method: vec![method("Get", false), method("Watch", true)],
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    }
}

fn schema() -> Schema {
    let file = vec![file("t.v1", &["One", "Two"]), file("t.v2", &["Two"])];
    Schema::decode(&FileDescriptorSet { file }.encode_to_vec()).unwrap()
}

fn check(service: &str, method: &str, type_url: &str) -> Result<ValidCall, CallError> {
    let call = Call {
        namespace: "acme".parse().unwrap(),
        service: service.parse().unwrap(),
        method: method.parse().unwrap(),
        input_type_url: (type_url != "absent").then(|| type_url.into()),
        input: Default::default(),
        code: CodeSource::Deployed,
        limits: LimitRequest::default(),
        metadata: vec![],
        deadline: Deadline::after(Duration::from_secs(1)),
    };
    let permit = Tenancy::default().authorize(&Caller::anonymous(), &call.namespace, Verb::Invoke).unwrap();
    let nothing = Snapshot::new(call.namespace.clone(), Arc::default());
    validate(&permit, call, Some(&schema()), &nothing)
}

#[tokio::test]
async fn a_call_that_fits_learns_its_types() {
    let valid = check("One", "Get", "type.example/t.v1.Ask").unwrap();
    let output = valid.method().map(|method| method.method().output.name());
    assert_eq!((valid.service(), output), ("t.v1.One", Some("t.v1.Tell")));
    assert!(check("t.v2.Two", "Get", "/t.v1.Ask").is_ok());
    assert!(check("One", "Get", "absent").is_ok(), "no input stands for the empty message");
    assert!(check("One", "Get", "").is_err(), "an input without a type does not");
}

#[tokio::test]
async fn a_call_that_does_not_fit_learns_what_would() {
    let known = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
    let no_service = CallError::NoService { service: "Three".into(), known: "t.v1.One, t.v1.Two, t.v2.Two".into() };
    assert_eq!(check("Three", "Get", "").err(), Some(no_service));
    let ambiguous = CallError::Ambiguous { service: "Two".into(), candidates: known(&["t.v1.Two", "t.v2.Two"]) };
    assert_eq!(check("Two", "Get", "").err(), Some(ambiguous));
    let no_method =
        CallError::NoMethod { service: "t.v1.One".into(), method: "Put".into(), known: known(&["Get", "Watch"]) };
    assert_eq!(check("One", "Put", "").err(), Some(no_method));
    assert_eq!(check("One", "Watch", "").err(), Some(CallError::Streaming { method: "Watch".into() }));
    let wrong = CallError::WrongInputType { wanted: "t.v1.Ask".into(), found: "x/t.v1.Tell".into() };
    assert_eq!(check("One", "Get", "x/t.v1.Tell").err(), Some(wrong));
}

/// A schema is kept for every artifact that is known: a copy of all well-known types in each of them was 200 KiB.
#[test]
fn a_schema_holds_the_well_known_types_that_it_imports_and_no_others() {
    let importing = |import: Option<&str>| {
        let mut file = file("t.v1", &["One"]);
        file.dependency = import.into_iter().map(str::to_owned).collect();
        Schema::decode(&FileDescriptorSet { file: vec![file] }.encode_to_vec()).unwrap()
    };
    let [none, time, method] =
        [None, Some("google/protobuf/timestamp.proto"), Some("google/protobuf/api.proto")].map(importing);
    assert!(none.weight() <= none.encoded().len() + 16, "{} for {}", none.weight(), none.encoded().len());
    assert!(none.weight() < time.weight() && time.weight() < none.weight() + 1_024, "{}", time.weight());
    assert!(method.weight() > time.weight() + 1_024, "what an import imports is there too: {}", method.weight());
    for schema in [none, time, method] {
        let pool = schema.pool().unwrap();
        assert!(pool.get_message_by_name("t.v1.Ask").is_some());
        assert!(pool.get_message_by_name("google.protobuf.Timestamp").is_some(), "for `Any` in JSON");
    }
}

#[test]
fn hostile_descriptors_are_refused() {
    assert!(matches!(Schema::decode(b"\xff\xff\xff"), Err(SchemaError::Invalid(_))));
    let files = |n: usize| FileDescriptorSet {
        file: (0..n).map(|i| FileDescriptorProto { name: Some(format!("{i}.proto")), ..Default::default() }).collect(),
    };
    assert!(Schema::decode(&files(Schema::MAX_FILES).encode_to_vec()).is_ok());
    let refused = Schema::decode(&files(Schema::MAX_FILES + 1).encode_to_vec());
    assert!(matches!(refused, Err(SchemaError::TooLarge { what: "files", .. })), "{refused:?}");
    let refused = Schema::decode(&vec![0; Schema::MAX_BYTES + 1]);
    assert!(matches!(refused, Err(SchemaError::TooLarge { what: "bytes", .. })), "{refused:?}");
    let dangling = FileDescriptorSet { file: vec![file("t.v2", &["Two"])] };
    assert!(matches!(Schema::decode(&dangling.encode_to_vec()), Err(SchemaError::Invalid(_))));
}
