//! Says hello, tells what it knows of a call, and fails on demand: every part of a plugin once.

use collector_guest::{Code, Context, Fault, log};
use proto::{DescribeReply, DescribeRequest, HelloReply, HelloRequest, RefuseReply, RefuseRequest};
use proto::{Greeter, GreeterService};
use std::time::Duration;

/// What `proto/greeter.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("greeter.v1");
}

/// The handler.
pub struct Hello;

impl Greeter for Hello {
    fn say_hello(_: &Context, request: HelloRequest) -> Result<HelloReply, Fault> {
        let HelloRequest { name, locale } = request;
        if name.trim().is_empty() {
            return Err(Fault::invalid_argument("nobody to greet").with_violation("name", "must not be empty"));
        }
        log::info!("greeting {name}");
        Ok(HelloReply { text: [greeting(&locale), ", ", &name, "!"].concat() })
    }

    fn describe(context: &Context, _: DescribeRequest) -> Result<DescribeReply, Fault> {
        let metadata = context.metadata().iter();
        let text =
            metadata.filter_map(|(key, value)| Some((key.to_owned(), std::str::from_utf8(value).ok()?.to_owned())));
        let remaining = context.remaining();
        Ok(DescribeReply {
            namespace: context.namespace().to_owned(),
            service: context.service().to_owned(),
            method: context.method().to_owned(),
            metadata: text.collect(),
            has_deadline: remaining.is_some(),
            remaining_ms: remaining.map_or(0, whole_milliseconds),
        })
    }

    fn refuse(_: &Context, request: RefuseRequest) -> Result<RefuseReply, Fault> {
        let code = u8::try_from(request.code).ok().and_then(Code::from_number);
        let code =
            code.ok_or_else(|| Fault::invalid_argument("no such code").with_violation("code", "must be 1 to 16"))?;
        let fault = Fault::new(code, request.message);
        Err(request.fields.into_iter().fold(fault, |fault, field| fault.with_violation(field, "refused on demand")))
    }
}

fn greeting(locale: &str) -> &'static str {
    match locale.split(['-', '_']).next() {
        Some("de") => "Hallo",
        Some("es") => "Hola",
        Some("fr") => "Bonjour",
        Some("ja") => "こんにちは",
        _ => "Hello",
    }
}

fn whole_milliseconds(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

collector_guest::export!(GreeterService<Hello>);

#[cfg(test)]
mod tests {
    use super::*;
    use collector_guest::Plugin;
    use collector_guest::prost::Message;
    use collector_guest::rpc::BadRequest;

    fn context() -> Context {
        Context::new("acme", "greeter.v1.Greeter", "SayHello")
    }

    fn hello(name: &str, locale: &str) -> Result<HelloReply, Fault> {
        Hello::say_hello(&context(), HelloRequest { name: name.into(), locale: locale.into() })
    }

    #[test]
    fn greets_in_the_language_of_the_locale() {
        assert_eq!(hello("Ann", "").unwrap().text, "Hello, Ann!");
        assert_eq!(hello("Ann", "de-CH").unwrap().text, "Hallo, Ann!");
        assert_eq!(hello("Ann", "tlh").unwrap().text, "Hello, Ann!");
    }

    #[test]
    fn nobody_is_a_violation_of_the_name() {
        let fault = hello(" ", "").unwrap_err();
        assert_eq!(fault.code(), Code::InvalidArgument);
        let bad = BadRequest::decode(fault.details()[0].value.as_slice()).unwrap();
        assert_eq!(bad.field_violations[0].field, "name");
    }

    #[test]
    fn tells_what_it_knows() {
        let context =
            context().with_metadata("x-a", "1").with_metadata("x-bin", [0xff]).with_remaining(Duration::from_secs(9));
        let known = Hello::describe(&context, DescribeRequest {}).unwrap();
        assert_eq!((known.namespace.as_str(), known.method.as_str()), ("acme", "SayHello"));
        assert_eq!(known.metadata, [("x-a".to_owned(), "1".to_owned())].into());
        assert!(known.has_deadline && known.remaining_ms > 5000);
    }

    #[test]
    fn refuses_as_asked() {
        let ask = |code| {
            Hello::refuse(&context(), RefuseRequest { code, message: "no".into(), fields: vec!["a.b".into()] })
                .unwrap_err()
        };
        assert_eq!(ask(8).to_string(), "RESOURCE_EXHAUSTED: no");
        assert_eq!(ask(8).details().len(), 1);
        assert_eq!(ask(0).code(), Code::InvalidArgument);
        assert_eq!(ask(300).code(), Code::InvalidArgument);
    }

    #[test]
    fn serves_bytes_by_method_name() {
        let call = |method: &str, input: &[u8]| GreeterService::<Hello>::call(&context(), method, input);
        let input = HelloRequest { name: "Ann".into(), ..Default::default() }.encode_to_vec();
        assert_eq!(HelloReply::decode(call("SayHello", &input).unwrap().as_slice()).unwrap().text, "Hello, Ann!");
        let unknown = call("Nope", &[]).unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "UNIMPLEMENTED: greeter.v1.Greeter has no method Nope; it has SayHello, Describe, Refuse"
        );
        let wrong = call("SayHello", b"\x0a\x01\xff").unwrap_err();
        assert!(wrong.message().starts_with("the request is no greeter.v1.HelloRequest: "), "{wrong}");
        assert!(wrong.message().contains("HelloRequest.name"), "{wrong}");
    }
}
