//! `GET /descriptors/<namespace>.binpb`: a namespace's types for code generators and `grpcurl -protoset`.

use super::{CHALLENGE, plain};
use crate::domain::{Digest, Namespace};
use crate::registry::Registry;
use crate::rpc::edge;
use crate::tenancy::{Caller, Tenancy, Verb};
use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_NONE_MATCH, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use moka::future::Cache;
use std::sync::Arc;
use std::time::Duration;
use tonic::body::Body;

/// Where sets are. No call goes there: a method's name has no dot.
const PREFIX: &str = "/descriptors/";
const SUFFIX: &str = ".binpb";
/// What sets are asked for with.
const READS: [Method; 2] = [Method::GET, Method::HEAD];
/// Bytes of sets kept. 64 MiB: the largest that one namespace may have. Callers at once share one.
const KEPT: u64 = 64 << 20;
/// How long an unused set is kept. A minute: a build asks a few times in a row.
const IDLE: Duration = Duration::from_secs(60);

/// A set and its name.
#[derive(Debug, Clone)]
struct Set {
    bytes: Bytes,
    etag: HeaderValue,
}

impl Set {
    fn of(bytes: Bytes) -> Self {
        let etag = format!("\"sha256:{}\"", Digest::of(&bytes));
        // Hex digits always are a header value.
        Self { etag: HeaderValue::try_from(etag).unwrap_or_else(|_| HeaderValue::from_static("\"\"")), bytes }
    }
}

/// Serves the sets of all namespaces.
#[derive(Clone)]
pub(super) struct Descriptors {
    registry: Arc<Registry>,
    tenancy: Tenancy,
    kept: Cache<(Namespace, u64), Set>,
}

impl Descriptors {
    pub(super) fn new(registry: Arc<Registry>, tenancy: Tenancy) -> Self {
        let weigh = |_: &(Namespace, u64), set: &Set| u32::try_from(set.bytes.len()).unwrap_or(u32::MAX).max(256);
        Self { registry, tenancy, kept: Cache::builder().weigher(weigh).max_capacity(KEPT).time_to_idle(IDLE).build() }
    }

    /// Whether a request is for one of these, or looks for one in the wrong place.
    pub(super) fn has(request: &Request<Body>) -> bool {
        let path = request.uri().path();
        path.starts_with(PREFIX) && (path.ends_with(SUFFIX) || READS.contains(request.method()))
    }

    /// Answers GET and HEAD.
    pub(super) async fn get(&self, request: Request<()>) -> Response<Body> {
        let name = request.uri().path().strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        let Some(namespace) = name.and_then(|name| name.parse().ok()) else {
            return plain(StatusCode::NOT_FOUND, "descriptors are at /descriptors/<namespace>.binpb\n");
        };
        if !READS.contains(request.method()) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "descriptors are only read\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        let caller = match edge::caller_of(request.extensions()) {
            Ok(caller) => caller,
            Err(status) => {
                let mut response = plain(StatusCode::UNAUTHORIZED, format!("{}\n", status.message()));
                response.headers_mut().insert(WWW_AUTHENTICATE, CHALLENGE);
                return response;
            }
        };
        let caller = match self.tenancy.enter(caller, None) {
            Ok(caller) => caller,
            Err(why) => return plain(StatusCode::TOO_MANY_REQUESTS, format!("{why}\n")),
        };
        match self.set(&caller, namespace).await {
            Ok(set) => answer(&request, set),
            Err(why) => {
                tracing::error!(%why, "descriptors could not be put together");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the node failed to answer")
            }
        }
    }

    /// The set of a namespace: empty where nothing was registered, and just so where the caller may not look.
    async fn set(&self, caller: &Caller, namespace: Namespace) -> Result<Set, Arc<tokio::task::JoinError>> {
        let allowed = self.tenancy.allows(caller, &namespace, Verb::Discover);
        let snapshot = self.registry.snapshot(&namespace);
        let revision = snapshot.revision();
        if !allowed || revision == 0 {
            return Ok(Set::of(Bytes::new()));
        }
        // Many who ask at once wait for one; putting 64 MiB together and hashing them is no work for this thread.
        let build = async move { tokio::task::spawn_blocking(move || Set::of(snapshot.descriptor_set())).await };
        self.kept.try_get_with((namespace, revision), build).await
    }
}

fn answer(request: &Request<()>, set: Set) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(ETAG, set.etag.clone());
    // Kept copies have to be asked about: there is no other way to hear of a registration.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if matches(request.headers(), &set.etag) {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_LENGTH, set.bytes.len().into());
    if request.method() == Method::GET {
        *response.body_mut() = Body::new(Full::new(set.bytes));
    }
    response
}

/// Whether the caller has this set already. Source: RFC 9110 section 13.1.2.
fn matches(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    let values = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(str::trim);
    tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_etag_is_found_among_others() {
        let etag = HeaderValue::from_static("\"sha256:ab\"");
        for (value, known) in [
            ("\"sha256:ab\"", true),
            ("\"x\", W/\"sha256:ab\"", true),
            ("*", true),
            ("\"sha256:a\"", false),
            ("sha256:ab", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(IF_NONE_MATCH, HeaderValue::from_static(value))]);
            assert_eq!(matches(&headers, &etag), known, "{value}");
        }
    }
}
