//! How a call ended, in Connect's words. Source: connectrpc.com/docs/protocol, Error Codes, Error and EndStreamResponse.

use super::super::CHALLENGE;
use crate::rpc::details;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use prost::Message as _;
use serde_json::{Map, Value, json};
use tonic::body::Body;
use tonic::{Code, Status};

/// Connect's name of a code and the HTTP status of a unary answer.
fn named(code: Code) -> (&'static str, StatusCode) {
    match code {
        // 499 is no registered status, and a client that left does not see it.
        Code::Cancelled => ("canceled", StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST)),
        Code::InvalidArgument => ("invalid_argument", StatusCode::BAD_REQUEST),
        Code::DeadlineExceeded => ("deadline_exceeded", StatusCode::GATEWAY_TIMEOUT),
        Code::NotFound => ("not_found", StatusCode::NOT_FOUND),
        Code::AlreadyExists => ("already_exists", StatusCode::CONFLICT),
        Code::PermissionDenied => ("permission_denied", StatusCode::FORBIDDEN),
        Code::ResourceExhausted => ("resource_exhausted", StatusCode::TOO_MANY_REQUESTS),
        Code::FailedPrecondition => ("failed_precondition", StatusCode::BAD_REQUEST),
        Code::Aborted => ("aborted", StatusCode::CONFLICT),
        Code::OutOfRange => ("out_of_range", StatusCode::BAD_REQUEST),
        Code::Unimplemented => ("unimplemented", StatusCode::NOT_IMPLEMENTED),
        Code::Internal => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unavailable => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
        Code::DataLoss => ("data_loss", StatusCode::INTERNAL_SERVER_ERROR),
        Code::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
        // OK is no error; who calls it one does not know what happened.
        Code::Unknown | Code::Ok => ("unknown", StatusCode::INTERNAL_SERVER_ERROR),
    }
}

/// What headers or trailers say about the end of a call; `None` if they do not speak of it.
///
/// Details that are no base64 are left out: tonic would panic on them, and metadata may come from guests.
pub(super) fn status_of(headers: &HeaderMap) -> Option<Status> {
    if details::are_sound(headers) {
        return Status::from_header_map(headers);
    }
    let mut rest = headers.clone();
    details::defuse(&mut rest);
    Status::from_header_map(&rest)
}

/// The `Error` object of a status.
fn error(status: &Status) -> Value {
    let mut error = Map::new();
    error.insert("code".to_owned(), named(status.code()).0.into());
    if !status.message().is_empty() {
        error.insert("message".to_owned(), status.message().into());
    }
    let details = tonic_types::pb::Status::decode(status.details()).map(|status| status.details).unwrap_or_default();
    if !details.is_empty() {
        let one = |any: prost_types::Any| {
            let name = any.type_url.rsplit('/').next().unwrap_or_default();
            json!({ "type": name, "value": STANDARD_NO_PAD.encode(&any.value) })
        };
        error.insert("details".to_owned(), details.into_iter().map(one).collect());
    }
    error.into()
}

/// The answer to a unary call that failed.
///
/// * `trailers`: what else the call said at its end.
pub(super) fn unary(status: &Status, trailers: &HeaderMap) -> Response<Body> {
    let body = Bytes::from(error(status).to_string());
    let mut response = Response::new(Body::new(Full::new(body)));
    *response.status_mut() = named(status.code()).1;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if status.code() == Code::Unauthenticated {
        headers.insert(WWW_AUTHENTICATE, CHALLENGE);
    }
    add_trailers(headers, trailers);
    response
}

/// The message that ends a stream, without its envelope.
pub(super) fn end_stream(status: Option<&Status>, trailers: &HeaderMap) -> Vec<u8> {
    let mut end = Map::new();
    if let Some(status) = status {
        end.insert("error".to_owned(), error(status));
    }
    let mut metadata = Map::new();
    for name in trailers.keys().filter(|name| is_metadata(name)) {
        let values = trailers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        metadata.insert(name.as_str().to_owned(), values.collect());
    }
    if !metadata.is_empty() {
        end.insert("metadata".to_owned(), metadata.into());
    }
    Value::from(end).to_string().into_bytes()
}

