//! One HTTP/2 connection to a peer.

use super::counted::Counted;
use super::lines::Lost;
use crate::mesh::Counts;
use crate::rpc::details;
use crate::rpc::tls::{DialError, PeerDialer};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, Uri, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::body::Body;

/// How often a connection is pinged, also while nothing runs on it. 1 s, and 2 s for the answer: a machine that vanished is
/// noticed within three.
const PING_EVERY: Duration = Duration::from_secs(1);
const PING_PATIENCE: Duration = Duration::from_secs(2);
/// Calls at once on one connection: what a node takes unless it is told otherwise. Fewer where the peer says so.
pub(super) const STREAMS_MAX: usize = 100;
/// What hyper says that a peer takes before the peer does.
const UNTOLD: usize = STREAMS_MAX + 1;
/// How often it is looked for, and how many times: it is the first that a peer says, after one round trip.
const LOOK_EVERY: Duration = Duration::from_millis(5);
const LOOKS: u32 = 200;
/// Bytes that one call may have under way. 256 KiB: as the server's.
const STREAM_WINDOW: u32 = 256 << 10;
/// Bytes of all calls of a connection. 4 MiB: a caller that reads slowly holds up sixteen others at most.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Headers and trailers of an answer, as the server takes them of a request.
const HEADERS_MAX: u32 = 16 << 10;

/// An open connection. Clones share it; it closes when the last of them, and of the calls on it, is gone.
#[derive(Clone)]
pub(super) struct Conn {
    send: SendRequest<Body>,
    busy: Arc<AtomicUsize>,
    /// Calls that the peer takes on it; [`UNTOLD`] as long as it has not said.
    most: watch::Receiver<usize>,
    /// Scheme and authority of what is sent.
    base: Uri,
}

/// Why a request was not answered.
pub(super) enum Failed {
    /// The request is whole and can go elsewhere.
    Unsent(Box<Request<Body>>),
    /// It was begun to be sent.
    Lost(Lost),
}

/// Runs connections.
#[derive(Clone, Default)]
pub(super) struct Runner {
    tasks: TaskTracker,
    cut: CancellationToken,
}

impl Runner {
    /// Cuts all connections.
    pub(super) fn cut(&self) {
        self.cut.cancel();
        self.tasks.close();
    }

    #[expect(clippy::disallowed_methods, reason = "tracked here, and cut when the node has answered its last call")]
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let cut = self.cut.clone();
        drop(tokio::spawn(self.tasks.track_future(async move {
            cut.run_until_cancelled(task).await;
        })));
    }
}

/// How connections to a peer are made. Clones make the same.
#[derive(Clone)]
pub(super) struct Way {
    pub(super) dialer: PeerDialer,
    /// Scheme, host and port.
    pub(super) base: Uri,
    /// The one URI of the peer's certificate.
    pub(super) identity: Option<String>,
    pub(super) runner: Runner,
    pub(super) counts: Arc<Counts>,
}

