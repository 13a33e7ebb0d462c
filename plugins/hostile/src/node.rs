//! What takes a call into the node. On other targets it is tame.

#[cfg(target_family = "wasm")]
pub(crate) use wasm::{now, poll_nothing, trap};

#[cfg(target_family = "wasm")]
mod wasm {
    use wasip2::clocks::monotonic_clock;

    pub(crate) fn now() -> u64 {
        monotonic_clock::now()
    }

    pub(crate) fn poll_nothing() -> u64 {
        let at_once = monotonic_clock::subscribe_duration(0);
        at_once.block();
        1
    }

    pub(crate) fn trap() -> ! {
        core::arch::wasm32::unreachable()
    }
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn now() -> u64 {
    use std::time::{SystemTime, UNIX_EPOCH};
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.ok().and_then(|since| u64::try_from(since.as_nanos()).ok()).unwrap_or_default()
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn poll_nothing() -> u64 {
    1
}

#[cfg(not(target_family = "wasm"))]
pub(crate) fn trap() -> ! {
    std::process::abort()
}
