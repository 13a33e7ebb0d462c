//! One port, all protocols: gRPC, gRPC-Web and Connect over HTTP/1.1 and HTTP/2, by clients that know nothing of gRPC.

use crate::support::*;
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use prost::Message as _;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const CHECK: &str = "/grpc.health.v1.Health/Check";
const BOTH: [Version; 2] = [Version::HTTP_11, Version::HTTP_2];

/// What came back.
struct Got {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {:?}", self.body))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().unwrap()
    }

    /// Flags and messages of a body of envelopes.
    fn envelopes(&self) -> Vec<(u8, Bytes)> {
        let (mut rest, mut found) = (self.body.clone(), Vec::new());
        while !rest.is_empty() {
            let len = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
            found.push((rest[0], rest.slice(5..5 + len)));
            rest = rest.slice(5 + len..);
        }
        found
    }
}

/// A plain HTTP client of one version.
struct Http {
    client: Client<HttpConnector, Full<Bytes>>,
    address: String,
}

impl Http {
    fn new(node: &TestNode, version: Version) -> Self {
        let mut client = Client::builder(TokioExecutor::new());
        client.http2_only(version == Version::HTTP_2);
        Self { client: client.build(HttpConnector::new()), address: node.address() }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Got {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into())).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { status: head.status, headers: head.headers, body }
    }

    async fn post(&self, path: &str, content_type: &str, body: impl Into<Bytes>) -> Got {
        self.send(Method::POST, path, &[("content-type", content_type)], body).await
    }
}

fn seal(message: &[u8]) -> Vec<u8> {
    let len = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &len[..], message].concat()
}

#[tokio::test]
async fn a_built_in_service_answers_in_every_protocol_over_both_versions() {
    let node = TestNode::start().await;
    let serving = HealthCheckResponse { status: 1 }.encode_to_vec();
    for version in BOTH {
        let http = Http::new(&node, version);
        let got = http.post(CHECK, "application/json", "{}").await;
        assert_eq!((got.status, got.json()), (StatusCode::OK, json!({"status": "SERVING"})), "{version:?}");
        assert_eq!((got.header("content-type"), got.header("vary")), ("application/json", "origin"));
        let got = http.post(CHECK, "application/proto", "").await;
        assert_eq!((got.status, &got.body[..]), (StatusCode::OK, &serving[..]));
        let got = http.post(CHECK, "application/grpc-web+proto", seal(&[])).await;
        assert_eq!(got.envelopes()[0], (0, serving.clone().into()));
        assert_eq!(got.envelopes()[1], (0x80, "grpc-status:0\r\n".into()));
        let got = http.post(CHECK, "application/grpc-web-text", BASE64_STANDARD.encode(seal(&[]))).await;
        assert!(got.body.starts_with(BASE64_STANDARD.encode(seal(&serving)).as_bytes()));
    }
}

#[tokio::test]
async fn p05_what_does_not_decode_is_its_callers_doing() {
    let node = TestNode::start().await;
    let http = Http::new(&node, Version::HTTP_2);
    let own = [CHECK, "/collector.CollectionService/Get", "/collector.plugin.v1.Plugins/List"];
    for (path, body) in own.iter().flat_map(|path| [(path, seal(b"\x0a\xff\xff")), (path, Vec::new())]) {
        let got = http.post(path, "application/grpc", body).await;
        assert_eq!(got.header("grpc-status"), "3", "{path}: {}", got.header("grpc-message"));
    }
}

