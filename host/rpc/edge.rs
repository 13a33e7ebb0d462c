//! What every request passes first and every answer last: request id, deadline, panics, receipts.

use super::Door;
use super::admission::network;
use super::calls::{Calls, InFlight};
use super::ended::Ended;
use super::identify::{Peer, Unknown};
use super::lifetime::Running;
use super::stalled::Patience;
use super::status::{self, is_fleeting, receipt_pairs};
use super::whose::Whose;
use crate::domain::{BoxFuture, Deadline, Receipt, cut};
use crate::tenancy::Caller;
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use std::fmt;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::body::Body;
use tonic::{Code, Status};
use tracing::Instrument as _;

/// How much later than a call's own deadline the edge gives up on it. The call's own end knows more, so it goes first;
/// this is for requests that never got that far, such as a body that trickles in.
const SLACK: Duration = Duration::from_millis(50);
/// How much of a path is worth a line. It has no control characters: `http` refuses them.
pub(super) const PATH_MAX: usize = 256;

/// Names one request in details and in the log.
#[derive(Debug, Clone)]
pub(super) struct RequestId(uuid::Uuid);

impl RequestId {
    pub(super) fn uuid(&self) -> uuid::Uuid {
        self.0
    }
}

/// A fresh one.
impl Default for RequestId {
    fn default() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

/// Where a receipt will be once the call has ended: put into the trailers of the response that carries it.
#[derive(Debug, Clone, Default)]
pub(super) struct ReceiptSlot(Arc<OnceLock<Receipt>>);

impl ReceiptSlot {
    /// Of a call that has ended.
    pub(super) fn of(receipt: Receipt) -> Self {
        Self(Arc::new(receipt.into()))
    }

