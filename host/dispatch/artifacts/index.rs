//! Which artifacts are on disk, least recently used first, bounded by bytes and by count.

use crate::domain::{Digest, Namespace, Recency};
use std::collections::HashMap;
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

type Key = (Namespace, Digest);

/// What a file costs at least: a block on disk.
const BLOCK: u64 = 4_096;
/// Folder of files that are being written, swept at start. No namespace: names do not begin with a dot.
const DRAFTS: &str = ".drafts";

/// The files and the books about them. Whoever holds it changes both together.
#[derive(Debug)]
pub(super) struct Index {
    folder: PathBuf,
    files: Recency<Key>,
    /// What deployments stand on: never evicted, and not counted against the bounds. The size, where the file is there.
    pinned: HashMap<Key, Option<u64>>,
    most_bytes: u64,
    most_files: usize,
}

/// A file that is being written.
pub(super) struct Draft(NamedTempFile);

impl Draft {
    /// Fills the file. Slow, so not under the index's lock.
    pub(super) fn write(mut self, bytes: &[u8]) -> io::Result<Written> {
        self.0.write_all(bytes)?;
        Ok(Written { file: self.0, size: bytes.len() as u64 })
    }
}

/// A file that is whole; gone if it is dropped before it is put in place.
pub(super) struct Written {
    file: NamedTempFile,
    size: u64,
}

