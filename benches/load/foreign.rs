//! `h2load` (nghttp2): a generator that nobody here wrote. It looks at HTTP's status and nothing else, so what it is given
//! was seen to be answered well by our own before.

use super::{Job, framed};
use crate::Failure;
use std::io::Write as _;
use std::process::Command;
use tempfile::NamedTempFile;

/// The program, where the machine has it.
pub(crate) struct H2load;

impl H2load {
    /// * errors: it is not there.
    pub(crate) fn find() -> Result<Self, String> {
        match Command::new("h2load").arg("--version").output() {
            Ok(output) if output.status.success() => Ok(Self),
            _ => Err("there is no h2load on the PATH (Debian: apt-get install nghttp2-client)".to_owned()),
        }
    }

    /// Calls a second.
    ///
    /// * `job`: of gRPC; its one message is sent all the time.
    pub(crate) async fn rate(&self, job: &Job) -> Result<f64, Failure> {
        let mut file = NamedTempFile::new()?;
        let body = job.bodies()?.into_iter().next().unwrap_or_else(|| framed(job.kind, &[]));
        file.write_all(&body)?;
        file.flush()?;
        let mut command = tokio::process::Command::new("h2load");
        let number = |count: usize| count.to_string();
        command.args(["-n", &number(job.calls), "-c", &number(job.connections)]);
        command.args(["-m", &number(job.in_flight.div_ceil(job.connections.max(1))), "-d"]).arg(file.path());
        command.args(["-H", "content-type: application/grpc", "-H", "te: trailers"]);
        for (name, value) in &job.headers {
            command.args(["-H", &format!("{name}: {value}")]);
        }
        let output = command.arg(format!("{}{}", job.address, job.path)).output().await?;
        parse(&String::from_utf8_lossy(&output.stdout), job.calls)
    }
}

/// Reads `finished in 1.23s, 4567.89 req/s, …` and `status codes: 1000 2xx, …`.
fn parse(said: &str, calls: usize) -> Result<f64, Failure> {
    let line = |start: &str| said.lines().find_map(|line| line.strip_prefix(start));
    let rate = line("finished in ").and_then(|rest| rest.split(", ").find_map(|part| part.strip_suffix(" req/s")));
    let good = line("status codes: ")
        .and_then(|rest| rest.split_once(" 2xx"))
        .and_then(|(count, _)| count.parse::<usize>().ok());
    match (rate, good) {
        (Some(rate), Some(good)) if calls == good => Ok(rate.parse()?),
        _ => Err(format!("h2load was not answered well: {}", said.trim()).into()),
    }
}
