//! A mesh of node processes, as operators run it: any shape of it, nodes that are killed, restarted, cut off.

mod beyond;
mod clients;
mod flapping;
mod killed;
mod partition;
mod rolling;
mod unsent;

use crate::mesh_links::reserve;
use crate::support::*;
use clients::{Crowd, greeting};
use collector::rpc::pb;
use collector::rpc::pb::admin::v1 as admin;
use pb::collective_dispatcher_client::CollectiveDispatcherClient;
use prost_types::Any;
use rustix::process::Signal;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

/// How soon calls have to work again, and changes to be known.
const SOON: Duration = Duration::from_secs(1);
/// How long this machine, with everything else that tests do at the time, may take for it in builds without optimisation.
const SOON_HERE: Duration = Duration::from_secs(5);

/// Nodes that keep their addresses and folders while their processes come and go.
struct Mesh {
    places: Vec<Place>,
    nodes: Vec<Option<NodeProcess>>,
    _data: TempDir,
}

/// Where a node is.
#[derive(Clone)]
struct Place {
    id: String,
    at: String,
    data: PathBuf,
    file: PathBuf,
    /// What its command begins with: the program itself, or what puts it elsewhere.
    before: Vec<String>,
    settings: Vec<String>,
}

impl Place {
    fn new(data: &std::path::Path, number: usize, at: String) -> Self {
        let (id, folder) = (format!("n{number}"), data.join(number.to_string()));
        std::fs::create_dir(&folder).unwrap();
        let file = folder.join("collector.toml");
        Self { id, at, data: folder.join("data"), file, before: Vec::new(), settings: Vec::new() }
    }

    /// Writes its configuration.
    fn knows(&self, peers: &[&str]) {
        let peers =
            peers.iter().map(|at| format!("[[peers]]\naddress = \"{at}\"\nallows = [\"*:invoker\", \"*:writer\"]\n"));
        let text = format!("[mesh]\nid = \"{}\"\n[server]\ngrace_ms = 5000\n{}", self.id, peers.collect::<String>());
        std::fs::write(&self.file, text).unwrap();
    }

    fn start(&self) -> NodeProcess {
        let mut words = self.before.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_collector")]);
        let mut command = std::process::Command::new(words.next().unwrap());
        command.args(words).args(["serve", "--json", "--listen", &self.at, "--set", "wasm.slots=8", "--data"]);
        command.arg(&self.data).arg("--config").arg(&self.file).args(&self.settings);
        NodeProcess::spawn(command)
    }

    fn url(&self) -> String {
        format!("http://{}", self.at)
    }

    async fn channel(&self) -> Channel {
        channel(&self.url()).await
    }

    /// Ids of the collectors that it has links to; `None`: it is not there.
    async fn linked(&self) -> Option<Vec<String>> {
        let channel = Endpoint::from_shared(self.url()).unwrap().connect().await.ok()?;
        let mut client = admin::peers_client::PeersClient::new(channel);
        let peers = client.list(admin::ListPeersRequest {}).await.ok()?.into_inner().peers;
        let linked = peers.into_iter().filter(|peer| peer.state() == admin::peer::State::Linked);
        let mut ids: Vec<String> = linked.map(|peer| peer.collector_id).collect();
        ids.sort_unstable();
        Some(ids)
    }

    async fn deploy(&self, name: &str) {
        let client = &mut Plugins::new(self.channel().await);
        deploy_with(client, header(), &plugin(name).bytes).await.unwrap();
    }

    /// Has the greeter greet, and says who did it.
    async fn greeted_by(&self, target: &str) -> Result<String, Status> {
        let input = Any { type_url: "type.googleapis.com/greeter.v1.HelloRequest".into(), value: greeting() };
        let request = pb::DispatchRequest {
            namespace: "acme".into(),
            service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "greeter.v1.Greeter".into() }),
            method_name: "SayHello".into(),
            input: Some(input),
            target_collector_id: target.into(),
            ..Default::default()
        };
        let mut client = CollectiveDispatcherClient::new(self.channel().await);
        client.dispatch(request).await.map(Response::into_inner).map(|answer| answer.handled_by_collector_id)
    }
}

impl Mesh {
    /// Nodes of which these know each other. None runs yet.
    fn of(count: usize, pairs: &[(usize, usize)]) -> Self {
        let data = tempfile::tempdir().unwrap();
        let places: Vec<Place> = (0..count).map(|number| Place::new(data.path(), number, reserve())).collect();
        for (number, place) in places.iter().enumerate() {
            let other = |(one, two): &(usize, usize)| match number {
                number if number == *one => Some(&*places[*two].at),
                number if number == *two => Some(&*places[*one].at),
                _ => None,
            };
            place.knows(&pairs.iter().filter_map(other).collect::<Vec<_>>());
        }
        Self { places, nodes: (0..count).map(|_| None).collect(), _data: data }
    }

    /// Each knows the next.
    fn chain(count: usize) -> Self {
        Self::of(count, &(1..count).map(|number| (number - 1, number)).collect::<Vec<_>>())
    }

    /// The first knows all others, and they know it.
    fn star(count: usize) -> Self {
        Self::of(count, &(1..count).map(|number| (0, number)).collect::<Vec<_>>())
    }

    /// Everybody knows everybody.
    fn full(count: usize) -> Self {
        let pairs = (0..count).flat_map(|one| (one + 1..count).map(move |two| (one, two)));
        Self::of(count, &pairs.collect::<Vec<_>>())
    }

