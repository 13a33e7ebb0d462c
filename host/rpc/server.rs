//! Connections: HTTP/2 and HTTP/1.1 over TCP, bounded, drained on shutdown.
//!
//! tonic routes and decodes; the accept loop is ours, because tonic's own turns a passed `grpc-timeout` into CANCELLED
//! and offers no hold on connections.

use super::identify::{Identify, Peer};
use super::incoming::Whole;
use super::web::{Cors, Web};
use super::{Door, edge, preface};
use crate::collections::is_endpoint;
use crate::domain;
use crate::lifecycle::Lifecycle;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

/// The `[server]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Loopback: nothing is reachable from outside until somebody says so.
    pub listen: SocketAddr,
    /// `host:port` that other machines reach the node by, for Route. Empty: the address that it listens on.
    pub advertised_address: String,
    /// Listens beyond loopback although callers are neither encrypted nor authenticated.
    pub insecure: bool,
    /// Connections at once. 1,024: each may cost 64 KiB and more.
    pub connections: usize,
    /// Calls at once on one connection. 100: gRPC's usual figure.
    pub streams: u32,
    /// The namespace of native calls, reflection and health that name none in metadata `collector-namespace`.
    pub default_namespace: String,
    /// Milliseconds that calls in flight get to finish when the node stops. 10,000: below what supervisors wait.
    pub grace_ms: u64,
    /// Web pages that may call the node from a browser: `scheme://host[:port]`, or `*` for all. None: a page could reach
    /// a node on its reader's own machine. In the environment and in flags separated by commas.
    #[serde(deserialize_with = "domain::list")]
    pub cors_origins: Vec<String>,
}

/// A setting that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BadSetting {
    /// Its key in the configuration.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Config {
    /// Refuses origins and addresses that are none.
    pub fn check(&self) -> Result<(), BadSetting> {
        if !self.advertised_address.is_empty() && !is_endpoint(&self.advertised_address) {
            let problem = format!("{:?} is not host:port", self.advertised_address);
            return Err(BadSetting { key: "server.advertised_address", problem });
        }
        Cors::new(&self.cors_origins).map(|_| ())
    }
}

impl Default for Config {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 50_051));
        Self {
            listen,
            advertised_address: String::new(),
            insecure: false,
            connections: 1_024,
            streams: 100,
            default_namespace: "default".to_owned(),
            grace_ms: 10_000,
            cors_origins: Vec::new(),
        }
    }
}

/// Why the node cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Beyond loopback without saying so.
    #[error(
        "refusing to listen on {0}: callers are neither encrypted nor authenticated yet; \
         listen on 127.0.0.1, or add --insecure if something in front of the node does both"
    )]
    Exposed(SocketAddr),
    /// The system said no.
    #[error("cannot listen on {listen}: {why}")]
    Bind {
        /// Where.
        listen: SocketAddr,
        /// What it said.
        why: io::Error,
    },
}

/// A bound port.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
}

impl Server {
    /// Binds the port. Nothing is served yet; clients that connect wait.
    pub async fn bind(config: Config) -> Result<Self, ServerError> {
        let listen = config.listen;
        if !listen.ip().is_loopback() && !config.insecure {
            return Err(ServerError::Exposed(listen));
        }
        let bind = |why| ServerError::Bind { listen, why };
        let listener = TcpListener::bind(listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self { listener, address, config })
    }

