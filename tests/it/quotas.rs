//! What a namespace and a caller may use: below, at and above each quota.

use crate::support::*;
use collector::rpc::pb::admin::v1 as pb;
use collector::rpc::pb::admin::v1::namespaces_client::NamespacesClient;
use collector::tenancy::Existence;
use serde_json::json;
use std::collections::HashMap;
use std::time::Duration;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

async fn admin(node: &TestNode) -> NamespacesClient<Channel> {
    NamespacesClient::new(channel(&node.address()).await)
}

pub(crate) async fn set(node: &TestNode, namespace: &str, quota: &[(&str, u64)]) -> Result<pb::NamespaceInfo, Status> {
    let quota = quota.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    let request = pb::SetQuotaRequest { namespace: namespace.into(), quota, reset: Vec::new() };
    Ok(admin(node).await.set_quota(request).await?.into_inner().namespace.unwrap())
}

pub(crate) async fn usage(node: &TestNode, namespace: &str) -> pb::NamespaceUsage {
    let request = pb::UsageRequest { namespace: namespace.into() };
    admin(node).await.usage(request).await.unwrap().into_inner().usage.unwrap()
}

/// Asserts that a quota of this name stopped it, and says so whole. Returns how long to wait.
#[track_caller]
pub(crate) fn over(status: &Status, quota: &str, scope: &str) -> Duration {
    assert_eq!(verdict(status), (Code::ResourceExhausted, "QUOTA".into()), "{status:?}");
    let metadata: HashMap<String, String> = status.get_details_error_info().unwrap().metadata;
    assert_eq!((metadata["quota"].as_str(), metadata["scope"].as_str()), (quota, scope));
    let failure = status.get_details_quota_failure().unwrap();
    assert_eq!(failure.violations[0].subject, format!("{scope}:{quota}"));
    status.get_details_retry_info().and_then(|info| info.retry_delay).expect("it says when to come back")
}

async fn sleep(node: &TestNode, ms: u64) -> Result<Called, Status> {
    node.call(&plugin("misbehave"), "Sleep", amount(ms)).await
}

#[tokio::test]
async fn calls_in_a_second_up_to_the_quota_and_then_with_the_time_to_wait() {
    let node = TestNode::start().await;
    sleep(&node, 0).await.unwrap();
    set(&node, "acme", &[("calls_per_second", 2)]).await.unwrap();
    let (mut fine, mut refused) = (0, None);
    for _ in 0..20 {
        match sleep(&node, 0).await {
            Ok(_) => fine += 1,
            Err(status) => refused = Some(status),
        }
    }
    assert!(fine >= 2, "a second's worth at once");
    let wait = over(&refused.expect("20 calls take less than 9 seconds"), "calls_per_second", "namespace");
    assert!(!wait.is_zero() && wait <= Duration::from_millis(500), "{wait:?}");
    tokio::time::sleep(wait).await;
    assert!(sleep(&node, 0).await.is_ok(), "the wait is real");
    let used = usage(&node, "acme").await;
    assert!(used.refused > 0 && used.cpu.unwrap().nanos > 0, "{used:?}");
}

#[tokio::test]
async fn calls_at_once_up_to_the_quota_and_a_stream_counts_until_it_ends() {
    let node = TestNode::start().await;
    let streams = plugin("streams");
    deploy(&node, &streams).await;
    let stub = Stub::new(&node, &streams).await;
    set(&node, "acme", &[("concurrent_calls", 1)]).await.unwrap();
    assert!(stub.call("Echo", json!({ "text": "a" })).await.is_ok(), "one after another");
    // A stock client keeps its half open until its requests have ended.
    let (requests, more) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let request = stub.request(tokio_stream::wrappers::ReceiverStream::new(more));
    let open = stub.grpc().await.streaming(request, stub.path("Chat"), RawCodec).await.unwrap().into_inner();
    let refused = stub.call("Echo", json!({ "text": "a" })).await.unwrap_err();
    assert!(over(&refused, "concurrent_calls", "namespace") <= Duration::from_secs(1));
    drop((requests, open));
    until("the place is free", async || stub.call("Echo", json!({ "text": "a" })).await.is_ok()).await;
    assert_eq!(usage(&node, "acme").await.running_calls, 0);
}

