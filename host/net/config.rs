//! Settings of the way out.

use super::{Cidr, Guard};
use crate::domain;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The `[net]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Networks that may be reached although they are private, as `10.1.0.0/16`. None: what listens there trusts its
    /// neighbours, and code of strangers must not be one.
    #[serde(deserialize_with = "domain::list")]
    pub allow: Vec<String>,
    /// File of certificates (PEM) that are trusted beside the public ones, for services of one's own. Empty: none.
    pub ca_file: PathBuf,
    /// Requests of one namespace that are under way at once. 16: at 2 MiB each that is 32 MiB; more are refused at once.
    pub fetches: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { allow: Vec::new(), ca_file: PathBuf::new(), fetches: 16 }
    }
}

/// A setting that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("net.{key}: {problem}")]
pub struct BadSetting {
    /// Its key in the section.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Config {
    /// Whether web servers can be told from others with what is in the file.
    pub fn problem(&self) -> Option<BadSetting> {
        super::tls::Tls::new(self).err()
    }

    /// Refuses networks that are none. The file is read when the node starts.
    pub fn check(&self) -> Result<(), BadSetting> {
        if self.fetches == 0 {
            return Err(BadSetting { key: "fetches", problem: "must be above 0".to_owned() });
        }
        self.guard().map(drop)
    }

    /// The guard that these settings make.
    ///
    /// * errors: `allow` has an entry that is no network.
    pub fn guard(&self) -> Result<Guard, BadSetting> {
        let network = |text: &String| text.parse::<Cidr>();
        let allowed = self.allow.iter().map(network).collect::<Result<_, _>>();
        allowed.map(Guard::new).map_err(|problem| BadSetting { key: "allow", problem })
    }
}
