//! A case: one attack, what has to come of it, and how it is made.

use crate::target::Target;
use futures_util::future::BoxFuture;
use tonic::{Code, Status};

/// Makes the attack once and judges what came of it.
pub type Run = for<'a> fn(&'a Target) -> BoxFuture<'a, Verdict>;

/// A figure for the table, or why there is none.
pub type Verdict = Result<String, Miss>;

/// Why a case did not hold.
#[derive(Debug)]
pub enum Miss {
    /// The node did something else.
    Failed(String),
    /// The case needs something that this target does not have.
    Skipped(String),
}

impl From<String> for Miss {
    fn from(why: String) -> Self {
        Self::Failed(why)
    }
}

impl From<&str> for Miss {
    fn from(why: &str) -> Self {
        Self::Failed(why.to_owned())
    }
}

/// How often sampling may take a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Milliseconds.
    Cheap,
    /// A good part of a second, or all of a core: seldom.
    Slow,
    /// Waits for the node's patience to end, seconds: once a run, all such cases beside each other.
    Waits,
    /// Takes the node to its limits, or minutes of a core: once a run, alone.
    Heavy,
}

/// One attack of threats.md, section 3.
pub struct Case {
    /// Its stable name, `R01`.
    pub id: &'static str,
    /// What it does.
    pub title: &'static str,
    /// What has to come of it.
    pub wants: &'static str,
    pub cost: Cost,
    pub run: Run,
}

impl Case {
    pub const fn new(id: &'static str, title: &'static str, wants: &'static str, run: Run) -> Self {
        Self { id, title, wants, cost: Cost::Cheap, run }
    }

    pub const fn costs(mut self, cost: Cost) -> Self {
        self.cost = cost;
        self
    }

    /// The letter of its group.
    pub fn group(&self) -> &'static str {
        self.id.get(..1).unwrap_or_default()
    }
}

/// How many times as long something may take as threats.md gives it of a processor: what is seen here is time on a clock,
/// on a machine that others use, and of a build that may be for tests.
pub const PATIENCE: u32 = 4;

/// Holds when the node refused with one of `codes`.
pub fn refused<T>(what: &str, answer: Result<T, Status>, codes: &[Code]) -> Result<Status, String> {
    match answer {
        Err(status) if codes.contains(&status.code()) => Ok(status),
        Err(status) => Err(format!("{what}: {} instead of {codes:?}", told(&status))),
        Ok(_) => Err(format!("{what}: it was let through, expected {codes:?}")),
    }
}

/// Holds when the node did it, or refused with one of `codes`.
pub fn done_or<T>(what: &str, answer: Result<T, Status>, codes: &[Code]) -> Result<bool, String> {
    match answer {
        Ok(_) => Ok(true),
        Err(status) if codes.contains(&status.code()) => Ok(false),
        Err(status) => Err(format!("{what}: {} instead of OK or {codes:?}", told(&status))),
    }
}

/// Holds when the node did it.
pub fn done<T>(what: &str, answer: Result<T, Status>) -> Result<T, String> {
    answer.map_err(|status| format!("{what}: {}", told(&status)))
}

/// Holds when `right`.
pub fn check(right: bool, otherwise: impl FnOnce() -> String) -> Result<(), String> {
    if right { Ok(()) } else { Err(otherwise()) }
}

/// A status on one line.
pub fn told(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    let reason = status.get_details_error_info().map(|info| info.reason).unwrap_or_default();
    let message: String = status.message().chars().take(200).collect();
    format!("{:?} [{reason}] {}", status.code(), message.escape_debug())
}
