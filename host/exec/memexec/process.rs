//! The launcher as a process: started without forking the node, alive as long as its handle, reaped here.

use super::launcher;
use super::link::{Link, is_gone};
use super::protocol::{Hello, ToLauncher};
use crate::exec::ExecError;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, timeout};

/// How long the launcher, or a jail, gets to say that it stands. A millisecond is usual; five seconds is a broken machine.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// How long a launcher gets to end by itself once its socket is closed, in seconds; its jails end with it either way.
const GOODBYE_SECONDS: i64 = 1;
/// A launcher that dies again and again is not worth more of the node's time than one start a second.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// This program, also when its file was replaced or removed since: node and launcher are always of one build.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// The launcher of a node, started anew when it died.
#[derive(Debug)]
pub(super) struct Launcher {
    program: PathBuf,
    settings: ToLauncher,
    /// What this machine does not have and jails do without, for operators.
    pub(super) without: Vec<String>,
    /// Of its process; 0 while there is none. Beside `state`, which is kept locked while one starts.
    id: Arc<AtomicU32>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    process: Option<Process>,
    restarted: Option<Instant>,
}

impl Launcher {
    /// Starts it and waits until it stands.
    ///
    /// * `program`: empty for this program's own file.
    /// * errors: why not, for operators.
    pub(super) async fn start(program: PathBuf, settings: ToLauncher) -> Result<Self, String> {
        let id = Arc::default();
        let (process, without) = Process::start(&program, &settings, &id).await?;
        let state = Mutex::new(State { process: Some(process), restarted: None });
        Ok(Self { program, settings, without, id, state })
    }

    /// Asks for a jail. It has yet to say that it stands.
    ///
    /// * errors: `Broken` if there is no launcher and none can be started now.
    /// * cancel: a jail that is made and not listened to ends at once.
    pub(super) async fn spawn(&self, uid: u32) -> Result<Link, ExecError> {
        let mut state = self.state.lock().await;
        if let Some(process) = &state.process {
            match timeout(PATIENCE, process.spawn(uid)).await {
                Ok(Err(why)) if is_gone(&why) => tracing::warn!("the launcher of jails is gone, starting another"),
                Ok(asked) => return asked.map_err(ExecError::internal),
                Err(_late) => tracing::warn!("the launcher of jails takes no word any more, starting another"),
            }
        }
        state.process = None;
        if state.restarted.is_some_and(|last| last.elapsed() < RESTART_PAUSE) {
            return Err(broken());
        }
        state.restarted = Some(Instant::now());
        let (process, _same) = Process::start(&self.program, &self.settings, &self.id).await.map_err(|why| {
            tracing::warn!(why, "the launcher of jails does not start");
            broken()
        })?;
        let asked = timeout(PATIENCE, state.process.insert(process).spawn(uid)).await;
        asked.map_err(|_late| broken())?.map_err(|_gone| broken())
    }

    /// Has a jail killed that does not end by itself. If the launcher was asked before and nothing came of it, it is the
    /// launcher that does not work: it ends with all its jails, and the next jail starts another.
    ///
    /// * `asked`: the launcher that was asked before.
    /// * returns: the one that is asked now.
    /// * cancel: the jail may live on.
    pub(super) async fn force(&self, uid: u32, asked: Option<u32>) -> Option<u32> {
        let mut state = self.state.lock().await;
        let process = state.process.as_ref()?;
        let id = Some(process.id);
        let told = timeout(PATIENCE, process.link.send(&ToLauncher::Kill { uid }, &[])).await;
        if told.is_err() || asked == id {
            tracing::warn!("the launcher of jails does not end a jail, and is ended");
            state.process = None;
            return None;
        }
        tracing::warn!("a jail does not end, and is killed");
        id
    }

    /// The id of its process, if it has one.
    pub(super) fn id(&self) -> Option<u32> {
        Some(self.id.load(Ordering::Relaxed)).filter(|id| *id > 0)
    }
}

fn broken() -> ExecError {
    ExecError::Broken("no jail can be made at this moment".to_owned())
}

/// A running launcher. Dropping it ends the launcher and all its jails.
#[derive(Debug)]
struct Process {
    link: Link,
    id: u32,
    /// Dropped after `link`: the thread that sees this end closed reaps the launcher.
    _keeper: OwnedFd,
}