    /// Starts all, and waits for all links.
    async fn start(mut self, links: usize) -> Self {
        std::thread::scope(|scope| {
            let starting: Vec<_> = self.places.iter().map(|place| scope.spawn(|| place.start())).collect();
            self.nodes = starting.into_iter().map(|node| Some(node.join().unwrap())).collect();
        });
        until("all links", async || {
            let mut found = 0;
            for place in &self.places {
                found += place.linked().await.unwrap_or_default().len();
            }
            found == links
        })
        .await;
        self
    }

    fn node(&mut self, number: usize) -> &mut NodeProcess {
        self.nodes[number].as_mut().unwrap()
    }

    /// Ends a process, and waits until it has ended.
    fn end(&mut self, number: usize, signal: Signal) {
        self.node(number).signal(signal);
        let status = self.node(number).wait();
        let log = self.node(number).log();
        assert!(signal == Signal::KILL || status.success(), "{status:?}: {log}");
        self.nodes[number] = None;
    }

    fn start_again(&mut self, number: usize) {
        self.nodes[number] = Some(self.places[number].start());
    }

    /// The last has the code, and a call of any is answered by it.
    async fn calls_reach_the_last(&self) {
        let last = self.places.last().unwrap();
        last.deploy("greeter").await;
        for place in &self.places {
            let reaches = async || place.greeted_by("").await.is_ok_and(|who| who == last.id);
            until(&format!("a call of {} of {}", place.id, self.places.len()), reaches).await;
            let named = place.greeted_by(&last.id).await;
            assert_eq!(named.map_err(|why| why.to_string()), Ok(last.id.clone()), "from {}", place.id);
            let greeter = plugin("greeter");
            let stub =
                Stub { channel: place.channel().await, plugin: &greeter, namespace: "acme".into(), timeout: None };
            let answer = stub.call("SayHello", serde_json::json!({ "name": "Ada" })).await.unwrap();
            assert_eq!(answer.receipt("collector-version"), "1", "a stock client's call of {}", place.id);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_chain_a_call_of_any_node_reaches_the_one_that_has_the_code() {
    for count in [2, 3, 5] {
        Mesh::chain(count).start(2 * (count - 1)).await.calls_reach_the_last().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn in_a_star_a_call_of_any_node_reaches_the_one_that_has_the_code() {
    for count in [2, 3, 5] {
        Mesh::star(count).start(2 * (count - 1)).await.calls_reach_the_last().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_are_linked_a_call_of_any_node_reaches_the_one_that_has_the_code() {
    for count in [2, 3, 5] {
        Mesh::full(count).start(count * (count - 1)).await.calls_reach_the_last().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_beyond_is_as_far_as_calls_go_and_gone_when_the_way_is() {
    let mut mesh = Mesh::chain(6).start(10).await;
    mesh.calls_reach_from_the_second().await;
    let far = mesh.places[0].greeted_by("").await.unwrap_err();
    assert_eq!((far.code(), far.message()), (Code::NotFound, "no collector found for namespace"));
    mesh.end(3, Signal::KILL);
    let gone = async || mesh.places[1].greeted_by("").await.is_err_and(|why| why.code() == Code::NotFound);
    until("the way is gone", gone).await;
    mesh.start_again(3);
    until("it is back", async || mesh.places[1].greeted_by("").await.is_ok()).await;
}

impl Mesh {
    async fn calls_reach_from_the_second(&self) {
        self.places[5].deploy("greeter").await;
        let second = &self.places[1];
        until("the way", async || second.greeted_by("").await.is_ok_and(|who| who == "n5")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kill_of_one_of_three_costs_only_the_calls_that_it_had() {
    let mut mesh = Mesh::full(3).start(6).await;
    for number in [1, 2] {
        mesh.places[number].deploy("misbehave").await;
    }
    for number in [0, 1, 2] {
        mesh.places[number].answers_for(&["n1", "n2"]).await;
    }
    // Of the first everybody, and some of the third: it has the code itself.
    let crowd = Crowd::naps(&[&mesh.places[0], &mesh.places[0], &mesh.places[0], &mesh.places[2]]);
    crowd.calls(50).await;
    mesh.node(1).signal(Signal::KILL);
    let killed = Instant::now();
    mesh.node(1).wait();
    let dead = Instant::now();
    crowd.calls(100).await;
    let again = crowd.first_good_after(dead) - dead;
    assert!(again < SOON, "calls worked again after {again:?}");
    until("the loss", async || mesh.places[0].linked().await.unwrap() == ["n2"]).await;
    crowd.calls(50).await;

    mesh.start_again(1);
    let began = Instant::now();
    until("the links", async || mesh.places[0].linked().await.unwrap() == ["n1", "n2"]).await;
    until("its own links", async || mesh.places[1].linked().await.unwrap() == ["n0", "n2"]).await;
    assert!(began.elapsed() < SOON_HERE, "{:?}", began.elapsed());
    mesh.places[0].answers_for(&["n1"]).await;
    for failed in crowd.end().await {
        let was_there = failed.began < dead && failed.ended > killed;
        let had_begun = failed.status.metadata().get("collector-began").is_none();
        let is_lost = failed.status.code() == Code::Unavailable && had_begun;
        assert!(was_there && is_lost, "{killed:?} {dead:?} {failed:?}");
    }
}

impl Place {
    /// Waits until calls that name these get to them.
    async fn answers_for(&self, ids: &[&str]) {
        for id in ids {
            let known = async || {
                let mut client = CollectiveDispatcherClient::new(self.channel().await);
                let request = clients::nap(0, id);
                client.dispatch(request).await.is_ok_and(|answer| answer.into_inner().handled_by_collector_id == *id)
            };
            until(&format!("{id} answers calls of {}", self.id), known).await;
        }
    }
}
