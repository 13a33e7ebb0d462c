//! Connections: HTTP/2 and HTTP/1.1 over TCP or TLS, bounded, drained on shutdown.
//!
//! tonic routes and decodes; the accept loop is ours, because tonic's own turns a passed `grpc-timeout` into CANCELLED
//! and offers no hold on connections.
//!
//! ```text
//! accept -> admission (how many) -> tls -> preface (HTTP?) -> flood (frames) -> hyper -> identify -> web -> edge -> door
//!                                   `---- 5 s ----------'     `---- lifetime: age, idle, drain ------------------------'
//! ```

use super::admission::{Admission, Closed, Place};
use super::alone::Alone;
use super::calls::Calls;
use super::coalesce::{Coalesced, Turn};
use super::identify::{Identify, Peer, Visitor};
use super::incoming::Whole;
use super::lifetime::{Activity, Lifetime, Running, tend};
use super::tls::{Dialer, Shown, Tls, TlsError, Wire};
use super::web::Web;
use super::whose::{Apart, Whose};
use super::{Config, Door, Load, edge, fixed, preface, status};
use crate::exec::wasm::Aside;
use crate::lifecycle::Lifecycle;
use http::{Request, Response, Version};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tonic::body::Body;

/// How long the node waits to accept again after the system refused: connections that end give descriptors back.
const EXHAUSTED: Duration = Duration::from_millis(50);

/// Connections that wait to be accepted at most: what tokio asks of the system.
const BACKLOG: usize = 1_024;

/// Why the node cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Beyond loopback without saying so.
    #[error(
        "refusing to listen on {listen}: {missing}; listen on 127.0.0.1 instead, or add --insecure if something in \
         front of the node does what is missing"
    )]
    Exposed {
        /// Where.
        listen: SocketAddr,
        /// What is, and how to get it.
        missing: &'static str,
    },
    /// The certificates cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The system said no.
    #[error("cannot listen on {listen}: {why}")]
    Bind {
        /// Where.
        listen: SocketAddr,
        /// What it said.
        why: io::Error,
    },
}

/// Refuses to be reached from other machines unless connections are encrypted and callers asked who they are.
///
/// * `authenticated`: whether callers are.
pub(super) fn exposed(config: &Config, authenticated: bool) -> Result<(), ServerError> {
    let listen = config.listen;
    if listen.ip().is_loopback() || config.insecure {
        return Ok(());
    }
    let missing = match (config.tls.is_on(), authenticated) {
        (true, true) => return Ok(()),
        (false, true) => "connections are not encrypted (set server.tls.certificate and server.tls.key)",
        (true, false) => "callers are not authenticated (set auth.mode = \"required\")",
        (false, false) => {
            "connections are not encrypted (set server.tls.certificate and server.tls.key) and callers are not \
             authenticated (set auth.mode = \"required\")"
        }
    };
    Err(ServerError::Exposed { listen, missing })
}

/// What keeps a node from listening as it is told, found without listening or making anything.
///
/// * `authenticated`: whether every caller has to say who it is.
pub fn obstacles(config: &Config, authenticated: bool) -> Vec<String> {
    let exposed = exposed(config, authenticated).err().map(|why| why.to_string());
    let tls = config.tls.problem().map(|why| why.to_string());
    exposed.into_iter().chain(tls).collect()
}

/// A bound port.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    config: Config,
    tls: Option<Arc<Tls>>,
    calls: Calls,
    aside: Option<Aside>,
}

impl Server {
    /// Binds the port. Nothing is served yet; clients that connect wait.
    ///
    /// * `folder`: where a certificate of the node's own making is kept.
    /// * `authenticated`: whether every caller has to say who it is.
    /// * returns: besides, what the node reaches itself with.
    pub async fn bind(config: Config, folder: &Path, authenticated: bool) -> Result<(Self, Dialer), ServerError> {
        exposed(&config, authenticated)?;
        let (tls, dialer) = match config.tls.is_on() {
            true => {
                let (tls, dialer) = Tls::open(&config.tls, folder, &config.names())?;
                (Some(Arc::new(tls)), dialer)
            }
            false => (None, Dialer::plain()),
        };
        let listen = config.listen;
        let bind = |why| ServerError::Bind { listen, why };
        let listener = TcpListener::bind(listen).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        let calls = Calls::new(&config);
        Ok((Self { listener, address, config, tls, calls, aside: None }, dialer))
    }

    /// * `aside`: takes the answering of who calls a lot off the threads of the network.
    #[must_use]
    pub fn with_aside(self, aside: Aside) -> Self {
        Self { aside: Some(aside), ..self }
    }

    /// How much it has to do.
    pub fn load(&self) -> Load {
        Load { calls: self.calls.clone(), most: u32::try_from(self.config.calls).unwrap_or(u32::MAX) }
    }

    /// Where clients connect, with the real port where 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file with the certificate that clients see, where connections are encrypted.
    pub fn certificate(&self) -> Option<&Path> {
        self.tls.as_ref().map(|tls| tls.file())
    }

