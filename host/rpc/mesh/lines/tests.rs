use super::super::conn::Runner;
use super::*;
use crate::rpc::tls::PeerDialer;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::timeout;

/// Answers with the path and the statement, once it is let go; counts connections and calls.
#[derive(Clone)]
struct Peer {
    address: String,
    connections: Arc<AtomicUsize>,
    calls: Arc<AtomicUsize>,
    go: Arc<watch::Sender<bool>>,
    /// Connections say goodbye.
    leave: Arc<watch::Sender<bool>>,
    /// Connections are cut.
    cut: Arc<watch::Sender<bool>>,
    /// Connections that it takes; others are closed.
    takes: usize,
    /// Calls at once on each.
    streams: u32,
}

impl Peer {
    async fn start() -> Self {
        Self::taking(usize::MAX, 1_000).await
    }

    async fn taking(takes: usize, streams: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let signal = || Arc::new(watch::Sender::new(false));
        let peer = Self {
            address: listener.local_addr().unwrap().to_string(),
            connections: Arc::default(),
            calls: Arc::default(),
            go: signal(),
            leave: signal(),
            cut: signal(),
            takes,
            streams,
        };
        let host = peer.clone();
        spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if host.connections.fetch_add(1, Ordering::Relaxed) < host.takes {
                    spawn(host.clone().serve(stream));
                }
            }
        });
        peer
    }

    async fn serve(self, stream: tokio::net::TcpStream) {
        let (mut leave, mut cut) = (self.leave.subscribe(), self.cut.subscribe());
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let (calls, mut go) = (Arc::clone(&self.calls), self.go.subscribe());
            async move {
                calls.fetch_add(1, Ordering::Relaxed);
                go.wait_for(|go| *go).await.unwrap();
                let stamp = request.headers().get(FORWARD).unwrap().to_str().unwrap().to_owned();
                let said = format!("{} {stamp}", request.uri().path());
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(said))))
            }
        });
        let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        builder.max_concurrent_streams(self.streams);
        let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
        loop {
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = leave.changed() => connection.as_mut().graceful_shutdown(),
                _ = cut.changed() => return,
            }
        }
    }

    async fn lines(&self) -> (Lines, CollectorId) {
        let base = format!("http://{}/", self.address).parse().unwrap();
        let (dialer, runner) = (PeerDialer::default(), Runner::default());
        let way = Way { dialer, base, identity: None, runner, counts: Arc::default() };
        let first = Conn::open(&way).await.unwrap();
        let (lines, id): (_, CollectorId) = (Lines::default(), "b".parse().unwrap());
        lines.put(id.clone(), Line::new(LinkKey::fresh().unwrap(), way, first));
        (lines, id)
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's tasks end with its runtime")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    drop(tokio::spawn(task));
}

async fn call(lines: &Lines, peer: &CollectorId) -> Result<String, Lost> {
    call_of("acme", lines, peer).await
}

async fn call_of(namespace: &str, lines: &Lines, peer: &CollectorId) -> Result<String, Lost> {
    let namespace = namespace.parse().unwrap();
    let request = Request::post("/a.v1.S/M").body(Body::empty()).unwrap();
    let answer = lines.send(peer, &namespace, |_key| HeaderValue::from_static("stamped"), request).await?;
    let body = answer.into_body().collect().await.map_err(|why| Lost::Unknown(why.to_string()))?;
    Ok(String::from_utf8(body.to_bytes().to_vec()).unwrap())
}

async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let waited = timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

#[tokio::test]
async fn calls_go_over_the_link_with_their_statement_and_nowhere_else() {
    let peer = Peer::start().await;
    peer.go.send_replace(true);
    let (lines, b) = peer.lines().await;
    assert_eq!(call(&lines, &b).await.unwrap(), "/a.v1.S/M stamped");
    let c: CollectorId = "c".parse().unwrap();
    assert!(matches!(call(&lines, &c).await, Err(Lost::NeverBegan(_))));
}

