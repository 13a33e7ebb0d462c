//! What the end of a guest means: which limit, trap or exit it was.

use super::exchange::Idle;
use super::limiter::Refused;
use super::stdio::ReplyTooLarge;
use crate::domain::{Limits, Namespace, one_line};
use crate::exec::ExecError;
use crate::exec::log::GuestLog;
use wasmtime::component::ResourceTableError;
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

/// What is known of a call whose guest ended in an error.
pub(super) struct Verdict<'a> {
    pub(super) limits: &'a Limits,
    pub(super) log: &'a GuestLog,
    pub(super) namespace: &'a Namespace,
    pub(super) service: &'a str,
    /// The ceiling that stopped a growth of memory or table, if one did.
    pub(super) refused: Option<Refused>,
}

impl Verdict<'_> {
    /// Which limit, trap or exit ended the guest.
    pub(super) fn of(&self, why: &wasmtime::Error) -> ExecError {
        let limits = self.limits;
        if let Some(I32Exit(code)) = why.downcast_ref() {
            self.log.finish();
            return ExecError::Exit { code: *code, last_words: self.log.last_words() };
        }
        if why.is::<Idle>() {
            return ExecError::Idle(limits.stream_idle_ms);
        }
        if why.is::<ReplyTooLarge>() {
            return reply_too_large(limits);
        }
        if matches!(why.downcast_ref(), Some(ResourceTableError::Full)) {
            return resources(limits);
        }
        if why.is::<PoolConcurrencyLimitError>() {
            return ExecError::Busy;
        }
        match why.downcast_ref::<Trap>() {
            Some(Trap::OutOfFuel) => limit("FUEL_LIMIT", "the plugin ran out of fuel", "fuel", limits.fuel),
            // Memory that could not grow ends a Rust guest in an unreachable, a C guest in an access out of bounds.
            // A guest that went on and gave up later, for a reason of its own, has said so.
            // A component whose memory begins over the limit ends in no trap at all.
            None | Some(Trap::UnreachableCodeReached | Trap::MemoryOutOfBounds | Trap::TableOutOfBounds)
                if !self.log.gave_up() =>
            {
                let refused = || self.refused.map(|refused| memory(refused, limits));
                self.host_limit(why).or_else(refused).unwrap_or_else(|| self.trap(why))
            }
            Some(_) | None => self.host_limit(why).unwrap_or_else(|| self.trap(why)),
        }
    }

    /// Limits that wasmtime reports with private error types: told by their words, which tests hold still.
    fn host_limit(&self, why: &wasmtime::Error) -> Option<ExecError> {
        let limits = self.limits;
        let words = why.root_cause().to_string();
        if words.contains("fuel allocated for hostcalls has been exhausted") {
            let what = "the plugin handed the node too much in one host call";
            return Some(limit("HOST_CALL_LIMIT", what, "host_call_bytes", limits.host_call_bytes as u64));
        }
        if words.starts_with("requested len") && words.contains("exceeds limit") {
            let what = "the plugin asked for too many random bytes at once";
            return Some(limit("RANDOM_LIMIT", what, "random_bytes", limits.random_bytes));
        }
        None
    }

    /// A trap in the guest's own last words where there are some, else in wasmtime's.
    fn trap(&self, why: &wasmtime::Error) -> ExecError {
        self.log.finish();
        // Function names in a backtrace are the guest's words too.
        let trace = one_line(&format!("{why:?}"), 4_096);
        tracing::debug!(target: "guest", namespace = %self.namespace, service = %self.service, "{trace}");
        let cause = match why.downcast_ref::<Trap>() {
            Some(trap) => trap.to_string(),
            None => why.root_cause().to_string(),
        };
        ExecError::Trap(one_line(&self.log.last_words().unwrap_or(cause), 512))
    }
}

pub(super) fn reply_too_large(limits: &Limits) -> ExecError {
    limit("OUTPUT_LIMIT", "the plugin's reply is too large", "output_bytes", limits.output_bytes as u64)
}

fn resources(limits: &Limits) -> ExecError {
    limit("RESOURCE_LIMIT", "the plugin holds too many resources", "resources", limits.resources as u64)
}

fn memory(refused: Refused, limits: &Limits) -> ExecError {
    match refused {
        Refused::Call => limit("MEMORY_LIMIT", "the plugin needs more memory", "memory_mib", limits.memory_mib),
        Refused::Node => ExecError::Busy,
        Refused::Namespace(over) => over.into(),
        Refused::Table => {
            limit("TABLE_LIMIT", "the plugin needs larger tables", "table_elements", limits.table_elements as u64)
        }
    }
}

fn limit(reason: &'static str, what: &'static str, key: &'static str, limit: u64) -> ExecError {
    ExecError::Limit { reason, what, key, limit }
}
