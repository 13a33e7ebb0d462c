//! Answers of a peer with many replies, passed on as they come.

use super::{Frames, GRPC, clean, outcome, spoken};
use crate::domain::Deadline;
use crate::mesh::Attempt;
use crate::registry::{self, MethodRef};
use crate::rpc::mesh::forward::{FRAME, Handover};
use crate::rpc::status;
use crate::tenancy::Permit;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Response};
use http_body::{Body as HttpBody, Frame};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::DropGuard;
use tonic::body::Body;
use tonic::{Code, Status};

/// What an answer holds until it has been passed on: the peer's count, the request's body, the caller's place.
pub(in crate::rpc::mesh) type Held = (Attempt, DropGuard, Permit);

/// Passes an answer on as it comes; where its types are known, each reply once all of it is there and has been checked.
///
/// * `most`: bytes of one reply.
pub(in crate::rpc::mesh) fn passing(
    response: Response<Body>,
    (most, types): (usize, Option<MethodRef>),
    deadline: Deadline,
    mut held: Held,
) -> Result<Response<Body>, Handover> {
    spoken(&response).inspect_err(|why| {
        held.0.failed();
        held.0.ended(outcome(why));
    })?;
    let (head, body) = response.into_parts();
    let mut headers = clean(&head.headers);
    let said = headers.contains_key("grpc-status");
    match said {
        true => held.0.answered(),
        false => held.0.heard(),
    }
    headers.insert(CONTENT_TYPE, GRPC);
    let late = Box::pin(sleep_until(deadline.instant()));
    let replies = types.map(Replies::new);
    let mut passed = Response::new(match said {
        true => Body::empty(),
        false => Body::new(Passing { body: Some((body, held)), frames: Frames::new(most), replies, late }),
    });
    *passed.headers_mut() = headers;
    Ok(passed)
}

/// Replies whose type is known, gathered until they are whole. At most one that is not is kept, and [`Frames`] bounds it.
struct Replies {
    types: MethodRef,
    gathered: BytesMut,
    /// One was not of the type; what came before it goes on first.
    is_odd: bool,
}

impl Replies {
    fn new(types: MethodRef) -> Self {
        Self { types, gathered: BytesMut::new(), is_odd: false }
    }

    /// All that are whole and of the type, with their heads; empty: none yet.
    fn take(&mut self, more: &[u8]) -> Bytes {
        self.gathered.extend_from_slice(more);
        let (mut good, all) = (0, &self.gathered[..]);
        while let Some(([_, length @ ..], rest)) = all.get(good..).and_then(|left| left.split_first_chunk::<FRAME>()) {
            let Some(message) = rest.get(..u32::from_be_bytes(*length) as usize) else { break };
            if registry::check_output(self.types.method(), message).is_err() {
                self.is_odd = true;
                break;
            }
            good += FRAME + message.len();
        }
        self.gathered.split_to(good).freeze()
    }
}

struct Passing {
    /// Until it has ended.
    body: Option<(Body, Held)>,
    frames: Frames,
    /// Where the types are known.
    replies: Option<Replies>,
    late: Pin<Box<Sleep>>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, Status>>>;

impl Passing {
    /// Ends the answer here; what was held is let go, and the peer's stream is reset.
    fn end(&mut self, trailers: HeaderMap) -> Polled {
        self.body = None;
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }

    fn fail(&mut self, why: &Handover) -> Polled {
        if let Some((_, (attempt, ..))) = &mut self.body {
            attempt.ended(outcome(why));
        }
        self.end(status::trailers(&status::handed_over(why)))
    }

    fn lose(&mut self, why: &Handover) -> Polled {
        if let Some((_, (attempt, ..))) = &mut self.body {
            attempt.failed();
        }
        self.fail(why)
    }

    /// What of the peer's next bytes goes on; `None`: nothing yet.
    fn data(&mut self, data: Bytes) -> Option<Polled> {
        if let Err(why) = self.frames.follow(&data) {
            return Some(match why {
                Handover::Reply(_) => self.lose(&why),
                _ => self.fail(&why),
            });
        }
        if let Some((_, (attempt, ..))) = &mut self.body {
            attempt.answered();
        }
        let whole = match &mut self.replies {
            Some(replies) => replies.take(&data),
            None => data,
        };
        match whole.is_empty() {
            false => Some(Poll::Ready(Some(Ok(Frame::data(whole))))),
            true => None,
        }
    }

    fn trailers(&mut self, trailers: HeaderMap) -> Polled {
        let trailers = clean(&trailers);
        match trailers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes())) {
            None => self.lose(&Handover::Lost),
            Some(Code::Ok) if self.frames.is_midway() => self.lose(&Handover::Reply("a message broke off")),
            Some(_) => {
                if let Some((_, (attempt, ..))) = &mut self.body {
                    attempt.answered();
                }
                self.end(trailers)
            }
        }
    }
}

impl HttpBody for Passing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        loop {
            if this.body.is_some() && this.replies.as_ref().is_some_and(|replies| replies.is_odd) {
                // The method may be to blame, not the peer.
                return this.fail(&Handover::Unfit("a reply is not of the method's type"));
            }
            let Some((body, _)) = &mut this.body else { return Poll::Ready(None) };
            let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) else {
                std::task::ready!(this.late.as_mut().poll(cx));
                return this.fail(&Handover::Deadline);
            };
            let frame = match frame {
                Some(Ok(frame)) => frame,
                // What is wrong may be the client's side of the stream. Where it is the connection other calls find out.
                Some(Err(why)) => {
                    tracing::debug!(%why, "the answer of a peer broke off");
                    return this.fail(&Handover::Lost);
                }
                None => return this.lose(&Handover::Lost),
            };
            match frame.into_data() {
                Ok(data) => {
                    if let Some(polled) = this.data(data) {
                        return polled;
                    }
                }
                Err(frame) => return this.trailers(frame.into_trailers().unwrap_or_default()),
            }
        }
    }
}
