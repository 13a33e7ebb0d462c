//! From a call's service and method name to the code that answers it.

use crate::{Context, Exchange, Fault, codegen};

/// A service that a plugin serves. `collector-guest-build` makes one for every service of a `.proto` file
/// (`GreeterService<Hello>`); a plugin without a `.proto` file implements it by hand:
///
/// ```
/// use collector_guest::{Context, Fault, Plugin};
///
/// /// Answers every method with the request.
/// struct Echo;
///
/// impl Plugin for Echo {
///     const NAME: &'static str = "echo.v1.Echo";
///     fn call(_: &Context, _method: &str, input: &[u8]) -> Result<Vec<u8>, Fault> {
///         Ok(input.to_vec())
///     }
/// }
///
/// collector_guest::export!(Echo);
///
/// let context = Context::new("acme", Echo::NAME, "Anything");
/// assert_eq!(Echo::call(&context, "Anything", b"hello").unwrap(), b"hello");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a service that can be exported",
    note = "export the type that was made for the service: `collector_guest::export!(GreeterService<{Self}>)`",
    note = "without a `.proto` file, implement `collector_guest::Plugin` for it"
)]
pub trait Plugin {
    /// Full protobuf name of the service, `greeter.v1.Greeter`.
    const NAME: &'static str;

    /// Answers one unary call. An instance serves one call, so there is no `self` to keep state in.
    /// * `method`: simple name, `SayHello`.
    /// * `input`: the encoded request message.
    /// * returns: the encoded reply message.
    fn call(context: &Context, method: &str, input: &[u8]) -> Result<Vec<u8>, Fault>;

    /// Answers one streaming call, whichever direction streams. Without it every method is unary.
    /// * `exchange`: the encoded messages, in and out. A method that takes one request reads it from there, and one that
    ///   gives one reply sends it there.
    fn stream(context: &Context, method: &str, exchange: &Exchange) -> Result<(), Fault> {
        let _ = (context, exchange);
        Err(codegen::no_stream(Self::NAME, method))
    }
}

/// What [`Plugin::call`] is.
type Call = fn(&Context, &str, &[u8]) -> Result<Vec<u8>, Fault>;
/// What [`Plugin::stream`] is. A native command never streams.
#[cfg(any(target_family = "wasm", test))]
type Stream = fn(&Context, &str, &Exchange) -> Result<(), Fault>;

/// One exported service, as data.
#[doc(hidden)]
#[derive(Clone, Copy, Debug)]
pub struct Route {
    name: &'static str,
    call: Call,
    #[cfg(any(target_family = "wasm", test))]
    stream: Stream,
}

impl Route {
    /// The route to `P`.
    #[must_use]
    pub const fn to<P: Plugin>() -> Self {
        Self {
            name: P::NAME,
            call: P::call,
            #[cfg(any(target_family = "wasm", test))]
            stream: P::stream,
        }
    }
}

/// Answers a unary call by the service that the context names.
pub(crate) fn dispatch(routes: &[Route], context: &Context, input: &[u8]) -> Result<Vec<u8>, Fault> {
    (route(routes, context)?.call)(context, context.method(), input)
}

/// Answers a streaming call by the service that the context names.
#[cfg(any(target_family = "wasm", test))]
pub(crate) fn dispatch_stream(routes: &[Route], context: &Context, exchange: &Exchange) -> Result<(), Fault> {
    (route(routes, context)?.stream)(context, context.method(), exchange)
}

/// The service that the context names: by its full name, else by its last segment, which is all that a caller without
/// descriptors may know.
fn route<'a>(routes: &'a [Route], context: &Context) -> Result<&'a Route, Fault> {
    let service = context.service();
    let full = routes.iter().find(|route| route.name == service);
    full.or_else(|| routes.iter().find(|route| last_segment(route.name) == service))
        .ok_or_else(|| unknown_service(routes, service))
}

fn last_segment(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn unknown_service(routes: &[Route], service: &str) -> Fault {
    let names: Vec<&str> = routes.iter().map(|route| route.name).collect();
    Fault::unimplemented(["this plugin has no service ", service, "; it has ", &names.join(", ")].concat())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Answers with its name, the method's name, and the input.
    pub(crate) struct Say<const SERVICE: char>;

    impl Plugin for Say<'a'> {
        const NAME: &'static str = "say.v1.A";
        fn call(context: &Context, method: &str, input: &[u8]) -> Result<Vec<u8>, Fault> {
            say(Self::NAME, context, method, input)
        }
    }

    impl Plugin for Say<'b'> {
        const NAME: &'static str = "say.v1.B";
        fn call(context: &Context, method: &str, input: &[u8]) -> Result<Vec<u8>, Fault> {
            say(Self::NAME, context, method, input)
        }
        fn stream(_: &Context, method: &str, exchange: &Exchange) -> Result<(), Fault> {
            exchange.send(&[Self::NAME.as_bytes(), b"/", method.as_bytes()].concat())
        }
    }

    fn say(name: &str, context: &Context, method: &str, input: &[u8]) -> Result<Vec<u8>, Fault> {
        assert_eq!(method, context.method());
        match method {
            "Fail" => Err(Fault::failed_precondition("told\nto fail")),
            _ => Ok([name.as_bytes(), b"/", method.as_bytes(), b" ", input].concat()),
        }
    }

    pub(crate) const ROUTES: &[Route] = &[Route::to::<Say<'a'>>(), Route::to::<Say<'b'>>()];

    fn answer(service: &str) -> Result<Vec<u8>, Fault> {
        dispatch(ROUTES, &Context::new("acme", service, "M"), b"x")
    }

    #[test]
    fn a_call_goes_to_the_service_it_names() {
        assert_eq!(answer("say.v1.A").unwrap(), b"say.v1.A/M x");
        assert_eq!(answer("say.v1.B").unwrap(), b"say.v1.B/M x");
    }

    #[test]
    fn a_streaming_call_goes_there_too() {
        let exchange = Exchange::of([]);
        dispatch_stream(ROUTES, &Context::new("acme", "B", "M"), &exchange).unwrap();
        assert_eq!(exchange.sent(), [b"say.v1.B/M"]);
    }

    #[test]
    fn a_service_does_not_stream_unless_it_says_so() {
        let fault = dispatch_stream(ROUTES, &Context::new("acme", "A", "M"), &Exchange::of([])).unwrap_err();
        assert_eq!(fault.to_string(), "UNIMPLEMENTED: say.v1.A/M does not stream: it takes one message and gives one");
    }

    #[test]
    fn the_last_segment_of_a_name_will_do() {
        assert_eq!(answer("B").unwrap(), b"say.v1.B/M x");
    }

    #[test]
    fn another_service_is_unimplemented() {
        for service in ["say.v2.A", "v1.A", "C", ""] {
            let fault = answer(service).unwrap_err();
            assert_eq!(fault.code(), crate::Code::Unimplemented);
            assert!(fault.message().ends_with("it has say.v1.A, say.v1.B"), "{fault}");
        }
    }
}
