//! One contract, whatever runs the code: every case runs on every executor.

mod answers;
mod deployed;
mod endings;
mod limits;
mod quotas;

use crate::support::*;
use collector::cli::{Answer, Target};
use collector::config::Config;
use collector::domain::Digest;
use collector::exec::Native;
use collector::rpc::pb::serve_request::ServiceDef;
use prost_types::Any;
use serde_json::Value;
use std::time::Duration;
use tonic::{Code, Status};

/// What runs the code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// wasmtime, the same source as a component.
    Component,
    /// The native command, from memory.
    Memexec,
    /// The native command, in a container kept between calls: a fresh one costs a third of a second.
    Container,
    /// The native command, in a container of its own, as the default settings have it: for cases of few calls.
    ColdContainer,
}

impl How {
    pub fn is_native(self) -> bool {
        self != Self::Component
    }

    pub fn is_container(self) -> bool {
        matches!(self, Self::Container | Self::ColdContainer)
    }

    /// The word in receipts.
    fn executor(self) -> &'static str {
        match self {
            Self::Component => "wasm",
            Self::Memexec => "memexec",
            Self::Container | Self::ColdContainer => "container",
        }
    }

    /// Allows it, and makes room for two calls and a short queue everywhere.
    pub fn allow(self, config: &mut Config) {
        config.exec.native = match self {
            Self::Component => Vec::new(),
            Self::Memexec => vec![Native::Memexec],
            Self::Container | Self::ColdContainer => vec![Native::Container],
        };
        config.exec.container.socket = engine_socket();
        config.exec.container.require_userns = false; // the engine of a test machine is as it is
        config.exec.container.warm = if self == Self::Container { 2 } else { 0 };
    }

    /// Says that this machine cannot run such code, which where it was promised is a failure.
    pub fn left_out(self, why: &Status) {
        let why = format!("{}: {}", self.executor(), why.message());
        match self {
            Self::Container | Self::ColdContainer => leave_out("COLLECTOR_DOCKER", "required", &why),
            Self::Component | Self::Memexec => skip(&why),
        }
    }

    /// The bytes of a plugin, as this runs it.
    pub fn bytes(self, name: &str) -> bytes::Bytes {
        let file = if self.is_native() { native(name) } else { component(name) };
        std::fs::read(file).unwrap().into()
    }
}

/// A node that runs the code one way.
pub struct Subject {
    pub node: TestNode,
    pub how: How,
}

impl Subject {
    /// * returns: `None`, with a line that says so, where this machine cannot run such code.
    pub async fn start_with(how: How, change: impl FnOnce(&mut Config)) -> Option<Self> {
        let configure = |config: &mut Config| {
            how.allow(config);
            change(config);
        };
        let subject = Self { node: TestNode::start_with(configure).await, how };
        match Ask::new(&subject, "contract", "Echo", "").upload().run().await {
            Err(status) if verdict(&status) == (Code::FailedPrecondition, "EXECUTOR_UNAVAILABLE".into()) => {
                how.left_out(&status);
                None
            }
            answered => {
                answered.unwrap_or_else(|status| panic!("{how:?}: {status:?}"));
                Some(subject)
            }
        }
    }

    /// A call of a plugin with descriptors, with JSON.
    pub async fn call(&self, name: &str, method: &str, request: Value) -> Result<Called, Status> {
        let plugin = plugin(name);
        let mut call = Call::new(&plugin, method, request);
        call.code = ServiceDef::ServiceBinary(self.how.bytes(name));
        call.run(&self.node.client).await
    }

    /// A call of the plugin `contract`, with bytes.
    pub async fn ask(&self, method: &str, input: impl Into<Vec<u8>>) -> Result<Answer, Status> {
        Ask::new(self, "contract", method, input).run().await
    }

    /// What of a call of `contract` is text.
    pub async fn say(&self, method: &str, input: &str) -> String {
        String::from_utf8(self.ask(method, input).await.unwrap().output.value).unwrap()
    }

    /// The node answers an ordinary call in the same way as before.
    pub async fn goes_on(&self) {
        assert_eq!(self.say("Echo", "all is well").await, "all is well");
    }
}

/// One call with bytes, to be changed before it runs.
pub struct Ask {
    client: collector::cli::NodeClient,
    pub target: Target,
    code: ServiceDef,
    bytes: bytes::Bytes,
    pub input: Any,
    pub context: Vec<(&'static str, String)>,
}

impl Ask {
    pub fn new(subject: &Subject, plugin: &str, method: &str, input: impl Into<Vec<u8>>) -> Self {
        let bytes = subject.how.bytes(plugin);
        Self {
            client: subject.node.client.clone(),
            target: Target {
                namespace: "acme".into(),
                service: "Contract".into(),
                method: method.into(),
                ..Target::default()
            },
            code: ServiceDef::ServiceUri(format!("sha256:{}", Digest::of(&bytes))),
            bytes,
            input: Any { type_url: String::new(), value: input.into() },
            context: Vec::new(),
        }
    }

    /// With the code itself. Of `contract` every subject has it.
    pub fn upload(mut self) -> Self {
        self.code = ServiceDef::ServiceBinary(self.bytes.clone());
        self
    }

    /// For a service of this name, by which its processes are found.
    pub fn marked(mut self, marker: &str) -> Self {
        self.target.service = marker.into();
        self
    }

    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.target.timeout = Some(timeout);
        self
    }

    pub fn memory_mib(mut self, mib: u64) -> Self {
        self.context.push(("memory_mib", mib.to_string()));
        self
    }

    pub async fn run(self) -> Result<Answer, Status> {
        let context = self.context.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        self.client.serve_with(&self.target, self.code, self.input, context).await.map_err(status)
    }

    /// Runs it to a failure.
    pub async fn fails(self, code: Code, reason: &str) -> Status {
        let failed = self.run().await.expect_err("the call should have failed");
        assert_eq!(verdict(&failed), (code, reason.to_owned()), "{failed:?}");
        failed
    }
}

/// A service name that no other test has.
pub fn marker() -> String {
    format!("marked.v1.M{}", uuid::Uuid::new_v4().simple())
}

/// How long the guest of a failed call ran; panics if it did not.
pub fn ran(status: &Status) -> Duration {
    let micros = status.metadata().get("collector-run-us").expect("it ran").to_str().unwrap();
    Duration::from_micros(micros.parse().unwrap())
}

/// Makes a test of every case for every executor; of those after `cold` for fresh containers too.
macro_rules! on_every_executor {
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
    (cold: $($cold:ident),+; $($case:ident,)+) => {
        on_every_executor!($($cold,)+ $($case,)+);
        on_every_executor!(@ cold_container ColdContainer $($cold)+);
    };
    ($($case:ident,)+) => {
        on_every_executor!(@ component Component $($case)+);
        on_every_executor!(@ memexec Memexec $($case)+);
        on_every_executor!(@ container Container $($case)+);
    };
}
pub(crate) use on_every_executor;

/// The subject of a case, which ends here where there is none.
macro_rules! subject {
    ($how:expr) => {
        subject!($how, |_| ())
    };
    ($how:expr, $change:expr) => {
        match crate::contract::Subject::start_with($how, $change).await {
            Some(subject) => subject,
            None => return,
        }
    };
}
pub(crate) use subject;
