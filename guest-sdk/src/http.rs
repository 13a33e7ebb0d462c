//! Requests to servers outside: `collector plugin grant NAME http=https://api.example.com`.
//!
//! One request at a time, at most 1 MiB each way, answered within 10 s. Redirects come back as they are. Addresses of
//! private networks are reached only where the node's operator says so.

use crate::{Fault, Secret};

#[cfg(target_family = "wasm")]
use crate::component::bindings::collector::plugin::http;

/// A request to be.
///
/// ```no_run
/// use collector_guest::http::Request;
///
/// let answer = Request::post("https://api.example.com/notes", "{}").header("content-type", "application/json").send()?;
/// assert_eq!(answer.status, 201);
/// # Ok::<_, collector_guest::Fault>(())
/// ```
#[derive(Debug)]
#[must_use = "nothing is sent before `send`"]
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a node reads them"))]
pub struct Request<'a> {
    method: String,
    url: String,
    headers: Vec<(String, Value<'a>)>,
    body: Vec<u8>,
}

#[derive(Debug)]
#[cfg_attr(not(target_family = "wasm"), allow(dead_code, reason = "only a node reads them"))]
enum Value<'a> {
    Text(String),
    Secret(String, &'a Secret),
}

impl<'a> Request<'a> {
    /// GET.
    pub fn get(url: impl Into<String>) -> Self {
        Self::new("GET", url, Vec::new())
    }

    /// POST with a body.
    pub fn post(url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", url, body)
    }

    /// Any other.
    /// * `method`: GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS.
    pub fn new(method: impl Into<String>, url: impl Into<String>, body: impl Into<Vec<u8>>) -> Self {
        Self { method: method.into(), url: url.into(), headers: Vec::new(), body: body.into() }
    }

    /// Adds a header. Host, content-length and what else belongs to the connection are the node's.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), Value::Text(value.into())));
        self
    }

    /// Adds a header that ends in a secret.
    /// * `prefix`: what stands before it, `Bearer `.
    pub fn secret_header(mut self, name: impl Into<String>, prefix: impl Into<String>, secret: &'a Secret) -> Self {
        self.headers.push((name.into(), Value::Secret(prefix.into(), secret)));
        self
    }

    /// Sends it and waits for the whole answer, whatever its status.
    /// * errors: `PERMISSION_DENIED` without the grant, or for an address that the node does not reach for anybody;
    ///   `INVALID_ARGUMENT`, `UNAVAILABLE`, `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`.
    pub fn send(self) -> Result<Response, Fault> {
        #[cfg(target_family = "wasm")]
        return self.send_by_node();
        #[cfg(not(target_family = "wasm"))]
        Err(crate::not_on_a_node(&["a request to ", &self.url].concat()))
    }

    #[cfg(target_family = "wasm")]
    fn send_by_node(self) -> Result<Response, Fault> {
        let value = |value| match value {
            Value::Text(text) => http::HeaderValue::Text(text),
            Value::Secret(prefix, secret) => http::HeaderValue::Secret(http::WithSecret { prefix, secret: &secret.0 }),
        };
        let headers = self.headers.into_iter().map(|(name, one)| (name, value(one))).collect();
        let request = http::Request { method: self.method, url: self.url, headers, body: self.body };
        let http::Response { status, headers, body } = http::fetch(&request)?;
        Ok(Response { status, headers, body })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// In order; names in lower case.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// First value of a header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name));
        found.and_then(|(_, value)| std::str::from_utf8(value).ok())
    }
}
