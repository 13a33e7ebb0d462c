//! Who is calling: the one place where a request gets its [`Caller`].
//!
//! ```text
//! authorization: Bearer clk_...   a key of this node
//! authorization: Bearer <JWT>     a token of the configured issuer
//! no authorization                the certificate of the connection, if the configuration names it
//! collector-forward: ...          a peer's statement of whose call it hands over, good once (mesh::Inbound)
//! ```
//! Credentials end here: nothing behind this sees the header.

use super::edge::RequestId;
use super::mesh::FORWARD;
use super::tls::identity;
use super::{ended, policy, status};
use crate::mesh::{Inbound, Peers};
use crate::tenancy::audit::Trail;
use crate::tenancy::{Caller, Tenancy};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request};
use std::net::IpAddr;
use std::sync::Arc;
use tonic::Status;
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
#[derive(Debug, Clone)]
pub struct Identify {
    tenancy: Tenancy,
    peers: Option<Peers>,
    inbound: Inbound,
}

/// Marks a request whose caller is nobody that the node knows.
#[derive(Debug, Clone)]
pub(super) struct Unknown {
    tenancy: Tenancy,
    trail: Trail,
    /// A peer hands the call over, and may hand it to another.
    is_forwarded: bool,
}

impl Unknown {
    /// Turns the caller away, which is written down.
    pub(super) fn turn_away(&self) -> Status {
        self.tenancy.turned_away(&self.trail);
        match self.is_forwarded {
            true => status::never_began(status::not_forwarded()),
            false => status::unauthenticated(),
        }
    }
}

/// What a request shows of its caller.
enum Shown {
    /// Nothing.
    Nothing,
    /// Somebody.
    Caller(Caller),
    /// Something that is not good.
    Bad,
    /// A statement that is not good.
    BadStatement,
}

impl Identify {
    /// * `tenancy`: knows who is who.
    pub fn new(tenancy: Tenancy) -> Self {
        Self { tenancy, peers: None, inbound: Inbound::default() }
    }

    /// * `peers`: other collectors, who are known by their certificates.
    #[must_use]
    pub fn with_peers(self, peers: Peers) -> Self {
        Self { peers: Some(peers), ..self }
    }

    /// * `inbound`: links over which peers hand calls over.
    #[must_use]
    pub fn with_links(self, inbound: Inbound) -> Self {
        Self { inbound, ..self }
    }

    /// Looks at the certificate of a connection, once.
    pub(super) fn connection(&self, peer: Peer) -> Visitor {
        let holder = peer.certificate.as_deref().and_then(|der| {
            let holder = self.tenancy.certificate(der).or_else(|| self.collector(der));
            tracing::debug!(address = %peer.address, known = holder.is_some(), "a client certificate");
            holder
        });
        Visitor { tenancy: self.tenancy.clone(), inbound: self.inbound.clone(), peer, holder }
    }

    /// Another collector that this is the certificate of.
    fn collector(&self, der: &[u8]) -> Option<Caller> {
        let identity = identity(der)?;
        self.peers.as_ref()?.find_by_identity(&identity)?;
        self.tenancy.peer(der, &identity)
    }
}

/// Asks the requests of one connection.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    tenancy: Tenancy,
    inbound: Inbound,
    peer: Peer,
    /// Whose certificate it is.
    holder: Option<Caller>,
}

impl Visitor {
    /// Notes in the request's extensions who makes it, and takes the credentials out of it.
    pub(super) fn note(&self, request: &mut Request<Body>) {
        let shown = match (request.headers().contains_key(FORWARD), self.tenancy.asks()) {
            (true, _) => self.forwarded(request),
            (false, true) => self.shown(request.headers()),
            (false, false) => Shown::Caller(Caller::anonymous()),
        };
        request.headers_mut().remove(AUTHORIZATION);
        request.headers_mut().remove(FORWARD);
        let open = policy::is_open(request.uri().path());
        request.extensions_mut().insert(self.peer.clone());
        match shown {
            Shown::Caller(caller) => drop(request.extensions_mut().insert(caller)),
            Shown::Nothing if open => drop(request.extensions_mut().insert(Caller::anonymous())),
            Shown::Nothing | Shown::Bad | Shown::BadStatement => {
                let is_forwarded = matches!(shown, Shown::BadStatement);
                let trail = ended::trail(&RequestId::default(), request.uri().path(), request.extensions());
                request.extensions_mut().insert(Unknown { tenancy: self.tenancy.clone(), trail, is_forwarded });
            }
        }
    }

    /// A peer hands the call over: what it says of its caller counts, and nothing else that the request shows.
    fn forwarded(&self, request: &mut Request<Body>) -> Shown {
        let headers = request.headers();
        let mut values = headers.get_all(FORWARD).iter();
        let (Some(value), None, false) = (values.next(), values.next(), headers.contains_key(AUTHORIZATION)) else {
            return Shown::BadStatement;
        };
        let good = value.to_str().ok().and_then(|value| self.inbound.check(value, request.uri().path()).ok());
        let Some(forwarded) = good else { return Shown::BadStatement };
        let caller = forwarded.caller();
        request.extensions_mut().insert(forwarded);
        Shown::Caller(caller)
    }

    fn shown(&self, headers: &HeaderMap) -> Shown {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let value = match (values.next(), values.next()) {
            (Some(value), None) => value,
            (Some(_), Some(_)) => return Shown::Bad,
            (None, _) => {
                return match &self.holder {
                    None => Shown::Nothing,
                    Some(holder) if holder.has_ended() => Shown::Bad,
                    Some(holder) => Shown::Caller(holder.clone()),
                };
            }
        };
        let caller = value.to_str().ok().and_then(bearer).and_then(|token| self.tenancy.bearer(token));
        caller.map_or(Shown::Bad, Shown::Caller)
    }
}

/// The token of `Bearer <token>`. Source: RFC 6750 section 2.1.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, token) = value.split_once(' ')?;
    let token68 = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.bytes().all(token68)).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u01_only_a_bearer_token_is_read() {
        assert_eq!(bearer("Bearer abc.d-e_f"), Some("abc.d-e_f"));
        assert_eq!(bearer("bearer x"), Some("x"));
        for bad in
            ["", "Bearer", "Bearer ", "Bearer  x", "Bearer x y", "Basic eDp5", "x", "Bearer x,Bearer y", "Bearer\tx"]
        {
            assert_eq!(bearer(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn where_nobody_is_asked_credentials_mean_nothing_and_go_no_further() {
        let peer = Peer { address: [127, 0, 0, 1].into(), certificate: None };
        let visitor = Identify::new(Tenancy::default()).connection(peer);
        let mut request = Request::new(Body::empty());
        request.headers_mut().insert(AUTHORIZATION, "Basic nonsense".parse().unwrap());
        visitor.note(&mut request);
        assert!(request.extensions().get::<Caller>().is_some() && request.headers().is_empty());
    }
}
