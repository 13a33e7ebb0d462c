//! Streaming calls of the Wasm executor, without a node around it: what a stream may do, and what stops it.

use crate::support::*;
use bytes::Bytes;
use collector::domain::{Deadline, Digest, Fault, FaultCode, Kind, Limits, MetadataEntry, Outcome};
use collector::exec::wasm::{Config, WasmExecutor};
use collector::exec::{Code, ExecError, ExecFailure, Executor as _, Job, Origin, Streams};
use collector::lifecycle::Lifecycle;
use prost::Message as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Long enough that no test reaches it that does not want to.
const PATIENCE: Duration = Duration::from_secs(120);
const MIB: usize = 1 << 20;

/// An executor with its folder.
struct Bench {
    executor: Arc<WasmExecutor>,
    lifecycle: Lifecycle,
    folder: TempDir,
}

/// A streaming call as its client sees it.
struct Open {
    requests: mpsc::Sender<Bytes>,
    replies: mpsc::Receiver<Bytes>,
    end: JoinHandle<Result<Outcome, ExecFailure>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CountRequest {
    #[prost(uint64, tag = "1")]
    to: u64,
    #[prost(uint32, tag = "2")]
    bytes: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Number {
    #[prost(uint64, tag = "1")]
    value: u64,
    #[prost(bytes = "vec", tag = "2")]
    padding: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Total {
    #[prost(uint64, tag = "1")]
    sum: u64,
    #[prost(uint64, tag = "2")]
    count: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct FailRequest {
    #[prost(uint32, tag = "1")]
    after: u32,
    #[prost(int32, tag = "2")]
    code: i32,
    #[prost(string, tag = "3")]
    message: String,
}

fn count(to: u64, bytes: u32) -> Bytes {
    CountRequest { to, bytes }.encode_to_vec().into()
}

fn number(value: u64) -> Bytes {
    Number { value, padding: vec![] }.encode_to_vec().into()
}

fn line(text: &str) -> Bytes {
    text.to_owned().encode_to_vec().into() // a wrapper type is a message with one field, as Line is
}

fn value(message: &Bytes) -> u64 {
    Number::decode(message.clone()).unwrap().value
}

fn code_of(file: &Path, kind: Kind) -> Code {
    Code { digest: Digest::of(&std::fs::read(file).unwrap()), kind, origin: Origin::File(file.to_owned()) }
}

/// A call of `streams.v1.Streams`.
fn job(method: &str) -> Job {
    Job {
        code: code_of(&component("streams"), Kind::WasmHandler),
        namespace: "acme".parse().unwrap(),
        caller: None,
        service: "streams.v1.Streams".into(),
        method: method.into(),
        input: Bytes::new(),
        json: None,
        metadata: vec![],
        deadline: Deadline::after(PATIENCE),
        limits: Limits::default(),
        calls: None,
    }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config { slots: 8, ..test_config().wasm };
        let lifecycle = Lifecycle::default();
        let executor = WasmExecutor::new(config, &folder.path().join("compiled"), &[7; 32], lifecycle.clone()).unwrap();
        Self { executor: Arc::new(executor), lifecycle, folder }
    }

    /// One with the plugin compiled, for calls with a short deadline.
    async fn warm() -> Self {
        let bench = Self::new();
        bench.echo().await;
        bench
    }

    /// A unary call of the same component, answered.
    async fn echo(&self) {
        let outcome = self.executor.run(Job { input: line("hi"), ..job("Echo") }).await.unwrap();
        assert_eq!(outcome.reply.unwrap(), line("hi"));
    }

    /// Begins a call with channels of this size.
    fn open(&self, job: Job, room: usize) -> Open {
        let (requests, inbound) = mpsc::channel(room);
        let (outbound, replies) = mpsc::channel(room);
        let executor = Arc::clone(&self.executor);
        let end = tokio::spawn(async move { executor.stream(job, Streams { inbound, outbound }).await });
        Open { requests, replies, end }
    }

    /// A whole call: all requests in, all replies out, and how it ended.
    async fn call(&self, job: Job, requests: Vec<Bytes>) -> (Vec<Bytes>, Result<Outcome, ExecFailure>) {
        let mut open = self.open(job, 4);
        let client = open.requests;
        tokio::spawn(async move {
            for request in requests {
                client.send(request).await.unwrap();
            }
        });
        let mut replies = Vec::new();
        while let Some(reply) = open.replies.recv().await {
            replies.push(reply);
        }
        (replies, open.end.await.unwrap())
    }

    /// A whole call that goes well.
    async fn answers(&self, job: Job, requests: Vec<Bytes>) -> Vec<Bytes> {
        let (replies, end) = self.call(job, requests).await;
        assert_eq!(end.unwrap().reply, Ok(Bytes::new()));
        replies
    }

    /// A whole call that ends in this limit.
    async fn limited(&self, job: Job, requests: Vec<Bytes>, expected: &str) -> Vec<Bytes> {
        let (replies, end) = self.call(job, requests).await;
        let error = end.unwrap_err().error;
        assert!(matches!(error, ExecError::Limit { reason, .. } if reason == expected), "{error:?}");
        replies
    }

    async fn gone(&self) {
        until("every slot and all guest memory come back", async || {
            let stats = self.executor.stats().await;
            stats.running == 0 && stats.guest_memory == 0
        })
        .await;
    }
}

fn fault(end: Result<Outcome, ExecFailure>) -> Fault {
    end.unwrap().reply.unwrap_err()
}

#[tokio::test]
async fn all_four_kinds_of_call() {
    let bench = Bench::new();
    let counted = bench.answers(job("Count"), vec![count(3, 0)]).await;
    assert_eq!(counted, [number(1), number(2), number(3)]);
    let [total] = &bench.answers(job("Sum"), vec![number(3), number(4)]).await[..] else { panic!("one reply") };
    assert_eq!(Total::decode(total.clone()).unwrap(), Total { sum: 7, count: 2 });
    assert_eq!(bench.answers(job("Chat"), vec![line("a"), line("b")]).await, [line("A"), line("B")]);
    bench.echo().await;
    bench.gone().await;
}

#[tokio::test]
async fn a_chat_is_answered_line_by_line() {
    let bench = Bench::new();
    let mut open = bench.open(job("Chat"), 1);
    for (said, answered) in [("one", "ONE"), ("two", "TWO")] {
        open.requests.send(line(said)).await.unwrap();
        assert_eq!(open.replies.recv().await.unwrap(), line(answered));
    }
    drop(open.requests);
    assert_eq!(open.replies.recv().await, None);
    let receipt = open.end.await.unwrap().unwrap().receipt;
    assert!(receipt.peak_memory.unwrap() > 0 && receipt.fuel.unwrap() > 0);
}

#[tokio::test]
async fn a_call_of_the_wrong_kind_is_the_guests_to_refuse() {
    let bench = Bench::new();
    let (_, end) = bench.call(job("Echo"), vec![line("hi")]).await;
    assert_eq!(fault(end).code, FaultCode::Unimplemented);
    let unary = bench.executor.run(Job { input: count(3, 0), ..job("Count") }).await;
    assert_eq!(fault(unary).code, FaultCode::Unimplemented);
    let (_, end) = bench.call(job("Nope"), vec![]).await;
    assert_eq!(fault(end).code, FaultCode::Unimplemented);
    let (_, end) = bench.call(job("Count"), vec![]).await;
    assert_eq!(fault(end).code, FaultCode::InvalidArgument, "no request at all");
    let (_, end) = bench.call(job("Sum"), vec![number(1), Bytes::from_static(b"\x08")]).await;
    assert!(fault(end).message.starts_with("message 2 of the request is no streams.v1.Number: "));
}

#[tokio::test]
async fn what_was_sent_before_a_fault_has_been_sent() {
    let bench = Bench::new();
    let request = FailRequest { after: 2, code: 15, message: "enough".into() };
    let (replies, end) = bench.call(job("Fail"), vec![request.encode_to_vec().into()]).await;
    assert_eq!(replies, [number(1), number(2)]);
    assert_eq!(fault(end), Fault { code: FaultCode::DataLoss, message: "enough".into(), details: vec![] });
}

/// On the one thread of this test: a guest that held it would leave nobody to read.
#[tokio::test]
async fn a_guest_waits_for_its_reader_and_holds_nothing_but_its_slot() {
    let bench = Bench::warm().await;
    let mut floods = Vec::new();
    for _ in 0..7 {
        let flood = bench.open(job("Flood"), 2);
        flood.requests.send(count(0, MIB as u32)).await.unwrap();
        floods.push(flood);
    }
    let full = |flood: &Open| flood.replies.len() == 2;
    until("all wait for a reader", async || floods.iter().all(full)).await;
    bench.echo().await; // in the eighth slot, on the only thread
    until("the eighth is tidied up", async || bench.executor.stats().await.running == 7).await;
    let stats = bench.executor.stats().await;
    assert!(stats.guest_memory < (7 * 8) << 20, "three messages each, not what a flood could fill: {stats:?}");
    assert!(floods.iter().all(full), "still two");
    for flood in &mut floods {
        for expected in 1..=20 {
            assert_eq!(value(&flood.replies.recv().await.unwrap()), expected, "nothing was lost while it waited");
        }
    }
}

#[tokio::test]
async fn a_client_waits_for_a_guest_that_does_not_read() {
    let bench = Bench::warm().await;
    let mut chat = bench.open(job("Chat"), 1);
    for text in ["a", "b", "c"] {
        chat.requests.send(line(text)).await.unwrap();
    }
    // One reply in the channel, one in the guest's hands, one request behind it: there is room for no more.
    until("the chat stands still", async || chat.replies.len() == 1 && chat.requests.capacity() == 0).await;
    assert!(chat.requests.try_send(line("d")).is_err());
    for expected in ["A", "B", "C"] {
        assert_eq!(chat.replies.recv().await.unwrap(), line(expected));
    }
    chat.requests.send(line("d")).await.unwrap();
    assert_eq!(chat.replies.recv().await.unwrap(), line("D"));
}

#[tokio::test]
async fn a_guest_is_told_that_nobody_reads_any_more() {
    let bench = Bench::new();
    let mut flood = bench.open(job("Flood"), 2);
    flood.requests.send(count(0, 0)).await.unwrap();
    assert_eq!(value(&flood.replies.recv().await.unwrap()), 1);
    drop(flood.replies);
    assert_eq!(fault(flood.end.await.unwrap()).code, FaultCode::Cancelled);
    bench.gone().await;
}

/// Calls that would never end: waiting for a request, for a reader, for time to pass, and for nothing at all.
async fn endless(bench: &Bench, deadline: Duration) -> Vec<Open> {
    let spin = vec![MetadataEntry { key: "how".into(), value: b"spin".into() }];
    let mut calls = Vec::new();
    for (method, metadata) in [("Sum", vec![]), ("Flood", vec![]), ("Deaf", vec![]), ("Deaf", spin)] {
        let open = bench.open(Job { metadata, deadline: Deadline::after(deadline), ..job(method) }, 2);
        open.requests.send(count(0, 0)).await.unwrap();
        calls.push(open);
    }
    calls
}

/// The same, once they have come to where they never end.
async fn endless_under_way(bench: &Bench) -> Vec<Open> {
    let calls = endless(bench, PATIENCE).await;
    until("all of them run", async || bench.executor.stats().await.running == calls.len()).await;
    until("one waits for a reader", async || calls.iter().any(|call| call.replies.len() == 2)).await;
    calls
}

#[tokio::test]
async fn the_deadline_ends_a_stream_wherever_it_waits() {
    let bench = Bench::warm().await;
    for call in endless(&bench, Duration::from_secs(2)).await {
        let ExecFailure { error, receipt } = call.end.await.unwrap().unwrap_err();
        assert!(matches!(error, ExecError::Deadline), "{error:?}");
        assert!(receipt.unwrap().ran > Duration::ZERO);
    }
    bench.gone().await;
    bench.echo().await;
}

#[tokio::test]
async fn dropping_the_call_ends_a_stream_wherever_it_waits() {
    let bench = Bench::warm().await;
    let calls = endless_under_way(&bench).await;
    for call in &calls {
        call.end.abort();
    }
    bench.gone().await;
    for call in calls {
        assert!(call.requests.is_closed());
    }
    bench.echo().await;
}

#[tokio::test]
async fn the_end_of_the_nodes_patience_ends_streams() {
    let bench = Bench::warm().await;
    let calls = endless_under_way(&bench).await;
    bench.lifecycle.kill();
    for call in calls {
        let error = call.end.await.unwrap().unwrap_err().error;
        assert!(matches!(error, ExecError::Draining), "{error:?}");
    }
    bench.gone().await;
}

#[tokio::test]
async fn a_stream_may_be_longer_than_any_limit_of_one_message() {
    let bench = Bench::new();
    let message = |n: u8| Bytes::from(vec![n; MIB]);
    let sent: Vec<Bytes> = (0..20).map(message).collect();
    let mirror = Job { service: "streams.v1.Raw".into(), ..job("Mirror") };
    assert!(sent.len() * MIB > 2 * mirror.limits.host_call_bytes);
    let back = bench.answers(mirror, sent.clone()).await;
    assert!(back == sent, "twenty messages of 1 MiB there and back");
}

#[tokio::test]
async fn bytes_that_are_no_message_pass_as_they_are() {
    let bench = Bench::new();
    let wrong = Job { service: "streams.v1.Raw".into(), ..job("Wrong") };
    assert_eq!(bench.answers(wrong, vec![count(2, 0)]).await, [&b"\x08"[..], b"\x08"]);
}

#[tokio::test]
async fn a_message_below_at_and_above_the_limit() {
    let bench = Bench::new();
    let limit = 1_000;
    let limits = |host_call| Limits { output_bytes: limit, host_call_bytes: host_call, ..Limits::default() };
    let count_job = || Job { limits: limits(100_000), ..job("Count") };
    let whole = Number { value: 1, padding: vec![0; 900] }.encoded_len();
    let padding = u32::try_from(900 + limit - whole).unwrap();
    for fits in [padding - 1, padding] {
        assert_eq!(bench.answers(count_job(), vec![count(2, fits)]).await.len(), 2);
    }
    let sent = bench.limited(count_job(), vec![count(2, padding + 1)], "OUTPUT_LIMIT").await;
    assert!(sent.is_empty());
    let handed = Job { limits: limits(10_000), ..job("Count") };
    bench.limited(handed, vec![count(2, 20_000)], "HOST_CALL_LIMIT").await;
    bench.gone().await;
}

#[tokio::test]
async fn fuel_and_memory_are_limited_as_in_a_unary_call() {
    let bench = Bench::new();
    let frugal = Limits { fuel: 10_000_000, ..Limits::default() };
    let sent = bench.limited(Job { limits: frugal, ..job("Flood") }, vec![count(0, 0)], "FUEL_LIMIT").await;
    assert!(!sent.is_empty(), "the flood began");
    let small = Limits { memory_mib: 16, ..Limits::default() };
    bench.limited(Job { limits: small, ..job("Count") }, vec![count(1, 100 << 20)], "MEMORY_LIMIT").await;
}

#[tokio::test]
async fn what_answers_unary_calls_only_does_not_stream() {
    let bench = Bench::new();
    let components =
        [("handler", echo_handler(), Kind::WasmHandler), ("command", distinct_command(1), Kind::WasmCommand)];
    for (name, bytes, kind) in components {
        let file = bench.folder.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let any = || Job { code: code_of(&file, kind), ..job("Any") };
        let ExecFailure { error, receipt } = bench.open(any(), 1).end.await.unwrap().unwrap_err();
        assert!(matches!(error, ExecError::NoStreaming), "{name}: {error:?}");
        assert!(receipt.is_none(), "{name}: no instance was made");
        bench.executor.run(any()).await.unwrap().reply.unwrap(); // unary calls go on
    }
}
