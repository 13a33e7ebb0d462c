//! What a collector has itself, reached through collectors that have it not: its records, whatever it serves.

use super::Mesh;
use crate::support::{Client, Place as Folder, channel, until};
use collector::rpc::pb;
use pb::collective_dispatcher_client::CollectiveDispatcherClient;
use prost::Message;
use prost_types::Any;
use rustix::process::Signal;
use tonic::{Code, Status};

const NOTES: Folder = Folder::acme("notes");

/// Hands a call of `CollectionService` to `target`, through the node at `url`.
async fn through<R: Message + Default>(
    url: &str,
    target: &str,
    method: &str,
    request: &impl Message,
) -> Result<R, Status> {
    let input =
        Any { type_url: format!("type.googleapis.com/collector.{method}Request"), value: request.encode_to_vec() };
    let request = pb::DispatchRequest {
        namespace: "acme".into(),
        service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "CollectionService".into() }),
        method_name: method.into(),
        input: Some(input),
        target_collector_id: target.into(),
        ..Default::default()
    };
    let answer = CollectiveDispatcherClient::new(channel(url).await).dispatch(request).await?.into_inner();
    assert_eq!(answer.handled_by_collector_id, target);
    Ok(R::decode(&*answer.output.unwrap().value).unwrap())
}

impl Mesh {
    /// The last has a collection, nobody has any code: every node writes a record of its own there, and reads it.
    async fn records_of_the_last_are_everybodys(&self) {
        let last = self.places.last().unwrap();
        Client::connect(&last.url()).await.make(NOTES.definition("", &[])).await.unwrap();
        for place in &self.places {
            let id = &*place.id;
            let item = Any { type_url: "type.googleapis.com/collector.NamespacedName".into(), value: Vec::new() };
            let create = NOTES.create(id, item);
            let is_known = async || {
                let made = through::<pb::CreateResponse>(&place.url(), &last.id, "Create", &create).await;
                made.inspect_err(|why| assert_eq!(why.message(), "no connection to collector")).is_ok()
            };
            until(&format!("{id} knows a way to {}", last.id), is_known).await;
            let got: pb::GetResponse = through(&place.url(), &last.id, "Get", &NOTES.get(id)).await.unwrap();
            assert_eq!(got.item.unwrap().type_url, "type.googleapis.com/collector.NamespacedName");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_of_one_node_is_reached_through_any() {
    for mesh in [Mesh::star(5), Mesh::chain(5)] {
        mesh.start(8).await.records_of_the_last_are_everybodys().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_is_forgotten_with_the_node_on_it_and_found_again() {
    let mut mesh = Mesh::chain(3).start(4).await;
    mesh.records_of_the_last_are_everybodys().await;
    let first = mesh.places[0].url();
    let get = async || through::<pb::GetResponse>(&first, "n2", "Get", &NOTES.get("n0")).await;
    mesh.end(1, Signal::KILL);
    let unlinked =
        |why: Status| (why.code(), why.message().to_owned()) == (Code::NotFound, "no connection to collector".into());
    until("the way is gone", async || get().await.is_err_and(unlinked)).await;
    mesh.start_again(1);
    until("the way is back", async || get().await.is_ok()).await;
}
