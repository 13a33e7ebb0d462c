//! The command line as a process, against a node as a process.

use super::NodeProcess;
use serde_json::Value;
use std::io::Write as _;
use std::process::{Child, Command, Output, Stdio};

/// A node and the command line against it.
pub struct Cli {
    pub node: NodeProcess,
    pub home: tempfile::TempDir,
}

impl Cli {
    pub fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let node = NodeProcess::start(&home.path().join("data"), &[]);
        Self { node, home }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.args(args).env("COLLECTOR_NODE", &self.node.address).env_remove("COLLECTOR_NAMESPACE");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What a command that ends well says.
    pub fn says(&self, args: &[&str]) -> String {
        let done = self.run(args);
        assert!(done.status.success(), "{args:?}: {}{}", text(&done.stdout), text(&done.stderr));
        text(&done.stdout)
    }

    /// The same as JSON.
    pub fn json(&self, args: &[&str]) -> Value {
        let said = self.says(&[&["--json"], args].concat());
        serde_json::from_str(&said).unwrap_or_else(|why| panic!("{why}: {said}"))
    }

    /// What a command says on stderr that fails with this exit code.
    pub fn fails(&self, code: i32, args: &[&str]) -> String {
        let done = self.run(args);
        let said = text(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {}{said}", text(&done.stdout));
        said
    }

    /// Runs a command with this on its stdin.
    pub fn fed(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.piped(args);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    pub fn piped(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    pub fn write(&self, name: &str, content: &str) -> String {
        let file = self.home.path().join(name);
        std::fs::write(&file, content).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}
