//! N03: all of it that there is, and no end.

use super::{Host, Sin, host, on_every_native_executor};
use crate::contract::{How, marker, ran};
use crate::support::*;
use std::time::Duration;
use tonic::Code;

on_every_native_executor! {
    n03_whatever_is_taken_has_an_end,
    n03_time_ends_also_for_the_deaf,
    every_end_is_one,
}

async fn n03_whatever_is_taken_has_an_end(how: How) {
    let host = host!(how);
    processes(&host).await;
    threads(&host).await;
    memory(&host).await;
    disks(&host).await;
}

/// The number in `what: number, then ERROR`.
fn got(said: &str) -> u64 {
    let number = said.split([' ', ',']).nth(1).unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("{said}"))
}

async fn processes(host: &Host) {
    let marker = marker();
    let said = host.commit(Sin::new("ForkBomb").marked(&marker)).await.unwrap();
    match host.how {
        How::Container | How::ColdContainer => assert!(got(&said) < 64 && said.ends_with("then EAGAIN\n"), "{said}"),
        _ => assert_eq!(said, "fork: 0, then EPERM\n"),
    }
    host.is_unharmed(&marker).await;
}

async fn threads(host: &Host) {
    let marker = marker();
    let said = host.commit(Sin::new("ThreadBomb").marked(&marker)).await.unwrap();
    let most = if host.how.is_container() { 64 } else { 16 };
    assert!(got(&said) < most && said.ends_with("then EAGAIN\n"), "{said}");
    host.is_unharmed(&marker).await;
}

async fn memory(host: &Host) {
    let before = host.process.resident_kib();
    let (marker, all) = (marker(), (100 << 10).to_string());
    let sin = Sin::new("Allocate").input(all).memory_mib(48).marked(&marker);
    let peak = match host.serve(sin).await {
        Ok(answer) => {
            let said = String::from_utf8(answer.output.value).unwrap();
            assert!(got(&said) < 48 && said.ends_with("then ENOMEM\n"), "{said}");
            answer.receipt.get("collector-peak-memory-bytes").cloned()
        }
        Err(status) => {
            assert_eq!(verdict(&status), (Code::ResourceExhausted, "MEMORY_LIMIT".into()), "{status:?}");
            status.metadata().get("collector-peak-memory-bytes").map(|peak| peak.to_str().unwrap().to_owned())
        }
    };
    // Beside its memory a process has its code and its stack. An engine does not tell.
    let own = |peak: String| (32 << 20..(48 + 16) << 20).contains(&peak.parse::<u64>().unwrap());
    assert_eq!(peak.map(own), (!host.how.is_container()).then_some(true), "its own memory");
    assert!(host.process.resident_kib() < before + (32 << 10), "none of it is the node's");
    host.is_unharmed(&marker).await;
}

async fn disks(host: &Host) {
    let marker = marker();
    for _ in 0..2 {
        let said = host.commit(Sin::new("FillDisk").marked(&marker)).await.unwrap();
        for line in said.lines() {
            let most = if host.how.is_container() && line.starts_with("/tmp: ") { 16 << 20 } else { 0 };
            assert!(got(line) <= most, "{said}");
        }
    }
    assert!(!std::path::Path::new("/tmp/collector-hostile-0").exists());
    host.is_unharmed(&marker).await;
}

async fn n03_time_ends_also_for_the_deaf(how: How) {
    let host = host!(how);
    let limit = Duration::from_secs(1);
    for (method, input) in [("IgnoreSignals", ""), ("CloseEverything", "60000")] {
        let marker = marker();
        let sin = Sin::new(method).input(input).timeout(limit).marked(&marker);
        let status = host.commit(sin).await.unwrap_err();
        assert_eq!(verdict(&status), (Code::DeadlineExceeded, "DEADLINE".into()), "{status:?}");
        // 100 ms by the threat model; the rest is for a machine that does much else.
        assert!(ran(&status) < limit + Duration::from_millis(500), "{:?}", ran(&status));
        host.is_unharmed(&marker).await;
    }
}

async fn every_end_is_one(how: How) {
    let host = host!(how, &["exec.container.warm=1"]);
    let marker = marker();
    let status = host.commit(Sin::new("Crash").marked(&marker)).await.unwrap_err();
    assert_eq!(verdict(&status), (Code::Unknown, "GUEST_EXIT".into()), "{status:?}");
    assert!(status.message().contains("SIGSEGV"), "{}", status.message());
    for (signal, name) in [(2, "signal 2"), (6, "SIGABRT"), (15, "SIGTERM"), (19, ""), (64, "signal 64")] {
        let sin = Sin::new("Raise").input(signal.to_string()).timeout(Duration::from_secs(1)).marked(&marker);
        match host.commit(sin).await {
            Err(status) if host.how == How::Memexec => {
                let stopped = (Code::DeadlineExceeded, "DEADLINE".to_owned());
                let ended = (Code::Unknown, "GUEST_EXIT".to_owned());
                assert_eq!(verdict(&status), if name.is_empty() { stopped } else { ended }, "{signal}: {status:?}");
                assert!(status.message().contains(name), "{signal}: {}", status.message());
            }
            Ok(said) if host.how == How::Memexec => panic!("{said}"),
            // The first process of a container does not hear some of its own signals: it may live.
            Ok(said) => assert_eq!(said, format!("lived through signal {signal}\n")),
            Err(status) => {
                let ends = [(Code::Unknown, "GUEST_EXIT".into()), (Code::DeadlineExceeded, "DEADLINE".into())];
                assert!(ends.contains(&verdict(&status)), "{status:?}");
            }
        }
    }
    host.is_unharmed(&marker).await;
}
