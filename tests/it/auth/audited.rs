//! What the log says of keys, and of those who are turned away.

use super::{Guarded, create, new_key};
use crate::audit::{of, records};
use crate::quotas::over;
use crate::support::{Call, amount, http_post, plugin, until, verdict};
use collector::node::OfflineKeys;
use collector::rpc::pb;
use collector::rpc::pb::collective_dispatcher_client::CollectiveDispatcherClient;
use collector::tenancy::audit::{Record, verify};
use pb::admin::v1::{RevokeRequest, RevokeTokenRequest};
use serde_json::json;
use std::path::PathBuf;
use tonic::Code;

impl Guarded {
    fn data(&self) -> PathBuf {
        self._data.path().join("data")
    }

    /// Records of this kind about this action.
    fn recorded(&self, kind: &str, action: &str) -> Vec<Record> {
        let all = records(&self.data());
        of(&all, kind).into_iter().filter(|one| one.action.as_deref() == Some(action)).cloned().collect()
    }
}

fn about(record: &Record) -> (&str, &str) {
    (record.verb.as_deref().unwrap_or_default(), record.namespace.as_deref().unwrap_or_default())
}

const CREATE: &str = "/collector.admin.v1.Keys/Create";
const REVOKE: &str = "/collector.admin.v1.Keys/Revoke";
const REVOKE_TOKEN: &str = "/collector.admin.v1.Keys/RevokeToken";

