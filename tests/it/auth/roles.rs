//! Every RPC of the node with every role: what the table says is what happens.

use super::Guarded;
use crate::support::verdict;
use collector::rpc::pb;
use collector::rpc::{NATIVE, Needs, Place, TABLE};
use collector::tenancy::{Role, Verb};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage};
use serde_json::{Value, json};
use tonic::{Code, Status};

/// A message that names the namespace, and is whole enough for the node to decide.
fn message(path: &str, victim: &str, ns: &str) -> Value {
    let method = path.rsplit('/').next().unwrap();
    let item = json!({ "@type": "type.googleapis.com/collector.NamespacedName" });
    let records = json!({ "namespace": ns, "collectionName": "things", "id": "a" });
    let with = |key: &str, value: Value| {
        let mut all = records.clone();
        all[key] = value;
        all
    };
    let without_id = json!({ "namespace": ns, "collectionName": "things" });
    match path.rsplit_once('/').unwrap().0 {
        "/collector.CollectiveDispatcher" if ["Serve", "Dispatch"].contains(&method) => {
            json!({ "namespace": ns, "service": { "serviceName": "a.v1.B" }, "methodName": "Get" })
        }
        "/collector.CollectiveDispatcher" if method == "Connect" => json!({ "address": "1.1.1.1:1" }),
        "/collector.mesh.v1.Mesh" if method == "Link" => {
            let (id, key) = ("A".repeat(22) + "==", "A".repeat(43) + "=");
            json!({ "collectorId": "b", "linkId": id, "linkKey": key })
        }
        "/collector.CollectionService" => match method {
            "Create" | "Update" => with("item", item),
            "Get" | "Delete" => records,
            "Invoke" => json!({ "namespace": ns, "collectionName": "things", "methodName": "a.v1.B/Get" }),
            "Meta" => json!({}),
            _ => without_id,
        },
        "/collector.CollectionRepo" => match method {
            "CreateCollection" | "Route" => json!({ "collection": { "namespace": ns, "name": "things" } }),
            "Discover" | "SearchCollections" => json!({ "namespace": ns }),
            _ => json!({}),
        },
        "/collector.record.v1.Collections" => match method {
            "Explain" => json!({ "list": without_id }),
            _ => without_id,
        },
        "/collector.plugin.v1.Plugins" => match method {
            "Deploy" => json!({ "header": { "namespace": ns } }),
            "List" => json!({ "namespace": ns }),
            _ => json!({ "namespace": ns, "name": "x" }),
        },
        "/collector.admin.v1.Secrets" => match method {
            "SetSecret" => json!({ "namespace": ns, "name": "s", "value": "MTIzNDU2Nzg=" }),
            "DeleteSecret" => json!({ "namespace": ns, "name": "s" }),
            _ => json!({ "namespace": ns }),
        },
        "/collector.admin.v1.Namespaces" if method == "List" => json!({}),
        "/collector.admin.v1.Namespaces" => json!({ "namespace": ns }),
        "/collector.admin.v1.Keys" => match method {
            "Create" => json!({ "bindings": [format!("{ns}:reader")] }),
            "Revoke" => json!({ "id": victim }),
            "RevokeToken" => json!({ "id": "t", "expiresAt": "2030-01-01T00:00:00Z" }),
            _ => json!({ "namespace": ns }),
        },
        "/collector.CollectorRegistry" => json!({ "namespace": ns }),
        _ => json!({}),
    }
}

struct Messages(DescriptorPool);

impl Messages {
    fn new() -> Self {
        Self(DescriptorPool::decode(pb::FILE_DESCRIPTOR_SET).unwrap())
    }

    fn encode(&self, path: &str, message: &Value) -> Vec<u8> {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
        // Health and reflection: the empty message.
        let Some(service) = self.0.get_service_by_name(service) else { return Vec::new() };
        let input = service.methods().find(|known| known.name() == method).unwrap().input();
        let built = DynamicMessage::deserialize(input, message);
        built.unwrap_or_else(|why| panic!("{path}: {why}")).encode_to_vec()
    }
}

/// Whether somebody with this role there may. `everywhere`: the role is one of `*`.
fn may(needs: Needs, role: Option<Role>, everywhere: bool) -> bool {
    let has = |verb: Verb| role.is_some_and(|role| role.may(verb) && (verb != Verb::Operate || everywhere));
    match needs {
        Needs::Nothing | Needs::Known | Needs::Later(..) => true,
        // A key makes nobody a collector.
        Needs::Peer => false,
        Needs::Verb(verb, _) => has(verb),
        Needs::Both(one, other, _) => has(one) && has(other),
    }
}

