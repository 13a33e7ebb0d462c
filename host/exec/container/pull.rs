//! Images from registries: only those that the operator lists, by digest, within bounds of time and size.

use super::Config;
use super::engine::{Engine, EngineError};
use crate::domain::{ImageRef, one_line};
use crate::exec::ExecError;
use bollard::errors::Error;
use bollard::models::{CreateImageInfo, ImageInspect};
use bollard::query_parameters::CreateImageOptionsBuilder;
use futures_util::StreamExt as _;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Progress goes to the log at most this often: a person watches it.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// Layers that one image may have: what the engine's own storage takes. Bounds the books of a pull.
const LAYERS_MAX: usize = 127;

/// How much larger than its compressed layers an image may be on the engine's disk. 4: programs and libraries shrink to a
/// third; what shrinks to less is padding, or a bomb.
const UNPACKED: u64 = 4;
/// Names of labels that begin so are of what nodes make.
const LABELS: &str = "collector.";

/// Sees to it that the engine has the image.
///
/// * returns: whether it was pulled now, and so is ours to remove. One that cannot run here is removed at once.
/// * errors: `Pull`, `Image`, `Broken`.
pub(super) async fn get(engine: &Arc<Engine>, image: &ImageRef) -> Result<bool, ExecError> {
    if is_there(engine, image).await? {
        return Ok(false);
    }
    let pulled = pull_in_time(engine, image).await;
    if pulled.is_err() {
        engine.remove_image(&image.to_string()).await;
    }
    pulled.map(|()| true)
}

async fn pull_in_time(engine: &Arc<Engine>, image: &ImageRef) -> Result<(), ExecError> {
    let seconds = engine.config.pull_s;
    let pulled = timeout(Duration::from_secs(seconds), pull(engine, image)).await;
    pulled.map_err(|_late| ExecError::Pull(format!("it took longer than exec.container.pull_s = {seconds}")))??;
    match is_there(engine, image).await? {
        true => Ok(()),
        false => Err(ExecError::Pull("the container engine does not have it afterwards".to_owned())),
    }
}

/// Whether the engine has the image.
///
/// * errors: `Image` if it has it, and it cannot run here.
pub(super) async fn is_there(engine: &Arc<Engine>, image: &ImageRef) -> Result<bool, ExecError> {
    let name = image.to_string();
    let inspected = engine.ask("look at an image", |docker| async move { docker.inspect_image(&name).await });
    match inspected.await {
        Ok(found) => fits(&engine.config, found).map(|()| true).map_err(ExecError::Image),
        Err(EngineError::Refused { status: 404, .. }) => Ok(false),
        Err(why) => Err(why.into()),
    }
}

/// Whether a container of it can run, and be as closed as it has to be.
fn fits(config: &Config, found: ImageInspect) -> Result<(), String> {
    let machine = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let (os, architecture) = (found.os.unwrap_or_default(), found.architecture.unwrap_or_default());
    if os != "linux" || architecture != machine {
        return Err(format!(
            "it is for {}, this node is linux/{machine}",
            one_line(&format!("{os}/{architecture}"), 64)
        ));
    }
    let most = config.pull_mib.saturating_mul(UNPACKED);
    if u64::try_from(found.size.unwrap_or_default()).unwrap_or(u64::MAX) > most << 20 {
        return Err(format!("unpacked it has more than {most} MiB, {UNPACKED} times exec.container.pull_mib"));
    }
    let about = found.config.unwrap_or_default();
    // Without one the first of a call's arguments would be taken for the program.
    if about.entrypoint.unwrap_or_default().is_empty() {
        return Err("it names no program: build it with an ENTRYPOINT".to_owned());
    }
    // The engine would make each of them a folder on its disk that is writable and has no bound.
    if !about.volumes.unwrap_or_default().is_empty() {
        return Err("it declares volumes, which no container here may have".to_owned());
    }
    match about.labels.unwrap_or_default().keys().any(|name| name.starts_with(LABELS)) {
        true => Err(format!("it has labels that begin with {LABELS:?}, which only nodes set")),
        false => Ok(()),
    }
}

async fn pull(engine: &Arc<Engine>, image: &ImageRef) -> Result<(), ExecError> {
    let name = image.to_string();
    tracing::info!(image = name, "pulling");
    let docker = engine.docker().await?;
    let options = CreateImageOptionsBuilder::new().from_image(&name).build();
    let mut events = docker.create_image(Some(options), None, None);
    let (mut layers, mut said) = (Layers::default(), Instant::now());
    while let Some(event) = events.next().await {
        let event = event.map_err(|why| refused(engine, &why))?;
        layers.note(&event);
        let mib = engine.config.pull_mib;
        // Dropping the events ends the pull.
        if layers.total() > mib << 20 {
            return Err(ExecError::Image(format!("it is larger than exec.container.pull_mib = {mib}")));
        }
        if layers.0.len() > LAYERS_MAX {
            return Err(ExecError::Image(format!("it has more than {LAYERS_MAX} layers")));
        }
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            tracing::info!(image = name, bytes = layers.current(), of = layers.total(), "pulling");
        }
    }
    tracing::info!(image = name, bytes = layers.total(), "pulled");
    Ok(())
}

