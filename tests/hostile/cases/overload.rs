//! O: more than the node can do.

use crate::case::{Case, Cost, Miss, Verdict, check, done_or, refused, told};
use crate::node::Node;
use crate::outside::Outside;
use crate::target::{Target, any, code};
use collector::cli::PluginFile;
use collector::rpc::pb;
use prost_types::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

pub fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "O01",
            "ten times as many clients as a node with two slots keeps up with",
            "most of the peak goes on, the rest RESOURCE_EXHAUSTED with RetryInfo, normal after 5 s",
            |t| Box::pin(o01(t)),
        )
        .costs(Cost::Heavy),
        Case::new(
            "O02",
            "64 guests that spin, then 64 that take memory; both again where quotas bind, then the disk and the network",
            "the bystander: 99 % success; RESOURCE_EXHAUSTED (QUOTA) over each",
            |t| Box::pin(o02(t)),
        )
        .costs(Cost::Heavy),
        Case::new(
            "O03",
            "idle connections, then a thousand more at once",
            "64 KiB each at most; first answer in 2 s",
            |t| Box::pin(o03(t)),
        )
        .costs(Cost::Heavy),
        Case::new(
            "O04",
            "clients of such a node that repeat every failure at once",
            "normal 10 s after they stop",
            |t| Box::pin(o04(t)),
        )
        .costs(Cost::Heavy),
        Case::new(
            "O05",
            "sins among calls at half of what the node does, for as long as there is time (an hour in a full run)",
            "memory and descriptors stay where they were; in a full run the slowest calls, too",
            |t| Box::pin(o05(t)),
        )
        .costs(Cost::Heavy),
    ]
}

#[derive(Debug, Default)]
struct Load {
    done: AtomicU64,
    refused: AtomicU64,
    unhinted: AtomicU64,
    slowest_refusal_us: AtomicU64,
    /// Of calls that were done, in microseconds.
    took: std::sync::Mutex<Vec<u64>>,
    other: std::sync::Mutex<Option<String>>,
}

impl Load {
    fn note(&self, answer: Result<(), Status>, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        match answer {
            Ok(()) => {
                self.done.fetch_add(1, Ordering::Relaxed);
                self.took.lock().unwrap().push(micros);
            }
            Err(status) if status.code() == Code::ResourceExhausted => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let hint = status.get_details_retry_info().and_then(|info| info.retry_delay);
                self.unhinted.fetch_add(u64::from(hint.is_none()), Ordering::Relaxed);
                self.slowest_refusal_us.fetch_max(micros, Ordering::Relaxed);
            }
            Err(status) => *self.other.lock().unwrap() = Some(told(&status)),
        }
    }
}

fn hello(t: &Target) -> pb::ServeRequest {
    let hello = crate::messages::Hello { name: "me".into(), locale: String::new() };
    by_digest(t, &t.guests.greeter, ("greeter.v1.Greeter", "SayHello"), any("greeter.v1.HelloRequest", &hello))
}

/// What keeps a slot for a while, and no core.
fn nap(t: &Target) -> pb::ServeRequest {
    let sin = crate::messages::Sin { amount: 5, text: String::new() };
    by_digest(t, &t.guests.misbehave, ("misbehave.v1.Misbehave", "Sleep"), any("misbehave.v1.Sin", &sin))
}

fn by_digest(t: &Target, plugin: &PluginFile, (service, method): (&str, &str), input: Any) -> pb::ServeRequest {
    let uri = format!("sha256:{}", plugin.artifact.digest);
    pb::ServeRequest {
        namespace: t.namespace.clone(),
        service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: service.into() }),
        method_name: method.into(),
        input: Some(input),
        execution_context: Default::default(),
        service_def: Some(pb::serve_request::ServiceDef::ServiceUri(uri)),
    }
}

/// A node that can do little, so that there can be too much for it.
fn small(t: &Target) -> Result<(Node, Target), Miss> {
    t.other(&["wasm.slots=2".into(), "wasm.queue=8".into()])
}

