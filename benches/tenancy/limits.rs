//! How late deadlines are, and what a node gives that is asked for ten times what it can do.

use super::client::{Caller, Ended, Sin};
use crate::Failure;
use crate::report::{Rounds, Row, Unit, micros, quantile};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tonic::Code;

const SPIN: &str = "/misbehave.v1.Misbehave/Spin";
const SLEEP: &str = "/misbehave.v1.Misbehave/Sleep";
/// Deadline of a guest that never ends.
const DEADLINE: Duration = Duration::from_millis(50);
/// Rounds that the calls are cut into, as they ended.
const PARTS: usize = 5;
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
    let (mut rounds, name) = (Rounds::default(), format!("late: deadline of a spinning guest, {SPINNERS} at a time"));
    late.chunks(calls.div_ceil(PARTS)).for_each(|part| rounds.calls(&name, part));
    Ok(rounds.alone(&name).with("p99.9 us", micros(quantile(&late, 0.999))))
}

/// Slots of the node that is asked for too much, and how long a call holds one.
pub(crate) const SLOTS: usize = 8;
const HELD: Duration = Duration::from_millis(20);

/// Goodput at the peak and at ten times of it, and how quick refusals are.
///
/// * `address`: of a node with [`SLOTS`] slots.
/// * `span`: of each half of a round.
pub(crate) async fn overload(
    address: &str,
    token: Option<&str>,
    span: Duration,
    count: usize,
) -> Result<[Row; 2], Failure> {
    const PEAK: &str = "goodput at the peak";
    const TENFOLD: &str = "goodput at ten times of it";
    let caller = Caller::connect(address, "noisy", token)?;
    let (mut rounds, mut refused, mut others) = (Rounds::default(), Vec::new(), 0);
    for _ in 0..count {
        let peak = closed(&caller, span).await?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "calls a second of a benchmark")]
        let rate = (peak * 10.0) as u32;
        let ended = open(&caller, rate, span).await?;
        let good = per_second(ended.iter().filter(|one| one.code == Code::Ok).count(), span);
        rounds.value(PEAK, Unit::Rate, peak, 1);
        rounds.value(TENFOLD, Unit::Rate, good, ended.len());
        refused.extend(ended.iter().filter(|one| one.code == Code::ResourceExhausted).map(|one| one.took));
        others += ended.iter().filter(|one| !matches!(one.code, Code::Ok | Code::ResourceExhausted)).count();
    }
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let tenfold = rounds
        .row(TENFOLD, PEAK)
        .with("refused", count(refused.len()))
        .with("p99 of refusals us", micros(quantile(&refused, 0.99)))
        .with("other ends", count(others));
    Ok([rounds.row(PEAK, PEAK), tenfold])
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
                good += usize::from(sleep(&caller, HELD).await.is_ok_and(|ended| ended.code == Code::Ok));
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
        tasks.spawn(async move { sleep(&caller, HELD).await });
    }
    tasks.join_all().await.into_iter().collect()
}

/// A guest that runs so long and does nothing.
pub(crate) async fn sleep(caller: &Caller, span: Duration) -> Result<Ended, Failure> {
    let amount = u64::try_from(span.as_millis())?;
    caller.call(SLEEP, Sin { amount, text: String::new() }, Duration::from_secs(10)).await
}