    /// Where clients connect, with the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the node drains, then waits for calls in flight: `grace_ms`, then their guests are stopped.
    ///
    /// * `identify`: asks who calls.
    /// * `web`: what stands before `door`.
    /// * `longest`: deadline of calls that name none.
    pub async fn run(self, identify: Identify, web: Web, door: Door, longest: Duration, lifecycle: Lifecycle) {
        let places = Arc::new(Semaphore::new(self.config.connections));
        let open = Connections::default();
        let builder = builder(&self.config);
        loop {
            let accepted = tokio::select! {
                biased;
                () = lifecycle.draining() => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let (stream, address, place) = match accepted {
                Ok(accepted) => accepted,
                Err(why) => {
                    // Out of descriptors, most likely: connections that end give some back.
                    tracing::warn!(%why, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (web, door, calls) = (web.clone(), door.clone(), open.calls.clone());
            let visitor = identify.connection(&Peer { address, certificate: None });
            let answer = move |mut request: Request<Body>| {
                visitor.note(&mut request);
                let (web, door, calls) = (web.clone(), door.clone(), calls.clone());
                async move { web.handle(request, |request| edge::handle(door, request, longest, calls)).await }
            };
            let connection = serve(stream, answer, builder.clone(), open.graceful.watcher());
            let cut = open.cut.clone();
            drop(lifecycle.spawn(async move {
                let _place = place;
                if let Some(Err(why)) = cut.run_until_cancelled(connection).await {
                    tracing::debug!(%why, "connection ended");
                }
            }));
        }
        drop(self.listener);
        open.drain(Duration::from_millis(self.config.grace_ms), &lifecycle).await;
    }
}

/// Serves one connection to its end.
async fn serve<F, Fut>(
    stream: TcpStream,
    answer: F,
    builder: Builder<TokioExecutor>,
    watcher: Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>>
where
    F: Fn(Request<Body>) -> Fut + Send + 'static,
    Fut: Future<Output = Response<Body>> + Send + 'static,
{
    let stream = preface::greet(stream, preface::PATIENCE).await?;
    let service = service_fn(move |request: Request<Incoming>| {
        let http2 = request.version() == Version::HTTP_2;
        let answer = answer(request.map(|body| Body::new(Whole::new(body, http2))));
        async { Ok::<_, Infallible>(answer.await) }
    });
    watcher.watch(builder.serve_connection(TokioIo::new(stream), service).into_owned()).await
}

/// What is open while the node serves.
#[derive(Default)]
struct Connections {
    graceful: GracefulShutdown,
    calls: TaskTracker,
    cut: CancellationToken,
}

/// How long connections get to close once their calls are over: enough to write a last answer out.
const CLOSING: Duration = Duration::from_millis(250);
/// How long stopped guests' callers get to hear of it.
const STOPPED: Duration = Duration::from_secs(1);

impl Connections {
    /// Tells clients to go away, waits for calls in flight, then stops guests, then cuts what is still open: streams that
    /// never end by themselves, and connections on which nobody spoke.
    async fn drain(self, grace: Duration, lifecycle: &Lifecycle) {
        let mut closed = std::pin::pin!(self.graceful.shutdown()); // sends GOAWAY when first polled
        self.calls.close();
        let finished = async {
            loop {
                tokio::select! {
                    () = &mut closed => return,
                    () = self.calls.wait() => {}
                }
                // A client that had not heard yet may have sent one more call.
                if timeout(CLOSING, &mut closed).await.is_ok() || self.calls.is_empty() {
                    return;
                }
            }
        };
        if timeout(grace, finished).await.is_err() {
            tracing::warn!("the grace period is over, guests that still run are stopped");
            lifecycle.kill();
            let _ = timeout(STOPPED, self.calls.wait()).await;
            let _ = timeout(CLOSING, closed).await;
        }
        self.cut.cancel();
    }
}

async fn accept(
    listener: &TcpListener,
    connections: &Arc<Semaphore>,
) -> io::Result<(TcpStream, IpAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    if let Err(why) = stream.set_nodelay(true) {
        tracing::debug!(%why, "a connection keeps Nagle's algorithm"); // one client's trouble, not the listener's
    }
    Ok((stream, peer.ip(), place))
}

/// HTTP/2 and HTTP/1.1 as threats.md B1 sets them.
fn builder(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(Duration::from_secs(10)) // from the end of the call before, so it bounds idling too
        .max_buf_size(64 << 10)
        .max_headers(100)
        .keep_alive(true)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(config.streams)
        .max_local_error_reset_streams(Some(1_024))
        .max_pending_accept_reset_streams(Some(20))
        .max_header_list_size(16 << 10)
        .max_frame_size(16 << 10)
        .initial_stream_window_size(256 << 10)
        .initial_connection_window_size(1 << 20)
        .keep_alive_interval(Some(Duration::from_secs(30)))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}