impl Conn {
    /// Connects, and waits for the peer's first word.
    pub(super) async fn open(way: &Way) -> Result<Self, DialError> {
        let wire = way.dialer.dial(&way.base, way.identity.as_deref()).await?;
        let wire = Counted::new(wire, Arc::clone(&way.counts));
        let mut builder = Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(PING_EVERY))
            .keep_alive_timeout(PING_PATIENCE)
            .keep_alive_while_idle(true)
            .initial_max_send_streams(UNTOLD)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_MAX);
        let shaken = builder.handshake(TokioIo::new(wire)).await;
        let (send, mut connection) = shaken.map_err(|why| DialError::Away(std::io::Error::other(why)))?;
        let (told, most) = watch::channel(UNTOLD);
        way.runner.spawn(async move {
            let (mut look, mut looks) = (interval(LOOK_EVERY), LOOKS);
            // The peer says it with its settings, which come to a task of hyper's own that wakes nobody here.
            let driven = poll_fn(|cx| {
                let polled = Pin::new(&mut connection).poll(cx);
                let now = connection.current_max_send_streams();
                told.send_if_modified(|told| std::mem::replace(told, now) != now);
                while now == UNTOLD && looks > 0 && look.poll_tick(cx).is_ready() {
                    looks -= 1;
                }
                polled
            });
            if let Err(why) = driven.await {
                tracing::debug!(%why, "a connection to a peer ended");
            }
        });
        let conn = Self { send, busy: Arc::default(), most, base: way.base.clone() };
        match conn.settled().await {
            true => Ok(conn),
            false => Err(DialError::Away(std::io::Error::other("the peer closed the connection at once"))),
        }
    }

    /// Calls on it.
    pub(super) fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }

    /// Whether one more call would wait for another to end.
    pub(super) fn is_full(&self) -> bool {
        self.busy() >= STREAMS_MAX.min(*self.most.borrow())
    }

    /// Waits until the peer has said how many calls it takes, a second at most.
    ///
    /// * returns: whether it did not end instead: a node that has enough connections closes them unheard.
    async fn settled(&self) -> bool {
        let mut most = self.most.clone();
        let told = timeout(LOOK_EVERY * LOOKS, most.wait_for(|most| *most != UNTOLD)).await;
        !matches!(told, Ok(Err(_))) && !self.is_closed()
    }

    /// Whether it takes no more calls.
    pub(super) fn is_closed(&self) -> bool {
        self.send.is_closed()
    }

    /// Whether both are one connection.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.busy, &other.busy)
    }

    /// Sends a request; its place on the connection is taken until the answer has been read, or is dropped.
    ///
    /// * cancel: resets the stream.
    pub(super) async fn send(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        let mut parts = request.uri().clone().into_parts();
        let base = self.base.clone().into_parts();
        (parts.scheme, parts.authority) = (base.scheme, base.authority);
        match Uri::from_parts(parts) {
            Ok(uri) => *request.uri_mut() = uri,
            Err(why) => return Err(Failed::Lost(Lost::NeverBegan(why.to_string()))),
        }
        *request.version_mut() = Version::HTTP_2;
        request.headers_mut().remove(http::header::HOST);
        let sent = self.send.clone().try_send_request(request).await;
        sent.map_err(|mut failed| match failed.take_message() {
            Some(request) => Failed::Unsent(Box::new(request)),
            None => Failed::Lost(lost(&failed.into_error())),
        })
    }

    /// Takes a place on it.
    pub(super) fn begin(&self) -> Busy {
        self.busy.fetch_add(1, Ordering::Relaxed);
        Busy(Arc::clone(&self.busy))
    }
}

/// Whether the peer may have begun the request. It has not if it reset the stream saying so, or if it said goodbye and
/// that this stream is none that it takes. Source: RFC 9113 sections 6.8 and 8.7.
fn lost(why: &hyper::Error) -> Lost {
    let mut source = why.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            let refused = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
            if error.is_remote() && (refused || error.is_go_away()) {
                return Lost::NeverBegan("the peer takes no more calls".to_owned());
            }
        }
        source = error.source();
    }
    match why.is_canceled() {
        true => Lost::NeverBegan("the connection had ended".to_owned()),
        false => Lost::Unknown("the connection to the peer ended".to_owned()),
    }
}

/// A place on a connection, until it is dropped.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A body that holds something until it has been read. Its head and trailers can be given to tonic.
pub(super) struct Holding<T> {
    body: Incoming,
    _held: T,
}

impl<T: Send + Unpin + 'static> Holding<T> {
    /// `answer`, holding `held`.
    pub(super) fn answer(answer: Response<Incoming>, held: T) -> Response<Body> {
        let mut answer = answer.map(|body| Body::new(Self { body, _held: held }));
        details::defuse(answer.headers_mut());
        answer
    }
}

impl<T: Unpin> HttpBody for Holding<T> {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let mut frame = Pin::new(&mut self.get_mut().body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            details::defuse(trailers);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// What tonic's clients send over.
impl tower::Service<Request<Body>> for Conn {
    type Response = Response<Body>;
    type Error = Lost;
    type Future = BoxFuture<'static, Result<Response<Body>, Lost>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let conn = self.clone();
        Box::pin(async move {
            let busy = conn.begin();
            match conn.send(request).await {
                Ok(answer) => Ok(Holding::answer(answer, busy)),
                Err(Failed::Unsent(_)) => Err(Lost::NeverBegan("the connection had ended".to_owned())),
                Err(Failed::Lost(why)) => Err(why),
            }
        })
    }
}
