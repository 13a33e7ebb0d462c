//! Medians and spreads.

use std::time::Duration;

/// The one below which so much of all lies.
pub(crate) fn quantile(spans: &[Duration], part: f64) -> Duration {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into what was counted")]
    let at = (spans.len() as f64 * part) as usize;
    spans.get(at.min(spans.len().saturating_sub(1))).copied().unwrap_or_default()
}

pub(crate) fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

/// The middle; of an even number the mean of the two in it. 0 of nothing.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    let half = values.len() / 2;
    match (values.len() % 2, values.get(half)) {
        (1, Some(middle)) => *middle,
        (_, Some(upper)) => f64::midpoint(values[half - 1], *upper),
        (_, None) => 0.0,
    }
}

/// Median absolute deviation: half of the rounds are at most so far from their median.
pub(crate) fn mad(values: &[f64]) -> f64 {
    let middle = median(values);
    median(&values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>())
}

/// How many times one is the other, round by round where both have as many: what the machine did in a round met both.
pub(crate) fn ratios(values: &[f64], floor: &[f64]) -> Vec<f64> {
    let part = |value: f64, floor: f64| value / floor.max(f64::MIN_POSITIVE);
    if values.len() == floor.len() {
        return values.iter().zip(floor).map(|(value, floor)| part(*value, *floor)).collect();
    }
    let floor = median(floor);
    values.iter().map(|value| part(*value, floor)).collect()
}
