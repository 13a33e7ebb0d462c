//! Cases at random, until so many hostile calls were made.

use crate::case::{Case, Cost, Miss};
use crate::process::Slack;
use crate::report::{Outcome, Row};
use crate::suite::{Invariants, Suite};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Cases at once, each in a namespace of its own.
pub const JOBS: usize = 8;
/// One of so many is a slow one.
const SLOW: u64 = 100;
/// How often the figures are told.
const TELL: Duration = Duration::from_secs(10);
/// What a case that fails in passing may say; more are counted.
const FAILURES: usize = 10;

/// Runs cases at random until `calls` were made.
///
/// * returns: a row for all of it.
pub async fn sample(suite: &Suite, cases: &[Case], calls: u64, seed: u64) -> Row {
    let began = Instant::now();
    let invariants = match Invariants::before(suite).await {
        Ok(invariants) => invariants,
        Err(why) => return Row::whole("SAMPLE", Outcome::Failed, why, began.elapsed()),
    };
    let first = suite.seen.calls();
    let made = || suite.seen.calls() - first;
    let fit = |cost: Cost| cases.iter().filter(|case| case.cost == cost).collect::<Vec<_>>();
    let (cheap, slow) = (fit(Cost::Cheap), fit(Cost::Slow));
    let round = AtomicU64::new(seed);
    let failures = std::sync::Mutex::new(BTreeMap::<&'static str, (u64, String)>::new());
    let job = |job: usize| {
        let (cheap, slow, round, failures) = (&cheap, &slow, &round, &failures);
        async move {
            while made() < calls {
                let n = mix(round.fetch_add(1, Ordering::Relaxed));
                let from = if n.is_multiple_of(SLOW) && !slow.is_empty() || cheap.is_empty() { slow } else { cheap };
                let Some(case) = from.get(usize::try_from(n >> 32).unwrap_or(0) % from.len().max(1)) else { return };
                let verdict = match suite.target(n, job + 1, false) {
                    Ok(target) => (case.run)(&target).await,
                    Err(why) => Err(Miss::Failed(why)),
                };
                if let Err(Miss::Failed(why)) = verdict {
                    let mut failures = failures.lock().unwrap();
                    failures.entry(case.id).or_insert((0, why)).0 += 1;
                }
            }
        }
    };
    let tell = async {
        loop {
            tokio::time::sleep(TELL).await;
            let rss = suite.watched().and_then(|watched| watched.held().ok()).map_or(0, |held| held.rss_kib >> 10);
            let rate = made() as f64 / began.elapsed().as_secs_f64();
            println!("{:>10} calls, {rate:.0} a second, {rss} MiB", made());
        }
    };
    tokio::select! {
        _ = futures_util::future::join_all((0..JOBS).map(job)) => {}
        () = tell => {}
    }
    let took = began.elapsed();
    let mut broken = invariants.after(suite, Slack::RUN).await;
    let failures = failures.lock().unwrap();
    let failed = failures.iter().take(FAILURES).map(|(id, (times, why))| format!("{id} failed {times} times: {why}"));
    broken.extend(failed);
    let codes = suite.seen.by_code();
    let codes: Vec<String> = codes.iter().map(|(code, count)| format!("{code} {count}")).collect();
    let figure = format!("{} calls in {:.0} s; {}", made(), took.as_secs_f64(), codes.join(", "));
    match broken.is_empty() {
        true => Row::whole("SAMPLE", Outcome::Held, figure, took),
        false => Row::whole("SAMPLE", Outcome::Failed, format!("{}; {figure}", broken.join("; ")), took),
    }
}

/// A number that looks like any other. Source: splitmix64, Steele et al. 2014.
fn mix(n: u64) -> u64 {
    let n = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}
