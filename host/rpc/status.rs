//! The one map from our errors to gRPC statuses.
//!
//! Two voices: the status text is for the tenant, the error chain goes to the log. Every failure carries an `ErrorInfo`
//! with a stable reason under the domain `collector`. Source: semantics.md section 1; google/rpc/error_details.proto.

use super::convert::BadRequest;
use super::edge::RequestId;
use crate::dispatch::DispatchError;
use crate::dispatch::artifacts::{ArtifactError, ComponentError};
use crate::domain::{Fault, FaultCode, Receipt, cut, one_line};
use crate::exec::{ExecError, ExecFailure};
use crate::registry::CallError;
use bytes::Bytes;
use prost::Message as _;
use std::collections::HashMap;
use std::time::Duration;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// `ErrorInfo.domain` of everything that we say.
const DOMAIN: &str = "collector";
/// Longest message of ours. It travels in a header, and up to twice more inside the details.
const MESSAGE_MAX: usize = 1_024;
/// Longest message of a guest's fault. It travels in a header, percent-encoded and once more inside the details.
const FAULT_MESSAGE_MAX: usize = 1_024;
/// Longest details of a guest's fault. Headers have 16 KiB altogether.
const FAULT_DETAILS_MAX: usize = 4_096;
/// When a refused call may try again: about one round of short calls later.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A failure with its reason and nothing more to say.
pub(super) fn plain(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// A request that is wrong in itself.
pub(super) fn bad_request(why: BadRequest, id: &RequestId) -> Status {
    let (code, message, field, problem) = match why {
        BadRequest::Required(field) => {
            (Code::InvalidArgument, format!("{field} is required"), field.to_owned(), "is required".to_owned())
        }
        BadRequest::Field { field, problem } => (Code::InvalidArgument, format!("{field} {problem}"), field, problem),
        BadRequest::Scheme(scheme) => {
            let message = format!("service_uri: this node does not serve the scheme {scheme}:, only sha256:");
            (Code::Unimplemented, message.clone(), "service_uri".to_owned(), message)
        }
    };
    let reason = if code == Code::Unimplemented { "SCHEME_UNIMPLEMENTED" } else { "INVALID_ARGUMENT" };
    let mut details = details(reason, id);
    details.add_bad_request_violation(field, problem);
    Status::with_error_details(code, message, details)
}

/// A call that got no answer.
pub(super) fn dispatch(why: DispatchError, id: &RequestId) -> Status {
    let (code, reason) = verdict(&why);
    if code == Code::Internal {
        tracing::error!(request = %id, error = %chain(&why), "internal error");
    }
    // Names and compilers' words in it are the tenant's: one line, and short enough for a header.
    let message = one_line(&why.to_string(), MESSAGE_MAX);
    let mut details = details(reason, id);
    let receipt = match &why {
        DispatchError::Exec(ExecFailure { error, receipt }) => {
            if matches!(error, ExecError::Busy) {
                details.set_retry_info(Some(RETRY_AFTER));
            }
            receipt.as_ref()
        }
        DispatchError::Artifact(ArtifactError::Busy) => {
            details.set_retry_info(Some(RETRY_AFTER));
            None
        }
        DispatchError::Call(CallError::WrongInputType { .. }) => {
            details.add_bad_request_violation("input.type_url", &message);
            None
        }
        DispatchError::Artifact(_) if code == Code::InvalidArgument => {
            details.add_bad_request_violation("service_binary", &message);
            None
        }
        _ => None,
    };
    let mut status = Status::with_error_details(code, message, details);
    if let Some(receipt) = receipt {
        attach(status.metadata_mut(), receipt);
    }
    status
}

/// Code and stable reason of a failure. No `_` arm: a new error does not compile until it has both.
fn verdict(why: &DispatchError) -> (Code, &'static str) {
    match why {
        DispatchError::Denied(_) => (Code::PermissionDenied, "DENIED"),
        DispatchError::NotDeployed => (Code::NotFound, "NOT_DEPLOYED"),
        DispatchError::Artifact(artifact) => match artifact {
            ArtifactError::Empty => (Code::InvalidArgument, "ARTIFACT_EMPTY"),
            ArtifactError::TooLarge { .. } => (Code::ResourceExhausted, "ARTIFACT_TOO_LARGE"),
            ArtifactError::NotRunnable(_) => (Code::InvalidArgument, "ARTIFACT_KIND"),
            ArtifactError::NativeOff => (Code::FailedPrecondition, "NATIVE_OFF"),
            ArtifactError::Busy => (Code::ResourceExhausted, "BUSY"),
            ArtifactError::NotFound => (Code::NotFound, "ARTIFACT_NOT_FOUND"),
            ArtifactError::Io(_) => (Code::Internal, "STORAGE"),
            ArtifactError::Component(component) => match component {
                ComponentError::Invalid(_) => (Code::InvalidArgument, "COMPONENT_INVALID"),
                ComponentError::NoEntry(_) => (Code::InvalidArgument, "COMPONENT_NO_ENTRY"),
                ComponentError::OtherVersion(_) => (Code::InvalidArgument, "COMPONENT_VERSION"),
                ComponentError::Schema(_) => (Code::InvalidArgument, "DESCRIPTORS_INVALID"),
            },
        },
        DispatchError::Call(call) => match call {
            CallError::NoService { .. } => (Code::Unimplemented, "NO_SERVICE"),
            CallError::NoMethod { .. } => (Code::Unimplemented, "NO_METHOD"),
            CallError::Streaming { .. } => (Code::Unimplemented, "STREAMING"),
            CallError::Ambiguous { .. } => (Code::FailedPrecondition, "AMBIGUOUS_SERVICE"),
            CallError::WrongInputType { .. } => (Code::InvalidArgument, "INPUT_TYPE"),
        },
        DispatchError::Exec(failure) => match &failure.error {
            ExecError::Deadline => (Code::DeadlineExceeded, "DEADLINE"),
            ExecError::Draining => (Code::Unavailable, "DRAINING"),
            ExecError::Busy => (Code::ResourceExhausted, "BUSY"),
            ExecError::Limit { reason, .. } => (Code::ResourceExhausted, reason),
            ExecError::Trap(_) => (Code::Unknown, "GUEST_TRAP"),
            ExecError::Exit { .. } => (Code::Unknown, "GUEST_EXIT"),
            ExecError::Unmetered => (Code::FailedPrecondition, "METERING_OFF"),
            ExecError::Imports(_) => (Code::FailedPrecondition, "IMPORTS_NOT_GRANTED"),
            ExecError::Compile(_) => (Code::FailedPrecondition, "CANNOT_COMPILE"),
            ExecError::Missing => (Code::NotFound, "ARTIFACT_NOT_FOUND"),
            ExecError::Internal(_) => (Code::Internal, "INTERNAL"),
        },
    }
}

/// A guest's own refusal: its code, its words made safe, its details without what poses as ours.
pub(super) fn fault(fault: Fault, receipt: &Receipt) -> Status {
    let message = one_line(cut(&fault.message, FAULT_MESSAGE_MAX), FAULT_MESSAGE_MAX);
    let code = Code::from_i32(fault.code.number());
    let mut status = match own_details(fault.code, &message, &fault.details) {
        Some(details) => Status::with_details(code, message, details),
        None => Status::new(code, message),
    };
    attach(status.metadata_mut(), receipt);
    status
}

/// The guest's details under the code and message that the caller sees; `None` where there are none worth sending.
fn own_details(code: FaultCode, message: &str, details: &[u8]) -> Option<Bytes> {
    if details.is_empty() || details.len() > FAULT_DETAILS_MAX {
        return None;
    }
    let said = tonic_types::pb::Status::decode(details).ok()?;
    let poses = |any: &prost_types::Any| {
        any.type_url.ends_with("/google.rpc.ErrorInfo")
            && tonic_types::pb::ErrorInfo::decode(&*any.value).is_ok_and(|info| info.domain == DOMAIN)
    };
    let details = said.details.into_iter().filter(|any| !poses(any)).collect();
    let status = tonic_types::pb::Status { code: code.number(), message: message.to_owned(), details };
    Some(status.encode_to_vec().into())
}

fn details(reason: &str, id: &RequestId) -> ErrorDetails {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_request_info(id.to_string(), "");
    details
}

/// Writes a receipt as metadata. Source: semantics.md section 1.
fn attach(metadata: &mut MetadataMap, receipt: &Receipt) {
    for (key, value) in receipt_pairs(receipt) {
        if let Ok(value) = MetadataValue::try_from(value) {
            metadata.insert(key, value);
        }
    }
}

/// A receipt as pairs of trailer name and value.
pub(super) fn receipt_pairs(receipt: &Receipt) -> Vec<(&'static str, String)> {
    let mut pairs = vec![
        ("collector-executor", receipt.executor.to_owned()),
        ("collector-digest", format!("sha256:{}", receipt.digest)),
        ("collector-peak-memory-bytes", receipt.peak_memory.to_string()),
        ("collector-queue-us", receipt.queued.as_micros().to_string()),
        ("collector-run-us", receipt.ran.as_micros().to_string()),
        ("collector-start", receipt.start.name().to_owned()),
    ];
    if let Some(fuel) = receipt.fuel {
        pairs.push(("collector-fuel", fuel.to_string()));
    }
    pairs
}

fn chain(why: &dyn std::error::Error) -> String {
    let mut text = why.to_string();
    let mut source = why.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    one_line(&text, 2_048)
}
