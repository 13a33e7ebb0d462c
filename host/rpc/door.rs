//! Where a gRPC request goes: to one of the node's own services, or to what tenants deployed.

use super::native::Native;
use crate::tenancy::{Caller, Refused, Tenancy};
use http::{Request, Response};
use std::sync::Arc;
use tonic::body::Body;
use tonic::service::Routes;
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
    /// * errors: `Quota`.
    pub(super) fn enter(&self, caller: Caller) -> Result<Caller, Refused> {
        self.tenancy.enter(caller)
    }

    /// Answers one request.
    pub(super) async fn call(mut self, request: Request<Body>) -> Response<Body> {
        let path = request.uri().path();
        let service = path.get(1..).and_then(|path| path.split('/').next()).unwrap_or_default();
        if !self.names.iter().any(|name| name == service) {
            return self.native.call(request).await;
        }
        match self.own.call(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        }
    }
}
