//! Hands calls to peers: the request as it came, another peer if the first did not begin it, the answer as it comes.
//!
//! ```text
//! Errand -> mesh::route -> breaker -> lines (statement) -> head of the answer -> reply
//!              ^---------- not begun, 3 attempts ----------'
//! ```
//! Dropping what is returned here resets the stream, which stops the guest wherever it runs.

use super::courier::{signed, statement};
use super::lent::Home;
use super::lines::{Lines, Lost};
use super::reply::{self, Answer};
use crate::domain::{CollectorId, Deadline, Limits, MethodName, Namespace, ServiceName};
use crate::mesh::{Attempt, Forwarded, Found, LinkKey, Mesh, NoRoute, Outcome, Wanted};
use crate::registry::{Method, MethodRef};
use crate::rpc::{edge, status};
use crate::tenancy::{Permit, Tenancy};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use http_body_util::{BodyExt as _, Full};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

/// Peers that a call is offered to by the collector that its client called. 3: two that are lost at once are an accident,
/// three are an outage.
const ATTEMPTS: usize = 3;
/// By a collector on the way. 2: the one before tries others, so that a call makes 24 attempts at most, wherever it goes.
const ATTEMPTS_BETWEEN: usize = 2;
/// Looks for a peer that come to no attempt, because another call finds out whether the peer is back.
const LOOKS: usize = 16;
/// Before the same peer is tried again, once more for each attempt: time to make a connection anew.
const PAUSE: Duration = Duration::from_millis(20);
/// What may stand around a reply in a `DispatchResponse`.
const AROUND: usize = 64 << 10;
/// Bytes of a message's head.
pub(super) const FRAME: usize = 5;

/// Headers that are of one connection, or of this node's business. What else a client sends travels as it is.
const STAYS: [&str; 16] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "collector-forward",
    "collector-namespace",
    "grpc-timeout",
    "grpc-accept-encoding",
    "content-length",
    "connection",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a call got no answer from a peer.
