//! Native calls: `/<package>.<Service>/<Method>` of what tenants registered and deployed, without `Any` around it.
//!
//! Messages pass as bytes: they are checked, never decoded. What no code here answers is handed to a collector that has
//! some. Source: semantics.md section 5, PROTOCOL-HTTP2.md.

use super::edge::{self, ReceiptSlot, RequestId};
use super::mesh::{Errand, Forwarder, Handover};
use super::{convert, status};
use crate::dispatch::{DispatchError, Dispatcher, Here, Ready, Requests, StreamCall};
use crate::domain::{
    Deadline, Fault, FaultCode, Limits, MethodName, Namespace, Outcome, Receipt, ServiceName, one_line,
};
use crate::mesh::NoRoute;
use crate::registry::CallError;
use crate::tenancy::{Caller, Tenancy, Verb};
use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::{Stream, StreamExt as _, stream};
use http::{Request as HttpRequest, Response as HttpResponse};
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Response, Status, Streaming};
use tower::Service;

/// Answers native calls.
#[derive(Clone)]
pub struct Native {
    shared: Arc<Shared>,
}

struct Shared {
    dispatcher: Arc<Dispatcher>,
    tenancy: Tenancy,
    forwarder: Forwarder,
    default: Namespace,
    input_max: usize,
    output_max: usize,
    stream_longest: Duration,
}

impl Native {
    /// * `default`: the namespace of calls that name none.
    /// * `forwarder`: where calls go that nothing here answers.
    /// * `limits`: of one message, and how long a stream may last.
    pub(super) fn new(
        dispatcher: Arc<Dispatcher>,
        (tenancy, forwarder): (Tenancy, Forwarder),
        default: Namespace,
        limits: &Limits,
    ) -> Self {
        let (input_max, output_max) = (limits.input_bytes, limits.output_bytes);
        let shared =
            Shared { dispatcher, tenancy, forwarder, default, input_max, output_max, stream_longest: limits.stream() };
        Self { shared: Arc::new(shared) }
    }

    /// Answers one request. The path decides which of the four kinds it is.
    pub(super) async fn call(&self, request: HttpRequest<Body>) -> HttpResponse<Body> {
        let id = request.extensions().get::<RequestId>().cloned().unwrap_or_default();
        let asked = match self.shared.asked(&request, &id) {
            Ok(asked) => asked,
            Err(refused) => return refused.into_http(),
        };
        let Asked { caller, namespace, service, method } = &asked;
        let ready = match self.shared.dispatcher.resolve(caller, namespace, service, method) {
            Ok(ready) => ready,
            // Boxed: seldom, and larger than what is answered here.
            Err(why) => {
                return Box::pin(self.elsewhere(why, asked, request, id)).await.unwrap_or_else(Status::into_http);
            }
        };
        let (client, server) = (ready.method().client_streaming, ready.method().server_streaming);
        let grpc = tonic::server::Grpc::new(BytesCodec).accept_compressed(CompressionEncoding::Gzip);
        let mut grpc = grpc.apply_max_message_size_config(Some(self.shared.input_max), Some(self.shared.output_max));
        let call = Call { shared: Arc::clone(&self.shared), ready, id };
        // The client's side is read here in every case, so that what is wrong with its messages is told in our words.
        match (client, server) {
            (false, false) => grpc.client_streaming(once(|request| call.unary(request)), request).await,
            (true, false) => grpc.client_streaming(once(|request| call.one_reply(request)), request).await,
            (_, true) => grpc.streaming(once(|request| call.replies(request, client)), request).await,
        }
    }
}

/// What a request asks for, by its path and its metadata.
struct Asked {
    caller: Caller,
    namespace: Namespace,
    service: ServiceName,
    method: MethodName,
}

