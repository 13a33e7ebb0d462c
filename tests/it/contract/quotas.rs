//! What a namespace may use, whatever runs its code: charged, booked, and in turns by weight.

use super::limits::{until_gone, until_running};
use super::{Ask, How, Subject, marker, on_every_executor, subject};
use crate::quotas::{over, set, usage};
use crate::support::*;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::Code;

on_every_executor! {
    who_computed_through_the_quota_waits_and_others_do_not,
    a_caller_that_hangs_up_pays_all_the_same,
}
// A component's memory is booked as it grows, see `crate::quotas`.
on_every_executor!(@ in_a_jail Memexec memory_is_booked_below_at_and_above_the_quota turns_are_by_weight);
on_every_executor!(@ in_containers ColdContainer memory_is_booked_below_at_and_above_the_quota);

/// Time that guests of namespace `acme` were charged.
async fn charged(subject: &Subject) -> Duration {
    let cpu = usage(&subject.node, "acme").await.cpu.unwrap_or_default();
    Duration::try_from(cpu).unwrap()
}

fn elsewhere(mut ask: Ask, namespace: &str) -> Ask {
    ask.target.namespace = namespace.into();
    ask
}

async fn who_computed_through_the_quota_waits_and_others_do_not(how: How) {
    let subject = subject!(how);
    let echo = || Ask::new(&subject, "contract", "Echo", "hi");
    let before = charged(&subject).await;
    set(&subject.node, "acme", &[("cpu_ms_per_second", 1)]).await.unwrap();
    let ended = Ask::new(&subject, "contract", "Spin", "").timeout(Duration::from_secs(1)).run().await.unwrap_err();
    match how {
        How::Component => drop(over(&ended, "cpu_ms_per_second", "namespace")),
        _ => assert_eq!(verdict(&ended), (Code::DeadlineExceeded, "DEADLINE".into()), "nobody stops it before"),
    }
    let enough = Duration::from_millis(2);
    until("its end is seen", async || charged(&subject).await > before + enough).await;
    let refused = echo().run().await.unwrap_err();
    assert!(!over(&refused, "cpu_ms_per_second", "namespace").is_zero());
    let answer = elsewhere(echo().upload(), "globex").run().await.unwrap();
    assert_eq!(answer.output.value, b"hi", "others' time is their own");
    set(&subject.node, "acme", &[("cpu_ms_per_second", 0)]).await.unwrap();
    subject.goes_on().await;
}

async fn a_caller_that_hangs_up_pays_all_the_same(how: How) {
    let subject = subject!(how);
    let (marker, before) = (marker(), charged(&subject).await);
    let call = tokio::task::spawn(Ask::new(&subject, "contract", "Spin", "").marked(&marker).run());
    until_running(&subject, &marker).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    call.abort();
    until_gone(&subject, &marker).await;
    let some = Duration::from_millis(50); // of 300, on a machine that does much else
    until("it is charged", async || charged(&subject).await > before + some).await;
}

async fn memory_is_booked_below_at_and_above_the_quota(how: How) {
    let subject = subject!(how);
    let ask = |method: &str, input: &str| Ask::new(&subject, "contract", method, input).memory_mib(32);
    let allow = async |mib| drop(set(&subject.node, "acme", &[("memory_mib", mib)]).await.unwrap());
    let booked = async || usage(&subject.node, "acme").await.memory_bytes >> 20;
    // A container is removed after its answer.
    let nothing_is_booked = async || until("all is given back", async || booked().await == 0).await;
    nothing_is_booked().await;
    allow(31).await;
    over(&ask("Echo", "").run().await.unwrap_err(), "memory_mib", "namespace");
    allow(32).await;
    ask("Echo", "").run().await.unwrap();
    nothing_is_booked().await;

    let marker = marker();
    let call = tokio::task::spawn(ask("Sleep", "60000").marked(&marker).run());
    until_running(&subject, &marker).await;
    assert_eq!(booked().await, 32, "all that it may use, however little it does");
    over(&ask("Echo", "").run().await.unwrap_err(), "memory_mib", "namespace");
    elsewhere(ask("Echo", "").upload(), "globex").run().await.expect("others' memory is their own");
    allow(64).await;
    ask("Echo", "").run().await.expect("there is room for two");
    call.abort();
    until_gone(&subject, &marker).await;
    nothing_is_booked().await;
    allow(32).await;
    ask("Echo", "").run().await.unwrap();
}

async fn turns_are_by_weight(how: How) {
    let subject = subject!(how, |config| config.exec.memexec.slots = 1);
    set(&subject.node, "acme", &[("weight", 10)]).await.unwrap();
    let sleep = |namespace, ms: &str| elsewhere(Ask::new(&subject, "contract", "Sleep", ms), namespace);
    for namespace in ["acme", "globex", "initech"] {
        sleep(namespace, "0").upload().run().await.unwrap(); // each has its jail
    }
    let marker = marker();
    let first = tokio::task::spawn(sleep("initech", "1000").marked(&marker).run());
    until_running(&subject, &marker).await; // the others wait behind it
    let mut calls = JoinSet::new();
    for namespace in ["globex", "acme"].repeat(20) {
        let call = sleep(namespace, "20").run();
        calls.spawn(async move { call.await.map(|_answer| namespace) });
    }
    first.await.unwrap().unwrap();
    let mut turns = Vec::new();
    while turns.len() < 12 {
        turns.push(calls.join_next().await.unwrap().unwrap().unwrap());
    }
    let heavy = turns.iter().filter(|namespace| **namespace == "acme").count();
    assert!(heavy >= 9, "ten of eleven are due: {turns:?}");
}
