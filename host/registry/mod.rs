//! What services and methods there are, and the proof that a call fits one.
//!
//! For now a schema is what a component carries about itself; types registered per namespace come with the registry.

mod schema;

pub use schema::{Method, Schema, SchemaError, Service};

use crate::domain::{Call, one_line, some_of};
use crate::tenancy::Permit;

/// A call that fits its method. Only [`validate`] makes one.
#[derive(Debug)]
pub struct ValidCall {
    call: Call,
    service: String,
    output_type: Option<String>,
}

impl ValidCall {
    /// Full protobuf name of the reply message, where the schema is known.
    pub fn output_type(&self) -> Option<&str> {
        self.output_type.as_deref()
    }

    /// Full name of the service where the schema is known, else the name as given.
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The call itself.
    pub fn into_call(self) -> Call {
        self.call
    }
}

/// A call that fits no method.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// No such service in the component.
    #[error("the component has no service {service}; it has {}", some_of(.known))]
    NoService {
        /// As asked for.
        service: String,
        /// What there is.
        known: Vec<String>,
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
}

/// Checks a permitted `call` against what the component says about itself. Without a schema every call fits.
pub fn validate(_permit: &Permit, call: Call, schema: Option<&Schema>) -> Result<ValidCall, CallError> {
    let Some(schema) = schema else {
        let service = call.service.as_str().to_owned();
        return Ok(ValidCall { call, service, output_type: None });
    };
    let service = find_service(schema, &call)?;
    let name = call.method.as_str();
    let Some(method) = service.methods.iter().find(|method| method.name == name) else {
        let known = service.methods.iter().map(|method| method.name.clone()).collect();
        return Err(CallError::NoMethod { service: service.name.clone(), method: name.to_owned(), known });
    };
    if method.streams() {
        return Err(CallError::Streaming { method: name.to_owned() });
    }
    if let Some(type_url) = &call.input_type_url {
        check_input_type(type_url, &method.input)?;
    }
    let (service, output_type) = (service.name.clone(), Some(method.output.clone()));
    Ok(ValidCall { call, service, output_type })
}

/// Any prefix before the last slash is allowed. Source: google/protobuf/any.proto.
fn check_input_type(type_url: &str, wanted: &str) -> Result<(), CallError> {
    if type_url.rsplit('/').next() == Some(wanted) {
        return Ok(());
    }
    let found = if type_url.is_empty() { "nothing".to_owned() } else { one_line(type_url, 256) };
    Err(CallError::WrongInputType { wanted: wanted.to_owned(), found })
}

fn find_service<'a>(schema: &'a Schema, call: &Call) -> Result<&'a Service, CallError> {
    let exact = schema.services().iter().find(|service| service.name == call.service.as_str());
    if let Some(service) = exact {
        return Ok(service);
    }
    let mut candidates = schema.services().iter().filter(|service| call.service.means(&service.name));
    let names = |services: &mut dyn Iterator<Item = &Service>| services.map(|s| s.name.clone()).collect();
    match (candidates.next(), candidates.next()) {
        (Some(only), None) => Ok(only),
        (None, _) => {
            Err(CallError::NoService { service: call.service.to_string(), known: names(&mut schema.services().iter()) })
        }
        (Some(one), Some(two)) => Err(CallError::Ambiguous {
            service: call.service.to_string(),
            candidates: names(&mut [one, two].into_iter().chain(candidates)),
        }),
    }
}

#[cfg(test)]
mod tests;
