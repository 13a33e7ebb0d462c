//! A checker that cannot fail checks nothing: each invariant is broken once, on purpose, and has to be found.

use crate::bystander::Fared;
use crate::process::{Slack, Watched};
use crate::wire::Seen;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// What a process can be told to leak, and the invariant that finds it.
const LEAKS: [(&str, &str); 6] =
    [("memory", "I4"), ("descriptors", "I5"), ("threads", "I5"), ("process", "I5"), ("file", "I5"), ("life", "I1")];
/// How long what was leaked is waited for to come back.
const SLACK: Slack = Slack { threads: 4, descriptors: 4, patience: Duration::from_millis(300) };

/// Breaks every invariant; which was not found.
pub async fn run() -> Result<String, String> {
    for (what, invariant) in LEAKS {
        let found = leak(what).await?;
        if !found.iter().any(|line| line.starts_with(invariant)) {
            return Err(format!("{what} was leaked and {invariant} did not find it: {found:?}"));
        }
    }
    let fared = Fared { done: 98, failed: 2, ..Fared::default() };
    fared.judge().err().ok_or("I2: 98 % passed for 99 %")?;
    Fared { done: 99, failed: 1, ..Fared::default() }.judge()?;
    let nothing = Fared::default().judge();
    nothing.err().ok_or("I2: no call at all passed for success")?;
    let seen = Seen::new("canary");
    seen.look("a reply", b"a bird");
    if !seen.take_findings().is_empty() {
        return Err("I7 found what is not there".into());
    }
    seen.look("a reply", b"a canary bird");
    if seen.take_findings().is_empty() {
        return Err("I7 did not find the canary".into());
    }
    unwritten()?;
    Ok(format!("{} leaks, all found", LEAKS.len() + 6))
}

/// A change, a refusal and one of two changes without a record.
fn unwritten() -> Result<(), String> {
    let action = "collector.CollectionService/Create";
    let mut written = crate::audit::Written::default();
    let begun =
        serde_json::json!({ "kind": "begin", "action": format!("/{action}"), "request": "a", "namespace": "x" });
    written.note(&begun, "bystander");
    written.note(&serde_json::json!({ "kind": "denied", "request": "b" }), "bystander");
    written.has_change("a")?;
    written.has_refusal("b")?;
    written.covers(&[(action.to_owned(), 1)].into())?;
    let missed = [written.has_change("b"), written.has_refusal("a"), written.covers(&[(action.to_owned(), 2)].into())];
    crate::case::check(missed.iter().all(Result::is_err), || "I6 did not find what was not written".to_owned())
}

/// A process that leaks when it is told to.
struct Leaky {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<std::process::ChildStdout>,
}

impl Drop for Leaky {
    fn drop(&mut self) {
        self.stdin.take(); // ends it, and what it started
        let _ = self.child.wait();
    }
}

impl Leaky {
    fn line(&mut self) -> Result<(), String> {
        let mut line = String::new();
        let read = self.stdout.read_line(&mut line).map_err(|why| why.to_string())?;
        if read == 0 {
            self.child.wait().map_err(|why| why.to_string())?; // its output ends a moment before it does
        }
        Ok(())
    }
}

async fn leak(what: &str) -> Result<Vec<String>, String> {
    let folder = tempfile::tempdir().map_err(|why| why.to_string())?;
    let program = std::env::current_exe().map_err(|why| why.to_string())?;
    let mut command = Command::new(program);
    command.args(["--leak", what]).current_dir(folder.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|why| why.to_string())?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take().ok_or("no output")?);
    let mut leaky = Leaky { child, stdin, stdout: BufReader::new(stdout) };
    leaky.line()?;
    let watched = Watched { id: leaky.child.id(), folder: folder.path().to_owned() };
    let before = watched.held()?;
    let quiet = watched.settles(&before, SLACK).await;
    if !quiet.is_empty() {
        return Err(format!("found before anything was leaked: {quiet:?}"));
    }
    leaky.stdin.as_mut().ok_or("no input")?.write_all(b"now\n").map_err(|why| why.to_string())?;
    leaky.line()?;
    Ok(watched.settles(&before, SLACK).await)
}

/// The other side: leaks `what` when told to, and ends with its input.
pub fn leak_on_demand(what: &str) {
    let mut lines = std::io::stdin().lines();
    println!("ready");
    lines.next();
    let mut memory = Vec::new();
    let mut files = Vec::new();
    let mut child = None;
    match what {
        "memory" => memory = vec![1_u8; 128 << 20],
        "descriptors" => files.extend((0..32).map_while(|_| std::fs::File::open("/dev/null").ok())),
        "threads" => (0..32).for_each(|_| drop(std::thread::spawn(|| std::thread::sleep(Duration::from_secs(60))))),
        "process" => child = Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().ok(),
        "file" => drop(std::fs::write(".tmpLeaked", "left")),
        _ => std::process::exit(1),
    }
    println!("done");
    lines.next();
    drop((memory, files));
    if let Some(mut child) = child {
        let _ = child.kill();
        let _ = child.wait();
    }
}
