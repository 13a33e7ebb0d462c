//! Every kind of streaming, and every way that a stream can go wrong.

use collector_guest::prost::Message;
use collector_guest::{Code, Context, Exchange, Fault, Plugin, Receiver, Sender};
use proto::{CountRequest, FailRequest, Line, Number, Streams, StreamsService, Total};
use std::hint::black_box;
use std::time::Duration;

/// What `proto/streams.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("streams.v1");
}

/// The handler of `Streams`.
pub struct Handler;

impl Streams for Handler {
    fn count(_: &Context, request: CountRequest, replies: &mut Sender<Number>) -> Result<(), Fault> {
        (1..=request.to).try_for_each(|value| send(value, &request, replies))
    }

    fn sum(_: &Context, requests: &mut Receiver<Number>) -> Result<Total, Fault> {
        let mut total = Total::default();
        for number in requests {
            let Number { value, padding } = number?;
            total.sum = total.sum.wrapping_add(value);
            total.count += 1;
            total.bytes += padding.len() as u64;
        }
        Ok(total)
    }

    fn chat(_: &Context, requests: &mut Receiver<Line>, replies: &mut Sender<Line>) -> Result<(), Fault> {
        for line in requests {
            replies.send(Line { text: line?.text.to_uppercase() })?;
        }
        Ok(())
    }

    fn echo(_: &Context, line: Line) -> Result<Line, Fault> {
        Ok(line)
    }

    fn fail(_: &Context, request: FailRequest, replies: &mut Sender<Number>) -> Result<(), Fault> {
        let code = u8::try_from(request.code).ok().and_then(Code::from_number);
        let code =
            code.ok_or_else(|| Fault::invalid_argument("no such code").with_violation("code", "must be 1 to 16"))?;
        for value in 1..=u64::from(request.after) {
            replies.send(Number { value, ..Number::default() })?;
        }
        Err(Fault::new(code, request.message))
    }

    fn flood(_: &Context, request: CountRequest, replies: &mut Sender<Number>) -> Result<(), Fault> {
        (1..).try_for_each(|value| send(value, &request, replies))
    }

    fn deaf(context: &Context, _: &mut Receiver<Number>) -> Result<Total, Fault> {
        let spins = context.metadata().get("how") == Some("spin");
        loop {
            match spins {
                true => black_box(()),
                false => std::thread::sleep(Duration::from_secs(3_600)),
            }
        }
    }
}

fn send(value: u64, request: &CountRequest, replies: &mut Sender<Number>) -> Result<(), Fault> {
    if request.pause_ms > 0 {
        std::thread::sleep(Duration::from_millis(request.pause_ms.into()));
    }
    replies.send(Number { value, padding: vec![0; request.bytes as usize] })
}

/// The service `Raw`, by hand: it may say what the contract does not allow.
pub struct Bytes;

impl Plugin for Bytes {
    const NAME: &'static str = "streams.v1.Raw";

    fn call(_: &Context, method: &str, _: &[u8]) -> Result<Vec<u8>, Fault> {
        Err(Fault::unimplemented(format!("{method} streams")))
    }

    fn stream(_: &Context, method: &str, exchange: &Exchange) -> Result<(), Fault> {
        match method {
            "Wrong" => wrong(exchange),
            "Mirror" => mirror(exchange),
            _ => Err(Fault::unimplemented(format!("there is no {method}"))),
        }
    }
}

fn wrong(exchange: &Exchange) -> Result<(), Fault> {
    let input = exchange.next()?.unwrap_or_default();
    let request = CountRequest::decode(&*input).map_err(|error| Fault::invalid_argument(error.to_string()))?;
    (0..request.to).try_for_each(|_| exchange.send(b"\x08"))
}

fn mirror(exchange: &Exchange) -> Result<(), Fault> {
    while let Some(message) = exchange.next()? {
        exchange.send(&message)?;
    }
    Ok(())
}