/// Clients that call one after the other for a while; calls done a second.
async fn load(
    t: &Target,
    call: fn(&Target) -> pb::ServeRequest,
    clients: usize,
    lasts: Duration,
    rest: Duration,
) -> Result<(f64, Arc<Load>), String> {
    let load = Arc::new(Load::default());
    let until = Instant::now() + lasts;
    let mut all = JoinSet::new();
    // 16 share a connection, which has a hundred streams.
    let wire = |_| crate::wire::Wire::new(&t.address, t.token.clone(), Arc::clone(&t.wire.seen));
    let wires = (0..clients.div_ceil(16)).map(wire).collect::<Result<Vec<_>, _>>()?;
    for wire in (0..clients).filter_map(|n| wires.get(n / 16)) {
        let wire = wire.clone();
        let (load, request) = (Arc::clone(&load), call(t));
        all.spawn(async move {
            while Instant::now() < until {
                let began = Instant::now();
                let answer = wire.to(crate::target::SERVE).status(&request).await;
                load.note(answer, began.elapsed());
                tokio::time::sleep(rest).await;
            }
        });
    }
    all.join_all().await;
    let other = load.other.lock().unwrap().take();
    check(other.is_none(), || format!("neither done nor refused: {}", other.unwrap_or_default()))?;
    Ok((load.done.load(Ordering::Relaxed) as f64 / lasts.as_secs_f64(), load))
}

async fn o01(t: &Target) -> Verdict {
    let (_node, t) = &small(t)?;
    t.prepare().await?;
    let lasts = Duration::from_secs(t.many(2, 60) as u64);
    let (peak, _) = load(t, nap, 8, Duration::from_secs(1), Duration::ZERO).await?;
    let (goodput, over) = load(t, nap, 100, lasts, Duration::ZERO).await?;
    let (refused, unhinted) = (over.refused.load(Ordering::Relaxed), over.unhinted.load(Ordering::Relaxed));
    check(refused > 0, || "nobody was refused: it was no overload".to_owned())?;
    check(unhinted == 0, || format!("{unhinted} of {refused} refusals do not say when to try again"))?;
    // A half: the clients, and what else runs, share the machine with the node here; the bar of 90 % is the benchmark's.
    check(goodput >= peak / 2.0, || format!("{goodput:.0} a second of {peak:.0}"))?;
    let began = Instant::now();
    t.lives().await?;
    check(began.elapsed() < Duration::from_secs(5), || "slow afterwards".to_owned())?;
    let slowest = over.slowest_refusal_us.load(Ordering::Relaxed) / 1_000;
    Ok(format!("{:.0} % of the peak, {refused} refused, the slowest in {slowest} ms", 100.0 * goodput / peak.max(1.0)))
}

async fn o02(t: &Target) -> Verdict {
    t.prepare().await?;
    crowd(t, Duration::from_millis(750)).await?;
    let bound = t.part("-c");
    bound.prepare().await?;
    bound.quota(&[("cpu_ms_per_second", 500), ("memory_mib", 256), ("concurrent_calls", 32)]).await?;
    let mut over = crowd(&bound, Duration::from_millis(500)).await?;
    check(over > 0, || "no quota was met".to_owned())?;
    bound.quota(&[("cpu_ms_per_second", 0), ("stored_mib", 4), ("egress_kib_per_second", 16)]).await?;
    over += hoard(&bound).await? + babble(&bound).await?;
    let fared = t.bystander.fared().await;
    fared.judge()?;
    let p99 = fared.p99.as_millis();
    Ok(format!("{} calls, {} failed, p99 {p99} ms; {over} over a quota", fared.done, fared.failed))
}

