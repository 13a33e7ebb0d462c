//! The `[exec]` section of the configuration: what may run beside Wasm, and for whom.

use super::{container, memexec};
use crate::domain::{self, Namespace};
use serde::{Deserialize, Deserializer, Serialize};
use std::collections::BTreeMap;

/// The `[exec]` section of the configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Executors that native binaries may run in, the first that works here is taken. Empty: native binaries are
    /// refused. A list, or words with commas.
    #[serde(deserialize_with = "domain::list")]
    pub native: Vec<Native>,
    /// The same for single namespaces: what is listed here and in `native`, in `native`'s order. `"*"` stands for every
    /// namespace without a line of its own. Images need `container` in the line.
    #[serde(deserialize_with = "by_namespace")]
    pub namespaces: BTreeMap<String, Vec<Native>>,
    /// Native binaries from memory.
    pub memexec: memexec::Config,
    /// Containers.
    pub container: container::Config,
}

/// An executor of native binaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Native {
    /// From memory, in a jail of namespaces, Landlock and seccomp.
    Memexec,
    /// In a container of its own.
    Container,
}

/// What may run beside components for a namespace, wherever that works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// Its name; `"*"` for every namespace without a line in `exec.namespaces`.
    pub namespace: String,
    /// What native binaries may run in, in order.
    pub native: Vec<Native>,
    /// Whether the images of `exec.container.images` may run.
    pub images: bool,
}

/// A setting that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("exec.{key}: {problem}")]
pub struct BadSetting {
    key: String,
    problem: String,
}

impl Native {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Memexec, Self::Container];

    /// The word in the setting and in receipts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memexec => "memexec",
            Self::Container => "container",
        }
    }
}

/// The namespace that stands for all others in `namespaces`.
const OTHERS: &str = "*";
/// What a daemon gives a container at least, in MiB. Source: docs.docker.com, "Runtime constraints on resources".
const CONTAINER_MEMORY_MIN_MIB: u64 = 6;
/// The largest of the ids that jails may begin at: one per jail has to follow it. Source: credentials(7), ids are 32 bits
/// and the last one means none.
const UID_MAX: u64 = u32::MAX as u64 - 1;
/// A day in seconds: longer than any call may take.
const DAY_S: u64 = 86_400;
/// Jails at once. Each takes two of the launcher's open files, of which systems allow 1,024 unless told otherwise.
const JAILS_MAX: u64 = 500;
/// Processes and places at once: more than any machine of today starts.
const PLACES_MAX: u64 = 4_096;

impl Config {
    /// What native binaries of a namespace may run in, in order.
    pub fn allowed(&self, namespace: &Namespace) -> impl Iterator<Item = Native> {
        self.native.iter().copied().filter(move |one| self.leaves(namespace.as_str(), *one))
    }

    /// What may run for each namespace with a line of its own, and last for every other, as `"*"`.
    pub fn allowances(&self) -> Vec<Allowance> {
        let named = self.namespaces.keys().map(String::as_str).filter(|name| *name != OTHERS);
        let of = |name: &str| Allowance {
            namespace: name.to_owned(),
            native: self.native.iter().copied().filter(|one| self.leaves(name, *one)).collect(),
            images: self.leaves_images(name),
        };
        named.chain([OTHERS]).map(of).collect()
    }

    /// Whether images may run for a namespace: some are listed, and its line, if it has one, leaves it containers.
    pub fn allows_images(&self, namespace: &Namespace) -> bool {
        self.leaves_images(namespace.as_str())
    }

    fn leaves_images(&self, namespace: &str) -> bool {
        !self.container.images.is_empty() && self.leaves(namespace, Native::Container)
    }

    /// Whether a namespace's line in `namespaces` does not take an executor away.
    fn leaves(&self, namespace: &str, one: Native) -> bool {
        let line = self.namespaces.get(namespace).or_else(|| self.namespaces.get(OTHERS));
        line.is_none_or(|list| list.contains(&one))
    }

    /// Whether an executor may run anything for anybody.
    pub fn wants(&self, one: Native) -> bool {
        let images = one == Native::Container && !self.container.images.is_empty();
        self.native.contains(&one) || images
    }

