//! What one call of one program costs in each executor, in one run with the floors under it: `posix_spawn`, `docker run`.
//!
//! `cargo bench --bench exec` prints a table and writes JSON; `-- --quick` only shows that it runs. The executors live in
//! this process, as they live in a node; a node of its own answers the same over gRPC. The program is `plugins/wordcount`,
//! as a component and as a static native binary; beside it a program of a few lines of C, of which nearly nothing but the
//! price of a process is left. What needs a container engine says so where none answers.

mod container;
mod guest;
mod local;
mod memory;
#[path = "../common/plugins.rs"]
mod plugins;
#[path = "../common/process.rs"]
mod process;
#[path = "../common/report.rs"]
mod report;
mod served;

use collector::lifecycle::Lifecycle;
use guest::Guest;
use local::Local;
use report::{Round, Row, floor, micros};
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How much is measured.
#[derive(Clone, Copy)]
struct Size {
    rounds: usize,
    calls: usize,
    /// Calls of a kind in a round that take a fraction of a second each.
    slow: usize,
    /// Memory of this process while the second half of a round runs.
    held_mib: usize,
}

const FULL: Size = Size { rounds: 7, calls: 500, slow: 3, held_mib: 2_048 };
const QUICK: Size = Size { rounds: 1, calls: 20, slow: 1, held_mib: 64 };

/// What was measured, by name.
#[derive(Default)]
struct Rounds(BTreeMap<&'static str, Vec<Round>>);

impl Rounds {
    fn note(&mut self, what: &'static str, took: &[Duration]) {
        self.0.entry(what).or_default().push(Round::of(took));
    }

    /// A line that sets one beside another.
    fn row(&self, kind: &str, what: &str, beside: &str) -> Row {
        Row::timed(kind, what, &self.0[what], floor(&self.0[beside]))
    }

    /// How many times as long one takes as another.
    fn ratio(&self, what: &str, beside: &str) -> f64 {
        micros(floor(&self.0[what])) / micros(floor(&self.0[beside])).max(f64::MIN_POSITIVE)
    }
}

/// A line that says whether a ratio is where it has to be.
fn bar(what: &str, ratio: f64, most: f64) -> Row {
    let word = if ratio <= most { "kept" } else { "MISSED" };
    let text = format!("bar   {what:<58} {ratio:>9.4}x   at most {most}x: {word}");
    Row::new(text, json!({ "bar": what, "ratio": ratio, "most": most, "kept": ratio <= most }))
}

fn main() -> Result<(), Failure> {
    let size = if std::env::args().any(|arg| arg == "--quick") { QUICK } else { FULL };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let lifecycle = Lifecycle::default();
    // A task, as calls of a node are: what waits for a guest is woken on a worker's thread.
    let rows = runtime.block_on(async { lifecycle.spawn(run(size, lifecycle.clone())).await })??;
    report::print("exec", &rows)
}

async fn run(size: Size, lifecycle: Lifecycle) -> Result<Vec<Row>, Failure> {
    // Beside the target folder, not in /tmp, which may be memory.
    let data = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
    let guest = Guest::build(data.path())?;
    let local = Local::start(data.path(), &lifecycle).await?;
    let mut rows = local::warm(&local, &guest, size).await?;
    rows.extend(served::rows(&data.path().join("node"), &guest, size).await?);
    rows.extend(local::cold(&local, &guest, size).await?);
    rows.extend(local::kept(&local, &guest, data.path()).await?);
    rows.extend(container::rows(&guest, size, &lifecycle).await?);
    lifecycle.kill();
    lifecycle.end(Duration::from_secs(5)).await;
    Ok(rows)
}
