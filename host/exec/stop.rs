//! What stops a call from outside: its deadline, and the end of the node.

use super::ExecError;
use crate::lifecycle::Lifecycle;
use tokio::time::{Instant, timeout_at};

/// `work`, or why it was stopped. The work comes first: an answer that is there at the deadline is an answer.
///
/// * errors: `Deadline`, `Draining`; then `work` was dropped.
pub(super) async fn stoppable<T>(
    lifecycle: &Lifecycle,
    deadline: Instant,
    work: impl Future<Output = T>,
) -> Result<T, ExecError> {
    tokio::select! {
        biased;
        done = timeout_at(deadline, work) => done.map_err(|_| ExecError::Deadline),
        () = lifecycle.killed() => Err(ExecError::Draining),
    }
}
