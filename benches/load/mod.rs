//! The load: a process of its own over loopback, this program again. A job a line on its stdin, what came of it on its
//! stdout.

mod foreign;
mod generator;

pub(crate) use foreign::H2load;
pub(crate) use generator::serve;

use crate::Failure;
use crate::process::Process;
use crate::report::{MEAN, Rounds, Unit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How requests are framed and answers judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// gRPC: good is `grpc-status: 0` in trailers.
    Grpc,
    /// gRPC-Web over HTTP/2: the same in the body's last frame.
    GrpcWeb,
    /// JSON over HTTP/2: good is 200.
    Json,
    /// JSON over HTTP/1.1: the same; a connection has one call in flight.
    JsonOld,
}

/// Calls to make.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Job {
    /// `http://HOST:PORT`.
    pub(crate) address: String,
    pub(crate) path: String,
    pub(crate) kind: Kind,
    /// Beside those that the kind needs.
    pub(crate) headers: Vec<(String, String)>,
    /// Messages in base64, without frames; calls take them in turn.
    messages: Vec<String>,
    pub(crate) connections: usize,
    pub(crate) in_flight: usize,
    /// In all; as many as are in flight come before them and are not counted.
    pub(crate) calls: usize,
    /// Bytes that a good answer has at least.
    pub(crate) least: usize,
}

/// What came of a job. All answers were good.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Ran {
    pub(crate) calls: usize,
    pub(crate) elapsed_us: f64,
    pub(crate) mean_us: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

impl Job {
    /// One call of one message after the other.
    pub(crate) fn new(address: &str, path: &str, kind: Kind) -> Self {
        Self {
            address: address.to_owned(),
            path: path.to_owned(),
            kind,
            headers: Vec::new(),
            messages: Vec::new(),
            connections: 1,
            in_flight: 1,
            calls: 1,
            least: 0,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn message(mut self, message: &[u8]) -> Self {
        self.messages.push(STANDARD.encode(message));
        self
    }

    fn bodies(&self) -> Result<Vec<Vec<u8>>, Failure> {
        self.messages.iter().map(|message| Ok(framed(self.kind, &STANDARD.decode(message)?))).collect()
    }
}

/// A message as it goes over the wire.
fn framed(kind: Kind, message: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(message.len() + 5);
    if matches!(kind, Kind::Grpc | Kind::GrpcWeb) {
        body.push(0);
        body.extend(u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    }
    body.extend(message);
    body
}

/// The process.
pub(crate) struct Load {
    jobs: ChildStdin,
    results: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Load {
    pub(crate) fn start() -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--load").stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let jobs = child.stdin.take().ok_or("no stdin")?;
        let results = BufReader::new(child.stdout.take().ok_or("no stdout")?).lines();
        Ok(Self { jobs, results, _child: child })
    }

    /// * errors: a connection was refused, an answer was not good.
    pub(crate) async fn run(&mut self, job: &Job) -> Result<Ran, Failure> {
        let mut line = serde_json::to_vec(job)?;
        line.push(b'\n');
        self.jobs.write_all(&line).await?;
        self.jobs.flush().await?;
        let line = self.results.next_line().await?.ok_or("the load generator ended")?;
        let ran: Result<Ran, String> = serde_json::from_str(&line)?;
        ran.map_err(|why| format!("{} of {}: {why}", job.path, job.address).into())
    }

    /// A round of it under a name: one in flight is a latency, more are a rate. Processor time of the server is beside it.
    pub(crate) async fn round(
        &mut self,
        rounds: &mut Rounds,
        what: &str,
        job: &Job,
        server: Option<&Process>,
    ) -> Result<(), Failure> {
        let before = server.map(Process::cpu).transpose()?;
        let ran = self.run(job).await?;
        let cpu = server.map(Process::cpu).transpose()?;
        #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
        let (calls, all) = (ran.calls as f64, (job.calls + job.in_flight) as f64);
        match job.in_flight {
            1 => rounds.value(what, Unit::Time, ran.p50_us, ran.calls),
            _ => rounds.value(what, Unit::Rate, calls / ran.elapsed_us * 1e6, ran.calls),
        }
        rounds.beside(what, MEAN, ran.mean_us);
        rounds.beside(what, "p99 us", ran.p99_us);
        if let (Some(before), Some(after)) = (before, cpu) {
            rounds.beside(what, "server cpu us", after.saturating_sub(before).as_secs_f64() * 1e6 / all);
        }
        Ok(())
    }
}
