//! The node's clock, as records keep it: Unix microseconds.

use prost_types::Timestamp;
use std::time::{SystemTime, UNIX_EPOCH};

/// Now, in Unix microseconds.
pub fn now() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Unix microseconds as a timestamp.
pub fn timestamp(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
    Timestamp { seconds: micros.div_euclid(1_000_000), nanos }
}

/// A timestamp as Unix microseconds.
pub fn micros(timestamp: Option<Timestamp>) -> i64 {
    let Timestamp { seconds, nanos } = timestamp.unwrap_or_default();
    seconds.saturating_mul(1_000_000).saturating_add(i64::from(nanos) / 1_000)
}
