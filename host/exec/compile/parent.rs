//! The node's end: starts a compiler, feeds it, reads its answer, and sees it gone.

use super::child::ARGUMENT;
use super::protocol::{Order, Tag};
use crate::domain::one_line;
use crate::exec::{ExecError, wasm};
use crate::lifecycle::Lifecycle;
use rustix::param::clock_ticks_per_second;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Bytes of machine code at most. 256 MiB: eight for each byte of the largest upload.
const CODE_MAX: u64 = 256 << 20;
/// Bytes that are read of what it says on stderr: a word of its end.
const WORDS_MAX: u64 = 4 << 10;
/// How much longer than its processor time it may take, four others wanting the same core.
const WALL: u32 = 4;
/// This program, also when its file was replaced or removed since: node and compiler are always of one build.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// How much of a compiler's complaint travels to the caller.
const COMPLAINT_MAX: usize = 512;
/// What Rust's runtime says when it gets no memory, and ends the process.
const OUT_OF_MEMORY: &str = "memory allocation of ";
/// The smallest component: its header.
const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

/// How components are compiled.
#[derive(Debug)]
pub(in crate::exec) struct Recipe {
    program: PathBuf,
    order: Order,
}

/// What a compiler made.
#[derive(Debug)]
pub(in crate::exec) struct Compiled {
    /// Machine code.
    pub(in crate::exec) code: Vec<u8>,
    /// What it took of a processor.
    pub(in crate::exec) took: Duration,
}

/// Starts compilers.
#[derive(Debug)]
pub(in crate::exec) struct Compiler {
    recipe: Recipe,
    lifecycle: Lifecycle,
}

impl Recipe {
    /// * `engine`: what the node's engine calls itself.
    pub(in crate::exec) fn new(config: &wasm::Config, engine: String) -> Self {
        let program = match config.compiler.as_os_str().is_empty() {
            true => Path::new(OWN_PROGRAM),
            false => &config.compiler,
        };
        let order = Order {
            engine,
            cpu_seconds: config.compile_seconds,
            memory_bytes: config.compile_memory_mib << 20,
            config: config.clone(),
        };
        Self { program: program.to_owned(), order }
    }
}

impl Compiler {
    pub(in crate::exec) fn new(recipe: Recipe, lifecycle: Lifecycle) -> Self {
        Self { recipe, lifecycle }
    }

    /// Compiles the smallest component there is.
    ///
    /// * errors: why no compiler can work here, for operators.
    pub(in crate::exec) async fn probe(&self) -> Result<(), String> {
        let advice = "see that /proc is mounted and that the system lets this user confine processes (seccomp), set \
                      wasm.compiler where the node is a library of another program, or set \
                      wasm.compile_in_child = false on a machine whose tenants are trusted";
        match self.compile(EMPTY).await {
            Ok(_) => Ok(()),
            Err(why) => {
                // Its source is for operators, and so is this.
                let cause = std::error::Error::source(&why).map(|cause| format!(": {cause:#}")).unwrap_or_default();
                Err(format!("components cannot be compiled in a process of their own: {why}{cause}; {advice}"))
            }
        }
    }

    /// Machine code for a component, by a process that is gone when this returns.
    ///
    /// * errors: `Compile` in the compiler's words; `CompileLimit`; `Broken`; `Draining`.
    /// * cancel: the compiler is killed.
    pub(in crate::exec) async fn compile(&self, component: &[u8]) -> Result<Compiled, ExecError> {
        let order = self.recipe.order.encode().map_err(ExecError::internal)?;
        let mut child = self.start()?;
        let wall = Duration::from_secs(self.recipe.order.cpu_seconds).saturating_mul(WALL);
        let talk = timeout(wall, talk(&mut child, &order, component));
        let said = tokio::select! {
            biased;
            said = talk => said.ok(),
            () = self.lifecycle.killed() => {
                end(&mut child).await;
                return Err(ExecError::Draining);
            }
        };
        let took = child.id().map(processor_time).unwrap_or_default();
        let Some(said) = said else {
            end(&mut child).await;
            return Err(self.too_slow());
        };
        // It has closed its pipes: what is left of it is its end.
        let ended = match timeout(wall, child.wait()).await {
            Ok(ended) => ended.map_err(ExecError::internal)?,
            Err(_late) => {
                end(&mut child).await;
                return Err(self.too_slow());
            }
        };
        self.judge(ended, said, took)
    }

    fn start(&self) -> Result<Child, ExecError> {
        let mut command = Command::new(&self.recipe.program);
        // No closure runs between fork and exec, so that the node's memory is neither copied nor marked.
        command.arg(ARGUMENT).env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().map_err(|why| {
            tracing::warn!(%why, "the compiler cannot be started (setting wasm.compiler)");
            ExecError::Broken("the compiler cannot be started".to_owned())
        })
    }