    /// Serves until the node drains, then waits for calls in flight: `grace_ms`, then their guests are stopped.
    ///
    /// * `identify`: asks who calls.
    /// * `web`: what stands before `door`.
    /// * `longest`: deadline of calls that name none.
    pub async fn run(self, identify: Identify, web: Web, door: Door, longest: Duration, lifecycle: Lifecycle) {
        let admission = Admission::new(&self.config);
        let open = Connections::new(self.calls);
        let host = Host {
            tls: self.tls,
            streams: self.config.streams,
            lifetime: Lifetime::new(&self.config),
            unread: Duration::from_secs(self.config.unread_s),
            drain: open.drain.clone(),
            identify,
            aside: self.aside,
            answers: Answers { web, door, calls: open.calls.clone(), longest },
        };
        if let Some(tls) = &host.tls {
            drop(lifecycle.spawn(Arc::clone(tls).keep_fresh(lifecycle.clone())));
        }
        let let_in = async |stream, address| match admission.admit(address).await {
            Ok(place) => {
                let (host, cut, counted) = (host.clone(), open.cut.clone(), open.open.token());
                drop(lifecycle.spawn(async move {
                    if let Some(Err(why)) = cut.run_until_cancelled(host.serve(stream, address, &place)).await {
                        tracing::debug!(why, "connection ended");
                    }
                    drop((place, counted));
                }));
            }
            Err(why) => admission.count(why),
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = lifecycle.draining() => break,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => let_in(stream, peer.ip()).await,
                Err(why) => {
                    tracing::debug!(%why, "cannot accept a connection");
                    admission.count(Closed::Exhausted);
                    tokio::time::sleep(EXHAUSTED).await;
                }
            }
        }
        // Reset, they could not tell whether their calls began.
        let late = async {
            for (stream, address) in connected(self.listener) {
                let_in(stream, address).await;
            }
        };
        let _ = timeout(CLOSING, late).await; // longer only in a flood of newcomers
        open.end(Duration::from_millis(self.config.grace_ms), &lifecycle).await;
    }
}

/// Those whom the system has connected when the port closes, which it does with them: at most as many as may wait there.
/// Asked of the system itself, as the runtime knows of a newcomer only once it was told.
fn connected(listener: TcpListener) -> impl Iterator<Item = (TcpStream, IpAddr)> {
    let listener = listener.into_std();
    (0..BACKLOG).map_while(move |_| {
        let (stream, peer) = listener.as_ref().ok()?.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        Some((TcpStream::from_std(stream).ok()?, peer.ip()))
    })
}

/// What every connection is served with. Clones share it.
#[derive(Clone)]
struct Host {
    tls: Option<Arc<Tls>>,
    /// At once on one connection.
    streams: u32,
    lifetime: Lifetime,
    /// How long an answer may wait for its reader.
    unread: Duration,
    drain: CancellationToken,
    identify: Identify,
    aside: Option<Aside>,
    answers: Answers,
}

impl Host {
    /// Serves one connection to its end.
    async fn serve(
        self,
        stream: TcpStream,
        address: IpAddr,
        place: &Place,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        if let Err(why) = stream.set_nodelay(true) {
            tracing::debug!(%why, "a connection keeps Nagle's algorithm"); // one client's trouble, not the listener's
        }
        let shaken = async {
            match &self.tls {
                Some(tls) => tls.accept(stream).await,
                None => Ok((Wire::Plain(stream), None)),
            }
        };
        let (stream, shown) = tokio::select! {
            greeted = preface::greet(shaken, preface::PATIENCE) => greeted?,
            () = place.unwanted() => return Ok(()),
        };
        place.greeted();
        let certificate = shown.as_ref().and_then(Shown::leaf);
        let visitor = self.identify.connection(Peer { address, certificate });
        let (activity, answers) = (Activity::new(self.unread), self.answers);
        let (running, whose) = (activity.clone(), Whose::default());
        let apart = self.aside.map(|aside| Apart::new(aside, whose.clone(), self.streams));
        let alone = apart.clone().map_or_else(Alone::default, Alone::new);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(whose.clone());
            // The requests of HTTP/2 are handed to `alone` instead.
            let apart = apart.clone().filter(|_| request.version() < Version::HTTP_2);
            let answer = answers.clone().answer(request, &visitor, running.begin());
            async move {
                Ok::<_, Infallible>(match apart {
                    Some(apart) => apart.answer(answer).await.unwrap_or_else(gone),
                    None => answer.await,
                })
            }
        });
        let turn = Turn::default();
        let stream = TokioIo::new(Coalesced::new(stream, activity.clone(), turn.clone()));
        let connection = builder(self.streams, alone.clone()).serve_connection(stream, service).into_owned();
        let tended = Box::pin(tend(connection, self.lifetime, &activity, &self.drain));
        match (&self.tls, &shown) {
            (Some(tls), Some(shown)) => tokio::select! {
                ended = alone.drive(tended, turn) => ended,
                () = tls.revoked(shown) => Err("its certificate is good no longer".into()),
            },
            _ => alone.drive(tended, turn).await,
        }
    }
}