#[derive(Debug, thiserror::Error)]
pub(in crate::rpc) enum Handover {
    /// Nobody to hand it to.
    #[error(transparent)]
    Route(#[from] NoRoute),
    /// Nobody began it.
    #[error("the collectors that could answer cannot be reached; try again")]
    NeverBegan,
    /// It may have been begun.
    #[error("the collector that had the call was lost before it answered; the call may have run")]
    Lost,
    /// The answer cannot be passed on.
    #[error("the reply of another collector cannot be used: {0}")]
    Reply(&'static str),
    /// The same, and it may be the method's own doing: code of one tenant must not make a peer look unwell to all.
    #[error("the reply of another collector cannot be used: {0}")]
    Unfit(&'static str),
    /// Its time is up.
    #[error("another collector did not answer before the deadline")]
    Deadline,
    /// A peer did not begin it and says why.
    #[error("{}", .0.message())]
    Said(Box<Status>),
    /// The request itself is wrong, or did not come whole.
    #[error("{}", .0.message())]
    Request(Box<Status>),
}

/// A call that is to be handed over.
pub(in crate::rpc) struct Errand {
    /// To invoke; its place is held until the answer has been passed on.
    permit: Permit,
    /// Full name, or the last segment of it.
    service: ServiceName,
    method: MethodName,
    /// Who is to run it; `None`: anybody.
    target: Option<CollectorId>,
    types: Option<MethodRef>,
    /// Where it has been.
    visited: Vec<CollectorId>,
    /// Of unary calls.
    deadline: Deadline,
    /// What its client asked for.
    asked: Option<Duration>,
}

impl Errand {
    /// * `permit`: to invoke.
    /// * `extensions`: of a request that came through the edge.
    pub(in crate::rpc) fn new(
        permit: Permit,
        (service, method): (ServiceName, MethodName),
        extensions: &http::Extensions,
    ) -> Result<Self, Status> {
        let visited = extensions.get::<Forwarded>().map(|forwarded| forwarded.visited.clone()).unwrap_or_default();
        let (deadline, asked) = (edge::deadline_of(extensions)?, edge::asked_of(extensions)?);
        Ok(Self { permit, service, method, target: None, types: None, visited, deadline, asked })
    }

    /// The same, for this collector and no other.
    pub(in crate::rpc) fn to(self, target: Option<CollectorId>) -> Self {
        Self { target, ..self }
    }

    /// The same, of a method whose types are known here.
    pub(in crate::rpc) fn typed(self, types: Option<MethodRef>) -> Self {
        Self { types, ..self }
    }

    /// The collector that it is for, if it is for one.
    pub(in crate::rpc) fn target(&self) -> Option<&CollectorId> {
        self.target.as_ref()
    }

    /// The method, where its types are known here.
    pub(in crate::rpc) fn types(&self) -> Option<&Method> {
        self.types.as_ref().map(MethodRef::method)
    }

    fn namespace(&self) -> &Namespace {
        self.permit.namespace()
    }
}

/// Hands calls over. Clones share it.
#[derive(Clone)]
pub(in crate::rpc) struct Forwarder(Arc<Inner>);

struct Inner {
    mesh: Mesh,
    lines: Lines,
    tenancy: Tenancy,
    input_max: usize,
    output_max: usize,
    stream_longest: Duration,
}

/// A request, as often as it has to be sent.
struct Parcel {
    path: Uri,
    headers: HeaderMap,
    payload: Payload,
}

enum Payload {
    Whole(Bytes),
    Lent(Home),
}

impl Payload {
    /// Once more; `None` if some of it was read before.
    fn body(&self) -> Option<Body> {
        match self {
            Self::Whole(bytes) => Some(Body::new(Full::new(bytes.clone()))),
            Self::Lent(home) => home.lend().map(Body::new),
        }
    }
}

impl Forwarder {
    /// * `limits`: of one message, and how long a stream may last.
    pub(in crate::rpc) fn new(mesh: Mesh, lines: Lines, tenancy: Tenancy, limits: &Limits) -> Self {
        let (input_max, output_max, stream_longest) = (limits.input_bytes, limits.output_bytes, limits.stream());
        Self(Arc::new(Inner { mesh, lines, tenancy, input_max, output_max, stream_longest }))
    }

    /// This collector's id.
    pub(in crate::rpc) fn own(&self) -> &CollectorId {
        self.0.mesh.own()
    }

    /// Hands a native call over, of whichever kind it is.
    pub(in crate::rpc) async fn native(
        &self,
        errand: Errand,
        request: Request<Body>,
    ) -> Result<Response<Body>, Handover> {
        let inner = &*self.0;
        let offered = inner.route(&errand, &[])?.method;
        let known = errand.types();
        let (client, server) = match (known, offered) {
            (Some(method), _) => (method.client_streaming, method.server_streaming),
            (None, Some(method)) => (method.client_streaming, method.server_streaming),
            (None, None) => (true, true),
        };
        // The client's own deadline for streams, as where a stream is answered here.
        let longest = inner.stream_longest;
        let deadline = match server {
            true => Deadline::after(errand.asked.map_or(longest, |asked| asked.min(longest))),
            false => errand.deadline,
        };
        let (head, body) = request.into_parts();
        let leash = tokio_util::sync::CancellationToken::new();
        let held = leash.clone().drop_guard();
        let payload = match client {
            true => Payload::Lent(Home::new(body, leash)),
            false => Payload::Whole(collect(body, inner.input_max, errand.deadline).await?),
        };
        let path = path(head.uri.path())?;
        let parcel = Parcel { path, headers: travelling(&head.headers, errand.namespace()), payload };
        let (response, attempt) = inner.send(&errand, &parcel, deadline).await?;
        if server {
            let Errand { types, permit, .. } = errand;
            return reply::passing(response, (inner.output_max, types), deadline, (attempt, held, permit));
        }
        let mut answer = reply::of_peer(response, inner.output_max, deadline, attempt).await?;
        answer.check(known)?;
        Ok(answer.into_response())
    }

    /// Hands a unary call of the node's own over.
    ///
    /// * `path`: of the RPC.
    /// * `message`: encoded.
    pub(in crate::rpc) async fn unary(
        &self,
        errand: &Errand,
        path_: &'static str,
        metadata: &HeaderMap,
        message: &[u8],
    ) -> Result<Answer, Handover> {
        let framed = framed(message).ok_or_else(|| too_large(self.0.input_max))?;
        let mut headers = travelling(metadata, errand.namespace());
        headers.insert(CONTENT_TYPE, reply::GRPC);
        headers.remove("grpc-encoding");
        let parcel = Parcel { path: path(path_)?, headers, payload: Payload::Whole(framed) };
        let (response, attempt) = self.0.send(errand, &parcel, errand.deadline).await?;
        let most = self.0.output_max.saturating_add(AROUND);
        reply::of_peer(response, most, errand.deadline, attempt).await
    }
}

impl Inner {
    fn route(&self, errand: &Errand, tried: &[CollectorId]) -> Result<Found, NoRoute> {
        self.mesh.route(&Wanted {
            own: self.mesh.own(),
            namespace: errand.namespace(),
            service: errand.service.as_str(),
            method: errand.method.as_str(),
            target: errand.target.as_ref(),
            visited: &errand.visited,
            tried,
        })
    }

    /// The head of the answer of a peer that has begun the call.
    async fn send(
        &self,
        errand: &Errand,
        parcel: &Parcel,
        deadline: Deadline,
    ) -> Result<(Response<Body>, Attempt), Handover> {
        let sent = timeout_at(deadline.instant(), self.try_all(errand, parcel, deadline)).await;
        sent.map_err(|_elapsed| Handover::Deadline)?
    }

    async fn try_all(
        &self,
        errand: &Errand,
        parcel: &Parcel,
        deadline: Deadline,
    ) -> Result<(Response<Body>, Attempt), Handover> {
        let most = if errand.visited.is_empty() { ATTEMPTS } else { ATTEMPTS_BETWEEN };
        let (mut tried, mut attempts, mut last) = (Vec::new(), 0, None);
        for _ in 0..LOOKS {
            let found = match (self.route(errand, &tried), &last) {
                (Ok(found), _) => found,
                // A connection was lost, and nobody else is there: perhaps another connection is.
                (Err(_), Some(Handover::NeverBegan)) if !tried.is_empty() => {
                    tried.clear();
                    sleep(PAUSE.saturating_mul(u32::try_from(attempts).unwrap_or(1))).await;
                    continue;
                }
                (Err(why), _) => return Err(last.unwrap_or(why.into())),
            };
            tried.push(found.peer.id.clone());
            let Some(body) = parcel.payload.body() else { break };
            let Some(mut attempt) = found.peer.attempt(Instant::now()) else { continue };
            attempts += 1;
            match self.try_one(errand, parcel, &found, (body, deadline), &mut attempt).await {
                Ok(response) => return Ok((response, attempt)),
                Err(why @ (Handover::NeverBegan | Handover::Said(_))) if attempts < most => last = Some(why),
                Err(why) => return Err(why),
            }
        }
        Err(last.unwrap_or(Handover::NeverBegan))
    }

    async fn try_one(
        &self,
        errand: &Errand,
        parcel: &Parcel,
        found: &Found,
        (body, deadline): (Body, Deadline),
        attempt: &mut Attempt,
    ) -> Result<Response<Body>, Handover> {
        let stamp = |key: &LinkKey| self.stamp(errand, parcel, key);
        match self.lines.send(&found.peer.id, errand.namespace(), stamp, parcel.request(body, deadline)).await {
            Ok(response) => match reply::refusal(&response) {
                None => Ok(response),
                Some(status) => {
                    attempt.answered();
                    attempt.ended(Outcome::Refused);
                    tracing::debug!(peer = %found.peer.id, code = ?status.code(), "a peer did not begin a call");
                    Err(Handover::Said(Box::new(status)))
                }
            },
            Err(why) => {
                attempt.failed();
                tracing::debug!(peer = %found.peer.id, %why, "a call did not get to a peer");
                let (outcome, why) = match why {
                    Lost::NeverBegan(_) => (Outcome::Unsent, Handover::NeverBegan),
                    Lost::Unknown(_) => (Outcome::Lost, Handover::Lost),
                };
                attempt.ended(outcome);
                Err(why)
            }
        }
    }

    /// What the peer is told of the call.
    fn stamp(&self, errand: &Errand, parcel: &Parcel, key: &LinkKey) -> HeaderValue {
        let own = self.mesh.own();
        signed(&statement(&self.tenancy, own, &errand.permit, parcel.path.path(), &errand.visited), key)
    }
}

impl Parcel {
    fn request(&self, body: Body, deadline: Deadline) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert("grpc-timeout", timeout(deadline.remaining()));
        request
    }
}

/// What of a client's headers goes on.
fn travelling(headers: &HeaderMap, namespace: &Namespace) -> HeaderMap {
    let goes = headers.iter().filter(|(name, _)| !STAYS.contains(&name.as_str()));
    let mut headers = HeaderMap::new();
    for (name, value) in goes {
        headers.append(name.clone(), value.clone());
    }
    headers.insert(TE, HeaderValue::from_static("trailers"));
    // The peer's default may be another.
    if let Ok(namespace) = HeaderValue::try_from(namespace.as_str()) {
        headers.insert("collector-namespace", namespace);
    }
    headers
}

/// A message with its head; `None` if it is larger than one can be.
pub(in crate::rpc) fn framed(message: &[u8]) -> Option<Bytes> {
    let mut framed = BytesMut::with_capacity(message.len().saturating_add(FRAME));
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).ok()?);
    framed.put_slice(message);
    Some(framed.freeze())
}

