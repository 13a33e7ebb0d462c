//! The processes that are measured: a node as operators run it, and an echo (the benchmark's own program again).

use crate::Failure;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A server process, ended with its owner.
pub(crate) struct Process {
    child: Child,
    pub(crate) address: String,
}

impl Process {
    /// * `settings`: `section.key=value` each.
    pub(crate) fn node(data: &Path, settings: &[&str]) -> Result<Self, Failure> {
        Self::node_at("127.0.0.1:0", data, settings.iter().flat_map(|&setting| ["--set", setting]))
    }

    /// * `words`: further ones of the command line.
    pub(crate) fn node_at<W: AsRef<OsStr>>(
        at: &str,
        data: &Path,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, Failure> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(["serve", "--json", "--listen", at, "--set", "log.level=warn", "--data"]).arg(data).args(words);
        Self::start(command, |first| {
            let said: serde_json::Value = serde_json::from_str(first).ok()?;
            Some(said["serving"].as_str()?.to_owned())
        })
    }

    pub(crate) fn echo() -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--echo");
        Self::start(command, |first| Some(first.trim().to_owned()))
    }

    /// * `address`: finds it in a line of what the process prints; lines in which it is not are left out.
    pub(crate) fn start(mut command: Command, address: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        let mut child = Killed(Some(command.stdout(Stdio::piped()).spawn()?));
        let stdout = child.0.as_mut().and_then(|child| child.stdout.take()).ok_or("no stdout")?;
        child.told(stdout, address)
    }

    /// The same of one that says it on stderr.
    pub(crate) fn start_told(mut command: Command, address: impl Fn(&str) -> Option<String>) -> Result<Self, Failure> {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = Killed(Some(command.spawn()?));
        let stderr = child.0.as_mut().and_then(|child| child.stderr.take()).ok_or("no stderr")?;
        child.told(stderr, address)
    }

    /// Lets it finish what it does, and waits for its end.
    ///
    /// * errors: it ended otherwise than it should.
    pub(crate) fn stop(mut self) -> Result<(), Failure> {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), rustix::process::Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("a node ended with {status}").into()) }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn resident_kib(&self) -> Result<u64, Failure> {
        self.status("VmRSS:")
    }

    /// What of it no file has.
    pub(crate) fn anonymous_kib(&self) -> Result<u64, Failure> {
        self.status("RssAnon:")
    }

    fn status(&self, name: &str) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no such line in status")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Processor time of all its threads that run.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        let mut nanos = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            // A thread may end between the two looks.
            let text = std::fs::read_to_string(task?.path().join("schedstat")).unwrap_or_default();
            nanos += text.split_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or_default();
        }
        Ok(Duration::from_nanos(nanos))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A child that ends unless it is taken.
struct Killed(Option<Child>);

impl Killed {
    fn told(mut self, said: impl Read, address: impl Fn(&str) -> Option<String>) -> Result<Process, Failure> {
        for line in BufReader::new(said).lines() {
            if let Some(address) = address(&line?) {
                return Ok(Process { child: self.0.take().ok_or("no child")?, address });
            }
        }
        Err("a process ended and never said where it listens".into())
    }
}

impl Drop for Killed {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
