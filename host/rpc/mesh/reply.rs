//! What a peer answers, before it is passed on: framed, within the limits, ended by a status, and with nothing in its
//! headers that is not gRPC's or ours. A peer that answers otherwise answers DATA_LOSS. Source: threats.md M06.

mod passing;

pub(super) use passing::passing;

use super::forward::{FRAME, Handover};
use crate::domain::Deadline;
use crate::mesh::{Attempt, Outcome};
use crate::registry::{self, Method};
use crate::rpc::details::{DETAILS, defuse};
use crate::rpc::heads::Heads;
use crate::rpc::status;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tonic::body::Body;
use tonic::{Code, Status};

/// Content type of what is handed over and back.
pub(super) const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// Says of an answer that nothing was begun for it.
pub(in crate::rpc) const BEGAN: &str = "collector-began";

/// How long after the head of an answer with one reply all of it has come. 5 s: a node sends both at once, and the largest
/// reply takes as long at 7 Mbit/s.
const SILENCE: Duration = Duration::from_secs(5);

/// What of a peer's headers or trailers is passed on: how the call ended, and the receipt.
fn clean(headers: &HeaderMap) -> HeaderMap {
    let ours = |name: &str| name.starts_with("collector-") && !matches!(name, "collector-began" | "collector-forward");
    let goes = |name: &str| matches!(name, "grpc-status" | "grpc-message" | DETAILS) || ours(name);
    let goes = headers.iter().filter(|(name, _)| goes(name.as_str()));
    let mut clean = goes.map(|(name, value)| (name.clone(), value.clone())).collect();
    defuse(&mut clean);
    clean
}

/// Whether a peer says that it began nothing, and what it says instead.
pub(super) fn refusal(response: &Response<Body>) -> Option<Status> {
    if response.headers().get(BEGAN).is_none_or(|began| began != "no") {
        return None;
    }
    let said = Status::from_header_map(&clean(response.headers()));
    Some(match said {
        // That it does not know this link is nothing that the client can do anything about.
        Some(said) if !matches!(said.code(), Code::Unauthenticated | Code::Ok) => said,
        _ => status::plain(Code::Unavailable, "PEER_LOST", Handover::NeverBegan.to_string()),
    })
}

/// An answer that speaks gRPC.
fn spoken(response: &Response<Body>) -> Result<(), Handover> {
    if response.status() != StatusCode::OK {
        return Err(Handover::Lost); // of something in between
    }
    let content_type = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    match content_type.starts_with(GRPC.as_bytes()) {
        true => Ok(()),
        false => Err(Handover::Reply("it is no gRPC")),
    }
}

/// Finds where messages begin and end.
struct Frames {
    most: usize,
    heads: Heads<FRAME>,
    messages: usize,
}

impl Frames {
    fn new(most: usize) -> Self {
        Self { most, heads: Heads::new(), messages: 0 }
    }

    fn follow(&mut self, mut bytes: &[u8]) -> Result<(), Handover> {
        while let Some([flags, length @ ..]) = self.heads.next(&mut bytes) {
            let content = u32::from_be_bytes(length) as usize;
            self.heads.skip(content);
            self.messages = self.messages.saturating_add(1);
            if flags != 0 {
                return Err(Handover::Reply("it is compressed, which nobody asked for"));
            }
            if content > self.most {
                return Err(Handover::Unfit("a message is larger than this node takes"));
            }
        }
        Ok(())
    }

    fn is_midway(&self) -> bool {
        self.heads.is_midway()
    }
}

/// The whole answer to a call with one reply.
#[derive(Debug)]
pub(in crate::rpc) struct Answer {
    /// One message with its head; empty where the call failed.
    framed: Bytes,
    /// How it ended, and the receipt.
    trailers: HeaderMap,
    /// The peer's count, if a peer gave it.
    attempt: Option<Attempt>,
}

impl Answer {
    /// * errors: how the call ended, if not well.
    pub(in crate::rpc) fn reply(&self) -> Result<Bytes, Status> {
        match Status::from_header_map(&self.trailers) {
            Some(status) if status.code() == Code::Ok => Ok(self.framed.slice(FRAME.min(self.framed.len())..)),
            Some(status) => Err(status),
            None => Err(Status::unknown("the call ended without a status")),
        }
    }