#[tokio::test]
async fn what_code_asks_of_the_node_is_in_the_place_of_its_call() {
    let node = TestNode::start().await;
    let errands = errands(&node).await;
    let stub = Stub::new(&node, &errands).await;
    set(&node, "acme", &[("concurrent_calls", 1)]).await.unwrap();
    let note = json!({ "name": "notes", "id": "a", "text": "x" });
    until("the place is free", async || usage(&node, "acme").await.running_calls == 0).await;
    stub.call("Put", note.clone()).await.unwrap();
    until("the place is free", async || usage(&node, "acme").await.running_calls == 0).await;
    let calls = usage(&node, "acme").await.calls;
    stub.call("Get", note).await.unwrap();
    assert!(usage(&node, "acme").await.calls >= calls + 2, "it counts all the same");
}

#[tokio::test]
async fn guests_memory_together_up_to_the_quota() {
    let node = TestNode::start().await;
    let grow = async |mib| node.call(&plugin("misbehave"), "GrowMemory", amount(mib)).await;
    set(&node, "acme", &[("memory_mib", 16)]).await.unwrap();
    grow(8).await.unwrap();
    over(&grow(17).await.unwrap_err(), "memory_mib", "namespace");
    set(&node, "acme", &[("memory_mib", 64)]).await.unwrap();
    grow(17).await.unwrap();
    assert_eq!(usage(&node, "acme").await.memory_bytes, 0, "all is given back");
}

#[tokio::test]
async fn a_guest_that_spins_through_its_budget_ends_and_the_next_waits() {
    let node = TestNode::start().await;
    sleep(&node, 0).await.unwrap();
    set(&node, "acme", &[("cpu_ms_per_second", 100)]).await.unwrap();
    let spin = node.call(&plugin("misbehave"), "Spin", amount(0)).await.unwrap_err();
    over(&spin, "cpu_ms_per_second", "namespace");
    let next = sleep(&node, 0).await.unwrap_err();
    assert!(over(&next, "cpu_ms_per_second", "namespace") <= Duration::from_secs(3));
    let mut elsewhere = Call::new(&plugin("greeter"), "SayHello", json!({ "name": "you" })).into_request();
    elsewhere.namespace = "globex".into();
    assert!(raw_serve(&node, elsewhere).await.is_ok(), "others' time is their own");
}

#[tokio::test]
async fn records_and_bytes_up_to_the_quota_and_deletes_always_work() {
    let node = TestNode::start().await;
    let records = Records::of_json(&node, &[]).await;
    let place = records.place;
    let item = || json_item(&json!({ "text": "x" }));
    set(&node, place.namespace, &[("stored_records", 2)]).await.unwrap();
    records.put("1", item()).await;
    records.put("2", item()).await;
    let client = &records.client;
    over(&client.create(place, "3", item()).await.unwrap_err(), "stored_records", "namespace");
    assert!(client.update(place, "2", item(), &[]).await.is_ok(), "no more records than before");
    client.delete(place, "1").await.unwrap();
    records.put("3", item()).await;
    set(&node, place.namespace, &[("stored_records", 0), ("stored_mib", 1)]).await.unwrap();
    let large = || json_item(&json!({ "text": "x".repeat(200 << 10) }));
    records.put("4", large()).await;
    let mut refused = None;
    for id in 5..9 {
        refused = client.create(place, &id.to_string(), large()).await.err().or(refused);
    }
    over(&refused.expect("a MiB is full"), "stored_mib", "namespace");
    client.delete(place, "4").await.unwrap();
    let used = usage(&node, place.namespace).await;
    assert!(used.stored_records >= 2 && used.stored_bytes <= 1 << 20, "{used:?}");
}

#[tokio::test]
async fn compiling_up_to_the_quota() {
    let node = TestNode::start().await;
    let greeter = plugin("greeter");
    deploy(&node, &greeter).await; // nobody is stopped by what was not used yet
    let used = usage(&node, "acme").await.compile.unwrap();
    assert!(used.seconds > 0 || used.nanos > 0);
    set(&node, "acme", &[("compile_ms_per_minute", 1)]).await.unwrap();
    let misbehave = plugin("misbehave");
    deploy(&node, &misbehave).await; // it is charged at its end, and may go beyond once
    let refused = node.call(&plugin("streams"), "Echo", json!({ "text": "hi" })).await.unwrap_err();
    assert!(over(&refused, "compile_ms_per_minute", "namespace") > Duration::from_secs(1));
    assert!(node.call(&greeter, "SayHello", json!({ "name": "you" })).await.is_ok(), "what is compiled runs");
    set(&node, "acme", &[("compile_ms_per_minute", 0)]).await.unwrap();
    assert!(node.call(&plugin("streams"), "Echo", json!({ "text": "hi" })).await.is_ok());
}

