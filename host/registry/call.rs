//! The proof that a call fits a method.

use super::Schema;
use super::service::{Method, MethodRef, Service};
use super::snapshot::Snapshot;
use super::wire::WireError;
use crate::domain::{Call, MethodName, ServiceName, first_of, one_line, some_of};
use crate::tenancy::Permit;
use std::sync::Arc;

/// A call that fits its method. Only [`validate`] makes one.
#[derive(Debug)]
pub struct ValidCall {
    call: Call,
    method: Option<MethodRef>,
}

impl ValidCall {
    /// The method, where its types are known.
    pub fn method(&self) -> Option<&MethodRef> {
        self.method.as_ref()
    }

    /// Full name of the service where it is known, else the name as given.
    pub fn service(&self) -> &str {
        self.method.as_ref().map_or(self.call.service.as_str(), |method| &method.service().name)
    }

    /// The call itself.
    pub fn into_call(self) -> Call {
        self.call
    }
}

/// A call that fits no method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No such service.
    #[error("there is no service {service} here; there is {known}")]
    NoService {
        /// As asked for.
        service: String,
        /// Some of what there is.
        known: String,
    },
    /// A short name that several services end in.
    #[error("service {service} is ambiguous, say which: {}", some_of(.candidates))]
    Ambiguous {
        /// As asked for.
        service: String,
        /// Their full names.
        candidates: Vec<String>,
    },
    /// No such method in the service.
    #[error("service {service} has no method {method}; it has {}", some_of(.known))]
    NoMethod {
        /// Full name of the service.
        service: String,
        /// As asked for.
        method: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A streaming method cannot be called through a unary RPC.
    #[error("method {method} streams, which needs a native gRPC call")]
    Streaming {
        /// As asked for.
        method: String,
    },
    /// The input is said to be of another type.
    #[error("the method takes {wanted}, but input.type_url names {found}")]
    WrongInputType {
        /// Full name of the request message.
        wanted: String,
        /// What the `Any` said.
        found: String,
    },
    /// The input does not decode as the method's request message.
    #[error("the request is no {wanted}: {}", problem_at(.field, .problem))]
    BadInput {
        /// Full name of the request message.
        wanted: String,
        /// Dotted path of the field; empty for the message itself.
        field: String,
        /// What is wrong there.
        problem: String,
    },
}

fn problem_at(field: &str, problem: &str) -> String {
    if field.is_empty() { problem.to_owned() } else { format!("{field}: {problem}") }
}

impl CallError {
    pub(super) fn no_service<'a>(name: &ServiceName, known: impl ExactSizeIterator<Item = &'a str>) -> Self {
        Self::NoService { service: name.to_string(), known: first_of(known) }
    }

    pub(super) fn no_method(service: &Service, method: &MethodName) -> Self {
        let known = service.methods.iter().map(|method| method.name.clone()).collect();
        Self::NoMethod { service: service.name.to_string(), method: method.to_string(), known }
    }

    fn bad_input(method: &Method, why: WireError) -> Self {
        Self::BadInput { wanted: method.input.name().to_owned(), field: why.field, problem: why.problem }
    }
}

/// Checks one message to a method against the method's request type.
pub fn check_input(method: &Method, input: &[u8]) -> Result<(), CallError> {
    method.input.check(input).map_err(|why| CallError::bad_input(method, why))
}

/// A reply that does not decode as its method's reply message. The guest's mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plugin's reply is no {wanted}: {}", problem_at(.field, .problem))]
pub struct OutputError {
    /// Full name of the reply message.
    pub wanted: String,
    /// Dotted path of the field; empty for the message itself.
    pub field: String,
    /// What is wrong there.
    pub problem: String,
}

/// Checks one message of a method's answer against the method's reply type.
pub fn check_output(method: &Method, output: &[u8]) -> Result<(), OutputError> {
    method.output.check(output).map_err(|why| OutputError {
        wanted: method.output.name().to_owned(),
        field: why.field,
        problem: why.problem,
    })
}

/// Checks a permitted unary `call`: against what the component says about itself if it says anything, else against what
/// is registered. Where neither knows the service every call fits.
pub fn validate(
    _permit: &Permit,
    call: Call,
    schema: Option<&Schema>,
    snapshot: &Snapshot,
) -> Result<ValidCall, CallError> {
    let found = match schema {
        Some(schema) => schema.find_method(&call.service, &call.method),
        None => snapshot.find_method(&call.service, &call.method),
    };
    let method = match found {
        Ok(method) => method,
        Err(CallError::NoService { .. }) if schema.is_none() => return Ok(ValidCall { call, method: None }),
        Err(why) => return Err(why),
    };
    check_call(&call, method.method())?;
    Ok(ValidCall { call, method: Some(method) })
}

fn check_call(call: &Call, method: &Method) -> Result<(), CallError> {
    if method.streams() {
        return Err(CallError::Streaming { method: method.name.clone() });
    }
    if let Some(type_url) = &call.input_type_url {
        check_input_type(type_url, method.input.name())?;
    }
    check_input(method, &call.input)
}

/// Any prefix before the last slash is allowed. Source: google/protobuf/any.proto.
fn check_input_type(type_url: &str, wanted: &str) -> Result<(), CallError> {
    if type_url.rsplit('/').next() == Some(wanted) {
        return Ok(());
    }
    let found = if type_url.is_empty() { "nothing".to_owned() } else { one_line(type_url, 256) };
    Err(CallError::WrongInputType { wanted: wanted.to_owned(), found })
}

/// Picks the one service among `services` that `name` means.
pub(super) fn pick<'a>(services: &'a [Arc<Service>], name: &ServiceName) -> Result<&'a Arc<Service>, CallError> {
    if let Some(exact) = services.iter().find(|service| &*service.name == name.as_str()) {
        return Ok(exact);
    }
    let names = |services: &mut dyn Iterator<Item = &Arc<Service>>| services.map(|s| s.name.to_string()).collect();
    let mut candidates = services.iter().filter(|service| name.means(&service.name));
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => Err(CallError::no_service(name, services.iter().map(|service| &*service.name))),
        (Some(one), Some(two)) => Err(CallError::Ambiguous {
            service: name.to_string(),
            candidates: names(&mut [one, two].into_iter().chain(candidates)),
        }),
    }
}
