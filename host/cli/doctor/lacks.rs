//! What this machine does not give that the settings ask for, and what to do about it.

use crate::config::Config;
use crate::node;
use rustix::fs::{Access, access};
use rustix::process::{Resource, getrlimit};
use rustix::system::sysinfo;
use std::path::Path;

/// Descriptors that a node needs beside its connections: databases with their logs, compiled code, children's pipes.
const DESCRIPTORS_BESIDE: u64 = 1_024;

/// What is missing.
#[derive(Debug, Default)]
pub(super) struct Lacks {
    /// A node does not start without it.
    pub(super) stops: Vec<String>,
    /// It starts all the same, and refuses something later.
    pub(super) others: Vec<String>,
}

impl Lacks {
    /// Looks, and makes and changes nothing.
    pub(super) async fn of(config: &Config) -> Self {
        let mut lacks = Self { stops: node::obstacles(config).await, others: Vec::new() };
        lacks.stops.extend(data(&config.data));
        lacks.others.extend(headroom(config));
        lacks.others.extend(descriptors(config));
        lacks.others.extend(memory(config));
        lacks.others.extend(nobody(config));
        lacks
    }

    /// All of them, what stops a node first.
    pub(super) fn all(&self) -> impl Iterator<Item = &String> {
        self.stops.iter().chain(&self.others)
    }
}

/// The folder, or what it will be made in, can be written.
fn data(folder: &Path) -> Option<String> {
    let there = nearest(folder)?;
    let is_folder = there.is_dir() && access(there, Access::WRITE_OK | Access::EXEC_OK).is_ok();
    (!is_folder)
        .then(|| format!("data: {} is no folder that this user can write; choose another (--data)", there.display()))
}

fn headroom(config: &Config) -> Option<String> {
    config.store.is_short(nearest(&config.data)?).then(|| {
        "data: the disk has less space left than store.headroom_mib keeps free: nothing is stored for tenants until there \
         is more"
            .to_owned()
    })
}

/// The part of a path that is there.
fn nearest(folder: &Path) -> Option<&Path> {
    let here = Path::new(".");
    folder.ancestors().map(|one| if one.as_os_str().is_empty() { here } else { one }).find(|one| one.exists())
}

fn descriptors(config: &Config) -> Option<String> {
    let wanted = (config.server.connections as u64).saturating_add(DESCRIPTORS_BESIDE);
    let most = getrlimit(Resource::Nofile).current.filter(|most| *most < wanted)?;
    Some(format!("open files: {most} may be open, server.connections asks for {wanted}; raise it (ulimit -n {wanted})"))
}

fn memory(config: &Config) -> Option<String> {
    let system = sysinfo();
    let there = (u128::from(system.totalram) * u128::from(system.mem_unit)) >> 20;
    let asked = config.wasm.total_memory_mib;
    (u128::from(asked) > there)
        .then(|| format!("memory: guests may take {asked} MiB, there are {there}; lower wasm.total_memory_mib"))
}

/// Somebody can call where everybody is asked who they are.
fn nobody(config: &Config) -> Option<String> {
    let auth = &config.auth;
    let elsewhere = auth.jwt.is_on() || !auth.certificates.is_empty();
    (auth.is_required() && !elsewhere && !config.data.join("records").exists()).then(|| {
        format!(
            "callers: everybody is asked who they are, and nobody has a key yet; make one (collector auth key create --data \
             {} --role admin --namespace '*')",
            config.data.display()
        )
    })
}
