//! The translations around a door that gives back what it gets.

mod door;
mod streams;

use super::envelope::{END_STREAM, Messages, seal};
use super::{Config, Web};
use crate::domain::Deadline;
use crate::lifecycle::Lifecycle;
use crate::registry::{self, BuiltIn, Registry};
use crate::store::SqliteStore;
use crate::tenancy::{Caller, Tenancy};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Full, StreamBody};
use prost::Message as _;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;
use tonic::body::Body;
use tonic::{Code, Status};

const PROTO: &str = r#"
    syntax = "proto3";
    package web.test;
    message Note { string text = 1; int64 number = 2; }
    service Echo {
        rpc Unary(Note) returns (Note);
        rpc Down(Note) returns (stream Note);
        rpc Up(stream Note) returns (Note);
        rpc Both(stream Note) returns (stream Note);
    }"#;

#[derive(Clone, PartialEq, prost::Message)]
struct Note {
    #[prost(string, tag = "1")]
    text: String,
    #[prost(int64, tag = "2")]
    number: i64,
}

fn note(text: &str) -> Vec<u8> {
    Note { text: text.to_owned(), number: 0 }.encode_to_vec()
}

fn descriptors() -> Bytes {
    struct Text;
    impl protox::file::FileResolver for Text {
        fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
            protox::file::File::from_source(name, PROTO)
        }
    }
    let mut compiler = protox::Compiler::with_file_resolver(Text);
    compiler.open_file("echo.proto").unwrap();
    compiler.encode_file_descriptor_set().into()
}

/// A registry that knows the service in every namespace.
async fn registry() -> Arc<Registry> {
    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(SqliteStore::open(folder.path()).unwrap());
    let built_in = BuiltIn { sets: vec![descriptors()], services: vec!["web.test.Echo".to_owned()] };
    let opened = Registry::open(store, &built_in, registry::Config::default(), Lifecycle::default());
    Arc::new(opened.await.unwrap())
}

async fn web_of(origins: &[&str]) -> Web {
    let cors_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    let config = Config { cors_origins, ..Config::default() };
    Web::new(&config, "default".parse().unwrap(), registry().await, Tenancy::default()).unwrap()
}

async fn web() -> Web {
    web_of(&[]).await
}

/// Answers with what was asked, then OK and `x-end`; with the error that came instead of a message.
async fn echo(request: Request<Body>) -> Response<Body> {
    assert_eq!(request.method(), Method::POST);
    assert_eq!(request.version(), Version::HTTP_2);
    assert!(request.headers()["content-type"].to_str().unwrap().starts_with("application/grpc"));
    let frames = stream::unfold(Some(request.into_body()), |body| async {
        let mut body = body?;
        let mut trailers = HeaderMap::from_iter([("x-end".parse().unwrap(), HeaderValue::from_static("1"))]);
        match body.frame().await {
            Some(Ok(frame)) if frame.is_data() => return Some((Ok::<_, Status>(frame), Some(body))),
            Some(Err(status)) => status.add_header(&mut trailers).unwrap(),
            _ => Status::ok("").add_header(&mut trailers).unwrap(),
        }
        Some((Ok(Frame::trailers(trailers)), None))
    });
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response.headers_mut().insert("x-begin", HeaderValue::from_static("1"));
    response
}

fn post(method: &str, content_type: &'static str, body: impl Into<Bytes>) -> Request<Body> {
    let mut request = Request::new(Body::new(Full::new(body.into())));
    request.extensions_mut().insert(Caller::anonymous());
    *request.method_mut() = Method::POST;
    *request.version_mut() = Version::HTTP_11;
    *request.uri_mut() = format!("/web.test.Echo/{method}").parse().unwrap();
    request.headers_mut().insert("content-type", HeaderValue::from_static(content_type));
    request
}

fn h2(mut request: Request<Body>) -> Request<Body> {
    *request.version_mut() = Version::HTTP_2;
    request
}

fn pieces(all: Vec<Bytes>) -> Body {
    Body::new(StreamBody::new(stream::iter(all.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece))))))
}

