//! A Connect request's head as gRPC's. Source: connectrpc.com/docs/protocol, Unary-Request, Streaming-Request.

use super::super::kind::Codec;
use super::error::is_metadata;
use crate::rpc::status;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, TE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use tonic::body::Body;
use tonic::{Code, Status};

/// Most digits of a timeout.
const TIMEOUT_DIGITS: usize = 10;
/// Largest number of a `grpc-timeout`: eight digits. Source: PROTOCOL-HTTP2.md.
const GRPC_TIMEOUT_MAX: u64 = 99_999_999;

/// The gRPC request's head, and whether the request's messages are compressed. Metadata is carried over; what belongs
/// to HTTP or to either protocol is not.
///
/// * errors: INVALID_ARGUMENT for another protocol version or an odd timeout, UNIMPLEMENTED for an unknown compression.
pub(super) fn head(parts: &Parts, codec: Codec) -> Result<(Request<Body>, bool), Status> {
    version(&parts.headers)?;
    let gzip = is_gzip(&parts.headers)?;
    let mut headers = HeaderMap::with_capacity(parts.headers.len());
    for (name, value) in parts.headers.iter().filter(|(name, _)| is_metadata(name)) {
        headers.append(name, value.clone());
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc+proto"));
    headers.insert(TE, HeaderValue::from_static("trailers"));
    if gzip && codec == Codec::Proto {
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip")); // the inner door takes it as it is
    }
    if let Some(timeout) = timeout(&parts.headers)? {
        headers.insert("grpc-timeout", timeout);
    }
    let mut request = Request::new(Body::empty());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_2;
    *request.uri_mut() = parts.uri.clone();
    *request.headers_mut() = headers;
    *request.extensions_mut() = parts.extensions.clone();
    Ok((request, gzip))
}

fn version(headers: &HeaderMap) -> Result<(), Status> {
    match headers.get_all("connect-protocol-version").iter().find(|value| *value != "1") {
        None => Ok(()),
        Some(_) => {
            Err(status::plain(Code::InvalidArgument, "PROTOCOL_VERSION", "connect-protocol-version must be \"1\""))
        }
    }
}

/// Whether messages are compressed, which only gzip may do. What they grow to is bounded where they are decompressed.
fn is_gzip(headers: &HeaderMap) -> Result<bool, Status> {
    let all = |name| headers.get_all(name).iter();
    let mut named = all(CONTENT_ENCODING.as_str()).chain(all("connect-content-encoding"));
    match (named.next().map(HeaderValue::as_bytes), named.next()) {
        (None | Some(b"identity"), None) => Ok(false),
        (Some(b"gzip"), None) => Ok(true),
        _ => {
            let message = "the compression is not supported; supported encodings are gzip and identity";
            Err(status::plain(Code::Unimplemented, "ENCODING", message))
        }
    }
}

/// `connect-timeout-ms` as a `grpc-timeout`: in seconds where milliseconds have too many digits.
fn timeout(headers: &HeaderMap) -> Result<Option<HeaderValue>, Status> {
    let odd = || {
        let message = "connect-timeout-ms must be one whole number of at most 10 digits";
        status::plain(Code::InvalidArgument, "TIMEOUT", message)
    };
    let mut values = headers.get_all("connect-timeout-ms").iter();
    let (value, None) = (values.next(), values.next()) else { return Err(odd()) };
    let Some(value) = value else { return Ok(None) };
    let text = value.to_str().map_err(|_| odd())?;
    if text.len() > TIMEOUT_DIGITS || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(odd());
    }
    let millis: u64 = text.parse().map_err(|_| odd())?;
    let text = if millis <= GRPC_TIMEOUT_MAX { format!("{millis}m") } else { format!("{}S", millis / 1_000) };
    HeaderValue::try_from(text).map(Some).map_err(|_| odd())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(pairs: &[(&'static str, &'static str)]) -> Result<HeaderMap, Status> {
        let mut request = Request::new(());
        for (name, value) in pairs {
            request.headers_mut().append(*name, HeaderValue::from_static(value));
        }
        let (parts, ()) = request.into_parts();
        head(&parts, Codec::Proto).map(|(request, _)| request.headers().clone())
    }

    #[test]
    fn metadata_is_carried_over_and_protocol_headers_are_not() {
        let headers = head_of(&[
            ("content-type", "application/json"),
            ("content-length", "7"),
            ("connection", "keep-alive"),
            ("host", "x"),
            ("accept-encoding", "gzip"),
            ("connect-protocol-version", "1"),
            ("connect-timeout-ms", "5000"),
            ("grpc-timeout", "9H"),
            ("collector-namespace", "acme"),
            ("x-trace-bin", "AAE"),
            ("x-two", "1"),
            ("x-two", "2"),
        ])
        .unwrap();
        let mut names: Vec<_> = headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["collector-namespace", "content-type", "grpc-timeout", "te", "x-trace-bin", "x-two"]);
        assert_eq!(headers["grpc-timeout"], "5000m");
        assert_eq!(headers.get_all("x-two").iter().count(), 2);
    }

    #[test]
    fn odd_versions_timeouts_and_encodings_are_refused() {
        for (name, value, code) in [
            ("connect-protocol-version", "2", Code::InvalidArgument),
            ("connect-timeout-ms", "", Code::InvalidArgument),
            ("connect-timeout-ms", "-1", Code::InvalidArgument),
            ("connect-timeout-ms", "1.5", Code::InvalidArgument),
            ("connect-timeout-ms", "12345678901", Code::InvalidArgument),
            ("content-encoding", "deflate", Code::Unimplemented),
            ("connect-content-encoding", "br", Code::Unimplemented),
        ] {
            assert_eq!(head_of(&[(name, value)]).unwrap_err().code(), code, "{name}: {value}");
        }
        let two = [("connect-timeout-ms", "1"), ("connect-timeout-ms", "2")];
        assert_eq!(head_of(&two).unwrap_err().code(), Code::InvalidArgument);
        assert!(head_of(&[("content-encoding", "identity")]).is_ok());
        assert_eq!(head_of(&[("content-encoding", "gzip")]).unwrap()["grpc-encoding"], "gzip");
        assert_eq!(head_of(&[("connect-timeout-ms", "9999999999")]).unwrap()["grpc-timeout"], "9999999S");
        assert_eq!(head_of(&[("connect-timeout-ms", "99999999")]).unwrap()["grpc-timeout"], "99999999m");
    }
}
