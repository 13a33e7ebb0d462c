//! What is let in, in which protocol, and what is told so.

use super::*;
use crate::rpc::web::kind;

#[tokio::test]
async fn protocols_methods_and_versions_that_do_not_fit_are_told_so() {
    let web = web().await;
    let never = |_| async { panic!("reached the door") };
    let get = |path: &str| Request::get(path.to_owned()).body(Body::empty()).unwrap();
    let put = |content_type| {
        let mut request = post("Unary", content_type, "");
        *request.method_mut() = Method::PUT;
        request
    };
    for (request, status, header) in [
        (get("/"), 404, None),
        (get("/favicon.ico"), 404, None),
        (get("/web.test.Echo/Unary"), 405, Some(("allow", "POST"))),
        (put("application/json"), 405, Some(("allow", "POST"))),
        (put("application/connect+json"), 405, Some(("allow", "POST"))),
        (put("application/grpc-web"), 405, Some(("allow", "POST"))),
        (post("Unary", "text/plain", "{}"), 415, Some(("accept-post", kind::ACCEPTED))),
        (
            post("Down", "application/json", "{}"),
            415,
            Some(("accept-post", "application/connect+json, application/connect+proto")),
        ),
        (
            post("Unary", "application/connect+proto", ""),
            415,
            Some(("accept-post", "application/json, application/proto")),
        ),
        (post("Both", "application/connect+proto", ""), 505, None),
        (post("Unary", "application/grpc", ""), 505, None),
        (post("Unary", "application/grpc+proto", ""), 505, None),
    ] {
        let what = format!("{} {} {:?}", request.method(), request.uri(), request.headers());
        let response = web.handle(request, never).await;
        assert_eq!(response.status().as_u16(), status, "{what}");
        assert!(response.headers().contains_key("vary") || status == 505, "{what}");
        if let Some((name, value)) = header {
            assert_eq!(response.headers()[name], value, "{what}");
        }
    }
    let response = web.handle(h2(post("Unary", "application/grpc", seal(0, b"").unwrap())), echo).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert!(!response.headers().contains_key("vary"), "gRPC passes untouched");
}

#[tokio::test]
async fn a_call_counts_until_its_reply_is_out() {
    struct Held(Body, Arc<AtomicBool>);
    impl Drop for Held {
        fn drop(&mut self) {
            self.1.store(true, Ordering::Relaxed);
        }
    }
    impl http_body::Body for Held {
        type Data = Bytes;
        type Error = Status;
        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Status>>> {
            std::pin::Pin::new(&mut self.0).poll_frame(cx)
        }
    }
    let web = web().await;
    for request in [
        post("Unary", "application/json", r#"{"text":"a"}"#),
        post("Down", "application/connect+json", seal(0, b"{}").unwrap()),
        post("Unary", "application/grpc-web", seal(0, b"").unwrap()),
    ] {
        let gone = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&gone);
        let door = |request| async { echo(request).await.map(|body| Body::new(Held(body, flag))) };
        let mut body = web.handle(request, door).await.into_body();
        assert!(!gone.load(Ordering::Relaxed));
        while body.frame().await.is_some() {}
        drop(body);
        assert!(gone.load(Ordering::Relaxed));
    }
}

#[tokio::test]
async fn grpc_web_answers_in_binary_and_in_text() {
    let web = web().await;
    let sealed = seal(0, &note("hi")).unwrap();
    for content_type in ["application/grpc-web", "application/grpc-web+proto"] {
        let response = web.handle(post("Unary", content_type, sealed.clone()), echo).await;
        assert_eq!(response.headers()["content-type"], "application/grpc-web+proto");
        assert_eq!(response.body().size_hint().exact(), None);
        let found = envelopes(response).await;
        assert_eq!(found[0], (0, note("hi").into()));
        let trailers = String::from_utf8(found[1].1.to_vec()).unwrap();
        assert!(found[1].0 == 0x80 && trailers.contains("grpc-status:0\r\n") && trailers.contains("x-end:1\r\n"));
    }
    for accept in [None, Some("*/*"), Some("application/grpc-web-text")] {
        let mut request = post("Unary", "application/grpc-web-text", BASE64_STANDARD.encode(&sealed));
        if let Some(accept) = accept {
            request.headers_mut().insert("accept", HeaderValue::from_static(accept));
        }
        let response = web.handle(request, echo).await;
        assert_eq!(response.headers()["content-type"], "application/grpc-web-text+proto");
        let first = response.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(BASE64_STANDARD.decode(first).unwrap(), sealed);
    }
    for bad in ["*", "A", "AAAA!"] {
        let response = web.handle(post("Unary", "application/grpc-web-text", bad), echo).await;
        let body = BASE64_STANDARD.decode(text(response).await).unwrap();
        assert!(String::from_utf8_lossy(&body).contains("grpc-status:3"), "{bad}");
    }
    let response =
        web.handle(post("Unary", "application/grpc-web", ""), |_| async { Status::not_found("x").into_http() }).await;
    assert_eq!(response.headers()["grpc-status"], "5");
}

#[tokio::test]
async fn pages_of_other_origins_are_refused_and_those_of_configured_ones_are_not() {
    let from = |origin: &'static str, mut request: Request<Body>| {
        request.headers_mut().insert("origin", HeaderValue::from_static(origin));
        request
    };
    let preflight = || {
        let request = Request::options("/web.test.Echo/Unary").header("access-control-request-method", "POST");
        request.body(Body::empty()).unwrap()
    };
    let json = || post("Unary", "application/json", "{}");
    let web = web_of(&["https://app.example"]).await;
    for request in [json(), preflight(), post("Unary", "application/grpc-web", ""), post("x", "text/plain", "")] {
        let request = from("https://evil.example", request);
        let response = web.handle(request, |_| async { panic!("reached the door") }).await;
        assert_eq!(response.status(), StatusCode::FORBIDDEN);
        assert!(!response.headers().contains_key("access-control-allow-origin"));
        assert_eq!(response.headers()["vary"], "origin");
    }
    let response = web.handle(from("https://app.example", preflight()), |_| async { panic!("reached the door") }).await;
    assert_eq!(response.status(), StatusCode::NO_CONTENT);
    let headers = response.headers();
    assert_eq!(headers["access-control-allow-origin"], "https://app.example");
    assert_eq!(headers["access-control-allow-methods"], "POST, GET");
    assert_eq!(headers["access-control-max-age"], "7200");
    assert!(headers["access-control-allow-headers"].to_str().unwrap().contains("collector-namespace"));
    let response = web.handle(from("https://app.example", json()), echo).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["access-control-allow-origin"], "https://app.example");
    let exposed = response.headers()["access-control-expose-headers"].to_str().unwrap();
    assert!(exposed.contains("grpc-status-details-bin") && exposed.contains("trailer-collector-digest"));
    let response = web_of(&["*"]).await.handle(from("null", json()), echo).await;
    assert_eq!(response.headers()["access-control-allow-origin"], "*");
}
