//! Requests of guests to the outside: whom they reach, what they carry, and what comes back.

use crate::support::*;
use base64::Engine as _;
use serde_json::{Value, json};
use std::time::Duration;
use tonic::{Code, Status};

/// A node that may reach this machine, with `errands` granted all given servers.
async fn node_beside(outside: &[&Outside]) -> (TestNode, collector::cli::PluginFile) {
    let node = TestNode::start_with(|config| config.net.allow = vec!["127.0.0.1/32".into()]).await;
    let errands = errands(&node).await;
    set_secret(&node, "acme", "api-token", TOKEN).await.unwrap();
    for one in outside {
        grant(&node, &[&one.grant()]).await;
    }
    (node, errands)
}

async fn fetch(stub: &Stub<'_>, url: &str, headers: Value) -> Result<Value, Status> {
    let answer = stub.call("Fetch", json!({ "method": "GET", "url": url, "headers": headers })).await?;
    Ok(answer.replies[0].clone())
}

fn body(answer: &Value) -> String {
    let body = answer["body"].as_str().unwrap_or_default();
    String::from_utf8(base64::engine::general_purpose::STANDARD.decode(body).unwrap()).unwrap()
}

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nkeep-alive: x\r\ncontent-length: 5\r\n\r\nhello";

#[tokio::test]
async fn a_granted_host_is_asked_and_answers() {
    let outside = Outside::saying(HELLO).await;
    let moved = Outside::saying("HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\n\r\n").await;
    let (node, errands) = node_beside(&[&outside, &moved]).await;
    let stub = Stub::new(&node, &errands).await;
    let answer = fetch(&stub, &outside.url("/a?b=c"), json!([{ "name": "X-Own", "value": "1" }])).await.unwrap();
    assert_eq!((answer["status"].as_u64(), body(&answer).as_str()), (Some(200), "hello"));
    let headers = json!([{ "name": "content-type", "value": "text/plain", "secret": "" }]);
    assert_eq!(answer["headers"], headers, "none of the connection");
    let heard = outside.heard().remove(0);
    assert!(heard.starts_with("GET /a?b=c HTTP/1.1\r\n") && heard.contains("x-own: 1\r\n"), "{heard}");
    assert!(heard.contains(&format!("host: {}\r\n", outside.address)), "{heard}");
    let answer = fetch(&stub, &moved.url("/"), json!([])).await.unwrap();
    assert_eq!(answer["status"], 302, "redirects are the handler's to look at");
}

#[tokio::test]
async fn h09_a_secret_goes_out_and_does_not_come_back() {
    let outside = Outside::new(Says::Echo).await;
    let (node, errands) = node_beside(&[&outside]).await;
    let stub = Stub::new(&node, &errands).await;
    let headers = json!([{ "name": "authorization", "value": "Bearer ", "secret": "api-token" }]);
    let answer = fetch(&stub, &outside.url("/"), headers).await.unwrap();
    assert!(outside.heard()[0].contains(&format!("authorization: Bearer {TOKEN}\r\n")));
    assert!(body(&answer).contains("Bearer *****") && !answer.to_string().contains(TOKEN), "{answer}");
    assert!(!body(&answer).contains(TOKEN));
    let headers = json!([{ "name": "bad name", "value": "", "secret": "api-token" }]);
    let refused = fetch(&stub, &outside.url("/"), headers).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && !refused.message().contains(TOKEN));
    let prefix = json!([{ "name": "x", "value": "a\r\nb: ", "secret": "api-token" }]);
    let refused = fetch(&stub, &outside.url("/"), prefix).await.unwrap_err();
    assert!(refused.code() == Code::InvalidArgument && !refused.message().contains(TOKEN));
    assert_eq!(outside.heard().len(), 1);
}

