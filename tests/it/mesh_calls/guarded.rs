//! Calls between two nodes that ask everybody who they are: peers show certificates, callers keys, over TLS.

use super::*;
use crate::auth::{create, new_key};
use collector::mesh::Phase;
use collector::node::{Node, OfflineKeys};
use collector::rpc::pb::admin::v1 as admin;
use collector::rpc::{ClientCertificates, Dialer, Trust};
use collector::tenancy::Mode;
use pb::plugin::v1::plugins_client::PluginsClient;
use tempfile::TempDir;
use tonic::transport::Endpoint;

fn uri(id: &str) -> String {
    format!("spiffe://mesh.test/collector/{id}")
}

/// A node with a certificate, a key of everything, and a channel to it.
struct Member {
    node: Node,
    channel: Channel,
    admin: String,
    data: TempDir,
}

impl Member {
    /// * `other`: id and address of its only peer, and what that may do here.
    async fn start(authority: &Authority, id: &str, (other, at): (&str, &str), allows: &[&str]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let mut config = test_config();
        config.data = data.path().join("data");
        config.mesh.id = id.into();
        config.peers = vec![Entry { identity: uri(other), ..peer(at, allows) }];
        config.auth.mode = Mode::Required;
        let (certificate, key) = authority.identify(id, &[&uri(id)], true);
        let tls = &mut config.server.tls;
        (tls.certificate, tls.key, tls.client_ca) = (certificate, key, authority.ca());
        tls.client_certificates = ClientCertificates::Optional;
        let keys = OfflineKeys::open(&config.data, &config.auth).await.unwrap();
        let (_, secret) = keys.create(new_key(&["*:admin"])).await.unwrap();
        drop(keys);
        let node = Node::start(config).await.unwrap();
        let dialer = Dialer::trusting(Trust { ca: Some(&authority.ca()), identity: None }).unwrap();
        let endpoint = Endpoint::from_shared(format!("http://localhost:{}", node.address().port())).unwrap();
        let channel = endpoint.connect_with_connector(dialer).await.unwrap();
        Self { node, channel, admin: secret.expose().to_owned(), data }
    }

    /// Makes a key with these bindings: its id and its text.
    async fn key(&self, bindings: &[&str]) -> (String, String) {
        let made = self.keys().create(signed(Request::new(create(bindings)), &self.admin)).await.unwrap().into_inner();
        (made.key.unwrap().id, made.secret)
    }

    fn keys(&self) -> admin::keys_client::KeysClient<Channel> {
        admin::keys_client::KeysClient::new(self.channel.clone())
    }

    async fn deploy(&self, namespace: &str, plugin: &collector::cli::PluginFile) {
        let header = pb::plugin::v1::DeployHeader { namespace: namespace.into(), ..Default::default() };
        let request = Request::new(tokio_stream::iter(parts(header, &plugin.bytes)));
        PluginsClient::new(self.channel.clone()).deploy(signed(request, &self.admin)).await.unwrap();
    }

    async fn dispatch(&self, key: &str, request: pb::DispatchRequest) -> Result<pb::DispatchResponse, Status> {
        let mut client = CollectiveDispatcherClient::new(self.channel.clone());
        client.dispatch(signed(Request::new(request), key)).await.map(Response::into_inner)
    }

    /// Everything that is written down.
    fn audit(&self) -> String {
        let log = std::fs::read_dir(self.data.path().join("data").join("audit")).unwrap();
        log.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap_or_default()).collect()
    }
}

fn signed<T>(mut request: Request<T>, key: &str) -> Request<T> {
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    request
}

/// A client of the plugin `streams` with a key.
struct Caller<'a> {
    stub: Stub<'a>,
    key: String,
}

impl<'a> Caller<'a> {
    fn new(node: &Member, plugin: &'a collector::cli::PluginFile, namespace: &str, key: &str) -> Self {
        let stub = Stub { channel: node.channel.clone(), plugin, namespace: namespace.into(), timeout: None };
        Self { stub, key: key.into() }
    }

    /// A call of any kind: its replies.
    async fn call(&self, method: &str, messages: Vec<Value>) -> Result<Vec<Value>, Status> {
        let encoded: Vec<Vec<u8>> = messages.iter().map(|message| self.stub.encode(method, message)).collect();
        let request = signed(self.stub.request(tokio_stream::iter(encoded)), &self.key);
        let answer = self.stub.grpc().await.streaming(request, self.stub.path(method), RawCodec).await?;
        let mut replies = answer.into_inner();
        let mut all = Vec::new();
        while let Some(reply) = replies.next().await {
            all.push(self.stub.decode(method, &reply?));
        }
        Ok(all)
    }
}

fn echo(namespace: &str, target: &str) -> pb::DispatchRequest {
    let line = any("streams.v1.Line", b"\x0a\x02hi".to_vec());
    let request = dispatch("streams.v1.Streams", "Echo", line);
    pb::DispatchRequest { namespace: namespace.into(), target_collector_id: target.into(), ..request }
}