    /// Refuses settings that cannot be kept, naming the first of them.
    pub fn check(&self) -> Result<(), BadSetting> {
        let bad = |key: &str, problem: String| Err(BadSetting { key: key.to_owned(), problem });
        for (at, one) in self.native.iter().enumerate() {
            if self.native.iter().take(at).any(|before| before == one) {
                return bad("native", format!("names {} twice", one.name()));
            }
        }
        for name in self.namespaces.keys().filter(|name| *name != OTHERS) {
            if let Err(why) = name.parse::<Namespace>() {
                return bad("namespaces", format!("{name:?} is no namespace and not \"*\": {why}"));
            }
        }
        for (key, value, least, most) in self.ranges() {
            if value < least || value > most {
                return bad(key, format!("must be between {least} and {most}, not {value}"));
            }
        }
        self.container.check().or_else(|(key, problem)| bad(key, problem))
    }

    /// Each number with the least and the most that it may be.
    fn ranges(&self) -> [(&'static str, u64, u64, u64); 15] {
        let (mem, con) = (&self.memexec, &self.container);
        let jails = mem.jails as u64;
        [
            ("memexec.slots", mem.slots as u64, 1, PLACES_MAX),
            ("memexec.queue", mem.queue as u64, 0, u64::from(u32::MAX)),
            ("memexec.binaries_mib", mem.binaries_mib, 1, 1 << 20),
            ("memexec.jails", jails, 1, JAILS_MAX),
            // 0 is root, and what follows has to fit.
            ("memexec.uid_base", u64::from(mem.uid_base), 1, UID_MAX - jails.min(JAILS_MAX)),
            ("container.memory_mib", con.memory_mib, CONTAINER_MEMORY_MIN_MIB, 1 << 20),
            ("container.cpus", u64::from(con.cpus), 1, 1_024),
            ("container.timeout_s", con.timeout_s, 1, DAY_S),
            ("container.slots", con.slots as u64, 1, PLACES_MAX),
            ("container.queue", con.queue as u64, 0, u64::from(u32::MAX)),
            ("container.warm", con.warm as u64, 0, PLACES_MAX),
            ("container.images_kept", con.images_kept as u64, 1, 1 << 20),
            ("container.pull_s", con.pull_s, 1, DAY_S),
            ("container.pull_mib", con.pull_mib, 1, 1 << 20),
            // The name of a repository, with its host.
            ("container.image", con.image.len() as u64, 1, 255),
        ]
    }
}

fn by_namespace<'de, D: Deserializer<'de>>(reader: D) -> Result<BTreeMap<String, Vec<Native>>, D::Error> {
    #[derive(Deserialize)]
    #[serde(transparent)]
    struct Listed(#[serde(deserialize_with = "domain::list")] Vec<Native>);
    let all = BTreeMap::<String, Listed>::deserialize(reader)?;
    Ok(all.into_iter().map(|(namespace, Listed(list))| (namespace, list)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespace(name: &str) -> Namespace {
        name.parse().unwrap()
    }

    #[test]
    fn namespaces_narrow_and_never_widen() {
        use Native::{Container, Memexec};
        let namespaces = [("acme", vec![Container, Memexec]), ("rival", vec![]), ("*", vec![Memexec])];
        let namespaces = BTreeMap::from(namespaces.map(|(name, list)| (name.to_owned(), list)));
        let config =
            |native: &[Native]| Config { native: native.to_vec(), namespaces: namespaces.clone(), ..Config::default() };
        let allowed = |config: &Config, name: &str| config.allowed(&namespace(name)).collect::<Vec<_>>();
        let both = config(&[Memexec, Container]);
        assert_eq!(allowed(&both, "acme"), [Memexec, Container], "in the order of exec.native");
        assert_eq!(allowed(&both, "rival"), []);
        assert_eq!(allowed(&both, "other"), [Memexec]);
        assert_eq!(allowed(&config(&[Container]), "other"), []);
        assert_eq!(allowed(&config(&[]), "acme"), []);
        let mut open = Config { native: vec![Container], ..Config::default() };
        assert_eq!(allowed(&open, "acme"), [Container]);

        let told = |config: &Config| {
            let all = config.allowances().into_iter();
            all.map(|one| (one.namespace, one.native, one.images)).collect::<Vec<_>>()
        };
        assert_eq!(told(&open), [("*".to_owned(), vec![Container], false)]);
        let mut images = config(&[Container]);
        images.container.images.push("tool".into());
        let expected = [("acme", vec![Container], true), ("rival", vec![], false), ("*", vec![], false)];
        assert_eq!(told(&images), expected.map(|(name, native, images)| (name.to_owned(), native, images)));

        assert!(!open.allows_images(&namespace("acme")), "none are listed");
        open.container.images = vec!["tool".to_owned()];
        assert!(open.allows_images(&namespace("acme")));
        let images = Config { container: open.container, ..both };
        let may = ["acme", "rival", "other"].map(|name| images.allows_images(&namespace(name)));
        assert_eq!(may, [true, false, false], "a line without container takes images away too");
    }

    #[test]
    fn settings_that_cannot_be_kept_are_named() {
        assert_eq!(Config::default().check(), Ok(()));
        let said = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err().to_string()
        };
        for (change, key) in [
            ((|c| c.native = vec![Native::Memexec; 2]) as fn(&mut Config), "exec.native: names memexec twice"),
            (|c| drop(c.namespaces.insert("a/b".into(), vec![])), "exec.namespaces: \"a/b\""),
            (|c| c.memexec.slots = 0, "exec.memexec.slots"),
            (|c| c.memexec.binaries_mib = 0, "exec.memexec.binaries_mib"),
            (|c| c.memexec.jails = 0, "exec.memexec.jails"),
            (|c| c.memexec.jails = 501, "exec.memexec.jails: must be between 1 and 500"),
            (|c| c.memexec.uid_base = 0, "exec.memexec.uid_base"),
            (|c| c.memexec.uid_base = u32::MAX - 60, "exec.memexec.uid_base"),
            (|c| c.container.memory_mib = 5, "exec.container.memory_mib: must be between 6 and"),
            (|c| c.container.cpus = 0, "exec.container.cpus"),
            (|c| c.container.timeout_s = 0, "exec.container.timeout_s"),
            (|c| c.container.slots = 0, "exec.container.slots"),
            (|c| c.container.pull_s = 0, "exec.container.pull_s"),
            (|c| c.container.pull_mib = 0, "exec.container.pull_mib"),
            (|c| c.container.images_kept = 0, "exec.container.images_kept"),
            (|c| c.container.image.clear(), "exec.container.image"),
            (|c| c.container.image = "A/native".into(), "exec.container.image: \"A/native\" is no repository"),
            (|c| c.container.image = "native:1".into(), "exec.container.image: \"native:1\" is no repository"),
            (|c| c.container.images = vec!["collector/*".into()], "exec.container.image: is covered by"),
            (|c| c.container.images = vec!["tool:1".into()], "exec.container.images: \"tool:1\" is no repository"),
            (|c| c.container.images = vec!["Registry/tool".into()], "exec.container.images: \"Registry/tool\""),
            (|c| c.container.images = vec!["https://registry.example/a".into()], "exec.container.images: \"https:"),
            (|c| c.container.images = vec!["tool".into(), "team*".into()], "exec.container.images: \"team*\""),
            (|c| c.container.images = vec!["*".into()], "exec.container.images: \"*\""),
            (|c| c.container.images = vec!["/*".into()], "exec.container.images: \"/*\""),
            (|c| c.container.images = vec!["a@sha256:00".into()], "exec.container.images: \"a@sha256:00\""),
        ] {
            let said = said(change);
            assert!(said.starts_with(key), "{key}: {said}");
        }
        let least = |c: &mut Config| c.container.memory_mib = CONTAINER_MEMORY_MIN_MIB;
        let mut config = Config::default();
        least(&mut config);
        config.container.images =
            ["tool", "team/*", "127.0.0.1:5000/*", "registry.example/team/tool"].map(Into::into).into();
        assert_eq!(config.check(), Ok(()));
    }
}
