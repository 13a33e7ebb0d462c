//! Space that stays free on a volume, so that what is kept on it can still be read, deleted and moved out of its logs.

use rustix::fs::{StatVfs, fstatvfs, statvfs};
use serde::{Deserialize, Serialize};
use std::os::fd::AsFd;
use std::path::Path;

/// Part of a volume that stays free however small it is: one in so many.
const SHARE: u64 = 20;

/// The `[store]` section of the configuration: how much space tenants' writes leave free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Headroom {
    /// MiB of the data folder's volume that stay free, or a twentieth of it, whichever is less: with less than that nothing
    /// more is written for tenants; reads, deletes and what the node keeps about itself go on. 256. 0: until it is full.
    pub headroom_mib: u64,
}

impl Default for Headroom {
    /// Source: threats.md B12.
    fn default() -> Self {
        Self { headroom_mib: 256 }
    }
}

impl Headroom {
    /// Whether the volume of a file or folder has less. Where that cannot be asked it has not.
    pub fn is_short(self, at: &Path) -> bool {
        self.headroom_mib > 0 && statvfs(at).is_ok_and(|volume| self.is_missing_on(&volume))
    }

    /// The same, of something that is open.
    pub fn is_short_at(self, at: impl AsFd) -> bool {
        self.headroom_mib > 0 && fstatvfs(at).is_ok_and(|volume| self.is_missing_on(&volume))
    }

    fn is_missing_on(self, volume: &StatVfs) -> bool {
        let bytes = |blocks: u64| blocks.saturating_mul(volume.f_frsize);
        let wanted = self.headroom_mib.saturating_mul(1 << 20).min(bytes(volume.f_blocks) / SHARE);
        bytes(volume.f_bavail) < wanted
    }
}
