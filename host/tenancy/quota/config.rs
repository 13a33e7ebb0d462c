//! What a namespace and a caller may use.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The `[quotas]` section of the configuration. Overrides per namespace are records: `collector ns quota`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Of every namespace without numbers of its own.
    pub namespace: Quota,
    /// Of every caller, in all namespaces together. Callers who show nothing of themselves count as one; where they are
    /// asked who they are, those of one network do, an IPv6 network being a /64.
    pub caller: CallerQuota,
    /// Of every linked collector, for all calls that it hands over, whoever it says that made them. What runs for them is
    /// its account's alone, so that it has more of that than a caller: see its fields.
    pub peer: CallerQuota,
    /// Namespaces, and likewise callers and peers, whose use is remembered; when there are more that were seen in the last ten
    /// seconds, those share one account. 16,384: about 16 MiB.
    pub accounts: usize,
}

/// What one namespace may use; 0 is no limit, but for `weight`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Quota {
    /// Share of slots and of the processor beside others who want them too. 1: all alike.
    pub weight: u64,
    /// Calls that may begin in a second. 50,000: more than a node of a few cores answers, so that by default only a flood
    /// meets it; who shares a busy node is kept apart by the fair queue.
    pub calls_per_second: u64,
    /// Calls at once, streams included. 2,048: all slots and all places in the queue before them, and some more.
    pub concurrent_calls: u64,
    /// Milliseconds that guests may keep threads in a second of time. No limit: a processor that nobody else wants would
    /// be left idle; the fair queue shares one that somebody does. Native binaries count with what they computed,
    /// containers with the time that calls had them, on all their processors; both at their end.
    pub cpu_ms_per_second: u64,
    /// MiB of all running guests: what components have, and all that native binaries and containers may have. 3,072: three
    /// quarters of `wasm.total_memory_mib`, so that one namespace never has it all.
    pub memory_mib: u64,
    /// MiB that all collections and files take on disk. 10,240: many tenants on one disk.
    pub stored_mib: u64,
    /// Records of all collections, and files. 10,000,000: with their indexes about what 10 GiB hold.
    pub stored_records: u64,
    /// Artifacts that deployments stand on. No limit beside `deployments.count` and `deployments.versions`.
    pub artifacts: u64,
    /// MiB of them. No limit beside `deployments.mib`.
    pub artifacts_mib: u64,
    /// Milliseconds of compiling in a minute. 120,000: both of `wasm.compilers` all the time.
    pub compile_ms_per_minute: u64,
    /// KiB that guests may exchange with other machines in a second. 10,240: a hundredth of a fast network.
    pub egress_kib_per_second: u64,
}

/// What one caller, or one peer, may use; 0 is no limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallerQuota {
    /// Requests that may begin in a second. 50,000: as of a namespace, so that spreading over many gains nothing.
    pub calls_per_second: u64,
    /// Requests at once, streams included. 4,096: two namespaces' worth, as those who watch health count too. Of a peer
    /// 2,048: five times what a collector has under way, and half of `server.calls`.
    pub concurrent_calls: u64,
    /// Milliseconds that guests may keep threads in a second of time for it. No limit, as of a namespace; the rest, too, is
    /// as of one, so that spreading over many gains nothing.
    pub cpu_ms_per_second: u64,
    /// MiB of all guests that run for it. Of a peer 3,584: half of what the largest namespace leaves, so that one of its
    /// tenants does not have all that is the others'.
    pub memory_mib: u64,
    /// Milliseconds of compiling in a minute, of what it uploads or calls first.
    pub compile_ms_per_minute: u64,
    /// KiB that guests may exchange with other machines in a second for it. Of a peer 40,960: what four namespaces may.
    pub egress_kib_per_second: u64,
}

impl Default for Config {
    fn default() -> Self {
        let peer = CallerQuota {
            concurrent_calls: 2_048,
            memory_mib: 3_584,
            egress_kib_per_second: 40_960,
            ..CallerQuota::default()
        };
        Self { namespace: Quota::default(), caller: CallerQuota::default(), peer, accounts: 16_384 }
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            weight: 1,
            calls_per_second: 50_000,
            concurrent_calls: 2_048,
            cpu_ms_per_second: 0,
            memory_mib: 3_072,
            stored_mib: 10_240,
            stored_records: 10_000_000,
            artifacts: 0,
            artifacts_mib: 0,
            compile_ms_per_minute: 120_000,
            egress_kib_per_second: 10_240,
        }
    }
}

impl Default for CallerQuota {
    fn default() -> Self {
        let Quota { cpu_ms_per_second, memory_mib, compile_ms_per_minute, egress_kib_per_second, .. } =
            Quota::default();
        Self {
            calls_per_second: 50_000,
            concurrent_calls: 4_096,
            cpu_ms_per_second,
            memory_mib,
            compile_ms_per_minute,
            egress_kib_per_second,
        }
    }
}

