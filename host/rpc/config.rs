//! The `[server]` section of the configuration.

use super::tls::TlsConfig;
use super::web::Cors;
use crate::domain::{self, is_endpoint};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The port and its connections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where to listen. Loopback: nothing is reachable from outside until somebody says so.
    pub listen: SocketAddr,
    /// `host:port` that other machines reach the node by, for Route. Empty: the address that it listens on.
    pub advertised_address: String,
    /// Listens beyond loopback although callers are not encrypted or not authenticated.
    pub insecure: bool,
    /// Connections at once. 1,024: each may cost 64 KiB and more. One more is closed at once.
    pub connections: usize,
    /// Connections at once of one address; IPv6 addresses that share their first 64 bits are one, as they are one
    /// customer's. 64: a client needs one, a machine with a few dozen clients has room. Raise it for a proxy.
    pub connections_per_address: usize,
    /// Connections at once that have not yet shaken hands and said what they speak. 32: it takes milliseconds; the one
    /// that has taken longest makes room for the next.
    pub handshakes: usize,
    /// Calls at once on one connection. 100: gRPC's usual figure.
    pub streams: u32,
    /// Calls at once on all connections, streams among them. 4,096: sixteen times what slots there are for guests, so
    /// that every queue behind is full first. One more is refused at once; health is not counted.
    pub calls: usize,
    /// Seconds until a connection is told to go away, give or take a tenth. 1,800: a client that opens another finds
    /// new nodes, new certificates and revoked rights; 0: never.
    pub age_s: u64,
    /// Seconds that calls in flight then have. 600: as long as the longest stream.
    pub age_grace_s: u64,
    /// Seconds without a call until a connection is told to go away; 0: never. 300: clients come back for less.
    pub idle_s: u64,
    /// Seconds that an answer may wait for its reader; then what it holds is let go and the call has ended. 60: longer than
    /// any network stands still and goes on. A stream on which nothing happens does not wait for its reader.
    pub unread_s: u64,
    /// The namespace of native calls, reflection and health that name none in metadata `collector-namespace`.
    pub default_namespace: String,
    /// Milliseconds that calls in flight get to finish when the node stops. 10,000: below what supervisors wait.
    pub grace_ms: u64,
    /// Web pages that may call the node from a browser: `scheme://host[:port]`, or `*` for all. None: a page could reach
    /// a node on its reader's own machine. In the environment and in flags separated by commas.
    #[serde(deserialize_with = "domain::list")]
    pub cors_origins: Vec<String>,
    /// Encryption.
    pub tls: TlsConfig,
}

/// A setting that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {problem}")]
pub struct BadSetting {
    /// Its key in the configuration.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Config {
    /// Refuses origins and addresses that are none, limits of nothing, and half of a certificate.
    pub fn check(&self) -> Result<(), BadSetting> {
        if !self.advertised_address.is_empty() && !is_endpoint(&self.advertised_address) {
            let problem = format!("{:?} is not host:port", self.advertised_address);
            return Err(BadSetting { key: "server.advertised_address", problem });
        }
        for (key, zero) in [
            ("server.connections_per_address", self.connections_per_address == 0),
            ("server.handshakes", self.handshakes == 0),
            ("server.calls", self.calls == 0),
            ("server.unread_s", self.unread_s == 0),
        ] {
            if zero {
                return Err(BadSetting { key, problem: "must be above 0".to_owned() });
            }
        }
        self.tls.check()?;
        Cors::new(&self.cors_origins).map(|_| ())
    }

    /// Names and addresses by which clients on this machine and elsewhere may call the node.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        let listen = self.listen.ip();
        if !listen.is_unspecified() {
            names.push(listen.to_string());
        }
        if let Some((host, _port)) = self.advertised_address.rsplit_once(':') {
            names.push(host.trim_matches(['[', ']']).to_owned());
        }
        names
    }
}

impl Default for Config {
    fn default() -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 50_051));
        Self {
            listen,
            advertised_address: String::new(),
            insecure: false,
            connections: 1_024,
            connections_per_address: 64,
            handshakes: 32,
            streams: 100,
            calls: 4_096,
            age_s: 1_800,
            age_grace_s: 600,
            idle_s: 300,
            unread_s: 60,
            default_namespace: "default".to_owned(),
            grace_ms: 10_000,
            cors_origins: Vec::new(),
            tls: TlsConfig::default(),
        }
    }
}