    /// The receipt.
    pub(in crate::rpc) fn receipt(&self) -> HeaderMap {
        let ours = self.trailers.iter().filter(|(name, _)| name.as_str().starts_with("collector-"));
        ours.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Whether the reply is of its method's type.
    ///
    /// * `method`: where its types are known.
    pub(super) fn check(&mut self, method: Option<&Method>) -> Result<(), Handover> {
        let (Some(method), Ok(reply)) = (method, self.reply()) else { return Ok(()) };
        registry::check_output(method, &reply).map_err(|_| self.unusable("it is not of the method's type"))
    }

    /// Nothing can be made of it, which is counted.
    pub(in crate::rpc) fn unusable(&mut self, why: &'static str) -> Handover {
        if let Some(attempt) = &mut self.attempt {
            attempt.ended(Outcome::Unusable);
        }
        Handover::Unfit(why)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let Self { framed, trailers, .. } = self;
        let mut response = match framed.is_empty() {
            true => {
                let mut response = Response::new(Body::empty());
                *response.headers_mut() = trailers;
                response
            }
            false => {
                let trailers = std::future::ready(Some(Ok(trailers)));
                Response::new(Body::new(Full::new(framed).with_trailers(trailers)))
            }
        };
        response.headers_mut().insert(CONTENT_TYPE, GRPC);
        response
    }
}

/// Reads a peer's answer to its end, and notes how the peer did: half an answer, or none, after a head is a failure.
pub(super) async fn of_peer(
    response: Response<Body>,
    most: usize,
    deadline: Deadline,
    attempt: Attempt,
) -> Result<Answer, Handover> {
    noted_after(SILENCE, attempt, whole(response, most, deadline)).await
}

async fn noted_after(
    silence: Duration,
    mut attempt: Attempt,
    answer: impl Future<Output = Result<Answer, Handover>>,
) -> Result<Answer, Handover> {
    let head = Instant::now();
    let answer = answer.await;
    match &answer {
        Ok(_) | Err(Handover::Unfit(_)) => attempt.answered(),
        Err(Handover::Lost | Handover::Reply(_)) => attempt.failed(),
        // How long a call may take is its caller's to say.
        Err(Handover::Deadline) if head.elapsed() >= silence => attempt.failed(),
        Err(_) => {}
    }
    attempt.ended(answer.as_ref().map_or_else(outcome, |_| Outcome::Answered));
    answer.map(|answer| Answer { attempt: Some(attempt), ..answer })
}

/// Reads an answer with one reply to its end.
///
/// * `most`: bytes of the reply.
pub(in crate::rpc) async fn whole(
    response: Response<Body>,
    most: usize,
    deadline: Deadline,
) -> Result<Answer, Handover> {
    spoken(&response)?;
    let (head, body) = response.into_parts();
    let read = timeout_at(deadline.instant(), read(body, most)).await;
    let (framed, messages, trailers) = read.map_err(|_elapsed| Handover::Deadline)??;
    let trailers = clean(trailers.as_ref().unwrap_or(&head.headers));
    let code = trailers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()));
    match (code, messages) {
        (None, _) => Err(Handover::Lost),
        (Some(Code::Ok), 1) => Ok(Answer { framed, trailers, attempt: None }),
        (Some(Code::Ok), _) => Err(Handover::Unfit("the method has one reply")),
        (Some(_), _) => Ok(Answer { framed: Bytes::new(), trailers, attempt: None }),
    }
}

/// What a peer's answer that is none came to.
fn outcome(why: &Handover) -> Outcome {
    match why {
        Handover::Reply(_) | Handover::Unfit(_) => Outcome::Unusable,
        Handover::Deadline | Handover::Request(_) => Outcome::GivenUp,
        Handover::Route(_) | Handover::NeverBegan | Handover::Lost | Handover::Said(_) => Outcome::Lost,
    }
}