/// What every request is answered with. Clones share it.
#[derive(Clone)]
struct Answers {
    web: Web,
    door: Door,
    calls: Calls,
    longest: Duration,
}

impl Answers {
    /// In a box: hyper moves what answers three times before it is polled, and it is kilobytes.
    fn answer(
        self,
        request: Request<Incoming>,
        visitor: &Visitor,
        running: Running,
    ) -> Pin<Box<impl Future<Output = Response<Body>> + Send + use<>>> {
        let (head, body) = request.into_parts();
        let body = Body::new(Whole::new(body, head.version, &head.headers));
        let mut request = Request::from_parts(head, body);
        visitor.note(&mut request);
        let Self { web, door, calls, longest, .. } = self;
        Box::pin(
            async move { web.handle(request, |request| edge::handle(door, request, longest, calls, running)).await },
        )
    }
}

/// What is said where nobody is left to answer.
fn gone() -> Response<Body> {
    status::plain(Code::Unavailable, "DRAINING", "the node ended before it had answered; call again").into_http()
}

/// What is open while the node serves.
struct Connections {
    open: TaskTracker,
    calls: Calls,
    drain: CancellationToken,
    cut: CancellationToken,
}

/// How long connections get to close once their calls are over: enough to write a last answer out.
const CLOSING: Duration = Duration::from_millis(250);
/// How long stopped guests' callers get to hear of it.
const STOPPED: Duration = Duration::from_secs(1);

impl Connections {
    fn new(calls: Calls) -> Self {
        let (drain, cut) = (CancellationToken::new(), CancellationToken::new());
        Self { open: TaskTracker::new(), calls, drain, cut }
    }

    /// Tells clients to go away, waits for calls in flight, then stops guests, then cuts what is still open: streams that
    /// never end by themselves, and connections on which nobody spoke.
    async fn end(self, grace: Duration, lifecycle: &Lifecycle) {
        self.drain.cancel(); // connections send GOAWAY
        self.open.close();
        let calls = self.calls.running();
        calls.close();
        let mut closed = std::pin::pin!(self.open.wait());
        let finished = async {
            loop {
                tokio::select! {
                    () = &mut closed => return,
                    () = calls.wait() => {}
                }
                // A client that had not heard yet may have sent one more call.
                if timeout(CLOSING, &mut closed).await.is_ok() || calls.is_empty() {
                    return;
                }
            }
        };
        if timeout(grace, finished).await.is_err() {
            tracing::warn!("the grace period is over, guests that still run are stopped");
            lifecycle.kill();
            let _ = timeout(STOPPED, calls.wait()).await;
            let _ = timeout(CLOSING, closed).await;
        }
        self.cut.cancel();
    }
}

/// HTTP/2 and HTTP/1.1 as threats.md B1 sets them.
fn builder(streams: u32, alone: Alone) -> Builder<Alone> {
    let mut builder = Builder::new(alone);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(fixed::HTTP1_HEAD)
        .max_buf_size(fixed::HTTP1_BUFFER)
        .max_headers(fixed::HTTP1_HEADERS)
        .keep_alive(true)
        .half_close(false);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(streams)
        .max_local_error_reset_streams(Some(fixed::RESETS))
        .max_pending_accept_reset_streams(Some(fixed::PENDING_RESETS))
        .max_header_list_size(fixed::HEADER_LIST)
        .max_frame_size(fixed::FRAME)
        .initial_stream_window_size(fixed::STREAM_WINDOW)
        .initial_connection_window_size(fixed::CONNECTION_WINDOW)
        .keep_alive_interval(Some(fixed::PING_EVERY))
        .keep_alive_timeout(fixed::PING_PATIENCE);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_loopback_encryption_and_authentication_are_needed_or_a_word() {
        let config = |listen: &str, tls, insecure| {
            let mut config = Config { listen: listen.parse().unwrap(), insecure, ..Config::default() };
            config.tls.self_signed = tls;
            config
        };
        let says = |tls, authenticated| {
            exposed(&config("0.0.0.0:1", tls, false), authenticated).map_err(|why| why.to_string()).err()
        };
        let (tls, auth) = ("server.tls.certificate", "auth.mode");
        let neither = says(false, false).unwrap();
        assert!(neither.contains(tls) && neither.contains(auth) && neither.contains("--insecure"), "{neither}");
        let plain = says(false, true).unwrap();
        assert!(plain.contains(tls) && !plain.contains(auth), "{plain}");
        let anybody = says(true, false).unwrap();
        assert!(!anybody.contains(tls) && anybody.contains(auth), "{anybody}");
        assert_eq!(says(true, true), None);
        for safe in ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1"] {
            assert!(exposed(&config(safe, false, false), false).is_ok(), "{safe}");
        }
        assert!(exposed(&config("[::]:1", false, true), false).is_ok());
        assert!(exposed(&config("[::ffff:10.0.0.1]:1", true, false), false).is_err());
    }
}
