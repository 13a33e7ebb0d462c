//! Peers that come and go all the time.

use super::*;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes connections on, until they are cut.
struct Cable {
    cuts: Arc<watch::Sender<u64>>,
}

impl Cable {
    /// * `from`: where it listens.
    async fn new(from: &str, to: &str) -> Self {
        let (listener, to): (_, SocketAddr) = (TcpListener::bind(from).await.unwrap(), to.parse().unwrap());
        let cuts = Arc::new(watch::Sender::new(0));
        let cut = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut cut = cut.subscribe();
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { cuts }
    }

    fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }
}

/// Threads and descriptors of a process.
fn held(id: u32) -> (usize, usize) {
    let threads = std::fs::read_dir(format!("/proc/{id}/task")).unwrap().count();
    (threads, descriptors(id))
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_peers_that_flap_a_hundred_times_leave_nothing_behind() {
    const PEERS: usize = 4;
    const TIMES: usize = 25;
    let data = tempfile::tempdir().unwrap();
    let places: Vec<Place> = (0..=PEERS).map(|number| Place::new(data.path(), number, reserve())).collect();
    // The first reaches each of the others over a cable.
    let mut cables = Vec::new();
    let mut ends = Vec::new();
    for place in &places[1..] {
        let from = reserve();
        cables.push(Cable::new(&from, &place.at).await);
        ends.push(from);
        place.knows(&[&places[0].at]);
    }
    places[0].knows(&ends.iter().map(String::as_str).collect::<Vec<_>>());
    let mut nodes = vec![places[0].start()];
    for (place, end) in places[1..].iter().zip(&ends) {
        let settings = vec!["--set".to_owned(), format!("server.advertised_address={end}")];
        nodes.push(Place { settings, ..place.clone() }.start());
    }
    let all: Vec<String> = (1..=PEERS).map(|number| format!("n{number}")).collect();
    let linked = async || until("the links", async || places[0].linked().await.unwrap() == all).await;
    linked().await;
    places[1].deploy("greeter").await;
    until("a call", async || places[0].greeted_by("").await.is_ok()).await;
    let id = nodes[0].id();
    let mut before = (0, 0);
    for time in 0..TIMES {
        cables.iter().for_each(Cable::cut);
        until("the loss", async || places[0].linked().await.unwrap().is_empty()).await;
        // The peers call, so that the links' pauses end; no sooner than half a second after the last attempt.
        until("the links", async || {
            for (end, peer) in ends.iter().zip(&all) {
                let request = pb::ConnectRequest {
                    address: end.clone(),
                    metadata: [("collector_id".to_owned(), peer.clone())].into(),
                    ..Default::default()
                };
                CollectiveDispatcherClient::new(places[0].channel().await).connect(request).await.unwrap();
            }
            places[0].linked().await.unwrap() == all
        })
        .await;
        if time == 2 {
            before = held(id);
        }
    }
    until("the call", async || places[0].greeted_by("").await.is_ok_and(|who| who == "n1")).await;
    // What is on its way to its end may be there for a moment.
    let settled = async || held(id).0 <= before.0 + 2 && held(id).1 <= before.1 + 2;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !settled().await {
        assert!(Instant::now() < deadline, "threads and descriptors: {before:?} became {:?}", held(id));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