async fn text(response: Response<Body>) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn value(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// Flags and messages of a stream.
async fn envelopes(response: Response<Body>) -> Vec<(u8, Bytes)> {
    let mut all = response.into_body().collect().await.unwrap().to_bytes();
    let mut found = Vec::new();
    while !all.is_empty() {
        let len = u32::from_be_bytes(all[1..5].try_into().unwrap()) as usize;
        found.push((all[0], all.slice(5..5 + len)));
        all = all.slice(5 + len..);
    }
    found
}

#[tokio::test]
async fn a_unary_call_goes_in_and_out_in_json_and_in_protobuf() {
    let web = web().await;
    let response = web.handle(post("Unary", "application/json", r#"{"text":"hi","number":"7"}"#), echo).await;
    assert_eq!(response.status(), StatusCode::OK);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!((&headers["x-begin"], &headers["trailer-x-end"]), (&"1".parse().unwrap(), &"1".parse().unwrap()));
    assert!(!headers.contains_key("trailer-grpc-status") && !headers.contains_key("grpc-status"));
    assert_eq!(response.body().size_hint().exact(), Some(26), "HTTP/1.1 needs no chunks");
    assert_eq!(value(response).await, json!({"text": "hi", "number": "7"}));

    let response = web.handle(post("Unary", "application/proto", note("hi")), echo).await;
    assert_eq!(response.headers()["content-type"], "application/proto");
    assert_eq!(Note::decode(text(response).await.as_bytes()).unwrap().text, "hi");
    for empty in [post("Unary", "application/proto", ""), post("Unary", "application/json", "{}")] {
        assert_eq!(web.handle(empty, echo).await.status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn failures_are_errors_with_the_status_of_their_code_wherever_grpc_puts_them() {
    let web = web().await;
    for (code, name, http) in [
        (Code::Cancelled, "canceled", 499),
        (Code::InvalidArgument, "invalid_argument", 400),
        (Code::DeadlineExceeded, "deadline_exceeded", 504),
        (Code::NotFound, "not_found", 404),
        (Code::ResourceExhausted, "resource_exhausted", 429),
        (Code::Unimplemented, "unimplemented", 501),
        (Code::Unavailable, "unavailable", 503),
        (Code::Unauthenticated, "unauthenticated", 401),
    ] {
        let headers_only = |_| async move { Status::new(code, "no\u{fc}").into_http() };
        let in_trailers = |_| async move {
            let mut trailers = HeaderMap::new();
            Status::new(code, "no\u{fc}").add_header(&mut trailers).unwrap();
            let frames = stream::iter([Ok::<_, Infallible>(Frame::trailers(trailers))]);
            Response::new(Body::new(StreamBody::new(frames)))
        };
        let json = || post("Unary", "application/json", "{}");
        for response in [web.handle(json(), headers_only).await, web.handle(json(), in_trailers).await] {
            assert_eq!(response.status(), StatusCode::from_u16(http).unwrap());
            assert_eq!(response.headers()["content-type"], "application/json");
            assert_eq!(value(response).await, json!({"code": name, "message": "no\u{fc}"}));
        }
        let stream = || post("Down", "application/connect+proto", seal(0, b"").unwrap());
        for response in [web.handle(stream(), headers_only).await, web.handle(stream(), in_trailers).await] {
            assert_eq!(response.status(), StatusCode::OK);
            let end: Value = serde_json::from_slice(&envelopes(response).await[0].1).unwrap();
            assert_eq!(end["error"], json!({"code": name, "message": "no\u{fc}"}));
        }
    }
}

#[tokio::test]
async fn what_is_refused_before_the_call_never_reaches_the_door() {
    let web = web().await;
    let never = |_| async { panic!("reached the door") };
    let with = |name: &'static str, value: &'static str, mut request: Request<Body>| {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        request
    };
    for (request, code) in [
        (with("connect-protocol-version", "2", post("Unary", "application/json", "{}")), "invalid_argument"),
        (with("connect-timeout-ms", "soon", post("Unary", "application/json", "{}")), "invalid_argument"),
        (with("content-encoding", "br", post("Unary", "application/proto", "")), "unimplemented"),
        (with("collector-namespace", "a/b", post("Unary", "application/json", "{}")), "invalid_argument"),
        (with("collector-namespace", "system", post("Unary", "application/json", "{}")), "permission_denied"),
    ] {
        let response = web.handle(request, never).await;
        assert_eq!(response.headers()["accept-encoding"], "gzip");
        assert_eq!(value(response).await["code"], code);
    }
    let request = with("connect-content-encoding", "br", post("Down", "application/connect+json", ""));
    let response = web.handle(request, never).await;
    assert_eq!(
        (response.status(), &response.headers()["connect-accept-encoding"]),
        (StatusCode::OK, &"gzip".parse().unwrap())
    );
    let found = envelopes(response).await;
    assert!(found[0].0 == END_STREAM && found[0].1.starts_with(br#"{"error":{"code":"unimplemented""#));
}

#[tokio::test]
async fn json_has_a_limit_with_and_without_a_length() {
    let web = web().await;
    let sized = |len: usize| format!(r#"{{"text":"{}"}}"#, "x".repeat(len - r#"{"text":""}"#.len()));
    let max = super::json::TEXT_MAX;
    let response = web.handle(post("Unary", "application/json", sized(max)), echo).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut chunked = post("Unary", "application/json", "");
    *chunked.body_mut() = pieces(vec![Bytes::from(sized(max)), Bytes::from_static(b" ")]);
    for request in [post("Unary", "application/json", sized(max + 1)), chunked] {
        let response = web.handle(request, echo).await;
        assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(value(response).await["code"], "resource_exhausted");
    }
    // Binary of known length is the inner door's to judge: it sees the length before the first byte.
    let mut chunked = post("Unary", "application/proto", "");
    *chunked.body_mut() = pieces(vec![Bytes::from(vec![0; 5 << 20])]);
    assert_eq!(web.handle(chunked, echo).await.status(), StatusCode::TOO_MANY_REQUESTS);
    let door = |request: Request<Body>| async {
        let head = request.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&head[..], [0, 0, 0x50, 0, 0]);
        Status::resource_exhausted("").into_http()
    };
    web.handle(post("Unary", "application/proto", vec![0; 5 << 20]), door).await;
}

#[tokio::test]
async fn what_the_node_does_not_know_is_unimplemented() {
    let web = web().await;
    let unknown = || post("Nothing", "application/json", "{}");
    let inner = |_| async { Status::unimplemented("no such method").into_http() };
    let response = web.handle(unknown(), inner).await;
    assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
    assert_eq!(value(response).await["message"], "no such method");
    let response = web.handle(unknown(), echo).await;
    assert_eq!(
        (response.status(), value(response).await["code"].clone()),
        (StatusCode::NOT_IMPLEMENTED, json!("unimplemented"))
    );
    // Without types, protobuf passes; a second message shows that the method streams.
    let response = web.handle(post("Nothing", "application/proto", note("hi")), echo).await;
    assert_eq!(response.status(), StatusCode::OK);
    let two = |_| async {
        echo(h2(post("x", "application/grpc", [seal(0, b"").unwrap(), seal(0, b"").unwrap()].concat()))).await
    };
    let response = web.handle(post("Nothing", "application/proto", ""), two).await;
    assert_eq!(response.status(), StatusCode::NOT_IMPLEMENTED);
}

#[tokio::test]
async fn bad_json_names_its_place_and_odd_ends_are_ours() {
    let web = web().await;
    let response = web.handle(post("Unary", "application/json", r#"{"txt":"hi"}"#), echo).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let error = value(response).await;
    assert!(error["message"].as_str().unwrap().contains("txt"), "{error}");
    assert_eq!(error["details"][0]["type"], "google.rpc.ErrorInfo");
    for body in [Bytes::new(), Bytes::from_static(&[0, 0, 0, 0, 9]), seal(0, b"").unwrap()] {
        let cut = |_| async { Response::new(Body::new(Full::new(body))) };
        let response = web.handle(post("Unary", "application/proto", ""), cut).await;
        assert_eq!(value(response).await["code"], "internal");
    }
}

#[tokio::test]
async fn a_reply_that_never_ends_is_given_up_at_the_calls_deadline() {
    let web = web().await;
    let stuck = |_| async {
        let frames = stream::pending::<Result<Frame<Bytes>, Infallible>>();
        let mut response = Response::new(Body::new(StreamBody::new(frames)));
        response.extensions_mut().insert(Deadline::after(Duration::from_millis(1)));
        response
    };
    let response = web.handle(post("Unary", "application/proto", ""), stuck).await;
    assert_eq!(value(response).await["code"], "deadline_exceeded");
}

#[tokio::test]
async fn a_door_that_reads_messages_gets_them_whole() {
    let web = web().await;
    let door = |request: Request<Body>| async {
        let headers = request.headers().clone();
        assert_eq!(headers["grpc-timeout"], "1500m");
        assert_eq!(headers["te"], "trailers");
        let mut messages = Messages::new(request.into_body(), 1_000, false);
        assert_eq!(messages.next().await.unwrap().unwrap(), note("hi"));
        assert_eq!(messages.next().await.unwrap(), None);
        Status::ok("").into_http()
    };
    for mut request in
        [post("Unary", "application/json", r#"{"text":"hi"}"#), post("Unary", "application/proto", note("hi"))]
    {
        request.headers_mut().insert("connect-timeout-ms", HeaderValue::from_static("1500"));
        web.handle(request, door).await;
    }
}
