//! Why a guest gave no answer.

use crate::domain::{Exceeded, Receipt, some_of};
use crate::fair::Full;
use std::sync::Arc;

/// A call that ran, or was to run, and gave no answer.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct ExecFailure {
    /// Why.
    #[source]
    pub error: ExecError,
    /// What the call used, if it got as far as an instance.
    pub receipt: Option<Box<Receipt>>,
}

impl From<Full> for ExecFailure {
    fn from(full: Full) -> Self {
        ExecError::from(full).into()
    }
}

impl From<Full> for ExecError {
    fn from(_: Full) -> Self {
        Self::Busy
    }
}

/// Why a guest gave no answer. The text of each is for the tenant; causes that name the host's insides are sources.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ExecError {
    /// Out of time, waiting or running.
    #[error("ran past its deadline")]
    Deadline,
    /// A stream on which nothing moved.
    #[error("the caller of the stream was silent for too long (limits.stream_idle_ms = {0})")]
    Idle(u64),
    /// The node is going down and the grace period is over.
    #[error("the node is shutting down")]
    Draining,
    /// Too many calls wait already.
    #[error("the node is busy: too many calls are running or waiting, try again later")]
    Busy,
    /// Calls inside of calls.
    #[error("the call is inside of {0} others already, deeper ones are not made")]
    TooDeep(usize),
    /// A quota of the namespace is used up.
    #[error(transparent)]
    Quota(#[from] Exceeded),
    /// A limit of the call was spent.
    #[error("{what} (limits.{key} = {limit})")]
    Limit {
        /// Stable word for programs, `MEMORY_LIMIT`.
        reason: &'static str,
        /// What happened.
        what: &'static str,
        /// The setting.
        key: &'static str,
        /// Its value in force for this call.
        limit: u64,
    },
    /// The guest did what the sandbox forbids, or gave up.
    #[error("the plugin trapped: {0}")]
    Trap(String),
    /// A command ended with an exit code that is no gRPC code, or a handler ended its process.
    #[error("the plugin exited with code {code}{}", words(.last_words))]
    Exit {
        /// As given.
        code: i32,
        /// Last line on stderr, made safe.
        last_words: Option<String>,
    },
    /// A process that a signal ended.
    #[error("the plugin was killed by {signal}{}", words(.last_words))]
    Signal {
        /// `SIGSEGV`, or `signal 42`.
        signal: String,
        /// Last line on stderr, made safe.
        last_words: Option<String>,
    },
    /// No executor for native binaries is allowed for this namespace, by the setting that is named.
    #[error("native binaries do not run here; build the service for wasm32-wasip2 (setting {0})")]
    NativeOff(&'static str),
    /// What would run it cannot work on this machine.
    #[error("{0}")]
    Unavailable(String),
    /// Not on the operator's list, or no image is for this namespace.
    #[error(
        "this image may not run here: its repository is not on the list (setting exec.container.images), or containers \
         are not for this namespace (setting exec.namespaces)"
    )]
    ImageNotAllowed,
    /// The registry or the engine did not give the image; it may the next time.
    #[error("the image could not be pulled, try again: {0}")]
    Pull(String),
    /// The image is not there, or is none that can run here, however often it is asked for.
    #[error("the image cannot run here: {0}")]
    Image(String),
    /// The machinery that runs the code failed or went away; the next call finds it replaced.
    #[error("what runs the plugin failed, try again: {0}")]
    Broken(String),
    /// A ceiling on fuel was asked for where fuel is not counted.
    #[error("fuel is counted for components only, where wasm.metering = true, so it cannot be limited; leave fuel out")]
    Unmetered,
    /// A streaming call of a command, or of a handler without `stream-handler`.
    #[error(
        "this code answers unary calls only; to stream it must be a component with a handler, built with a newer SDK"
    )]
    NoStreaming,
    /// The component wants what this node does not give.
    #[error("the component imports what this node does not grant: {}", some_of(.0))]
    Imports(Vec<String>),
    /// Valid, but the compiler or the pool refused it.
    #[error("cannot compile the component: {0}")]
    Compile(String),
    /// Compiling it takes more than it may.
    #[error("{what} (wasm.compile_{key} = {limit})")]
    CompileLimit {
        /// Stable word for programs, `COMPILE_TIME`.
        reason: &'static str,
        /// What happened, and what to do.
        what: &'static str,
        /// The setting.
        key: &'static str,
        /// Its value.
        limit: u64,
    },
    /// The artifact's file is gone or is not what its digest says.
    #[error("the artifact is not in the store any more, upload it again")]
    Missing,
    /// Ours.
    #[error("the node failed to run the call")]
    Internal(#[source] Cause),
}

/// An error of ours with all its causes, shared by all who waited for the same thing.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0:#}")]
pub struct Cause(Arc<anyhow::Error>);

impl ExecError {
    pub(crate) fn internal(why: impl Into<anyhow::Error>) -> Self {
        Self::Internal(Cause(Arc::new(why.into())))
    }
}

fn words(last_words: &Option<String>) -> String {
    last_words.as_ref().map(|words| format!(": {words}")).unwrap_or_default()
}

impl From<ExecError> for ExecFailure {
    fn from(error: ExecError) -> Self {
        Self { error, receipt: None }
    }
}
