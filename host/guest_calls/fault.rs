//! Why a host call was not answered, in the words that guests get. As in gRPC: what a client would be told, no more.

use crate::collections::CollectionError;
use crate::dispatch::DispatchError;
use crate::domain::{Exceeded, Fault, FaultCode, one_line};
use crate::exec::ExecError;
use crate::files::FilesError;
use crate::net::FetchError;
use crate::registry::CallError;
use crate::store::StoreError;
use crate::tenancy::NotGranted;
use crate::tenancy::Refused;
use crate::tenancy::audit::Unrecorded;
use prost::Message;
use prost_types::Any;
use tonic_types::pb::{ErrorInfo, QuotaFailure, RetryInfo, Status, quota_failure};

/// Longest message. As long as a status of ours.
const MESSAGE_MAX: usize = 1_024;
/// Who names reasons. The same as in statuses of the node.
const DOMAIN: &str = "collector";

pub(super) fn fault(code: FaultCode, message: impl AsRef<str>) -> Fault {
    Fault { code, message: one_line(message.as_ref(), MESSAGE_MAX), details: Vec::new() }
}

pub(super) fn denied(why: &NotGranted) -> Fault {
    fault(FaultCode::PermissionDenied, why.to_string())
}

/// A quota that is used up, with what a client would be told of it: its name, and when to come back.
pub(super) fn over(why: &Exceeded) -> Fault {
    let fault = fault(FaultCode::ResourceExhausted, why.to_string());
    Fault { details: details(why, &fault.message), ..fault }
}

/// A `google.rpc.Status`. Source: google/rpc/error_details.proto.
fn details(why: &Exceeded, message: &str) -> Vec<u8> {
    let (quota, scope) = (why.quota.to_owned(), why.scope.name().to_owned());
    let subject = format!("{scope}:{quota}");
    let metadata = [("quota", quota), ("scope", scope), ("limit", why.limit.to_string())];
    let metadata = metadata.map(|(key, value)| (key.to_owned(), value)).into();
    let info = ErrorInfo { reason: "QUOTA".to_owned(), domain: DOMAIN.to_owned(), metadata };
    let description = message.to_owned();
    let violation = quota_failure::Violation { subject, description, ..Default::default() };
    let retry = RetryInfo { retry_delay: prost_types::Duration::try_from(why.retry_after()).ok() };
    let details = vec![
        any("ErrorInfo", &info),
        any("QuotaFailure", &QuotaFailure { violations: vec![violation] }),
        any("RetryInfo", &retry),
    ];
    Status { code: FaultCode::ResourceExhausted as i32, message: message.to_owned(), details }.encode_to_vec()
}

fn any(name: &str, message: &impl Message) -> Any {
    Any { type_url: format!("type.googleapis.com/google.rpc.{name}"), value: message.encode_to_vec() }
}

fn of_refused(why: &Refused) -> Option<&Exceeded> {
    if let Refused::Quota(over) = why { Some(over) } else { None }
}

fn of_store(why: &StoreError) -> Option<&Exceeded> {
    if let StoreError::Over(over) = why { Some(over) } else { None }
}

fn of_dispatch(why: &DispatchError) -> Option<&Exceeded> {
    match why {
        DispatchError::Refused(why) => of_refused(why),
        DispatchError::Exec(failure) => match &failure.error {
            ExecError::Quota(over) => Some(over),
            _ => None,
        },
        _ => None,
    }
}

fn of_collection(why: &CollectionError) -> Option<&Exceeded> {
    match why {
        CollectionError::Refused(why) => of_refused(why),
        CollectionError::Store(why) => of_store(why),
        CollectionError::Operation { why, .. } => of_collection(why),
        _ => None,
    }
}

pub(super) fn draining() -> Fault {
    fault(FaultCode::Unavailable, "the node is shutting down")
}

/// What is ours is for the log; the guest hears that it was.
fn told(code: FaultCode, why: &dyn std::error::Error) -> Fault {
    if matches!(code, FaultCode::Internal | FaultCode::DataLoss) {
        let source = why.source().map(ToString::to_string).unwrap_or_default();
        tracing::error!(error = %why, source, "a host call failed");
    }
    fault(code, why.to_string())
}

pub(super) fn fetch(why: FetchError) -> Fault {
    let code = match &why {
        FetchError::Request(_) => FaultCode::InvalidArgument,
        FetchError::TooLarge { .. } | FetchError::Busy(_) => FaultCode::ResourceExhausted,
        FetchError::Forbidden(_) => FaultCode::PermissionDenied,
        FetchError::Resolve | FetchError::Connect | FetchError::Tls(_) | FetchError::Answer => FaultCode::Unavailable,
        FetchError::Late(_) => FaultCode::DeadlineExceeded,
    };
    told(code, &why)
}

pub(super) fn dispatch(why: DispatchError) -> Fault {
    if let Some(quota) = of_dispatch(&why) {
        return over(quota);
    }
    let code = match &why {
        DispatchError::Refused(why) => refused(why),
        DispatchError::NotDeployed | DispatchError::NoImplementation(_) | DispatchError::Artifact(_) => {
            FaultCode::NotFound
        }
        DispatchError::Call(why) => match why {
            CallError::NoService { .. } | CallError::NoMethod { .. } | CallError::Streaming { .. } => {
                FaultCode::Unimplemented
            }
            CallError::Ambiguous { .. } => FaultCode::FailedPrecondition,
            CallError::WrongInputType { .. } | CallError::BadInput { .. } => FaultCode::InvalidArgument,
        },
        DispatchError::Draining => FaultCode::Unavailable,
        DispatchError::Exec(failure) => exec(&failure.error),
        DispatchError::Output { .. } | DispatchError::Replies { .. } => FaultCode::Unknown,
        DispatchError::Requests(fault) => fault.code,
        DispatchError::Gone => FaultCode::Cancelled,
    };
    told(code, &why)
}

