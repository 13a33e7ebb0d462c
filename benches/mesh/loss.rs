//! What callers notice of nodes that are killed, and of nodes that are restarted.

use super::clients::{Crowd, Failed};
use super::nodes::{Nodes, greeted};
use super::{NAMESPACE, job};
use crate::load::Load;
use crate::options::Options;
use crate::report::{Rounds, Row, Unit, micros};
use crate::{Failure, plugins};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Of what the nodes can take.
const SHARE: f64 = 0.5;
/// Clients between which the load is shared.
const CLIENTS: u32 = 32;

/// Three nodes, two of which have the code; one of these is killed while callers of the third make half as many calls as
/// it can hand over. A call that was not on it may not fail.
pub(super) async fn killed(options: &Options) -> Result<Vec<Row>, Failure> {
    const RECOVERY: &str = "kill -9 of one of three: until no call fails any more";
    let mut nodes = Nodes::full(3).await?;
    nodes.deploy(&[1, 2], &plugins::component("greeter")?).await?;
    greeted(nodes.address(0)?).await?;
    let most = Load::start()?.run(&job(nodes.address(0)?, 64, options)).await?;
    #[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
    let rate = most.calls as f64 / (most.elapsed_us / 1e6) * SHARE;
    let every = Duration::from_secs_f64(f64::from(CLIENTS) / rate);
    let (mut rounds, mut made, mut its, mut others) = (Rounds::default(), 0, 0, 0);
    for _ in 0..options.rounds() {
        let crowd = Crowd::of(&[nodes.address(0)?.to_owned()], CLIENTS, Some(every));
        sleep(options.pick(Duration::from_secs(1), Duration::from_millis(200))).await;
        let killed = Instant::now();
        drop(nodes.take(1)?); // kill -9, and wait
        let dead = Instant::now();
        sleep(options.pick(Duration::from_secs(2), Duration::from_millis(300))).await;
        let (calls, failed) = crowd.end().await?;
        let was_its = |failed: &&Failed| failed.began < dead && failed.is_peer_lost();
        let on_it = failed.iter().filter(was_its).count();
        if let Some(other) = failed.iter().find(|one| !was_its(one)) {
            println!("a call failed that the dead node did not have: {}", other.status);
        }
        let last = failed.iter().map(|failed| failed.ended).max();
        rounds.value(RECOVERY, Unit::Time, last.map_or(0.0, |last| micros(last - killed)), calls);
        (made, its, others) = (made + calls, its + on_it, others + failed.len() - on_it);
        nodes.start_again(1)?;
        nodes.linked().await?;
    }
    let text = format!(
        "kill -9 of one of three at {rate:.0} calls/s, half of what it takes: {made} calls, {its} failed that it had, \
         {others} that it had not"
    );
    let value = json!({ "rate": rate, "calls": made, "failed_on_it": its, "failed_elsewhere": others });
    Ok(vec![
        Row::note(text, value),
        rounds.alone(RECOVERY),
        at_most("kill -9 of one of three: failed calls that it did not have", others, 0.0)?,
        Row::at_most("kill -9 of one of three: recovery, s", longest(&rounds, RECOVERY) / 1e6, 1.0),
    ])
}

/// Five nodes that have the code, restarted one after the other. Clients know all addresses and go on where a connection
/// is refused, or said goodbye before a call was sent.
pub(super) async fn restarted(options: &Options) -> Result<Vec<Row>, Failure> {
    const GONE: &str = "rolling restart of five: until a node is back and linked";
    let mut nodes = Nodes::full(5).await?;
    let all = [0, 1, 2, 3, 4];
    nodes.deploy(&all, &plugins::component("greeter")?).await?;
    let (mut rounds, mut made, mut lost) = (Rounds::default(), 0, 0);
    for _ in 0..options.pick(3, 1) {
        let crowd = Crowd::of(&nodes.addresses(), CLIENTS, Some(Duration::from_millis(20)));
        for number in all {
            let began = Instant::now();
            let process = nodes.take(number)?;
            tokio::task::block_in_place(|| process.stop())?;
            nodes.start_again(number)?;
            nodes.linked().await?;
            greeted(nodes.address(number)?).await?;
            rounds.value(GONE, Unit::Time, micros(began.elapsed()), 1);
        }
        let (calls, failed) = crowd.end().await?;
        if let Some(one) = failed.first() {
            println!("a call failed: {}", one.status);
        }
        (made, lost) = (made + calls, lost + failed.len());
    }
    let text = format!("rolling restart of five, namespace {NAMESPACE}: {made} calls, {lost} failed");
    let value = json!({ "calls": made, "failed": lost });
    let bar = at_most("rolling restart of five under load: failed calls", lost, 0.0)?;
    Ok(vec![Row::note(text, value), rounds.alone(GONE), bar])
}

fn at_most(what: &str, count: usize, bar: f64) -> Result<Row, Failure> {
    Ok(Row::at_most(what, f64::from(u32::try_from(count)?), bar))
}

/// Of all rounds.
fn longest(rounds: &Rounds, what: &str) -> f64 {
    rounds.each(what).iter().copied().fold(0.0, f64::max)
}
