//! What asking who calls, what it may, and how much it has used costs a warm native call.

use super::client::Caller;
use crate::Failure;
use crate::report::{Rounds, Row};
use std::time::Duration;
use tonic::Code;

const WITHOUT: &str = "native call, nobody is asked";
const WITH: &str = "native call, every check on";

/// * `open`: a node that asks nobody and counts nothing.
/// * `guarded`: one that does, and a key of it.
pub(crate) async fn run(open: &str, guarded: (&str, &str), rounds: usize, calls: usize) -> Result<Vec<Row>, Failure> {
    let open = Caller::connect(open, "quiet", None)?;
    let guarded = Caller::connect(guarded.0, "quiet", Some(guarded.1))?;
    for caller in [&open, &guarded] {
        hellos(caller, calls).await?;
    }
    let mut measured = Rounds::default();
    for _ in 0..rounds {
        measured.calls(WITHOUT, &hellos(&open, calls).await?);
        measured.calls(WITH, &hellos(&guarded, calls).await?);
    }
    Ok([WITHOUT, WITH].map(|what| measured.row(what, WITHOUT)).into())
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
