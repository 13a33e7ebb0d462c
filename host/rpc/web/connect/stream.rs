//! Enveloped messages, translated one at a time: whoever is slower sets the pace.

use super::super::envelope::{END_STREAM, Messages, Passing, seal};
use super::super::json::TEXT_MAX;
use super::super::kind::Codec;
use super::{Source, Target, broken, copy_metadata, error, pulled, request};
use crate::rpc::{REPLY_MAX, status};
use bytes::Bytes;
use futures_util::stream;
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Request, Response};
use tonic::body::Body;
use tonic::{Code, Status};

/// Calls `grpc` and makes its answer envelopes with an end.
pub(super) async fn call<F, Fut>(target: Target, codec: Codec, request: Request<Body>, grpc: F) -> Response<Body>
where
    F: FnOnce(Request<Body>) -> Fut,
    Fut: Future<Output = Response<Body>>,
{
    let (parts, body) = request.into_parts();
    let inner = match request::head(&parts, codec) {
        Ok((head, gzip)) => head.map(|_| messages(target.clone(), codec, body, gzip)),
        Err(status) => return failed(codec, &status),
    };
    let (head, body) = grpc(inner).await.into_parts();
    let source = Source::new(target, codec, body, REPLY_MAX, false);
    let mut response = answer(codec, envelopes(source, head.headers.clone()));
    copy_metadata(&head.headers, response.headers_mut());
    response
}

/// A stream that ends before it began.
pub(super) fn failed(codec: Codec, status: &Status) -> Response<Body> {
    let end = seal(END_STREAM, &error::end_stream(Some(status), &HeaderMap::new()));
    answer(codec, pulled(stream::once(async { end })))
}

fn answer(codec: Codec, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(codec.stream()));
    let encodings = HeaderName::from_static("connect-accept-encoding");
    headers.insert(encodings, HeaderValue::from_static("gzip"));
    response
}

impl Source {
    /// * `max`: bytes of the longest message that has to be kept whole.
    /// * `gzip`: messages may be compressed.
    fn new(target: Target, codec: Codec, body: Body, max: usize, gzip: bool) -> Self {
        match codec {
            Codec::Proto => Self::Proto(Passing::new(body, gzip)),
            Codec::Json => Self::Json(Messages::new(body, max, gzip), target),
        }
    }

    /// Whether nothing of a message has been passed on yet that is not whole.
    fn is_between(&self) -> bool {
        match self {
            Self::Proto(passing) => passing.is_between(),
            Self::Json(..) => true,
        }
    }

    fn trailers(&mut self) -> Option<HeaderMap> {
        match self {
            Self::Proto(passing) => passing.trailers(),
            Self::Json(messages, _) => messages.trailers(),
        }
    }

    /// Next bytes of the gRPC request.
    async fn next_request(&mut self) -> Result<Option<Bytes>, Status> {
        match self {
            Self::Proto(passing) => passing.next().await,
            Self::Json(messages, target) => {
                let Some(text) = messages.next().await? else { return Ok(None) };
                let types = target.types().await?;
                seal(0, &target.json.to_binary(&types.input, text).await?).map(Some)
            }
        }
    }

    /// Next bytes of the Connect answer.
    async fn next_reply(&mut self) -> Result<Option<Bytes>, Status> {
        match self {
            Self::Proto(passing) => passing.next().await.map_err(broken),
            Self::Json(messages, target) => {
                let Some(message) = messages.next().await.map_err(broken)? else { return Ok(None) };
                let types = target.types().await?;
                seal(0, &target.json.to_text(&types.output, message).await?).map(Some)
            }
        }
    }
}

/// The request's messages as gRPC's, each translated when the inner door reads it.
fn messages(target: Target, codec: Codec, body: Body, gzip: bool) -> Body {
    let source = Source::new(target, codec, body, TEXT_MAX, gzip);
    pulled(stream::try_unfold(source, |mut source| async move {
        let piece = source.next_request().await?;
        Ok(piece.map(|piece| (piece, source)))
    }))
}

/// The answer's messages, then how it ended. The call's own body is held until that is out, so a draining node waits.
///
/// * `headers`: of the answer; the end is there when it has no body.
fn envelopes(source: Source, headers: HeaderMap) -> Body {
    pulled(stream::try_unfold((source, headers, false), |(mut source, headers, ended)| async move {
        if ended {
            return Ok(None);
        }
        let end = match source.next_reply().await {
            Ok(Some(piece)) => return Ok(Some((piece, (source, headers, false)))),
            Ok(None) => end(&source.trailers().unwrap_or_else(|| headers.clone())),
            // Half a message cannot be followed by an end: the connection has to say that it is over.
            Err(why) if !source.is_between() => return Err(why),
            Err(why) => error::end_stream(Some(&why), &HeaderMap::new()),
        };
        Ok(Some((seal(END_STREAM, &end)?, (source, headers, true))))
    }))
}

/// The last message for these trailers.
fn end(trailers: &HeaderMap) -> Vec<u8> {
    match error::status_of(trailers) {
        Some(status) if status.code() == Code::Ok => error::end_stream(None, trailers),
        Some(status) => error::end_stream(Some(&status), trailers),
        None => {
            let status = status::plain(Code::Internal, "INTERNAL", "the call ended without an answer");
            error::end_stream(Some(&status), &HeaderMap::new())
        }
    }
}