#[tokio::test]
async fn m08_more_calls_get_more_connections_and_the_rest_wait_each_namespace_for_itself() {
    let peer = Peer::start().await;
    let (lines, b) = peer.lines().await;
    // All places but those that are kept for whoever has next to none.
    let loud = CONNECTIONS_MAX * STREAMS_MAX * 15 / 16;
    let calls: Vec<_> = (0..loud + 20).map(|_| call(&lines, &b)).collect();
    let (connections, begun) = (Arc::clone(&peer.connections), Arc::clone(&peer.calls));
    let look = async {
        wait_for("as many calls as there are places", || begun.load(Ordering::Relaxed) == loud).await;
        assert_eq!(connections.load(Ordering::Relaxed), CONNECTIONS_MAX);
        let go = async {
            wait_for("a call of another", || begun.load(Ordering::Relaxed) > loud).await;
            peer.go.send_replace(true);
        };
        tokio::join!(call_of("quiet", &lines, &b), go).0
    };
    let (answers, quiet) = tokio::join!(futures_util::future::join_all(calls), look);
    assert!(answers.iter().all(Result::is_ok) && quiet.is_ok());
    assert_eq!(peer.calls.load(Ordering::Relaxed), loud + 21);
}

#[tokio::test]
async fn a_peer_that_takes_fewer_calls_on_a_connection_gets_more_connections() {
    let peer = Peer::taking(usize::MAX, 2).await;
    let (lines, b) = peer.lines().await;
    let (connections, begun) = (Arc::clone(&peer.connections), Arc::clone(&peer.calls));
    let calls: Vec<_> = (0..8).map(|_| call(&lines, &b)).collect();
    let look = async {
        wait_for("eight calls at once", || begun.load(Ordering::Relaxed) == 8).await;
        assert_eq!(connections.load(Ordering::Relaxed), 4);
        peer.go.send_replace(true);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), look);
    assert!(answers.iter().all(Result::is_ok));
}

#[tokio::test]
async fn where_no_more_connections_can_be_had_calls_wait_on_those_that_are_open() {
    let peer = Peer::taking(1, 100).await;
    let (lines, b) = peer.lines().await;
    let begun = Arc::clone(&peer.calls);
    let calls: Vec<_> = (0..120).map(|_| call(&lines, &b)).collect();
    let look = async {
        wait_for("a hundred calls", || begun.load(Ordering::Relaxed) == 100).await;
        peer.go.send_replace(true);
    };
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), look);
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find(|answer| answer.is_err()));
    let tried = peer.connections.load(Ordering::Relaxed);
    assert!(tried <= 3, "one attempt, not one for each call: {tried}");
}

#[tokio::test]
async fn m08_a_goodbye_loses_no_call_and_a_cut_tells_which_had_begun() {
    let peer = Peer::start().await;
    let (lines, b) = peer.lines().await;
    let begun = Arc::clone(&peer.calls);
    let first = call(&lines, &b);
    let then = async {
        wait_for("the first call", || begun.load(Ordering::Relaxed) == 1).await;
        peer.leave.send_replace(true);
        peer.go.send_replace(true);
        // Each goes over the connection that said goodbye if it is not known yet, and then over another.
        let mut again = 0;
        for _ in 0..20 {
            match call(&lines, &b).await {
                Ok(_) => {}
                Err(Lost::NeverBegan(_)) => again += 1,
                Err(why) => panic!("{why}"),
            }
        }
        assert!(again <= 1, "{again}");
    };
    let (first, ()) = tokio::join!(first, then);
    assert_eq!(first.unwrap(), "/a.v1.S/M stamped", "what had begun goes on");

    peer.go.send_replace(false);
    let before = peer.calls.load(Ordering::Relaxed);
    let lost = call(&lines, &b);
    let cut = async {
        wait_for("the call", || peer.calls.load(Ordering::Relaxed) == before + 1).await;
        peer.cut.send_replace(true);
    };
    let (lost, ()) = tokio::join!(lost, cut);
    assert!(matches!(lost, Err(Lost::Unknown(_))), "{lost:?}");
    peer.go.send_replace(true);
    assert!(call(&lines, &b).await.is_ok(), "the next one has a connection of its own");
}

#[tokio::test]
async fn a_call_that_is_given_up_stops_at_the_peer() {
    let peer = Peer::start().await;
    let (lines, b) = peer.lines().await;
    let begun = Arc::clone(&peer.calls);
    let gone = timeout(Duration::from_millis(200), call(&lines, &b)).await;
    assert!(gone.is_err() && begun.load(Ordering::Relaxed) == 1);
    // Its service, and with it the receiver, was dropped.
    wait_for("the end at the peer", || peer.go.receiver_count() == 0).await;
}