#[tokio::test]
async fn what_is_not_granted_or_not_public_is_not_reached() {
    let outside = Outside::saying(HELLO).await;
    let node = TestNode::start().await; // nothing private is allowed
    let errands = errands(&node).await;
    let port = outside.address.port();
    let hosts =
        ["127.0.0.1", "localhost", "[::ffff:127.0.0.1]", "[::1]"].map(|host| format!("http=http://{host}:{port}"));
    grant(&node, &hosts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    grant(&node, &["http=http://169.254.169.254", "http=http://0.0.0.0:1"]).await;
    let stub = Stub::new(&node, &errands).await;
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("http://localhost:{port}/"),
        format!("http://[::ffff:127.0.0.1]:{port}/"),
        format!("http://[::1]:{port}/"),
        format!("http://0x7f.1:{port}/"),
        format!("http://2130706433:{port}/"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
    ] {
        let refused = fetch(&stub, &url, json!([])).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{url}: {refused:?}");
        assert!(refused.message().contains("net.allow"), "{url}: {}", refused.message());
    }
    for url in ["http://example.com/", "https://127.0.0.1:1/", &format!("http://127.0.0.2:{port}/")] {
        let refused = fetch(&stub, url, json!([])).await.unwrap_err();
        assert!(refused.code() == Code::PermissionDenied && refused.message().contains("http="), "{url}: {refused:?}");
    }
    for url in ["file:///etc/passwd", "http://u:p@127.0.0.1/", "gopher://127.0.0.1/", "nothing"] {
        assert_eq!(fetch(&stub, url, json!([])).await.unwrap_err().code(), Code::InvalidArgument, "{url}");
    }
    assert!(outside.heard().is_empty(), "no connection was made");
}

#[tokio::test]
async fn h07_hostile_answers_are_errors_in_time() {
    let many: String = (0..100_000).map(|n| format!("x-{n}: y\r\n")).collect();
    let large = "x".repeat((1 << 20) + 1);
    let hostile = [
        ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!".to_owned(), Code::Unavailable),
        (format!("HTTP/1.1 200 OK\r\n{many}\r\n"), Code::Unavailable),
        (format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20)), Code::Unavailable),
        (format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{large}", large.len()), Code::ResourceExhausted),
        (format!("HTTP/1.1 200 OK\r\n\r\n{large}"), Code::ResourceExhausted),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nshort".to_owned(), Code::Unavailable),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzzz\r\n".to_owned(), Code::Unavailable),
        ("SSH-2.0-OpenSSH_9.6\r\n".to_owned(), Code::Unavailable),
        (String::new(), Code::Unavailable),
    ];
    let mut servers = Vec::new();
    for (answer, _) in &hostile {
        servers.push(Outside::saying(answer.clone()).await);
    }
    let dribble = Outside::new(Says::Dribble).await;
    let all: Vec<&Outside> = servers.iter().chain([&dribble]).collect();
    let (node, errands) = node_beside(&all).await;
    let stub = Stub::new(&node, &errands).await;
    for (server, (answer, code)) in servers.iter().zip(&hostile) {
        let failed = fetch(&stub, &server.url("/"), json!([])).await.unwrap_err();
        let shown: String = answer.chars().take(60).collect();
        assert_eq!(failed.code(), *code, "{shown:?}: {failed:?}");
    }
    let began = tokio::time::Instant::now();
    let late = fetch(&stub, &dribble.url("/"), json!([])).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded, "{late:?}");
    assert!((Duration::from_secs(9)..Duration::from_secs(14)).contains(&began.elapsed()), "{:?}", began.elapsed());

    let good = &servers[0];
    for headers in [
        json!([{ "name": "x", "value": "a\r\nb: c" }]),
        json!([{ "name": "content-length", "value": "1" }]),
        json!([{ "name": "Host", "value": "other" }]),
        json!(vec![json!({ "name": "x", "value": "y" }); 101]),
    ] {
        assert_eq!(fetch(&stub, &good.url("/"), headers).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let large = base64::engine::general_purpose::STANDARD.encode(&large);
    let upload = json!({ "method": "POST", "url": good.url("/"), "body": large });
    let refused = stub.call("Fetch", upload).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
}

#[tokio::test]
async fn tls_is_for_those_whose_certificate_is_trusted() {
    let (outside, certificate) = outside_with_tls(Says::Bytes(HELLO.into())).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, certificate).unwrap();
    let mut node = TestNode::start_with(|config| config.net.allow = vec!["127.0.0.1".into(), "::1".into()]).await;
    let errands = errands(&node).await;
    let host = format!("https://localhost:{}", outside.address.port());
    grant(&node, &[&format!("http={host}")]).await;
    let stub = Stub::new(&node, &errands).await;
    let refused = fetch(&stub, &host, json!([])).await.unwrap_err();
    assert!(refused.code() == Code::Unavailable && refused.message().contains("certificate"), "{refused:?}");
    assert!(outside.heard().is_empty());
    node.restart_with(|config| config.net.ca_file = file.clone()).await;
    let stub = Stub::new(&node, &errands).await;
    assert_eq!(body(&fetch(&stub, &host, json!([])).await.unwrap()), "hello");
}

