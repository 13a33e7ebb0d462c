//! Containers beside `docker run` of the same image.

use super::guest::{Guest, METHOD, NAMESPACE, SERVICE};
use super::local::Local;
use super::{Size, memory};
use crate::Failure;
use crate::report::{Rounds, Row};
use collector::domain::{Kind, Limits};
use collector::exec::Executor as _;
use collector::exec::container::{Config, ContainerExecutor};
use collector::lifecycle::Lifecycle;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// What the bar is about. Without `--rm`: its client would wait for the removal too, which the node does behind the call.
const DOCKER_RUN: &str = "docker run -i --network none";
const FIRST: &str = "container, new binary";
const COLD: &str = "container, cold";
const WARM: &str = "container, warm";
const WASM: &str = "wasm, beside containers";

/// Warm and cold calls, or why there are none.
pub(crate) async fn rows(local: &Local, guest: &Guest, size: Size, lifecycle: &Lifecycle) -> Result<Vec<Row>, Failure> {
    let engine = match Engine::find() {
        Ok(engine) => engine,
        Err(why) => return Ok(vec![Row::skipped("containers", &why.to_string())]),
    };
    let namespace = NAMESPACE.parse()?;
    let cold = engine.executor(0, Of::Cold, lifecycle).await;
    let warm = engine.executor(1, Of::Warm, lifecycle).await;
    if let Err(why) = cold.accepts(&namespace, Kind::NativeElf) {
        return Ok(vec![Row::skipped("containers", &why.to_string())]);
    }
    cold.prepare(&namespace, None, &guest.native.code).await?;
    let image = format!("{}:{}-{}", engine.repository(), engine.node(Of::Cold), guest.native.code.digest);
    guest.calls(&warm, &guest.native, size.calls).await?;

    let mut rounds = Rounds::default();
    for round in 0..size.rounds {
        let mut took = [const { Vec::new() }; 3];
        for number in 0..size.slow {
            // Each begins when nothing of the one before is left.
            took[0].push(engine.run(&image, guest)?);
            took[1].push(guest.call(&cold, &guest.native, NAMESPACE).await?.0);
            engine.settle(Of::Cold).await?;
            let fresh = guest.fresh(&guest.native, 1_000_000 + round * size.slow + number)?;
            took[2].push(guest.call(&cold, &fresh, NAMESPACE).await?.0);
            engine.settle(Of::Cold).await?;
        }
        [DOCKER_RUN, COLD, FIRST].iter().zip(&took).for_each(|(what, took)| rounds.calls(what, took));
        rounds.calls(WARM, &guest.calls(&warm, &guest.native, size.calls).await?);
        rounds.calls(WASM, &guest.calls(&local.wasm, &guest.component, size.calls).await?);
    }
    let mut rows: Vec<Row> = [DOCKER_RUN, COLD, FIRST].map(|what| rounds.row(what, DOCKER_RUN)).into();
    rows.extend([rounds.row(WARM, COLD), rounds.row(WASM, WARM)]);
    rows.push(Row::at_most("container cold / docker run", rounds.ratio(COLD, DOCKER_RUN), 0.9));
    rows.push(Row::at_most("container warm / cold", rounds.ratio(WARM, COLD), 0.002)); // 500 times as fast
    rows.push(Row::at_most("wasm, an instance per call / container warm", rounds.ratio(WASM, WARM), 0.5));
    rows.push(Row::at_least("docker run / wasm, an instance per call", rounds.ratio(DOCKER_RUN, WASM), 1_000.0));
    rows.push(engine.kept()?);
    Ok(rows)
}

/// The engine that answers here. What was made in it goes with this, and nothing else: others may measure there too.
struct Engine {
    socket: String,
    /// Of this run alone.
    suffix: String,
}

/// Whose containers.
#[derive(Clone, Copy)]
enum Of {
    Cold,
    Warm,
    DockerRun,
}

impl Engine {
    /// * errors: nobody answers, in `docker`'s words.
    fn find() -> Result<Self, Failure> {
        let socket = std::env::var("DOCKER_HOST").unwrap_or_else(|_unset| Config::default().socket);
        let engine = Self { socket, suffix: uuid::Uuid::new_v4().simple().to_string() };
        engine.docker(&["version"])?;
        Ok(engine)
    }

    /// Where the images are that are made here.
    fn repository(&self) -> String {
        format!("collector/bench-{}", self.suffix)
    }

    /// Value of the label `collector.node`.
    fn node(&self, of: Of) -> String {
        let word = match of {
            Of::Cold => "cold",
            Of::Warm => "warm",
            Of::DockerRun => "run",
        };
        format!("bench-{word}-{}", self.suffix)
    }

    /// * `warm`: containers that it keeps.
    async fn executor(&self, warm: usize, of: Of, lifecycle: &Lifecycle) -> ContainerExecutor {
        let config = Config {
            socket: self.socket.clone(),
            image: self.repository(),
            warm,
            require_userns: false, // whatever engine this machine has is measured
            ..Config::default()
        };
        let (node, memory_mib) = (self.node(of), Limits::default().memory_mib);
        let executor = ContainerExecutor::start(config, true, &node, &[0; 32], memory_mib, lifecycle.clone()).await;
        executor.asked().await;
        executor
    }

    /// The output of `docker`.
    fn docker(&self, words: &[&str]) -> Result<String, Failure> {
        let output = Command::new("docker").args(["--host", &self.socket]).args(words).output()?;
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_owned().into());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// One call by the command line.
    fn run(&self, image: &str, guest: &Guest) -> Result<Duration, Failure> {
        let mut command = Command::new("docker");
        let label = format!("collector.node={}", self.node(Of::DockerRun));
        command.args(["--host", &self.socket, "run", "-i", "--network", "none", "--label", &label]);
        command.args(["--entrypoint", "/plugin", image, NAMESPACE, SERVICE, METHOD]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        tokio::task::block_in_place(|| {
            let began = Instant::now();
            let mut child = command.spawn()?;
            child.stdin.take().ok_or("no stdin")?.write_all(&guest.input)?;
            let output = child.wait_with_output()?;
            let took = began.elapsed();
            guest.native.expect(&output.stdout)?;
            self.clear(Of::DockerRun)?;
            Ok(took)
        })
    }

    /// Removes its containers.
    fn clear(&self, of: Of) -> Result<(), Failure> {
        for id in self.containers(of)? {
            self.docker(&["rm", "--force", &id])?;
        }
        Ok(())
    }

    /// Waits until none of its containers is left.
    async fn settle(&self, of: Of) -> Result<(), Failure> {
        while !self.containers(of)?.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    fn containers(&self, of: Of) -> Result<Vec<String>, Failure> {
        let label = format!("label=collector.node={}", self.node(of));
        let ids = self.docker(&["ps", "--all", "--quiet", "--no-trunc", "--filter", &label])?;
        Ok(ids.lines().map(str::to_owned).collect())
    }

    /// Memory of one idle container: what runs in it, and the engine's process that looks after it.
    fn kept(&self) -> Result<Row, Failure> {
        let what = "container: one kept warm, with its shim";
        let id = self.containers(Of::Warm)?.pop().ok_or("no container was kept")?;
        Ok(match memory::named(&id)? {
            Some(kib) => Row::memory(what, kib),
            None => Row::skipped(what, "the engine's processes cannot be seen from here"),
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for of in [Of::Cold, Of::Warm, Of::DockerRun] {
            let _ = self.clear(of);
        }
        for image in self.docker(&["images", "--quiet", &self.repository()]).unwrap_or_default().lines() {
            let _ = self.docker(&["rmi", "--force", image]);
        }
    }
}
