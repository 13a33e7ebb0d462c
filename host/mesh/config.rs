//! The `[mesh]` section and the `[[peers]]` of the configuration.

use super::peers::{BadPeer, PEERS_MAX, PeerPolicy};
use crate::domain::{self, CollectorId};
use crate::tenancy::Binding;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// The `[mesh]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What this collector is called. Empty: the UUID that it made at its first start. With TLS between collectors it is
    /// the last segment of the URI in the collector's certificate.
    pub id: String,
    /// PEM file of the certificate that the node shows to its peers. Empty: `server.tls.certificate`.
    pub certificate: PathBuf,
    /// PEM file of its key, which nobody but its owner may read. Empty: `server.tls.key`.
    pub key: PathBuf,
    /// PEM file of authorities whose certificates peers show. Empty: `server.tls.client_ca`.
    pub ca: PathBuf,
    /// PEM file of those authorities' revocation lists: no link to a peer whose certificate is on one. Empty:
    /// `server.tls.client_crl`.
    pub crl: PathBuf,
    /// Seconds that a link stays before it is made anew, beside the old one, and a third more until it is ended if it was
    /// not. 45, and no more: a certificate that is good no longer is of no use within a minute. The same on all collectors.
    pub link_s: u64,
    /// Seconds that a peer which reads code may take nothing of it. 10: as long as a request may stand still.
    pub read_idle_s: u64,
}

/// Longest that a link stays: with the third more it is a minute. Source: threats.md M07.
const LINK_S_MAX: u64 = 45;

impl Default for Config {
    fn default() -> Self {
        let none = PathBuf::new;
        Self {
            id: String::new(),
            certificate: none(),
            key: none(),
            ca: none(),
            crl: none(),
            link_s: LINK_S_MAX,
            read_idle_s: 10,
        }
    }
}

/// One of the `[[peers]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Entry {
    /// `host:port` that it advertises.
    pub address: String,
    /// The one URI of its certificate: `spiffe://TRUST-DOMAIN/collector/ID`. Needed with TLS, and only then.
    pub identity: String,
    /// What it may do here on behalf of its callers, as keys have it: `acme:invoker`, `*:deployer`. Empty: nothing.
    #[serde(deserialize_with = "domain::list")]
    pub allows: Vec<Binding>,
}

/// What the node's other settings give to know peers by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ground {
    /// Connections are encrypted, so that peers show certificates.
    pub tls: bool,
    /// The authorities of those certificates are named.
    pub authorities: bool,
    /// The node has a certificate of its own to show.
    pub certificate: bool,
    /// Callers have to say who they are.
    pub asks: bool,
    /// The operator says that the network is safe: `--insecure`.
    pub insecure: bool,
}

/// A setting that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BadSetting {
    key: String,
    problem: String,
}

impl BadSetting {
    fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

impl Ground {
    /// Whether there can be peers at all.
    ///
    /// * errors: what has to be set first.
    pub fn bears_peers(self) -> Result<(), BadSetting> {
        match self {
            Self { tls: false, asks: true, .. } => Err(BadSetting::new(
                "peers",
                "cannot be told from strangers: with auth.mode = \"required\" they show certificates, which needs \
                 server.tls.certificate, server.tls.key and server.tls.client_ca (`collector peer init` makes them)",
            )),
            Self { tls: true, authorities: false, .. } => Err(BadSetting::new(
                "peers",
                "need server.tls.client_ca, the authority of their certificates (`collector peer init` makes one)",
            )),
            Self { tls: true, certificate: false, .. } => Err(BadSetting::new(
                "peers",
                "need mesh.certificate and mesh.key, or server.tls.certificate and server.tls.key: what the node shows to \
                 them (`collector peer init` makes both)",
            )),
            _ => Ok(()),
        }
    }
}

impl Config {
    /// Refuses what cannot be kept, naming the first of it.
    pub fn check(&self, peers: &[Entry], ground: Ground) -> Result<(), BadSetting> {
        self.own_id()?;
        if self.certificate.as_os_str().is_empty() != self.key.as_os_str().is_empty() {
            return Err(BadSetting::new("mesh.certificate", "needs mesh.key, and the other way round"));
        }
        if !(1..=LINK_S_MAX).contains(&self.link_s) {
            return Err(BadSetting::new("mesh.link_s", format!("must be from 1 to {LINK_S_MAX}")));
        }
        if self.read_idle_s == 0 {
            return Err(BadSetting::new("mesh.read_idle_s", "must be above 0"));
        }
        if peers.is_empty() {
            return Ok(());
        }
        ground.bears_peers()?;
        if peers.len() > PEERS_MAX {
            return Err(BadSetting::new("peers", format!("has more than {PEERS_MAX} entries")));
        }
        let (mut addresses, mut identities) = (BTreeSet::new(), BTreeSet::new());
        for (at, entry) in peers.iter().enumerate() {
            let key = |field: &str| format!("peers[{at}].{field}");
            let bad = |why: BadPeer| BadSetting::new(key(why.field), why.problem);
            let policy = entry.policy(ground).map_err(bad)?;
            if !addresses.insert(policy.address) {
                return Err(BadSetting::new(key("address"), "is that of another peer"));
            }
            if policy.identity.is_some_and(|identity| !identities.insert(identity)) {
                return Err(BadSetting::new(key("identity"), "is that of another peer"));
            }
        }
        Ok(())
    }