/// Puts metadata of the end of a unary call among its headers.
pub(super) fn add_trailers(headers: &mut HeaderMap, trailers: &HeaderMap) {
    for (name, value) in trailers.iter().filter(|(name, _)| is_metadata(name)) {
        if let Ok(name) = HeaderName::try_from(format!("trailer-{name}")) {
            headers.append(name, value.clone());
        }
    }
}

/// Whether a header is a call's own metadata, not a protocol's: HTTP's, gRPC's or Connect's.
pub(super) fn is_metadata(name: &HeaderName) -> bool {
    const HTTP: [&str; 17] = [
        "accept",
        "accept-encoding",
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "server",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
    ];
    let name = name.as_str();
    !HTTP.contains(&name) && !["grpc-", "connect-", "trailer-", "access-control-"].iter().any(|p| name.starts_with(p))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, StatusExt as _};

    /// The table of the specification, word for word.
    #[test]
    fn codes_have_the_names_and_statuses_of_the_specification() {
        for (number, name, http) in [
            (1, "canceled", 499),
            (2, "unknown", 500),
            (3, "invalid_argument", 400),
            (4, "deadline_exceeded", 504),
            (5, "not_found", 404),
            (6, "already_exists", 409),
            (7, "permission_denied", 403),
            (8, "resource_exhausted", 429),
            (9, "failed_precondition", 400),
            (10, "aborted", 409),
            (11, "out_of_range", 400),
            (12, "unimplemented", 501),
            (13, "internal", 500),
            (14, "unavailable", 503),
            (15, "data_loss", 500),
            (16, "unauthenticated", 401),
        ] {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_static("grpc-status"),
                HeaderValue::try_from(number.to_string()).unwrap(),
            )]);
            let status = status_of(&headers).unwrap();
            assert_eq!(named(status.code()), (name, StatusCode::from_u16(http).unwrap()));
        }
        assert!(status_of(&HeaderMap::new()).is_none());
    }

    #[test]
    fn messages_and_details_survive_the_header() {
        let details = ErrorDetails::with_error_info("BUSY", "collector", std::collections::HashMap::new());
        let sent = Status::with_error_details(Code::ResourceExhausted, "größe 100%\n", details);
        let mut headers = HeaderMap::new();
        sent.add_header(&mut headers).unwrap();
        let error = error(&status_of(&headers).unwrap());
        assert_eq!(error["code"], "resource_exhausted");
        assert_eq!(error["message"], "größe 100%\n");
        assert_eq!(error["details"][0]["type"], "google.rpc.ErrorInfo");
        let value = error["details"][0]["value"].as_str().unwrap();
        assert!(!value.contains('='));
        let info = tonic_types::pb::ErrorInfo::decode(&*STANDARD_NO_PAD.decode(value).unwrap()).unwrap();
        assert_eq!(info.reason, "BUSY");
    }

    #[test]
    fn details_that_are_no_base64_do_not_panic() {
        let mut headers = HeaderMap::new();
        headers.insert("grpc-status", HeaderValue::from_static("5"));
        headers.insert("grpc-status-details-bin", HeaderValue::from_static("***"));
        headers.insert("grpc-message", HeaderValue::from_static("%ff%zz"));
        assert!(status_of(&headers).is_some());
        assert_eq!(status_of(&headers).unwrap().details(), b"");
    }

    #[test]
    fn the_end_of_a_stream_says_only_what_there_is_to_say() {
        assert_eq!(end_stream(None, &HeaderMap::new()), b"{}");
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        trailers.append("a", HeaderValue::from_static("1"));
        trailers.append("a", HeaderValue::from_static("2"));
        assert_eq!(end_stream(None, &trailers), br#"{"metadata":{"a":["1","2"]}}"#);
        let end = end_stream(Some(&Status::unavailable("")), &HeaderMap::new());
        assert_eq!(end, br#"{"error":{"code":"unavailable"}}"#);
    }
}