impl Native {
    /// Hands a call over that nothing here answers.
    ///
    /// * `why`: what is said if nobody else answers it either.
    async fn elsewhere(
        &self,
        why: DispatchError,
        asked: Asked,
        request: HttpRequest<Body>,
        id: RequestId,
    ) -> Result<HttpResponse<Body>, Status> {
        match &why {
            DispatchError::Call(CallError::NoService { .. } | CallError::NoMethod { .. })
            | DispatchError::NoImplementation(_) => {}
            DispatchError::Draining => return Err(status::never_began(status::dispatch(why, &id))),
            _ => return Err(status::dispatch(why, &id)),
        }
        let Shared { dispatcher, tenancy, forwarder, .. } = &*self.shared;
        let Asked { caller, namespace, service, method } = asked;
        let permit = tenancy.authorize(&caller, &namespace, Verb::Invoke).map_err(|why| status::refused(&why, &id))?;
        let types = match dispatcher.here(&permit, &service, &method) {
            Ok(Here::Nowhere(types)) => types,
            // What is here has no such method: nobody else's is meant.
            _ if matches!(why, DispatchError::Call(CallError::NoMethod { .. })) => {
                return Err(status::dispatch(why, &id));
            }
            _ => None,
        };
        let errand = Errand::new(permit, (service, method), request.extensions())?.typed(types);
        match forwarder.native(errand, request).await {
            Ok(answer) => Ok(answer),
            Err(Handover::Route(NoRoute::Nobody)) if dispatcher.is_draining() => {
                Err(status::never_began(status::dispatch(DispatchError::Draining, &id)))
            }
            Err(Handover::Route(NoRoute::Nobody)) => Err(status::never_began(status::dispatch(why, &id))),
            Err(why) => Err(status::handover(why, &id)),
        }
    }
}

impl Shared {
    fn asked(&self, request: &HttpRequest<Body>, id: &RequestId) -> Result<Asked, Status> {
        let unknown = || status::plain(Code::Unimplemented, "NO_SERVICE", "the path names no service and method");
        let (service, method) =
            request.uri().path().get(1..).and_then(|path| path.split_once('/')).ok_or_else(unknown)?;
        let service = FromStr::from_str(service).map_err(|_| unknown())?;
        let method = FromStr::from_str(method).map_err(|_| unknown())?;
        let namespace =
            convert::namespace(request.headers(), &self.default).map_err(|why| status::bad_request(why, id))?;
        let caller = edge::caller_of(request.extensions())?;
        Ok(Asked { caller, namespace, service, method })
    }
}

/// One call of one method.
struct Call {
    shared: Arc<Shared>,
    ready: Ready,
    id: RequestId,
}

impl Call {
    async fn unary(self, request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
        let deadline = edge::deadline(&request)?;
        let (metadata, _, mut streaming) = request.into_parts();
        let metadata = convert::visible_metadata(&metadata);
        let input = only(&mut streaming).await?;
        let outcome = self.shared.dispatcher.unary(self.ready, input, metadata, deadline).await;
        let outcome = outcome.map_err(|why| status::dispatch(why, &self.id))?;
        let reply = outcome.reply.map_err(|fault| status::fault(fault, &outcome.receipt))?;
        Ok(answered(reply, outcome.receipt))
    }

    /// A client that streams, and one reply.
    async fn one_reply(self, request: Request<Streaming<Bytes>>) -> Result<Response<Bytes>, Status> {
        let deadline = edge::deadline(&request)?;
        let (metadata, _, streaming) = request.into_parts();
        let metadata = convert::visible_metadata(&metadata);
        let call = self.shared.dispatcher.stream(self.ready, requests(streaming), metadata, deadline);
        one_reply(call, &self.id).await
    }

    /// A server that streams.
    ///
    /// * `client`: whether the client does too.
    async fn replies(self, request: Request<Streaming<Bytes>>, client: bool) -> Result<Response<Replies>, Status> {
        // The client's own deadline if it named one, else the node's for streams.
        let longest = self.shared.stream_longest;
        let deadline = Deadline::after(edge::asked(&request)?.map_or(longest, |asked| asked.min(longest)));
        let (metadata, _, mut streaming) = request.into_parts();
        let metadata = convert::visible_metadata(&metadata);
        let requests = match client {
            true => requests(streaming),
            false => Box::pin(stream::iter([Ok(only(&mut streaming).await?)])),
        };
        let call = self.shared.dispatcher.stream(self.ready, requests, metadata, deadline);
        Ok(Replies::response(call, self.id))
    }
}

/// `answer` as the service that tonic wants for a method, and calls once.
fn once<T, Fut>(
    answer: impl FnOnce(Request<Streaming<Bytes>>) -> Fut,
) -> impl Service<
    Request<Streaming<Bytes>>,
    Response = Response<T>,
    Error = Status,
    Future = impl Future<Output = Result<Response<T>, Status>>,
>
where
    Fut: Future<Output = Result<Response<T>, Status>>,
{
    let mut answer = Some(answer);
    tower::service_fn(move |request| {
        // In a box: tonic's own functions would keep it three times.
        let answering = answer.take().map(|answer| Box::pin(answer(request)));
        async {
            let twice = || status::plain(Code::Internal, "INTERNAL", "the call was taken twice");
            answering.ok_or_else(twice)?.await
        }
    })
}

