//! Client certificates: what the configuration says of them.

use super::caller::Life;
use super::config::Bindings;
use super::{Binding, Caller, Principal};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// Names of one certificate that are looked at: those who have more are none of ours.
const NAMES_MAX: usize = 64;

/// The URIs among a certificate's names.
pub(crate) fn uris<'a>(certificate: &'a X509Certificate<'_>) -> impl Iterator<Item = &'a str> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| names.value.general_names.iter()).take(NAMES_MAX);
    names.filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
}

/// Which certificates mean somebody.
#[derive(Debug)]
pub(super) struct Certificates {
    known: HashMap<Arc<str>, Vec<Binding>>,
    /// Nothing is sent: what the configuration says stays.
    changes: watch::Sender<u64>,
}

impl Certificates {
    pub(super) fn new<'a>(configured: impl IntoIterator<Item = (&'a String, &'a Bindings)>) -> Self {
        let known = configured.into_iter().map(|(name, bindings)| (name.as_str().into(), bindings.0.clone()));
        Self { known: known.collect(), changes: watch::Sender::new(0) }
    }

    /// Whether any does.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Whose certificate this is. By its hash first: that names one certificate, a URI all that bear it.
    ///
    /// * `der`: a leaf that TLS found good.
    pub(super) fn find(&self, der: &[u8]) -> Option<Caller> {
        let hash = format!("sha256:{}", hex::encode(Sha256::digest(der)));
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut candidates = std::iter::once(hash.as_str()).chain(uris(&certificate));
        let (identity, bindings) = candidates.find_map(|name| self.known.get_key_value(name))?;
        let principal = Principal::Certificate { identity: Arc::clone(identity) };
        self.caller(&certificate, principal, bindings.clone())
    }

    /// Another collector, for as long as its certificate is good.
    pub(super) fn peer(&self, der: &[u8], identity: &str) -> Option<Caller> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        self.caller(&certificate, Principal::Peer { identity: identity.into() }, Vec::new())
    }

    fn caller(&self, leaf: &X509Certificate<'_>, principal: Principal, bindings: Vec<Binding>) -> Option<Caller> {
        let until = leaf.validity().not_after.timestamp().saturating_mul(1_000_000);
        let life = Life::new(Some(until), Vec::new(), self.changes.subscribe());
        let caller = Caller::new(principal, bindings, Some(life));
        (!caller.has_ended()).then_some(caller)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    fn certificate(uris: &[&str], expired: bool) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        if expired {
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn known(names: &[(&str, &str)]) -> Certificates {
        let bindings = |text: &str| Bindings(vec![text.parse().unwrap()]);
        let all: Vec<_> = names.iter().map(|(name, text)| ((*name).to_owned(), bindings(text))).collect();
        Certificates::new(all.iter().map(|(name, bindings)| (name, bindings)))
    }

    #[test]
    fn a_certificate_is_known_by_its_hash_or_by_a_uri() {
        let der = certificate(&["spiffe://x/a", "spiffe://x/b"], false);
        let hash = format!("sha256:{}", hex::encode(Sha256::digest(&der)));
        let by_uri = known(&[("spiffe://x/b", "acme:reader")]).find(&der).unwrap();
        assert_eq!(by_uri.principal().to_string(), "certificate:spiffe://x/b");
        let by_hash = known(&[("spiffe://x/b", "acme:reader"), (&hash, "acme:admin")]).find(&der).unwrap();
        assert_eq!(by_hash.bindings(), ["acme:admin".parse().unwrap()]);
        for other in ["spiffe://x/B", "spiffe://x/", "spiffe://x/ab"] {
            assert!(known(&[(other, "acme:reader")]).find(&der).is_none(), "{other}");
        }
        assert!(known(&[("spiffe://x/a", "acme:reader")]).find(&certificate(&["spiffe://x/a"], true)).is_none());
        assert!(known(&[("spiffe://x/a", "acme:reader")]).find(b"no certificate").is_none());
    }
}
