//! What generated code and [`export!`](crate::export) call. Not for people: it changes without notice.

use crate::stream::decode;
use crate::{Context, Exchange, Fault, Receiver, Sender};
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
    let request = decode("the request", type_name, input)?;
    method(context, request).map(|reply| reply.encode_to_vec())
}

/// Runs a method that takes one request and streams its replies. What may come after the request is not read.
pub fn server_streaming<I: Message + Default, O: Message>(
    type_name: &'static str,
    context: &Context,
    exchange: &Exchange,
    method: impl FnOnce(&Context, I, &mut Sender<O>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let input = exchange.next()?;
    let input =
        input.ok_or_else(|| Fault::invalid_argument(["the request, a ", type_name, ", did not come"].concat()))?;
    let request = decode("the request", type_name, &input)?;
    method(context, request, &mut Sender::of(exchange))
}

/// Runs a method that takes a stream of requests and gives one reply.
pub fn client_streaming<I: Message + Default, O: Message>(
    type_name: &'static str,
    context: &Context,
    exchange: &Exchange,
    method: impl FnOnce(&Context, &mut Receiver<I>) -> Result<O, Fault>,
) -> Result<(), Fault> {
    let reply = method(context, &mut Receiver::of(exchange, type_name))?;
    Sender::of(exchange).send(reply)
}

/// Runs a method that streams both ways.
pub fn bidirectional<I: Message + Default, O: Message>(
    type_name: &'static str,
    context: &Context,
    exchange: &Exchange,
    method: impl FnOnce(&Context, &mut Receiver<I>, &mut Sender<O>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    method(context, &mut Receiver::of(exchange, type_name), &mut Sender::of(exchange))
}

/// The fault for a unary call of a method that streams. A native command gives it too: its contract has one request and
/// one reply.
#[must_use]
pub fn streams(service: &str, method: &str) -> Fault {
    let why = " streams: it needs a streaming call, of the plugin as a component";
    Fault::unimplemented([service, "/", method, why].concat())
}

/// The fault for a streaming call of a method that does not stream.
#[must_use]
pub fn no_stream(service: &str, method: &str) -> Fault {
    Fault::unimplemented([service, "/", method, " does not stream: it takes one message and gives one"].concat())
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

    fn bytes(field: &str) -> Vec<u8> {
        FieldViolation { field: field.into(), ..Default::default() }.encode_to_vec()
    }

    fn watch(requests: &[&[u8]]) -> (Result<(), Fault>, Vec<Vec<u8>>) {
        let exchange = Exchange::of(requests.iter().map(|request| request.to_vec()));
        let context = Context::new("acme", "s", "M");
        let twice = |_: &Context, request: FieldViolation, replies: &mut Sender<FieldViolation>| {
            replies.send(request.clone())?;
            replies.send(request)
        };
        (server_streaming("google.rpc.FieldViolation", &context, &exchange, twice), exchange.sent())
    }

    #[test]
    fn a_server_stream_has_one_request() {
        assert_eq!(watch(&[&bytes("a")]), (Ok(()), vec![bytes("a"), bytes("a")]));
        let (none, sent) = watch(&[]);
        assert_eq!(
            none.unwrap_err().to_string(),
            "INVALID_ARGUMENT: the request, a google.rpc.FieldViolation, did not come"
        );
        let (wrong, also_sent) = watch(&[b"\x0a\x02\xff\xff"]);
        assert!(wrong.unwrap_err().message().starts_with("the request is no google.rpc.FieldViolation: "));
        assert!(sent.is_empty() && also_sent.is_empty());
    }

    #[test]
    fn a_client_stream_has_one_reply() {
        let exchange = Exchange::of([bytes("a"), bytes("b")]);
        let join = |_: &Context, requests: &mut Receiver<FieldViolation>| {
            let fields = requests.map(|request| Ok(request?.field)).collect::<Result<String, Fault>>()?;
            Ok(FieldViolation { field: fields, ..Default::default() })
        };
        client_streaming("google.rpc.FieldViolation", &Context::new("acme", "s", "M"), &exchange, join).unwrap();
        assert_eq!(exchange.sent(), [bytes("ab")]);
    }

    #[test]
    fn an_unknown_method_is_told_the_known_ones() {
        let fault = unknown_method("say.v1.A", "Nope", &["M", "N"]);
        assert_eq!(fault.to_string(), "UNIMPLEMENTED: say.v1.A has no method Nope; it has M, N");
    }
}
