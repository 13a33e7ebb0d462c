//! The processes that are measured: a node as operators run it, and an echo (the benchmark's own program again).

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A server process, ended with its owner.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
}

impl Process {
    /// * `settings`: `section.key=value` each.
    pub(crate) fn node(data: &Path, settings: &[&str]) -> Result<Self, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["serve", "--json", "--listen", "127.0.0.1:0", "--set", "log.level=warn", "--data"]).arg(data);
        command.args(settings.iter().flat_map(|&setting| ["--set", setting]));
        Self::start(command)
    }

    #[allow(dead_code, reason = "the benchmark of executors has other floors")]
    pub(crate) fn echo() -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--echo");
        Self::start(command)
    }

    fn start(mut command: Command) -> Result<Self, Failure> {
        let mut child = command.stdout(Stdio::piped()).spawn()?;
        let mut first = String::new();
        BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut first)?;
        let said: serde_json::Value = serde_json::from_str(&first)?;
        let address = said["serving"].as_str().ok_or("no address")?.to_owned();
        Ok(Self { child, address })
    }

    #[allow(dead_code, reason = "the benchmark of tenants does not weigh")]
    pub(crate) fn resident_kib(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
