//! Peers whose answers are none.

use super::impostor::*;
use super::*;
use collector::rpc::pb::admin::v1 as admin;

/// Largest reply that the node takes in these tests.
const REPLY_MAX: usize = 64 << 10;

/// A node, and the liar that it has for a peer.
async fn lied_to() -> (TestNode, Impostor) {
    let there = reserve();
    let liar = Impostor::at(&there, "b").await;
    let a = TestNode::start_with(|config| {
        config.mesh.id = "a".into();
        config.peers = vec![peer(&there, &["acme:invoker"])];
        config.limits.output_bytes = REPLY_MAX;
    });
    let a = a.await;
    until("the link", async || peer_of(&a).await.offers == 1).await;
    (a, liar)
}

/// The one peer, as its operator sees it.
pub async fn peer_of(node: &TestNode) -> admin::Peer {
    let mut client = admin::peers_client::PeersClient::new(channel(&node.address()).await);
    client.list(admin::ListPeersRequest {}).await.unwrap().into_inner().peers.remove(0)
}

/// Whether the node, and its peer once it speaks well, are as before.
async fn goes_on(node: &TestNode, liar: &Impostor, stub: &Stub<'_>, what: &str) {
    until(what, async || peer_of(node).await.in_flight == 0).await;
    liar.heard();
    let line = stub.encode("Echo", &json!({ "text": "hi" }));
    liar.says(grpc(vec![Part::Bytes(framed(&line)), fine()]));
    let answer = stub.call("Echo", json!({ "text": "hi" })).await.unwrap_or_else(|why| panic!("{what}: {why:?}"));
    assert_eq!(answer.replies, [json!({ "text": "hi" })], "{what}");
    assert_eq!(liar.heard().len(), 1, "{what}");
}

const LOST: (Code, &str) = (Code::Unavailable, "PEER_LOST");
const ODD: (Code, &str) = (Code::DataLoss, "PEER_REPLY");

fn bytes(bytes: impl Into<Vec<u8>>) -> Part {
    Part::Bytes(bytes.into())
}

