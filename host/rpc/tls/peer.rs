//! Connections to other collectors: this node shows its certificate, and believes one URI.
//!
//! What the certificate of the other side is called, beside its URI, does not matter: names are the network's, identities
//! the operator's. Files are read for every connection, so that renewed ones are used by the next.

use super::dial::{Judge, Judged, versions};
use super::{Dialer, TlsError, Wire, files, provider};
use crate::tenancy;
use http::Uri;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The files of connections to peers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerFiles {
    /// This node's certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Authorities of the peers' certificates.
    pub ca: PathBuf,
    /// What those have taken back; empty: nothing.
    pub crl: PathBuf,
}

/// Makes connections to peers. Clones make the same.
#[derive(Debug, Clone, Default)]
pub struct PeerDialer(Option<Arc<PeerFiles>>);

/// Why there is no connection to a peer.
#[derive(Debug, thiserror::Error)]
pub(in crate::rpc) enum DialError {
    /// Nobody there, or nobody who answers.
    #[error("{0}")]
    Away(io::Error),
    /// Somebody else than the operator wanted, or who does not want this node.
    #[error("{0}")]
    Untrusted(Error),
    /// This node's own files.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// TLS without an identity to look for.
    #[error("the peer has no identity to be known by; add it with one")]
    NoIdentity,
}

impl PeerDialer {
    /// Encrypted connections; without files those in clear.
    pub fn new(files: Option<PeerFiles>) -> Self {
        Self(files.map(Arc::new))
    }

    /// Whether connections are encrypted.
    pub(in crate::rpc) fn is_tls(&self) -> bool {
        self.0.is_some()
    }

    /// Connects.
    ///
    /// * `identity`: the one URI of the peer's certificate.
    pub(in crate::rpc) async fn dial(&self, uri: &Uri, identity: Option<&str>) -> Result<Wire, DialError> {
        let dialer = match &self.0 {
            None => Dialer::plain(),
            Some(files) => {
                let (files, identity) = (Arc::clone(files), identity.ok_or(DialError::NoIdentity)?.to_owned());
                let read = tokio::task::spawn_blocking(move || files.dialer(identity)).await;
                read.map_err(|gone| DialError::Away(io::Error::other(gone)))??
            }
        };
        dialer.dial(uri).await.map_err(|why| match why.get_ref().and_then(|why| why.downcast_ref::<Error>()) {
            Some(untrusted) => DialError::Untrusted(untrusted.clone()),
            None => DialError::Away(why),
        })
    }
}

impl PeerFiles {
    /// Whether peers can be dialled with what is in the files.
    pub fn problem(&self) -> Option<TlsError> {
        self.dialer(String::new()).err()
    }

    fn dialer(&self, identity: String) -> Result<Dialer, TlsError> {
        let chain = files::certificates("mesh.certificate", &self.certificate)?;
        let key = files::key("mesh.key", &self.key)?;
        let roots = files::roots("mesh.ca", &self.ca)?;
        let revoked = match self.crl.as_os_str().is_empty() {
            true => Vec::new(),
            false => files::revoked("mesh.crl", &self.crl)?,
        };
        let verifier = Judged(OnePeer::new(identity, roots, revoked)?);
        let builder = versions()?.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
        let odd = |why: Error| TlsError::Content { what: "mesh.certificate", problem: why.to_string() };
        Ok(Dialer::of(builder.with_client_auth_cert(chain, key).map_err(odd)?))
    }
}

/// The URI of a certificate that has exactly one.
pub(in crate::rpc) fn identity(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let mut uris = tenancy::uris(&certificate);
    match (uris.next(), uris.next()) {
        (Some(only), None) => Some(only.to_owned()),
        _ => None,
    }
}

/// Believes whoever has the identity from one of the authorities, at this moment.
#[derive(Debug)]
struct OnePeer {
    identity: String,
    roots: Arc<RootCertStore>,
    /// Knows what was taken back. Peers show one certificate at both ends, so that it is good for a client, too.
    revoked: Arc<dyn ClientCertVerifier>,
}

impl OnePeer {
    fn new(
        identity: String,
        roots: RootCertStore,
        revoked: Vec<CertificateRevocationListDer<'static>>,
    ) -> Result<Self, TlsError> {
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
        let verifier = verifier.with_crls(revoked).allow_unknown_revocation_status().build();
        let odd = |why: VerifierBuilderError| TlsError::Content { what: "mesh.crl", problem: why.to_string() };
        Ok(Self { identity, roots, revoked: verifier.map_err(odd)? })
    }
}

impl Judge for OnePeer {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        self.revoked.verify_client_cert(leaf, intermediates, now)?;
        match identity(leaf) {
            Some(identity) if identity == self.identity => Ok(()),
            _ => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
    use rustls_pki_types::ServerName;
    use std::time::Duration;
    use tokio_rustls::rustls::client::danger::ServerCertVerifier as _;

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn certificate(by: &CertifiedIssuer<'static, KeyPair>, uris: &[&str], expired: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(["other.example".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        params.signed_by(&KeyPair::generate().unwrap(), by).unwrap().der().clone()
    }

    #[test]
    fn m07_only_the_pinned_uri_of_the_named_authority_is_believed() {
        let (own, other) = (authority(), authority());
        let mut roots = RootCertStore::empty();
        roots.add(own.der().clone()).unwrap();
        let verifier = Judged(OnePeer::new("spiffe://x/collector/b".into(), roots, Vec::new()).unwrap());
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let name = ServerName::try_from("10.0.0.1").unwrap();
        let believes = |der: &CertificateDer<'_>| verifier.verify_server_cert(der, &[], &name, &[], now).is_ok();
        let b = "spiffe://x/collector/b";
        assert!(believes(&certificate(&own, &[b], false)), "whatever it is called on the network");
        assert!(!believes(&certificate(&own, &[b], true)), "expired");
        assert!(!believes(&certificate(&other, &[b], false)), "of another authority");
        for uris in [&["spiffe://y/collector/b"][..], &["spiffe://x/collector/c"], &[b, "spiffe://x/collector/c"], &[]]
        {
            assert!(!believes(&certificate(&own, uris, false)), "{uris:?}");
        }
    }
}
