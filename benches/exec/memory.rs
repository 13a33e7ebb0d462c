//! What processes hold, in KiB: the proportional share of what is resident, so that pages which several have count once.

use crate::Failure;
use collector::exec::memexec::launcher;
use std::path::{Path, PathBuf};

/// The launcher that this process started, and all that it started.
pub(crate) fn launcher() -> Result<u64, Failure> {
    let mine = children(std::process::id());
    let launchers = mine.into_iter().filter(|pid| arguments(*pid).iter().any(|word| word == launcher::ARGUMENT));
    trees(launchers)
}

/// All processes that have this word among their arguments, and all that they started; `None` where there are none.
pub(crate) fn named(word: &str) -> Result<Option<u64>, Failure> {
    let found: Vec<u32> = pids().filter(|pid| arguments(*pid).iter().any(|one| one == word)).collect();
    if found.is_empty() { Ok(None) } else { trees(found).map(Some) }
}

/// What this process has mapped of the files in a folder.
pub(crate) fn mapped(folder: &Path) -> Result<u64, Failure> {
    let folder = folder.canonicalize()?;
    let (mut inside, mut total) = (false, 0);
    for line in std::fs::read_to_string("/proc/self/smaps")?.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Pss:"), Some(kib)) if inside => total += kib.parse::<u64>()?,
            (Some(range), _) if range.contains('-') => {
                inside = words.last().is_some_and(|path| Path::new(path).starts_with(&folder));
            }
            _ => {}
        }
    }
    Ok(total)
}

fn trees(roots: impl IntoIterator<Item = u32>) -> Result<u64, Failure> {
    let mut all: Vec<u32> = roots.into_iter().collect();
    let mut next = 0;
    while let Some(&pid) = all.get(next) {
        all.extend(children(pid).into_iter().filter(|child| !all.contains(child)).collect::<Vec<_>>());
        next += 1;
    }
    all.into_iter().map(share).sum()
}

fn share(pid: u32) -> Result<u64, Failure> {
    let text = std::fs::read_to_string(process(pid).join("smaps_rollup"))?;
    let kib = text.lines().find_map(|line| line.strip_prefix("Pss:")).ok_or("no Pss")?;
    Ok(kib.trim().trim_end_matches(" kB").parse()?)
}

fn children(parent: u32) -> Vec<u32> {
    let is_child = |pid: &u32| {
        let status = std::fs::read_to_string(process(*pid).join("status")).unwrap_or_default();
        status.lines().find_map(|line| line.strip_prefix("PPid:")).is_some_and(|of| of.trim() == parent.to_string())
    };
    pids().filter(is_child).collect()
}

fn arguments(pid: u32) -> Vec<String> {
    let text = std::fs::read(process(pid).join("cmdline")).unwrap_or_default();
    text.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn process(pid: u32) -> PathBuf {
    Path::new("/proc").join(pid.to_string())
}
