//! What the node keeps about itself: read by who runs it, and no secrets.

use super::Guarded;
use crate::support::{header, parts, plugin, verdict};
use collector::rpc::pb;
use pb::collection_repo_client::CollectionRepoClient;
use pb::collection_service_client::CollectionServiceClient;
use pb::plugin::v1::plugins_client::PluginsClient;
use tonic::{Code, Status};

async fn list(node: &Guarded, secret: &str, collection: &str) -> Result<pb::ListResponse, Status> {
    let request =
        pb::ListRequest { namespace: "system".into(), collection_name: collection.into(), ..Default::default() };
    let listed = CollectionServiceClient::new(node.signed(secret)).list(request).await;
    listed.map(tonic::Response::into_inner)
}

#[tokio::test]
async fn registrations_are_read_like_any_collection_by_who_runs_the_node() {
    let node = Guarded::start().await;
    let greeter = plugin("greeter");
    let mut plugins = PluginsClient::new(node.signed(&node.admin));
    plugins.deploy(tokio_stream::iter(parts(header(), &greeter.bytes))).await.unwrap();
    let found = list(&node, &node.admin, "registered_services").await.unwrap();
    let item = found.items.iter().find(|item| item.type_url.ends_with("collector.RegisteredService")).unwrap();
    let service: pb::RegisteredService = prost::Message::decode(&*item.value).unwrap();
    assert_eq!((service.namespace.as_str(), service.service_name.as_str()), ("acme", "greeter.v1.Greeter"));
    let get = pb::GetRequest {
        namespace: "system".into(),
        collection_name: "registered_services".into(),
        id: found.infos[0].id.clone(),
    };
    let mut records = CollectionServiceClient::new(node.signed(&node.admin));
    assert!(records.get(get.clone()).await.is_ok());
    assert_eq!(list(&node, &node.admin, "deployments").await.unwrap().items.len(), 1);
    let discover = pb::DiscoverRequest { namespace: "system".into(), ..Default::default() };
    let names = CollectionRepoClient::new(node.signed(&node.admin)).discover(discover.clone()).await.unwrap();
    let names: Vec<_> = names.into_inner().collections.into_iter().map(|one| one.name).collect();
    assert_eq!(names, ["collections", "deployments", "peers", "registered_protos", "registered_services"]);

    // Keys and revocations are not among them, and nobody writes.
    let (_, other) = node.key(&["acme:admin", "globex:admin"]).await;
    for hidden in ["api_keys", "revoked_tokens", "collection_work"] {
        assert_eq!(list(&node, &node.admin, hidden).await.unwrap_err().code(), Code::NotFound, "{hidden}");
    }
    let delete = pb::DeleteRequest {
        namespace: "system".into(),
        collection_name: "registered_services".into(),
        id: get.id.clone(),
    };
    let refused = records.delete(delete).await.unwrap_err();
    assert_eq!(verdict(&refused), (Code::PermissionDenied, "DENIED".into()));
    for collection in ["registered_services", "api_keys", "none"] {
        let refused = list(&node, &other, collection).await.unwrap_err();
        assert_eq!(verdict(&refused), (Code::PermissionDenied, "DENIED".into()), "{collection}");
    }
    let refused = CollectionRepoClient::new(node.signed(&other)).discover(discover).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
}

/// Namespaces that the caller may not see must not leave holes in its pages.
#[tokio::test]
async fn c10_pages_are_full_of_what_the_caller_may_see() {
    let node = Guarded::start().await;
    let greeter = plugin("greeter");
    let mut plugins = PluginsClient::new(node.signed(&node.admin));
    for namespace in ["a", "b", "c", "d", "e"] {
        let header = pb::plugin::v1::DeployHeader { namespace: namespace.into(), ..header() };
        plugins.deploy(tokio_stream::iter(parts(header, &greeter.bytes))).await.unwrap();
        let collection = pb::Collection { namespace: namespace.into(), name: "things".into(), ..Default::default() };
        let create = pb::CreateCollectionRequest { collection: Some(collection) };
        CollectionRepoClient::new(node.signed(&node.admin)).create_collection(create).await.unwrap();
    }
    let (_, key) = node.key(&["c:reader", "e:reader"]).await;
    let (mut deployments, mut sizes, mut page_token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = pb::plugin::v1::ListRequest { page_size: 1, page_token, ..Default::default() };
        let page = PluginsClient::new(node.signed(&key)).list(page).await.unwrap().into_inner();
        sizes.push(page.deployments.len());
        deployments.extend(page.deployments.into_iter().map(|one| one.namespace));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((deployments, sizes), (vec!["c".to_owned(), "e".to_owned()], vec![1, 1]));
    let (mut collections, mut sizes, mut page_token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let page = pb::DiscoverRequest { page_size: 1, page_token, ..Default::default() };
        let page = CollectionRepoClient::new(node.signed(&key)).discover(page).await.unwrap().into_inner();
        sizes.push(page.collections.len());
        collections.extend(page.collections.into_iter().map(|one| one.namespace));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((collections, sizes), (vec!["c".to_owned(), "e".to_owned()], vec![1, 1]));
    let mut registry = pb::collector_registry_client::CollectorRegistryClient::new(node.signed(&key));
    let services = registry.list_services(pb::ListServicesRequest::default()).await.unwrap().into_inner().services;
    let namespaces: std::collections::BTreeSet<_> = services.into_iter().map(|one| one.namespace).collect();
    assert_eq!(namespaces.into_iter().collect::<Vec<_>>(), ["c", "e"]);
}
