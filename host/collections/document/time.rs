//! Moments and spans as text that sorts as they do.

use std::fmt::Write as _;

const NANOS: i64 = 1_000_000_000;
const DAY: i64 = 86_400;
/// 0001-01-01T00:00:00Z. Source: timestamp.proto.
const FIRST: i128 = -62_135_596_800;
/// 9999-12-31T23:59:59Z. Source: timestamp.proto.
const LAST: i128 = 253_402_300_799;
/// About 10,000 years, the longest span either way. Source: duration.proto.
const SPAN: i128 = 315_576_000_000;

/// Appends a moment: `2024-05-06T07:08:09.000000000Z`.
/// * `seconds` since 1970, `nanos`: any numbers; what is outside of the type's range sorts before or after what is in it.
pub(in crate::collections) fn push_moment(seconds: i128, nanos: i64, out: &mut String) {
    let (seconds, nanos) = normal(seconds, nanos);
    match i64::try_from(seconds) {
        Ok(within) if (FIRST..=LAST).contains(&seconds) => {
            let (year, month, day) = date(within.div_euclid(DAY));
            let time = within.rem_euclid(DAY);
            let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
            let _ = write!(out, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z");
        }
        _ => push_outside(seconds, nanos, out),
    }
}

/// Appends a span: its seconds from the shortest one on, `315576000001.500000000`.
pub(in crate::collections) fn push_span(seconds: i128, nanos: i64, out: &mut String) {
    let (seconds, nanos) = normal(seconds, nanos);
    if (-SPAN..=SPAN).contains(&seconds) {
        let _ = write!(out, "{:012}.{nanos:09}", seconds + SPAN);
    } else {
        push_outside(seconds, nanos, out);
    }
}

fn normal(seconds: i128, nanos: i64) -> (i128, i64) {
    (seconds + i128::from(nanos.div_euclid(NANOS)), nanos.rem_euclid(NANOS))
}

/// `-` is below the digits, `~` above them.
fn push_outside(seconds: i128, nanos: i64, out: &mut String) {
    const MIDDLE: i128 = 1 << 70;
    let sign = if seconds < 0 { '-' } else { '~' };
    let _ = write!(out, "{sign}{:022}.{nanos:09}", seconds + MIDDLE);
}

/// The date of a day since 1970 in the proleptic Gregorian calendar. Source: Hinnant, "chrono-compatible low-level date
/// algorithms", civil_from_days.
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    (year + era * 400 + i64::from(month <= 2), month, of_year - (153 * shifted + 2) / 5 + 1)
}

/// The day since 1970 of a date. Source: the same, days_from_civil.
fn day(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let shifted = (month + 9) % 12;
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let of_era = year.rem_euclid(400) * 365 + year.rem_euclid(400) / 4 - year.rem_euclid(400) / 100 + of_year;
    year.div_euclid(400) * 146_097 + of_era - 719_468
}

/// Reads the JSON form of a moment: `2024-05-06T07:08:09.5+02:00`. Returns its text as in documents.
pub(in crate::collections) fn read_moment(text: &str) -> Option<String> {
    let (date_part, rest) = text.split_at_checked(10)?;
    let rest = rest.strip_prefix(['T', 't'])?;
    let (time_part, rest) = rest.split_at_checked(8)?;
    let [year, month, day_of] = numbers(date_part, '-', [4, 2, 2])?;
    let [hour, minute, second] = numbers(time_part, ':', [2, 2, 2])?;
    let (fraction, zone) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at_checked(rest.bytes().take_while(u8::is_ascii_digit).count())?,
        None => ("0", rest),
    };
    let offset = offset(zone)?;
    let since = day(year, month, day_of);
    let exists = year >= 1 && date(since) == (year, month, day_of) && hour < 24 && minute < 60 && second < 60;
    if !exists {
        return None;
    }
    let seconds = since * DAY + hour * 3_600 + minute * 60 + second - offset;
    let mut out = String::with_capacity(30);
    push_moment(seconds.into(), nanos(fraction)?, &mut out);
    Some(out)
}

/// Reads the JSON form of a span: `-1.5s`. Returns its text as in documents.
pub(in crate::collections) fn read_span(text: &str) -> Option<String> {
    let number = text.strip_suffix('s')?;
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.len() > 20 {
        return None;
    }
    let (seconds, nanos) = (i128::from(digits(whole)?), nanos(fraction)?);
    let mut out = String::with_capacity(22);
    if negative {
        push_span(-seconds, -nanos, &mut out)
    } else {
        push_span(seconds, nanos, &mut out)
    };
    Some(out)
}

/// Seconds that a zone is ahead: `Z`, `+02:00`.
fn offset(zone: &str) -> Option<i64> {
    if zone.eq_ignore_ascii_case("z") {
        return Some(0);
    }
    let (sign, rest) = if let Some(rest) = zone.strip_prefix('+') { (1, rest) } else { (-1, zone.strip_prefix('-')?) };
    let [hours, minutes] = numbers(rest, ':', [2, 2])?;
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

fn numbers<const N: usize>(text: &str, between: char, widths: [usize; N]) -> Option<[i64; N]> {
    let mut parts = text.split(between);
    let mut all = [0; N];
    for (number, width) in all.iter_mut().zip(widths) {
        let part = parts.next().filter(|part| part.len() == width)?;
        *number = i64::try_from(digits(part)?).ok()?;
    }
    parts.next().is_none().then_some(all)
}

/// A fraction's digits as nanoseconds; more than nine only if they are zeros.
fn nanos(fraction: &str) -> Option<i64> {
    let (kept, rest) = fraction.split_at_checked(9).unwrap_or((fraction, ""));
    if rest.bytes().any(|byte| byte != b'0') {
        return None;
    }
    i64::try_from(digits(&format!("{kept:0<9}"))?).ok().filter(|_| !fraction.is_empty())
}

fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}
