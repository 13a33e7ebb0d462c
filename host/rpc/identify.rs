//! Who is calling: the one place where a request gets its [`Caller`].

use crate::tenancy::Caller;
use http::Request;
use std::net::IpAddr;
use std::sync::Arc;
use tonic::body::Body;

/// The other end of a connection, as far as the transport knows it.
#[derive(Debug, Clone)]
pub(super) struct Peer {
    /// Where it calls from.
    pub(super) address: IpAddr,
    /// Its certificate (DER, the leaf), where TLS asked for one and found it good.
    pub(super) certificate: Option<Arc<[u8]>>,
}

/// Asks every request for its credentials.
#[derive(Debug, Clone, Default)]
pub(super) struct Identify;

impl Identify {
    /// Notes in the request's extensions who makes it.
    pub(super) fn note(&self, peer: &Peer, request: &mut Request<Body>) {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(Caller::anonymous());
    }
}
