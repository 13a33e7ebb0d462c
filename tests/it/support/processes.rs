//! What runs on this machine, as `/proc` tells.

use std::fs;

/// Processes whose arguments contain `marker`. A test that names its service after itself finds what runs for it, in
/// whatever namespaces that is.
pub fn running(marker: &str) -> Vec<u32> {
    let marked = |id: &u32| {
        let arguments = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        arguments.split(|byte| *byte == 0).any(|argument| argument == marker.as_bytes())
    };
    processes().filter(marked).collect()
}

/// All processes that `id` started, and theirs.
pub fn descendants(id: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = processes().filter_map(|process| Some((process, parent(process)?))).collect();
    let mut found = vec![id];
    let mut next = 0;
    while let Some(of) = found.get(next).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == of).map(|(process, _)| *process));
        next += 1;
    }
    found.split_off(1)
}

/// Open descriptors of a process.
pub fn descriptors(id: u32) -> usize {
    fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// How much a process stands back for others: 0 usually, 19 the most.
pub fn niceness(id: u32) -> i64 {
    stat(id, 16).unwrap()
}

fn parent(id: u32) -> Option<u32> {
    stat(id, 1)
}

/// A number after the name in brackets, which may contain anything. Source: proc(5), `stat`, from field 3 on.
fn stat<T: std::str::FromStr>(id: u32, index: usize) -> Option<T> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(index)?.parse().ok()
}

/// How long a process has worked. Source: proc(5): utime and stime in ticks, of which there are 100 in a second.
pub fn cpu_time(id: u32) -> std::time::Duration {
    let ticks = |index| stat::<u64>(id, index).unwrap();
    std::time::Duration::from_millis((ticks(11) + ticks(12)) * 10)
}
