//! The container executor against the engine of this machine, without a node around it.

mod oci;
mod proxy;

pub use oci::OciRegistry;
pub use proxy::{Mood, Proxy};

use bollard::models::ContainerSummary;
use bollard::query_parameters::{
    ListContainersOptionsBuilder, ListImagesOptionsBuilder, RemoveContainerOptionsBuilder, RemoveImageOptionsBuilder,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use collector::domain::{Deadline, Digest, ImageRef, Kind, Limits, Outcome};
use collector::exec::container::{Config, ContainerExecutor};
use collector::exec::{Code, ExecError, ExecFailure, Executor as _, Job, Origin};
use collector::lifecycle::Lifecycle;
use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

/// Memory of a call as the node of these tests has it.
const NODE_MEMORY_MIB: u64 = 64;
/// The key of every node of these tests.
pub const NODE_KEY: [u8; 32] = [7; 32];

/// An executor with a name of its own in the engine. Dropped, nothing of it is left there.
pub struct Rig {
    pub executor: ContainerExecutor,
    pub lifecycle: Lifecycle,
    pub docker: Docker,
    pub node: String,
    config: Config,
    pulled: Mutex<Vec<String>>,
}

/// Where the engine of this machine is, as the setting takes it: what `.ci/docker` says, else the usual place.
pub fn engine_socket() -> String {
    std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty()).unwrap_or_else(|| Config::default().socket)
}

/// The engine of this machine; `None`, said aloud, if there is none.
pub async fn docker() -> Option<Docker> {
    let docker = Docker::connect_with_unix(&engine_socket(), 120, API_DEFAULT_VERSION).ok();
    let docker = match docker {
        Some(docker) => docker.negotiate_version().await.ok(),
        None => None,
    };
    if docker.is_none() {
        super::leave_out("COLLECTOR_DOCKER", "required", "no Docker engine answers here");
    }
    docker
}

/// Settings for the engine of any test machine.
pub fn container_config() -> Config {
    Config {
        socket: engine_socket(),
        require_userns: false,
        image: "collector-test/native".into(),
        ..Config::default()
    }
}

impl Rig {
    /// `None`, said aloud, where there is no engine.
    pub async fn start(change: impl FnOnce(&mut Config)) -> Option<Self> {
        let mut config = container_config();
        change(&mut config);
        let (docker, node) = (docker().await?, format!("test-{}", uuid::Uuid::new_v4().simple()));
        Some(Self::of(docker, config, node).await)
    }

    pub async fn of(docker: Docker, config: Config, node: String) -> Self {
        let lifecycle = Lifecycle::default();
        let executor =
            ContainerExecutor::start(config.clone(), true, &node, &NODE_KEY, NODE_MEMORY_MIB, lifecycle.clone()).await;
        executor.asked().await; // an engine that has much to do may take longer than a start waits
        assert_eq!(executor.availability(), Ok(()));
        Self { executor, lifecycle, docker, node, config, pulled: Mutex::default() }
    }

    /// The next life of the same node, after one that ended well.
    pub async fn restart(mut self) -> Self {
        self.lifecycle.drain();
        self.lifecycle.kill();
        assert_eq!(self.lifecycle.end(Duration::from_secs(10)).await, 0);
        let node = std::mem::take(&mut self.node);
        let next = Self::of(self.docker.clone(), self.config.clone(), node).await;
        *next.pulled.lock().unwrap() = std::mem::take(self.pulled.get_mut().unwrap());
        next
    }

    /// Calls a method of the tool in namespace `acme`.
    pub async fn call(&self, method: &str, input: &str) -> Result<Outcome, ExecFailure> {
        self.run(job(method, input)).await
    }

    pub async fn run(&self, job: Job) -> Result<Outcome, ExecFailure> {
        self.executor.run(job).await
    }

    /// What a call said, as text.
    pub async fn said(&self, method: &str, input: &str) -> String {
        output_of(self.call(method, input).await)
    }

    /// The containers of this node that the engine has.
    pub async fn containers(&self) -> Vec<ContainerSummary> {
        let options = ListContainersOptionsBuilder::new().all(true).filters(&label(&self.node)).build();
        self.docker.list_containers(Some(options)).await.unwrap()
    }

