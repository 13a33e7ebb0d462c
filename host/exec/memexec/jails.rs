//! The jails of a node: one per namespace, bounded, the least recently used ones ended when another needs the place.

use super::jail::{Heard, Jail};
use super::process::Launcher;
use crate::domain::{Namespace, Start};
use crate::exec::ExecError;
use crate::lifecycle::Lifecycle;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{OnceCell, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// How long a new jail waits for the place of one that is being ended. An idle jail ends within milliseconds.
const PLACE_PATIENCE: Duration = Duration::from_secs(1);

/// All jails of a node. Dropping it ends those in which nothing runs at once, the others when what runs has ended.
pub(super) struct Jails {
    shared: Arc<Shared>,
    members: Arc<Mutex<Members>>,
}

/// What making a jail needs.
struct Shared {
    launcher: Launcher,
    lifecycle: Lifecycle,
    places: Places,
}

#[derive(Default)]
struct Members {
    all: HashMap<Namespace, Known>,
    /// Counts uses, to tell which was last.
    uses: u64,
}

struct Known {
    member: Arc<Member>,
    used: u64,
}

/// The jail of a namespace, once it stands. Whoever runs something in it holds it; the last one to let go ends the jail.
#[derive(Default)]
pub(super) struct Member(OnceCell<Result<Arc<Jail>, NoJail>>);

/// Why there is no jail. All who waited for it hear of the one attempt.
#[derive(Debug, Clone)]
pub(super) struct NoJail {
    /// For operators.
    pub(super) why: String,
    error: ExecError,
}

impl From<ExecError> for NoJail {
    fn from(error: ExecError) -> Self {
        Self { why: error.to_string(), error }
    }
}

impl From<NoJail> for ExecError {
    fn from(none: NoJail) -> Self {
        none.error
    }
}

/// A jail to run something in. It is not ended to make room while this is kept.
pub(super) struct Lease {
    pub(super) jail: Arc<Jail>,
    pub(super) member: Arc<Member>,
    /// Whether the jail stood before.
    pub(super) start: Start,
}

impl Jails {
    /// * `most`: jails that live at once.
    /// * `uid_base`: the first of as many user ids.
    pub(super) fn new(launcher: Launcher, most: usize, uid_base: u32, lifecycle: Lifecycle) -> Self {
        let shared = Shared { launcher, lifecycle, places: Places::new(most, uid_base) };
        Self { shared: Arc::new(shared), members: Arc::default() }
    }

    /// The jail of a namespace, made if it is not there; only once, however many ask.
    ///
    /// * errors: `Busy` if as many others as there may be are at work; `Broken` if it cannot be made.
    /// * cancel: safe; making goes on in a task of its own, so that the next call finds it.
    pub(super) async fn lease(&self, namespace: &Namespace) -> Result<Lease, NoJail> {
        let member = self.lock().touch(namespace);
        if let Some(Ok(jail)) = member.0.get() {
            return Ok(Lease { jail: Arc::clone(jail), member, start: Start::Warm });
        }
        let (shared, members) = (Arc::clone(&self.shared), Arc::clone(&self.members));
        let (wanted, namespace) = (Arc::clone(&member), namespace.clone());
        let making = async move {
            let made = wanted.0.get_or_init(|| shared.start(&members, &namespace, &wanted)).await.clone();
            if made.is_err() {
                forget(&members, &namespace, &Arc::downgrade(&wanted), false);
            }
            made
        };
        let jail = self.shared.lifecycle.spawn(making).await.map_err(ExecError::internal)??;
        Ok(Lease { jail, member, start: Start::Cold })
    }

    /// Gives up a jail that is known to be gone, or that nobody needs any more.
    pub(super) fn forget(&self, namespace: &Namespace, member: &Arc<Member>) {
        forget(&self.members, namespace, &Arc::downgrade(member), false);
    }

    /// Jails that stand, or are being made.
    pub(super) fn count(&self) -> usize {
        self.lock().all.len()
    }

    /// What this machine does not have and jails do without, for operators.
    pub(super) fn without(&self) -> &[String] {
        &self.shared.launcher.without
    }

    /// The launcher's process, if it has one.
    pub(super) fn launcher_id(&self) -> Option<u32> {
        self.shared.launcher.id()
    }

    fn lock(&self) -> MutexGuard<'_, Members> {
        lock(&self.members)
    }
}

/// Takes out this very member, not one that has come in its place.
///
/// * `idle`: only if nobody holds it.
fn forget(members: &Mutex<Members>, namespace: &Namespace, member: &Weak<Member>, idle: bool) {
    let forgotten = lock(members).forget(namespace, member, idle);
    drop(forgotten); // ends the jail: not under the lock
}

