//! How well a text matches: BM25, as a function of FTS5 that reads nothing but the match itself.
//!
//! FTS5's own `bm25()` looks up the length of every hit; here it stands in the low byte of the row (`norm.rs`). What else
//! a rank needs is worked out before the statement runs and bound to it: see [`weights`].
#![allow(unsafe_code, reason = "FTS5 takes functions through its C interface only")]

use super::norm;
use crate::store::TERMS_MAX;
use rusqlite::{Connection, Error, ffi};
use std::ffi::{c_int, c_void};
use std::{ptr, slice};

/// How soon more of a word stops to matter. The usual 1.2.
const K1: f64 = 1.2;
/// How much long texts are held back. The usual 0.75.
const B: f64 = 0.75;
/// Bytes of one number of the weights.
const NUMBER: usize = size_of::<f64>();

/// What `score` takes as its second argument.
///
/// * `records`, `words`: how many there are.
/// * `holding`: records that hold it, for each phrase of the expression from left to right.
#[allow(clippy::cast_precision_loss, reason = "a rank is no count")]
pub(super) fn weights(records: u64, words: u64, holding: &[u64]) -> Vec<u8> {
    let all = records as f64;
    let average = (words as f64 / all.max(1.0)).max(1.0);
    let rarity = |held: &u64| {
        let held = (*held).min(records) as f64;
        (1.0 + (all - held + 0.5) / (held + 0.5)).ln() * (K1 + 1.0)
    };
    std::iter::once(average).chain(holding.iter().map(rarity)).flat_map(f64::to_le_bytes).collect()
}

/// The weights of one statement, as they are bound.
#[derive(Clone, Copy)]
struct Weights<'a>(&'a [u8]);

impl Weights<'_> {
    fn number(self, at: usize) -> Option<f64> {
        let (numbers, _) = self.0.as_chunks::<NUMBER>();
        numbers.get(at).map(|bytes| f64::from_le_bytes(*bytes))
    }

    /// What the length of a text adds to how often a phrase is in it.
    #[allow(clippy::cast_precision_loss, reason = "a rank is no count")]
    fn damping(self, row: i64) -> Option<f64> {
        let [length, ..] = row.to_le_bytes();
        let length = norm::least(length) as f64;
        Some(K1 * (1.0 - B + B * length / self.number(0)?))
    }

    /// What a phrase is worth that is so often in a text.
    fn part(self, phrase: usize, times: u32, damping: f64) -> f64 {
        let times = f64::from(times);
        self.number(phrase + 1).map_or(0.0, |weight| weight * times / (times + damping))
    }
}

/// Makes `score(<text table>, <weights>)` known to a connection. Higher is better, and never below 0.
pub(super) fn register(connection: &Connection) -> rusqlite::Result<()> {
    let api = api(connection)?;
    // SAFETY: the connection is open, and its FTS5 interface lives as long as it does.
    let create = unsafe { api.as_ref() }.and_then(|api| api.xCreateFunction).ok_or(Error::InvalidQuery)?;
    // SAFETY: `score` is a function and lives for ever; there is no user data to free.
    let code = unsafe { create(api, c"score".as_ptr(), ptr::null_mut(), Some(score), None) };
    check(code)
}

fn check(code: c_int) -> rusqlite::Result<()> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(Error::SqliteFailure(ffi::Error::new(code), None)) }
}

/// FTS5's interface on this connection. Source: "Extending FTS5", sqlite.org/fts5.html.
fn api(connection: &Connection) -> rusqlite::Result<*mut ffi::fts5_api> {
    let mut api: *mut ffi::fts5_api = ptr::null_mut();
    let mut statement = ptr::null_mut();
    // SAFETY: the handle is open while `connection` is borrowed, and used by this thread alone. The statement is
    // finalized before this block ends, so that the pointer to `api` that is bound to it does not outlive `api`.
    let code = unsafe {
        let sql = c"SELECT fts5(?1)";
        let code = ffi::sqlite3_prepare_v2(connection.handle(), sql.as_ptr(), -1, &raw mut statement, ptr::null_mut());
        if code == ffi::SQLITE_OK {
            let slot = (&raw mut api).cast::<c_void>();
            ffi::sqlite3_bind_pointer(statement, 1, slot, c"fts5_api_ptr".as_ptr(), None);
            ffi::sqlite3_step(statement);
        }
        ffi::sqlite3_finalize(statement)
    };
    check(code)?;
    if api.is_null() { Err(Error::InvalidQuery) } else { Ok(api) }
}

/// FTS5 calls this for every hit.
unsafe extern "C" fn score(
    api: *const ffi::Fts5ExtensionApi,
    hit: *mut ffi::Fts5Context,
    context: *mut ffi::sqlite3_context,
    count: c_int,
    values: *mut *mut ffi::sqlite3_value,
) {
    // SAFETY: FTS5 hands over its interface, the hit that the cursor is at and `count` values, all valid until this
    // returns; the blob of a value lives as long as the value, which nothing here converts.
    let rank = unsafe {
        let values = if count == 1 { slice::from_raw_parts(values, 1) } else { &[] };
        match (api.as_ref(), values) {
            (Some(api), &[value]) => rank(api, hit, blob(value)),
            _ => None,
        }
    };
    // SAFETY: `context` is this call's.
    unsafe {
        match rank {
            Some(rank) => ffi::sqlite3_result_double(context, rank),
            None => ffi::sqlite3_result_error_code(context, ffi::SQLITE_ERROR),
        }
    }
}

/// SAFETY: `value` is valid, and not changed while the slice lives.
unsafe fn blob<'a>(value: *mut ffi::sqlite3_value) -> Weights<'a> {
    // SAFETY: by this function's own condition; the length is asked for after the bytes, as SQLite wants it.
    unsafe {
        let bytes = ffi::sqlite3_value_blob(value).cast::<u8>();
        let length = usize::try_from(ffi::sqlite3_value_bytes(value)).unwrap_or(0);
        Weights(if bytes.is_null() { &[] } else { slice::from_raw_parts(bytes, length) })
    }
}

/// SAFETY: `api` and `hit` are what FTS5 handed over for this call.
unsafe fn rank(api: &ffi::Fts5ExtensionApi, hit: *mut ffi::Fts5Context, weights: Weights<'_>) -> Option<f64> {
    let mut matches = 0;
    // SAFETY: by this function's own condition.
    let (row, phrases) = unsafe {
        if api.xInstCount?(hit, &raw mut matches) != ffi::SQLITE_OK {
            return None;
        }
        (api.xRowid?(hit), api.xPhraseCount?(hit))
    };
    let damping = weights.damping(row)?;
    if phrases == 1 {
        return Some(weights.part(0, u32::try_from(matches).ok()?, damping));
    }
    let mut times = [0_u32; TERMS_MAX];
    for at in 0..matches {
        let (mut phrase, mut column, mut offset) = (0, 0, 0);
        // SAFETY: by this function's own condition; `at` is below the count.
        if unsafe { api.xInst?(hit, at, &raw mut phrase, &raw mut column, &raw mut offset) } != ffi::SQLITE_OK {
            return None;
        }
        if let Some(times) = usize::try_from(phrase).ok().and_then(|phrase| times.get_mut(phrase)) {
            *times += 1;
        }
    }
    let held = times.iter().enumerate().filter(|(_, times)| **times > 0);
    Some(held.map(|(phrase, times)| weights.part(phrase, *times, damping)).sum())
}