    /// The call has ended.
    pub(super) fn fill(&self, receipt: Receipt) {
        let _ = self.0.set(receipt);
    }
}

/// Metadata that ends an answer: what a peer said at the end of one that it gave in our stead.
#[derive(Debug, Clone)]
pub(super) struct Trailing(pub(super) HeaderMap);

/// What the client asked for in `grpc-timeout`.
#[derive(Debug, Clone, Copy)]
struct Asked(Option<Duration>);

/// The client's own `grpc-timeout`, for calls that may last longer than the node's deadline for unary ones.
///
/// * errors: INTERNAL for a request that did not come through the edge.
pub(super) fn asked<T>(request: &tonic::Request<T>) -> Result<Option<Duration>, Status> {
    asked_of(request.extensions())
}

/// The same, of a request that is not decoded yet.
pub(super) fn asked_of(extensions: &http::Extensions) -> Result<Option<Duration>, Status> {
    let asked = extensions.get::<Asked>().copied();
    let asked = asked.ok_or_else(|| status::plain(Code::Internal, "INTERNAL", "the request has no deadline"))?;
    Ok(asked.0)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id that the edge gave to a request.
pub(super) fn request_id<T>(request: &tonic::Request<T>) -> RequestId {
    request.extensions().get::<RequestId>().cloned().unwrap_or_default()
}

/// Who is calling.
///
/// * errors: UNAUTHENTICATED for credentials that are none; INTERNAL for a request that did not come through the server.
pub(super) fn caller<T>(request: &tonic::Request<T>) -> Result<Caller, Status> {
    caller_of(request.extensions())
}

/// The same, of a request that is not decoded yet.
pub(super) fn caller_of(extensions: &http::Extensions) -> Result<Caller, Status> {
    match (extensions.get::<Caller>(), extensions.get::<Unknown>()) {
        (Some(caller), _) => Ok(caller.clone()),
        (None, Some(unknown)) => Err(unknown.turn_away()),
        (None, None) => Err(status::plain(Code::Internal, "INTERNAL", "nobody asked who is calling")),
    }
}

/// The deadline that the edge read from a request.
///
/// * errors: INTERNAL for a request that did not come through the edge.
pub(super) fn deadline<T>(request: &tonic::Request<T>) -> Result<Deadline, Status> {
    deadline_of(request.extensions())
}

/// The same, of a request that is not decoded yet.
pub(super) fn deadline_of(extensions: &http::Extensions) -> Result<Deadline, Status> {
    let deadline = extensions.get::<Deadline>().copied();
    deadline.ok_or_else(|| status::plain(Code::Internal, "INTERNAL", "the request has no deadline"))
}

/// Takes one request through. A caller whose credentials end is cut off, whatever its call is doing.
///
/// * `longest`: the node's own deadline, for requests that name none or a later one.
/// * `calls`: where it is counted, and refused if there are too many.
/// * `connection`: that it runs on.
/// * returns: the answer, its deadline among its extensions for those who translate it.
pub(super) async fn handle<B>(
    door: Door,
    mut request: Request<B>,
    longest: Duration,
    calls: Calls,
    connection: Running,
) -> Response<Body>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let id = RequestId::default();
    // Those of the node's own services that cost little are bounded by this alone.
    let caller = match enter(&door, request.extensions(), &id) {
        Ok(caller) => caller,
        Err(status) => return status::never_began(status).into_http(),
    };
    let call = match calls.begin(request.uri().path(), connection) {
        Ok(call) => call,
        Err(status) => return status::never_began(status).into_http(),
    };
    let asked = match timeout(request.headers()) {
        Ok(asked) => asked,
        Err(status) => return status.into_http(),
    };
    request.extensions_mut().insert(caller.clone());
    let deadline = Deadline::after(asked.map_or(longest, |asked| asked.min(longest)));
    let span = tracing::info_span!("call", path = cut(request.uri().path(), PATH_MAX), request = %id);
    let path = request.uri().clone();
    let mut ended = Ended::begin(&id, path.path(), request.extensions_mut());
    request.extensions_mut().insert(id);
    request.extensions_mut().insert(deadline);
    request.extensions_mut().insert(Asked(asked));
    let whose = request.extensions_mut().remove::<Whose>();
    // Pinned where it is made: it is kilobytes, and each of those that wait for it would move it.
    let answer = pin!(AssertUnwindSafe(door.call(request.map(Body::new))).catch_unwind());
    let last = deadline.instant() + SLACK;
    let answer =
        tokio::time::timeout_at(last, while_good(&caller, telling(whose, &caller, answer))).instrument(span).await;
    let mut answer = match answer {
        Ok(None) => {
            ended.with_code(Code::Unauthenticated);
            status::unauthenticated().into_http()
        }
        Ok(Some(Ok(response))) => finish(response, call, caller, ended),
        Ok(Some(Err(_panic))) => {
            ended.with_code(Code::Internal);
            status::plain(Code::Internal, "INTERNAL", "the node failed to answer").into_http()
        }
        Err(_elapsed) => {
            ended.with_code(Code::DeadlineExceeded);
            let message = "the request was not answered before its deadline";
            status::plain(Code::DeadlineExceeded, "DEADLINE", message).into_http()
        }
    };
    answer.extensions_mut().insert(deadline);
    answer
}

fn enter(door: &Door, extensions: &http::Extensions, id: &RequestId) -> Result<Caller, Status> {
    let network = extensions.get::<Peer>().map(|peer| network(peer.address));
    door.enter(caller_of(extensions)?, network).map_err(|why| status::refused(&why, id))
}

/// Reads `grpc-timeout`: at most 8 digits and a unit. Source: PROTOCOL-HTTP2.md.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let mut values = headers.get_all("grpc-timeout").iter();
    let odd = |message| status::plain(Code::InvalidArgument, "TIMEOUT", message);
    let (value, None) = (values.next(), values.next()) else { return Err(odd("more than one grpc-timeout")) };
    let Some(value) = value else { return Ok(None) };
    let bad = || odd("grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n");
    let text = value.to_str().map_err(|_| bad())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let span = match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(bad()),
    };
    // Less than a millisecond is less than a timer can keep.
    Ok(Some(span.max(Duration::from_millis(1))))
}

/// Waits for an answer, and tells its connection whose calls it carries as soon as that is known.
fn telling<T>(
    mut whose: Option<Whose>,
    caller: &Caller,
    mut answer: Pin<&mut impl Future<Output = T>>,
) -> impl Future<Output = T> {
    poll_fn(move |cx| {
        let polled = answer.as_mut().poll(cx);
        if whose.is_some()
            && let Some(namespace) = caller.works_in()
            && let Some(whose) = whose.take()
        {
            whose.note(namespace);
        }
        polled
    })
}