fn large(name: &'static str) -> Vec<(&'static str, String)> {
    vec![(name, "x".repeat(20 << 10)), ("grpc-status", "0".into())]
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_reply_that_is_none_is_told_as_such_and_the_call_is_made_once() {
    let (a, liar) = lied_to().await;
    let plugin = plugin("streams");
    let stub = Stub::new(&a, &plugin).await;
    let most = u32::try_from(REPLY_MAX).unwrap();
    let one = || bytes(framed(b""));
    let cases: Vec<(&str, Vec<Part>, (Code, &str))> = vec![
        ("no end", vec![one()], LOST),
        ("nothing", vec![], LOST),
        ("half of it", vec![bytes(&framed(b"abc")[..6]), fine()], LOST),
        ("half a head", vec![bytes([0, 0]), fine()], LOST),
        ("broken off", vec![one(), Part::Reset], LOST),
        ("no reply", vec![fine()], ODD),
        ("two replies", vec![one(), one(), fine()], ODD),
        ("too large", vec![bytes(framed(&vec![0; REPLY_MAX + 1])), fine()], ODD),
        ("claims too much", vec![bytes(head(0, most + 1)), Part::Silence], ODD),
        ("claims 4 GiB", vec![bytes(head(0, u32::MAX)), Part::Silence], ODD),
        ("compressed", vec![bytes(head(1, 1)), bytes([0]), fine()], ODD),
        ("a bad flag", vec![bytes(head(255, 0)), fine()], ODD),
        ("large trailers", vec![one(), Part::End(large("collector-version"))], LOST),
        ("a status that is none", vec![one(), ended("x")], (Code::Unknown, "")),
        ("a status beyond", vec![one(), ended("999")], (Code::Unknown, "")),
        ("nothing at the end", vec![one(), Part::End(vec![("collector-version", "1".into())])], LOST),
        (
            "details that are none",
            vec![Part::End(vec![("grpc-status", "5".into()), ("grpc-status-details-bin", "***".into())])],
            (Code::NotFound, ""),
        ),
        (
            "a message that is none",
            vec![Part::End(vec![("grpc-status", "5".into()), ("grpc-message", "%ff%zz".into())])],
            (Code::Unknown, ""), // as a stock client has it
        ),
    ];
    for (name, parts, (code, reason)) in cases {
        liar.says(grpc(parts));
        let refused = stub.call("Echo", json!({ "text": "hi" })).await.unwrap_err();
        assert_eq!(verdict(&refused), (code, reason.to_owned()), "{name}: {refused:?}");
        assert_eq!(liar.heard().len(), 1, "{name}: what may have begun is not begun again");
        goes_on(&a, &liar, &stub, name).await;
    }
    let exact = stub.encode("Echo", &json!({ "text": "x".repeat(REPLY_MAX - 4) }));
    assert_eq!(exact.len(), REPLY_MAX);
    liar.says(grpc(vec![bytes(framed(&exact)), fine()]));
    assert!(stub.call("Echo", json!({})).await.is_ok(), "at the limit");
    let calls = peer_of(&a).await.calls.unwrap();
    assert_eq!((calls.lost, calls.unusable, calls.given_up), (7, 7, 0), "{calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_an_answer_that_is_no_grpc_or_comes_not_at_all() {
    let (a, liar) = lied_to().await;
    let plugin = plugin("streams");
    let stub = Stub::new(&a, &plugin).await;
    let whole = || vec![bytes(framed(b"")), fine()];
    let began = |code: &str| vec![("collector-began", "no".to_owned()), ("grpc-status", code.into())];
    let grpc = "application/grpc";
    let cases = [
        ("a page", typed(200, "text/html", vec![], whole()), ODD),
        ("a failure of something between", typed(502, grpc, vec![], whole()), LOST),
        ("somewhere else", typed(307, grpc, vec![("location", "http://127.0.0.1:1/".into())], vec![]), LOST),
        ("a large head", typed(200, grpc, large("x-large"), whole()), LOST),
        ("not begun, and fine", typed(200, grpc, began("0"), vec![]), LOST),
        ("not begun, for it knows nobody", typed(200, grpc, began("16"), vec![]), LOST),
    ];
    for (name, says, (code, reason)) in cases {
        liar.says(says);
        for method in ["Echo", "Count"] {
            let refused = stub.stream(method, vec![json!({})]).await.unwrap_err();
            assert_eq!(verdict(&refused), (code, reason.to_owned()), "{name}, {method}: {refused:?}");
            assert_eq!(liar.heard().len(), 1, "{name}, {method}");
        }
        goes_on(&a, &liar, &stub, name).await;
    }
    // It does not begin anything, ever: tried again a few times, and no more.
    liar.says(reset(h2::Reason::REFUSED_STREAM));
    let refused = stub.call("Echo", json!({})).await.unwrap_err();
    assert_eq!(verdict(&refused), (LOST.0, LOST.1.into()));
    assert!((1..=3).contains(&liar.heard().len()));
    goes_on(&a, &liar, &stub, "refusals").await;
    // It says nothing, or nothing more.
    let patient = Stub { timeout: Some(Duration::from_millis(300)), ..stub.clone() };
    for begins in [vec![], vec![bytes(framed(b""))]] {
        liar.says(typed(200, grpc, vec![], [begins, vec![Part::Silence]].concat()));
        for method in ["Echo", "Count"] {
            let late = patient.stream(method, vec![json!({})]).await.unwrap_err();
            assert!([Code::DeadlineExceeded, Code::Cancelled].contains(&late.code()), "{late:?}");
            assert_eq!(liar.heard().len(), 1);
        }
        goes_on(&a, &liar, &stub, "silence").await;
    }
    assert_eq!(a.node().links().len(), 1);
    assert_eq!(peer_of(&a).await.links, 1, "the link is as good as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_stream_that_goes_wrong_ends_there() {
    let (a, liar) = lied_to().await;
    let plugin = plugin("streams");
    let stub = Stub::new(&a, &plugin).await;
    let one = || bytes(framed(&stub.encode("Sum", &json!({ "value": "1" }))));
    let most = u32::try_from(REPLY_MAX).unwrap();
    let cases: Vec<(&str, Vec<Part>, (Code, &str))> = vec![
        ("no end", vec![], LOST),
        ("broken off", vec![Part::Reset], LOST),
        ("too large", vec![bytes(head(0, most + 1)), Part::Silence], ODD),
        ("claims 4 GiB", vec![bytes(head(0, u32::MAX)), Part::Silence], ODD),
        ("compressed", vec![bytes(head(1, 0)), Part::Silence], ODD),
        ("half a message", vec![bytes(&framed(b"abc")[..6]), fine()], ODD),
        ("large trailers", vec![Part::End(large("collector-version"))], LOST),
        ("a status that is none", vec![ended("x")], (Code::Unknown, "")),
    ];
    for (name, rest, (code, reason)) in cases {
        liar.says(grpc([vec![one(), one()], rest].concat()));
        for method in ["Count", "Chat"] {
            let request = stub.request(tokio_stream::iter([Vec::new()]));
            let mut good = 0;
            let broken = match stub.grpc().await.streaming(request, stub.path(method), RawCodec).await {
                Ok(answer) => {
                    let mut replies = answer.into_inner();
                    loop {
                        match replies.next().await {
                            Some(Ok(_)) => good += 1,
                            Some(Err(why)) => break why,
                            None => panic!("{name}, {method}: it ended well"),
                        }
                    }
                }
                Err(why) => why, // a reset overtakes what came before it
            };
            // What came before the lie may be on its way when the stream ends.
            assert!(good <= 2, "{name}, {method}");
            assert_eq!(verdict(&broken), (code, reason.to_owned()), "{name}, {method}: {broken:?}");
            assert_eq!(liar.heard().len(), 1, "{name}, {method}");
        }
        goes_on(&a, &liar, &stub, name).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_a_dispatch_that_is_answered_with_something_else() {
    let (a, liar) = lied_to().await;
    let plugin = plugin("streams");
    let stub = Stub::new(&a, &plugin).await;
    // Its types are known here, and no code.
    let text = std::fs::read_to_string("plugins/streams/proto/streams.proto").unwrap();
    let files = compile(&[("streams.proto", &text)]);
    let client = Client::connect(&a.address()).await;
    client.register("acme", &files).await.unwrap();
    let service = pb::RegisterServiceRequest {
        namespace: "acme".into(),
        service_descriptor: Some(raw(&files.last().unwrap().service[0])),
        file_descriptor: Some(raw(files.last().unwrap())),
    };
    client.registry.clone().register_service(service).await.unwrap();
    let line = stub.encode("Echo", &json!({ "text": "hi" }));
    let call = || dispatch("streams.v1.Streams", "Echo", any("streams.v1.Line", line.clone()));
    let answer = |who: &str, output: Option<Any>| {
        pb::DispatchResponse { handled_by_collector_id: who.into(), output, ..Default::default() }.encode_to_vec()
    };
    let good = || any("streams.v1.Line", line.clone());
    let cases = [
        ("noise", vec![0xff; 40]),
        ("nobody's", answer("", good())),
        ("of somebody who cannot be", answer("a/b", good())),
        ("without an output", answer("b", None)),
        ("another type", answer("b", any("streams.v1.Number", line.clone()))),
        ("no type", answer("b", any("", line.clone()))),
        ("bytes that are not of the type", answer("b", any("streams.v1.Line", b"\x0a\x02\xff\xff".to_vec()))),
    ];
    for (name, reply) in cases {
        liar.says(grpc(vec![bytes(framed(&reply)), fine()]));
        let refused = dispatched(&a, call()).await.unwrap_err();
        assert_eq!(verdict(&refused), (ODD.0, ODD.1.into()), "{name}: {refused:?}");
        assert_eq!(liar.heard().len(), 1, "{name}");
    }
    // The same as a native call: the message alone.
    liar.says(grpc(vec![bytes(framed(b"\x0a\x02\xff\xff")), fine()]));
    let refused = stub.call("Echo", json!({})).await.unwrap_err();
    assert_eq!(verdict(&refused), (ODD.0, ODD.1.into()), "{refused:?}");
    assert_eq!(peer_of(&a).await.calls.unwrap().unusable, 8);
    // A stream of them, however it is cut: what came before goes on.
    let (good_one, odd_one) = (framed(&line), framed(b"\x0a\x02\xff\xff"));
    let pieces = |all: &[u8]| all.iter().map(|byte| bytes([*byte])).collect::<Vec<_>>();
    let two = [&good_one[..], &odd_one].concat();
    for (said, good, wanted) in [
        (vec![bytes(two.clone())], 1, Some(ODD)),
        (pieces(&two), 1, Some(ODD)),
        (vec![bytes(odd_one.clone()), bytes(good_one.clone())], 0, Some(ODD)),
        (pieces(&[&good_one[..], &good_one].concat()), 2, None),
    ] {
        liar.says(grpc([said, vec![fine()]].concat()));
        let request = stub.request(tokio_stream::iter([line.clone()]));
        let mut replies = stub.grpc().await.streaming(request, stub.path("Chat"), RawCodec).await.unwrap().into_inner();
        for _ in 0..good {
            assert_eq!(replies.next().await.unwrap().unwrap(), line);
        }
        let end = replies.next().await.map(|end| verdict(&end.unwrap_err()));
        assert_eq!(end, wanted.map(|(code, reason)| (code, reason.to_owned())));
    }
    assert_eq!(peer_of(&a).await.calls.unwrap().unusable, 11);
    // Somebody else's answer than of the one that was asked.
    let asked = || pb::DispatchRequest { target_collector_id: "b".into(), ..call() };
    liar.says(grpc(vec![bytes(framed(&answer("c", good()))), fine()]));
    let refused = dispatched(&a, asked()).await.unwrap_err();
    assert_eq!(verdict(&refused), (ODD.0, ODD.1.into()), "{refused:?}");
    assert_eq!(peer_of(&a).await.calls.unwrap().unusable, 12);
    liar.says(grpc(vec![bytes(framed(&answer("b", good()))), fine()]));
    assert_eq!(dispatched(&a, asked()).await.unwrap().handled_by_collector_id, "b");
    liar.says(grpc(vec![bytes(framed(&answer("b", good()))), fine()]));
    assert_eq!(dispatched(&a, call()).await.unwrap().handled_by_collector_id, "b");
}

#[tokio::test(flavor = "multi_thread")]
async fn m06_what_a_liar_may_have_begun_is_not_begun_elsewhere() {
    let places = [reserve(), reserve()];
    let liar = Impostor::at(&places[0], "b").await;
    let good = Impostor::at(&places[1], "c").await;
    let entries = places.each_ref().map(|at| peer(at, &["acme:invoker"]));
    let a = node("a", &reserve(), &entries).await;
    until("both links", async || a.node().links().iter().all(|link| link.offers == 1)).await;
    let plugin = plugin("streams");
    let stub = Stub::new(&a, &plugin).await;
    // The slower of two gets fewer calls: the liar is asked soon.
    good.says(after(Duration::from_millis(30), grpc(vec![bytes(framed(b"")), fine()])));
    let broken = || grpc(vec![bytes(framed(b"")), Part::Reset]);
    // Each is tried until a call has got to the liar.
    liar.says(reset(h2::Reason::INTERNAL_ERROR));
    for (name, (code, reason)) in [("lost", LOST), ("broken off", LOST), ("no reply", ODD)] {
        match name {
            "broken off" => liar.says(broken()),
            "no reply" => liar.says(grpc(vec![fine()])),
            _ => {}
        }
        good.heard();
        let mut fine = 0;
        let refused = loop {
            match stub.call("Echo", json!({})).await {
                Ok(_) => fine += 1,
                Err(why) => break why,
            }
        };
        assert_eq!(verdict(&refused), (code, reason.to_owned()), "{name}: {refused:?}");
        assert_eq!((liar.heard().len(), good.heard().len()), (1, fine), "{name}");
    }
    // What it did not begin is.
    liar.says(reset(h2::Reason::REFUSED_STREAM));
    let mut calls = 0;
    while liar.heard().is_empty() {
        stub.call("Echo", json!({})).await.unwrap();
        calls += 1;
    }
    assert_eq!(good.heard().len(), calls);
}
