//! Where a gRPC request goes: to one of the node's own services, or to what tenants deployed.

use super::native::Native;
use super::{anywhere, policy, status};
use crate::domain::one_line;
use crate::tenancy::{Caller, Refused, Tenancy};
use http::{Request, Response};
use std::net::IpAddr;
use std::sync::Arc;
use tonic::body::Body;
use tonic::service::Routes;
use tonic::{Code, Status};
use tower::Service as _;

/// All services behind one door. Clones share them.
#[derive(Clone)]
pub struct Door {
    own: Routes,
    names: Arc<[String]>,
    native: Native,
    tenancy: Tenancy,
}

impl Door {
    /// * `names`: full names of the services in `own`.
    pub(super) fn new(own: Routes, names: Vec<String>, native: Native, tenancy: Tenancy) -> Self {
        Self { own, names: names.into(), native, tenancy }
    }

    /// Takes the caller's place for one request.
    ///
    /// * `network`: where it calls from.
    /// * errors: `Quota`.
    pub(super) fn enter(&self, caller: Caller, network: Option<IpAddr>) -> Result<Caller, Refused> {
        self.tenancy.enter(caller, network)
    }

    /// Answers one request.
    pub(super) async fn call(mut self, mut request: Request<Body>) -> Response<Body> {
        if request.uri().path() == anywhere::PATH {
            // What is dispatched may be one of the services behind this door. Not kept by the service: it is one of them.
            let door = self.clone();
            request.extensions_mut().insert(door);
        }
        let path = request.uri().path();
        let service = path.get(1..).and_then(|path| path.split('/').next()).unwrap_or_default();
        if !self.names.iter().any(|name| name == service) {
            return self.native.call(request).await;
        }
        if policy::needs(path).is_none() {
            let message = "this service of the node has no such method";
            return status::plain(Code::Unimplemented, "NO_METHOD", message).into_http();
        }
        match self.own.call(request).await {
            Ok(response) => theirs(response),
            Err(never) => match never {},
        }
    }
}

/// tonic says INTERNAL of a request without a message, and of one that its own codec cannot decode; INTERNAL is always a
/// bug of ours, which would have details. Source: semantics.md section 1.
fn theirs(response: Response<Body>) -> Response<Body> {
    if response.headers().contains_key("collector-executor") {
        return response; // a guest ran, and may say INTERNAL of itself
    }
    match Status::from_header_map(response.headers()) {
        Some(status) if status.code() == Code::Internal && status.details().is_empty() => {
            let why = one_line(status.message(), 256);
            status::plain(Code::InvalidArgument, "UNDECODABLE", format!("the request does not decode: {why}"))
                .into_http()
        }
        _ => response,
    }
}
