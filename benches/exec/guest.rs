//! The program that is measured, in its forms, and one call of it.

use crate::echo::Hello;
use crate::{Failure, plugins};
use bytes::Bytes;
use collector::domain::{Deadline, Digest, Kind, Limits, Namespace, Receipt};
use collector::exec::{Code, Executor, Job, Origin};
use prost::Message as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// As the caller names it.
pub(crate) const NAMESPACE: &str = "bench";
pub(crate) const SERVICE: &str = "WordCount";
pub(crate) const METHOD: &str = "Count";
/// Bytes of a request.
const INPUT: usize = 256;

/// One of the programs, and what it answers to the input.
pub(crate) struct Program {
    pub(crate) code: Code,
    call: (&'static str, &'static str, Bytes),
    reply: Bytes,
}

/// What is run.
pub(crate) struct Guest {
    /// `plugins/wordcount` as a component.
    pub(crate) component: Program,
    /// The same as a native binary.
    pub(crate) native: Program,
    /// A few lines of C.
    pub(crate) least: Program,
    /// `plugins/greeter`: what most of what is deployed is like.
    pub(crate) handler: Program,
    pub(crate) input: Bytes,
    folder: PathBuf,
}

impl Guest {
    /// * `folder`: where copies of it are put.
    pub(crate) fn build(folder: &Path) -> Result<Self, Failure> {
        let find = |native| -> Result<PathBuf, Failure> {
            Ok(plugins::built(&["wordcount"], native)?.remove("wordcount").ok_or("wordcount was not built")?)
        };
        let (component, native, least) = (find(false)?, find(true)?, compile(folder)?);
        let input: Bytes = b"to be or not to be\n".iter().copied().cycle().take(INPUT).collect();
        let answered = |path| Ok::<_, Failure>(spawned(path, &input)?.1);
        let counted = answered(&native)?;
        let counts = || (SERVICE, METHOD, input.clone());
        Ok(Self {
            component: Program::new(&component, Kind::WasmCommand, counts(), counted.clone())?,
            native: Program::new(&native, Kind::NativeElf, counts(), counted)?,
            least: Program::new(&least, Kind::NativeElf, counts(), answered(&least)?)?,
            handler: Program::greeter()?,
            input,
            folder: folder.to_owned(),
        })
    }

    /// So many calls without any executor, one after the other.
    pub(crate) fn spawns(&self, program: &Program, count: usize) -> Result<Vec<Duration>, Failure> {
        let path = program.path()?;
        tokio::task::block_in_place(|| (0..count).map(|_| Ok(spawned(path, &self.input)?.0)).collect())
    }

    /// One call through an executor.
    ///
    /// * errors: it failed, or the guest answered something else than it answers without one.
    pub(crate) async fn call(
        &self,
        executor: &dyn Executor,
        program: &Program,
        namespace: &str,
    ) -> Result<(Duration, Receipt), Failure> {
        let limits = Limits::default();
        let job = Job {
            code: program.code.clone(),
            namespace: namespace.parse::<Namespace>()?,
            caller: None,
            service: program.call.0.to_owned(),
            method: program.call.1.to_owned(),
            input: program.call.2.clone(),
            json: None,
            metadata: Vec::new(),
            deadline: Deadline::after(limits.deadline()),
            limits,
            calls: None,
        };
        let began = Instant::now();
        let outcome = executor.run(job).await?;
        let took = began.elapsed();
        let reply = outcome.reply.map_err(|fault| format!("the guest answered {fault:?}"))?;
        program.expect(&reply)?;
        Ok((took, outcome.receipt))
    }

    /// So many of them, one after the other.
    pub(crate) async fn calls(
        &self,
        executor: &dyn Executor,
        program: &Program,
        count: usize,
    ) -> Result<Vec<Duration>, Failure> {
        let mut took = Vec::with_capacity(count);
        for _ in 0..count {
            took.push(self.call(executor, program, NAMESPACE).await?.0);
            // As a node's connection does between two requests: what the call left is dropped by this thread's next task.
            tokio::task::yield_now().await;
        }
        Ok(took)
    }

    /// The same program under a digest that nobody has seen: with a custom section, or bytes past the end, that nobody
    /// reads.
    pub(crate) fn fresh(&self, program: &Program, number: usize) -> Result<Program, Failure> {
        let mut bytes = std::fs::read(program.path()?)?;
        let name = format!("n{number:08}");
        let section = u8::try_from(name.len() + 1)?; // the name and its length
        bytes.extend([0, section, section - 1]);
        bytes.extend(name.as_bytes());
        let copy = self.folder.join(format!("{}-{number}", program.code.kind.name()));
        std::fs::write(&copy, bytes)?;
        Program::new(&copy, program.code.kind, program.call.clone(), program.reply.clone())
    }
}

impl Program {
    /// * `call`: service, method and request.
    /// * `reply`: what it answers to that.
    fn new(path: &Path, kind: Kind, call: (&'static str, &'static str, Bytes), reply: Bytes) -> Result<Self, Failure> {
        let digest = Digest::of(&std::fs::read(path)?);
        Ok(Self { code: Code { digest, kind, origin: Origin::File(path.to_owned()) }, call, reply })
    }

    fn greeter() -> Result<Self, Failure> {
        let path = plugins::built(&["greeter"], false)?.remove("greeter").ok_or("greeter was not built")?;
        let name = "a".repeat(INPUT);
        let message = |text: String| Bytes::from(Hello { text }.encode_to_vec());
        let (request, reply) = (message(name.clone()), message(format!("Hello, {name}!")));
        Self::new(&path, Kind::WasmHandler, ("greeter.v1.Greeter", "SayHello", request), reply)
    }

    pub(crate) fn path(&self) -> Result<&Path, Failure> {
        let Origin::File(path) = &self.code.origin else { return Err("no file".into()) };
        Ok(path)
    }

    /// * errors: that is not what the program answers without any executor.
    pub(crate) fn expect(&self, reply: &[u8]) -> Result<(), Failure> {
        if reply == self.reply { Ok(()) } else { Err(format!("the guest answered {reply:?}").into()) }
    }
}

/// One call without any executor: `posix_spawn` and pipes, as any program runs another.
fn spawned(path: &Path, input: &[u8]) -> Result<(Duration, Bytes), Failure> {
    let mut command = Command::new(path);
    command.args([NAMESPACE, SERVICE, METHOD]).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command.spawn()?;
    child.stdin.take().ok_or("no stdin")?.write_all(input)?;
    let output = child.wait_with_output()?;
    Ok((began.elapsed(), output.stdout.into()))
}

/// An echo, by the compiler that Rust links with.
fn compile(folder: &Path) -> Result<PathBuf, Failure> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/exec/echo.c");
    let made = folder.join("echo");
    let status = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&made).arg(source).status()?;
    if status.success() { Ok(made) } else { Err("cc -static failed".into()) }
}
