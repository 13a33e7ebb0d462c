//! The one map from our errors to gRPC statuses.
//!
//! Two voices: the status text is for the tenant, the error chain goes to the log. Every failure carries an `ErrorInfo`
//! with a stable reason under the domain `collector`. Source: semantics.md section 1; google/rpc/error_details.proto.

use super::convert::BadRequest;
use super::edge::RequestId;
use super::mesh::{BEGAN, Handover};
use super::{pb, verdict};
use crate::collections::{BadField, CollectionError};
use crate::dispatch::DispatchError;
use crate::dispatch::artifacts::ArtifactError;
use crate::dispatch::deployments::DeployError;
use crate::dispatch::placing::PlaceError;
use crate::domain::{Exceeded, Fault, FaultCode, Receipt, cut, one_line};
use crate::exec::{ExecError, ExecFailure};
use crate::mesh::PeerError;
use crate::registry::{CallError, RegistryError};
use crate::store::StoreError;
use crate::tenancy::{KeyError, NamespaceError, Refused, SecretError};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
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
/// Longest name of a request's field: paths have keys of maps in them.
const FIELD_MAX: usize = 256;
/// Longest message of a guest's fault. It travels in a header, percent-encoded and once more inside the details.
const FAULT_MESSAGE_MAX: usize = 1_024;
/// Longest details of a guest's fault. Headers have 16 KiB altogether.
const FAULT_DETAILS_MAX: usize = 4_096;
/// Bytes of preconditions that a status names. gRPC's C core refuses more than 8 KiB of metadata at random, and base64
/// takes a third.
const UNMET_MAX: usize = 2_500;
/// When a refused call may try again: about one round of short calls later.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A failure with its reason and nothing more to say.
pub(super) fn plain(code: Code, reason: &str, message: impl Into<String>) -> Status {
    let details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, message, details)
}

/// A call by nobody that the node knows. The same for whatever is wrong: what it is would tell who guesses something.
pub(super) fn unauthenticated() -> Status {
    let message = "no credentials that this node accepts: send a key or a token as `authorization: Bearer ...`";
    plain(Code::Unauthenticated, "UNAUTHENTICATED", message)
}

/// A call that a peer handed over without a good statement. The same for whatever is wrong, too.
pub(super) fn not_forwarded() -> Status {
    let message = "the statement of a forwarded call is not good here";
    plain(Code::Unauthenticated, "UNAUTHENTICATED", message)
}

/// How an answer ends that was on its way.
pub(super) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from(i32::from(status.code())));
    }
    trailers
}

/// Says that nothing was begun for the call, so that a peer that handed it over may hand it to another.
pub(super) fn never_began(mut status: Status) -> Status {
    status.metadata_mut().insert(BEGAN, MetadataValue::from_static("no"));
    status
}

/// A call that other collectors did not answer.
pub(super) fn handover(why: Handover, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::handover(&why), &why, id);
    match why {
        // It was not begun here either, so whoever handed it over may ask another.
        Handover::Said(status) => never_began(*status),
        Handover::Request(status) => *status,
        Handover::Route(_) | Handover::NeverBegan => {
            if failure.code == Code::Unavailable {
                failure.retry();
            }
            never_began(failure.status())
        }
        Handover::Lost | Handover::Reply(_) | Handover::Unfit(_) | Handover::Deadline => failure.status(),
    }
}

/// The same of an answer that was on its way.
pub(super) fn handed_over(why: &Handover) -> Status {
    let (code, reason) = verdict::handover(why);
    plain(code, reason, why.to_string())
}

/// A call that is refused before anything is done for it: there are too many.
pub(super) fn overloaded() -> Status {
    let mut details = ErrorDetails::with_error_info("BUSY", DOMAIN, HashMap::new());
    details.set_retry_info(Some(RETRY_AFTER));
    Status::with_error_details(Code::ResourceExhausted, "the node has too many calls in flight; try again", details)
}

