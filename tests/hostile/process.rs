//! What a process holds, as `/proc` tells (invariants I1, I4, I5).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// A process, and the folder in which all its files are.
#[derive(Debug, Clone)]
pub struct Watched {
    pub id: u32,
    pub folder: PathBuf,
}

/// What it holds at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// When it began, in ticks since boot: with the id, who it is.
    started: u64,
    pub rss_kib: u64,
    pub descriptors: usize,
    pub threads: usize,
    pub children: BTreeSet<u32>,
    /// Files that are on their way to somewhere else.
    pub temporary: BTreeSet<PathBuf>,
}

/// What it may hold more than before.
#[derive(Debug, Clone, Copy)]
pub struct Slack {
    /// Threads that wait for work and end by themselves.
    pub threads: usize,
    /// Connections that are about to end.
    pub descriptors: usize,
    /// How long it has, to give back what it used.
    pub patience: Duration,
}

impl Slack {
    /// After one case. tokio keeps a thread that blocked for 10 s; the caches hold what the case brought.
    pub const CASE: Self = Self { threads: 64, descriptors: 64, patience: Duration::from_secs(10) };
    /// After the run.
    pub const RUN: Self = Self { threads: 8, descriptors: 64, patience: Duration::from_secs(20) };
}

impl Watched {
    /// * errors: the process is gone, or is a corpse.
    pub fn held(&self) -> Result<Held, String> {
        let gone = |_| "I1: the process is gone".to_owned();
        let root = PathBuf::from(format!("/proc/{}", self.id));
        let stat = fs::read_to_string(root.join("stat")).map_err(gone)?;
        // After the name in brackets, which may contain anything. Source: proc(5), from field 3 on.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        if matches!(fields.first(), Some(&"Z" | &"X")) {
            return Err("I1: the process is dead".to_owned());
        }
        let number = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or_default();
        let page_kib = rustix::param::page_size() as u64 / 1_024;
        Ok(Held {
            started: number(19),
            rss_kib: number(21) * page_kib,
            descriptors: descriptors(&root).map_err(gone)?,
            threads: threads(&root).map_err(gone)?,
            children: self.children(),
            temporary: temporary(&self.folder),
        })
    }

    /// Its children and theirs.
    fn children(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        let mut of = vec![self.id];
        while let Some(id) = of.pop() {
            for task in fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten() {
                let listed = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                let children = listed.split_whitespace().filter_map(|child| child.parse().ok());
                of.extend(children.filter(|child| found.insert(*child)));
            }
        }
        found
    }

    /// Seconds of a core that it has used.
    pub fn cpu(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        ticks as f64 / 100.0
    }

    /// Forgets the most memory that it ever had. Source: proc(5), clear_refs.
    pub fn forget_peak(&self) {
        let _ = fs::write(format!("/proc/{}/clear_refs", self.id), "5");
    }

    /// The most memory that it had since then, in KiB.
    pub fn peak_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
    }

    /// Waits until the process holds what it held before, give or take `slack`; what is left over when it does not.
    pub async fn settles(&self, before: &Held, slack: Slack) -> Vec<String> {
        let deadline = Instant::now() + slack.patience;
        loop {
            let left = match self.held() {
                Ok(now) => left_over(before, &now, slack),
                Err(why) => return vec![why],
            };
            let dead = left.iter().any(|line| line.starts_with("I1"));
            if left.is_empty() || dead || Instant::now() >= deadline {
                return left;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Open descriptors, but for those of loaded machine code and of open databases, which the node's caches of them bound.
fn descriptors(root: &Path) -> std::io::Result<usize> {
    let kinds = ["cwasm", "db", "db-wal", "db-shm"];
    let cached = |link: PathBuf| link.extension().is_some_and(|extension| kinds.iter().any(|kind| extension == *kind));
    let open = fs::read_dir(root.join("fd"))?.flatten();
    Ok(open.filter(|entry| !fs::read_link(entry.path()).is_ok_and(cached)).count())
}

/// Threads, but for those of open databases, four each, which the node's cache of those bounds as it does their files.
fn threads(root: &Path) -> std::io::Result<usize> {
    let of_database = |name: &str| ["write ", "get0 ", "query"].iter().any(|kind| name.starts_with(kind));
    let all = fs::read_dir(root.join("task"))?.flatten();
    let names = all.map(|task| fs::read_to_string(task.path().join("comm")).unwrap_or_default());
    Ok(names.filter(|name| !of_database(name)).count())
}

/// What there is now and was not before.
fn left_over(before: &Held, now: &Held, slack: Slack) -> Vec<String> {
    let mut left = Vec::new();
    if now.started != before.started {
        left.push("I1: it is another process".to_owned());
    }
    let rss = before.rss_kib + before.rss_kib / 10 + (32 << 10);
    if now.rss_kib > rss {
        left.push(format!("I4: {} MiB resident, {} before", now.rss_kib >> 10, before.rss_kib >> 10));
    }
    if now.descriptors > before.descriptors + slack.descriptors {
        left.push(format!("I5: {} descriptors, {} before", now.descriptors, before.descriptors));
    }
    if now.threads > before.threads + slack.threads {
        left.push(format!("I5: {} threads, {} before", now.threads, before.threads));
    }
    let new = now.children.difference(&before.children).count();
    if new > 0 && now.children.len() > before.children.len() {
        left.push(format!("I5: {new} processes that were not there"));
    }
    if let Some(file) = now.temporary.difference(&before.temporary).next() {
        left.push(format!("I5: a temporary file is left: {}", file.display()));
    }
    left
}

/// Files whose names say that they are on their way: those of the `tempfile` crate, and all in a folder for such.
fn temporary(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
                continue;
            }
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let below = path.strip_prefix(root).unwrap_or(&path);
            let in_temp = below.components().any(|part| matches!(part.as_os_str().to_str(), Some("temp" | "tmp")));
            if name.starts_with(".tmp") || name.ends_with(".tmp") || in_temp {
                found.insert(path);
            }
        }
    }
    found
}