/// 64 guests that spin, then 64 that take memory; how many were over a quota.
async fn crowd(t: &Target, lasts: Duration) -> Result<u64, String> {
    let over = Arc::new(AtomicU64::new(0));
    let codes = [Code::DeadlineExceeded, Code::ResourceExhausted];
    for (method, amount) in [("Spin", 0), ("GrowMemory", 48)] {
        let until = Instant::now() + lasts * 2;
        let mut sins = JoinSet::new();
        for _ in 0..64 {
            let (target, over) = (t.again(), Arc::clone(&over));
            sins.spawn(async move {
                while Instant::now() < until {
                    match target.sin(method, amount, "", Some(lasts)).await {
                        Ok(_) => {}
                        Err(status) => {
                            over.fetch_add(u64::from(told(&status).contains("[QUOTA]")), Ordering::Relaxed);
                            refused::<()>(method, Err(status), &codes)?;
                            tokio::time::sleep(Duration::from_millis(100)).await;
                        }
                    }
                }
                Ok::<(), String>(())
            });
        }
        sins.join_all().await.into_iter().collect::<Result<Vec<()>, String>>()?;
    }
    Ok(over.load(Ordering::Relaxed))
}

/// Records of 128 KiB from 16 clients, until the disk that they may have is full; how many were over it.
async fn hoard(t: &Target) -> Result<u64, Miss> {
    t.collection("hoard", "").await?;
    let mut clients = JoinSet::new();
    for client in 0..16 {
        let target = t.again();
        clients.spawn(async move {
            let item = || any("x.Y", &prost_types::Value::from("x".repeat(128 << 10)));
            let mut over = 0;
            for n in 0..8 {
                let made = target.create("hoard", &format!("{client}-{n}"), item()).await;
                over += u64::from(!done_or("a record", made, &[Code::ResourceExhausted, Code::AlreadyExists])?);
            }
            Ok::<u64, String>(over)
        });
    }
    let over = clients.join_all().await.into_iter().sum::<Result<u64, String>>()?;
    check(over > 0, || "16 MiB found room in 4".to_owned())?;
    Ok(over)
}

/// Guests that fetch 64 KiB at a time, 16 at once, more than they may; how many were over it.
async fn babble(t: &Target) -> Result<u64, Miss> {
    t.errands().await?;
    let outside = Outside::saying(format!("HTTP/1.1 200 OK\r\n\r\n{}", "x".repeat(64 << 10)), false).await?;
    t.grant(&[&outside.grant()]).await?;
    let mut guests = JoinSet::new();
    for _ in 0..16 {
        let (target, order) = (t.again(), outside.order(&[]));
        guests.spawn(async move {
            let mut over = 0;
            for _ in 0..8 {
                let said = target.fetch(&order).await;
                over += u64::from(!done_or("a fetch", said, &[Code::ResourceExhausted])?);
            }
            Ok::<u64, String>(over)
        });
    }
    let over = guests.join_all().await.into_iter().sum::<Result<u64, String>>()?;
    check(over > 0, || "8 MiB came in where 16 KiB may in a second".to_owned())?;
    Ok(over)
}

async fn o03(t: &Target) -> Verdict {
    let before = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    let mut idle = Vec::new();
    for _ in 0..t.many(300, 900) {
        match t.raw(&[]).await {
            Ok(raw) => idle.push(raw),
            Err(_) => break,
        }
    }
    let count = idle.len() as u64;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let after = t.watched().and_then(|node| node.held().ok()).map_or(0, |held| held.rss_kib);
    let each = after.saturating_sub(before) / count.max(1);
    check(each <= 64, || format!("{each} KiB for each of {count}"))?;
    drop(idle);
    let mut rush = JoinSet::new();
    let began = Instant::now();
    for _ in 0..t.many(200, 1_000) {
        let (address, token, seen) = (t.address.clone(), t.token.clone(), Arc::clone(&t.wire.seen));
        rush.spawn(async move {
            let wire = crate::wire::Wire::new(&address, token, seen).ok()?;
            wire.to("collector.CollectionService/Meta").status(&pb::MetaRequest {}).await.ok()?;
            Some(began.elapsed())
        });
    }
    let answered: Vec<Duration> = rush.join_all().await.into_iter().flatten().collect();
    let first = answered.iter().min().copied().unwrap_or(Duration::MAX);
    check(first < Duration::from_secs(2), || "nobody was answered within 2 s".to_owned())?;
    Ok(format!("{count} idle, {each} KiB each; {} answered, the first in {} ms", answered.len(), first.as_millis()))
}

