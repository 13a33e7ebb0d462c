//! The `[auth]` section of the configuration.

use super::{BINDINGS_MAX, Binding};
use crate::domain;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// The `[auth]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether callers have to say who they are. Off: a node for oneself, on loopback; credentials are not looked at.
    pub mode: Mode,
    /// Keys of all namespaces together. 100,000: they are in memory, half a KiB each.
    pub keys: usize,
    /// Keys of one namespace. 1,000: one for each service and person of a large team.
    pub keys_per_namespace: usize,
    /// Tokens that an issuer signs. Without an issuer none are accepted.
    pub jwt: Jwt,
    /// Client certificates: what each may do. A key is a URI of the certificate's alternative names, or `sha256:` and the
    /// 64 hex digits of the whole certificate's hash. Needs TLS that asks for certificates. Set in a file: the names have
    /// dots.
    pub certificates: BTreeMap<String, Bindings>,
}

/// Whether callers have to say who they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// No: all are the same, and may do everything outside of `system`.
    #[default]
    Off,
    /// Yes.
    Required,
}

/// A list of bindings; in the environment and in flags with commas.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bindings(#[serde(deserialize_with = "domain::list")] pub Vec<Binding>);

/// Which tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// What claim `iss` has to be. Empty: no token is accepted.
    pub issuer: String,
    /// What claim `aud` has to be, or to hold. Tokens for others are refused.
    pub audience: String,
    /// File with the issuer's public keys, a JSON Web Key Set. Looked at every second, read when it has changed.
    pub jwks: PathBuf,
    /// The only algorithm that tokens are signed with. EdDSA: the shortest signatures, and nothing to choose wrongly.
    pub algorithm: Algorithm,
    /// The most that tokens may give. Calling in any namespace: code, records and keys stay with the node's own keys
    /// until somebody says otherwise.
    #[serde(deserialize_with = "domain::list")]
    pub roles: Vec<Binding>,
}

/// How tokens are signed. Nothing with a shared secret, and not "none".
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    /// Ed25519.
    #[default]
    EdDSA,
    /// ECDSA with P-256.
    ES256,
    /// RSA, PKCS#1 v1.5.
    RS256,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            keys: 100_000,
            keys_per_namespace: 1_000,
            jwt: Jwt::default(),
            certificates: BTreeMap::new(),
        }
    }
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            issuer: String::new(),
            audience: String::new(),
            jwks: PathBuf::new(),
            algorithm: Algorithm::EdDSA,
            roles: vec![Binding { scope: super::Scope::All, role: super::Role::Invoker }],
        }
    }
}

/// A setting that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("auth.{key}: {problem}")]
pub struct BadSetting {
    key: String,
    problem: String,
}

impl BadSetting {
    pub(super) fn new(key: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { key: key.into(), problem: problem.into() }
    }
}

impl Jwt {
    /// Whether tokens are accepted at all.
    pub fn is_on(&self) -> bool {
        !self.issuer.is_empty()
    }

    fn check(&self) -> Result<(), BadSetting> {
        let lacks = |key: &str, empty: bool| match empty {
            true => Err(BadSetting::new(key, "is needed with auth.jwt.issuer")),
            false => Ok(()),
        };
        let lost = !self.audience.is_empty() || !self.jwks.as_os_str().is_empty();
        match self.is_on() {
            true => {
                lacks("jwt.audience", self.audience.is_empty())?;
                lacks("jwt.jwks", self.jwks.as_os_str().is_empty())?;
            }
            false if lost => return Err(BadSetting::new("jwt.issuer", "is needed for tokens to be accepted")),
            false => {}
        }
        few("jwt.roles", &self.roles)
    }
}

fn few(key: &str, bindings: &[Binding]) -> Result<(), BadSetting> {
    match bindings.len() > BINDINGS_MAX {
        true => Err(BadSetting::new(key, format!("has more than {BINDINGS_MAX} entries"))),
        false => Ok(()),
    }
}

impl Config {
    /// Whether callers have to say who they are.
    pub fn is_required(&self) -> bool {
        self.mode == Mode::Required
    }

    /// Whether tokens can be told from others with what is in the file.
    pub async fn problem(&self) -> Option<BadSetting> {
        let Jwt { jwks, algorithm, .. } = &self.jwt;
        match self.is_required() && self.jwt.is_on() {
            true => super::tokens::problem(jwks, *algorithm).await.map(|why| BadSetting::new("jwt.jwks", why)),
            false => None,
        }
    }

    /// Refuses what cannot be kept, naming the first of it.
    pub fn check(&self) -> Result<(), BadSetting> {
        for (key, zero) in [("keys", self.keys == 0), ("keys_per_namespace", self.keys_per_namespace == 0)] {
            if zero {
                return Err(BadSetting::new(key, "must be above 0"));
            }
        }
        self.jwt.check()?;
        for (identity, Bindings(bindings)) in &self.certificates {
            let key = format!("certificates.{identity:?}");
            let is_hash = |hex: &str| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            let known = match identity.strip_prefix("sha256:") {
                Some(hex) => is_hash(hex),
                None => identity.split_once(':').is_some_and(|(scheme, rest)| !scheme.is_empty() && !rest.is_empty()),
            };
            if !known {
                let problem = "is neither a URI nor sha256: with 64 lower-case hex digits";
                return Err(BadSetting::new(key, problem));
            }
            few(&key, bindings)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_need_issuer_audience_and_keys_together() {
        let check = |change: fn(&mut Jwt)| {
            let mut config = Config::default();
            change(&mut config.jwt);
            config.check().map_err(|why| why.key)
        };
        assert_eq!(check(|_| ()), Ok(()));
        assert_eq!(check(|jwt| jwt.issuer = "i".into()), Err("jwt.audience".into()));
        assert_eq!(check(|jwt| jwt.audience = "a".into()), Err("jwt.issuer".into()));
        assert_eq!(check(|jwt| (jwt.issuer, jwt.audience) = ("i".into(), "a".into())), Err("jwt.jwks".into()));
        let many = |jwt: &mut Jwt| jwt.roles = vec!["a:reader".parse().unwrap(); BINDINGS_MAX + 1];
        assert_eq!(check(many), Err("jwt.roles".into()));
    }

    #[test]
    fn certificates_are_named_by_uri_or_hash() {
        let check = |identity: &str| {
            let mut config = Config::default();
            config.certificates.insert(identity.to_owned(), Bindings::default());
            config.check().is_ok()
        };
        assert!(check("spiffe://example.org/a") && check(&format!("sha256:{}", "0a".repeat(32))));
        for bad in ["", "name", "sha256:", "sha256:00", &format!("sha256:{}", "0A".repeat(32)), "x:", ":x"] {
            assert!(!check(bad), "{bad}");
        }
    }
}