fn path(path: &str) -> Result<Uri, Handover> {
    path.parse().map_err(|_| Handover::NeverBegan) // it came as one
}

/// A `grpc-timeout`: at most 8 digits and a unit. Source: PROTOCOL-HTTP2.md.
fn timeout(left: Duration) -> HeaderValue {
    let text = match left.as_micros() {
        micros @ 0..=99_999_999 => format!("{}u", micros.max(1)),
        micros => format!("{}m", (micros / 1_000).min(99_999_999)),
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("1m"))
}

fn too_large(most: usize) -> Handover {
    let message = format!("the request is larger than limits.input_bytes of this node ({most})");
    Handover::Request(Box::new(status::plain(Code::ResourceExhausted, "INPUT_LIMIT", message)))
}

/// All of a request's body, so that it can be sent again.
async fn collect(body: Body, most: usize, deadline: Deadline) -> Result<Bytes, Handover> {
    let collected = timeout_at(deadline.instant(), async {
        let mut body = body;
        let (mut first, mut rest) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|status| Handover::Request(Box::new(status)))?;
            let Ok(data) = frame.into_data() else { continue };
            if first.len() + rest.len() + data.len() > most.saturating_add(FRAME) {
                return Err(too_large(most));
            }
            match first.is_empty() {
                true => first = data,
                false => rest.extend_from_slice(&data),
            }
        }
        Ok(match rest.is_empty() {
            true => first,
            false => [&first[..], &rest[..]].concat().into(),
        })
    });
    collected.await.map_err(|_elapsed| Handover::Deadline)?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_one_connection_or_one_node_stays() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("authorization", "Bearer secret"),
            ("cookie", "a=b"),
            ("grpc-timeout", "9H"),
            ("collector-namespace", "other"),
            ("collector-forward", "x"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
            ("x-tenant", "blue"),
            ("grpc-encoding", "gzip"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let sent = travelling(&headers, &"acme".parse().unwrap());
        let mut names: Vec<_> = sent.keys().map(http::HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["collector-namespace", "grpc-encoding", "te", "traceparent", "x-tenant"]);
        assert_eq!(sent["collector-namespace"], "acme");
    }

    #[test]
    fn timeouts_have_eight_digits_at_most() {
        for (left, text) in [
            (Duration::ZERO, "1u"),
            (Duration::from_millis(250), "250000u"),
            (Duration::from_micros(99_999_999), "99999999u"),
            (Duration::from_secs(100), "100000m"),
            (Duration::from_secs(1_000_000), "99999999m"),
        ] {
            assert_eq!(timeout(left), text);
        }
    }

    #[tokio::test]
    async fn a_request_is_kept_up_to_its_limit() {
        let deadline = Deadline::after(Duration::from_secs(5));
        let body = |bytes: usize| {
            let parts = [vec![0; bytes / 2], vec![1; bytes - bytes / 2]]
                .map(|part| Ok::<_, Status>(http_body::Frame::data(Bytes::from(part))));
            Body::new(http_body_util::StreamBody::new(futures_util::stream::iter(parts)))
        };
        for bytes in [1, 104, 105] {
            assert_eq!(collect(body(bytes), 100, deadline).await.unwrap().len(), bytes);
        }
        let Err(Handover::Request(over)) = collect(body(106), 100, deadline).await else { panic!("it is too large") };
        assert_eq!(over.code(), Code::ResourceExhausted);
    }
}