#[tokio::test]
async fn i6_making_and_ending_a_key_has_a_record_and_so_has_the_attempt() {
    let node = Guarded::start().await;
    let (id, key) = node.key(&["acme:admin", "globex:reader"]).await;
    let began = node.recorded("begin", CREATE);
    assert_eq!(began.iter().map(about).collect::<Vec<_>>(), [("manage", "acme"), ("manage", "globex")]);
    assert!(began.iter().all(|one| one.request.is_some() && one.caller.as_deref().unwrap().starts_with("key:")));
    until("it has its ends", async || {
        let all = records(&node.data());
        // The first key was made without a node, and has an end too.
        of(&all, "end").iter().filter(|one| one.request.is_some()).count() == 2
    })
    .await;

    // An admin of one of two: nothing is begun.
    let refused = node.keys(&key).create(create(&["acme:reader", "globex:reader"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    let (all, _) = node.key(&["*:reader"]).await;
    assert_eq!(node.keys(&key).revoke(RevokeRequest { id: all }).await.unwrap_err().code(), Code::NotFound);
    let token = RevokeTokenRequest { id: "t".into(), expires_at: Some(std::time::SystemTime::now().into()) };
    assert_eq!(node.keys(&key).revoke_token(token).await.unwrap_err().code(), Code::PermissionDenied);
    let denied = |action| node.recorded("denied", action);
    assert_eq!(denied(CREATE).iter().map(about).collect::<Vec<_>>(), [("manage", "globex")]);
    assert_eq!(denied(REVOKE).iter().map(about).collect::<Vec<_>>(), [("operate", "system")]);
    assert_eq!(denied(REVOKE_TOKEN).iter().map(about).collect::<Vec<_>>(), [("operate", "system")]);
    assert_eq!(node.recorded("begin", CREATE).len(), 3, "of the key of all");
    assert_eq!(node.recorded("begin", REVOKE).len(), 0);

    node.keys(&node.admin).revoke(RevokeRequest { id }).await.unwrap();
    assert_eq!(node.recorded("begin", REVOKE).len(), 2);
}

#[tokio::test]
async fn a_key_that_is_changed_without_a_node_has_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let keys = OfflineKeys::open(&data, &Default::default()).await.unwrap();
    let (key, _) = keys.create(new_key(&["acme:admin", "acme:reader", "*:reader"])).await.unwrap();
    keys.revoke(&key.id).await.unwrap();
    drop(keys);
    let all = records(&data);
    let began: Vec<_> = of(&all, "begin").into_iter().map(|one| (one.action.as_deref().unwrap(), about(one))).collect();
    assert_eq!(began, [("auth key create", ("manage", "*,acme")), ("auth key revoke", ("manage", "*,acme"))]);
    assert!(of(&all, "end").iter().all(|one| one.outcome.as_deref() == Some("OK")) && of(&all, "end").len() == 2);
    assert_eq!(verify(&data.join("audit")).unwrap().problem, None);
}

#[tokio::test]
async fn u01_who_is_turned_away_has_a_record_in_every_protocol_and_a_flood_of_them_a_few() {
    const LIST: &str = "/collector.CollectorRegistry/ListServices";
    let node = Guarded::start().await;
    for secret in ["", "clk_wrong"] {
        assert_eq!(node.call(secret, LIST, Vec::new()).await.unwrap_err().code(), Code::Unauthenticated);
    }
    assert_eq!(http_post(&node.address(), LIST, &[], &json!({})).await.0, 401);
    let turned_away = node.recorded("denied", LIST);
    assert_eq!(turned_away.len(), 3);
    for one in &turned_away {
        assert_eq!((one.caller.as_deref(), about(one)), (Some("unknown"), ("call", "")));
        assert_eq!(one.source.unwrap().to_string(), "127.0.0.1");
    }
    for _ in 0..50 {
        node.call("clk_wrong", LIST, Vec::new()).await.unwrap_err();
    }
    let lines = node.recorded("denied", LIST).len();
    assert!((10..=20).contains(&lines), "{lines}");
    // Nobody is turned away from health, and who only looks at the port neither.
    let health = node.call("", "/grpc.health.v1.Health/Check", Vec::new()).await;
    assert!(health.is_ok() && node.recorded("denied", "/grpc.health.v1.Health/Check").is_empty());
}

#[tokio::test]
async fn u02_a_refusal_over_connect_has_a_record() {
    let node = Guarded::start().await;
    let (_, key) = node.key(&["acme:reader"]).await;
    let headers = [("authorization", format!("Bearer {key}")), ("collector-namespace", "acme".to_owned())];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (status, _) = http_post(&node.address(), "/greeter.v1.Greeter/SayHello", &headers, &json!({})).await;
    assert_eq!(status, 403);
    let denied = node.recorded("denied", "/greeter.v1.Greeter/SayHello");
    assert_eq!(denied.iter().map(about).collect::<Vec<_>>(), [("invoke", "acme")]);
    assert!(denied[0].request.is_some() && denied[0].caller.as_deref().unwrap().starts_with("key:"));
}

/// Strangers may ask for health and nothing else; that must not be what keeps others from asking.
#[tokio::test]
async fn strangers_who_watch_health_keep_only_their_own_network_from_it() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;
    let node = Guarded::start_with(|config, _| config.quotas.caller.concurrent_calls = 2).await;
    let mut here = HealthClient::new(node.channel.clone());
    let mut watches = Vec::new();
    for _ in 0..2 {
        watches.push(here.watch(HealthCheckRequest::default()).await.unwrap());
    }
    let refused = here.check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::ResourceExhausted, "QUOTA".into()));
    let elsewhere = tonic::transport::Endpoint::from_shared(node.address()).unwrap();
    let elsewhere = elsewhere.local_address(Some([127, 0, 0, 2].into())).connect().await.unwrap();
    HealthClient::new(elsewhere).check(HealthCheckRequest::default()).await.unwrap();
    drop(watches);
}

/// What runs for a caller is charged to it, and to nobody else in the same namespace.
#[tokio::test]
async fn one_callers_time_is_not_anothers() {
    let node = Guarded::start_with(|config, _| config.quotas.caller.cpu_ms_per_second = 100).await;
    let ((_, loud), (_, quiet)) = (node.key(&["*:deployer"]).await, node.key(&["*:deployer"]).await);
    let serve = async |secret: &str, method: &str| {
        let mut dispatcher = CollectiveDispatcherClient::new(node.signed(secret));
        dispatcher.serve(Call::new(&plugin("misbehave"), method, amount(0)).into_request()).await
    };
    serve(&loud, "Sleep").await.unwrap();
    over(&serve(&loud, "Spin").await.unwrap_err(), "cpu_ms_per_second", "caller");
    over(&serve(&loud, "Sleep").await.unwrap_err(), "cpu_ms_per_second", "caller");
    serve(&quiet, "Sleep").await.unwrap();
}
