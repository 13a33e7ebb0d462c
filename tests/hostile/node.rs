//! The node under attack, as a process of our own.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use tempfile::TempDir;

/// What it is started with, besides its defaults.
///
/// 32 slots: what the pool keeps warm by design (2 MiB a slot) is in use before the first case, so that more than that is
/// a leak. The caches of code and of open databases are small for the same reason. All callers come from one address; no
/// file of the audit log goes before the suite has read it; guests may reach the servers of the suite.
const SETTINGS: [&str; 7] = [
    "auth.mode=required",
    "audit.files=0",
    "net.allow=127.0.0.1/32",
    "server.connections_per_address=1024",
    "wasm.slots=32",
    "wasm.programs_mib=32",
    "wasm.disk_mib=64",
];
/// Log kept. 4 MiB: all lines of one case.
const LOG_MAX: usize = 4 << 20;

/// What the node wrote to its log.
#[derive(Debug, Default)]
pub struct Log {
    canary: String,
    /// What lines of the bystander's own guests have in them: it may say what it likes, and its lines are not counted.
    own: String,
    tail: String,
    bytes: u64,
    findings: Vec<String>,
}

impl Log {
    fn line(&mut self, line: &str) {
        if !self.own.is_empty() && line.contains(&self.own) {
            return;
        }
        self.bytes += line.len() as u64 + 1;
        if !self.canary.is_empty() && line.contains(&self.canary) {
            self.findings.push("I7: a line of the log had the bystander's bytes in it".to_owned());
        }
        if !line.contains(" guest: ") && (line.contains("panicked") || line.contains("internal error")) {
            self.findings.push(format!("the log tells of a bug: {}", line.chars().take(300).collect::<String>()));
        }
        self.tail.push_str(line);
        self.tail.push('\n');
        if self.tail.len() > LOG_MAX {
            let cut = self.tail.len() - LOG_MAX / 2;
            let cut = self.tail.char_indices().map(|(at, _)| at).find(|at| *at >= cut).unwrap_or(cut);
            self.tail.drain(..cut);
        }
    }
}

/// A running node; killed on drop.
pub struct Node {
    child: Child,
    pub address: String,
    program: PathBuf,
    /// A key for everything, then those that were asked for.
    pub keys: Vec<String>,
    log: Arc<Mutex<Log>>,
    reader: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Node {
    /// * `settings`: over the suite's own.
    /// * `canary`: must be in no line of the log but those of guests in namespace `bystander`.
    /// * `keys`: what each may do, as `NAMESPACE:ROLE`.
    pub fn start(
        program: &Path,
        settings: &[String],
        canary: &str,
        bystander: &str,
        keys: &[Vec<String>],
    ) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
        let data = folder.path().join("data");
        let admin = [vec!["*:admin".to_owned()]];
        let keys = admin.iter().chain(keys).map(|may| key(program, &data, may)).collect::<Result<_, _>>()?;
        let temp = folder.path().join("temp");
        std::fs::create_dir(&temp).map_err(|why| why.to_string())?;
        let mut command = Command::new(program);
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        for setting in SETTINGS.iter().copied().chain(settings.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        command.env("TMPDIR", &temp).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|why| format!("{}: {why}", program.display()))?;
        let log = Arc::new(Mutex::new(Log {
            canary: canary.to_owned(),
            own: format!("namespace=\"{bystander}\""),
            ..Log::default()
        }));
        let (stderr, sink) = (child.stderr.take().ok_or("no log")?, Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            let mut lines = BufReader::new(stderr);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(read) if read > 0) {
                sink.lock().unwrap().line(String::from_utf8_lossy(&line).trim_end_matches('\n'));
                line.clear();
            }
        });
        let mut first = String::new();
        let stdout = child.stdout.take().ok_or("no output")?;
        let read = BufReader::new(stdout).read_line(&mut first);
        let mut node = Self {
            child,
            address: String::new(),
            program: program.to_owned(),
            keys,
            log,
            reader: Some(reader),
            folder,
        };
        read.map_err(|why| why.to_string())?;
        let said: serde_json::Value = serde_json::from_str(&first).unwrap_or_default();
        match said["serving"].as_str() {
            Some(address) => node.address = address.to_owned(),
            None => return Err(format!("the node said {first:?}; its log: {}", node.log_tail())),
        }
        Ok(node)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Where its audit log is.
    pub fn audit(&self) -> PathBuf {
        self.folder.path().join("data/audit")
    }

    /// The folder that has everything it writes.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    /// Bytes that it ever logged.
    pub fn logged(&self) -> u64 {
        self.log.lock().unwrap().bytes
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.log.lock().unwrap().tail.clone()
    }

    /// What the log told since somebody asked.
    pub fn take_findings(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap().findings)
    }
}

/// Makes a key in a data folder, by the command that operators use.
fn key(program: &Path, data: &Path, may: &[String]) -> Result<String, String> {
    let mut command = Command::new(program);
    command.args(["--json", "auth", "key", "create", "--data"]).arg(data).env_remove("COLLECTOR_CONFIG");
    for binding in may {
        command.args(["--bind", binding]);
    }
    let made = command.output().map_err(|why| format!("{}: {why}", program.display()))?;
    let said: serde_json::Value = serde_json::from_slice(&made.stdout).unwrap_or_default();
    let secret = said["secret"].as_str().map(str::to_owned);
    secret.ok_or_else(|| format!("no key was made: {}", String::from_utf8_lossy(&made.stderr)))
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}
