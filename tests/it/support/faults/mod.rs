//! Faults of the disk, made between a node and the system (`interposer.rs`).

use super::NodeProcess;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Words of the control file, as `interposer.rs` has them.
const SYNCS_BEFORE: u64 = 0;
const SYNCS_FAILING: u64 = 1;
const WRITES_BEFORE: u64 = 2;
const DISK_FILLS: u64 = 3;
const WRITES_SEEN: u64 = 4;
const SYNCS_SEEN: u64 = 5;
const WORDS: u64 = 6;

/// What decides over the faults of one node's databases.
pub struct Faults {
    control: File,
    path: PathBuf,
    records: PathBuf,
}

impl Faults {
    /// For a node on this data folder. The control file stands beside it.
    pub fn new(data: &Path) -> Self {
        let path = data.with_extension("faults");
        let control = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path).unwrap();
        control.set_len(WORDS * 8).unwrap();
        std::fs::create_dir_all(data).unwrap();
        let records = data.canonicalize().unwrap().join("records");
        Self { control, path, records }
    }

    /// A node that meets them.
    pub fn node(&self, data: &Path) -> NodeProcess {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        command.env("LD_PRELOAD", library()).env("FAULTS_CONTROL", &self.path).env("FAULTS_FOLDER", &self.records);
        NodeProcess::spawn(command)
    }

    /// After `before` more syncs, the next `failing` fail with an I/O error.
    pub fn fail_syncs(&self, before: u64, failing: u64) {
        self.set(SYNCS_BEFORE, before);
        self.set(SYNCS_FAILING, failing);
    }

    /// After `before` more writes, there is no space left.
    pub fn fill_disk(&self, before: u64) {
        self.set(WRITES_BEFORE, before);
        self.set(DISK_FILLS, 1);
    }

    /// No more faults.
    pub fn heal(&self) {
        self.set(DISK_FILLS, 0);
        self.set(SYNCS_FAILING, 0);
    }

    /// Writes and syncs that were seen so far.
    pub fn seen(&self) -> (u64, u64) {
        (self.word(WRITES_SEEN), self.word(SYNCS_SEEN))
    }

    fn set(&self, word: u64, value: u64) {
        self.control.write_all_at(&value.to_le_bytes(), word * 8).unwrap();
    }

    fn word(&self, word: u64) -> u64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, word * 8).unwrap();
        u64::from_le_bytes(bytes)
    }
}

/// The interposed library, compiled once per test process.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/faults/interposer.rs");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let library = folder.join("libfaults.so");
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-D", "warnings", "-o"]);
        let built = command.arg(&library).arg(source).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        library
    })
}
