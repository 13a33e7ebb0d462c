//! A request's body as the transport brings it, before anybody reads it.

use super::heads::Heads;
use super::status;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Version};
use http_body::{Body as HttpBody, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::{Code, Status};

/// How long a message may take that comes in a trickle. 10 s, by threats.md T07.
const SLOWEST: Duration = Duration::from_secs(10);
/// What has to come in that time. 1 KiB: a hundredth of what the slowest line carries.
const LEAST: usize = 1 << 10;

/// A request's body, held to its promise: one that breaks off is an error, not an end, or a guest would take half of an
/// upload for the whole; so is one that trickles in, or it would hold its place and its memory. Trailers are passed over:
/// gRPC requests have none, and they must not override what the head said and others have checked.
pub(super) struct Whole<B> {
    body: Pin<Box<B>>,
    http2: bool,
    pace: Pace,
}

impl<B: HttpBody> Whole<B> {
    /// * `head`: what the transport knows of the request.
    pub(super) fn new(body: B, version: Version, headers: &HeaderMap) -> Self {
        Self { body: Box::pin(body), http2: version == Version::HTTP_2, pace: Pace::new(is_framed(headers), SLOWEST) }
    }
}

/// Whether the body is of messages with their length before each, so that silence between two is nobody's fault.
fn is_framed(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let framed = [&b"application/grpc"[..], b"application/connect+"].iter().any(|kind| content_type.starts_with(kind));
    framed && !content_type.starts_with(b"application/grpc-web-text")
}

/// How fast a message comes. Only waiting for the client counts, not what the node takes to read on.
struct Pace {
    framed: bool,
    slowest: Duration,
    /// Messages with their heads: a flag and four bytes of length.
    messages: Heads<5>,
    /// What came since `waited` began.
    came: usize,
    waited: Duration,
    since: Option<Instant>,
    limit: Option<Pin<Box<Sleep>>>,
}

impl Pace {
    fn new(framed: bool, slowest: Duration) -> Self {
        let (messages, waited) = (Heads::new(), Duration::ZERO);
        Self { framed, slowest, messages, came: 0, waited, since: None, limit: None }
    }

    /// Whether the client owes the rest of a message.
    fn is_midway(&self) -> bool {
        !self.framed || self.messages.is_midway()
    }

    /// Something has come.
    fn came(&mut self, bytes: &[u8]) {
        if let Some(since) = self.since.take() {
            self.waited += since.elapsed();
        }
        self.limit = None;
        self.came += bytes.len();
        if self.framed {
            self.follow(bytes);
        }
        if self.came >= LEAST || !self.is_midway() {
            (self.came, self.waited) = (0, Duration::ZERO);
        }
    }

    /// Finds where messages end.
    fn follow(&mut self, mut bytes: &[u8]) {
        while let Some([_flags, length @ ..]) = self.messages.next(&mut bytes) {
            self.messages.skip(u32::from_be_bytes(length) as usize);
        }
    }

    /// Nothing has come: ready if that is so for too long.
    fn poll_late(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.is_midway() {
            return Poll::Pending;
        }
        let since = *self.since.get_or_insert_with(Instant::now);
        let left = self.slowest.saturating_sub(self.waited);
        self.limit.get_or_insert_with(|| Box::pin(sleep_until(since + left))).as_mut().poll(cx)
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
        let Poll::Ready(frame) = self.body.as_mut().poll_frame(cx) else {
            let slow = || status::plain(Code::DeadlineExceeded, "REQUEST_SLOW", "the request came in too slowly");
            return self.pace.poll_late(cx).map(|()| Some(Err(slow())));
        };
        Poll::Ready(match frame {
            Some(Ok(frame)) if frame.is_data() => {
                self.pace.came(frame.data_ref().map_or(&[][..], |data| data));
                Some(Ok(frame))
            }
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
    use futures_util::stream::{self, StreamExt as _};
    use http_body_util::{BodyExt as _, StreamBody};

    /// A body of these frames; what it says of its end is StreamBody's: nothing.
    fn body(frames: Vec<Result<Frame<Bytes>, Status>>) -> impl HttpBody<Data = Bytes, Error = Status> {
        StreamBody::new(stream::iter(frames))
    }

    fn data() -> Result<Frame<Bytes>, Status> {
        Ok(Frame::data(Bytes::from_static(b"half")))
    }

    fn whole<B: HttpBody>(body: B, version: Version) -> Whole<B> {
        Whole::new(body, version, &HeaderMap::new())
    }

    /// A gRPC request whose parts come with these pauses in milliseconds before them, and then nothing. A message may take
    /// 300 ms.
    fn trickle(parts: Vec<(u64, Vec<u8>)>) -> Whole<impl HttpBody<Data = Bytes, Error = Status>> {
        let part = |(pause, bytes): (u64, Vec<u8>)| async move {
            tokio::time::sleep(Duration::from_millis(pause)).await;
            Ok::<_, Status>(Frame::data(Bytes::from(bytes)))
        };
        let parts = stream::iter(parts).then(part).chain(stream::pending());
        let mut whole = whole(StreamBody::new(parts), Version::HTTP_2);
        whole.pace = Pace::new(true, Duration::from_millis(300));
        whole
    }

    #[tokio::test]
    async fn t07_a_message_that_trickles_is_given_up() {
        let head = [0, 0, 0, 4, 0];
        let bytes: Vec<_> = head.iter().chain([0; 1_000].iter()).map(|byte| (20, vec![*byte])).collect();
        let slow = trickle(bytes).collect().await.unwrap_err();
        assert_eq!(slow.code(), Code::DeadlineExceeded);

        let parts = [(0, head.to_vec())].into_iter().chain(std::iter::repeat_n((60, vec![0; LEAST]), 8));
        let mut steady = trickle(parts.collect());
        for _ in 0..9 {
            steady.frame().await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn between_messages_a_client_may_be_silent() {
        let message = vec![0, 0, 0, 0, 1, 7];
        let parts = vec![(400, message.clone()), (400, message.clone()), (400, [message, vec![0]].concat())];
        let mut pauses = trickle(parts);
        for _ in 0..3 {
            pauses.frame().await.unwrap().unwrap();
        }
        let slow = pauses.frame().await.unwrap().unwrap_err();
        assert_eq!(slow.code(), Code::DeadlineExceeded, "the last byte began another message");
    }

    #[test]
    fn messages_are_found_by_the_content_type() {
        for (content_type, framed) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc-web+proto", true),
            ("application/connect+json", true),
            ("application/grpc-web-text", false),
            ("application/json", false),
            ("", false),
        ] {
            let value = http::HeaderValue::from_static(content_type);
            assert_eq!(is_framed(&HeaderMap::from_iter([(CONTENT_TYPE, value)])), framed, "{content_type}");
        }
    }

    #[tokio::test]
    async fn what_breaks_off_is_an_error_and_no_end() {
        let cut = whole(body(vec![data()]), Version::HTTP_2).collect().await;
        assert_eq!(cut.unwrap_err().code(), Code::Unavailable, "no end was seen");
        let reset = whole(body(vec![data(), Err(Status::cancelled("reset"))]), Version::HTTP_2).collect().await;
        assert_eq!(reset.unwrap_err().code(), Code::Unavailable, "tonic takes CANCELLED for an end");
        let first = whole(body(vec![data()]), Version::HTTP_11).collect().await;
        assert_eq!(first.unwrap().to_bytes(), "half", "HTTP/1.1 tells of a broken body by an error");
    }

    #[tokio::test]
    async fn trailers_do_not_reach_anybody() {
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-user", http::HeaderValue::from_static("admin"));
        let whole = whole(body(vec![data(), Ok(Frame::trailers(trailers))]), Version::HTTP_2);
        let whole = whole.collect().await.unwrap();
        assert!(whole.trailers().is_none());
    }
}
