//! Streams over Connect.

use super::*;

#[tokio::test]
async fn streams_go_message_by_message_in_both_codecs() {
    let web = web().await;
    let ask = [r#"{"text":"a"}"#, "{}", r#"{"number":3}"#].map(|text| seal(0, text.as_bytes()).unwrap()).concat();
    for (method, version) in [("Both", Version::HTTP_2), ("Up", Version::HTTP_11), ("Down", Version::HTTP_11)] {
        let mut request = post(method, "application/connect+json", "");
        *request.version_mut() = version;
        *request.body_mut() = pieces(ask.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect());
        let response = web.handle(request, echo).await;
        assert_eq!(response.headers()["content-type"], "application/connect+json");
        assert_eq!(response.headers()["x-begin"], "1");
        let found = envelopes(response).await;
        let wanted = [
            (0, r#"{"text":"a"}"#),
            (0, "{}"),
            (0, r#"{"number":"3"}"#),
            (END_STREAM, r#"{"metadata":{"x-end":["1"]}}"#),
        ];
        assert_eq!(found, wanted.map(|(flags, text)| (flags, Bytes::from(text))));
    }
    let ask = [seal(0, &note("a")).unwrap(), seal(0, b"").unwrap()].concat();
    let mut request = h2(post("Both", "application/connect+proto", ""));
    *request.body_mut() = pieces(ask.iter().map(|byte| Bytes::copy_from_slice(&[*byte])).collect());
    let found = envelopes(web.handle(request, echo).await).await;
    assert_eq!(found[0], (0, note("a").into()));
    assert_eq!(found[1], (0, Bytes::new()));
    assert_eq!(found[2].0, END_STREAM);
}

#[tokio::test]
async fn nothing_is_read_ahead_of_the_reader() {
    let web = web().await;
    for (content_type, message) in [
        ("application/connect+json", seal(0, b"{}").unwrap()),
        ("application/connect+proto", seal(0, &note("x")).unwrap()),
    ] {
        let sent = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&sent);
        let endless = stream::repeat_with(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(Frame::data(message.clone()))
        });
        let mut request = h2(post("Both", content_type, ""));
        *request.body_mut() = Body::new(StreamBody::new(endless));
        let mut response = web.handle(request, echo).await.into_body();
        for read in 1..=5 {
            assert!(response.frame().await.unwrap().unwrap().is_data());
            assert!(sent.load(Ordering::Relaxed) <= read, "{content_type}");
        }
    }
}

#[tokio::test]
async fn wrong_messages_end_streams_with_an_error() {
    let web = web().await;
    let good = seal(0, b"{}").unwrap();
    for (bad, code) in [
        (seal(0, b"{").unwrap(), "invalid_argument"),
        (seal(1, b"{}").unwrap(), "invalid_argument"),
        (seal(END_STREAM, b"{}").unwrap(), "invalid_argument"),
        (Bytes::from_static(&[0, 0, 0]), "invalid_argument"),
        (Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]), "resource_exhausted"),
    ] {
        let body = [good.clone(), bad].concat();
        let response = web.handle(h2(post("Both", "application/connect+json", body)), echo).await;
        assert_eq!(response.status(), StatusCode::OK);
        let found = envelopes(response).await;
        assert_eq!(found[0], (0, "{}".into()));
        let end: Value = serde_json::from_slice(&found[1].1).unwrap();
        assert_eq!((found[1].0, &end["error"]["code"]), (END_STREAM, &json!(code)));
    }
}
