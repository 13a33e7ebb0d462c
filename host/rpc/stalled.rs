//! Answers whose reader stalls. HTTP/2 asks a body for nothing while its reader takes nothing, so that no body sees it:
//! somebody beside it looks, and lets go of what the answer holds (files, places, the caller).

use super::status;
use crate::lifecycle::Lifecycle;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::body::Body;
use tonic::{Code, Status};

/// Put into the extensions of an answer: how long its reader may take nothing of it.
#[derive(Clone)]
pub(super) struct Patience {
    pub(super) longest: Duration,
    pub(super) lifecycle: Lifecycle,
}

impl Patience {
    /// The body, for as long as it is read.
    pub(super) fn watch(self, body: Body) -> Body {
        let slot = Arc::new(Mutex::new(Slot { body: Some(body), waits: Some(Instant::now()) }));
        let (watched, gone) = (Arc::clone(&slot), CancellationToken::new());
        let read = gone.clone();
        drop(self.lifecycle.spawn(async move {
            read.run_until_cancelled(look(watched, self.longest)).await;
        }));
        Body::new(Watched { slot, _gone: gone.drop_guard() })
    }
}

struct Slot {
    /// Until it ended, or was not read.
    body: Option<Body>,
    /// Since when nobody asks for more; `None`: somebody does, and there is nothing yet.
    waits: Option<Instant>,
}

/// Empties the slot when its reader has stalled.
async fn look(slot: Arc<Mutex<Slot>>, longest: Duration) {
    loop {
        let now = Instant::now();
        let until = lock(&slot).waits.unwrap_or(now) + longest;
        if until <= now {
            let stalled = lock(&slot).body.take();
            drop(stalled);
            return;
        }
        sleep_until(until).await;
    }
}

fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watched {
    slot: Arc<Mutex<Slot>>,
    _gone: DropGuard,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let mut slot = lock(&self.slot);
        let Some(body) = &mut slot.body else {
            return Poll::Ready(slot.waits.take().map(|_stalled| Ok(late())));
        };
        let polled = Pin::new(body).poll_frame(cx);
        slot.waits = polled.is_ready().then(Instant::now);
        if let Poll::Ready(None) = polled {
            (slot.body, slot.waits) = (None, None);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let slot = lock(&self.slot);
        slot.body.as_ref().map_or(slot.waits.is_none(), HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        lock(&self.slot).body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

fn late() -> Frame<Bytes> {
    let status = status::plain(Code::DeadlineExceeded, "DEADLINE", "the answer was not read in time; try again");
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(i32::from(status.code())));
    }
    Frame::trailers(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{self, StreamExt as _};
    use http_body_util::{BodyExt as _, StreamBody};

    /// A body with this many frames and then none, and whether it is still there.
    fn held(frames: usize) -> (Body, Arc<()>) {
        let holds = Arc::new(());
        let held = Arc::clone(&holds);
        let frames = stream::iter((0..frames).map(|_| Ok::<_, Status>(Frame::data(Bytes::from_static(b"x")))));
        let frames = frames.chain(stream::pending()).map(move |frame| {
            let _held = &held;
            frame
        });
        (Body::new(StreamBody::new(frames)), holds)
    }

    async fn is_gone(holds: &Arc<()>) {
        for _ in 0..1_000 {
            if Arc::strong_count(holds) == 1 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it is still there");
    }

    #[tokio::test]
    async fn what_an_answer_holds_is_let_go_when_nobody_reads_it_and_not_before() {
        let longest = Duration::from_millis(50);
        let patience = || Patience { longest, lifecycle: Lifecycle::default() };
        let (body, holds) = held(3);
        let mut body = patience().watch(body);
        for _ in 0..3 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        }
        // Nothing comes: it is not the reader who is slow.
        assert!(tokio::time::timeout(4 * longest, body.frame()).await.is_err());
        assert_eq!(Arc::strong_count(&holds), 2);

        let (body, holds) = held(3);
        let mut body = patience().watch(body);
        body.frame().await.unwrap().unwrap();
        is_gone(&holds).await;
        assert!(!body.is_end_stream());
        let end = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(end["grpc-status"], "4");
        assert!(body.frame().await.is_none() && body.is_end_stream());

        let (body, holds) = held(1);
        drop(Patience { longest: Duration::from_secs(3_600), ..patience() }.watch(body));
        is_gone(&holds).await; // nobody waits for what is not wanted
    }
}
