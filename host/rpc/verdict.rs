//! Which gRPC code, and which stable reason, each of our errors is. No `_` arm: a new error does not compile until it has
//! both.

use super::mesh::Handover;
use crate::collections::CollectionError;
use crate::dispatch::DispatchError;
use crate::dispatch::artifacts::{ArtifactError, ComponentError, ElfError};
use crate::dispatch::deployments::DeployError;
use crate::dispatch::placing::{FetchError, PlaceError};
use crate::exec::ExecError;
use crate::mesh::{NoRoute, PeerError};
use crate::registry::{CallError, RegistryError, VetError};
use crate::store::{Refusal, StoreError};
use crate::tenancy::audit::Unrecorded;
use crate::tenancy::{BadGrant, KeyError, NamespaceError, Refused, SecretError};
use tonic::Code;

/// Code and `ErrorInfo.reason`.
pub(super) type Verdict = (Code, &'static str);
/// Reason of what a guest said: the code is its own, INTERNAL of it is no bug of ours.
pub(super) const FAULT: &str = "FAULT";
/// Reason of what a peer answered that is no answer.
pub(super) const PEER_REPLY: &str = "PEER_REPLY";

/// Of whatever is used up, wherever that is found out.
const QUOTA: Verdict = (Code::ResourceExhausted, "QUOTA");

pub(super) fn namespace(why: &NamespaceError) -> Verdict {
    match why {
        NamespaceError::Refused(why) => refused(why),
        NamespaceError::Exists => (Code::AlreadyExists, "NAMESPACE_EXISTS"),
        NamespaceError::NotFound => (Code::NotFound, "NAMESPACE_NOT_FOUND"),
        NamespaceError::Quota(_) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        NamespaceError::TooMany(_) => (Code::ResourceExhausted, "TOO_MANY"),
        NamespaceError::Store(why) => store(why),
        NamespaceError::Draining => (Code::Unavailable, "DRAINING"),
    }
}

pub(super) fn peer(why: &PeerError) -> Verdict {
    match why {
        PeerError::Refused(why) => refused(why),
        PeerError::Field(_) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        PeerError::Nobody => (Code::FailedPrecondition, "AUTH_OFF"),
        PeerError::Ground(_) => (Code::FailedPrecondition, "NO_IDENTITIES"),
        PeerError::Configured => (Code::FailedPrecondition, "PEER_CONFIGURED"),
        PeerError::Taken => (Code::AlreadyExists, "PEER_EXISTS"),
        PeerError::NotFound => (Code::NotFound, "PEER_NOT_FOUND"),
        PeerError::TooMany => (Code::ResourceExhausted, "TOO_MANY"),
        PeerError::Store(why) => store(why),
        PeerError::Draining => (Code::Unavailable, "DRAINING"),
    }
}

pub(super) fn dispatch(why: &DispatchError) -> Verdict {
    match why {
        DispatchError::Refused(why) => refused(why),
        DispatchError::NotDeployed => (Code::NotFound, "NOT_DEPLOYED"),
        DispatchError::NoImplementation(_) => (Code::Unimplemented, "NO_IMPLEMENTATION"),
        DispatchError::Draining => (Code::Unavailable, "DRAINING"),
        DispatchError::Output { .. } => (Code::Unknown, "OUTPUT_TYPE"),
        DispatchError::Replies { .. } => (Code::Unknown, "OUTPUT_COUNT"),
        DispatchError::Requests(fault) => (Code::from_i32(fault.code.number()), "REQUESTS_ENDED"),
        DispatchError::Gone => (Code::Cancelled, "CALLER_GONE"),
        DispatchError::Artifact(why) => artifact(why),
        DispatchError::Call(why) => call(why),
        DispatchError::Exec(failure) => exec(&failure.error),
    }
}

pub(super) fn handover(why: &Handover) -> Verdict {
    match why {
        Handover::Route(why) => match why {
            NoRoute::Unlinked => (Code::NotFound, "NO_CONNECTION"),
            NoRoute::Nobody => (Code::NotFound, "NO_COLLECTOR"),
            NoRoute::NoMethod { .. } => (Code::Unimplemented, "NO_METHOD"),
            NoRoute::Ambiguous { .. } => (Code::FailedPrecondition, "AMBIGUOUS_SERVICE"),
            NoRoute::Hops => (Code::FailedPrecondition, "HOPS"),
            NoRoute::Visited => (Code::FailedPrecondition, "VISITED"),
            NoRoute::Away => (Code::Unavailable, "PEER_LOST"),
        },
        Handover::NeverBegan | Handover::Lost => (Code::Unavailable, "PEER_LOST"),
        // Another's mistake, and no damage of ours: it is not for this node's operator to look at.
        Handover::Reply(_) | Handover::Unfit(_) => (Code::DataLoss, PEER_REPLY),
        Handover::Deadline => (Code::DeadlineExceeded, "DEADLINE"),
        Handover::Said(status) | Handover::Request(status) => (status.code(), "PEER"),
    }
}

pub(super) fn refused(why: &Refused) -> Verdict {
    match why {
        Refused::Forbidden => (Code::PermissionDenied, "DENIED"),
        Refused::Quota(_) => QUOTA,
        Refused::Unrecorded(Unrecorded::Full) => (Code::ResourceExhausted, "DISK_FULL"),
        Refused::Unrecorded(Unrecorded::Failed) => (Code::Unavailable, "AUDIT"),
    }
}

pub(super) fn key(why: &KeyError) -> Verdict {
    match why {
        KeyError::Off => (Code::FailedPrecondition, "AUTH_OFF"),
        KeyError::NoTokens => (Code::FailedPrecondition, "NO_TOKENS"),
        KeyError::Refused(why) => refused(why),
        KeyError::NotFound => (Code::NotFound, "KEY_NOT_FOUND"),
        KeyError::Field { .. } => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        KeyError::TooMany { .. } => (Code::ResourceExhausted, "TOO_MANY"),
        KeyError::Draining => (Code::Unavailable, "DRAINING"),
        KeyError::Random => (Code::Internal, "INTERNAL"),
        KeyError::Store(why) => store(why),
    }
}

pub(super) fn call(why: &CallError) -> Verdict {
    match why {
        CallError::NoService { .. } => (Code::Unimplemented, "NO_SERVICE"),
        CallError::NoMethod { .. } => (Code::Unimplemented, "NO_METHOD"),
        CallError::Streaming { .. } => (Code::Unimplemented, "STREAMING"),
        CallError::Ambiguous { .. } => (Code::FailedPrecondition, "AMBIGUOUS_SERVICE"),
        CallError::WrongInputType { .. } | CallError::BadInput { .. } => (Code::InvalidArgument, "INPUT_TYPE"),
    }
}

pub(super) fn artifact(why: &ArtifactError) -> Verdict {
    match why {
        ArtifactError::Empty => (Code::InvalidArgument, "ARTIFACT_EMPTY"),
        ArtifactError::TooLarge { .. } => (Code::ResourceExhausted, "ARTIFACT_TOO_LARGE"),
        ArtifactError::NotRunnable(_) => (Code::InvalidArgument, "ARTIFACT_KIND"),
        ArtifactError::Refused(why) => exec(why),
        ArtifactError::Elf(ElfError::Schema(_)) => (Code::InvalidArgument, "DESCRIPTORS_INVALID"),
        ArtifactError::Elf(
            ElfError::Foreign(_)
            | ElfError::NoProgram(_)
            | ElfError::Dynamic(_)
            | ElfError::Truncated { .. }
            | ElfError::Malformed(_),
        ) => (Code::InvalidArgument, "NATIVE_INVALID"),
        ArtifactError::Busy => (Code::ResourceExhausted, "BUSY"),
        ArtifactError::Full => (Code::ResourceExhausted, "DISK_FULL"),
        ArtifactError::NotFound => (Code::NotFound, "ARTIFACT_NOT_FOUND"),
        ArtifactError::Io(_) => (Code::Internal, "STORAGE"),
        ArtifactError::Component(component) => match component {
            ComponentError::Invalid(_) | ComponentError::TooMuch(_) => (Code::InvalidArgument, "COMPONENT_INVALID"),
            ComponentError::NoEntry(_) => (Code::InvalidArgument, "COMPONENT_NO_ENTRY"),
            ComponentError::OtherVersion(_) => (Code::InvalidArgument, "COMPONENT_VERSION"),
            ComponentError::Schema(_) => (Code::InvalidArgument, "DESCRIPTORS_INVALID"),
        },
    }
}

pub(super) fn exec(why: &ExecError) -> Verdict {
    match why {
        ExecError::Deadline => (Code::DeadlineExceeded, "DEADLINE"),
        ExecError::Idle(_) => (Code::DeadlineExceeded, "STREAM_IDLE"),
        ExecError::Draining => (Code::Unavailable, "DRAINING"),
        ExecError::Busy => (Code::ResourceExhausted, "BUSY"),
        ExecError::TooDeep(_) => (Code::ResourceExhausted, "CALL_DEPTH"),
        ExecError::Quota(_) => QUOTA,
        ExecError::Limit { reason, .. } | ExecError::CompileLimit { reason, .. } => (Code::ResourceExhausted, reason),
        ExecError::Trap(_) => (Code::Unknown, "GUEST_TRAP"),
        ExecError::Exit { .. } => (Code::Unknown, "GUEST_EXIT"),
        ExecError::Signal { .. } => (Code::Unknown, "GUEST_EXIT"),
        ExecError::NativeOff(_) => (Code::FailedPrecondition, "NATIVE_OFF"),
        ExecError::Unavailable(_) => (Code::FailedPrecondition, "EXECUTOR_UNAVAILABLE"),
        ExecError::ImageNotAllowed => (Code::PermissionDenied, "IMAGE_NOT_ALLOWED"),
        ExecError::Pull(_) => (Code::Unavailable, "IMAGE_PULL"),
        ExecError::Image(_) => (Code::FailedPrecondition, "IMAGE_UNUSABLE"),
        ExecError::Broken(_) => (Code::Unavailable, "EXECUTOR_FAILED"),
        ExecError::NoStreaming => (Code::Unimplemented, "NO_STREAMING"),
        ExecError::Unmetered => (Code::FailedPrecondition, "METERING_OFF"),
        ExecError::Imports(_) => (Code::FailedPrecondition, "IMPORTS_NOT_GRANTED"),
        ExecError::Compile(_) => (Code::FailedPrecondition, "CANNOT_COMPILE"),
        ExecError::Missing => (Code::NotFound, "ARTIFACT_NOT_FOUND"),
        ExecError::Internal(_) => (Code::Internal, "INTERNAL"),
    }
}

pub(super) fn deploy(why: &DeployError) -> Verdict {
    match why {
        DeployError::Refused(why) => refused(why),
        DeployError::Artifact(why) => artifact(why),
        DeployError::Registry(why) => registry(why),
        DeployError::Exec(why) => exec(why),
        DeployError::Imports(_) => (Code::FailedPrecondition, "IMPORTS_NOT_GRANTED"),
        DeployError::Grant(BadGrant::TooMany) => (Code::ResourceExhausted, "TOO_MANY"),
        DeployError::Grant(BadGrant::Unknown(_)) => (Code::NotFound, "GRANT_NOT_FOUND"),
        DeployError::Grant(BadGrant::Kind(_) | BadGrant::Name { .. } | BadGrant::Part { .. }) => {
            (Code::InvalidArgument, "INVALID_ARGUMENT")
        }
        DeployError::NoServices => (Code::FailedPrecondition, "NO_SERVICES"),
        DeployError::NotRegistered(_) => (Code::FailedPrecondition, "NOT_REGISTERED"),
        DeployError::ServicesGiven | DeployError::Name(_) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        DeployError::BuiltIn(_) => (Code::PermissionDenied, "BUILT_IN"),
        DeployError::Served { .. } => (Code::AlreadyExists, "SERVICE_TAKEN"),
        DeployError::TooMany(_) | DeployError::TooLarge(_) => (Code::ResourceExhausted, "TOO_MANY"),
        DeployError::NotFound => (Code::NotFound, "DEPLOYMENT_NOT_FOUND"),
        DeployError::NoVersion { .. } => (Code::NotFound, "VERSION_NOT_FOUND"),
        DeployError::IsActive(_) => (Code::FailedPrecondition, "VERSION_ACTIVE"),
        DeployError::Internal(_) => (Code::Internal, "INTERNAL"),
    }
}

pub(super) fn place(why: &PlaceError) -> Verdict {
    match why {
        PlaceError::Deploy(why) => deploy(why),
        PlaceError::Taken(_) => (Code::AlreadyExists, "DEPLOYMENT_EXISTS"),
        PlaceError::Fetch(FetchError::Other) => (Code::FailedPrecondition, "FETCH_OTHER"),
        PlaceError::Fetch(FetchError::NoLink) => (Code::FailedPrecondition, "NO_LINK"),
        PlaceError::Fetch(FetchError::Lost) => (Code::Unavailable, "FETCH_LOST"),
        PlaceError::Fetch(FetchError::Refused(_)) => (Code::Unavailable, "FETCH_REFUSED"),
        PlaceError::Fetch(FetchError::Slow) => (Code::Unavailable, "FETCH_SLOW"),
        PlaceError::Fetch(FetchError::Altered) => (Code::DataLoss, "FETCH_ALTERED"),
    }
}

pub(super) fn secret(why: &SecretError) -> Verdict {
    match why {
        SecretError::Value => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        SecretError::TooMany => (Code::ResourceExhausted, "TOO_MANY"),
        SecretError::NotFound => (Code::NotFound, "SECRET_NOT_FOUND"),
        SecretError::Store(why) => store(why),
        SecretError::Internal => (Code::Internal, "INTERNAL"),
    }
}

pub(super) fn registry(why: &RegistryError) -> Verdict {
    match why {
        RegistryError::Vet(VetError::Reserved { .. }) | RegistryError::Reserved(_) => {
            (Code::PermissionDenied, "RESERVED_FILE")
        }
        RegistryError::Vet(VetError::TooLarge { .. } | VetError::Invalid(_)) | RegistryError::Invalid(_) => {
            (Code::InvalidArgument, "DESCRIPTORS_INVALID")
        }
        RegistryError::MissingImport { .. } => (Code::InvalidArgument, "MISSING_IMPORT"),
        RegistryError::UnresolvedType { .. } => (Code::InvalidArgument, "UNRESOLVED_TYPE"),
        RegistryError::ServiceDiffers(_) => (Code::InvalidArgument, "SERVICE_DIFFERS"),
        RegistryError::Taken { .. } => (Code::AlreadyExists, "SYMBOL_TAKEN"),
        RegistryError::Breaking(_) => (Code::FailedPrecondition, "BREAKING_CHANGE"),
        RegistryError::AmbiguousFile { .. } => (Code::FailedPrecondition, "AMBIGUOUS_FILE"),
        RegistryError::TooMany { .. } => (Code::ResourceExhausted, "TOO_MANY"),
        RegistryError::Busy => (Code::ResourceExhausted, "BUSY"),
        RegistryError::Store(why) => store(why),
        RegistryError::Internal(_) => (Code::Internal, "INTERNAL"),
    }
}

pub(super) fn collection(why: &CollectionError) -> Verdict {
    match why {
        CollectionError::Refused(why) => refused(why),
        CollectionError::NoCollection(_) => (Code::NotFound, "COLLECTION_NOT_FOUND"),
        CollectionError::CollectionExists(_) => (Code::AlreadyExists, "COLLECTION_EXISTS"),
        CollectionError::NoRecord(_) => (Code::NotFound, "RECORD_NOT_FOUND"),
        CollectionError::RecordExists(_) => (Code::AlreadyExists, "RECORD_EXISTS"),
        CollectionError::Changed(_) => (Code::Aborted, "CONFLICT"),
        CollectionError::Field(_) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        CollectionError::Operation { why, .. } => collection(why),
        CollectionError::TooMany { .. } => (Code::ResourceExhausted, "TOO_MANY"),
        CollectionError::NoFullText => (Code::FailedPrecondition, "NO_FULL_TEXT"),
        CollectionError::NoVector => (Code::FailedPrecondition, "NO_VECTOR"),
        // NOT_FOUND, as Serve has it: the caller asks for an implementation by name, not for a path.
        CollectionError::Run { why, .. } => match &**why {
            DispatchError::NoImplementation(_) => (Code::NotFound, "NO_IMPLEMENTATION"),
            other => dispatch(other),
        },
        CollectionError::Faulted { fault, .. } => (Code::from_i32(fault.code.number()), FAULT),
        CollectionError::AmbiguousMethod(_) => (Code::FailedPrecondition, "AMBIGUOUS_METHOD"),
        CollectionError::NoMethod(_) => (Code::Unimplemented, "NO_METHOD"),
        CollectionError::KeyReused => (Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED"),
        CollectionError::Deadline => (Code::DeadlineExceeded, "DEADLINE"),
        CollectionError::Draining => (Code::Unavailable, "DRAINING"),
        CollectionError::Store(why) => store(why),
        CollectionError::Internal(_) => (Code::Internal, "INTERNAL"),
    }
}

pub(super) fn store(why: &StoreError) -> Verdict {
    match why {
        StoreError::Over(_) => QUOTA,
        StoreError::Busy => (Code::ResourceExhausted, "BUSY"),
        StoreError::Refused { why, .. } => match why {
            Refusal::Exists => (Code::AlreadyExists, "RECORD_EXISTS"),
            Refusal::Missing => (Code::NotFound, "RECORD_NOT_FOUND"),
            Refusal::Changed => (Code::Aborted, "CONFLICT"),
            Refusal::NoCollection => (Code::NotFound, "COLLECTION_NOT_FOUND"),
        },
        StoreError::Reused => (Code::FailedPrecondition, "IDEMPOTENCY_KEY_REUSED"),
        StoreError::NoCollection => (Code::NotFound, "COLLECTION_NOT_FOUND"),
        StoreError::CollectionExists => (Code::AlreadyExists, "COLLECTION_EXISTS"),
        StoreError::Deadline => (Code::DeadlineExceeded, "DEADLINE"),
        StoreError::Invalid(_) => (Code::InvalidArgument, "INVALID_ARGUMENT"),
        StoreError::Full => (Code::ResourceExhausted, "DISK_FULL"),
        StoreError::ReadOnly => (Code::FailedPrecondition, "READ_ONLY"),
        StoreError::Corrupt(_) => (Code::DataLoss, "DAMAGED"),
        StoreError::Newer { .. } => (Code::FailedPrecondition, "NEWER_DATA"),
        StoreError::Io(_) => (Code::Internal, "STORAGE"),
        StoreError::Closed => (Code::Unavailable, "DRAINING"),
    }
}

/// A gRPC code in a message body: by name, the numbers differ. Source: proto/collector/common.proto.
pub(super) fn in_body(code: Code) -> super::pb::status::Code {
    use super::pb::status::Code as Body;
    match code {
        Code::Ok => Body::Ok,
        Code::Cancelled => Body::Cancelled,
        Code::Unknown => Body::Unknown,
        Code::InvalidArgument => Body::InvalidArgument,
        Code::DeadlineExceeded => Body::DeadlineExceeded,
        Code::NotFound => Body::NotFound,
        Code::AlreadyExists => Body::AlreadyExists,
        Code::PermissionDenied => Body::PermissionDenied,
        Code::ResourceExhausted => Body::ResourceExhausted,
        Code::FailedPrecondition => Body::FailedPrecondition,
        Code::Aborted => Body::Aborted,
        Code::OutOfRange => Body::OutOfRange,
        Code::Unimplemented => Body::Unimplemented,
        Code::Internal => Body::Internal,
        Code::Unavailable => Body::Unavailable,
        Code::DataLoss => Body::DataLoss,
        Code::Unauthenticated => Body::Unauthenticated,
    }
}
