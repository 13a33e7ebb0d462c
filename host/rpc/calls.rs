//! Calls in flight: counted, bounded, waited for when the node drains.

use super::Config;
use super::lifetime::{Activity, Running};
use super::status;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Status;

/// Paths of the health service.
const HEALTH: &str = "/grpc.health.v1.Health/";
/// Path of a peer's link.
const LINK: &str = "/collector.mesh.v1.Mesh/Link";

/// All calls of a node. Clones count the same.
#[derive(Debug, Clone)]
pub(super) struct Calls {
    running: TaskTracker,
    places: Arc<Semaphore>,
}

/// A call, until its answer has been sent.
#[derive(Debug)]
pub(super) struct InFlight {
    _counted: Option<(TaskTrackerToken, OwnedSemaphorePermit)>,
    connection: Running,
}

impl InFlight {
    /// Of the connection that it runs on.
    pub(super) fn activity(&self) -> Activity {
        self.connection.activity()
    }
}

impl Calls {
    pub(super) fn new(config: &Config) -> Self {
        Self { running: TaskTracker::new(), places: Arc::new(Semaphore::new(config.calls.min(Semaphore::MAX_PERMITS))) }
    }

    /// Counts one. Health is not counted: a busy node is not a dead one, and watching ends when the connection does. Nor
    /// are links: their number has a bound of its own, and one that its peer does not read would hold up the node's end.
    ///
    /// * errors: RESOURCE_EXHAUSTED if there are too many.
    pub(super) fn begin(&self, path: &str, connection: Running) -> Result<InFlight, Status> {
        let counted = match path.starts_with(HEALTH) || path == LINK {
            true => None,
            false => {
                let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| status::overloaded())?;
                Some((self.running.token(), place))
            }
        };
        Ok(InFlight { _counted: counted, connection })
    }

    /// The ones that a draining node waits for.
    pub(super) fn running(&self) -> &TaskTracker {
        &self.running
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    #[tokio::test]
    async fn calls_below_at_and_above_the_limit() {
        let calls = Calls::new(&Config { calls: 2, ..Config::default() });
        let begin = |path| calls.begin(path, Activity::new(std::time::Duration::from_secs(60)).begin());
        let (first, _second) = (begin("/a.B/C").unwrap(), begin("/a.B/C").unwrap());
        let refused = begin("/a.B/C").unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
        begin("/grpc.health.v1.Health/Check").unwrap();
        begin("/collector.mesh.v1.Mesh/Link").unwrap();
        assert!(begin("/collector.mesh.v1.Mesh/Fetch").is_err());
        drop(first);
        begin("/a.B/C").unwrap();
    }
}
