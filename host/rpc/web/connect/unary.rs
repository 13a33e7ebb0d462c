//! One message each way.

use super::super::envelope::{self, Messages};
use super::super::json::TEXT_MAX;
use super::super::kind::Codec;
use super::{Target, broken, copy_metadata, error, pulled, request};
use crate::domain::Deadline;
use crate::rpc::{REPLY_MAX, status};
use bytes::Bytes;
use futures_util::stream;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tonic::body::Body;
use tonic::{Code, Status};

/// Largest binary message whose sender does not say its length. 4 MiB: it has to be kept until its end, where one with a
/// said length passes through, up to what its service takes.
const UNSAID_MAX: usize = 4 << 20;
/// How much later than the call's own deadline its reply is given up; the call's own end knows more.
const SLACK: Duration = Duration::from_millis(100);

/// Calls `grpc` and makes its answer a bare message or an error.
pub(super) async fn call<F, Fut>(target: Target, codec: Codec, request: Request<Body>, grpc: F) -> Response<Body>
where
    F: FnOnce(Request<Body>) -> Fut,
    Fut: Future<Output = Response<Body>>,
{
    let (parts, body) = request.into_parts();
    let inner = match request::head(&parts, codec) {
        Ok((head, gzip)) => head.map(|_| sealed(target.clone(), codec, body, gzip)),
        Err(status) => return error::unary(&status, &HeaderMap::new()),
    };
    let (head, body) = grpc(inner).await.into_parts();
    let deadline = head.extensions.get::<Deadline>().copied();
    let reply = reply(target, codec, &head.headers, body);
    let reply = match deadline {
        None => reply.await,
        Some(deadline) => {
            let late = || status::plain(Code::DeadlineExceeded, "DEADLINE", "the reply did not end in time");
            let ended = tokio::time::timeout_at(deadline.instant() + SLACK, reply).await;
            ended.unwrap_or_else(|_| Err((late(), HeaderMap::new())))
        }
    };
    match reply {
        Err((status, trailers)) => error::unary(&status, &trailers),
        Ok((body, trailers)) => {
            let mut response = Response::new(Body::new(body));
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(codec.unary()));
            copy_metadata(&head.headers, headers);
            error::add_trailers(headers, &trailers);
            response
        }
    }
}

/// The request's body as one gRPC message, made when the inner door reads it.
///
/// * `gzip`: the body is compressed; a binary one stays so.
fn sealed(target: Target, codec: Codec, body: Body, gzip: bool) -> Body {
    let flags = if gzip { envelope::COMPRESSED } else { 0 };
    match (codec, body.size_hint().exact()) {
        (Codec::Json, _) => pulled(stream::once(async move {
            let mut text = envelope::whole(body, TEXT_MAX).await?;
            if gzip {
                text = envelope::decompress(&text, TEXT_MAX)?;
            }
            let types = target.types().await?;
            envelope::seal(0, &target.json.to_binary(&types.input, text).await?)
        })),
        (Codec::Proto, Some(len)) => match envelope::head(flags, len) {
            Ok(head) => Body::new(Headed { head: Some(Bytes::copy_from_slice(&head)), body }),
            Err(status) => pulled(stream::once(async { Err(status) })),
        },
        (Codec::Proto, None) => pulled(stream::once(async move {
            let message = envelope::whole(body, UNSAID_MAX).await?;
            envelope::seal(flags, &message)
        })),
    }
}

/// Takes the one message out of the answer.
///
/// * errors: how the call failed, with its trailers.
async fn reply(
    target: Target,
    codec: Codec,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Reply, HeaderMap), (Status, HeaderMap)> {
    let bare = |status| (status, HeaderMap::new());
    let mut messages = Messages::new(body, REPLY_MAX, false);
    let message = messages.next().await.map_err(|why| bare(broken(why)))?;
    if message.is_some() && messages.next().await.map_err(|why| bare(broken(why)))?.is_some() {
        let text =
            "the method answers with a stream: call it with application/connect+json or application/connect+proto";
        return Err(bare(status::plain(Code::Unimplemented, "STREAMING", text)));
    }
    // An answer without a body says everything in its headers.
    let trailers = messages.trailers().unwrap_or_else(|| headers.clone());
    let ended = match error::status_of(&trailers) {
        Some(status) if status.code() == Code::Ok => message,
        Some(status) => return Err((status, trailers)),
        None => None,
    };
    let unfinished = || status::plain(Code::Internal, "INTERNAL", "the call ended without an answer");
    let message = ended.ok_or_else(|| bare(unfinished()))?;
    let data = match codec {
        Codec::Proto => message,
        Codec::Json => {
            let types = target.types().await.map_err(bare)?;
            let text = target.json.to_text(&types.output, message).await;
            text.map_err(|status| (status, trailers.clone()))?
        }
    };
    Ok((Reply { data: Some(data), _call: messages.into_body() }, trailers))
}

/// A message of known length behind the head of its envelope, passed on piece by piece. HTTP keeps the length true.
struct Headed {
    head: Option<Bytes>,
    body: Body,
}

impl HttpBody for Headed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.head.take() {
            Some(head) => Poll::Ready(Some(Ok(Frame::data(head)))),
            None => Pin::new(&mut self.body).poll_frame(cx),
        }
    }
}

/// The bare reply. It holds on to the call's own body, so that a draining node waits until the reply is out.
struct Reply {
    data: Option<Bytes>,
    _call: Body,
}

impl HttpBody for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let data = self.data.take().filter(|data| !data.is_empty());
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.data.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.data.as_ref().map_or(0, |data| data.len() as u64))
    }
}