pub(super) fn not_permitted(why: &Refused) -> Fault {
    match of_refused(why) {
        Some(quota) => over(quota),
        None => fault(refused(why), why.to_string()),
    }
}

fn refused(why: &Refused) -> FaultCode {
    match why {
        Refused::Forbidden => FaultCode::PermissionDenied,
        Refused::Quota(_) => FaultCode::ResourceExhausted,
        Refused::Unrecorded(Unrecorded::Full) => FaultCode::ResourceExhausted,
        Refused::Unrecorded(Unrecorded::Failed) => FaultCode::Unavailable,
    }
}

fn exec(why: &ExecError) -> FaultCode {
    match why {
        ExecError::Deadline | ExecError::Idle(_) => FaultCode::DeadlineExceeded,
        ExecError::Draining | ExecError::Pull(_) | ExecError::Broken(_) => FaultCode::Unavailable,
        ExecError::Busy
        | ExecError::Quota(_)
        | ExecError::TooDeep(_)
        | ExecError::Limit { .. }
        | ExecError::CompileLimit { .. } => FaultCode::ResourceExhausted,
        ExecError::Trap(_) | ExecError::Exit { .. } | ExecError::Signal { .. } => FaultCode::Unknown,
        ExecError::NativeOff(_)
        | ExecError::Unavailable(_)
        | ExecError::Image(_)
        | ExecError::Unmetered
        | ExecError::Imports(_)
        | ExecError::Compile(_) => FaultCode::FailedPrecondition,
        ExecError::ImageNotAllowed => FaultCode::PermissionDenied,
        ExecError::NoStreaming => FaultCode::Unimplemented,
        ExecError::Missing => FaultCode::NotFound,
        ExecError::Internal(_) => FaultCode::Internal,
    }
}

pub(super) fn collection(why: CollectionError) -> Fault {
    match of_collection(&why) {
        Some(quota) => over(quota),
        None => told(code_of_collection(&why), &why),
    }
}

fn code_of_collection(why: &CollectionError) -> FaultCode {
    match why {
        CollectionError::Refused(why) => refused(why),
        CollectionError::NoCollection(_) | CollectionError::NoRecord(_) => FaultCode::NotFound,
        CollectionError::CollectionExists(_) | CollectionError::RecordExists(_) => FaultCode::AlreadyExists,
        CollectionError::Changed(_) => FaultCode::Aborted,
        CollectionError::Field(_) => FaultCode::InvalidArgument,
        CollectionError::Operation { why, .. } => code_of_collection(why),
        CollectionError::TooMany { .. } => FaultCode::ResourceExhausted,
        CollectionError::NoFullText
        | CollectionError::NoVector
        | CollectionError::AmbiguousMethod(_)
        | CollectionError::NoMethod(_)
        | CollectionError::KeyReused => FaultCode::FailedPrecondition,
        CollectionError::Run { .. } | CollectionError::Faulted { .. } => FaultCode::Unknown,
        CollectionError::Deadline => FaultCode::DeadlineExceeded,
        CollectionError::Draining => FaultCode::Unavailable,
        CollectionError::Store(why) => store(why),
        CollectionError::Internal(_) => FaultCode::Internal,
    }
}

pub(super) fn files(why: FilesError) -> Fault {
    if let FilesError::Over(quota) = &why {
        return over(quota);
    }
    let code = match &why {
        FilesError::NotFound => FaultCode::NotFound,
        FilesError::Taken | FilesError::NotFolder => FaultCode::FailedPrecondition,
        FilesError::TooLarge | FilesError::TooLong => FaultCode::InvalidArgument,
        FilesError::OutOfRange { .. } => FaultCode::OutOfRange,
        FilesError::Over(_) | FilesError::Full => FaultCode::ResourceExhausted,
        FilesError::Store(why) => store(why),
        FilesError::Deadline => FaultCode::DeadlineExceeded,
        FilesError::Draining => FaultCode::Unavailable,
        FilesError::Io(_) => FaultCode::Internal,
    };
    told(code, &why)
}

fn store(why: &StoreError) -> FaultCode {
    match why {
        StoreError::Busy | StoreError::Full | StoreError::Over(_) => FaultCode::ResourceExhausted,
        StoreError::Refused { .. } | StoreError::Reused | StoreError::ReadOnly | StoreError::Newer { .. } => {
            FaultCode::FailedPrecondition
        }
        StoreError::NoCollection => FaultCode::NotFound,
        StoreError::CollectionExists => FaultCode::AlreadyExists,
        StoreError::Deadline => FaultCode::DeadlineExceeded,
        StoreError::Invalid(_) => FaultCode::InvalidArgument,
        StoreError::Corrupt(_) => FaultCode::DataLoss,
        StoreError::Io(_) => FaultCode::Internal,
        StoreError::Closed => FaultCode::Unavailable,
    }
}
