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

    /// Runs `work` on the guests' threads, in the fair line of `who`, if `who` has used up its allowance while others
    /// call; else gives it back. It goes before guests of the same namespace: an answer that is due waits for none.
    ///
    /// * cancel: never; it runs to its end, or is dropped with the node.
    pub fn take<F: Future<Output = ()> + Send + 'static>(&self, who: &Namespace, work: F) -> Option<F> {
        if self.lanes.may_begin(who) {
            return Some(work);
        }
        self.lanes.spawn(work, who.clone(), self.accounts.of(who).weight());
        None
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
        assert!(aside.take(&loud, async {}).is_some(), "nobody else calls");
        assert!(aside.take(&quiet, async {}).is_some(), "it has used nothing");
        let (say, said) = oneshot::channel();
        let work = async move {
            let _ = say.send(Lane::is_here());
        };
        assert!(aside.take(&loud, work).is_none());
        assert!(said.await.unwrap(), "on a thread of the guests'");
    }
}
