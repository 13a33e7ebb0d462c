//! Other hosts, where the machine has them: from the environment or the PATH, else they are left out.

use super::Peer;
use crate::process::Process;
use crate::{Failure, machine, plugins};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Start of the names of `wasmtime serve`.
pub(super) const WASMTIME: &str = "wasmtime serve";

/// A host in its settings, or what it is and why it is not there.
type Found = Result<Vec<Peer>, (&'static str, String)>;

/// As it comes, and with what its documentation has for many short-lived instances.
pub(super) fn wasmtime(data: &Path) -> Result<Found, Failure> {
    const SETTINGS: [(&str, &[&str]); 2] = [("defaults", &[]), ("pooling allocator", &["-O", "pooling-allocator=y"])];
    let lock = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock"))?;
    let ours = machine::locked(&lock, "wasmtime");
    let (program, version) = match find("COLLECTOR_BENCH_WASMTIME", "wasmtime") {
        Ok(found) => found,
        Err(why) => return Ok(Err((WASMTIME, format!("{why} (ours is {ours}: cargo install wasmtime-cli@{ours})")))),
    };
    let component = data.join("greeter-http.wasm");
    std::fs::write(&component, plugins::component("greeter-http")?)?;
    let mut peers = Vec::new();
    for (name, settings) in SETTINGS {
        let mut command = Command::new(&program);
        // What Rust's standard library imports is not all of what a proxy is given by itself.
        command.args(["serve", "--addr", "127.0.0.1:0", "-S", "cli"]).args(settings).arg(&component);
        let process = Process::start_told(command, |line| {
            let (_, address) = line.split_once("http://")?;
            Some(format!("http://{}", address.trim_end().trim_end_matches('/')))
        })?;
        peers.push(Peer { name: format!("{WASMTIME} ({version}, {name})"), process, path: "/" });
    }
    Ok(Ok(peers))
}

/// Cloudflare's, which runs JavaScript in an isolate that calls share.
pub(super) fn workerd(data: &Path) -> Result<Found, Failure> {
    let (program, version) = match find("COLLECTOR_BENCH_WORKERD", "workerd") {
        Ok(found) => found,
        Err(why) => return Ok(Err(("workerd", format!("{why} (npm install workerd, node_modules/.bin on the PATH)")))),
    };
    std::fs::write(data.join("greeter.js"), SCRIPT)?;
    let config = data.join("greeter.capnp");
    std::fs::write(&config, CONFIG)?;
    let mut command = Command::new(program);
    // Says on the descriptor where it listens.
    command.args(["serve", "--control-fd=1", "--socket-addr=http=127.0.0.1:0"]).arg(&config);
    command.stderr(Stdio::null());
    let process = Process::start(command, |line| {
        let said: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(format!("http://127.0.0.1:{}", said["port"].as_u64()?))
    })?;
    Ok(Ok(vec![Peer { name: format!("workerd ({version})"), process, path: "/" }]))
}

const SCRIPT: &str = r#"export default {
  async fetch(request) {
    const asked = await request.json();
    return Response.json({ text: "Hello, " + asked.name + "!" });
  },
};
"#;

const CONFIG: &str = r#"using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "main", worker = .greeter)],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "main")],
);
const greeter :Workerd.Worker = (
  modules = [(name = "greeter.js", esModule = embed "greeter.js")],
  compatibilityDate = "2025-01-01",
);
"#;

/// A program and what it says of its version.
fn find(variable: &str, name: &str) -> Result<(PathBuf, String), String> {
    let program = std::env::var_os(variable).map_or_else(|| PathBuf::from(name), PathBuf::from);
    let output = Command::new(&program).arg("--version").output().ok().filter(|output| output.status.success());
    let output = output.ok_or_else(|| format!("{} does not run; set {variable}", program.display()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    let version = said.split_whitespace().find(|word| word.starts_with(|first: char| first.is_ascii_digit()));
    Ok((program, version.unwrap_or("of no known version").to_owned()))
}