impl From<&CallerQuota> for Quota {
    /// What a caller keeps is its namespaces': those alone have quotas for it.
    fn from(caller: &CallerQuota) -> Self {
        let CallerQuota {
            calls_per_second,
            concurrent_calls,
            cpu_ms_per_second,
            memory_mib,
            compile_ms_per_minute,
            egress_kib_per_second,
        } = *caller;
        Self {
            calls_per_second,
            concurrent_calls,
            cpu_ms_per_second,
            memory_mib,
            compile_ms_per_minute,
            egress_kib_per_second,
            stored_mib: 0,
            stored_records: 0,
            ..Self::default()
        }
    }
}

/// A quota that cannot be kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadQuota {
    /// Outside of what it may be.
    #[error("{name} must be between {least} and {most}, not {value}")]
    Range {
        /// Its name.
        name: String,
        /// The least that it may be.
        least: u64,
        /// The most that it may be.
        most: u64,
        /// What was asked for.
        value: u64,
    },
    /// There is none of this name.
    #[error("{0:?} is no quota; there are {names}", names = Quota::names().join(", "))]
    Unknown(String),
}

/// More than any number means: what is counted in nanoseconds and in bytes stays far below what a counter holds.
const MOST: u64 = 1_000_000_000;
/// The largest weight: with a thousand times another's share it has all but all.
const WEIGHT_MAX: u64 = 1_000;

impl Config {
    /// Refuses numbers that cannot be kept.
    pub fn check(&self) -> Result<(), BadQuota> {
        self.namespace.check()?;
        for (who, quota) in [("caller", &self.caller), ("peer", &self.peer)] {
            for (name, value) in Quota::from(quota).fields() {
                in_range(&format!("{who}.{name}"), value, 0, MOST)?;
            }
        }
        in_range("accounts", self.accounts as u64, 1, 1_000_000)
    }
}

fn in_range(name: &str, value: u64, least: u64, most: u64) -> Result<(), BadQuota> {
    match (least..=most).contains(&value) {
        true => Ok(()),
        false => Err(BadQuota::Range { name: name.to_owned(), least, most, value }),
    }
}

impl Quota {
    /// Every quota by its name.
    pub fn fields(&self) -> [(&'static str, u64); 11] {
        self.clone().slots().map(|(name, value)| (name, *value))
    }

    /// The names.
    pub fn names() -> [&'static str; 11] {
        Self::default().fields().map(|(name, _)| name)
    }

    fn slots(&mut self) -> [(&'static str, &mut u64); 11] {
        [
            ("weight", &mut self.weight),
            ("calls_per_second", &mut self.calls_per_second),
            ("concurrent_calls", &mut self.concurrent_calls),
            ("cpu_ms_per_second", &mut self.cpu_ms_per_second),
            ("memory_mib", &mut self.memory_mib),
            ("stored_mib", &mut self.stored_mib),
            ("stored_records", &mut self.stored_records),
            ("artifacts", &mut self.artifacts),
            ("artifacts_mib", &mut self.artifacts_mib),
            ("compile_ms_per_minute", &mut self.compile_ms_per_minute),
            ("egress_kib_per_second", &mut self.egress_kib_per_second),
        ]
    }

    /// These, with some of them replaced.
    ///
    /// * errors: an unknown name, a number out of range.
    pub fn with(&self, overrides: &BTreeMap<String, u64>) -> Result<Self, BadQuota> {
        let mut quota = self.clone();
        for (name, value) in overrides {
            let mut slots = quota.slots();
            let slot = slots.iter_mut().find(|(known, _)| known == name);
            let (_, slot) = slot.ok_or_else(|| BadQuota::Unknown(name.chars().take(64).collect()))?;
            **slot = *value;
        }
        quota.check()?;
        Ok(quota)
    }

    fn check(&self) -> Result<(), BadQuota> {
        for (name, value) in self.fields() {
            let (least, most) = if name == "weight" { (1, WEIGHT_MAX) } else { (0, MOST) };
            in_range(name, value, least, most)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([(name.to_owned(), value)])
    }

    #[test]
    fn numbers_at_below_and_above_their_ranges() {
        let quota = Quota::default();
        for (good, value) in [("weight", 1), ("weight", 1_000), ("calls_per_second", 0), ("memory_mib", MOST)] {
            assert!(quota.with(&one(good, value)).is_ok(), "{good} = {value}");
        }
        for (bad, value) in [("weight", 0), ("weight", 1_001), ("memory_mib", MOST + 1), ("calls", 1)] {
            assert!(quota.with(&one(bad, value)).is_err(), "{bad} = {value}");
        }
        assert_eq!(quota.with(&one("artifacts", 7)).unwrap(), Quota { artifacts: 7, ..quota });
        assert_eq!(Config::default().check(), Ok(()));
        assert!(Config { accounts: 0, ..Config::default() }.check().is_err());
        let peer = CallerQuota { concurrent_calls: MOST + 1, ..CallerQuota::default() };
        let why = Config { peer, ..Config::default() }.check().unwrap_err().to_string();
        assert!(why.contains("peer.concurrent_calls"), "{why}");
    }
}
