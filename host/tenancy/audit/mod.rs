//! Who changed what, and who was refused: an append-only log whose lines cannot be changed unseen.
//!
//! ```text
//! audit/audit-<first record>.jsonl   a JSON object per line; each has the hash of itself and the line before it
//! audit/head                         number and hash of the newest line
//! ```
//!
//! The hash of a line is SHA-256 over the hash of the line before it (32 bytes) and the line without its `hash`. So a line
//! that is edited, dropped, inserted or moved breaks the chain at its place ([`verify`]). A tail that is cut breaks nothing:
//! `head` says how far the log went. Whoever can write to the folder can cut both, and can make a whole new chain: an
//! operator who must exclude that keeps the hash that `collector audit verify` prints in another place.
//!
//! No record, no mutation: [`Audit::begin`] has handed the line to the system before it returns, and what it refuses must
//! not be done. A line survives the end of the process, however it comes; what a power failure may take is bounded by
//! [`Config::sync`]. Refusals are one line each, limited per caller, so that nobody fills the disk by asking. Values are
//! cut and escaped, and none of them is a payload or a credential. Source: threats.md B2, U08.

mod chain;
mod config;
mod denials;
mod file;
mod trail;
mod verify;

pub use chain::Record;
pub use config::{Config, Sync};
pub use file::AuditError;
pub use trail::Trail;
pub use verify::{Problem, Verified, files, verify};

use chain::{Kind, Line};
use denials::{Denials, Verdict};
use file::Log;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

/// How often what was written is made durable, and what was left out is counted.
const TICK: Duration = Duration::from_secs(1);

/// What somebody does, or wanted to do.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// The request that it is part of.
    pub request: Option<Uuid>,
    /// Who.
    pub caller: &'a str,
    /// From where.
    pub source: Option<IpAddr>,
    /// The path of the RPC.
    pub action: &'a str,
    /// What it needs.
    pub verb: &'a str,
    /// In which namespace.
    pub namespace: &'a str,
}

/// The record could not be written, so what it was for must not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unrecorded {
    /// There is no space for it.
    #[error("the node's disk is full, and nothing is changed without a record of it; ask its operator for space")]
    Full,
    /// For any other reason.
    #[error("the audit log takes no records at this moment, and nothing is changed without one; try again later")]
    Failed,
}

/// The log. Clones share it; it is made durable when the last one is gone.
#[derive(Debug, Clone)]
pub struct Audit(Arc<Handle>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    /// The log's thread, and its word to end: that this is dropped.
    thread: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some((alive, thread)) = self.thread.take() {
            drop(alive);
            // A sync at most; whoever opens the log next must not find this one writing.
            let _ = thread.join();
        }
    }
}

#[derive(Debug)]
struct Shared {
    log: Mutex<Log>,
    denials: Mutex<Denials>,
}

impl Audit {
    /// Opens the log, cuts a line that a crash tore, and notes both.
    ///
    /// * `folder`: made if missing, for this user only.
    /// * errors: the folder or its newest file cannot be used.
    pub fn open(folder: &Path, config: &Config) -> Result<Self, AuditError> {
        let log = Mutex::new(Log::open(folder, config)?);
        let shared = Arc::new(Shared { log, denials: Mutex::default() });
        let (alive, ended) = mpsc::channel();
        let kept = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("audit".to_owned());
        let thread = thread.spawn(move || kept.keep(&ended));
        let thread = thread.map_err(|why| AuditError { what: "start its thread", why })?;
        Ok(Self(Arc::new(Handle { shared, thread: Some((alive, thread)) })))
    }

    /// Writes no more: the data folder is given back. What a request that is cut off still wants is refused.
    pub fn close(&self) {
        let shared = &self.0.shared;
        shared.count_left_out(true);
        let unsynced = {
            let mut log = lock(&shared.log);
            log.close();
            log.unsynced()
        };
        if let Some(Err(why)) = unsynced.map(|file| file.sync_data()) {
            tracing::error!(%why, "the audit log cannot be made durable");
        }
    }

    /// Writes that something is about to be changed. The system has the line when this returns.
    ///
    /// * errors: `Unrecorded`: do not do it.
    pub fn begin(&self, entry: &Entry<'_>) -> Result<Ticket, Unrecorded> {
        let of = self.write(&Line::of(Kind::Begin, entry))?;
        Ok(Ticket { audit: self.clone(), request: entry.request, of, over: false })
    }

    /// Writes that somebody was refused; if it is told this too often, it only counts.
    pub fn denied(&self, entry: &Entry<'_>) {
        let who = match entry.source {
            Some(source) => format!("{} {source}", entry.caller),
            None => entry.caller.to_owned(),
        };
        self.denied_as(who, entry);
    }

    /// * `who`: whom it is counted for.
    fn denied_as(&self, who: String, entry: &Entry<'_>) {
        let verdict = lock(&self.0.shared.denials).count(who, Instant::now());
        if let Verdict::Write { left_out } = verdict {
            let line = Line { left_out: (left_out > 0).then_some(left_out), ..Line::of(Kind::Denied, entry) };
            // It was refused already: there is nothing more to refuse, and the log has said what is wrong with it.
            let _ = self.write(&line);
        }
    }

    fn write(&self, line: &Line<'_>) -> Result<u64, Unrecorded> {
        self.0.shared.write(line)
    }
}

impl Shared {
    fn write(&self, line: &Line<'_>) -> Result<u64, Unrecorded> {
        let mut log = lock(&self.log);
        if log.is_closed() {
            return Err(Unrecorded::Failed);
        }
        log.append(line).map_err(|why| {
            tracing::error!(%why, "the audit log cannot be written: what changes something is refused");
            match why.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Unrecorded::Full,
                _ => Unrecorded::Failed,
            }
        })
    }

    /// Writes how many refusals got no line.
    fn count_left_out(&self, all: bool) {
        let stale = lock(&self.denials).stale(all, Instant::now());
        for (who, left_out) in stale {
            let line = Line { caller: Some(&who), left_out: Some(left_out), ..Line::new(Kind::Denied) };
            let _ = self.write(&line);
        }
    }

    /// The log's thread.
    fn keep(&self, ended: &mpsc::Receiver<()>) {
        loop {
            let is_last = ended.recv_timeout(TICK) != Err(RecvTimeoutError::Timeout);
            self.count_left_out(is_last);
            // Synced beside the lock: a slow disk is nobody's wait.
            let unsynced = lock(&self.log).unsynced();
            if let Some(file) = unsynced {
                let synced = file.sync_data();
                if let Err(why) = &synced {
                    tracing::error!(%why, "the audit log cannot be made durable: what changes something is refused");
                }
                lock(&self.log).synced(synced.is_ok());
            }
            if is_last {
                return;
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A change that has a record. How it ended is written by [`Ticket::end`], or when this is dropped.
#[derive(Debug)]
pub struct Ticket {
    audit: Audit,
    request: Option<Uuid>,
    of: u64,
    over: bool,
}

impl Ticket {
    /// Writes how it ended: a code's name.
    pub fn end(mut self, outcome: &str) {
        self.write(outcome);
    }

    /// Forgets it: nobody will ever say how it ended.
    fn leave(mut self) {
        self.over = true;
    }

    fn write(&mut self, outcome: &str) {
        if !std::mem::replace(&mut self.over, true) {
            let line =
                Line { request: self.request, of: Some(self.of), outcome: Some(outcome), ..Line::new(Kind::End) };
            // What was done is done; that it was begun is written.
            let _ = self.audit.write(&line);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.write("UNANSWERED");
    }
}

#[cfg(test)]
mod tests;
