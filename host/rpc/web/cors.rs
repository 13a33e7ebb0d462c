//! Which web pages may call the node from a browser: those of the configured origins, nobody else's.
//!
//! A request with an `Origin` that is not configured is refused before anything runs. That is more than CORS asks for
//! (a browser would only withhold the answer): a page that makes its own host name point at 127.0.0.1 counts as the same
//! origin to its browser, but it cannot hide its `Origin`. Source: fetch.spec.whatwg.org; connectrpc.com/docs/cors.

use super::super::BadSetting;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tonic::body::Body;

/// Methods that anything on the port answers.
const METHODS: HeaderValue = HeaderValue::from_static("POST, GET");
/// Request headers of the protocols and of semantics.md section 1. Named in full: a wildcard leaves out `authorization`.
const REQUEST: HeaderValue = HeaderValue::from_static(
    "content-type, connect-protocol-version, connect-timeout-ms, connect-content-encoding, connect-accept-encoding, \
     grpc-timeout, x-grpc-web, x-user-agent, authorization, traceparent, tracestate, idempotency-key, if-match, \
     if-none-match, collector-namespace, collector-validate-only, collector-batch",
);
/// Response headers that a page may read: how calls end, and receipts, which Connect sends with a prefix.
const RESPONSE: HeaderValue = HeaderValue::from_static(
    "grpc-status, grpc-message, grpc-status-details-bin, etag, collector-executor, collector-digest, \
     collector-version, collector-fuel, collector-peak-memory-bytes, collector-queue-us, collector-run-us, \
     collector-start, trailer-etag, trailer-collector-executor, trailer-collector-digest, trailer-collector-version, \
     trailer-collector-fuel, trailer-collector-peak-memory-bytes, trailer-collector-queue-us, \
     trailer-collector-run-us, trailer-collector-start",
);
/// Seconds that a browser may keep a preflight's answer. 7,200: more than that Chrome cuts off.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");

/// The configured origins.
#[derive(Debug, Clone)]
pub(in crate::rpc) struct Cors {
    any: bool,
    origins: Vec<String>,
}

/// Where a request comes from.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Visitor {
    /// No web page, or one that only reads from its own origin.
    Local,
    /// A page of a configured origin; how the answer names it.
    Welcome(HeaderValue),
    /// A page of any other.
    Stranger,
}

impl Cors {
    /// * `origins`: each `scheme://host[:port]` or `*`.
    /// * errors: an origin that is neither, named.
    pub(in crate::rpc) fn new(origins: &[String]) -> Result<Self, BadSetting> {
        let any = origins.iter().any(|origin| origin == "*");
        let named = origins.iter().filter(|origin| *origin != "*");
        let parsed = named.map(|origin| {
            normal(origin).ok_or_else(|| BadSetting {
                key: "server.cors_origins",
                problem: format!("{origin:?} is no origin: write scheme://host or scheme://host:port, or \"*\""),
            })
        });
        Ok(Self { any, origins: parsed.collect::<Result<_, _>>()? })
    }

    /// Looks at the `Origin`. `null` (a sandboxed page, a file) is nobody's, so only `*` lets it in.
    pub(super) fn visitor(&self, headers: &HeaderMap) -> Visitor {
        let mut values = headers.get_all(ORIGIN).iter();
        let (Some(origin), more) = (values.next(), values.next()) else { return Visitor::Local };
        if self.any {
            return Visitor::Welcome(HeaderValue::from_static("*"));
        }
        let known = origin.to_str().ok().and_then(normal).is_some_and(|origin| self.origins.contains(&origin));
        if known && more.is_none() { Visitor::Welcome(origin.clone()) } else { Visitor::Stranger }
    }

    /// Whether a browser only asks if it may.
    pub(super) fn is_preflight<B>(request: &Request<B>) -> bool {
        request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD)
    }

    /// Yes, it may.
    pub(super) fn preflight() -> Response<Body> {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST);
        headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        headers.append(VARY, HeaderValue::from_static("access-control-request-method, access-control-request-headers"));
        response
    }

    /// Lets the visitor's browser show the answer to the page. Every answer varies, or a cache would mix them up.
    pub(super) fn finish(visitor: Visitor, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Visitor::Welcome(origin) = visitor {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, RESPONSE);
        }
    }
}

/// An origin as browsers write it: lower case, without the scheme's own port. `None` if it is none.
fn normal(origin: &str) -> Option<String> {
    let origin = origin.to_ascii_lowercase();
    let (scheme, rest) = origin.split_once("://")?;
    let scheme_ok = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let (host, port) = match rest.rsplit_once(':') {
        // The colons of an IPv6 address are inside brackets.
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (rest, None),
    };
    let host_ok = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)),
    };
    if !scheme_ok || !host_ok {
        return None;
    }
    let port = match port {
        None => None,
        Some(digits) if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse::<u16>().ok()?),
        Some(_) => return None,
    };
    Some(match (scheme, port) {
        (_, None) | ("http", Some(80)) | ("https", Some(443)) => format!("{scheme}://{host}"),
        (_, Some(port)) => format!("{scheme}://{host}:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str]) -> Result<Cors, BadSetting> {
        Cors::new(&origins.iter().map(|origin| (*origin).to_owned()).collect::<Vec<_>>())
    }

    fn from(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn what_is_no_origin_is_refused_by_name() {
        for bad in [
            "",
            "app.example",
            "https://",
            "https://app.example/",
            "https://app.example/x",
            "https://a b",
            "https://u@app.example",
            "https://app.example:",
            "https://app.example:99999",
            "https://app.example:+1",
            "https://*.example",
            "https://[::g]",
            "1x://app",
            "null",
        ] {
            let why = cors(&["https://good.example", bad]).unwrap_err().to_string();
            assert!(why.contains("server.cors_origins") && why.contains(&format!("{bad:?}")), "{why}");
        }
        assert!(cors(&["*", "http://localhost:5173", "http://[::1]:80", "capacitor://localhost"]).is_ok());
    }

    #[test]
    fn only_configured_origins_are_welcome() {
        let some = cors(&["https://App.example:443", "http://localhost:5173", "http://[::1]"]).unwrap();
        for origin in ["https://app.example", "http://localhost:5173", "http://[::1]:80"] {
            assert_eq!(some.visitor(&from(origin)), Visitor::Welcome(HeaderValue::from_static(origin)));
        }
        for origin in [
            "http://app.example",
            "https://app.example:444",
            "https://app.example.evil",
            "http://localhost",
            "null",
            "x",
        ] {
            assert_eq!(some.visitor(&from(origin)), Visitor::Stranger, "{origin}");
        }
        let mut two = from("https://app.example");
        two.append(ORIGIN, HeaderValue::from_static("https://app.example"));
        assert_eq!(some.visitor(&two), Visitor::Stranger);
        assert_eq!(some.visitor(&HeaderMap::new()), Visitor::Local);
        assert_eq!(cors(&[]).unwrap().visitor(&from("http://localhost")), Visitor::Stranger);
        assert_eq!(cors(&["*"]).unwrap().visitor(&from("null")), Visitor::Welcome(HeaderValue::from_static("*")));
    }
}