collector_guest::export!(StreamsService<Handler>, Bytes);

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> Context {
        Context::new("acme", "streams.v1.Streams", "Any")
    }

    fn number(value: u64) -> Number {
        Number { value, ..Number::default() }
    }

    fn line(text: &str) -> Line {
        Line { text: text.to_owned() }
    }

    #[test]
    fn counts_with_the_padding_asked_for() {
        let mut replies = Sender::collecting();
        Handler::count(&context(), CountRequest { to: 2, bytes: 3, pause_ms: 0 }, &mut replies).unwrap();
        let padded = |value| Number { value, padding: vec![0; 3] };
        assert_eq!(replies.sent(), [padded(1), padded(2)]);
    }

    #[test]
    fn adds_up_what_came() {
        let padded = Number { value: u64::MAX, padding: vec![1; 5] };
        let total = Handler::sum(&context(), &mut Receiver::from(vec![number(3), padded])).unwrap();
        assert_eq!(total, Total { sum: 2, count: 2, bytes: 5 });
        assert_eq!(Handler::sum(&context(), &mut Receiver::from(vec![])).unwrap(), Total::default());
    }

    #[test]
    fn says_every_line_in_upper_case() {
        let mut replies = Sender::collecting();
        Handler::chat(&context(), &mut Receiver::from(vec![line("ä"), line("b")]), &mut replies).unwrap();
        assert_eq!(replies.sent(), [line("Ä"), line("B")]);
        assert_eq!(Handler::echo(&context(), line("as it is")).unwrap(), line("as it is"));
    }

    #[test]
    fn a_flood_ends_with_its_reader() {
        let mut replies = Sender::hanging_up_after(3);
        let fault = Handler::flood(&context(), CountRequest::default(), &mut replies).unwrap_err();
        assert_eq!(fault.code(), Code::Cancelled);
        assert_eq!(replies.sent(), [number(1), number(2), number(3)]);
    }

    #[test]
    fn fails_after_what_was_asked_for() {
        let fail = |code| {
            let mut replies = Sender::collecting();
            let request = FailRequest { after: 2, code, message: "enough".to_owned() };
            (Handler::fail(&context(), request, &mut replies).unwrap_err().to_string(), replies.sent().len())
        };
        assert_eq!(fail(15), ("DATA_LOSS: enough".to_owned(), 2));
        assert_eq!(fail(17), ("INVALID_ARGUMENT: no such code".to_owned(), 0));
    }

    #[test]
    fn raw_bytes_need_be_no_message() {
        let request = CountRequest { to: 2, ..CountRequest::default() }.encode_to_vec();
        let exchange = Exchange::of([request]);
        Bytes::stream(&context(), "Wrong", &exchange).unwrap();
        assert_eq!(exchange.sent(), [b"\x08", b"\x08"]);
        assert!(exchange.sent().iter().all(|bytes| Number::decode(&**bytes).is_err()));

        let exchange = Exchange::of([b"\xff".to_vec(), vec![]]);
        Bytes::stream(&context(), "Mirror", &exchange).unwrap();
        assert_eq!(exchange.sent(), [b"\xff".to_vec(), vec![]]);
    }

    #[test]
    fn each_method_knows_what_kind_of_call_it_takes() {
        type Service = StreamsService<Handler>;
        let stream = |method: &str, request: &[u8]| {
            let exchange = Exchange::of([request.to_vec()]);
            Service::stream(&context(), method, &exchange).map(|()| exchange.sent())
        };
        let four = Number { value: 4, ..Number::default() }.encode_to_vec();
        let [total] = &stream("Sum", &four).unwrap()[..] else { panic!("one reply") };
        assert_eq!(Total::decode(total.as_slice()).unwrap().sum, 4);
        assert_eq!(
            stream("Echo", &[]).unwrap_err().to_string(),
            "UNIMPLEMENTED: streams.v1.Streams/Echo does not stream: it takes one message and gives one"
        );
        assert_eq!(
            Service::call(&context(), "Count", &[]).unwrap_err().to_string(),
            "UNIMPLEMENTED: streams.v1.Streams/Count streams: it needs a streaming call, of the plugin as a component"
        );
        let none = Service::stream(&context(), "Count", &Exchange::of([])).unwrap_err();
        assert_eq!(none.to_string(), "INVALID_ARGUMENT: the request, a streams.v1.CountRequest, did not come");
    }
}
