//! A container for one call: made, started, fed, read to its end, gone.

use super::attached::{Input, Output, Piece, feed};
use super::engine::{EngineError, PATIENCE};
use super::life::Container;
use crate::domain::Limits;
use crate::exec::command::{self, End, Reply};
use crate::exec::log::{GuestLog, Stream};
use crate::exec::{ExecError, Job};
use bollard::errors::Error;
use bollard::query_parameters::WaitContainerOptionsBuilder;
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::Notify;
use tokio::time::timeout;

/// The container's init says 128 + n for signal n, as shells do. Source: docker-init (tini), its README.
const BY_SIGNAL: i32 = 128;
/// Source: signal(7).
pub(super) const SIGKILL: i32 = 9;

/// Runs the call in a container that was made for it.
///
/// * `limits`: with the memory that the container has.
/// * errors: also `Broken` if the output was cut: half an answer is none.
/// * cancel: safe; the container is killed and removed by its owner's guard.
pub(super) async fn run(container: &Container, job: &Job, limits: &Limits, log: &GuestLog) -> Result<Reply, ExecError> {
    let (input, output) = container.attach().await?;
    container.start().await.map_err(|why| why.of(job.code.kind))?;
    let read = Notify::new();
    let exchange = async {
        let stdout = exchange(input, output, job, limits, log).await?;
        read.notify_one();
        match container.runs().await? {
            true => Err(cut()),
            false => Ok(stdout),
        }
    };
    let end = async {
        tokio::select! {
            // What has ended already says so at once: none is missed by asking after the start.
            code = wait(container) => code,
            () = late(&read) => Err(cut()),
        }
    };
    let (stdout, code) = tokio::try_join!(exchange, end)?;
    if code == BY_SIGNAL + SIGKILL && was_out_of_memory(container).await {
        return Err(command::memory(limits));
    }
    // Whether a signal or the program itself chose a code above 128, nobody can tell from here.
    command::answer(End::Exit(code), stdout, log, limits)
}

/// Resolves when all was read a while ago: then the container has ended, or what was read was not all.
async fn late(read: &Notify) {
    read.notified().await;
    tokio::time::sleep(PATIENCE).await;
}

fn cut() -> ExecError {
    ExecError::Broken("the container's output was cut".to_owned())
}

/// Feeds stdin, and reads both others to their ends.
async fn exchange(
    input: Input,
    mut output: Output,
    job: &Job,
    limits: &Limits,
    log: &GuestLog,
) -> Result<Bytes, ExecError> {
    let read = async {
        let mut stdout = BytesMut::new();
        while let Some(piece) = output.next().await? {
            match piece {
                Piece::Stdout(bytes) if stdout.len() + bytes.len() > limits.output_bytes => {
                    return Err(command::output_too_large(limits));
                }
                Piece::Stdout(bytes) => stdout.extend_from_slice(&bytes),
                Piece::Stderr(bytes) => log.write(Stream::Stderr, &bytes),
            }
        }
        Ok(stdout.freeze())
    };
    let feed = feed(input, &job.input);
    let mut feed = std::pin::pin!(feed);
    let mut read = std::pin::pin!(read);
    tokio::select! {
        done = &mut read => done, // it need not read its stdin
        () = &mut feed => read.await,
    }
}

/// The exit code of the container, when it has ended.
async fn wait(container: &Container) -> Result<i32, ExecError> {
    let engine = container.engine();
    let docker = engine.docker().await?;
    let options = WaitContainerOptionsBuilder::new().condition("not-running").build();
    let mut ends = docker.wait_container(container.name(), Some(options));
    let code = match ends.next().await {
        Some(Ok(end)) => end.status_code,
        Some(Err(Error::DockerContainerWaitError { code, .. })) => code,
        Some(Err(why)) => return Err(engine.failed("wait for a container", &why).into()),
        None => return Err(EngineError::Gone.into()),
    };
    Ok(i32::try_from(code).unwrap_or(i32::MAX))
}

/// Whether the kernel killed something in it for its memory.
pub(super) async fn was_out_of_memory(container: &Container) -> bool {
    let inspected = container
        .engine()
        .ask("look at a container", |docker| async move { docker.inspect_container(container.name(), None).await });
    let state = inspected.await.ok().and_then(|found| found.state);
    state.and_then(|state| state.oom_killed).unwrap_or(false)
}

impl Container {
    /// Ends it, and says whether the kernel killed something in it for its memory: some engines know only then.
    pub(super) async fn ends_out_of_memory(&self) -> bool {
        let killed = self
            .engine()
            .ask("kill a container", |docker| async move { docker.kill_container(self.name(), None).await });
        let ended = async {
            let _perhaps_already = killed.await;
            wait(self).await
        };
        let _late = timeout(PATIENCE, ended).await;
        was_out_of_memory(self).await
    }
}
