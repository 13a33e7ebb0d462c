//! One call: pipes, the program in its jail, what it says, how it ended.

use super::PROCESS_THREADS;
use super::binaries::Binary;
use super::jail::{NotBegun, Process, Run};
use super::jails::{Jails, Lease};
use super::protocol::{How, RunLimits};
use crate::domain::Limits;
use crate::exec::claim::Claim;
use crate::exec::command::{self, End, Reply};
use crate::exec::log::{GuestLog, Stream};
use crate::exec::stop::stoppable;
use crate::exec::{ExecError, Job};
use crate::lifecycle::Lifecycle;
use bytes::Bytes;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, LazyLock};
use std::thread::available_parallelism;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::time::timeout;

/// First argument: a program's own name, on which nothing depends.
const OWN_NAME: &str = "plugin";
/// How long the caller of a call that was stopped waits for its process to be gone, so that the receipt can say what it
/// used. A kill takes a millisecond; the answer is due at the deadline and 100 ms.
const LAST_WORD: Duration = Duration::from_millis(50);
/// What a reply's buffer starts with: most replies are smaller.
const REPLY_START: usize = 4 << 10;
/// How much a buffer grows by at least: all that a pipe holds.
const PIPE_SIZE: usize = 64 << 10;
/// How much of stderr is read at once. One page: most programs say nothing.
const LOG_PIECE: usize = 4 << 10;

/// Cores that one program can keep busy: each of its threads one.
static CORES: LazyLock<u64> =
    LazyLock::new(|| available_parallelism().map_or(1, |cores| cores.get() as u64).min(PROCESS_THREADS));

/// What a program can use until its deadline, on all its cores. Whole seconds, rounded up, and one more: it is the wall
/// behind the node's own clock.
fn cpu_seconds(remaining: Duration, cores: u64) -> u64 {
    (remaining.as_secs() + 1) * cores + 1
}

/// A call that has all that it needs.
pub(super) struct Call<'a> {
    pub(super) job: &'a Job,
    pub(super) binary: &'a Binary,
    pub(super) jails: &'a Jails,
    pub(super) log: &'a GuestLog,
}

/// The node's ends of a program's standard streams.
struct Pipes {
    /// `None` once all input is on its way.
    stdin: Option<Feed>,
    stdout: Receiver,
    stderr: Receiver,
}

/// What did not fit into the pipe at once.
struct Feed {
    pipe: Sender,
    rest: Bytes,
}

/// The program's ends.
struct Streams {
    stdin: OwnedFd,
    stdout: OwnedFd,
    stderr: OwnedFd,
}

impl Call<'_> {
    /// Runs it under its deadline. Gives the most memory that it had, too.
    ///
    /// * `claim`: kept until the process is gone.
    /// * cancel: kills the process.
    pub(super) async fn run(
        &self,
        lease: Lease,
        claim: Arc<Claim>,
        lifecycle: &Lifecycle,
    ) -> (Result<Reply, ExecError>, u64) {
        let deadline = self.job.deadline.instant();
        let begun = stoppable(lifecycle, deadline, self.begin(lease, claim)).await;
        let (mut process, pipes) = match begun.and_then(|begun| begun) {
            Ok(begun) => begun,
            Err(why) => return (Err(why), 0),
        };
        let talk = pipes.talk(&mut process, self.log, &self.job.limits);
        let result = match stoppable(lifecycle, deadline, talk).await.and_then(|talked| talked) {
            Ok((stdout, how)) => self.answer(how, stdout),
            Err(why) => {
                process.kill();
                let _ = timeout(LAST_WORD, process.ended()).await;
                // At the end of the node the jails go, too, perhaps before their calls hear of it.
                Err(if lifecycle.is_killed() { ExecError::Draining } else { why })
            }
        };
        (result, process.peak_memory())
    }

    /// Starts the program.
    async fn begin(&self, lease: Lease, claim: Arc<Claim>) -> Result<(Process, Pipes), ExecError> {
        let (pipes, streams) = Pipes::open(self.job.input.clone()).map_err(ExecError::internal)?;
        let Lease { jail, member, .. } = lease;
        let held = Box::new(Arc::clone(&member));
        match jail.begin(self.program(&streams), Arc::clone(&claim), held).await {
            Ok(process) => return Ok((process, pipes)),
            Err(NotBegun::Unsent(why)) => return Err(ExecError::internal(why)),
            Err(NotBegun::Gone) => {}
        }
        // It went away while nothing ran in it. Nothing was begun, so another one may.
        self.jails.forget(&self.job.namespace, &member);
        let Lease { jail, member, .. } = self.jails.lease(&self.job.namespace).await?;
        let process = jail.begin(self.program(&streams), claim, Box::new(member)).await;
        match process {
            Ok(process) => Ok((process, pipes)),
            Err(NotBegun::Unsent(why)) => Err(ExecError::internal(why)),
            Err(NotBegun::Gone) => Err(ExecError::Broken("its jail went away".to_owned())),
        }
    }

    fn program<'a>(&'a self, streams: &'a Streams) -> Run<'a> {
        let job = self.job;
        let argv = std::iter::once(OWN_NAME.to_owned()).chain(command::argv(job)).collect();
        let environment =
            command::environment(job).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let limits = RunLimits {
            memory_bytes: job.limits.memory_bytes() as u64,
            cpu_seconds: cpu_seconds(job.deadline.remaining(), *CORES),
        };
        let files = [self.binary.file(), streams.stdin.as_fd(), streams.stdout.as_fd(), streams.stderr.as_fd()];
        Run { argv, environment, limits, files }
    }

    fn answer(&self, how: How, stdout: Bytes) -> Result<Reply, ExecError> {
        let end = match how {
            How::Exit(code) => End::Exit(code),
            How::Signal(signal) => End::Signal(signal),
            How::NotStarted(why) => {
                tracing::warn!(why, "a native binary could not be started");
                return Err(ExecError::Broken("the program could not be started".to_owned()));
            }
        };
        command::answer(end, stdout, self.log, &self.job.limits)
    }
}