/// A refusal in the registry's words, cut; a broken engine in none.
fn refused(engine: &Engine, why: &Error) -> ExecError {
    match why {
        Error::DockerResponseServerError { message, .. } | Error::DockerStreamError { error: message } => {
            tracing::info!(why = one_line(message, 2_048), "an image could not be pulled");
            cause(message)
        }
        why => engine.failed("pull an image", why).into(),
    }
}

/// What went wrong in few words: the engine's own have addresses and paths of this machine's network.
fn cause(message: &str) -> ExecError {
    let said = |word: &str| message.to_ascii_lowercase().contains(word);
    let (never, why) = if said("no matching manifest") {
        (true, "it is not built for this machine")
    } else if said("not found") || said("manifest unknown") || said("name unknown") {
        (true, "its registry does not have it")
    } else if said("denied") || said("unauthorized") || said("authentication") {
        (true, "its registry does not give it to this node")
    } else if said("no space left") {
        (false, "the container engine's disk is full")
    } else if said("digest") || said("checksum") || said("verif") {
        (false, "what its registry sent is not what the digest says")
    } else {
        (false, "its registry could not be asked, or broke off")
    };
    if never { ExecError::Image(why.to_owned()) } else { ExecError::Pull(why.to_owned()) }
}

/// Bytes of the layers, as far as they are known: done and in all.
#[derive(Default)]
struct Layers(HashMap<String, (u64, u64)>);

impl Layers {
    fn note(&mut self, event: &CreateImageInfo) {
        // Extracting counts the same bytes once more, never more of them.
        let (Some(id), Some(progress)) = (&event.id, &event.progress_detail) else { return };
        let bytes = |value: Option<i64>| u64::try_from(value.unwrap_or_default()).unwrap_or_default();
        let (current, total) = (bytes(progress.current), bytes(progress.total));
        if current == 0 && total == 0 {
            return;
        }
        let (known, all) = self.0.entry(id.clone()).or_default();
        *known = current.max(*known);
        *all = total.max(current).max(*all);
    }

    fn current(&self) -> u64 {
        self.0.values().fold(0, |sum, (current, _)| sum.saturating_add(*current))
    }

    fn total(&self) -> u64 {
        self.0.values().fold(0, |sum, (_, total)| sum.saturating_add(*total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bollard::models::{ImageConfig, ProgressDetail};

    #[test]
    fn images_that_can_never_run_are_told_why() {
        let machine = if cfg!(target_arch = "x86_64") { "amd64" } else { "arm64" };
        let about = || ImageConfig { entrypoint: Some(vec!["/tool".to_owned()]), ..ImageConfig::default() };
        let image = |config: ImageConfig| ImageInspect {
            os: Some("linux".to_owned()),
            architecture: Some(machine.to_owned()),
            size: Some(4 << 20),
            config: Some(config),
            ..ImageInspect::default()
        };
        let config = Config { pull_mib: 1, ..Config::default() };
        assert_eq!(fits(&config, image(about())), Ok(()));
        let forged = [("collector.node".to_owned(), "n".to_owned())].into();
        for (bad, word) in [
            (ImageInspect { os: Some("windows".to_owned()), ..image(about()) }, "windows"),
            (ImageInspect { architecture: Some("riscv64".to_owned()), ..image(about()) }, "riscv64"),
            (ImageInspect { size: Some((4 << 20) + 1), ..image(about()) }, "exec.container.pull_mib"),
            (image(ImageConfig::default()), "ENTRYPOINT"),
            (image(ImageConfig { volumes: Some(vec!["/data".to_owned()]), ..about() }), "volumes"),
            (image(ImageConfig { labels: Some(forged), ..about() }), "collector."),
        ] {
            let why = fits(&config, bad).unwrap_err();
            assert!(why.contains(word), "{why}");
        }
    }

    #[test]
    fn layers_count_once_each_at_their_largest() {
        let event = |id: &str, current, total| CreateImageInfo {
            id: Some(id.to_owned()),
            progress_detail: Some(ProgressDetail { current, total }),
            ..CreateImageInfo::default()
        };
        let mut layers = Layers::default();
        let all = [
            event("a", Some(1), Some(10)),
            event("a", Some(10), Some(10)),
            event("b", Some(7), None),
            event("b", Some(-1), Some(-1)),
            event("c", None, None),
        ];
        all.iter().for_each(|event| layers.note(event));
        assert_eq!((layers.current(), layers.total(), layers.0.len()), (17, 17, 2));
    }

    #[test]
    fn causes_say_nothing_of_this_machine() {
        let said = cause("Get \"http://10.0.0.7:5000/v2/\": dial tcp 10.0.0.7:5000: connect: connection refused");
        assert!(matches!(said, ExecError::Pull(why) if why == "its registry could not be asked, or broke off"));
        let said = cause("manifest for x@sha256:00 not found: manifest unknown");
        assert!(matches!(said, ExecError::Image(why) if why == "its registry does not have it"));
    }
}
