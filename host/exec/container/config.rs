//! Settings.

use crate::domain::{self, is_repository};
use serde::{Deserialize, Serialize};

/// The `[exec.container]` section of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The engine's socket: `unix:///var/run/docker.sock`.
    pub socket: String,
    /// Repository under which the engine keeps the images that are made from uploaded binaries.
    pub image: String,
    /// Images that tenants may name in `service_uri`: repositories, `registry.example/team/*` for all below. Empty: none.
    #[serde(deserialize_with = "domain::list")]
    pub images: Vec<String>,
    /// MiB of memory of one container, swap included. 512: a runtime with a heap of its own fits; a call may ask for less.
    pub memory_mib: u64,
    /// CPUs of one container. 1.
    pub cpus: u32,
    /// Seconds that one call may run, whatever its deadline. 30.
    pub timeout_s: u64,
    /// Containers that run at once. 8: at 512 MiB each that is 4 GiB.
    pub slots: usize,
    /// Calls that may wait for a slot; more are RESOURCE_EXHAUSTED at once. 64.
    pub queue: usize,
    /// Containers kept ready between calls of one binary by one namespace, over all of them; 0: every call gets a fresh one.
    /// Those that nobody used for 5 minutes go.
    pub warm: usize,
    /// Images of uploaded binaries, and images pulled, that the engine keeps; the least recently used go first. Every image
    /// of a listed repository counts that the engine has when the node starts, whoever pulled it. 64.
    pub images_kept: usize,
    /// Seconds that pulling one image may take. 120.
    pub pull_s: u64,
    /// MiB, compressed, that one image may have. 1,024. On the engine's disk it may have four times as much; until it is
    /// unpacked and its size known it may have more.
    pub pull_mib: u64,
    /// Refuse an engine that does not map root in containers to somebody else (userns-remap, or rootless).
    pub require_userns: bool,
    /// The engine's runtime, `runsc` say. Empty: its default.
    pub runtime: String,
}

impl Config {
    /// Refuses names that no image can have: they would only fail at the first call, or never match.
    ///
    /// * errors: which setting, and what is wrong with it.
    pub(crate) fn check(&self) -> Result<(), (&'static str, String)> {
        if !is_repository(&self.image) {
            return Err(("container.image", format!("{:?} is no repository: lower case, no tag", self.image)));
        }
        for line in &self.images {
            let sample = line.strip_suffix("/*").map_or_else(|| line.clone(), |above| format!("{above}/any"));
            if !is_repository(&sample) {
                let form = "is no repository: registry.example/team/tool, or registry.example/team/* for all below";
                return Err(("container.images", format!("{line:?} {form}")));
            }
        }
        match self.lists(&self.image) {
            // What a registry gives must not be taken for what is made here.
            true => {
                Err(("container.image", "is covered by exec.container.images: give it a name of its own".to_owned()))
            }
            false => Ok(()),
        }
    }

    /// Whether a repository is on the list: exactly, or below a line that ends in `/*`.
    pub(in crate::exec) fn lists(&self, repository: &str) -> bool {
        self.images.iter().any(|line| match line.strip_suffix('*') {
            Some(prefix) if prefix.ends_with('/') => repository.starts_with(prefix),
            _ => repository == line,
        })
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            socket: "unix:///var/run/docker.sock".to_owned(),
            image: "collector/native".to_owned(),
            images: Vec::new(),
            memory_mib: 512,
            cpus: 1,
            timeout_s: 30,
            slots: 8,
            queue: 64,
            warm: 0,
            images_kept: 64,
            pull_s: 120,
            pull_mib: 1_024,
            require_userns: true,
            runtime: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k03_only_listed_repositories() {
        let images = ["registry.example/team/*".to_owned(), "tool".to_owned(), "odd*".to_owned()].to_vec();
        let config = Config { images, ..Config::default() };
        for good in ["registry.example/team/a", "registry.example/team/a/b", "tool"] {
            assert!(config.lists(good), "{good}");
        }
        for bad in ["registry.example/teammate", "registry.example/other/a", "tools", "tool/a", "team/a", "oddity"] {
            assert!(!config.lists(bad), "{bad}");
        }
        assert!(!Config::default().lists("tool"));
    }
}
