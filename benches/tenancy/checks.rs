//! What asking who calls, what it may, and how much it has used costs a warm native call.

use crate::client::Caller;
use crate::report::{Round, Row, floor};
use std::time::Duration;
use tonic::Code;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// * `open`: a node that asks nobody and counts nothing.
/// * `guarded`: one that does, and a key of it.
pub(crate) async fn run(open: &str, guarded: (&str, &str), rounds: usize, calls: usize) -> Result<Vec<Row>, Failure> {
    let open = Caller::connect(open, "quiet", None)?;
    let guarded = Caller::connect(guarded.0, "quiet", Some(guarded.1))?;
    let (mut without, mut with) = (Vec::new(), Vec::new());
    for caller in [&open, &guarded] {
        hellos(caller, calls).await?;
    }
    for _ in 0..rounds {
        without.push(Round::of(&hellos(&open, calls).await?));
        with.push(Round::of(&hellos(&guarded, calls).await?));
    }
    let least = floor(&without);
    Ok(vec![
        Row::timed("warm", "native call, nobody is asked", &without, least),
        Row::timed("warm", "native call, every check on", &with, least),
    ])
}

async fn hellos(caller: &Caller, calls: usize) -> Result<Vec<Duration>, Failure> {
    let mut took = Vec::with_capacity(calls);
    for _ in 0..calls {
        let ended = caller.hello().await?;
        if ended.code != Code::Ok {
            return Err(format!("a greeting ended with {:?}", ended.code).into());
        }
        took.push(ended.took);
    }
    Ok(took)
}
