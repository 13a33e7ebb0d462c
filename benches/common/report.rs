//! Figures as a table for people and as JSON for programs.

use serde_json::{Value, json};
use std::time::Duration;

/// One line of the table.
pub(crate) struct Row {
    text: String,
    value: Value,
}

/// The one below which so much of all lies.
pub(crate) fn quantile(spans: &[Duration], part: f64) -> Duration {
    let mut spans = spans.to_vec();
    spans.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into what was counted")]
    let at = (spans.len() as f64 * part) as usize;
    spans.get(at.min(spans.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// What one round of calls took.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Round {
    pub(crate) fn of(took: &[Duration]) -> Self {
        Self { p50: quantile(took, 0.5), p99: quantile(took, 0.99) }
    }
}

/// The median of the rounds' p50.
pub(crate) fn floor(rounds: &[Round]) -> Duration {
    quantile(&rounds.iter().map(|round| round.p50).collect::<Vec<_>>(), 0.5)
}

pub(crate) fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

impl Row {
    pub(crate) fn new(text: String, value: Value) -> Self {
        Self { text, value }
    }

    /// * `kind`: `warm` or `cold`.
    /// * `floor`: what the ratio is to.
    pub(crate) fn timed(kind: &str, what: &str, rounds: &[Round], floor: Duration) -> Self {
        let of = |part: fn(&Round) -> Duration| rounds.iter().map(part).collect::<Vec<_>>();
        let (p50s, p99s) = (of(|round| round.p50), of(|round| round.p99));
        let (least, most) = (quantile(&p50s, 0.0), quantile(&p50s, 1.0));
        let (p50, p99) = (quantile(&p50s, 0.5), quantile(&p99s, 0.5));
        let ratio = micros(p50) / micros(floor).max(f64::MIN_POSITIVE);
        Self {
            text: format!(
                "{kind:<5} {what:<34} {:>9.1} us   {ratio:.2}x its floor, p99 {:.1} us ({:.1} to {:.1} us over {} rounds)",
                micros(p50),
                micros(p99),
                micros(least),
                micros(most),
                rounds.len()
            ),
            value: json!({
                kind: what, "p50_us": micros(p50), "p99_us": micros(p99), "ratio": ratio,
                "least_us": micros(least), "most_us": micros(most), "rounds": rounds.len(),
            }),
        }
    }
}

/// Prints the table, and the same as JSON into the temporary folder.
///
/// * `name`: of the benchmark.
pub(crate) fn print(name: &str, rows: &[Row]) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for row in rows {
        println!("{}", row.text);
    }
    let values: Vec<&Value> = rows.iter().map(|row| &row.value).collect();
    let file = std::env::temp_dir().join(format!("collector-bench-{name}.json"));
    std::fs::write(&file, serde_json::to_string_pretty(&json!({ "rows": values }))?)?;
    println!("json  {}", file.display());
    Ok(())
}
