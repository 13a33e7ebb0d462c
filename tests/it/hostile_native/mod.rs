//! Hostile native binaries: whatever one does, the node is unharmed, and nothing of it stays.

mod attempts;
mod files;
mod greed;
mod survivors;

use crate::contract::How;
use crate::support::*;
use collector::cli::{Answer, NodeClient, PluginFile, Target};
use collector::rpc::pb::serve_request::ServiceDef;
use prost_types::Any;
use serde_json::json;
use std::time::Duration;
use tonic::{Code, Status};

/// A node as a process of its own, which runs native binaries one way.
pub struct Host {
    pub process: NodeProcess,
    pub client: NodeClient,
    how: How,
    hostile: PluginFile,
    quiet: Quiet,
    _home: tempfile::TempDir,
}

/// What the node holds when nothing happens.
struct Quiet {
    processes: usize,
    descriptors: usize,
}

impl Host {
    /// * `settings`: more of them.
    /// * returns: `None`, with a line that says so, where this machine cannot run such code.
    pub async fn start(how: How, settings: &[&str]) -> Option<Self> {
        let home = tempfile::tempdir().unwrap();
        let native = match how {
            How::Container | How::ColdContainer => "exec.native=container",
            How::Memexec | How::Component => "exec.native=memexec",
        };
        let socket = format!("exec.container.socket={}", engine_socket());
        // The engine of a test machine is as it is.
        let settings = [&[native, &socket, "exec.container.require_userns=false"], settings].concat();
        let process = NodeProcess::start(&home.path().join("data"), &settings);
        let client = process.client().await;
        let hostile = PluginFile::of(how.bytes("hostile-native")).unwrap();
        let quiet = Quiet { processes: 0, descriptors: 0 };
        let mut host = Self { process, client, how, hostile, quiet, _home: home };
        let upload = Sin::new("List").code(ServiceDef::ServiceBinary(host.hostile.bytes.clone()));
        match host.commit(upload).await {
            Err(status) if verdict(&status) == (Code::FailedPrecondition, "EXECUTOR_UNAVAILABLE".into()) => {
                how.left_out(&status);
                return None;
            }
            answered => answered.unwrap_or_else(|status| panic!("{how:?}: {status:?}")),
        };
        // Every binary of these tests, so that it is in memory before anything is counted.
        let given = Sin::new("Given").code(ServiceDef::ServiceBinary(how.bytes("contract")));
        host.commit(given).await.unwrap();
        host.wasm().await;
        let id = host.process.id();
        host.quiet = Quiet { processes: descendants(id).len(), descriptors: descriptors(id) };
        Some(host)
    }

    /// The whole answer.
    pub async fn serve(&self, sin: Sin) -> Result<Answer, Status> {
        serve(&self.client, self.digest(), sin).await
    }

    pub async fn commit(&self, sin: Sin) -> Result<String, Status> {
        commit(&self.client, self.digest(), sin).await
    }

    /// The hostile binary, which the node has.
    pub fn digest(&self) -> ServiceDef {
        by_digest(&self.hostile)
    }

    /// A component answers as ever.
    async fn wasm(&self) {
        let greeter = plugin("greeter");
        let called = Call::new(&greeter, "SayHello", json!({ "name": "Ada" })).run(&self.client).await.unwrap();
        assert_eq!(called.reply["text"], "Hello, Ada!");
    }

    /// The node is the same process and holds no more than before; nothing runs for the service `marker`; components and
    /// native binaries are served.
    pub async fn is_unharmed(&self, marker: &str) {
        let id = self.process.id();
        until("its processes are gone", async || running(marker).is_empty()).await;
        self.wasm().await;
        assert_eq!(self.commit(Sin::new("Descriptors")).await.unwrap(), "0 1 2\n", "as before");
        until("the node's processes are what they were", async || descendants(id).len() <= self.quiet.processes).await;
        // A connection to the engine that is kept for the next call is no leak.
        let kept = if self.how.is_container() { 4 } else { 0 };
        until("its descriptors are what they were", async || descriptors(id) <= self.quiet.descriptors + kept).await;
        let answers = std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap();
        assert_eq!(answers.trim(), "collector", "the same process all the time");
    }
}

/// * `hostile`: what runs, unless the sin has code of its own.
/// * returns: what it said.
pub async fn commit(client: &NodeClient, hostile: ServiceDef, sin: Sin) -> Result<String, Status> {
    Ok(String::from_utf8(serve(client, hostile, sin).await?.output.value).unwrap())
}

async fn serve(client: &NodeClient, hostile: ServiceDef, sin: Sin) -> Result<Answer, Status> {
    let target = Target {
        namespace: "acme".into(),
        service: sin.service,
        method: sin.method.into(),
        timeout: Some(sin.timeout),
        ..Target::default()
    };
    let input = Any { type_url: String::new(), value: sin.input.into_bytes() };
    let context = sin.context.into_iter().collect();
    client.serve_with(&target, sin.code.unwrap_or(hostile), input, context).await.map_err(status)
}

/// One call of the hostile binary.
pub struct Sin {
    method: &'static str,
    input: String,
    service: String,
    timeout: Duration,
    context: Vec<(String, String)>,
    code: Option<ServiceDef>,
}

impl Sin {
    pub fn new(method: &'static str) -> Self {
        Self {
            method,
            input: String::new(),
            service: "Hostile".into(),
            timeout: Duration::from_secs(20),
            context: Vec::new(),
            code: None,
        }
    }

    pub fn input(mut self, input: impl Into<String>) -> Self {
        self.input = input.into();
        self
    }

    /// For a service of this name, by which its processes are found.
    pub fn marked(mut self, marker: &str) -> Self {
        self.service = marker.into();
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.context.push(("memory_mib".into(), mib.to_string()));
        self
    }

    pub fn code(mut self, code: ServiceDef) -> Self {
        self.code = Some(code);
        self
    }
}

/// Makes a test of every case for every executor of native binaries.
macro_rules! on_every_native_executor {
    (@ $module:ident $how:ident $($case:ident)+) => {
        mod $module {
            use crate::contract::How;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(How::$how).await;
                }
            )+
        }
    };
    ($($case:ident,)+) => {
        on_every_native_executor!(@ memexec Memexec $($case)+);
        on_every_native_executor!(@ container Container $($case)+);
    };
}
pub(crate) use on_every_native_executor;

/// The host of a case, which ends here where there is none.
macro_rules! host {
    ($how:expr) => {
        host!($how, &[])
    };
    ($how:expr, $settings:expr) => {
        match crate::hostile_native::Host::start($how, $settings).await {
            Some(host) => host,
            None => return,
        }
    };
}
pub(crate) use host;