    /// The id that the operator gave; `None`: the node's own making.
    ///
    /// * errors: it is no id.
    pub fn own_id(&self) -> Result<Option<CollectorId>, BadSetting> {
        match self.id.as_str() {
            "" => Ok(None),
            id => id.parse().map(Some).map_err(|why: domain::NameError| BadSetting::new("mesh.id", why.to_string())),
        }
    }
}

impl Entry {
    /// What it says of a peer.
    ///
    /// * errors: a field that does not do.
    pub fn policy(&self, ground: Ground) -> Result<PeerPolicy, BadPeer> {
        let identity = Some(self.identity.clone()).filter(|identity| !identity.is_empty());
        PeerPolicy::new(self.address.clone(), identity, self.allows.clone(), ground)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Ground = Ground { tls: false, authorities: false, certificate: false, asks: false, insecure: true };
    const TLS: Ground = Ground { tls: true, authorities: true, certificate: true, asks: true, insecure: false };

    fn entry(address: &str, identity: &str) -> Entry {
        Entry { address: address.into(), identity: identity.into(), allows: vec!["acme:invoker".parse().unwrap()] }
    }

    fn says(peers: &[Entry], ground: Ground) -> String {
        Config::default().check(peers, ground).map_or_else(|why| why.to_string(), |()| String::new())
    }

    #[test]
    fn m07_peers_are_known_by_certificate_or_on_a_node_that_asks_nobody() {
        let (plain, pinned) = (entry("127.0.0.1:1", ""), entry("b.example:1", "spiffe://d/collector/b"));
        assert_eq!(says(std::slice::from_ref(&plain), PLAIN), "");
        assert_eq!(says(std::slice::from_ref(&pinned), TLS), "");
        assert!(says(std::slice::from_ref(&plain), TLS).starts_with("peers[0].identity: is needed"));
        assert!(says(std::slice::from_ref(&pinned), PLAIN).starts_with("peers[0].identity"));
        for (ground, wanted) in [
            (Ground { asks: true, ..PLAIN }, "auth.mode"),
            (Ground { authorities: false, ..TLS }, "server.tls.client_ca"),
            (Ground { certificate: false, ..TLS }, "mesh.certificate"),
        ] {
            assert!(says(std::slice::from_ref(&pinned), ground).contains(wanted), "{wanted}");
            assert_eq!(says(&[], ground), "", "without peers nothing is needed");
        }
    }

    #[test]
    fn m07_nothing_goes_in_clear_to_another_machine_unless_the_operator_says_so() {
        let strict = Ground { insecure: false, ..PLAIN };
        let near = ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "localhost:1"];
        let far = ["b.example:1", "10.0.0.1:1", "[fe80::1]:1", "localhost.example:1", "0.0.0.0:1"];
        for address in near {
            assert_eq!(says(&[entry(address, "")], strict), "", "{address}");
        }
        for address in far {
            let refused = says(&[entry(address, "")], strict);
            assert!(refused.starts_with("peers[0].address") && refused.contains("--insecure"), "{refused}");
            assert_eq!(says(&[entry(address, "")], PLAIN), "", "{address}");
            assert_eq!(says(&[entry(address, "spiffe://d/collector/b")], TLS), "", "{address}");
        }
    }

    #[test]
    fn entries_that_cannot_be_kept_are_named() {
        assert!(says(&[entry("http://a:1", "")], PLAIN).starts_with("peers[0].address"));
        assert!(says(&[entry("a:1", ""), entry("a:1", "")], PLAIN).starts_with("peers[1].address: is that of another"));
        let twice = [entry("a:1", "spiffe://d/collector/a"), entry("b:1", "spiffe://d/collector/a")];
        assert!(says(&twice, TLS).starts_with("peers[1].identity: is that of another"));
        let many: Vec<Entry> = (1..=PEERS_MAX + 1).map(|n| entry(&format!("a:{n}"), "")).collect();
        assert_eq!(says(&many[1..], PLAIN), "");
        assert!(says(&many, PLAIN).contains("more than 100"));
        let config = Config { id: "a/b".into(), ..Config::default() };
        assert!(config.check(&[], PLAIN).unwrap_err().to_string().starts_with("mesh.id"));
        for (link_s, is_good) in [(0, false), (1, true), (45, true), (46, false), (u64::MAX, false)] {
            assert_eq!(Config { link_s, ..Config::default() }.check(&[], PLAIN).is_ok(), is_good, "{link_s}");
        }
        let half = Config { key: "k.pem".into(), ..Config::default() };
        assert!(half.check(&[], PLAIN).unwrap_err().to_string().starts_with("mesh.certificate"));
    }
}
