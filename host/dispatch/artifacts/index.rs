//! Which artifacts are on disk, least recently used first, bounded by bytes.

use crate::domain::{Digest, Namespace};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;

type Key = (Namespace, Digest);

/// Pure bookkeeping; whoever holds it removes the files.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: HashMap<Key, (u64, u64)>,
    by_use: BTreeMap<u64, Key>,
    uses: u64,
    bytes: u64,
    most_bytes: u64,
}

impl Index {
    /// Lists `<folder>/<namespace>/<digest>` by time of writing, and sweeps what is neither.
    pub(super) fn survey(folder: &Path, most_bytes: u64) -> io::Result<Self> {
        let mut found = Vec::new();
        for tenant in std::fs::read_dir(folder)?.flatten() {
            let Ok(namespace) = tenant.file_name().to_string_lossy().parse::<Namespace>() else { continue };
            for file in std::fs::read_dir(tenant.path())?.flatten() {
                let digest = file.file_name().to_string_lossy().parse::<Digest>();
                match (digest, file.metadata()) {
                    (Ok(digest), Ok(meta)) => found.push((meta.modified().ok(), namespace.clone(), digest, meta.len())),
                    _ => drop(std::fs::remove_file(file.path())),
                }
            }
        }
        found.sort_unstable();
        let mut index = Self { most_bytes, ..Self::default() };
        for (_, namespace, digest, size) in found {
            index.insert(namespace, digest, size);
        }
        Ok(index)
    }

    /// Whether the artifact is there; marks it as used just now.
    pub(super) fn touch(&mut self, namespace: &Namespace, digest: &Digest) -> bool {
        let key = (namespace.clone(), *digest);
        let Some((used, _)) = self.files.get_mut(&key) else { return false };
        self.uses += 1;
        self.by_use.remove(used);
        *used = self.uses;
        self.by_use.insert(self.uses, key);
        true
    }

    /// Adds an artifact; returns what has to go for it. The newest always stays.
    pub(super) fn insert(&mut self, namespace: Namespace, digest: Digest, size: u64) -> Vec<Key> {
        self.remove(&namespace, &digest);
        self.uses += 1;
        self.bytes = self.bytes.saturating_add(size);
        self.by_use.insert(self.uses, (namespace.clone(), digest));
        self.files.insert((namespace, digest), (self.uses, size));
        let mut gone = Vec::new();
        while self.bytes > self.most_bytes && self.files.len() > 1 {
            let Some((_, (namespace, digest))) = self.by_use.pop_first() else { break };
            self.remove(&namespace, &digest);
            gone.push((namespace, digest));
        }
        gone
    }

    /// Forgets an artifact.
    pub(super) fn remove(&mut self, namespace: &Namespace, digest: &Digest) {
        if let Some((used, size)) = self.files.remove(&(namespace.clone(), *digest)) {
            self.by_use.remove(&used);
            self.bytes = self.bytes.saturating_sub(size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> (Namespace, Namespace, Vec<Digest>) {
        ("a".parse().unwrap(), "b".parse().unwrap(), (0..5u8).map(|n| Digest::of(&[n])).collect())
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let (a, _, d) = names();
        let mut index = Index { most_bytes: 30, ..Index::default() };
        for digest in &d[..3] {
            assert_eq!(index.insert(a.clone(), *digest, 10), []);
        }
        assert!(index.touch(&a, &d[0]));
        assert_eq!(index.insert(a.clone(), d[3], 20), [(a.clone(), d[1]), (a.clone(), d[2])]);
        assert_eq!(index.bytes, 30);
        assert_eq!(index.insert(a.clone(), d[4], 31).len(), 2, "one that is over the bound alone still stays");
        assert!(index.touch(&a, &d[4]));
    }

    #[test]
    fn namespaces_do_not_see_each_other() {
        let (a, b, d) = names();
        let mut index = Index { most_bytes: 100, ..Index::default() };
        index.insert(a.clone(), d[0], 10);
        assert!(index.touch(&a, &d[0]) && !index.touch(&b, &d[0]));
    }

    #[test]
    fn inserting_again_counts_once() {
        let (a, _, d) = names();
        let mut index = Index { most_bytes: 100, ..Index::default() };
        index.insert(a.clone(), d[0], 10);
        index.insert(a.clone(), d[0], 10);
        assert_eq!((index.bytes, index.files.len(), index.by_use.len()), (10, 1, 1));
    }
}
