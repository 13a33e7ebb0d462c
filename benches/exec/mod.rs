//! What one call of one program costs in each executor, in one run with the floors under it: `posix_spawn`, `docker run`.
//!
//! The executors live in this process, as they live in a node; a node of its own answers the same over gRPC. The program is `plugins/wordcount`,
//! as a component and as a static native binary; beside it a program of a few lines of C, of which nearly nothing but the
//! price of a process is left. What needs a container engine says so where none answers.

mod container;
mod guest;
mod local;
mod memory;
mod served;

use crate::Failure;
use crate::options::Options;
use crate::report::Row;
use collector::lifecycle::Lifecycle;
use guest::Guest;
use local::Local;
use std::time::Duration;

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

impl Size {
    fn of(options: &Options) -> Self {
        let usual = Self { rounds: 0, calls: 500, slow: 3, held_mib: 2_048 };
        let quick = Self { rounds: 0, calls: 20, slow: 1, held_mib: 64 };
        Self { rounds: options.rounds(), ..options.pick(usual, quick) }
    }
}

/// Group `exec`.
pub(crate) async fn rows(options: &Options) -> Result<Vec<Row>, Failure> {
    let (size, lifecycle) = (Size::of(options), Lifecycle::default());
    // A task, as calls of a node are: what waits for a guest is woken on a worker's thread.
    lifecycle.spawn(run(size, lifecycle.clone())).await?
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
    rows.extend(container::rows(&local, &guest, size, &lifecycle).await?);
    lifecycle.kill();
    lifecycle.end(Duration::from_secs(5)).await;
    Ok(rows)
}