async fn o04(t: &Target) -> Verdict {
    let (_node, t) = &small(t)?;
    t.prepare().await?;
    let (_, over) = load(t, nap, 200, Duration::from_secs(t.many(2, 30) as u64), Duration::ZERO).await?;
    let refused = over.refused.load(Ordering::Relaxed);
    check(refused > 200, || format!("{refused} were refused: nobody had to try again"))?;
    let began = Instant::now();
    let code = code(&t.guests.greeter);
    let input = any("greeter.v1.HelloRequest", &crate::messages::Hello { name: "me".into(), locale: String::new() });
    let mut well = 0;
    while well < 20 {
        check(began.elapsed() < Duration::from_secs(10), || "it does not recover".to_owned())?;
        let answer = t.serve("greeter.v1.Greeter", "SayHello", input.clone(), code.clone(), None).await;
        well = if answer.is_ok() { well + 1 } else { 0 };
    }
    Ok(format!("{refused} refused, well again after {} ms", began.elapsed().as_millis()))
}

/// Parts of the soak, of which the first two warm it up.
const PARTS: usize = 6;
/// KiB by which memory may be more at the end, beside 1 MiB for each ten minutes: what an allocator keeps of a burst.
const SLACK_KIB: u64 = 8 << 10;

async fn o05(t: &Target) -> Verdict {
    t.lives().await?;
    t.prepare().await?;
    let part = Duration::from_secs(t.many(2, 600) as u64);
    let (mut held, mut slowest) = (Vec::new(), Vec::new());
    for _ in 0..PARTS {
        let sinner = t.again();
        let until = Instant::now() + part;
        let sins = tokio::spawn(async move {
            for (method, amount) in [("Trap", 0), ("GrowMemory", 1_000), ("Panic", 0), ("FloodLog", 100)].iter().cycle()
            {
                if Instant::now() >= until {
                    return;
                }
                let _ = sinner.sin(method, *amount, "soak", Some(Duration::from_millis(250))).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        // A client with a pause as long as a call takes gives half of the load that it could.
        let (_, load) = load(t, hello, 8, part, Duration::from_millis(1)).await?;
        sins.await.map_err(|why| why.to_string())?;
        let mut took = std::mem::take(&mut *load.took.lock().unwrap());
        took.sort_unstable();
        slowest.push(took.get(took.len() * 99 / 100).copied().unwrap_or_default());
        held.extend(t.watched().and_then(|node| node.held().ok()));
    }
    let minutes = part.as_secs() * (PARTS as u64 - 2) / 60;
    let [.., last] = &held[..] else { return Ok("watched from afar: memory is not known".to_owned()) };
    let warm = held.get(1..3).into_iter().flatten();
    let (rss, descriptors) = warm.fold((0, 0), |(rss, open), one| (one.rss_kib.max(rss), one.descriptors.max(open)));
    let more = last.rss_kib.saturating_sub(rss);
    check(more <= SLACK_KIB + minutes * 1_024 / 10, || format!("{more} KiB more after {minutes} minutes"))?;
    check(last.descriptors <= descriptors + 16, || format!("{} descriptors, {descriptors} before", last.descriptors))?;
    let drift = slowest.last().copied().unwrap_or_default() as f64 / slowest.get(1).copied().unwrap_or(1).max(1) as f64;
    check(!t.full || drift < 1.1, || format!("p99 is {drift:.2} times what it was"))?;
    Ok(format!("{more} KiB more, {} descriptors ({descriptors}), p99 {drift:.2}x, in {PARTS} parts", last.descriptors))
}
