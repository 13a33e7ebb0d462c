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

fn micros(span: Duration) -> f64 {
    span.as_secs_f64() * 1e6
}

impl Row {
    pub(crate) fn cold(name: &str, bytes: usize, took: Duration, queued_us: Option<&String>) -> Self {
        let compiled = queued_us.and_then(|us| us.parse::<f64>().ok()).unwrap_or_default() / 1e3;
        Self {
            text: format!(
                "cold  {name:<32} {:>9.1} ms   of it compiling {compiled:.1} ms ({bytes} bytes)",
                micros(took) / 1e3
            ),
            value: json!({ "cold": name, "bytes": bytes, "us": micros(took), "compile_ms": compiled }),
        }
    }

    pub(crate) fn new(text: String, value: Value) -> Self {
        Self { text, value }
    }

    /// * `floor`: what the ratio is to.
    pub(crate) fn warm(what: &str, rounds: &[Round], floor: Duration) -> Self {
        let of = |part: fn(&Round) -> Duration| rounds.iter().map(part).collect::<Vec<_>>();
        let (p50s, p99s) = (of(|round| round.p50), of(|round| round.p99));
        let (least, most) = (quantile(&p50s, 0.0), quantile(&p50s, 1.0));
        let (p50, p99) = (quantile(&p50s, 0.5), quantile(&p99s, 0.5));
        let ratio = micros(p50) / micros(floor).max(f64::MIN_POSITIVE);
        Self {
            text: format!(
                "warm  {what:<32} {:>9.1} us   {ratio:.2}x its echo, p99 {:.1} us ({:.1} to {:.1} us over {} rounds)",
                micros(p50),
                micros(p99),
                micros(least),
                micros(most),
                rounds.len()
            ),
            value: json!({
                "warm": what, "p50_us": micros(p50), "p99_us": micros(p99), "ratio": ratio,
                "least_us": micros(least), "most_us": micros(most), "rounds": rounds.len(),
            }),
        }
    }
}

/// Prints the table, and the same as JSON into the target folder.
pub(crate) fn print(rows: &[Row], memory: &Value) -> Result<(), Box<dyn std::error::Error>> {
    for row in rows {
        println!("{}", row.text);
    }
    println!(
        "rss   idle {} KiB, before {} KiB, after {} warm calls {} KiB",
        memory["idle_kib"], memory["before_kib"], memory["calls"], memory["after_kib"]
    );
    let values: Vec<&Value> = rows.iter().map(|row| &row.value).collect();
    let file = std::env::temp_dir().join("collector-bench-serve.json");
    std::fs::write(&file, serde_json::to_string_pretty(&json!({ "rows": values, "memory": memory }))?)?;
    println!("json  {}", file.display());
    Ok(())
}
