//! A request's body as the transport brings it, before anybody reads it.

use super::status;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tonic::{Code, Status};

/// A request's body, held to its promise: one that breaks off is an error, not an end, or a guest would take half of an
/// upload for the whole. Trailers are passed over: gRPC requests have none, and they must not override what the head said
/// and others have checked.
pub(super) struct Whole<B> {
    body: Pin<Box<B>>,
    http2: bool,
}

impl<B: HttpBody> Whole<B> {
    /// * `http2`: the transport tells whether a body has ended.
    pub(super) fn new(body: B, http2: bool) -> Self {
        Self { body: Box::pin(body), http2 }
    }
}

impl<B> HttpBody for Whole<B>
where
    B: HttpBody<Data = Bytes>,
    B::Error: Into<tonic::codegen::StdError>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let broken = || status::plain(Code::Unavailable, "REQUEST_BROKEN", "the request broke off");
        Poll::Ready(match ready!(self.body.as_mut().poll_frame(cx)) {
            Some(Ok(frame)) if frame.is_data() => Some(Ok(frame)),
            Some(Ok(_trailers)) => None,
            Some(Err(why)) => {
                tracing::debug!(why = %why.into(), "a request broke off");
                Some(Err(broken()))
            }
            None if self.http2 && !self.body.is_end_stream() => Some(Err(broken())),
            None => None,
        })
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
    use futures_util::stream;
    use http_body_util::{BodyExt as _, StreamBody};

    /// A body of these frames; what it says of its end is StreamBody's: nothing.
    fn body(frames: Vec<Result<Frame<Bytes>, Status>>) -> impl HttpBody<Data = Bytes, Error = Status> {
        StreamBody::new(stream::iter(frames))
    }

    fn data() -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(Bytes::from_static(b"half")))
    }

    #[tokio::test]
    async fn what_breaks_off_is_an_error_and_no_end() {
        let cut = Whole::new(body(vec![data()]), true).collect().await;
        assert_eq!(cut.unwrap_err().code(), Code::Unavailable, "no end was seen");
        let reset = Whole::new(body(vec![data(), Err(Status::cancelled("reset"))]), true).collect().await;
        assert_eq!(reset.unwrap_err().code(), Code::Unavailable, "tonic takes CANCELLED for an end");
        let first = Whole::new(body(vec![data()]), false).collect().await;
        assert_eq!(first.unwrap().to_bytes(), "half", "HTTP/1.1 tells of a broken body by an error");
    }

    #[tokio::test]
    async fn trailers_do_not_reach_anybody() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-user", http::HeaderValue::from_static("admin"));
        let whole = Whole::new(body(vec![data(), Ok(Frame::trailers(trailers))]), true).collect().await.unwrap();
        assert!(whole.trailers().is_none());
    }
}
