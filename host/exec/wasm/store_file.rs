//! Compiled code on disk, authenticated: what this node did not write itself is never loaded.
//!
//! `<folder>/<engine>/<digest>.cwasm` and `.mac` beside it: a BLAKE3 MAC under the node's key over engine, digest and
//! code. `<engine>` names version and configuration; folders of other engines are removed at start. Files are whole or
//! absent (rename), and a file torn by a crash fails its MAC and is compiled again, so nothing here needs an fsync.

use crate::domain::{Digest, Recency};
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use wasmtime::Engine;
use wasmtime::component::Component;

pub(super) struct CompiledStore {
    folder: PathBuf,
    engine: String,
    key: [u8; 32],
    /// What is on disk, by when it was last loaded or written.
    kept: Mutex<Recency<Digest>>,
    most_bytes: u64,
}

/// Machine code that this node's own compiler made: the only thing that is ever deserialised. Made by
/// [`CompiledStore::find`] (after the MAC was checked) and [`CompiledStore::write`] (fresh from the compiler).
pub(super) struct OwnArtifact {
    place: Place,
    size: u64,
}

enum Place {
    File(PathBuf),
    /// Where the disk had no room.
    Memory(Vec<u8>),
}

impl OwnArtifact {
    /// Maps the code into memory.
    #[expect(
        unsafe_code,
        reason = "loading machine code is unsafe by nature; OwnArtifact is the proof that it is ours"
    )]
    pub(super) fn open(&self, engine: &Engine) -> wasmtime::Result<Component> {
        match &self.place {
            // SAFETY: the file was written by this node's compiler for this engine: its MAC, under a key that never
            // leaves the node, was checked just now, or it was written just now. The folder is private to the node's
            // user and held by the node's lock, and files in it are replaced by rename, never changed in place.
            Place::File(path) => unsafe { Component::deserialize_file(engine, path) },
            // SAFETY: these bytes came from this engine's compiler in this process.
            Place::Memory(code) => unsafe { Component::deserialize(engine, code) },
        }
    }
}

impl CompiledStore {
    /// Opens the folder and removes what other engines left in it.
    pub(super) fn open(root: &Path, engine: &Engine, key: &[u8; 32], most_bytes: u64) -> io::Result<Self> {
        let engine = name_of(engine);
        let folder = root.join(&engine);
        fs::create_dir_all(&folder)?;
        for other in fs::read_dir(root)?.flatten().filter(|entry| entry.file_name() != engine.as_str()) {
            let _ = fs::remove_dir_all(other.path());
        }
        let kept = Mutex::new(survey(&folder)?);
        Ok(Self { folder, engine, key: *key, kept, most_bytes })
    }

    /// The code of `digest` if it is here and is what this node wrote.
    pub(super) fn find(&self, digest: &Digest) -> Option<OwnArtifact> {
        let (code, mac) = self.paths(digest);
        let found = fs::read(&code).ok()?;
        let expected = self.mac(digest, &found);
        let stored = fs::read(&mac).ok()?;
        // blake3::Hash compares in constant time.
        if stored.len() == blake3::OUT_LEN && blake3::Hash::from_slice(&stored).is_ok_and(|mac| mac == expected) {
            let size = found.len() as u64;
            self.kept().insert(*digest, size);
            return Some(OwnArtifact { place: Place::File(code), size });
        }
        tracing::warn!(?digest, "compiled code on disk is not what this node wrote, it is removed");
        self.remove(digest);
        None
    }

    /// Writes fresh code to disk. It is not counted yet: [`CompiledStore::settle`] says whether it is worth keeping.
    /// Where the disk has no room the code is used from memory, which costs only the next start.
    pub(super) fn write(&self, digest: &Digest, code: Vec<u8>) -> OwnArtifact {
        let size = code.len() as u64;
        let (path, mac_path) = self.paths(digest);
        let written = replace(&self.folder, &path, &code)
            .and_then(|()| replace(&self.folder, &mac_path, self.mac(digest, &code).as_bytes()));
        let place = match written {
            Ok(()) => Place::File(path),
            Err(why) => {
                tracing::warn!(%why, "compiled code could not be kept on disk");
                self.remove(digest);
                Place::Memory(code)
            }
        };
        OwnArtifact { place, size }
    }