    /// Ids of the images of this node that the engine has.
    pub async fn images(&self) -> Vec<String> {
        let options = ListImagesOptionsBuilder::new().filters(&label(&self.node)).build();
        self.docker.list_images(Some(options)).await.unwrap().into_iter().map(|image| image.id).collect()
    }

    /// Notes that the engine will have this image, from a registry: removed with the rig.
    pub fn pulls(&self, image: &ImageRef) {
        self.pulled.lock().unwrap().push(image.to_string());
    }

    /// Waits until the engine has none of its containers.
    pub async fn gone(&self) {
        super::until("its containers are removed", async || self.containers().await.is_empty()).await;
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.lifecycle.drain();
        self.lifecycle.kill();
        let images = std::mem::take(self.pulled.get_mut().unwrap());
        remove(std::mem::take(&mut self.node), images);
    }
}

fn label(node: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("collector.node={node}")])])
}

#[tokio::main(flavor = "current_thread")]
async fn clean(node: &str, pulled: Vec<String>) {
    let Ok(docker) = Docker::connect_with_unix(&engine_socket(), 120, API_DEFAULT_VERSION) else { return };
    let Ok(docker) = docker.negotiate_version().await else { return };
    let options = ListContainersOptionsBuilder::new().all(true).filters(&label(node)).build();
    for one in docker.list_containers(Some(options)).await.unwrap_or_default() {
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        let _gone = docker.remove_container(&one.id.unwrap_or_default(), Some(options)).await;
    }
    let options = ListImagesOptionsBuilder::new().filters(&label(node)).build();
    let made = docker.list_images(Some(options)).await.unwrap_or_default();
    for image in made.into_iter().map(|one| one.id).chain(pulled) {
        let options = RemoveImageOptionsBuilder::new().force(true).build();
        let _gone = docker.remove_image(&image, Some(options), None).await;
    }
}

/// Removes what a node made in the engine: nodes of tests have no next life that would.
pub fn clean_after(node: &str) {
    remove(node.to_owned(), Vec::new());
}

fn remove(node: String, images: Vec<String>) {
    // A thread of its own: the test's runtime cannot be waited for from within.
    std::thread::spawn(move || clean(&node, images)).join().unwrap();
}

/// The tool (`tool.rs`), built once per test process.
pub fn tool() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> PathBuf {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/container/tool.rs");
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(&folder).unwrap();
    // Under a name of its own first: another test process may run the one that is there.
    let (built, fresh) = (folder.join("tool"), folder.join(format!("tool.{}", std::process::id())));
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new("rustc")
        .args(["--edition", "2024", "--target", &target, "-C", "target-feature=+crt-static", "-C", "opt-level=1"])
        .args(["-C", "strip=symbols", "-o"])
        .args([&fresh, &source])
        .status();
    assert!(status.unwrap().success(), "the tool builds");
    std::fs::rename(&fresh, &built).unwrap();
    built
}

/// A call of the tool, in namespace `acme`.
pub fn job(method: &str, input: &str) -> Job {
    let file = tool();
    let digest = Digest::of(&std::fs::read(&file).unwrap());
    Job {
        code: Code { digest, kind: Kind::NativeElf, origin: Origin::File(file) },
        namespace: "acme".parse().unwrap(),
        caller: None,
        service: "tool.v1.Tool".to_owned(),
        method: method.to_owned(),
        input: Bytes::copy_from_slice(input.as_bytes()),
        json: Some("{}".to_owned()),
        metadata: Vec::new(),
        deadline: Deadline::after(Duration::from_secs(60)),
        limits: Limits { memory_mib: NODE_MEMORY_MIB, ..Limits::default() },
        calls: None,
    }
}

/// The same from an image.
pub fn image_job(image: &ImageRef, method: &str, input: &str) -> Job {
    let code = Code { digest: image.digest(), kind: Kind::Image, origin: Origin::Image(image.clone()) };
    Job { code, ..job(method, input) }
}

#[track_caller]
pub fn output_of(answer: Result<Outcome, ExecFailure>) -> String {
    let outcome = answer.unwrap();
    String::from_utf8(outcome.reply.expect("no fault").to_vec()).unwrap()
}

#[track_caller]
pub fn error(answer: Result<Outcome, ExecFailure>) -> ExecError {
    answer.expect_err("the call should have failed").error
}