#[tokio::test]
async fn what_goes_out_and_comes_in_up_to_the_quota() {
    let node = TestNode::start_with(|config| config.net.allow = vec!["127.0.0.1/32".into()]).await;
    let errands = errands(&node).await;
    let full = Outside::saying(format!("HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{}", "x".repeat(20_000))).await;
    grant(&node, &[&full.grant()]).await;
    let stub = Stub::new(&node, &errands).await;
    let fetch = async || stub.call("Fetch", json!({ "method": "GET", "url": full.url("/"), "headers": [] })).await;
    fetch().await.unwrap();
    assert!(usage(&node, "acme").await.egress_bytes > 20_000);
    set(&node, "acme", &[("egress_kib_per_second", 1)]).await.unwrap();
    fetch().await.unwrap(); // charged at its end
    // As the guest was told it, and passed it on; the node's own reason is nothing that a guest may give.
    let refused = fetch().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let failure = refused.get_details_quota_failure().unwrap();
    assert_eq!(failure.violations[0].subject, "namespace:egress_kib_per_second");
    assert!(refused.get_details_retry_info().unwrap().retry_delay > Some(Duration::from_secs(1)));
    assert_eq!(full.heard().len(), 2, "nothing went out");
    set(&node, "acme", &[("egress_kib_per_second", 0)]).await.unwrap();
    fetch().await.unwrap();
}

#[tokio::test]
async fn artifacts_up_to_the_quota() {
    let node = TestNode::start().await;
    set(&node, "acme", &[("artifacts", 1)]).await.unwrap();
    deploy(&node, &plugin("greeter")).await;
    let misbehave = plugin("misbehave");
    let refused = deploy_with(&mut plugins(&node).await, header(), &misbehave.bytes).await.unwrap_err();
    over(&refused, "artifacts", "namespace");
    set(&node, "acme", &[("artifacts", 2)]).await.unwrap();
    deploy(&node, &misbehave).await;
    assert_eq!(usage(&node, "acme").await.artifacts, 2);
}

#[tokio::test]
async fn u05_one_caller_over_many_namespaces_has_one_callers_quota() {
    let node = TestNode::start_with(|config| config.quotas.caller.calls_per_second = 50).await;
    let mut admin = admin(&node).await;
    let (mut fine, mut refused) = (0, None);
    let began = tokio::time::Instant::now();
    for n in 0..1_000 {
        match admin.get(pb::GetNamespaceRequest { namespace: format!("n{n}") }).await {
            Ok(_) => fine += 1,
            Err(status) => refused = Some(status),
        }
    }
    let most = 50.0 * (began.elapsed().as_secs_f64() + 1.0) + 1.0;
    assert!(f64::from(fine) <= most, "{fine} of at most {most}");
    over(&refused.unwrap(), "calls_per_second", "caller");
}

/// The same method in another namespace.
async fn greet_in(node: &TestNode, namespace: &str) -> Result<collector::rpc::pb::ServeResponse, Status> {
    let mut call = Call::new(&plugin("greeter"), "SayHello", json!({ "name": "you" })).into_request();
    call.namespace = namespace.into();
    raw_serve(node, call).await
}

#[tokio::test]
async fn who_spins_through_its_budget_in_one_namespace_waits_in_all() {
    let node = TestNode::start_with(|config| config.quotas.caller.cpu_ms_per_second = 100).await;
    greet_in(&node, "globex").await.unwrap();
    let spin = node.call(&plugin("misbehave"), "Spin", amount(0)).await.unwrap_err();
    over(&spin, "cpu_ms_per_second", "caller");
    let next = greet_in(&node, "globex").await.unwrap_err();
    assert!(over(&next, "cpu_ms_per_second", "caller") <= Duration::from_secs(3));
}

#[tokio::test]
async fn memory_of_all_that_runs_for_a_caller_up_to_its_quota() {
    let node = TestNode::start_with(|config| config.quotas.caller.memory_mib = 16).await;
    let grow = async |mib| node.call(&plugin("misbehave"), "GrowMemory", amount(mib)).await;
    grow(8).await.unwrap();
    over(&grow(17).await.unwrap_err(), "memory_mib", "caller");
    assert_eq!(usage(&node, "acme").await.memory_bytes, 0, "what the caller may not have, the namespace gets back");
    set(&node, "acme", &[("memory_mib", 4)]).await.unwrap();
    over(&grow(8).await.unwrap_err(), "memory_mib", "namespace");
    set(&node, "acme", &[("memory_mib", 64)]).await.unwrap();
    grow(8).await.unwrap();
}

