//! A gRPC client that sends any bytes and looks at every byte that it is given (invariant I7).

use crate::dial::{Address, Dial};
use bytes::{Buf as _, BufMut as _, Bytes};
use http::uri::PathAndQuery;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use prost::Message;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataKey;
use tonic::{Code, Request, Status};

/// How long an answer is waited for. 90 s: above every deadline of the node, so its absence is the node's failure.
const PATIENCE: Duration = Duration::from_secs(90);
/// Largest reply: the node's own largest.
const REPLY_MAX: usize = 64 << 20;
/// Findings kept of one run; a node that leaks once leaks often.
const FINDINGS_MAX: usize = 20;

/// What an attacker was given, as far as it must not have been.
#[derive(Debug, Default)]
pub struct Seen {
    /// What is the bystander's alone.
    canary: String,
    calls: AtomicU64,
    by_code: Mutex<BTreeMap<String, u64>>,
    changed: Mutex<BTreeMap<String, u64>>,
    findings: Mutex<Vec<String>>,
}

impl Seen {
    pub fn new(canary: &str) -> Self {
        Self { canary: canary.to_owned(), ..Self::default() }
    }

    /// Calls, and attacks that are no calls, made so far.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    pub fn count(&self, calls: u64) {
        self.calls.fetch_add(calls, Ordering::Relaxed);
    }

    /// How calls ended.
    pub fn by_code(&self) -> BTreeMap<String, u64> {
        self.by_code.lock().unwrap().clone()
    }

    /// Changes that were acknowledged since somebody asked, by path.
    pub fn take_changed(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut *self.changed.lock().unwrap())
    }

    /// What was found since somebody asked.
    pub fn take_findings(&self) -> Vec<String> {
        std::mem::take(&mut *self.findings.lock().unwrap())
    }

    /// Looks for the canary.
    pub fn look(&self, whence: &str, bytes: &[u8]) {
        if !self.canary.is_empty() && memchr::memmem::find(bytes, self.canary.as_bytes()).is_some() {
            self.found(format!("I7: {whence} had the bystander's bytes in it"));
        }
    }

    fn status(&self, path: &str, status: &Status) {
        *self.by_code.lock().unwrap().entry(format!("{:?}", status.code())).or_default() += 1;
        self.look(path, status.message().as_bytes());
        self.look(path, status.details());
        for pair in status.metadata().iter() {
            if let tonic::metadata::KeyAndValueRef::Ascii(_, value) = pair {
                self.look(path, value.as_bytes());
            }
        }
        // A guest may say INTERNAL of itself, and so may this client of a broken connection.
        let reason = tonic_types::StatusExt::get_details_error_info(status).map(|info| info.reason);
        let of_the_node = status.code() == Code::Internal && reason.as_deref() != Some("FAULT");
        if of_the_node && std::error::Error::source(status).is_none() {
            self.found(format!("INTERNAL, a bug of the node, from {path}: {}", crate::case::told(status)));
        }
    }

    fn found(&self, what: String) {
        let mut findings = self.findings.lock().unwrap();
        if findings.len() < FINDINGS_MAX {
            findings.push(what);
        }
    }
}

/// A connection of its own, closed with the last clone.
#[derive(Clone)]
pub struct Wire {
    client: Client<Dial, Body>,
    origin: http::Uri,
    token: Option<String>,
    pub seen: Arc<Seen>,
}

impl Wire {
    /// * `token`: sent as `authorization: Bearer` with every call.
    pub fn new(address: &Address, token: Option<String>, seen: Arc<Seen>) -> Result<Self, String> {
        let client = Client::builder(TokioExecutor::new())
            .http2_only(true)
            .pool_timer(TokioTimer::new())
            .build(Dial(address.clone()));
        let origin = address.url().parse().map_err(|why| format!("{}: {why}", address.url()))?;
        Ok(Self { client, origin, token, seen })
    }

    /// The same place as somebody who shows nothing.
    pub fn without_token(&self) -> Self {
        Self { token: None, ..self.clone() }
    }

