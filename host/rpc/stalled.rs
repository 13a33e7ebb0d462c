//! Answers whose reader stalls. HTTP/2 asks a body for nothing while its reader takes nothing, so that no body sees it:
//! the connection looks through its answers now and then, and lets go of what those hold that nobody reads (memory, files,
//! places, the caller).
//!
//! Data goes on in pieces: what is handed to HTTP/2 waits there for its reader, and nobody could let go of it. Of large data
//! they are copies: one piece of it would hold all of it.

use super::status;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::body::Body;
use tonic::{Code, Status};

/// How often a connection looks through its answers.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Bytes that are handed on at once. 64 KiB: four frames, and as much as a client that says nothing takes.
const PIECE: usize = 64 << 10;
/// Answers that are remembered before those that ended are forgotten. 256: more than run at once.
const REMEMBERED: usize = 256;

/// Put into the extensions of an answer: how long its reader may take nothing of it, where that is not as usual.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience(pub(super) Duration);

/// The answers of one connection. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Answers(Arc<Mutex<Vec<Weak<Mutex<Slot>>>>>);

impl Answers {
    /// The body, for as long as it is read.
    ///
    /// * `longest`: how long its reader may take nothing of it.
    pub(super) fn watch(&self, body: Body, longest: Duration) -> Body {
        let slot = Slot { body: Some(body), rest: Bytes::new(), waits: Some(Instant::now()), longest };
        let slot = Arc::new(Mutex::new(slot));
        let mut all = lock(&self.0);
        if all.len() >= REMEMBERED {
            all.retain(|one| one.strong_count() > 0);
        }
        all.push(Arc::downgrade(&slot));
        drop(all);
        Body::new(Watched { slot })
    }

    /// Lets go of what nobody reads, again and again.
    ///
    /// * returns: never.
    pub(super) async fn tend(&self) {
        loop {
            sleep(LOOK_EVERY).await;
            let stalled = self.stalled(Instant::now());
            drop(stalled); // whatever they hold, it is not under a lock
        }
    }

    fn stalled(&self, now: Instant) -> Vec<(Body, Bytes)> {
        let mut all = lock(&self.0);
        all.retain(|one| one.strong_count() > 0);
        let slots: Vec<_> = all.iter().filter_map(Weak::upgrade).collect();
        drop(all);
        slots.iter().filter_map(|slot| lock(slot).let_go(now)).collect()
    }
}

#[derive(Debug)]
struct Slot {
    /// Until it ended, or was not read.
    body: Option<Body>,
    /// What it gave and was not handed on yet.
    rest: Bytes,
    /// Since when nobody asks for more; `None`: somebody does, and there is nothing yet.
    waits: Option<Instant>,
    longest: Duration,
}

impl Slot {
    /// The next piece of what was not handed on yet.
    fn piece(&mut self) -> Bytes {
        Bytes::copy_from_slice(&self.rest.split_to(self.rest.len().min(PIECE)))
    }

    /// What it holds, if that was not read for too long.
    fn let_go(&mut self, now: Instant) -> Option<(Body, Bytes)> {
        match self.waits {
            Some(since) if now.saturating_duration_since(since) >= self.longest => {
                Some((self.body.take()?, std::mem::take(&mut self.rest)))
            }
            _ => None,
        }
    }
}

fn lock<T>(slot: &Mutex<T>) -> MutexGuard<'_, T> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Watched {
    slot: Arc<Mutex<Slot>>,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let slot = &mut *lock(&self.slot);
        let Some(body) = &mut slot.body else {
            return Poll::Ready(slot.waits.take().map(|_stalled| Ok(late())));
        };
        if !slot.rest.is_empty() {
            slot.waits = Some(Instant::now());
            return Poll::Ready(Some(Ok(Frame::data(slot.piece()))));
        }
        let polled = Pin::new(body).poll_frame(cx);
        slot.waits = polled.is_ready().then(Instant::now);
        match polled {
            Poll::Ready(None) => {
                (slot.body, slot.waits) = (None, None);
                Poll::Ready(None)
            }
            Poll::Ready(Some(Ok(frame))) => Poll::Ready(Some(Ok(frame.map_data(|data| {
                if data.len() <= PIECE {
                    return data;
                }
                slot.rest = data;
                slot.piece()
            })))),
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        let slot = lock(&self.slot);
        slot.rest.is_empty() && slot.body.as_ref().map_or(slot.waits.is_none(), HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let slot = lock(&self.slot);
        let mut hint = slot.body.as_ref().map(HttpBody::size_hint).unwrap_or_default();
        let rest = slot.rest.len() as u64;
        if let Some(upper) = hint.upper() {
            hint.set_upper(upper.saturating_add(rest));
        }
        hint.set_lower(hint.lower().saturating_add(rest));
        hint
    }
}