#[tokio::test]
async fn failures_have_the_http_status_of_their_code_and_their_details() {
    let node = TestNode::start().await;
    for version in BOTH {
        let http = Http::new(&node, version);
        let got = http.post(CHECK, "application/json", r#"{"service":"no.Such"}"#).await;
        assert_eq!((got.status.as_u16(), &got.json()["code"]), (404, &json!("not_found")));
        let got = http.post(CHECK, "application/json", r#"{"servce":""}"#).await;
        assert_eq!((got.status.as_u16(), &got.json()["code"]), (400, &json!("invalid_argument")));
        let detail = got.json()["details"][0].clone();
        assert_eq!(detail["type"], "google.rpc.ErrorInfo");
        let info = BASE64_STANDARD_NO_PAD.decode(detail["value"].as_str().unwrap()).unwrap();
        assert_eq!(tonic_types::pb::ErrorInfo::decode(&*info).unwrap().reason, "JSON");
        let got = http.post("/no.Such/Method", "application/json", "{}").await;
        assert_eq!((got.status.as_u16(), &got.json()["code"]), (501, &json!("unimplemented")));
        let got = http.post("/no.Such/Method", "application/proto", "").await;
        assert_eq!((got.status.as_u16(), &got.json()["code"]), (501, &json!("unimplemented")));
        let got = http.post("/no.Such/Method", "application/connect+json", "").await;
        assert!(got.status == StatusCode::OK && got.envelopes()[0].0 == 2);
        let lookup = "/collector.CollectorRegistry/LookupService";
        let got = http.post(lookup, "application/json", "{}").await;
        assert_eq!((got.status.as_u16(), &got.json()["code"]), (400, &json!("invalid_argument")));
        let serve = "/collector.CollectiveDispatcher/Serve";
        let got = http.post(serve, "application/proto", vec![0xff; 9]).await;
        assert_eq!((got.status.as_u16(), &got.json()["code"]), (400, &json!("invalid_argument")));
    }
}

#[tokio::test]
async fn a_plugins_methods_are_called_with_json_alone_and_streams_too() {
    let node = TestNode::start_with(|config| config.server.default_namespace = "acme".into()).await;
    deploy(&node, &plugin("streams")).await;
    let path = |method: &str| format!("/streams.v1.Streams/{method}");
    for version in BOTH {
        let http = Http::new(&node, version);
        let got = http.post(&path("Echo"), "application/json", r#"{"text":"größe"}"#).await;
        assert_eq!((got.status, got.json()), (StatusCode::OK, json!({"text": "größe"})));
        assert!(got.header("trailer-collector-digest").starts_with("sha256:"));
        let got = http.post(&path("Count"), "application/connect+json", seal(br#"{"to":"3"}"#)).await;
        let found = got.envelopes();
        let values: Vec<Value> = found[..3].iter().map(|(_, text)| serde_json::from_slice(text).unwrap()).collect();
        assert_eq!(values, [1, 2, 3].map(|n| json!({"value": n.to_string()})));
        let end: Value = serde_json::from_slice(&found[3].1).unwrap();
        assert!(found[3].0 == 2 && end.get("error").is_none() && end["metadata"]["collector-digest"].is_array());
        let numbers = [seal(br#"{"value":"2"}"#), seal(br#"{"value":40}"#)].concat();
        let got = http.post(&path("Sum"), "application/connect+json", numbers).await;
        let total: Value = serde_json::from_slice(&got.envelopes()[0].1).unwrap();
        assert_eq!((&total["sum"], &total["count"]), (&json!("42"), &json!("2")));
        let got = http.post(&path("Fail"), "application/connect+json", seal(b"{}")).await;
        let end: Value = serde_json::from_slice(&got.envelopes().last().unwrap().1).unwrap();
        assert!(end["error"]["code"].is_string(), "{end}");
        let got = http.post(&path("Count"), "application/json", "{}").await;
        assert_eq!(got.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    }
    let lines = [seal(br#"{"text":"a"}"#), seal(br#"{"text":"b"}"#)].concat();
    let got = Http::new(&node, Version::HTTP_2).post(&path("Chat"), "application/connect+json", lines.clone()).await;
    let said: Vec<Bytes> = got.envelopes().into_iter().map(|(_, text)| text).take(2).collect();
    assert_eq!(said, [r#"{"text":"A"}"#, r#"{"text":"B"}"#]);
    let got = Http::new(&node, Version::HTTP_11).post(&path("Chat"), "application/connect+json", lines).await;
    assert_eq!(got.status, StatusCode::HTTP_VERSION_NOT_SUPPORTED);
}

#[tokio::test]
async fn a_connect_timeout_is_a_deadline() {
    let node = TestNode::start_with(|config| config.server.default_namespace = "acme".into()).await;
    deploy(&node, &plugin("streams")).await;
    let http = Http::new(&node, Version::HTTP_11);
    let headers = [("content-type", "application/connect+json"), ("connect-timeout-ms", "50"), ("how", "sleep")];
    let begun = Instant::now();
    let got = http.send(Method::POST, "/streams.v1.Streams/Deaf", &headers, seal(b"{}")).await;
    let end: Value = serde_json::from_slice(&got.envelopes()[0].1).unwrap();
    assert_eq!(end["error"]["code"], "deadline_exceeded", "{end}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn only_configured_pages_get_an_answer() {
    let origin = "https://app.example";
    let node = TestNode::start_with(|config| config.server.cors_origins = vec![origin.into()]).await;
    for version in BOTH {
        let http = Http::new(&node, version);
        let ask = |origin| [("origin", origin), ("access-control-request-method", "POST")];
        let got = http.send(Method::OPTIONS, CHECK, &ask(origin), "").await;
        assert_eq!((got.status, got.header("access-control-allow-origin")), (StatusCode::NO_CONTENT, origin));
        assert!(got.header("access-control-allow-headers").contains("connect-protocol-version"));
        let got = http.send(Method::OPTIONS, CHECK, &ask("https://evil.example"), "").await;
        assert_eq!(got.status, StatusCode::FORBIDDEN);
        assert!(!got.headers.contains_key("access-control-allow-origin"));
        let call = |origin| [("origin", origin), ("content-type", "application/json")];
        let got = http.send(Method::POST, CHECK, &call(origin), "{}").await;
        assert_eq!((got.status, got.header("access-control-allow-origin")), (StatusCode::OK, origin));
        let got = http.send(Method::POST, CHECK, &call("null"), "{}").await;
        assert_eq!(got.status, StatusCode::FORBIDDEN);
    }
}

#[tokio::test]
async fn descriptors_are_served_once_per_revision_and_forbidden_looks_like_unknown() {
    let node = TestNode::start().await;
    for version in BOTH {
        let http = Http::new(&node, version);
        let empty = http.send(Method::GET, "/descriptors/nobody.binpb", &[], "").await;
        let system = http.send(Method::GET, "/descriptors/system.binpb", &[], "").await;
        assert_eq!((empty.status, empty.body.len()), (StatusCode::OK, 0));
        assert_eq!(
            (system.status, &system.body, system.header("etag")),
            (StatusCode::OK, &empty.body, empty.header("etag"))
        );
        for path in ["/descriptors/.binpb", "/descriptors/a%2Fb.binpb", "/descriptors/", "/descriptors/acme"] {
            let got = http.send(Method::GET, path, &[], "").await;
            assert_eq!(got.status, StatusCode::NOT_FOUND, "{path}");
        }
        let got = http.send(Method::DELETE, "/descriptors/acme.binpb", &[], "").await;
        assert_eq!((got.status, got.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
    }
    deploy(&node, &plugin("streams")).await;
    for version in BOTH {
        let http = Http::new(&node, version);
        let got = http.send(Method::GET, "/descriptors/acme.binpb", &[], "").await;
        assert_eq!((got.status, got.header("content-type")), (StatusCode::OK, "application/octet-stream"));
        let pool = prost_reflect::DescriptorPool::decode(got.body.clone()).unwrap();
        assert!(pool.get_service_by_name("streams.v1.Streams").is_some());
        let etag = got.header("etag");
        let again = http.send(Method::GET, "/descriptors/acme.binpb", &[("if-none-match", etag)], "").await;
        assert_eq!((again.status, again.body.len(), again.header("etag")), (StatusCode::NOT_MODIFIED, 0, etag));
        let head = http.send(Method::HEAD, "/descriptors/acme.binpb", &[], "").await;
        let length = got.body.len().to_string();
        assert_eq!((head.status, head.body.len(), head.header("content-length")), (StatusCode::OK, 0, &*length));
    }
}

#[tokio::test]
async fn limits_hold_at_and_above() {
    let node = TestNode::start().await;
    let path = "/collector.CollectorRegistry/LookupService";
    let big = |len: usize| format!(r#"{{"namespace":"{}"}}"#, "x".repeat(len - r#"{"namespace":""}"#.len()));
    for version in BOTH {
        let http = Http::new(&node, version);
        let got = http.post(path, "application/json", big(4 << 20)).await;
        assert_eq!(got.json()["code"], "invalid_argument", "the name is too long, the message is not");
        let got = http.post(path, "application/json", big((4 << 20) + 1)).await;
        assert_eq!((got.status.as_u16(), &got.json()["code"]), (429, &json!("resource_exhausted")));
        let got =
            http.send(Method::POST, CHECK, &[("content-type", "application/json"), ("content-encoding", "br")], "x");
        assert_eq!(got.await.json()["code"], "unimplemented");
    }
    let http = Http::new(&node, Version::HTTP_11);
    let padding = "x".repeat(60 << 10);
    let head = |padding| [("content-type", "application/json"), ("x-padding", padding)];
    assert_eq!(http.send(Method::POST, CHECK, &head(&padding), "{}").await.status, StatusCode::OK);
    let padding = "x".repeat(70 << 10);
    let got = http.send(Method::POST, CHECK, &head(&padding), "{}").await;
    assert_eq!(got.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let many: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    let got = http.send(Method::GET, "/", &many, "").await;
    assert_eq!(got.status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
}

#[tokio::test]
async fn hostile_lengths_are_refused_at_once() {
    let node = TestNode::start_with(|config| config.server.default_namespace = "acme".into()).await;
    deploy(&node, &plugin("streams")).await;
    for version in BOTH {
        let http = Http::new(&node, version);
        let four_gib = [0, 0xff, 0xff, 0xff, 0xff];
        let got = http.post("/streams.v1.Streams/Sum", "application/connect+json", four_gib.to_vec()).await;
        let end: Value = serde_json::from_slice(&got.envelopes()[0].1).unwrap();
        assert!(end["error"]["code"].is_string(), "{end}");
        for content_type in ["application/connect+proto", "application/grpc-web"] {
            let got = http.post("/streams.v1.Streams/Count", content_type, four_gib.to_vec()).await;
            assert_eq!(got.status, StatusCode::OK);
            let ended = got.headers.contains_key("grpc-status") || got.envelopes()[0].0 != 0;
            assert!(ended, "{content_type}");
        }
    }
}

#[tokio::test]
async fn grpc_over_http_1_and_what_is_no_call_are_told_what_the_port_is() {
    let node = TestNode::start().await;
    let http = Http::new(&node, Version::HTTP_11);
    let got = http.post(CHECK, "application/grpc", seal(&[])).await;
    assert_eq!(got.status, StatusCode::HTTP_VERSION_NOT_SUPPORTED);
    assert!(String::from_utf8_lossy(&got.body).contains("HTTP/2"));
    let got = http.send(Method::GET, "/", &[("accept", "text/html")], "").await;
    assert_eq!(got.status, StatusCode::NOT_FOUND);
    assert!(String::from_utf8_lossy(&got.body).contains("Collector node"));
    let got = http.send(Method::GET, CHECK, &[], "").await;
    assert_eq!((got.status, got.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, "POST"));
    let got = http.post(CHECK, "text/plain", "{}").await;
    assert_eq!(got.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(got.header("accept-post").contains("application/json"));
    // The same connection still speaks gRPC to who can.
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel(&node.address()).await);
    assert!(health.check(HealthCheckRequest::default()).await.is_ok());
}

/// Reads to the end of the connection; how long that took.
async fn closed(mut stream: TcpStream) -> (Vec<u8>, Duration) {
    let begun = Instant::now();
    let mut all = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut all)).await.expect("closed in time");
    (all, begun.elapsed())
}

#[tokio::test]
async fn connections_that_say_nothing_useful_are_closed() {
    let node = TestNode::start().await;
    let connect = async |said: &[u8]| {
        let mut stream = TcpStream::connect(node.node().address()).await.unwrap();
        stream.write_all(said).await.unwrap();
        stream
    };
    for noise in [&b"\x16\x03\x01\x02\x00\x01"[..], b"SSH-2.0-x\r\n", b"get / HTTP/1.1\r\n\r\n", b"PRI * HTTP/3"] {
        let (said, took) = closed(connect(noise).await).await;
        assert!(said.is_empty() && took < Duration::from_secs(2), "{noise:?}");
    }
    let silent = closed(connect(b"").await);
    let half_a_preface = closed(connect(b"PRI * HTTP").await);
    let half_a_head = closed(connect(b"POST /x HTTP/1.1\r\nhost: x\r\n").await);
    let idle = closed(connect(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await);
    let (silent, half_a_preface, half_a_head, idle) = tokio::join!(silent, half_a_preface, half_a_head, idle);
    for (_, took) in [silent, half_a_preface] {
        assert!(took > Duration::from_secs(4) && took < Duration::from_secs(8), "{took:?}");
    }
    for (_, took) in [&half_a_head, &idle] {
        assert!(*took > Duration::from_secs(8) && *took < Duration::from_secs(15), "{took:?}");
    }
    assert!(idle.0.starts_with(b"HTTP/1.1 404"));
}

#[tokio::test]
async fn a_draining_node_answers_calls_in_flight_and_closes_idle_connections() {
    let mut node = TestNode::start_with(|config| config.server.grace_ms = 20_000).await;
    let misbehave = plugin("misbehave");
    Call::new(&misbehave, "Sleep", amount(0)).run(&node.client).await.unwrap();
    let request = Call::new(&misbehave, "Sleep", amount(1_000)).by_digest().into_request().encode_to_vec();
    let http = Http::new(&node, Version::HTTP_11);
    let mut idle = TcpStream::connect(node.node().address()).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    assert!(idle.read(&mut [0; 4_096]).await.unwrap() > 0);
    let call =
        tokio::spawn(
            async move { http.post("/collector.CollectiveDispatcher/Serve", "application/proto", request).await },
        );
    until("the call runs", || async { node.node().wasm_stats().await.running > 0 }).await;
    let begun = Instant::now();
    node.node.take().unwrap().stop().await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(call.await.unwrap().status, StatusCode::OK);
    assert_eq!(idle.read(&mut [0; 16]).await.unwrap(), 0);
}
