//! What every request passes first and every answer last: request id, deadline, panics, receipts.

use super::status::receipt_pairs;
use crate::domain::{Deadline, Receipt};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame};
use std::convert::Infallible;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tonic::Status;
use tonic::body::Body;
use tonic::service::Routes;
use tower::Service as _;
use tracing::Instrument as _;

/// How much later than a call's own deadline the edge gives up on it. The call's own end knows more, so it goes first;
/// this is for requests that never got that far, such as a body that trickles in.
const SLACK: Duration = Duration::from_millis(50);

/// Names one request in details and in the log.
#[derive(Debug, Clone)]
pub(super) struct RequestId(uuid::Uuid);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id that the edge gave to a request.
pub(super) fn request_id<T>(request: &tonic::Request<T>) -> RequestId {
    request.extensions().get::<RequestId>().cloned().unwrap_or_else(|| RequestId(uuid::Uuid::now_v7()))
}

/// The deadline that the edge read from a request.
pub(super) fn deadline<T>(request: &tonic::Request<T>) -> Option<Deadline> {
    request.extensions().get::<Deadline>().copied()
}

/// Takes one request through.
///
/// * `longest`: the node's own deadline, for requests that name none or a later one.
pub(super) async fn handle<B>(
    mut routes: Routes,
    mut request: Request<B>,
    longest: Duration,
) -> Result<Response<Body>, Infallible>
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<tonic::codegen::StdError>,
{
    let asked = match timeout(request.headers()) {
        Ok(asked) => asked,
        Err(status) => return Ok(status.into_http()),
    };
    let id = RequestId(uuid::Uuid::now_v7());
    let deadline = Deadline::after(asked.map_or(longest, |asked| asked.min(longest)));
    let span = tracing::info_span!("call", path = %request.uri().path(), request = %id);
    request.extensions_mut().insert(id);
    request.extensions_mut().insert(deadline);
    let answer = AssertUnwindSafe(routes.call(request.map(Body::new)));
    let last = deadline.instant() + SLACK;
    let answer = tokio::time::timeout_at(last, answer.catch_unwind()).instrument(span).await;
    Ok(match answer {
        Ok(Ok(Ok(response))) => with_receipt(response),
        Ok(Ok(Err(never))) => match never {},
        Ok(Err(_panic)) => Status::internal("the node failed to answer").into_http(),
        Err(_elapsed) => Status::deadline_exceeded("the request was not answered before its deadline").into_http(),
    })
}

/// Reads `grpc-timeout`: at most 8 digits and a unit. Source: PROTOCOL-HTTP2.md.
fn timeout(headers: &HeaderMap) -> Result<Option<Duration>, Status> {
    let mut values = headers.get_all("grpc-timeout").iter();
    let (value, None) = (values.next(), values.next()) else {
        return Err(Status::invalid_argument("more than one grpc-timeout"));
    };
    let Some(value) = value else { return Ok(None) };
    let bad = || Status::invalid_argument("grpc-timeout must be 1 to 8 digits and one of H, M, S, m, u, n");
    let text = value.to_str().map_err(|_| bad())?;
    let (digits, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(bad)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    let number: u64 = digits.parse().map_err(|_| bad())?;
    let span = match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return Err(bad()),
    };
    // Less than a millisecond is less than a timer can keep.
    Ok(Some(span.max(Duration::from_millis(1))))
}

/// Moves a receipt from the response's extensions into its trailers.
fn with_receipt(mut response: Response<Body>) -> Response<Body> {
    let Some(receipt) = response.extensions_mut().remove::<Receipt>() else { return response };
    let pairs = receipt_pairs(&receipt).into_iter();
    let trailers: Vec<_> = pairs.filter_map(|(key, value)| Some((key, HeaderValue::try_from(value).ok()?))).collect();
    response.map(|body| Body::new(Trailing { body, trailers }))
}

/// A body whose trailers get some more pairs.
struct Trailing {
    body: Body,
    trailers: Vec<(&'static str, HeaderValue)>,
}

impl HttpBody for Trailing {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let frame = frame.map(|frame| {
            frame.map(|mut frame| {
                if let Some(trailers) = frame.trailers_mut() {
                    trailers.extend(
                        self.trailers.drain(..).map(|(key, value)| (http::HeaderName::from_static(key), value)),
                    );
                }
                frame
            })
        });
        Poll::Ready(frame)
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

    fn read(value: &str) -> Result<Option<Duration>, Status> {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-timeout", HeaderValue::from_str(value).unwrap());
        timeout(&headers)
    }

    #[test]
    fn t11_odd_timeouts_are_refused_and_huge_ones_are_numbers() {
        for odd in ["-1S", "1x", "", "S", "123456789S", "1 S", "+1S", "1.5S", "١S"] {
            let refused = match HeaderValue::from_str(odd) {
                Ok(_) => read(odd).is_err(),
                Err(_) => true,
            };
            assert!(refused, "{odd}");
        }
        assert_eq!(read("99999999H").unwrap(), Some(Duration::from_secs(99_999_999 * 3_600)));
        assert_eq!(read("250m").unwrap(), Some(Duration::from_millis(250)));
        assert_eq!(read("1n").unwrap(), Some(Duration::from_millis(1)));
        assert_eq!(timeout(&HeaderMap::new()).unwrap(), None);
    }
}
