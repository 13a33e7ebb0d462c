//! Connections: HTTP/2 over TCP, bounded, drained on shutdown.
//!
//! tonic routes and decodes; the accept loop is ours, because tonic's own turns a passed `grpc-timeout` into CANCELLED
//! and offers no hold on connections.

use super::{edge, preface};
use crate::lifecycle::Lifecycle;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

/// The `[server]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Loopback: nothing is reachable from outside until somebody says so.
    pub listen: SocketAddr,
    /// Listens beyond loopback although callers are neither encrypted nor authenticated.
    pub insecure: bool,
    /// Connections at once. 1,024: each may cost 64 KiB and more.
    pub connections: usize,
    /// Calls at once on one connection. 100: gRPC's usual figure.
    pub streams: u32,
    /// Milliseconds that calls in flight get to finish when the node stops. 10,000: below what supervisors wait.
    pub grace_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 50_051));
        Self { listen, insecure: false, connections: 1_024, streams: 100, grace_ms: 10_000 }
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
    /// * `longest`: deadline of calls that name none.
    pub async fn run(self, routes: Routes, longest: Duration, lifecycle: Lifecycle) {
        let places = Arc::new(Semaphore::new(self.config.connections));
        let open = Connections::default();
        let builder = builder(&self.config);
        loop {
            let accepted = tokio::select! {
                biased;
                () = lifecycle.draining() => break,
                accepted = accept(&self.listener, &places) => accepted,
            };
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(why) => {
                    // Out of descriptors, most likely: connections that end give some back.
                    tracing::warn!(%why, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (routes, calls) = (routes.clone(), open.calls.clone());
            let service = hyper::service::service_fn(move |request| {
                edge::handle(routes.clone(), request, longest, calls.clone())
            });
            let (builder, watcher, cut) = (builder.clone(), open.graceful.watcher(), open.cut.clone());
            let connection = async move {
                let _place = place;
                let stream = preface::greet(stream).await?;
                let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                watcher.watch(connection).await
            };
            drop(lifecycle.spawn(async move {
                if let Some(Err(why)) = cut.run_until_cancelled(connection).await {
                    tracing::debug!(%why, "connection ended");
                }
            }));
        }
        drop(self.listener);
        open.drain(Duration::from_millis(self.config.grace_ms), &lifecycle).await;
    }
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

async fn accept(listener: &TcpListener, connections: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(connections).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    if let Err(why) = stream.set_nodelay(true) {
        tracing::debug!(%why, "a connection keeps Nagle's algorithm"); // one client's trouble, not the listener's
    }
    Ok((stream, place))
}

/// HTTP/2 as threats.md B1 sets it.
fn builder(config: &Config) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new()).http2_only();
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