#[tokio::test]
async fn u02_every_rpc_with_every_role() {
    let node = Guarded::start().await;
    let messages = Messages::new();
    let (victim, _) = node.key(&["acme:reader"]).await;
    let mut callers = vec![("stranger", None, false, node.key(&["globex:admin"]).await.1)];
    for role in Role::ALL {
        callers.push((role.name(), Some(role), false, node.key(&[&format!("acme:{role}")]).await.1));
        callers.push((role.name(), Some(role), true, node.key(&[&format!("*:{role}")]).await.1));
    }
    let mut wrong = Vec::new();
    // What tenants deploy is called by name, too: one path stands for all of theirs.
    let native = ("/a.v1.B/Get", NATIVE);
    for (path, needs) in TABLE.iter().chain([&native]) {
        for (name, role, everywhere, secret) in &callers {
            if path.ends_with("CollectionService/Invoke") {
                // An earlier RPC may have dropped it.
                let made = message("/collector.CollectionRepo/CreateCollection", "", "acme");
                let create = "/collector.CollectionRepo/CreateCollection";
                let _ = node.call(&node.admin, create, messages.encode(create, &made)).await;
            }
            let bytes = messages.encode(path, &message(path, &victim, "acme"));
            let namespace = (*path == native.0).then_some("acme");
            let answer = node.call_in(secret, path, bytes, namespace).await;
            let refused = match &answer {
                Err(why) if why.code() == Code::PermissionDenied => true,
                // Who may not manage a key does not learn that there is one.
                Err(why) => path.ends_with("Keys/Revoke") && why.code() == Code::NotFound,
                Ok(_) => false,
            };
            let expected = !may(*needs, *role, *everywhere);
            if let Err(why) = &answer
                && why.code() == Code::Unauthenticated
            {
                wrong.push(format!("{path} {name}: {why}"));
            }
            if refused != expected {
                wrong.push(format!("{path} {name} everywhere={everywhere}: refused {refused}: {answer:?}"));
            }
            if matches!(needs, Needs::Later(..)) {
                assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{path}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// All that a refusal says, without the request's own id.
fn said(status: &Status) -> (Code, String, String) {
    use tonic_types::StatusExt as _;
    let mut details = status.get_error_details();
    details.set_request_info("", "");
    (status.code(), status.message().to_owned(), format!("{details:?}"))
}

#[tokio::test]
async fn d11_u02_a_forbidden_namespace_answers_like_one_that_is_not_there() {
    let node = Guarded::start().await;
    let messages = Messages::new();
    for namespace in ["acme", "globex"] {
        let create = "/collector.CollectionRepo/CreateCollection";
        node.call(&node.admin, create, messages.encode(create, &message(create, "", namespace))).await.unwrap();
    }
    let (_, acme) = node.key(&["acme:admin"]).await;
    let (globex_key, _) = node.key(&["globex:reader"]).await;
    for (path, needs) in TABLE {
        let answer = async |namespace: &str, victim: &str| {
            let bytes = messages.encode(path, &message(path, victim, namespace));
            node.call_in(&acme, path, bytes, Some(namespace)).await
        };
        let (forbidden, absent) = (answer("globex", &globex_key).await, answer("nowhere", "0000").await);
        match (&forbidden, &absent) {
            (Err(one), Err(other)) => assert_eq!(said(one), said(other), "{path}"),
            // A map of the node's own limits, in any order.
            (Ok(_), Ok(_)) if path.ends_with("/Meta") => {}
            (Ok(one), Ok(other)) => assert_eq!(one, other, "{path}"),
            other => panic!("{path}: {other:?}"),
        }
        if let Needs::Verb(_, Place::Field(_) | Place::Any(_)) = needs {
            assert_eq!(forbidden.unwrap_err().code(), Code::PermissionDenied, "{path}");
        }
    }
    let native = async |namespace| node.call_in(&acme, "/a.v1.B/Get", Vec::new(), Some(namespace)).await.unwrap_err();
    let (forbidden, absent, system) = (native("globex").await, native("nowhere").await, native("system").await);
    assert_eq!(said(&forbidden), said(&absent));
    assert_eq!(said(&forbidden), said(&system));
    assert_eq!(forbidden.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn u05_a_key_gives_no_more_than_its_maker_has() {
    let node = Guarded::start().await;
    let (_, acme) = node.key(&["acme:admin"]).await;
    let (_, deployer) = node.key(&["acme:deployer"]).await;
    let mut keys = node.keys(&acme);
    let mine = keys.create(super::create(&["acme:admin"])).await.unwrap().into_inner().key.unwrap().id;
    for beyond in [&["*:reader"][..], &["globex:reader"], &["acme:reader", "globex:reader"], &["*:admin"]] {
        let refused = keys.create(super::create(beyond)).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::PermissionDenied, "DENIED".into()), "{beyond:?}");
    }
    let refused = node.keys(&deployer).create(super::create(&["acme:invoker"])).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    // Of a key of two namespaces it sees its own half, and cannot end it.
    let (shared, _) = node.key(&["acme:reader", "globex:admin"]).await;
    let list = |namespace: &str| pb::admin::v1::ListRequest { namespace: namespace.into(), ..Default::default() };
    for namespace in ["", "acme"] {
        let listed = keys.list(list(namespace)).await.unwrap().into_inner().keys;
        assert!(listed.iter().all(|key| key.bindings.iter().all(|text| text.starts_with("acme:"))), "{listed:?}");
        assert!(listed.iter().any(|key| key.id == shared) && listed.iter().any(|key| key.id == mine));
    }
    let id = |id: &str| pb::admin::v1::RevokeRequest { id: id.into() };
    assert_eq!(keys.revoke(id(&shared)).await.unwrap_err().code(), Code::PermissionDenied);
    assert!(keys.revoke(id(&mine)).await.is_ok());
    let (theirs, _) = node.key(&["globex:reader"]).await;
    let (hidden, absent) = (keys.revoke(id(&theirs)).await.unwrap_err(), keys.revoke(id("none")).await.unwrap_err());
    assert_eq!(said(&hidden), said(&absent));
}

#[tokio::test]
async fn keys_come_in_pages_without_their_text() {
    let node = Guarded::start().await;
    let mut secrets = vec![node.admin.clone()];
    for _ in 0..4 {
        secrets.push(node.key(&["acme:reader"]).await.1);
    }
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let page = pb::admin::v1::ListRequest { page_size: 2, page_token, ..Default::default() };
        let page = node.keys(&node.admin).list(page).await.unwrap().into_inner();
        let text = format!("{page:?}");
        assert!(secrets.iter().all(|secret| !text.contains(secret.splitn(3, '_').nth(2).unwrap())));
        seen.extend(page.keys.into_iter().map(|key| key.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let mut sorted = seen.clone();
    sorted.sort();
    sorted.dedup();
    assert_eq!((seen.len(), &seen), (5, &sorted));
}