/// A request that is wrong in itself.
pub(super) fn bad_request(why: BadRequest, id: &RequestId) -> Status {
    // Paths and names in it are the caller's, and as long as a request.
    let message = one_line(&why.to_string(), MESSAGE_MAX);
    let (code, field, problem) = match why {
        BadRequest::Required(field) => (Code::InvalidArgument, field.to_owned(), "is required".to_owned()),
        BadRequest::Field { field, problem } => (Code::InvalidArgument, field, problem),
        BadRequest::ImageTag(field) => (Code::PermissionDenied, field.to_owned(), message.clone()),
        BadRequest::Scheme(_) => (Code::Unimplemented, "service_uri".to_owned(), message.clone()),
    };
    let reason = match code {
        Code::Unimplemented => "SCHEME_UNIMPLEMENTED",
        Code::PermissionDenied => "IMAGE_NOT_ALLOWED",
        _ => "INVALID_ARGUMENT",
    };
    let mut details = details(reason, id);
    details.add_bad_request_violation(one_line(&field, FIELD_MAX), one_line(&problem, MESSAGE_MAX));
    Status::with_error_details(code, message, details)
}

/// A call that got no answer.
pub(super) fn dispatch(why: DispatchError, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::dispatch(&why), &why, id);
    failure.explain_run(&why);
    failure.run(&why)
}

/// Something that was not done with a collection.
pub(super) fn collection(why: CollectionError, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::collection(&why), &why, id);
    failure.explain_collection(&why);
    match why {
        CollectionError::Run { why, .. } => failure.run(&why),
        CollectionError::Faulted { fault: said, receipt, .. } => {
            fault(Fault { message: failure.message, ..said }, &receipt)
        }
        _ => failure.status(),
    }
}

/// The same in a message body, of one operation among several. Source: proto/collector/common.proto.
pub(super) fn in_body(why: &CollectionError, id: &RequestId) -> pb::Status {
    let (code, reason) = verdict::collection(why);
    let Failure { message, .. } = Failure::new((code, reason), why, id);
    let details = HashMap::from([("reason".to_owned(), reason.to_owned())]);
    pb::Status { code: verdict::in_body(code).into(), message, details }
}

/// A registration that was refused.
pub(super) fn registry(why: RegistryError, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::registry(&why), &why, id);
    failure.explain(&why);
    failure.status()
}

/// A deployment that was refused.
pub(super) fn deploy(why: DeployError, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::deploy(&why), &why, id);
    match &why {
        DeployError::Registry(why) => failure.explain(why),
        DeployError::Refused(why) => failure.explain_refused(why),
        DeployError::Artifact(ArtifactError::Busy) => failure.retry(),
        DeployError::Exec(why) => failure.explain_exec(why),
        DeployError::Imports(missing) => failure.unmet("IMPORT", missing),
        DeployError::Grant(_) if failure.code == Code::InvalidArgument => failure.violation("grants"),
        _ => {}
    }
    failure.status()
}

/// Code that was not placed here.
pub(super) fn place(why: PlaceError, id: &RequestId) -> Status {
    match why {
        PlaceError::Deploy(why) => deploy(why, id),
        PlaceError::Fetch(_) | PlaceError::Taken(_) => Failure::new(verdict::place(&why), &why, id).status(),
    }
}

/// A caller who may not come in, or not now.
pub(super) fn refused(why: &Refused, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::refused(why), why, id);
    failure.explain_refused(why);
    failure.status()
}

/// Something that was not done with a key.
pub(super) fn key(why: KeyError, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::key(&why), &why, id);
    match &why {
        KeyError::Refused(why) => failure.explain_refused(why),
        KeyError::Field { field, problem } => {
            failure.details.add_bad_request_violation(*field, one_line(problem, MESSAGE_MAX));
        }
        KeyError::Draining | KeyError::Store(StoreError::Busy) => failure.retry(),
        _ => {}
    }
    failure.status()
}