fn lock(members: &Mutex<Members>) -> MutexGuard<'_, Members> {
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Members {
    fn touch(&mut self, namespace: &Namespace) -> Arc<Member> {
        self.uses += 1;
        let used = self.uses;
        if let Some(known) = self.all.get_mut(namespace) {
            known.used = used;
            return Arc::clone(&known.member);
        }
        let member = Arc::new(Member::default());
        self.all.insert(namespace.clone(), Known { member: Arc::clone(&member), used });
        member
    }

    fn forget(&mut self, namespace: &Namespace, member: &Weak<Member>, idle: bool) -> Option<Known> {
        let known = self.all.get(namespace)?;
        let wanted = std::ptr::eq(Arc::as_ptr(&known.member), member.as_ptr()) && (known.is_idle() || !idle);
        if wanted { self.all.remove(namespace) } else { None }
    }

    /// Jails that stand.
    fn standing(&self) -> usize {
        self.all.values().filter(|known| known.member.0.initialized()).count()
    }

    /// Takes out the one that was not used for longest and that nobody holds.
    fn evict(&mut self) -> Option<Known> {
        let idle = self.all.iter().filter(|(_, known)| known.is_idle());
        let oldest = idle.min_by_key(|(_, known)| known.used).map(|(namespace, _)| namespace.clone())?;
        self.all.remove(&oldest)
    }
}

impl Known {
    /// Whether nobody holds it. New holders come through `touch` only, under the lock of the members: it stays so.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.member) == 1
    }
}

impl Shared {
    /// Makes a jail and listens to it in a task of its own, to its end.
    async fn start(
        self: &Arc<Self>,
        members: &Arc<Mutex<Members>>,
        namespace: &Namespace,
        member: &Arc<Member>,
    ) -> Result<Arc<Jail>, NoJail> {
        let place = self.places.take(members).await?;
        let jail = Arc::new(Jail::new(self.launcher.spawn(place.uid).await?));
        let stands = jail.stands().await;
        let (shared, heard) = (Arc::clone(self), Arc::clone(&jail));
        let (members, namespace, member) = (Arc::downgrade(members), namespace.clone(), Arc::downgrade(member));
        drop(self.lifecycle.spawn(async move {
            let forget = |idle| {
                if let Some(members) = members.upgrade() {
                    forget(&members, &namespace, &member, idle);
                }
            };
            let mut asked = None;
            while heard.listen(&shared.lifecycle, || forget(true)).await == Heard::Stuck {
                asked = shared.launcher.force(place.uid, asked).await;
            }
            forget(false); // before its calls are told: who tries again at once must get another jail
            heard.fail_all();
            drop(place); // only now: nothing of the jail is left that has its user id
        }));
        match stands {
            Ok(()) => Ok(jail),
            Err(why) => {
                jail.end();
                tracing::warn!(why, "a jail does not stand");
                Err(NoJail { why, error: ExecError::Broken("a jail cannot be made".to_owned()) })
            }
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(Ok(jail)) = self.0.get() {
            jail.end();
        }
    }
}

/// Places for jails, each with a user id.
struct Places {
    most: usize,
    permits: Arc<Semaphore>,
    free: Arc<Mutex<Vec<u32>>>,
}

/// A place and its user id, given back on drop.
struct Place {
    uid: u32,
    free: Arc<Mutex<Vec<u32>>>,
    _permit: OwnedSemaphorePermit,
}

impl Places {
    fn new(most: usize, uid_base: u32) -> Self {
        let free = (0..u32::try_from(most).unwrap_or(u32::MAX)).rev().map(|n| uid_base.saturating_add(n)).collect();
        Self { most, permits: Arc::new(Semaphore::new(most)), free: Arc::new(Mutex::new(free)) }
    }

    /// A place, if need be that of the least recently used jail.
    async fn take(&self, members: &Mutex<Members>) -> Result<Place, ExecError> {
        let permit = match Arc::clone(&self.permits).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_none) => {
                self.make_room(members)?;
                let freed = timeout(PLACE_PATIENCE, Arc::clone(&self.permits).acquire_owned()).await;
                freed.map_err(|_late| ExecError::Busy)?.map_err(ExecError::internal)?
            }
        };
        let uid = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().ok_or(ExecError::Busy)?;
        Ok(Place { uid, free: Arc::clone(&self.free), _permit: permit })
    }
}

impl Places {
    /// Has an idle jail end, unless one is ending already that nobody knows any more.
    fn make_room(&self, members: &Mutex<Members>) -> Result<(), ExecError> {
        let mut members = lock(members);
        let evicted = members.evict();
        let taken = self.most.saturating_sub(self.permits.available_permits());
        let room = evicted.is_some() || taken > members.standing();
        drop(members);
        drop(evicted); // ends it: not under the lock
        if room { Ok(()) } else { Err(ExecError::Busy) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).push(self.uid); // before the permit goes back
    }
}
