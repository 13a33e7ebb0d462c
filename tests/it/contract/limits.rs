//! The same limits, and an end when the caller leaves.

use super::{Ask, How, Subject, marker, on_every_executor, ran, subject};
use crate::support::*;
use collector::config::Config;
use std::time::Duration;
use tokio::time::Instant;
use tonic::Code;
use tonic_types::StatusExt as _;

on_every_executor! {
    time_is_bounded,
    memory_is_bounded_by_what_the_caller_asks,
    replies_below_at_and_above_the_limit,
    a_flood_of_log_lines_is_dropped_and_the_call_goes_on,
    calls_beyond_slots_and_queue_are_refused_with_a_hint,
    a_client_that_hangs_up_ends_what_runs,
    a_node_that_stops_ends_what_runs,
    fuel_is_for_wasm,
}

/// One call at a time, and one that waits.
fn one_slot(config: &mut Config) {
    (config.wasm.slots, config.wasm.queue) = (1, 1);
    (config.exec.memexec.slots, config.exec.memexec.queue) = (1, 1);
    (config.exec.container.slots, config.exec.container.queue) = (1, 1);
    config.exec.container.warm = 1;
}

/// A call is on its way and its guest runs.
pub(super) async fn until_running(subject: &Subject, marker: &str) {
    until("the guest runs", async || match subject.how {
        How::Component => subject.node.node().wasm_stats().await.running == 1,
        _ => !running(marker).is_empty(),
    })
    .await;
}

/// Nothing of it runs any more.
pub(super) async fn until_gone(subject: &Subject, marker: &str) {
    until("the guest is gone", async || match subject.how {
        How::Component => subject.node.node().wasm_stats().await.running == 0,
        _ => running(marker).is_empty(),
    })
    .await;
}

async fn time_is_bounded(how: How) {
    let subject = subject!(how, one_slot);
    subject.goes_on().await; // so that the time is the guest's, not that of making it a place
    let limit = Duration::from_secs(1);
    for (method, amount) in [("Spin", "0"), ("Sleep", "60000")] {
        let marker = marker();
        let began = Instant::now();
        let ask = Ask::new(&subject, "contract", method, amount).marked(&marker).timeout(limit);
        let stopped = ask.fails(Code::DeadlineExceeded, "DEADLINE").await;
        assert!(ran(&stopped) <= limit + Duration::from_secs(2), "{:?}", ran(&stopped));
        assert!(began.elapsed() < Duration::from_secs(10), "the answer does not wait for the guest");
        until_gone(&subject, &marker).await;
    }
    subject.goes_on().await; // in the only slot there is
}

async fn memory_is_bounded_by_what_the_caller_asks(how: How) {
    let subject = subject!(how);
    let ask = |mib: u64| Ask::new(&subject, "contract", "Allocate", mib.to_string()).memory_mib(32);
    assert_eq!(ask(8).run().await.unwrap().output.value, b"8");
    let status = ask(200).fails(Code::ResourceExhausted, "MEMORY_LIMIT").await;
    assert!(status.message().contains("limits.memory_mib = 32"), "{}", status.message());
    subject.goes_on().await;
    politely(&subject).await;
}

/// Who asks before it takes is told no, and lives; but an engine has only one way to say it.
async fn politely(subject: &Subject) {
    let sin = plugin("misbehave").encode("misbehave.v1.Sin", r#"{ "amount": "200" }"#).unwrap();
    let mut ask = Ask::new(subject, "misbehave", "GrowMemoryPolitely", sin).upload().memory_mib(32);
    ask = ask.marked("misbehave.v1.Misbehave");
    ask.input.type_url = "type.googleapis.com/misbehave.v1.Sin".into();
    match subject.how {
        How::Container | How::ColdContainer => drop(ask.fails(Code::ResourceExhausted, "MEMORY_LIMIT").await),
        How::Component | How::Memexec => {
            let answer = ask.run().await.unwrap().output.value;
            let got = plugin("misbehave").decode("misbehave.v1.Outcome", &answer).unwrap()["amount"].clone();
            let got: u64 = got.as_str().unwrap().parse().unwrap();
            assert!((16..32).contains(&got), "{got}");
        }
    }
}

async fn replies_below_at_and_above_the_limit(how: How) {
    let subject = subject!(how, |config| config.limits.output_bytes = 100_000);
    for bytes in [99_999_usize, 100_000] {
        assert_eq!(subject.say("Reply", &bytes.to_string()).await.len(), bytes);
    }
    for above in ["100001", "100000000000"] {
        let marker = marker();
        let ask = Ask::new(&subject, "contract", "Reply", above).marked(&marker);
        let status = ask.fails(Code::ResourceExhausted, "OUTPUT_LIMIT").await;
        assert!(status.message().contains("limits.output_bytes = 100000"), "{}", status.message());
        until_gone(&subject, &marker).await;
    }
    subject.goes_on().await;
}

async fn a_flood_of_log_lines_is_dropped_and_the_call_goes_on(how: How) {
    let subject = subject!(how);
    assert_eq!(subject.say("Log", "2000000").await, "");
    subject.goes_on().await;
}

async fn calls_beyond_slots_and_queue_are_refused_with_a_hint(how: How) {
    let subject = subject!(how, one_slot);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..3 {
        calls.spawn(Ask::new(&subject, "contract", "Spin", "").timeout(Duration::from_secs(2)).run());
    }
    let refused = calls.join_next().await.unwrap().unwrap().unwrap_err();
    assert_eq!(verdict(&refused), (Code::ResourceExhausted, "BUSY".into()), "{refused:?}");
    assert!(refused.get_details_retry_info().and_then(|info| info.retry_delay).is_some(), "{refused:?}");
    while let Some(other) = calls.join_next().await {
        assert_eq!(verdict(&other.unwrap().unwrap_err()), (Code::DeadlineExceeded, "DEADLINE".into()));
    }
    subject.goes_on().await;
}

async fn a_client_that_hangs_up_ends_what_runs(how: How) {
    let subject = subject!(how, one_slot);
    for method in ["Spin", "Sleep"] {
        let marker = marker();
        let call = tokio::task::spawn(Ask::new(&subject, "contract", method, "60000").marked(&marker).run());
        until_running(&subject, &marker).await;
        call.abort();
        until_gone(&subject, &marker).await;
    }
    subject.goes_on().await; // in the only slot there is
}

async fn a_node_that_stops_ends_what_runs(how: How) {
    let mut subject = subject!(how, |config| config.server.grace_ms = 100);
    let marker = marker();
    let id = subject.node.node().id().to_owned();
    let call = tokio::task::spawn(Ask::new(&subject, "contract", "Spin", "").marked(&marker).run());
    until_running(&subject, &marker).await;
    subject.node.node.take().unwrap().stop().await;
    let stopped = call.await.unwrap().unwrap_err();
    assert_eq!(stopped.code(), Code::Unavailable, "{stopped:?}");
    until("the guest is gone", async || running(&marker).is_empty()).await;
    if how.is_container() {
        clean_after(&id); // its images: the node is no more, so nobody else does
    }
}

async fn fuel_is_for_wasm(how: How) {
    let subject = subject!(how);
    let mut ask = Ask::new(&subject, "contract", "Spin", "").timeout(Duration::from_secs(20));
    ask.context.push(("fuel", "50000000".to_owned()));
    match how {
        How::Component => ask.fails(Code::ResourceExhausted, "FUEL_LIMIT").await,
        _ => ask.fails(Code::FailedPrecondition, "METERING_OFF").await,
    };
    subject.goes_on().await;
}