/// A reply whose trailers will carry the receipt.
fn answered(reply: Bytes, receipt: Receipt) -> Response<Bytes> {
    let mut response = Response::new(reply);
    response.extensions_mut().insert(ReceiptSlot::of(receipt));
    response
}

/// What a client sends, with its transport's errors as faults.
fn requests(streaming: Streaming<Bytes>) -> Requests {
    let fault = |status: Status| {
        // tonic says INTERNAL of what its peer did wrong; INTERNAL is always a bug of ours.
        let code = FaultCode::from_number(status.code().into()).filter(|code| *code != FaultCode::Internal);
        let message = one_line(status.message(), 256);
        Fault { code: code.unwrap_or(FaultCode::InvalidArgument), message, details: Vec::new() }
    };
    Box::pin(streaming.map(move |message| message.map_err(fault)))
}

/// The one message of a call whose client does not stream. What is wrong with its framing is the client's doing, which
/// tonic would call INTERNAL. Source: grpc/doc/statuscodes.md, cardinality violations.
async fn only(streaming: &mut Streaming<Bytes>) -> Result<Bytes, Status> {
    let count =
        |how| status::plain(Code::Unimplemented, "MESSAGE_COUNT", format!("the method takes one message, {how}"));
    let theirs = |status: Status| match status.code() {
        Code::Internal => status::plain(Code::InvalidArgument, "FRAMING", one_line(status.message(), 256)),
        _ => status,
    };
    let first = streaming.message().await.map_err(theirs)?.ok_or_else(|| count("none came"))?;
    match streaming.message().await.map_err(theirs)? {
        None => Ok(first),
        Some(_) => Err(count("more came")),
    }
}

/// The one reply of a method whose client streams.
async fn one_reply(mut call: StreamCall, id: &RequestId) -> Result<Response<Bytes>, Status> {
    let first = call.replies.recv().await;
    if call.replies.recv().await.is_some() {
        return Err(status::dispatch(DispatchError::Replies { how: "several", receipt: None }, id));
    }
    let outcome = ended(call.end.await, id)?;
    outcome.reply.map_err(|fault| status::fault(fault, &outcome.receipt))?;
    let Some(reply) = first else {
        let receipt = Some(Box::new(outcome.receipt));
        return Err(status::dispatch(DispatchError::Replies { how: "no", receipt }, id));
    };
    Ok(answered(reply, outcome.receipt))
}

type End = Result<Result<Outcome, DispatchError>, tokio::sync::oneshot::error::RecvError>;

fn ended(end: End, id: &RequestId) -> Result<Outcome, Status> {
    match end {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(why)) => Err(status::dispatch(why, id)),
        // Its task is gone without a word: the node's end took it along.
        Err(_) => Err(status::dispatch(DispatchError::Draining, id)),
    }
}

/// The replies of a streaming call, then how it ended. Dropping it stops the guest.
struct Replies {
    call: Option<StreamCall>,
    id: RequestId,
    receipt: ReceiptSlot,
}

impl Replies {
    fn response(call: StreamCall, id: RequestId) -> Response<Self> {
        let receipt = ReceiptSlot::default();
        let mut response = Response::new(Self { call: Some(call), id, receipt: receipt.clone() });
        response.extensions_mut().insert(receipt);
        response
    }
}

impl Stream for Replies {
    type Item = Result<Bytes, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(call) = &mut this.call else { return Poll::Ready(None) };
        if let Some(reply) = std::task::ready!(call.replies.poll_recv(cx)) {
            return Poll::Ready(Some(Ok(reply)));
        }
        let end = std::task::ready!(Pin::new(&mut call.end).poll(cx));
        this.call = None;
        Poll::Ready(match ended(end, &this.id) {
            Err(status) => Some(Err(status)),
            Ok(Outcome { reply: Err(fault), receipt }) => Some(Err(status::fault(fault, &receipt))),
            Ok(Outcome { reply: Ok(_), receipt }) => {
                this.receipt.fill(receipt);
                None
            }
        })
    }
}

/// Room for a message before it is seen. 1 KiB: most fit, and what does not gets as much as it says; tonic's own is 8 KiB,
/// twice per call, which costs an allocator more than all else together.
const ROOM: usize = 1 << 10;
/// What gathers before it is written. 32 KiB: tonic's own.
const GATHERS: usize = 32 << 10;

/// Messages as the bytes that they are.
#[derive(Debug, Clone, Copy)]
struct BytesCodec;

impl Codec for BytesCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ROOM, GATHERS)
    }
}

impl Decoder for BytesCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(ROOM, GATHERS)
    }
}
