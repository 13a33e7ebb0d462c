//! The plugin as a component: the guest interface of `wit/collector.wit` on one side, [`Plugin`](crate::Plugin) on the other.

use crate::plugin::{Route, dispatch, dispatch_stream};
use crate::{Code, Context, Exchange, Fault, logging};
use bindings::collector::plugin::streaming;
use bindings::collector::plugin::types;
use bindings::exports::collector::plugin::{handler, stream_handler};

#[allow(
    unsafe_code,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    clippy::all,
    clippy::allow_attributes_without_reason,
    reason = "generated from the WIT; crossing into the node is unsafe by nature"
)]
#[doc(hidden)]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "plugin",
        pub_export_macro: true,
    });
}

/// What `export!` lists.
#[doc(hidden)]
pub trait Services {
    /// The exported services in the order listed.
    const ROUTES: &'static [Route];
}

impl<S: Services> handler::Guest for S {
    fn handle(method: String, input: Vec<u8>) -> Result<Vec<u8>, handler::Fault> {
        logging::install();
        dispatch(S::ROUTES, &Context::of_node(method), &input).map_err(handler::Fault::from)
    }
}

impl<S: Services> stream_handler::Guest for S {
    fn handle_stream(method: String, call: streaming::Exchange) -> Result<(), stream_handler::Fault> {
        logging::install();
        let exchange = Exchange::of_node(call);
        dispatch_stream(S::ROUTES, &Context::of_node(method), &exchange).map_err(stream_handler::Fault::from)
    }
}

impl From<Fault> for types::Fault {
    fn from(fault: Fault) -> Self {
        Self { code: fault.code().into(), message: fault.message().to_owned(), details: fault.encode_details() }
    }
}

/// A fault of the node's own, with what it says to programs: of a quota its name, and when to come back.
impl From<types::Fault> for Fault {
    fn from(fault: types::Fault) -> Self {
        Self::new(fault.code.into(), fault.message).with_encoded(&fault.details)
    }
}

macro_rules! same_codes {
    ($($code:ident)+) => {
        impl From<Code> for types::Code {
            fn from(code: Code) -> Self {
                match code { $(Code::$code => Self::$code,)+ }
            }
        }

        impl From<types::Code> for Code {
            fn from(code: types::Code) -> Self {
                match code { $(types::Code::$code => Self::$code,)+ }
            }
        }
    };
}

same_codes! {
    Cancelled Unknown InvalidArgument DeadlineExceeded NotFound AlreadyExists
    PermissionDenied ResourceExhausted FailedPrecondition Aborted OutOfRange Unimplemented
    Internal Unavailable DataLoss Unauthenticated
}

/// What the node answers.
pub(crate) mod node {
    use super::bindings::collector::plugin::{context, log};
    use crate::logging::Level;

    pub(crate) use context::{deadline_ms, namespace, service};

    pub(crate) fn metadata() -> Vec<(String, Vec<u8>)> {
        context::metadata().into_iter().map(|entry| (entry.key, entry.value)).collect()
    }

    pub(crate) fn write(level: Level, target: &str, message: &str) {
        let level = match level {
            Level::Trace => log::Level::Trace,
            Level::Debug => log::Level::Debug,
            Level::Info => log::Level::Info,
            Level::Warn => log::Level::Warn,
            Level::Error => log::Level::Error,
            Level::Critical => log::Level::Critical,
        };
        log::write(level, target, message);
    }
}