/// Something that was not done with a namespace.
pub(super) fn namespace(why: &NamespaceError, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::namespace(why), why, id);
    match why {
        NamespaceError::Refused(why) => failure.explain_refused(why),
        NamespaceError::Quota(_) => failure.violation("quota"),
        NamespaceError::Store(why) => failure.explain_store(why),
        NamespaceError::Exists | NamespaceError::NotFound | NamespaceError::TooMany(_) | NamespaceError::Draining => {}
    }
    failure.status()
}

/// Something that was not done with a peer.
pub(super) fn peer(why: &PeerError, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::peer(why), why, id);
    match why {
        PeerError::Refused(why) => failure.explain_refused(why),
        PeerError::Field(why) => failure.violation(why.field),
        PeerError::Store(why) => failure.explain_store(why),
        PeerError::Draining => failure.retry(),
        _ => {}
    }
    failure.status()
}

/// A secret that was not set or deleted.
pub(super) fn secret(why: SecretError, id: &RequestId) -> Status {
    let mut failure = Failure::new(verdict::secret(&why), &why, id);
    match &why {
        SecretError::Value => failure.violation("value"),
        SecretError::Store(StoreError::Busy) => failure.retry(),
        _ => {}
    }
    failure.status()
}

/// Whether it is for the operator to look at. A guest may say INTERNAL of itself.
fn is_ours((code, reason): verdict::Verdict) -> bool {
    matches!(code, Code::Internal | Code::DataLoss) && ![verdict::FAULT, verdict::PEER_REPLY].contains(&reason)
}

/// A failure on its way to a status.
struct Failure {
    code: Code,
    message: String,
    details: ErrorDetails,
}

impl Failure {
    /// * `why`: its text is for the tenant, its sources for the log.
    fn new((code, reason): verdict::Verdict, why: &dyn std::error::Error, id: &RequestId) -> Self {
        if is_ours((code, reason)) {
            tracing::error!(request = %id, error = %chain(why), "internal error");
        }
        // Names and compilers' words in it are the tenant's: one line, and short enough for a header.
        let message = one_line(&why.to_string(), MESSAGE_MAX);
        Self { code, message, details: details(reason, id) }
    }

    fn retry(&mut self) {
        self.details.set_retry_info(Some(RETRY_AFTER));
    }

    /// Names the quota, and when to come back.
    fn quota(&mut self, over: &Exceeded) {
        let (name, scope) = (over.quota.to_owned(), over.scope.name().to_owned());
        let metadata = HashMap::from([
            ("quota".to_owned(), name.clone()),
            ("scope".to_owned(), scope.clone()),
            ("limit".to_owned(), over.limit.to_string()),
        ]);
        self.details.set_error_info("QUOTA", DOMAIN, metadata);
        self.details.add_quota_failure_violation(format!("{scope}:{name}"), &self.message);
        self.details.set_retry_info(Some(over.retry_after()));
    }

    fn explain_refused(&mut self, why: &Refused) {
        match why {
            Refused::Forbidden => {}
            Refused::Unrecorded(_) => self.retry(),
            Refused::Quota(over) => self.quota(over),
        }
    }

    fn explain_store(&mut self, why: &StoreError) {
        match why {
            StoreError::Busy => self.retry(),
            StoreError::Over(over) => self.quota(over),
            _ => {}
        }
    }

    fn explain_exec(&mut self, why: &ExecError) {
        match why {
            ExecError::Busy => self.retry(),
            ExecError::Quota(over) => self.quota(over),
            ExecError::Imports(missing) => self.unmet("IMPORT", missing),
            _ => {}
        }
    }

    fn violation(&mut self, field: &str) {
        self.details.add_bad_request_violation(field, &self.message);
    }

    /// Names what would have to be otherwise, as much of it as a header holds.
    fn unmet(&mut self, kind: &str, subjects: &[String]) {
        let mut room = UNMET_MAX;
        for subject in subjects {
            let subject = one_line(subject, 256);
            let Some(left) = room.checked_sub(subject.len() + 16) else { break };
            room = left;
            self.details.add_precondition_failure_violation(kind, subject, "");
        }
    }

