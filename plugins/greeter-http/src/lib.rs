//! `{"name": "Ada"}` answered with `{"text": "Hello, Ada!"}`, whatever the path: the work of `greeter` in JSON, for
//! `wasmtime serve` and others that run `wasi:http/incoming-handler`. No node runs it.

use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};
use wasip2::io::streams::StreamError;

struct Greeter;

wasip2::http::proxy::export!(Greeter);

impl wasip2::exports::http::incoming_handler::Guest for Greeter {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let reply = read(request).and_then(|body| greeted(&body));
        let response = OutgoingResponse::new(Fields::new());
        if reply.is_none() {
            let _ = response.set_status_code(400);
        }
        let Ok(body) = response.body() else { return };
        ResponseOutparam::set(out, Ok(response));
        if let Ok(stream) = body.write() {
            for part in reply.unwrap_or_default().chunks(4_096) {
                let _ = stream.blocking_write_and_flush(part); // the caller has gone
            }
        }
        let _ = OutgoingBody::finish(body, None);
    }
}

fn read(request: IncomingRequest) -> Option<Vec<u8>> {
    let body = request.consume().ok()?;
    let stream = body.stream().ok()?;
    let mut bytes = Vec::new();
    loop {
        match stream.blocking_read(64 << 10) {
            Ok(part) => bytes.extend(part),
            Err(StreamError::Closed) => return Some(bytes),
            Err(_) => return None,
        }
    }
}

fn greeted(body: &[u8]) -> Option<Vec<u8>> {
    let asked: serde_json::Value = serde_json::from_slice(body).ok()?;
    let name = asked.get("name")?.as_str()?;
    let text = ["Hello, ", name, "!"].concat();
    serde_json::to_vec(&serde_json::json!({ "text": text })).ok()
}
