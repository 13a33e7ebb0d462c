//! What calls cost beside their guests, for namespaces that have used up their allowance on the threads of the network.
//!
//! Reading a request, checking it and writing its answer takes longer than a short guest does, and is first in, first out
//! there: whoever calls a lot would have others wait behind all of it.

use super::lanes::Lanes;
use crate::domain::{Accounts, Namespace};
use std::fmt;
use std::sync::Arc;

/// Takes work off the threads of the network. Clones are one.
#[derive(Clone)]
pub struct Aside {
    lanes: Arc<Lanes>,
    accounts: Arc<dyn Accounts>,
}

impl Aside {
    pub(super) fn new(lanes: Arc<Lanes>, accounts: Arc<dyn Accounts>) -> Self {
        Self { lanes, accounts }
    }

    /// One whose namespaces may use what they like.
    #[cfg(test)]
    pub(crate) fn testing() -> Self {
        Self::new(Arc::new(Lanes::start().unwrap()), Arc::new(crate::domain::Unlimited))
    }

    /// Does `work` here, and charges `who` for it if this is a thread of the network.
    ///
    /// * `who`: asked when it is done; `None`: nobody's.
    pub fn metered<'a, T>(&self, who: impl FnOnce() -> Option<&'a Namespace>, work: impl FnOnce() -> T) -> T {
        self.lanes.metered(who, work)
    }

    /// Whether work of `who` may begin on the threads of the network: it has not used up its allowance there, or nobody
    /// else calls.
    pub fn may_begin(&self, who: &Namespace) -> bool {
        self.lanes.may_begin(who)
    }

    /// Runs `work` on the guests' threads, in the fair line of `who`. It goes before guests of the same namespace: an
    /// answer that is due waits for none.
    ///
    /// * cancel: never; it runs to its end, or is dropped with the node. The line has no bound: its callers have.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static, who: &Namespace) {
        self.lanes.spawn(work, who.clone(), self.accounts.of(who).weight());
    }
}

impl fmt::Debug for Aside {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Aside").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::lane::Lane;
    use super::super::steps::Owner;
    use super::*;
    use crate::domain::Unlimited;
    use std::sync::atomic::AtomicU32;
    use std::time::Duration;
    use tokio::sync::oneshot;
    use tokio::time::Instant;

    #[tokio::test]
    async fn work_is_taken_of_who_used_up_its_allowance_while_others_call() {
        let lanes = Arc::new(Lanes::start().unwrap());
        let aside = Aside::new(Arc::clone(&lanes), Arc::new(Unlimited));
        let [loud, quiet] = ["loud", "quiet"].map(|name| name.parse::<Namespace>().unwrap());
        let owner = Owner { namespace: loud.clone(), account: Arc::new(Unlimited) };
        let guest = Box::pin(async {
            let until = Instant::now() + Duration::from_millis(50);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
            Ok(())
        });
        lanes.run(guest, owner, &AtomicU32::new(0), false).await.unwrap();
        assert!(aside.may_begin(&loud), "nobody else calls");
        assert!(aside.may_begin(&quiet), "it has used nothing");
        assert!(!aside.may_begin(&loud));
        let (say, said) = oneshot::channel();
        let work = async move {
            let _ = say.send(Lane::is_here());
        };
        aside.spawn(work, &loud);
        assert!(said.await.unwrap(), "on a thread of the guests'");
    }

    #[tokio::test]
    async fn what_is_done_on_the_networks_threads_counts_and_no_part_of_it_twice() {
        let lanes = Arc::new(Lanes::start().unwrap());
        let aside = Aside::new(lanes, Arc::new(Unlimited));
        let [loud, quiet] = ["loud", "quiet"].map(|name| name.parse::<Namespace>().unwrap());
        let spin = |millis| {
            let until = Instant::now() + Duration::from_millis(millis);
            while Instant::now() < until {
                std::hint::spin_loop();
            }
        };
        let cores = u64::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
        assert!(aside.may_begin(&loud) && aside.may_begin(&quiet));
        aside.metered(|| None, || spin(50 * cores));
        assert!(aside.may_begin(&loud), "that was nobody's");
        // What the inner one writes down for itself is not the outer one's.
        aside.metered(|| Some(&quiet), || aside.metered(|| Some(&loud), || spin(50 * cores)));
        assert!(!aside.may_begin(&loud) && aside.may_begin(&quiet));
    }
}