/// Waits for an answer; `None` if the caller's credentials end first.
async fn while_good<T>(caller: &Caller, answer: impl Future<Output = T>) -> Option<T> {
    if !caller.can_end() {
        return Some(answer.await);
    }
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = caller.ended() => None,
    }
}

/// Sees to it that a receipt gets into the trailers, keeps the call counted, and its caller's places taken, until it is
/// sent, and ends it with its caller.
fn finish(mut response: Response<Body>, call: InFlight, caller: Caller, mut record: Ended) -> Response<Body> {
    record.with(response.headers());
    let receipt = response.extensions_mut().remove::<ReceiptSlot>();
    let trailing = response.extensions_mut().remove::<Trailing>();
    let patience = response.extensions_mut().remove::<Patience>().map(|Patience(longest)| longest);
    let activity = call.activity();
    response.map(|body| {
        let outgoing = Outgoing { body, receipt, trailing, caller, is_cut: false, ended: None, record, _call: call };
        activity.watch(Body::new(outgoing), patience)
    })
}

/// A body whose trailers get the call's receipt.
struct Outgoing {
    body: Body,
    receipt: Option<ReceiptSlot>,
    /// A peer's receipt.
    trailing: Option<Trailing>,
    /// Its places, until the answer is sent, and credentials that may end.
    caller: Caller,
    /// They have ended, and so has the answer.
    is_cut: bool,
    /// Made when the body first has nothing to say: most never have to wait.
    ended: Option<BoxFuture<'static, ()>>,
    /// What the audit log is told of the end.
    record: Ended,
    _call: InFlight,
}

impl Outgoing {
    /// Whether the caller's credentials have ended.
    ///
    /// * `waits`: the body has nothing to say, so that their end has to wake us.
    fn is_over(&mut self, waits: bool, cx: &mut Context<'_>) -> bool {
        if self.is_cut || !self.caller.can_end() {
            return false;
        }
        match waits {
            false => self.caller.has_ended(),
            true => self.ended.get_or_insert_with(|| Box::pin(self.caller.ended())).as_mut().poll(cx).is_ready(),
        }
    }

    /// Ends the answer here. What makes it is dropped, and stops.
    fn cut(&mut self) -> Frame<Bytes> {
        (self.body, self.is_cut, self.ended, self.receipt) = (Body::empty(), true, None, None);
        Frame::trailers(status::trailers(&status::unauthenticated()))
    }
}

impl HttpBody for Outgoing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if this.is_over(false, cx) {
            return Poll::Ready(Some(Ok(this.cut())));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| Pin::new(&mut this.body).poll_frame(cx)));
        let failed = |_panic| {
            let failed = status::plain(Code::Internal, "INTERNAL", "the node failed to answer");
            Poll::Ready(Some(Err(failed)))
        };
        let polled = polled.unwrap_or_else(failed);
        if polled.is_pending() && this.is_over(true, cx) {
            return Poll::Ready(Some(Ok(this.cut())));
        }
        let mut frame = ready!(polled);
        if let Some(Ok(frame)) = &mut frame
            && let Some(trailers) = frame.trailers_mut()
        {
            self.record.with(trailers);
            trailers.extend(self.trailing.take().map(|Trailing(more)| more).unwrap_or_default());
            if let Some(receipt) = self.receipt.take().and_then(|slot| slot.0.get().cloned()) {
                let pairs = receipt_pairs(&receipt).into_iter();
                trailers.extend(pairs.filter_map(|(key, value)| {
                    let mut value = HeaderValue::try_from(value).ok()?;
                    value.set_sensitive(is_fleeting(key)); // to HTTP/2: never to be indexed
                    Some((http::HeaderName::from_static(key), value))
                }));
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(value: &str) -> Result<Option<Duration>, Status> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_str(value).unwrap());
        timeout(&headers)
    }

    #[test]
    fn t11_odd_timeouts_are_refused_and_huge_ones_are_numbers() {
        for odd in ["-1S", "1x", "", "S", "123456789S", "1 S", "+1S", "1.5S", "١S"] {
            let refused = match HeaderValue::from_str(odd) {
                Ok(_) => read(odd).is_err(),
                Err(_) => true,
            };
            assert!(refused, "{odd}");
        }
        assert_eq!(read("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(read("250m").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(read("1n").unwrap(), Some(Duration::from_millis(1)));
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }
}
