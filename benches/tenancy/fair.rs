//! A quiet namespace beside a noisy one.

use super::client::{Caller, Ended};
use super::noise::{AT_ONCE, Neighbour, SINS};
use crate::Failure;
use crate::report::{Rounds, Row, Unit, micros, quantile};
use std::time::Duration;
use tonic::Code;

/// Between two calls of the quiet one: a tenth of what its share would let it.
const BETWEEN: Duration = Duration::from_millis(5);
/// Calls of a round that a p99 is read off; there are as many rounds as they make, with a neighbour and without one.
const ROUND: usize = 200;
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
    let (mut rounds, mut good, mut all) = (Rounds::default(), 0, 0);
    let parts = (calls / ROUND).max(1);
    for _ in 0..parts {
        // A baseline for each, so that whatever else the machine does meets both.
        let alone = listen(&quiet, calls / parts).await?;
        let noisy = {
            let _neighbour = Neighbour::start(address, token, what)?;
            tokio::time::sleep(WARMING).await;
            listen(&quiet, calls / parts).await?
        };
        tokio::time::sleep(WARMING).await;
        rounds.value(ALONE, Unit::Time, p99(&alone), alone.len());
        rounds.value(&name(what), Unit::Time, p99(&noisy), noisy.len());
        good += noisy.iter().filter(|one| one.code == Code::Ok).count();
        all += noisy.len();
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let share = good as f64 / all.max(1) as f64 * 100.0;
    Ok(rounds.row(&name(what), ALONE).with("% ok", share))
}

const ALONE: &str = "p99 of the quiet namespace alone";

fn name(what: &str) -> String {
    format!("p99 of the quiet namespace beside {AT_ONCE} x {what}")
}

fn p99(all: &[Ended]) -> f64 {
    micros(quantile(&all.iter().map(|one| one.took).collect::<Vec<_>>(), 0.99))
}

async fn listen(quiet: &Caller, calls: usize) -> Result<Vec<Ended>, Failure> {
    let mut all = Vec::with_capacity(calls);
    for _ in 0..calls {
        all.push(quiet.hello().await?);
        tokio::time::sleep(BETWEEN).await;
    }
    Ok(all)
}