    /// Keeps code that loaded, dropping what was not loaded for longest beyond the bound; removes code that did not.
    pub(super) fn settle(&self, digest: &Digest, fresh: &OwnArtifact, loaded: bool) {
        if !loaded {
            return self.remove(digest);
        }
        if matches!(fresh.place, Place::File(_)) {
            self.kept().insert(*digest, fresh.size);
        }
        loop {
            let oldest = self.kept().oldest_over(self.most_bytes, usize::MAX);
            match oldest {
                Some(oldest) => self.remove(&oldest), // a program that has it mapped keeps its mapping
                None => return,
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Recency<Digest>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remove(&self, digest: &Digest) {
        self.kept().remove(digest);
        let (code, mac) = self.paths(digest);
        let _ = fs::remove_file(mac);
        let _ = fs::remove_file(code);
    }

    fn mac(&self, digest: &Digest, code: &[u8]) -> blake3::Hash {
        let mut mac = blake3::Hasher::new_keyed(&self.key);
        mac.update(self.engine.as_bytes()).update(digest.as_bytes()).update(code);
        mac.finalize()
    }

    fn paths(&self, digest: &Digest) -> (PathBuf, PathBuf) {
        (self.folder.join(format!("{digest}.cwasm")), self.folder.join(format!("{digest}.mac")))
    }
}

/// Version and configuration of an engine as a folder name: equal names load each other's code.
pub(in crate::exec) fn name_of(engine: &Engine) -> String {
    let mut hash = std::hash::DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hash);
    format!("wasmtime-{:016x}", hash.finish())
}

/// Lists what an earlier run left, oldest first, and sweeps half-written files.
fn survey(folder: &Path) -> io::Result<Recency<Digest>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let digest = name.strip_suffix(".cwasm").and_then(|hex| hex.parse::<Digest>().ok());
        match (digest, entry.metadata()) {
            (Some(digest), Ok(meta)) => found.push((meta.modified().ok(), digest, meta.len())),
            _ if name.ends_with(".mac") => {}
            _ => drop(fs::remove_file(entry.path())),
        }
    }
    found.sort_unstable();
    let mut kept = Recency::default();
    for (_, digest, size) in found {
        kept.insert(digest, size);
    }
    Ok(kept)
}

/// Writes a file whole or not at all.
fn replace(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(bytes)?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> (Digest, Vec<u8>) {
        (Digest::of(b"component"), vec![7; 1_000])
    }

    #[test]
    fn only_what_this_node_wrote_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::default();
        let (digest, bytes) = code();
        let store = CompiledStore::open(dir.path(), &engine, &[1; 32], 1 << 20).unwrap();
        assert!(store.find(&digest).is_none());
        store.write(&digest, bytes.clone());
        assert!(store.find(&digest).is_some());

        let stranger = CompiledStore::open(dir.path(), &engine, &[2; 32], 1 << 20).unwrap();
        assert!(stranger.find(&digest).is_none(), "another node's key");

        store.write(&digest, bytes.clone());
        let (path, _) = store.paths(&digest);
        let mut changed = bytes;
        changed[500] ^= 1;
        fs::write(&path, changed).unwrap();
        assert!(store.find(&digest).is_none(), "one bit flipped");
        assert!(!path.exists(), "and removed");
    }

    #[test]
    fn the_folder_is_bounded_and_other_engines_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("wasmtime-0000")).unwrap();
        let engine = Engine::default();
        let store = CompiledStore::open(dir.path(), &engine, &[1; 32], 2_500).unwrap();
        assert!(!dir.path().join("wasmtime-0000").exists());
        let digests: Vec<Digest> = (0..4u8).map(|n| Digest::of(&[n])).collect();
        for digest in &digests {
            let fresh = store.write(digest, vec![0; 1_000]);
            store.settle(digest, &fresh, true);
            store.find(&digests[0]);
        }
        let kept: Vec<bool> = digests.iter().map(|digest| store.find(digest).is_some()).collect();
        assert_eq!(kept, [true, false, false, true], "what was not loaded for longest goes first");

        let again = store.write(&digests[3], vec![0; 1_000]);
        store.settle(&digests[3], &again, true);
        let refused = store.write(&digests[1], vec![0; 1_000]);
        store.settle(&digests[1], &refused, false);
        let kept: Vec<bool> = digests.iter().map(|digest| store.find(digest).is_some()).collect();
        assert_eq!(kept, [true, false, false, true], "the same again counts once, what does not load not at all");

        let reopened = CompiledStore::open(dir.path(), &engine, &[1; 32], 2_500).unwrap();
        assert_eq!(reopened.kept().bytes(), 2_000);
    }
}