#[tokio::test]
async fn a_namespace_has_so_many_requests_under_way_and_a_caller_who_leaves_has_none() {
    let dribble = Outside::new(Says::Dribble).await;
    let (node, errands) = {
        let allow = |config: &mut collector::config::Config| {
            config.net.allow = vec!["127.0.0.1".into()];
            config.net.fetches = 1;
        };
        let node = TestNode::start_with(allow).await;
        let errands = errands(&node).await;
        grant(&node, &[&dribble.grant()]).await;
        (node, errands)
    };
    let stub = Stub::new(&node, &errands).await;
    let url = dribble.url("/");
    let first = fetch(&stub, &url, json!([]));
    let second = async {
        until("the first is under way", async || dribble.heard().len() == 1).await;
        fetch(&stub, &url, json!([])).await
    };
    tokio::select! {
        early = first => panic!("{early:?}"),
        second = second => assert_eq!(second.unwrap_err().code(), Code::ResourceExhausted),
    }
    // The first is dropped: its caller is gone, and so is its turn.
    until("the guest is gone", async || node.node().wasm_stats().await.running == 0).await;
    let again = Stub { timeout: Some(Duration::from_millis(500)), ..stub.clone() };
    let late = fetch(&again, &url, json!([])).await.unwrap_err();
    // Whichever of node and client is the first to say so.
    assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&late.code()), "it had a turn: {late:?}");
}

#[tokio::test]
async fn the_weather_plugin_uses_all_of_it() {
    let outside = Outside::saying(HELLO).await;
    let node = TestNode::start_with(|config| config.net.allow = vec!["127.0.0.1".into()]).await;
    let weather = plugin("weather");
    let (http, endpoint) = (outside.grant(), format!("config=endpoint={}", outside.url("/now")));
    let grants = [&*http, &*endpoint, "secret=weather-key", "collections=forecasts:write"];
    deploy_with(&mut plugins(&node).await, with_grants(&grants), &weather.bytes).await.unwrap();
    let client = Client::connect(&node.address()).await;
    client.make(Place::acme("forecasts").definition("weather.v1.Forecast", &[])).await.unwrap();
    set_secret(&node, "acme", "weather-key", TOKEN).await.unwrap();
    let stub = Stub::new(&node, &weather).await;
    let first = stub.call("Now", json!({ "city": "Oslo" })).await.unwrap().replies.remove(0);
    assert_eq!(first, json!({ "forecast": { "text": "hello" }, "remembered": false }));
    let second = stub.call("Now", json!({ "city": "Oslo" })).await.unwrap().replies.remove(0);
    assert_eq!(second, json!({ "forecast": { "text": "hello" }, "remembered": true }));
    let heard = outside.heard();
    assert!(heard.len() == 1 && heard[0].starts_with("GET /now?city=Oslo "), "{heard:?}");
    assert!(heard[0].contains(&format!("authorization: Bearer {TOKEN}")));
}
