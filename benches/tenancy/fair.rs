//! A quiet namespace beside a noisy one.

use super::client::{Caller, Ended};
use super::noise::{AT_ONCE, Neighbour, SINS};
use crate::Failure;
use crate::process::Process;
use crate::report::{Rounds, Row, Unit, micros, quantile};
use std::time::Duration;
use tonic::Code;

/// Between two calls of the quiet one: a tenth of what its share would let it.
const BETWEEN: Duration = Duration::from_millis(5);
/// Calls of a round that a p99 is read off; there are as many rounds as they make, with a neighbour and without one.
const ROUND: usize = 200;
/// Until a neighbour is loud.
const WARMING: Duration = Duration::from_millis(500);

/// By how much a quiet namespace may be slowed.
const BAR: f64 = 2.0;

/// * `calls`: of the quiet namespace beside each neighbour.
/// * `token`: good for both namespaces.
pub(crate) async fn run(address: &str, token: Option<&str>, calls: usize, quick: bool) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let sins = SINS.iter().map(|(name, _)| *name);
    for what in ["Hello"].into_iter().chain(sins).take(if quick { 2 } else { usize::MAX }) {
        rows.extend(beside(address, token, calls, what).await?);
    }
    Ok(rows)
}

/// Beside one of them. What the neighbour costs whoever else is on the machine shows in a plain echo, in a process of its
/// own, that is called in turns with the node.
pub(crate) async fn beside(address: &str, token: Option<&str>, calls: usize, what: &str) -> Result<[Row; 2], Failure> {
    let echo = Process::echo()?;
    let both = [Caller::connect(address, "quiet", token)?, Caller::connect(&echo.address, "quiet", None)?];
    listen(&both, 100).await?;
    let (mut rounds, mut good, mut all) = (Rounds::default(), 0, 0);
    let parts = (calls / ROUND).max(1);
    for _ in 0..parts {
        // A baseline for each, so that whatever else the machine does meets both.
        let [alone, echo_alone] = listen(&both, calls / parts).await?;
        let [noisy, echo_noisy] = {
            let _neighbour = Neighbour::start(address, token, what)?;
            tokio::time::sleep(WARMING).await;
            listen(&both, calls / parts).await?
        };
        tokio::time::sleep(WARMING).await;
        let name = name(what);
        rounds.value(ALONE, Unit::Time, p99(&alone), alone.len());
        rounds.value(&name, Unit::Time, p99(&noisy), noisy.len());
        rounds.beside(&name, "median us", median(&noisy));
        rounds.beside(&name, "median alone us", median(&alone));
        rounds.beside(&name, "plain echo, p99 us", p99(&echo_noisy));
        rounds.beside(&name, "plain echo, times of alone", p99(&echo_noisy) / p99(&echo_alone));
        good += noisy.iter().filter(|one| one.code == Code::Ok).count();
        all += noisy.len();
    }
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let share = good as f64 / all.max(1) as f64 * 100.0;
    let bar =
        Row::at_most(&format!("quiet namespace beside {what} / alone, p99"), rounds.ratio(&name(what), ALONE), BAR);
    Ok([rounds.row(&name(what), ALONE).with("% ok", share), bar])
}

const ALONE: &str = "p99 of the quiet namespace alone";

fn name(what: &str) -> String {
    format!("p99 of the quiet namespace beside {AT_ONCE} x {what}")
}

fn p99(all: &[Ended]) -> f64 {
    part(all, 0.99)
}

fn median(all: &[Ended]) -> f64 {
    part(all, 0.5)
}

fn part(all: &[Ended], part: f64) -> f64 {
    micros(quantile(&all.iter().map(|one| one.took).collect::<Vec<_>>(), part))
}

/// So many calls of each, in turns.
async fn listen(both: &[Caller; 2], calls: usize) -> Result<[Vec<Ended>; 2], Failure> {
    let mut all = [const { Vec::new() }; 2];
    for _ in 0..calls {
        for (caller, ended) in both.iter().zip(&mut all) {
            ended.push(caller.hello().await?);
            tokio::time::sleep(BETWEEN / 2).await;
        }
    }
    Ok(all)
}