fn late() -> Frame<Bytes> {
    let status = status::plain(Code::DeadlineExceeded, "DEADLINE", "the answer was not read in time; try again");
    Frame::trailers(status::trailers(&status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{self, StreamExt as _};
    use http_body_util::{BodyExt as _, Full, StreamBody};

    const LONGEST: Duration = Duration::from_millis(50);

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

    #[tokio::test]
    async fn what_an_answer_holds_is_let_go_when_nobody_reads_it_and_not_before() {
        let answers = Answers::default();
        let after = |span| drop(answers.stalled(Instant::now() + span));
        let (body, holds) = held(3);
        let mut body = answers.watch(body, LONGEST);
        for _ in 0..3 {
            after(LONGEST / 2);
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        }
        // Nothing comes: it is not the reader who is slow.
        assert!(tokio::time::timeout(LONGEST / 10, body.frame()).await.is_err());
        after(100 * LONGEST);
        assert_eq!(Arc::strong_count(&holds), 2);

        let (body, holds) = held(3);
        let mut body = answers.watch(body, LONGEST);
        body.frame().await.unwrap().unwrap();
        after(LONGEST / 2);
        assert_eq!(Arc::strong_count(&holds), 2);
        after(2 * LONGEST);
        assert_eq!(Arc::strong_count(&holds), 1);
        assert!(!body.is_end_stream());
        let end = body.frame().await.unwrap().unwrap().into_trailers().unwrap();
        assert_eq!(end["grpc-status"], "4");
        assert!(body.frame().await.is_none() && body.is_end_stream());

        let (body, holds) = held(1);
        drop(answers.watch(body, Duration::from_secs(3_600)));
        assert_eq!(Arc::strong_count(&holds), 1, "nobody waits for what is not wanted");
    }

    /// Data that somebody else sees when it is gone.
    struct Owned(Vec<u8>, #[expect(dead_code, reason = "held, not read")] Arc<()>);

    impl AsRef<[u8]> for Owned {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    #[tokio::test]
    async fn t05_a_piece_on_its_way_does_not_hold_the_rest() {
        let (answers, holds) = (Answers::default(), Arc::new(()));
        for (size, held) in [(PIECE, 2), (PIECE + 1, 1), (8 * PIECE, 1)] {
            let data = Bytes::from_owner(Owned(vec![7; size], Arc::clone(&holds)));
            let mut body = answers.watch(Body::new(Full::new(data)), LONGEST);
            let piece = body.frame().await.unwrap().unwrap().into_data().unwrap();
            drop(answers.stalled(Instant::now() + 2 * LONGEST));
            assert_eq!((piece.len(), Arc::strong_count(&holds)), (PIECE, held), "{size}");
        }
        // As long as there is, and longer.
        let mut body = answers.watch(Body::new(Full::new(Bytes::from_static(b"x"))), Duration::MAX);
        assert!(answers.stalled(Instant::now() + LONGEST).is_empty());
        body.frame().await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn large_data_goes_on_in_pieces_and_whole() {
        let answers = Answers::default();
        for size in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE + 7] {
            let data: Bytes = (0..size).map(|n| n as u8).collect::<Vec<_>>().into();
            let mut body = answers.watch(Body::new(Full::new(data.clone())), LONGEST);
            assert_eq!(body.size_hint().exact(), Some(size as u64));
            let mut got = Vec::new();
            while let Some(frame) = body.frame().await {
                let piece = frame.unwrap().into_data().unwrap();
                assert!(piece.len() <= PIECE);
                got.extend_from_slice(&piece);
                assert_eq!(body.size_hint().exact(), Some((size - got.len()) as u64));
            }
            assert!(got == data && body.is_end_stream(), "{size}");
        }
        for _ in 0..3 * REMEMBERED {
            drop(answers.watch(Body::empty(), LONGEST));
        }
        assert!(lock(&answers.0).len() <= REMEMBERED);
    }
}
