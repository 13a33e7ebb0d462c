//! A quiet namespace beside a noisy one.

use crate::client::{Caller, Ended};
use crate::noise::{AT_ONCE, Neighbour, SINS};
use crate::report::{Row, micros, quantile};
use serde_json::json;
use std::time::Duration;
use tonic::Code;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Between two calls of the quiet one: a tenth of what its share would let it.
const BETWEEN: Duration = Duration::from_millis(5);
/// Until a neighbour is loud.
const WARMING: Duration = Duration::from_millis(500);

/// * `calls`: of the quiet namespace beside each neighbour.
/// * `token`: good for both namespaces.
pub(crate) async fn run(address: &str, token: Option<&str>, calls: usize, quick: bool) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let sins = SINS.iter().map(|(name, _)| *name);
    for what in ["Hello"].into_iter().chain(sins).take(if quick { 2 } else { usize::MAX }) {
        rows.push(beside(address, token, calls, what).await?);
    }
    Ok(rows)
}

/// Beside one of them.
pub(crate) async fn beside(address: &str, token: Option<&str>, calls: usize, what: &str) -> Result<Row, Failure> {
    let quiet = Caller::connect(address, "quiet", token)?;
    listen(&quiet, 100).await?;
    // A baseline for each, so that whatever else the machine does meets both.
    let alone = listen(&quiet, calls).await?;
    let noisy = {
        let _neighbour = Neighbour::start(address, token, what)?;
        tokio::time::sleep(WARMING).await;
        listen(&quiet, calls).await?
    };
    tokio::time::sleep(WARMING).await;
    Ok(row(what, &alone, &noisy))
}

async fn listen(quiet: &Caller, calls: usize) -> Result<Vec<Ended>, Failure> {
    let mut all = Vec::with_capacity(calls);
    for _ in 0..calls {
        all.push(quiet.hello().await?);
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(all)
}

fn row(what: &str, alone: &[Ended], beside: &[Ended]) -> Row {
    let p99 = |all: &[Ended]| quantile(&all.iter().map(|one| one.took).collect::<Vec<_>>(), 0.99);
    let good = beside.iter().filter(|one| one.code == Code::Ok).count();
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let share = good as f64 / beside.len().max(1) as f64 * 100.0;
    let (alone, beside) = (micros(p99(alone)), micros(p99(beside)));
    let ratio = beside / alone.max(f64::MIN_POSITIVE);
    Row::new(
        format!(
            "fair  beside {AT_ONCE} x {what:<22} {share:>6.2} % ok, p99 {beside:>8.1} us = {ratio:.2}x alone ({alone:.1} us)"
        ),
        json!({ "fair": what, "ok_percent": share, "p99_us": beside, "alone_p99_us": alone, "ratio": ratio }),
    )
}