    /// A call to be made.
    ///
    /// * `path`: `package.Service/Method`.
    pub fn to(&self, path: impl Into<String>) -> Call<'_> {
        Call { wire: self, path: path.into(), headers: Vec::new() }
    }

    /// A whole HTTP/2 request body, framed by the caller: HTTP status and what came of the gRPC call.
    pub async fn frame(&self, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Result<(u16, Status), String> {
        self.seen.count(1);
        let uri = format!("{}{path}", self.origin.to_string().trim_end_matches('/'));
        let mut request = http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
        if let Some(token) = &self.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        for (key, value) in headers {
            request = request.header(*key, *value);
        }
        let request = request.body(Body::new(Full::new(Bytes::from(body)))).map_err(|why| why.to_string())?;
        let answered = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
        let response = answered.map_err(|_| "no answer")?.map_err(|why| format!("the connection broke: {why}"))?;
        let (parts, body) = response.into_parts();
        let body = tokio::time::timeout(PATIENCE, body.collect()).await.map_err(|_| "the answer has no end")?;
        let body = body.map_err(|why| format!("the answer broke off: {why}"))?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        self.seen.look(path, &body.to_bytes());
        let status = Status::from_header_map(&trailers).or_else(|| Status::from_header_map(&parts.headers));
        let status = status.unwrap_or_else(|| Status::new(Code::Unknown, "no gRPC status"));
        self.seen.status(path, &status);
        Ok((parts.status.as_u16(), status))
    }
}

/// One call, to be changed before it is made.
pub struct Call<'a> {
    wire: &'a Wire,
    path: String,
    headers: Vec<(String, String)>,
}

/// What a call was answered with.
#[derive(Debug)]
pub struct Answer<T> {
    pub message: T,
}

impl Call<'_> {
    pub fn header(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((key.into(), value.into()));
        self
    }

    pub fn namespace(self, namespace: &str) -> Self {
        self.header("collector-namespace", namespace)
    }

    /// The node's time for it: sent, and not kept by this side, which would end the call before the node answers.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.header("grpc-timeout", format!("{}m", timeout.as_millis()))
    }

    /// A message of which only the answer's status matters.
    pub async fn status(self, message: &impl Message) -> Result<(), Status> {
        self.bytes(vec![message.encode_to_vec()]).await.map(drop)
    }

    pub async fn ask<A: Message + Default>(self, message: &impl Message) -> Result<A, Status> {
        let answer = self.bytes(vec![message.encode_to_vec()]).await?;
        A::decode(answer.message.as_slice()).map_err(|why| Status::data_loss(format!("the reply: {why}")))
    }

    /// Any bytes as messages; the last reply.
    pub async fn bytes(self, messages: Vec<Vec<u8>>) -> Result<Answer<Vec<u8>>, Status> {
        let seen = Arc::clone(&self.wire.seen);
        seen.count(1);
        let path = self.path.clone();
        let answer = tokio::time::timeout(PATIENCE, self.send(messages)).await;
        let answer = answer.unwrap_or_else(|_| Err(Status::cancelled("the suite waited 90 s for an answer")));
        match &answer {
            Ok(answer) => {
                seen.look(&path, &answer.message);
                if crate::audit::CHANGES.contains(&path.as_str()) {
                    *seen.changed.lock().unwrap().entry(path).or_default() += 1;
                }
            }
            Err(status) => seen.status(&path, status),
        }
        answer
    }

    async fn send(self, messages: Vec<Vec<u8>>) -> Result<Answer<Vec<u8>>, Status> {
        let mut request = Request::new(tokio_stream::iter(messages));
        let bearer = self.wire.token.iter().map(|token| ("authorization".to_owned(), format!("Bearer {token}")));
        for (key, value) in bearer.chain(self.headers) {
            let key = MetadataKey::from_bytes(key.as_bytes()).map_err(|_| Status::aborted("no such header"))?;
            let value = value.parse().map_err(|_| Status::aborted("no such header value"))?;
            request.metadata_mut().append(key, value);
        }
        let path = format!("/{}", self.path).parse::<PathAndQuery>();
        let path = path.map_err(|why| Status::aborted(format!("no path: {why}")))?;
        let mut grpc =
            Grpc::with_origin(self.wire.client.clone(), self.wire.origin.clone()).max_decoding_message_size(REPLY_MAX);
        grpc.ready().await.map_err(|why| Status::unavailable(why.to_string()))?;
        let response = grpc.client_streaming(request, path, RawCodec).await?;
        Ok(Answer { message: response.into_inner() })
    }
}

/// Sends bytes as they are, and takes any.
#[derive(Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let all = buffer.remaining();
        Ok(Some(buffer.copy_to_bytes(all).to_vec()))
    }
}
