//! How late deadlines are, and what a node gives that is asked for ten times what it can do.

use crate::client::{Caller, Ended, Sin};
use crate::report::{Row, micros, quantile};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Code;

type Failure = Box<dyn std::error::Error + Send + Sync>;

const SPIN: &str = "/misbehave.v1.Misbehave/Spin";
const SLEEP: &str = "/misbehave.v1.Misbehave/Sleep";
/// Deadline of a guest that never ends.
const DEADLINE: Duration = Duration::from_millis(50);
/// Such guests at a time.
const SPINNERS: usize = 4;

/// How long after its deadline a spinning guest's caller hears of it.
pub(crate) async fn overrun(address: &str, token: Option<&str>, calls: usize) -> Result<Row, Failure> {
    let caller = Caller::connect(address, "noisy", token)?;
    let places = Arc::new(Semaphore::new(SPINNERS));
    let mut tasks = JoinSet::new();
    for _ in 0..calls {
        let place = Arc::clone(&places).acquire_owned().await?;
        let caller = caller.clone();
        tasks.spawn(async move {
            let ended = caller.call(SPIN, Sin::default(), DEADLINE).await;
            drop(place);
            ended
        });
    }
    let mut late = Vec::with_capacity(calls);
    for ended in tasks.join_all().await {
        let ended = ended?;
        if ended.code != Code::DeadlineExceeded {
            return Err(format!("a guest that spins ended with {:?}", ended.code).into());
        }
        late.push(ended.took.saturating_sub(DEADLINE));
    }
    let (p50, p999) = (micros(quantile(&late, 0.5)) / 1e3, micros(quantile(&late, 0.999)) / 1e3);
    Ok(Row::new(
        format!(
            "late  deadline of a spinning guest       p50 {p50:.2} ms, p99.9 {p999:.2} ms ({calls} calls, {SPINNERS} at a time)"
        ),
        json!({ "late_p50_ms": p50, "late_p999_ms": p999, "calls": calls }),
    ))
}

/// Slots of the node that is asked for too much, and how long a call holds one.
pub(crate) const SLOTS: usize = 8;
const HELD: Duration = Duration::from_millis(20);

/// Goodput at the peak and at ten times of it, and how quick refusals are.
///
/// * `address`: of a node with [`SLOTS`] slots.
pub(crate) async fn overload(address: &str, token: Option<&str>, span: Duration) -> Result<Row, Failure> {
    let caller = Caller::connect(address, "noisy", token)?;
    let peak = closed(&caller, span).await?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "calls a second of a benchmark")]
    let rate = (peak * 10.0) as u32;
    let ended = open(&caller, rate, span).await?;
    let good = per_second(ended.iter().filter(|one| one.code == Code::Ok).count(), span);
    let refused: Vec<Duration> =
        ended.iter().filter(|one| one.code == Code::ResourceExhausted).map(|one| one.took).collect();
    let others = ended.iter().filter(|one| !matches!(one.code, Code::Ok | Code::ResourceExhausted)).count();
    let (kept, slow) = (good / peak * 100.0, micros(quantile(&refused, 0.99)) / 1e3);
    Ok(Row::new(
        format!(
            "load  ten times {peak:.0} calls/s                goodput {kept:.1} % of peak, {} refused, p99 of refusals {slow:.2} ms, {others} other ends",
            refused.len()
        ),
        json!({ "peak_per_s": peak, "goodput_percent": kept, "refused": refused.len(), "refusal_p99_ms": slow, "others": others }),
    ))
}

fn per_second(count: usize, span: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let count = count as f64;
    count / span.as_secs_f64()
}

/// As many at a time as there are slots: calls that ended well, per second.
async fn closed(caller: &Caller, span: Duration) -> Result<f64, Failure> {
    let until = Instant::now() + span;
    let mut tasks = JoinSet::new();
    for _ in 0..SLOTS {
        let caller = caller.clone();
        tasks.spawn(async move {
            let mut good = 0;
            while Instant::now() < until {
                good += usize::from(sleep(&caller).await.is_ok_and(|ended| ended.code == Code::Ok));
            }
            good
        });
    }
    Ok(per_second(tasks.join_all().await.into_iter().sum(), span))
}

/// So many new calls per second, whatever becomes of the ones before.
async fn open(caller: &Caller, rate: u32, span: Duration) -> Result<Vec<Ended>, Failure> {
    let mut ticks = interval(Duration::from_secs(1) / rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let until = Instant::now() + span;
    let mut tasks = JoinSet::new();
    while Instant::now() < until {
        ticks.tick().await;
        let caller = caller.clone();
        tasks.spawn(async move { sleep(&caller).await });
    }
    tasks.join_all().await.into_iter().collect()
}

async fn sleep(caller: &Caller) -> Result<Ended, Failure> {
    let amount = u64::try_from(HELD.as_millis())?;
    caller.call(SLEEP, Sin { amount, text: String::new() }, Duration::from_secs(10)).await
}