async fn read(mut body: Body, most: usize) -> Result<(Bytes, usize, Option<HeaderMap>), Handover> {
    let (mut first, mut rest, mut trailers) = (Bytes::new(), BytesMut::new(), None);
    let mut frames = Frames::new(most);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|why| {
            tracing::debug!(%why, "the answer of a peer broke off");
            Handover::Lost
        })?;
        match frame.into_data() {
            Ok(data) => {
                frames.follow(&data)?;
                if frames.messages > 1 {
                    return Err(Handover::Unfit("the method has one reply"));
                }
                match first.is_empty() {
                    true => first = data,
                    false => rest.extend_from_slice(&data),
                }
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    if frames.is_midway() {
        return Err(Handover::Lost);
    }
    let framed = match rest.is_empty() {
        true => first,
        false => [&first[..], &rest[..]].concat().into(),
    };
    Ok((framed, frames.messages, trailers))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesh::{Peer, PeerPolicy};
    use http_body::Frame;
    use http_body_util::StreamBody;
    use std::sync::Arc;

    fn framed(length: u32, flags: u8) -> Vec<u8> {
        [&[flags][..], &length.to_be_bytes(), &vec![7; length as usize]].concat()
    }

    #[test]
    fn m06_messages_at_below_and_above_the_limit_however_they_are_cut() {
        let two = [framed(10, 0), framed(9, 0)].concat();
        for cut in 0..two.len() {
            let mut frames = Frames::new(10);
            frames.follow(&two[..cut]).unwrap();
            frames.follow(&two[cut..]).unwrap();
            assert!(!frames.is_midway() && frames.messages == 2, "cut at {cut}");
        }
        assert!(Frames::new(10).follow(&framed(11, 0)).is_err());
        assert!(Frames::new(10).follow(&framed(1, 1)).is_err(), "compressed");
        assert!(Frames::new(usize::MAX).follow(&[0, 255, 255, 255, 255]).is_ok(), "a claim costs nothing");
        let mut frames = Frames::new(10);
        frames.follow(&two[..4]).unwrap();
        assert!(frames.is_midway());
    }

    #[test]
    fn of_a_peers_headers_only_the_end_and_the_receipt_are_passed_on() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("grpc-status", "5"),
            ("grpc-message", "no"),
            ("grpc-status-details-bin", "***"),
            ("collector-version", "3"),
            ("collector-began", "no"),
            ("set-cookie", "a=b"),
            ("access-control-allow-origin", "*"),
            ("www-authenticate", "Basic"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let mut passed: Vec<_> = clean(&headers).keys().map(|name| name.as_str().to_owned()).collect();
        passed.sort_unstable();
        assert_eq!(passed, ["collector-version", "grpc-message", "grpc-status"]);
    }

    fn answer(content_type: &'static str, trailers: Option<&'static str>, bytes: Vec<u8>) -> Response<Body> {
        let map = |code: &'static str| {
            HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(code))])
        };
        let trailers = std::future::ready(trailers.map(|code| Ok(map(code))));
        let mut response = Response::new(Body::new(Full::new(Bytes::from(bytes)).with_trailers(trailers)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    #[tokio::test]
    async fn m06_an_answer_that_is_none_is_told_from_one_that_is_lost() {
        let read = |response| whole(response, 10, Deadline::after(std::time::Duration::from_secs(5)));
        let grpc = "application/grpc+proto";
        let good = read(answer(grpc, Some("0"), framed(3, 0))).await.unwrap();
        assert_eq!(good.reply().unwrap(), vec![7; 3]);
        let failed = read(answer(grpc, Some("5"), Vec::new())).await.unwrap();
        assert_eq!(failed.reply().unwrap_err().code(), Code::NotFound);
        for (response, what) in [
            (answer("text/html", Some("0"), framed(3, 0)), "no gRPC"),
            (answer(grpc, Some("0"), Vec::new()), "no reply"),
            (answer(grpc, Some("0"), [framed(1, 0), framed(1, 0)].concat()), "two"),
            (answer(grpc, Some("0"), framed(11, 0)), "too large"),
        ] {
            assert!(matches!(read(response).await, Err(Handover::Reply(_) | Handover::Unfit(_))), "{what}");
        }
        for (response, what) in [
            (answer(grpc, None, framed(3, 0)), "no end"),
            (answer(grpc, Some("0"), framed(3, 0)[..6].to_vec()), "half of it"),
        ] {
            assert!(matches!(read(response).await, Err(Handover::Lost)), "{what}");
        }
    }
    #[tokio::test]
    async fn m06_half_an_answer_is_a_failure_of_the_peer_and_what_a_method_does_is_none() {
        let well_after = async |response: &dyn Fn() -> Response<Body>, silence: u64| {
            let peer = Arc::new(Peer::new("b".parse().unwrap(), PeerPolicy::open()));
            for _ in 0..5 {
                let (deadline, silence) = (Deadline::after(Duration::from_millis(20)), Duration::from_millis(silence));
                let attempt = peer.attempt(Instant::now()).unwrap();
                assert!(noted_after(silence, attempt, whole(response(), 10, deadline)).await.is_err());
            }
            peer.is_healthy(Instant::now())
        };
        let silent = || {
            let silent = StreamBody::new(futures_util::stream::pending::<Result<Frame<Bytes>, Status>>());
            answer("application/grpc", None, Vec::new()).map(|_| Body::new(silent))
        };
        assert!(!well_after(&silent, 10).await, "a head and nothing after it");
        assert!(well_after(&silent, 10_000).await, "its caller did not wait");
        assert!(!well_after(&|| answer("application/grpc", None, framed(3, 0)), 10_000).await, "no end");
        assert!(!well_after(&|| answer("text/html", Some("0"), Vec::new()), 10_000).await, "no gRPC");
        assert!(well_after(&|| answer("application/grpc", Some("0"), framed(11, 0)), 10_000).await, "too large");
    }
}