impl Process {
    async fn start(
        program: &Path,
        settings: &ToLauncher,
        shown: &Arc<AtomicU32>,
    ) -> Result<(Self, Vec<String>), String> {
        let (link, socket) = Link::pair().map_err(|why| format!("a socket cannot be made: {why}"))?;
        let (end, keeper) = pipe_with(PipeFlags::CLOEXEC).map_err(|why| format!("a pipe cannot be made: {why}"))?;
        let program = if program.as_os_str().is_empty() { Path::new(OWN_PROGRAM) } else { program }.to_owned();
        let (started, id) = oneshot::channel();
        let shown = Arc::clone(shown);
        std::thread::Builder::new()
            .name("jail-launcher".to_owned())
            .spawn(move || keep(&program, socket, started, &end, &shown))
            .map_err(|why| format!("a thread cannot be started: {why}"))?;
        let id = id.await.map_err(|_gone| "its thread ended".to_owned())?;
        let id = id.map_err(|why| format!("its program cannot be started (setting exec.memexec.launcher): {why}"))?;
        let process = Self { link, id, _keeper: keeper };
        let hello = async {
            process.link.send(settings, &[]).await?;
            process.link.receive().await
        };
        let without = said(timeout(PATIENCE, hello).await)?;
        Ok((process, without))
    }

    async fn spawn(&self, uid: u32) -> io::Result<Link> {
        let (link, other) = Link::pair()?;
        self.link.send(&ToLauncher::Spawn { uid }, &[other.as_fd()]).await?;
        Ok(link)
    }
}

const ENDED: &str = "it ended before it stood";

/// What the first words of a launcher or a jail mean: what the machine lacks, or why it does not stand.
pub(super) fn said(
    hello: Result<io::Result<Option<Hello>>, tokio::time::error::Elapsed>,
) -> Result<Vec<String>, String> {
    match hello {
        Ok(Ok(Some(Hello::Ready { without }))) => Ok(without),
        Ok(Ok(Some(Hello::Failed { why }))) => Err(why),
        Ok(Ok(None)) => Err(ENDED.to_owned()),
        Ok(Err(why)) if is_gone(&why) => Err(ENDED.to_owned()),
        Ok(Err(why)) => Err(format!("it cannot be talked to: {why}")),
        Err(_late) => Err(format!("it said nothing for {} s", PATIENCE.as_secs())),
    }
}

/// The thread of one launcher: waits for its end, or that of its handle, and reaps it.
fn keep(program: &Path, socket: OwnedFd, started: oneshot::Sender<io::Result<u32>>, end: &OwnedFd, shown: &AtomicU32) {
    let mut command = Command::new(program);
    // No closure runs between fork and exec, so that the node's memory is neither copied nor marked.
    command.arg(launcher::ARGUMENT).env_clear().stdin(socket).stdout(Stdio::null());
    let spawned = command.spawn();
    drop(command); // and with it this process' copy of the launcher's end
    match spawned {
        Ok(child) => {
            let id = child.id();
            shown.store(id, Ordering::Relaxed);
            let _ = started.send(Ok(id));
            wait(&child, end);
            // Unless another has come in its place.
            let _ = shown.compare_exchange(id, 0, Ordering::Relaxed, Ordering::Relaxed);
            reap(child);
        }
        Err(why) => drop(started.send(Err(why))),
    }
}

/// Waits for its end, or for that of its handle and a little longer.
fn wait(child: &Child, end: &OwnedFd) {
    let id = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let Some(Ok(pidfd)) = id.map(|id| pidfd_open(id, PidfdFlags::empty())) else { return };
    let ended = || PollFd::new(&pidfd, PollFlags::IN);
    let mut either = [ended(), PollFd::new(end, PollFlags::IN)]; // nothing is ever written: only the hang-up is seen
    while poll(&mut either, None) == Err(rustix::io::Errno::INTR) {}
    let patience = Timespec { tv_sec: GOODBYE_SECONDS, tv_nsec: 0 };
    let _ = poll(&mut [ended()], Some(&patience));
}

fn reap(mut child: Child) {
    let _ = child.kill();
    match child.wait() {
        Ok(status) => tracing::debug!(%status, "the launcher of jails ended"),
        Err(why) => tracing::warn!(%why, "the launcher of jails cannot be waited for"),
    }
}
