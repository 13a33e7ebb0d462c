//! Calls of other services of the namespace: `collector plugin grant NAME dispatch=shop.v1.Orders`.

use crate::{Fault, stream};
use prost::Message;

/// Calls a unary method that another deployment answers.
///
/// ```no_run
/// # use collector_guest::prost;
/// # #[derive(Clone, PartialEq, prost::Message)]
/// # struct HelloRequest { #[prost(string, tag = "1")] name: String }
/// # #[derive(Clone, PartialEq, prost::Message)]
/// # struct HelloReply { #[prost(string, tag = "1")] text: String }
/// use collector_guest::dispatch;
///
/// let reply: HelloReply = dispatch::call("greeter.v1.Greeter", "SayHello", &HelloRequest { name: "Ann".into() })?;
/// # Ok::<_, collector_guest::Fault>(())
/// ```
///
/// * errors: the other handler's own fault, or why there is no answer; `RESOURCE_EXHAUSTED` inside of more than 8 calls.
pub fn call<Reply: Message + Default>(service: &str, method: &str, request: &impl Message) -> Result<Reply, Fault> {
    let reply = call_bytes(service, method, &request.encode_to_vec())?;
    stream::decode("the reply", "message of its type", &reply)
}

/// The same with encoded messages.
pub fn call_bytes(service: &str, method: &str, input: &[u8]) -> Result<Vec<u8>, Fault> {
    #[cfg(target_family = "wasm")]
    return crate::component::bindings::collector::plugin::dispatch::call(service, method, input).map_err(Fault::from);
    #[cfg(not(target_family = "wasm"))]
    {
        let _ = input;
        Err(crate::not_on_a_node(&["a call of ", service, "/", method].concat()))
    }
}
