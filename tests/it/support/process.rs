//! The node as a process, as an operator runs it.

use collector::cli::NodeClient;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A running `collector` process; killed on drop.
pub struct NodeProcess {
    child: Child,
    pub address: String,
    log: Arc<Mutex<String>>,
    /// Data folder of a node that makes things in the engine.
    containers: Option<PathBuf>,
    reader: Option<JoinHandle<()>>,
}

impl NodeProcess {
    /// `collector serve` on a free port with these settings.
    pub fn start(data: &Path, settings: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        for setting in settings {
            command.args(["--set", setting]);
        }
        let containers = settings.iter().any(|setting| setting.contains("container"));
        let mut node = Self::spawn(command);
        node.containers = containers.then(|| data.to_owned());
        node
    }

    /// Any command of the program that serves and says so as JSON.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let mut node = Self { child, address: String::new(), log, containers: None, reader: Some(reader) };
        let said: serde_json::Value = match serde_json::from_str(&first) {
            Ok(said) => said,
            Err(_) => panic!("the node said {first:?} and ended: {:?}, log: {}", node.wait(), node.log()),
        };
        node.address = said["serving"].as_str().unwrap().to_owned();
        node
    }

    pub async fn client(&self) -> NodeClient {
        NodeClient::connect(&self.address).await.unwrap()
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the end and for the whole log.
    pub fn wait(&mut self) -> ExitStatus {
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status
    }

    /// Resident memory in KiB. Source: proc(5), VmRSS.
    pub fn resident_kib(&self) -> u64 {
        self.kib("VmRSS:")
    }

    /// The most that there ever was of it, in KiB. Source: proc(5), VmHWM.
    pub fn peak_kib(&self) -> u64 {
        self.kib("VmHWM:")
    }

    fn kib(&self, what: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(id) = self.containers.take().and_then(|data| std::fs::read_to_string(data.join("node.id")).ok()) {
            super::clean_after(&id);
        }
    }
}
