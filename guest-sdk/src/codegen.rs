//! What generated code and [`export!`](crate::export) call. Not for people: it changes without notice.

use crate::{Context, Fault};
use prost::Message;

pub use crate::plugin::Route;

#[cfg(not(target_family = "wasm"))]
pub use crate::command::main as command_main;
#[cfg(target_family = "wasm")]
pub use crate::component::{Services, bindings};

/// Decodes the request, runs `method`, encodes the reply.
/// * `type_name`: full name of the request message, for the fault if `input` is none.
pub fn answer<I: Message + Default, O: Message>(
    type_name: &str,
    context: &Context,
    input: &[u8],
    method: impl FnOnce(&Context, I) -> Result<O, Fault>,
) -> Result<Vec<u8>, Fault> {
    let request = I::decode(input).map_err(|error| {
        Fault::invalid_argument(["the request is no ", type_name, ": ", &error.to_string()].concat())
    })?;
    method(context, request).map(|reply| reply.encode_to_vec())
}

/// The fault for a method that the service does not have.
#[must_use]
pub fn unknown_method(service: &str, method: &str, methods: &[&str]) -> Fault {
    Fault::unimplemented([service, " has no method ", method, "; it has ", &methods.join(", ")].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Code, rpc::FieldViolation};

    fn ask(input: &[u8]) -> Result<Vec<u8>, Fault> {
        answer("google.rpc.FieldViolation", &Context::new("acme", "s", "M"), input, |_, request: FieldViolation| {
            Ok(FieldViolation { field: request.field.to_uppercase(), ..Default::default() })
        })
    }

    #[test]
    fn a_request_is_decoded_and_its_reply_encoded() {
        assert_eq!(ask(b"\x0a\x03abc").unwrap(), b"\x0a\x03ABC");
    }

    #[test]
    fn a_request_that_is_none_names_its_type_and_field() {
        let fault = ask(b"\x0a\x02\xff\xff").unwrap_err();
        assert_eq!(fault.code(), Code::InvalidArgument);
        assert!(fault.message().starts_with("the request is no google.rpc.FieldViolation: "), "{fault}");
        assert!(fault.message().contains("FieldViolation.field"), "{fault}");
    }

    #[test]
    fn an_unknown_method_is_told_the_known_ones() {
        let fault = unknown_method("say.v1.A", "Nope", &["M", "N"]);
        assert_eq!(fault.to_string(), "UNIMPLEMENTED: say.v1.A has no method Nope; it has M, N");
    }
}
