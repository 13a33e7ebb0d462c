//! What this machine has of the things that jails are made of, for operators. The launcher decides by trying.

use super::launcher;
use crate::exec::Fact;
use landlock::{ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, Scope};
use std::fs;

/// Versions of Landlock's interface that differ in what a jail would deny, newest first.
const LANDLOCK: [(ABI, &str); 6] = [
    (ABI::V6, "ABI 6 or newer: files, TCP, signals"),
    (ABI::V5, "ABI 5: no scopes for signals, which jails need"),
    (ABI::V4, "ABI 4: no scopes for signals, which jails need"),
    (ABI::V3, "ABI 3: files only; jails need 6"),
    (ABI::V2, "ABI 2: files only; jails need 6"),
    (ABI::V1, "ABI 1: files only; jails need 6"),
];

/// Asks the machine.
pub(super) fn of_this_machine() -> Vec<Fact> {
    let known = LANDLOCK.iter().find(|(abi, _)| has_landlock(*abi));
    [
        (
            "Landlock",
            known.map_or("none: add landlock to the kernel's list of security modules", |(_, words)| words).to_owned(),
        ),
        ("user namespaces", user_namespaces()),
        ("seccomp", seccomp()),
        ("control groups", control_groups()),
    ]
    .map(|(what, found)| (what.to_owned(), found))
    .to_vec()
}

/// Whether the kernel knows all of a version. Makes rules and applies them to nothing.
fn has_landlock(abi: ABI) -> bool {
    let made = || {
        let rules = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        let mut rules = rules.handle_access(AccessFs::from_all(abi))?;
        if !AccessNet::from_all(abi).is_empty() {
            rules = rules.handle_access(AccessNet::from_all(abi))?;
        }
        if !Scope::from_all(abi).is_empty() {
            rules = rules.scope(Scope::from_all(abi))?;
        }
        rules.create()
    };
    made().is_ok()
}

/// Source: namespaces(7), /proc/sys/user; Debian's and Ubuntu's own switches.
fn user_namespaces() -> String {
    let number = |file: &str| read(file).and_then(|text| text.trim().parse::<u64>().ok());
    match number("/proc/sys/user/max_user_namespaces") {
        None => "none: the kernel is built without".to_owned(),
        Some(0) => "none: raise the sysctl user.max_user_namespaces".to_owned(),
        Some(_) if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) => {
            "for root only (sysctl kernel.unprivileged_userns_clone)".to_owned()
        }
        Some(_) if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) => {
            "for root and what AppArmor lists only (sysctl kernel.apparmor_restrict_unprivileged_userns)".to_owned()
        }
        Some(most) => format!("up to {most}"),
    }
}

/// Source: seccomp(2), /proc/sys/kernel/seccomp.
fn seccomp() -> String {
    let actions = read("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    match actions.split_whitespace().any(|action| action == "kill_process") {
        true => format!("filters; {} system calls allowed in a jail", launcher::SYSTEM_CALLS),
        false => "no filters that kill: the kernel is too old, or built without".to_owned(),
    }
}

/// Source: cgroups(7). Controllers that belong to version 1 are not version 2's.
fn control_groups() -> String {
    let second = read("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    let table = read("/proc/cgroups").unwrap_or_default();
    let first = table.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (name, hierarchy) = (fields.next()?, fields.next()?);
        (hierarchy != "0").then_some(name)
    });
    let first: Vec<&str> = first.collect();
    let listed = |version: u8, names: &[&str]| format!("version {version}: {}", names.join(", "));
    match (first.is_empty(), second.trim().is_empty()) {
        (true, true) => "none".to_owned(),
        (false, true) => listed(1, &first),
        (true, false) => listed(2, &second.split_whitespace().collect::<Vec<_>>()),
        (false, false) => {
            format!("{}; {}", listed(2, &second.split_whitespace().collect::<Vec<_>>()), listed(1, &first))
        }
    }
}

/// What cannot be read is not there.
fn read(file: &str) -> Option<String> {
    fs::read_to_string(file).ok()
}
