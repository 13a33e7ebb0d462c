//! The databases that are open: at most so many, the one that was not used for longest makes room.
//!
//! ```text
//! closed --first call--> open --room is needed and nobody uses it--> closing --last thread ended--> closed
//! ```
//! A file is opened only after all of its threads of last time have ended: SQLite's locks are the process's, and closing a
//! file twice opened gives them up.

use super::super::StoreError;
use super::database::{Database, Handle, Shared};
use super::{Config, fault, file_name};
use crate::domain::Namespace;
use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::thread::JoinHandle;
use tokio::sync::Notify;

/// The databases of a store.
#[derive(Debug)]
pub(super) struct Databases {
    folder: PathBuf,
    config: Config,
    state: Mutex<State>,
    /// Woken whenever a database has closed.
    closed: Arc<Notify>,
    /// Held by every thread; `gone` ends when the last of them has ended.
    alive: mpsc::Sender<Infallible>,
}

#[derive(Debug, Default)]
struct State {
    open: HashMap<Namespace, Used>,
    closing: HashMap<Namespace, Closing>,
    /// Closed with nothing amiss: not to be checked again when they are opened.
    sound: HashSet<Namespace>,
    /// Counts the calls.
    tick: u64,
}

#[derive(Debug)]
struct Used {
    database: Database,
    /// When, as `tick` was then.
    at: u64,
}

/// What is left of a database until its last thread has ended.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) shared: Arc<Shared>,
    pub(super) ended: Weak<Ended>,
}

/// Held by the threads of one database. When the last of them has let go of it, the file is closed.
#[derive(Debug)]
pub(super) struct Ended {
    closed: Arc<Notify>,
    _alive: mpsc::Sender<Infallible>,
}

impl Drop for Ended {
    fn drop(&mut self) {
        self.closed.notify_waiters();
    }
}

/// What came of looking for a database.
enum Found {
    Open(Handle),
    /// There is no file, and none was to be made.
    Nothing,
    /// Something is closing: look again when it has.
    Wait,
}

impl Databases {
    pub(super) fn new(folder: PathBuf, config: Config, alive: mpsc::Sender<Infallible>) -> Self {
        Self { folder, config, state: Mutex::default(), closed: Arc::default(), alive }
    }

    /// The database of a namespace, opened if it is not open. Of one without a file, only if it is to be made.
    ///
    /// * errors: `Busy` if as many as may be open are being used.
    /// * cancel: safe; a database that closes goes on closing.
    pub(super) async fn of(&self, namespace: &Namespace, make: bool) -> Result<Option<Handle>, StoreError> {
        loop {
            // Before looking, so that nothing that closes after it is missed.
            let closed = self.closed.notified();
            match self.look(namespace, make)? {
                Found::Open(handle) => return Ok(Some(handle)),
                Found::Nothing => return Ok(None),
                Found::Wait => closed.await,
            }
        }
    }

    fn look(&self, namespace: &Namespace, make: bool) -> Result<Found, StoreError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.tick += 1;
        let tick = state.tick;
        if let Some(open) = state.open.get_mut(namespace) {
            open.at = tick;
            return Ok(Found::Open(open.database.handle()));
        }
        state.sweep();
        if state.closing.contains_key(namespace) {
            return Ok(Found::Wait);
        }
        let file = self.folder.join(file_name(namespace));
        // One `stat`, at the first use of a namespace: cheaper than a thread to ask it on.
        if !make && !file.try_exists().map_err(fault::from_system)? {
            return Ok(Found::Nothing);
        }
        if state.open.len() + state.closing.len() >= self.config.databases.get() {
            return if state.make_room() { Ok(Found::Wait) } else { Err(StoreError::Busy) };
        }
        let ended = Arc::new(Ended { closed: self.closed.clone(), _alive: self.alive.clone() });
        let sound = state.sound.remove(namespace);
        let database = Database::start(namespace, Shared::new(file, self.config.clone(), sound), ended)?;
        let handle = database.handle();
        state.open.insert(namespace.clone(), Used { database, at: tick });
        Ok(Found::Open(handle))
    }

    /// Closes all of them. Returns the threads, which end once they have done what is queued.
    pub(super) fn close(self) -> Vec<JoinHandle<()>> {
        let State { open, closing, .. } = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        // Their queues end with this, all before the first is waited for.
        let open = open.into_values().flat_map(|used| used.database.close().threads);
        open.chain(closing.into_values().flat_map(|closing| closing.threads)).collect()
    }
}

impl State {
    /// Forgets those that have closed.
    fn sweep(&mut self) {
        let Self { closing, sound, .. } = self;
        closing.retain(|namespace, closing| {
            let ended = closing.ended.strong_count() == 0;
            if ended && closing.shared.is_sound() {
                sound.insert(namespace.clone());
            }
            !ended
        });
    }

    /// Begins to close the one that was not used for longest, unless one is closing already. Returns whether one is.
    fn make_room(&mut self) -> bool {
        if !self.closing.is_empty() {
            return true;
        }
        let idle = self.open.iter().filter(|(_, used)| used.database.is_idle());
        let Some(oldest) = idle.min_by_key(|(_, used)| used.at).map(|(namespace, _)| namespace.clone()) else {
            return false;
        };
        if let Some(used) = self.open.remove(&oldest) {
            self.closing.insert(oldest, used.database.close());
        }
        true
    }
}