impl Index {
    /// Lists `<folder>/<namespace>/<digest>` by time of writing, sweeps what is neither and what is over the bounds.
    ///
    /// * `pinned`: artifacts that stay whatever the bounds.
    pub(super) fn open(folder: &Path, most_bytes: u64, most_files: usize, pinned: Vec<Key>) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let _ = fs::remove_dir_all(folder.join(DRAFTS));
        fs::create_dir(folder.join(DRAFTS))?;
        let mut found = Vec::new();
        for tenant in fs::read_dir(folder)?.flatten() {
            let Ok(namespace) = tenant.file_name().to_string_lossy().parse::<Namespace>() else { continue };
            for file in fs::read_dir(tenant.path())?.flatten() {
                let digest = file.file_name().to_string_lossy().parse::<Digest>();
                match (digest, file.metadata()) {
                    (Ok(digest), Ok(meta)) => found.push((meta.modified().ok(), namespace.clone(), digest, meta.len())),
                    _ => drop(fs::remove_file(file.path())),
                }
            }
        }
        found.sort_unstable();
        let pinned = pinned.into_iter().map(|key| (key, None)).collect();
        let files = Recency::default();
        let mut index = Self { folder: folder.to_owned(), files, pinned, most_bytes, most_files };
        for (_, namespace, digest, size) in found {
            index.count(namespace, digest, size);
        }
        while index.evict_one() {}
        Ok(index)
    }

    /// The folder of all namespaces.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where an artifact's file is, or would be.
    pub(super) fn path(&self, namespace: &Namespace, digest: &Digest) -> PathBuf {
        self.folder.join(namespace.as_str()).join(digest.to_string())
    }

    /// A file to write an artifact into.
    pub(super) fn temporary(&self) -> io::Result<Draft> {
        NamedTempFile::new_in(self.folder.join(DRAFTS)).map(Draft)
    }

    /// Whether the artifact is there; marks it as used just now.
    pub(super) fn touch(&mut self, namespace: &Namespace, digest: &Digest) -> bool {
        let key = (namespace.clone(), *digest);
        self.pinned.get(&key).map_or_else(|| self.files.touch(&key), Option::is_some)
    }

    /// Keeps an artifact that is there whatever the bounds; whether it is there. Its file has been synced.
    pub(super) fn pin(&mut self, namespace: &Namespace, digest: &Digest, size: u64) -> bool {
        let key = (namespace.clone(), *digest);
        if matches!(self.pinned.get(&key), Some(Some(_))) {
            return true;
        }
        if !self.files.touch(&key) {
            return false;
        }
        self.files.remove(&key);
        self.pinned.insert(key, Some(size));
        true
    }

    /// Counts an artifact among the others again.
    pub(super) fn unpin(&mut self, namespace: &Namespace, digest: &Digest) {
        let key = (namespace.clone(), *digest);
        if let Some(Some(size)) = self.pinned.remove(&key) {
            self.count(key.0, key.1, size);
        }
    }

    /// Puts a written file in place. Whoever does that evicts afterwards.
    pub(super) fn insert(&mut self, namespace: Namespace, digest: Digest, written: Written) -> io::Result<()> {
        let path = self.path(&namespace, &digest);
        if self.pinned.contains_key(&(namespace.clone(), digest)) {
            written.file.as_file().sync_all()?; // a deployment stands on it already
        }
        fs::create_dir_all(self.folder.join(namespace.as_str()))?;
        written.file.persist(path)?;
        self.count(namespace, digest, written.size);
        Ok(())
    }

    /// Removes what was not used for longest if the bounds are passed; the newest always stays. One at a time, so that
    /// whoever holds the lock gives others a turn in between.
    pub(super) fn evict_one(&mut self) -> bool {
        let oldest = self.files.oldest_over(self.most_bytes, self.most_files);
        let Some((namespace, digest)) = oldest else { return false };
        self.remove(&namespace, &digest);
        true
    }

    /// Removes an artifact, and its namespace's folder with the last one. Of a pinned one the file stays, for people to
    /// look at, until another upload takes its place.
    pub(super) fn remove(&mut self, namespace: &Namespace, digest: &Digest) {
        let key = (namespace.clone(), *digest);
        if let Some(size) = self.pinned.get_mut(&key) {
            *size = None;
            return;
        }
        self.files.remove(&key);
        let _ = fs::remove_file(self.path(namespace, digest));
        let _ = fs::remove_dir(self.folder.join(namespace.as_str())); // fails while others are in it
    }

    fn count(&mut self, namespace: Namespace, digest: Digest, size: u64) {
        let key = (namespace, digest);
        match self.pinned.get_mut(&key) {
            Some(pinned) => *pinned = Some(size),
            None => self.files.insert(key, size.max(BLOCK)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Store {
        index: Index,
        names: [Namespace; 2],
        dir: tempfile::TempDir,
    }

    fn store(most_bytes: u64, most_files: usize) -> Store {
        let dir = tempfile::tempdir().unwrap();
        let index = Index::open(dir.path(), most_bytes, most_files, vec![]).unwrap();
        Store { index, names: ["a", "b"].map(|name| name.parse().unwrap()), dir }
    }

    fn digest(n: u8) -> Digest {
        Digest::of(&[n])
    }

    impl Store {
        fn put(&mut self, namespace: usize, n: u8, blocks: u64) {
            let bytes = vec![n; usize::try_from(blocks * BLOCK).unwrap()];
            let written = self.index.temporary().unwrap().write(&bytes).unwrap();
            self.index.insert(self.names[namespace].clone(), digest(n), written).unwrap();
            while self.index.evict_one() {}
        }

        /// Which of the digests are there; files and books must agree.
        fn there(&mut self, namespace: usize) -> Vec<u8> {
            let namespace = self.names[namespace].clone();
            let there = (0..10).filter(|n| self.index.touch(&namespace, &digest(*n))).collect::<Vec<_>>();
            let on_disk = (0..10).filter(|n| self.index.path(&namespace, &digest(*n)).exists()).collect::<Vec<_>>();
            assert_eq!(there, on_disk);
            there
        }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut store = store(3 * BLOCK, 100);
        for n in 0..3 {
            store.put(0, n, 1);
        }
        let namespace = store.names[0].clone();
        assert!(store.index.touch(&namespace, &digest(0)));
        store.put(0, 3, 2);
        assert_eq!(store.there(0), [0, 3]);
        store.put(0, 4, 9);
        assert_eq!(store.there(0), [4], "one that is over the bound alone still stays");
    }

    #[test]
    fn the_count_is_bounded_and_empty_namespaces_leave_no_folder() {
        let mut store = store(1 << 30, 2);
        for n in 0..3 {
            store.put(0, n, 0);
        }
        assert_eq!(store.there(0), [1, 2]);
        store.put(1, 3, 0);
        store.put(1, 4, 0);
        assert_eq!((store.there(0), store.there(1)), (vec![], vec![3, 4]));
        assert!(!store.dir.path().join("a").exists());
    }

    #[test]
    fn namespaces_do_not_see_each_other_and_the_same_again_counts_once() {
        let mut store = store(100 * BLOCK, 100);
        store.put(0, 1, 1);
        store.put(0, 1, 1);
        assert_eq!((store.there(0), store.there(1)), (vec![1], vec![]));
        assert_eq!((store.index.files.bytes(), store.index.files.len()), (BLOCK, 1));
    }

    #[test]
    fn opening_with_a_smaller_bound_removes_the_surplus() {
        let mut store = store(10 * BLOCK, 100);
        for n in 0..5 {
            store.put(0, n, 1);
        }
        fs::write(store.dir.path().join("a").join("stray"), b"x").unwrap();
        fs::write(store.dir.path().join(DRAFTS).join("torn"), b"x").unwrap();
        store.index = Index::open(store.dir.path(), 2 * BLOCK, 100, vec![]).unwrap();
        assert_eq!(store.there(0).len(), 2);
        assert_eq!(fs::read_dir(store.dir.path().join("a")).unwrap().count(), 2);
        assert_eq!(fs::read_dir(store.dir.path().join(DRAFTS)).unwrap().count(), 0);
    }

    #[test]
    fn a_draft_that_is_dropped_leaves_nothing() {
        let store = store(BLOCK, 1);
        drop(store.index.temporary().unwrap().write(b"half").unwrap());
        assert_eq!(fs::read_dir(store.dir.path().join(DRAFTS)).unwrap().count(), 0);
    }
}
