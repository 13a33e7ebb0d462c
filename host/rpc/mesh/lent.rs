//! The body of a request that streams: lent to one attempt after another, as long as nothing of it was read.

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::Status;
use tonic::body::Body;

/// Where the body is while nobody has it.
pub(super) struct Home {
    place: Arc<Mutex<Option<Body>>>,
    leash: CancellationToken,
}

impl Home {
    /// * `leash`: ends the body early: whoever wanted the answer is gone.
    pub(super) fn new(body: Body, leash: CancellationToken) -> Self {
        Self { place: Arc::new(Mutex::new(Some(body))), leash }
    }

    /// The body, if nothing of it was read.
    pub(super) fn lend(&self) -> Option<Lent> {
        let body = self.place.lock().unwrap_or_else(PoisonError::into_inner).take()?;
        let (place, leash) = (Arc::clone(&self.place), Box::pin(self.leash.clone().cancelled_owned()));
        Some(Lent { body: Some(body), is_read: false, place, leash })
    }
}

/// The body, until it is given back or read.
pub(super) struct Lent {
    body: Option<Body>,
    is_read: bool,
    place: Arc<Mutex<Option<Body>>>,
    leash: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            this.is_read = true;
            return Poll::Ready(frame);
        }
        // An error resets the stream, and the peer stops.
        this.leash.as_mut().poll(cx).map(|()| Some(Err(Status::cancelled("nobody waits for the answer"))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(body) = self.body.take().filter(|_| !self.is_read) {
            *self.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(body);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{BodyExt as _, Full};

    #[tokio::test]
    async fn a_body_comes_back_unless_it_was_read() {
        let home = Home::new(Body::new(Full::new(Bytes::from_static(b"x"))), CancellationToken::new());
        let first = home.lend().unwrap();
        assert!(home.lend().is_none(), "there is one");
        drop(first);
        let mut second = home.lend().unwrap();
        assert_eq!(second.frame().await.unwrap().unwrap().into_data().unwrap(), "x");
        drop(second);
        assert!(home.lend().is_none());
    }

    #[tokio::test]
    async fn a_body_that_nobody_wants_any_more_breaks_off() {
        let leash = CancellationToken::new();
        let silent = http_body_util::StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Status>>());
        let mut lent = Home::new(Body::new(silent), leash.clone()).lend().unwrap();
        drop(leash.drop_guard());
        assert!(lent.frame().await.unwrap().is_err());
    }
}