    /// What its end means.
    fn judge(&self, ended: ExitStatus, said: Said, took: Duration) -> Result<Compiled, ExecError> {
        let order = &self.recipe.order;
        let text = || one_line(&String::from_utf8_lossy(&said.answer), COMPLAINT_MAX);
        let memory = |words: &[u8]| memchr::memmem::find(words, OUT_OF_MEMORY.as_bytes()).is_some();
        match (said.tag, ended.code(), ended.signal()) {
            (Some(Tag::Code), Some(0), _) if said.answer.len() as u64 <= CODE_MAX => {
                Ok(Compiled { code: said.answer, took })
            }
            (Some(Tag::Code), Some(0), _) => {
                Err(ExecError::Compile(format!("its machine code has more than {} MiB", CODE_MAX >> 20)))
            }
            (Some(Tag::Refused), Some(0), _) if text().contains("out of memory") => Err(self.too_large()),
            (Some(Tag::Refused), Some(0), _) => Err(ExecError::Compile(text())),
            (Some(Tag::Unable), Some(0), _) => {
                tracing::warn!(why = text(), "no compiler can work here");
                Err(ExecError::Broken(format!("no compiler can work here: {}", text())))
            }
            (_, _, Some(libc::SIGXCPU)) => Err(self.too_slow()),
            (_, _, Some(libc::SIGKILL)) if took.as_secs() >= order.cpu_seconds => Err(self.too_slow()),
            (_, _, Some(libc::SIGKILL)) => {
                // By the kernel, short of memory, or by an operator. Not by its tenant's doing alone.
                tracing::warn!("a compiler was killed from outside");
                Err(ExecError::Broken("the compiler was killed".to_owned()))
            }
            _ if memory(&said.words) => Err(self.too_large()),
            _ => {
                let words = one_line(&String::from_utf8_lossy(&said.words), COMPLAINT_MAX);
                tracing::info!(%ended, words, "a compiler gave up on a component");
                Err(ExecError::Compile("the compiler gave up on it".to_owned()))
            }
        }
    }

    fn too_slow(&self) -> ExecError {
        let (what, limit) = ("the component takes too long to compile: split its largest functions", "seconds");
        ExecError::CompileLimit { reason: "COMPILE_TIME", what, key: limit, limit: self.recipe.order.cpu_seconds }
    }

    fn too_large(&self) -> ExecError {
        let what = "the component takes too much memory to compile: split its largest functions";
        let limit = self.recipe.order.memory_bytes >> 20;
        ExecError::CompileLimit { reason: "COMPILE_MEMORY", what, key: "memory_mib", limit }
    }
}

/// What a compiler said before it closed its pipes.
struct Said {
    tag: Option<Tag>,
    answer: Vec<u8>,
    words: Vec<u8>,
}

async fn talk(child: &mut Child, order: &[u8], component: &[u8]) -> Said {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        let Some(mut stdin) = stdin else { return };
        // One that ended without reading says why by its end.
        if stdin.write_all(order).await.is_ok() {
            let _ = stdin.write_all(component).await;
        }
    };
    let ((), (tag, answer), words) = tokio::join!(feed, hear(stdout), up_to(stderr, WORDS_MAX));
    Said { tag, answer, words }
}

/// Reads an answer, as much as one of its kind may have.
async fn hear(stdout: Option<ChildStdout>) -> (Option<Tag>, Vec<u8>) {
    let Some(mut stdout) = stdout else { return (None, Vec::new()) };
    let tag = stdout.read_u8().await.ok().and_then(Tag::of);
    let most = match tag {
        Some(Tag::Code) => CODE_MAX + 1, // one that is too many
        Some(Tag::Refused | Tag::Unable) => WORDS_MAX,
        None => 0,
    };
    (tag, up_to(Some(stdout), most).await)
}

/// Reads to the end, or so many bytes; then the pipe is closed.
async fn up_to(pipe: Option<impl AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        // What came before a failure counts; there is none on pipes.
        let _ = pipe.take(most).read_to_end(&mut bytes).await;
    }
    bytes
}

async fn end(child: &mut Child) {
    if let Err(why) = child.kill().await {
        tracing::warn!(%why, "a compiler cannot be killed");
    }
}

/// What a process took of processors, as long as it has not been waited for. At least a tick, in which the system counts: the
/// smallest component costs a process, too. Source: proc(5), stat, utime and stime.
fn processor_time(id: u32) -> Duration {
    let read = || -> io::Result<Option<u64>> {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
        let fields = stat.rsplit_once(')').map(|(_, after)| after.split_whitespace());
        let times = fields.map(|fields| fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()));
        Ok(times.map(Iterator::sum))
    };
    let ticks = read().ok().flatten().unwrap_or_default().max(1);
    Duration::from_millis(ticks.saturating_mul(1_000) / clock_ticks_per_second().max(1))
}