#[tokio::test]
async fn compiling_for_a_caller_up_to_its_quota() {
    let node = TestNode::start_with(|config| config.quotas.caller.compile_ms_per_minute = 1).await;
    deploy(&node, &plugin("misbehave")).await; // it is charged at its end, and may go beyond once
    let refused = greet_in(&node, "globex").await.unwrap_err();
    assert!(over(&refused, "compile_ms_per_minute", "caller") > Duration::from_secs(1));
    assert!(sleep(&node, 0).await.is_ok(), "what is compiled runs");
}

#[tokio::test]
async fn what_code_exchanges_for_a_caller_up_to_its_quota() {
    let node = TestNode::start_with(|config| {
        config.net.allow = vec!["127.0.0.1/32".into()];
        config.quotas.caller.egress_kib_per_second = 1;
    })
    .await;
    let errands = errands(&node).await;
    let full = Outside::saying(format!("HTTP/1.1 200 OK\r\ncontent-length: 20000\r\n\r\n{}", "x".repeat(20_000))).await;
    grant(&node, &[&full.grant()]).await;
    let stub = Stub::new(&node, &errands).await;
    let fetch = async || stub.call("Fetch", json!({ "method": "GET", "url": full.url("/"), "headers": [] })).await;
    fetch().await.unwrap(); // charged at its end
    let refused = fetch().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let failure = refused.get_details_quota_failure().unwrap();
    assert_eq!(failure.violations[0].subject, "caller:egress_kib_per_second");
    assert_eq!(full.heard().len(), 1, "nothing went out");
}

#[tokio::test]
async fn the_same_words_through_connect() {
    let node = TestNode::start_with(|config| config.quotas.caller.calls_per_second = 10).await;
    let path = "/collector.admin.v1.Namespaces/Get";
    let mut refused = None;
    for _ in 0..60 {
        let (status, said) = http_post(&node.address(), path, &[], &json!({ "namespace": "acme" })).await;
        refused = (status != 200).then_some((status, said)).or(refused);
    }
    let (status, said) = refused.expect("60 requests take less than 5 seconds");
    assert_eq!((status, said["code"].as_str()), (429, Some("resource_exhausted")), "{said}");
    assert!(said["details"].to_string().contains("google.rpc.RetryInfo"), "{said}");
}

#[tokio::test]
async fn quotas_survive_a_restart_and_can_be_as_usual_again() {
    let mut node = TestNode::start().await;
    let made = set(&node, "acme", &[("calls_per_second", 7)]).await.unwrap();
    assert_eq!((made.quota["calls_per_second"], made.own.len()), (7, 1));
    node.restart().await;
    let get = pb::GetNamespaceRequest { namespace: "acme".into() };
    let found = admin(&node).await.get(get).await.unwrap().into_inner().namespace.unwrap();
    assert_eq!(found.quota["calls_per_second"], 7);
    let (namespace, reset) = ("acme".to_owned(), vec!["calls_per_second".to_owned()]);
    let request = pb::SetQuotaRequest { namespace, quota: HashMap::new(), reset };
    let found = admin(&node).await.set_quota(request).await.unwrap().into_inner().namespace.unwrap();
    assert_eq!(found.own.len(), 0);
    for bad in [("weight", 0), ("calls", 1)] {
        assert_eq!(set(&node, "acme", &[bad]).await.unwrap_err().code(), Code::InvalidArgument, "{bad:?}");
    }
    assert_eq!(set(&node, "system", &[("weight", 2)]).await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn where_namespaces_are_listed_others_do_not_exist() {
    let node = TestNode::start_with(|config| config.tenancy.namespaces = Existence::Listed).await;
    assert_verdict(sleep(&node, 0).await, Code::PermissionDenied, "DENIED");
    let create = pb::CreateNamespaceRequest { namespace: "acme".into(), quota: HashMap::new() };
    admin(&node).await.create(create.clone()).await.unwrap();
    sleep(&node, 0).await.unwrap();
    let again = admin(&node).await.create(create).await.unwrap_err();
    assert_eq!(verdict(&again), (Code::AlreadyExists, "NAMESPACE_EXISTS".into()));
    let listed = admin(&node).await.list(pb::ListNamespacesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.namespaces.iter().map(|one| one.name.as_str()).collect::<Vec<_>>(), ["acme"]);
    assert_eq!(set(&node, "globex", &[("weight", 2)]).await.unwrap_err().code(), Code::NotFound);
}
