//! Answers that are ready together leave in one write.
//!
//! HTTP/2 flushes after every frame that it has; under load most of a node's time goes into those system calls. Here what
//! is flushed is owed until the connection's next turn in the run queue: what other calls of the same connection have to
//! say by then goes along. A call that is alone on its connection waits for nobody.

use super::lifetime::Activity;
use bytes::{Buf as _, BytesMut};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What is gathered at most. 32 KiB: some hundred small answers. What is larger by itself is not copied.
const GATHER_MAX: usize = 32 << 10;
/// Writes from this size on go out as they are.
const LARGE: usize = 8 << 10;

/// The turns of a connection's task, and whether it is to be polled again after others had theirs. Clones are one.
#[derive(Debug, Clone, Default)]
pub(super) struct Turn(Arc<Turns>);

#[derive(Debug, Default)]
struct Turns {
    begun: AtomicU64,
    asked: AtomicBool,
}

impl Turn {
    /// Another one begins.
    pub(super) fn begin(&self) {
        self.0.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Which one it is.
    fn number(&self) -> u64 {
        self.0.begun.load(Ordering::Relaxed)
    }

    fn ask(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
    }

    /// Whether another one was asked for since this was looked at last.
    pub(super) fn is_asked(&self) -> bool {
        self.0.asked.swap(false, Ordering::Relaxed)
    }
}

/// A stream whose small writes are gathered until the next turn.
#[derive(Debug)]
pub(super) struct Coalesced<S> {
    inner: S,
    activity: Activity,
    turn: Turn,
    gathered: BytesMut,
    /// The turn in which a flush was asked for that has not been made.
    owed: Option<u64>,
}

impl<S> Coalesced<S> {
    /// * `activity`: what runs on the connection.
    /// * `turn`: how its task is told to come again. It shares the task of whoever reads and writes.
    pub(super) fn new(inner: S, activity: Activity, turn: Turn) -> Self {
        Self { inner, activity, turn, gathered: BytesMut::new(), owed: None }
    }
}

impl<S: AsyncWrite + Unpin> Coalesced<S> {
    /// Writes out all that is gathered.
    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let written = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.gathered))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Coalesced<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Coalesced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if this.gathered.len() + buf.len() > GATHER_MAX || buf.len() >= LARGE {
            ready!(this.poll_empty(cx))?;
        }
        if buf.len() >= LARGE {
            return Pin::new(&mut this.inner).poll_write(cx, buf);
        }
        this.gathered.extend_from_slice(buf);
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let size: usize = bufs.iter().map(|buf| buf.len()).sum();
        if this.gathered.len() + size > GATHER_MAX || size >= LARGE {
            ready!(this.poll_empty(cx))?;
        }
        if size >= LARGE {
            return Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        }
        for buf in bufs {
            this.gathered.extend_from_slice(buf);
        }
        Poll::Ready(Ok(size))
    }

    fn is_write_vectored(&self) -> bool {
        true // several into one copy, whatever is beneath
    }

    /// Ready at once even if it is owed: HTTP/2 flushes in the midst of what it has to write too, before every large frame,
    /// and goes on only after it. Whoever polls it in the next turn flushes again, as every turn of a connection does.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.gathered.is_empty() && this.activity.is_shared() {
            let now = this.turn.number();
            if *this.owed.get_or_insert(now) == now {
                this.turn.ask();
                return Poll::Ready(Ok(()));
            }
        }
        ready!(this.poll_empty(cx))?;
        this.owed = None;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;
    use std::sync::Mutex;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// Writes down the sizes of what reaches it.
    struct Sizes(Arc<Mutex<Vec<usize>>>);

    impl AsyncWrite for Sizes {
        fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.lock().unwrap().push(buf.len());
            Poll::Ready(Ok(buf.len()))
        }
        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn small_writes_leave_together_and_large_ones_as_they_are() {
        let sizes = Arc::new(Mutex::new(Vec::new()));
        let activity = Activity::new(std::time::Duration::from_secs(60));
        let turn = Turn::default();
        let mut stream = Coalesced::new(Sizes(Arc::clone(&sizes)), activity.clone(), turn.clone());
        stream.write_all(&[1; 100]).await.unwrap();
        let one = activity.begin();
        assert!(stream.flush().now_or_never().is_some(), "who is alone does not wait");
        let _another = activity.begin();
        assert_eq!(std::mem::take(&mut *sizes.lock().unwrap()), [100]);
        assert!(!turn.is_asked());
        for _ in 0..4 {
            stream.write_all(&[1; 100]).await.unwrap();
            stream.flush().await.unwrap();
            assert!(turn.is_asked(), "a flush is owed");
        }
        assert!(sizes.lock().unwrap().is_empty(), "until the next turn");
        turn.begin();
        stream.flush().await.unwrap();
        assert_eq!(std::mem::take(&mut *sizes.lock().unwrap()), [400]);
        stream.write_all(&[1; 10]).await.unwrap();
        stream.write_all(&[1; LARGE]).await.unwrap();
        assert_eq!(std::mem::take(&mut *sizes.lock().unwrap()), [10, LARGE]);
        for _ in 0..GATHER_MAX / 1_000 + 1 {
            stream.write_all(&[1; 1_000]).await.unwrap();
        }
        let gathered = std::mem::take(&mut *sizes.lock().unwrap());
        assert!(matches!(gathered[..], [one] if one <= GATHER_MAX), "{gathered:?}");
        stream.shutdown().await.unwrap();
        assert_eq!(sizes.lock().unwrap().len(), 1, "nothing is left behind");
        drop(one);
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order_through_a_narrow_pipe() {
        let (near, mut far) = tokio::io::duplex(7);
        let activity = Activity::new(std::time::Duration::from_secs(60));
        let _both = [activity.begin(), activity.begin()];
        let turn = Turn::default();
        let asked = turn.clone();
        let mut near = Coalesced::new(near, activity, turn.clone());
        let all: Vec<u8> = (0..40_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let sent = all.clone();
        let writing = async move {
            for (n, part) in sent.chunks(997).enumerate() {
                near.write_all(part).await.unwrap();
                if n % 3 == 0 {
                    near.flush().await.unwrap();
                }
            }
            near.shutdown().await.unwrap();
        };
        // As the connection's own task does.
        let mut writing = Box::pin(writing);
        let writing = std::future::poll_fn(move |cx| {
            asked.begin();
            let polled = writing.as_mut().poll(cx);
            if asked.is_asked() {
                cx.waker().wake_by_ref();
            }
            polled
        });
        let mut got = Vec::new();
        let ((), read) = tokio::join!(writing, far.read_to_end(&mut got));
        read.unwrap();
        assert!(got == all);
    }
}