impl Pipes {
    /// Three new pipes. Small input is in its pipe when this returns: no reader is needed for that.
    fn open(mut input: Bytes) -> io::Result<(Self, Streams)> {
        let (stdin, feed) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&feed, true)?;
        let written = match rustix::io::write(&feed, &input) {
            Err(rustix::io::Errno::AGAIN) => 0,
            written => written?,
        };
        let rest = input.split_off(written.min(input.len()));
        let feed = match rest.is_empty() {
            true => None,
            false => Some(Feed { pipe: Sender::from_owned_fd_unchecked(feed)?, rest }),
        };
        let (own_stdout, stdout) = read_end()?;
        let (own_stderr, stderr) = read_end()?;
        Ok((Self { stdin: feed, stdout: own_stdout, stderr: own_stderr }, Streams { stdin, stdout, stderr }))
    }

    /// Talks with the program until it has ended and all that it said is here.
    ///
    /// * errors: `Limit` for too large a reply, `Broken`; it may still run.
    async fn talk(self, process: &mut Process, log: &GuestLog, limits: &Limits) -> Result<(Bytes, How), ExecError> {
        let ((), reply, (), how) = tokio::try_join!(
            feed(self.stdin),
            read_reply(self.stdout, limits),
            read_log(self.stderr, log),
            process.ended()
        )?;
        Ok((reply, how))
    }
}

fn read_end() -> io::Result<(Receiver, OwnedFd)> {
    let (own, other) = pipe_with(PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&own, true)?;
    Ok((Receiver::from_owned_fd_unchecked(own)?, other))
}

async fn feed(rest: Option<Feed>) -> Result<(), ExecError> {
    let Some(Feed { mut pipe, rest }) = rest else { return Ok(()) };
    match pipe.write_all(&rest).await {
        // A program need not read what it does not want.
        Err(why) if why.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(ExecError::internal),
    }
}

async fn read_reply(mut pipe: Receiver, limits: &Limits) -> Result<Bytes, ExecError> {
    let mut reply = Vec::with_capacity(REPLY_START);
    while pipe.read_buf(&mut reply).await.map_err(ExecError::internal)? > 0 {
        if reply.len() > limits.output_bytes {
            return Err(command::output_too_large(limits));
        }
        if reply.len() == reply.capacity() {
            reply.reserve(PIPE_SIZE);
        }
    }
    Ok(reply.into())
}

async fn read_log(mut pipe: Receiver, log: &GuestLog) -> Result<(), ExecError> {
    let mut said = Vec::with_capacity(LOG_PIECE);
    while pipe.read_buf(&mut said).await.map_err(ExecError::internal)? > 0 {
        log.write(Stream::Stderr, &said);
        said.clear();
        tokio::task::yield_now().await; // who writes without end is not all that this thread has to do
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parallel_program_may_use_all_its_cores_to_its_deadline() {
        assert_eq!(cpu_seconds(Duration::from_millis(30_500), 8), 249, "31 s on 8 cores, and one more");
        assert_eq!(cpu_seconds(Duration::ZERO, 1), 2);
        assert!((1..=PROCESS_THREADS).contains(&*CORES));
    }
}