    fn explain(&mut self, why: &RegistryError) {
        match why {
            RegistryError::Breaking(changes) => self.unmet("BREAKING_CHANGE", changes),
            RegistryError::Busy => self.retry(),
            RegistryError::Store(why) => self.explain_store(why),
            _ if self.code == Code::InvalidArgument => self.violation("file_descriptor"),
            _ => {}
        }
    }

    fn explain_run(&mut self, why: &DispatchError) {
        match why {
            DispatchError::Refused(why) => self.explain_refused(why),
            DispatchError::Exec(failure) => self.explain_exec(&failure.error),
            DispatchError::Artifact(ArtifactError::Busy) | DispatchError::Draining => self.retry(),
            DispatchError::Call(CallError::WrongInputType { .. }) => self.violation("input.type_url"),
            DispatchError::Call(CallError::BadInput { field, .. }) => self.violation(field),
            DispatchError::Artifact(_) if self.code == Code::InvalidArgument => self.violation("service_binary"),
            _ => {}
        }
    }

    fn explain_collection(&mut self, why: &CollectionError) {
        match why {
            CollectionError::Field(BadField { field, problem }) => {
                self.details.add_bad_request_violation(one_line(field, FIELD_MAX), one_line(problem, MESSAGE_MAX));
            }
            CollectionError::Operation { index, why } => match &**why {
                CollectionError::Field(BadField { field, problem }) => {
                    let field = one_line(&format!("operations[{index}].{field}"), FIELD_MAX);
                    self.details.add_bad_request_violation(field, one_line(problem, MESSAGE_MAX));
                }
                other => self.explain_collection(other),
            },
            CollectionError::Run { why, .. } => self.explain_run(why),
            CollectionError::Refused(why) => self.explain_refused(why),
            CollectionError::Store(why) => self.explain_store(why),
            CollectionError::Draining => self.retry(),
            _ => {}
        }
    }

    /// Of a run that took something: with its receipt.
    fn run(self, why: &DispatchError) -> Status {
        let mut status = self.status();
        if let DispatchError::Exec(ExecFailure { receipt: Some(receipt), .. })
        | DispatchError::Output { receipt: Some(receipt), .. }
        | DispatchError::Replies { receipt: Some(receipt), .. } = why
        {
            attach(status.metadata_mut(), receipt);
        }
        status
    }

    fn status(self) -> Status {
        Status::with_error_details(self.code, self.message, self.details)
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
        any.type_url.rsplit('/').next() == Some("google.rpc.ErrorInfo")
            && !tonic_types::pb::ErrorInfo::decode(&*any.value).is_ok_and(|info| info.domain != DOMAIN)
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
        ("collector-queue-us", receipt.queued.as_micros().to_string()),
        ("collector-run-us", receipt.ran.as_micros().to_string()),
        ("collector-start", receipt.start.name().to_owned()),
    ];
    if let Some(version) = receipt.version {
        pairs.push(("collector-version", version.to_string()));
    }
    if let Some(bytes) = receipt.peak_memory {
        pairs.push(("collector-peak-memory-bytes", bytes.to_string()));
    }
    if let Some(fuel) = receipt.fuel {
        pairs.push(("collector-fuel", fuel.to_string()));
    }
    pairs
}

/// Whether the value under this key is another one in every answer. HTTP/2 then has nothing to remember of it: an entry
/// in its table would push out one that comes again.
pub(super) fn is_fleeting(key: &str) -> bool {
    matches!(key, "collector-queue-us" | "collector-run-us" | "collector-peak-memory-bytes" | "collector-fuel")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_guest_says_of_itself_is_no_error_of_the_node() {
        assert!(is_ours((Code::Internal, "INTERNAL")) && is_ours((Code::DataLoss, "DAMAGED")));
        assert!(!is_ours((Code::Internal, verdict::FAULT)) && !is_ours((Code::Unknown, "GUEST_TRAP")));
    }
}
