//! Figures as a table for people and as JSON for programs.

use serde_json::{Value, json};
use std::time::Duration;

/// One line of the table.
pub(crate) struct Row {
    text: String,
    value: Value,
}

/// The middle one.
pub(crate) fn median(mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    spans.get(spans.len() / 2).copied().unwrap_or_default()
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

    pub(crate) fn warm(what: &str, rounds: Vec<Duration>, floor: Duration) -> Self {
        let (least, most) = (rounds.iter().min().copied(), rounds.iter().max().copied());
        let (least, most) = (least.unwrap_or_default(), most.unwrap_or_default());
        let count = rounds.len();
        let p50 = median(rounds);
        let ratio = micros(p50) / micros(floor).max(f64::MIN_POSITIVE);
        Self {
            text: format!(
                "warm  {what:<32} {:>9.1} us   {ratio:.2}x the echo ({:.1} to {:.1} us over {count} rounds)",
                micros(p50),
                micros(least),
                micros(most)
            ),
            value: json!({
                "warm": what, "p50_us": micros(p50), "ratio": ratio,
                "least_us": micros(least), "most_us": micros(most), "rounds": count,
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