/// Two nodes; `b` has the plugin `streams` in `acme`, `shelf` and `hidden`, of which callers of `a` may call it in the
/// first, look at the second, and nothing in the third.
async fn two(plugin: &collector::cli::PluginFile) -> (Member, Member, Authority) {
    let authority = Authority::new();
    // b's own link to a comes to nothing: nobody is at that address.
    let b = Member::start(&authority, "b", ("a", &reserve()), &["acme:invoker", "shelf:reader"]).await;
    let at = b.node.address().to_string();
    let a = Member::start(&authority, "a", ("b", &at), &["*:invoker"]).await;
    for namespace in ["acme", "shelf", "hidden"] {
        b.deploy(namespace, plugin).await;
    }
    let linked = || a.node.links().iter().any(|link| link.phase == Phase::Linked && link.offers == 2);
    until("the link and what is offered in one namespace", async || linked()).await;
    (a, b, authority)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_one_node_calls_code_of_another_over_mutual_tls() {
    let plugin = plugin("streams");
    let (a, b, _authority) = two(&plugin).await;
    let (_, key) = a.key(&["acme:invoker"]).await;
    let caller = Caller::new(&a, &plugin, "acme", &key);
    assert_eq!(caller.call("Echo", vec![json!({ "text": "hi" })]).await.unwrap(), [json!({ "text": "hi" })]);
    assert_eq!(caller.call("Count", vec![json!({ "to": "5" })]).await.unwrap().len(), 5);
    let numbers = (1..=10).map(|n| json!({ "value": n.to_string() })).collect();
    assert_eq!(caller.call("Sum", numbers).await.unwrap()[0]["sum"], "55");
    let lines = ["one", "two"].map(|text| json!({ "text": text }));
    let said = caller.call("Chat", lines.to_vec()).await.unwrap();
    assert_eq!(said, [json!({ "text": "ONE" }), json!({ "text": "TWO" })]);
    for target in ["", "b"] {
        let answer = a.dispatch(&key, echo("acme", target)).await.unwrap();
        assert_eq!((&*answer.handled_by_collector_id, answer.output.unwrap().value), ("b", b"\x0a\x02hi".to_vec()));
    }
    let refused = b.dispatch(&key, echo("acme", "")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated, "it is a key of a, not of b");
    until("nothing is left", async || b.node.wasm_stats().await.running == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn m02_what_either_node_forbids_is_refused_alike_whether_it_exists_or_not() {
    let plugin = plugin("streams");
    let (a, b, _authority) = two(&plugin).await;
    let denied = (Code::PermissionDenied, "DENIED".to_owned());
    // By a, for its own reasons: b hears nothing of it.
    let (_, reader) = a.key(&["acme:reader", "other:invoker"]).await;
    for method in ["Echo", "Count", "Chat"] {
        let refused = Caller::new(&a, &plugin, "acme", &reader).call(method, vec![json!({})]).await.unwrap_err();
        assert_eq!(verdict(&refused), denied, "{method}");
        let nobody = Caller::new(&a, &plugin, "acme", "nonsense").call(method, vec![json!({})]).await.unwrap_err();
        assert_eq!(nobody.code(), Code::Unauthenticated, "{method}");
    }
    assert_eq!(verdict(&a.dispatch(&reader, echo("acme", "b")).await.unwrap_err()), denied);
    assert!(!b.audit().contains("forwarded:"), "{}", b.audit());

    // By b: somebody who may everything at a.
    let (id, bold) = a.key(&["*:invoker"]).await;
    assert!(a.dispatch(&bold, echo("acme", "b")).await.is_ok());
    let mut told = Vec::new();
    for namespace in ["shelf", "hidden", "nowhere"] {
        let refused = a.dispatch(&bold, echo(namespace, "b")).await.unwrap_err();
        told.push((verdict(&refused), refused.message().to_owned()));
        // Nobody offers it, so that nothing is asked.
        let nobody = a.dispatch(&bold, echo(namespace, "")).await.unwrap_err();
        assert_eq!(verdict(&nobody), (Code::NotFound, "NO_COLLECTOR".into()), "{namespace}");
        for method in ["Echo", "Count", "Chat"] {
            let nobody = Caller::new(&a, &plugin, namespace, &bold).call(method, vec![json!({})]).await.unwrap_err();
            assert_eq!(verdict(&nobody), (Code::Unimplemented, "NO_SERVICE".into()), "{namespace} {method}");
        }
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
    assert_eq!(told[0].0, denied);
    let (log, origin) = (b.audit(), format!("forwarded:a:a/key:{id}"));
    assert!(log.contains(&origin), "whose call it was is written down: {log}");
    assert!(!log.contains(&bold), "and no key");
    assert_eq!(b.node.wasm_stats().await.running, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn u09_a_key_that_is_revoked_where_it_called_ends_what_another_node_runs_for_it() {
    let plugin = plugin("streams");
    let (a, b, _authority) = two(&plugin).await;
    let (id, key) = a.key(&["acme:invoker"]).await;
    let caller = Caller::new(&a, &plugin, "acme", &key);
    let flood = caller.stub.encode("Flood", &json!({ "pauseMs": 10 }));
    let request = signed(caller.stub.request(tokio_stream::iter([flood])), &key);
    let mut grpc = caller.stub.grpc().await;
    let mut replies = grpc.streaming(request, caller.stub.path("Flood"), RawCodec).await.unwrap().into_inner();
    for _ in 0..3 {
        replies.next().await.unwrap().unwrap();
    }
    assert_eq!(b.node.wasm_stats().await.running, 1);
    let revoke = admin::RevokeRequest { id };
    a.keys().revoke(signed(Request::new(revoke), &a.admin)).await.unwrap();
    let ended = loop {
        match replies.next().await.unwrap() {
            Ok(_) => {}
            Err(why) => break why,
        }
    };
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended:?}");
    until("the far guest is gone", async || b.node.wasm_stats().await.running == 0).await;
    let refused = caller.call("Echo", vec![json!({})]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
}
