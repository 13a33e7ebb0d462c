//! What came of a run: lines as it goes, a table, JSON.

use crate::case::Case;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// What stands around the table in docs/security.md.
const BEGIN: &str = "<!-- hostile:begin -->";
const END: &str = "<!-- hostile:end -->";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    Held,
    Failed,
    Skipped,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Failed => "FAILED",
            Self::Skipped => "skipped",
        }
    }

    fn colour(self) -> &'static str {
        match self {
            Self::Held => "32",
            Self::Failed => "31",
            Self::Skipped => "33",
        }
    }
}

/// One case, as it ended.
#[derive(Debug, Clone)]
pub struct Row {
    pub id: String,
    pub title: String,
    pub wants: String,
    pub outcome: Outcome,
    pub figure: String,
    pub took: Duration,
    /// What the node held after it.
    pub rss_kib: Option<u64>,
}

impl Row {
    pub fn of(case: &Case, outcome: Outcome, figure: String, took: Duration) -> Self {
        Self {
            id: case.id.to_owned(),
            title: case.title.to_owned(),
            wants: case.wants.to_owned(),
            outcome,
            figure,
            took,
            rss_kib: None,
        }
    }

    /// Of the run as a whole.
    pub fn whole(id: &str, outcome: Outcome, figure: String, took: Duration) -> Self {
        let (title, wants) = match id {
            "SAMPLE" => ("cases at random, eight at once", "every case and every invariant holds"),
            "SELF" => ("leaks made on purpose", "each is found"),
            _ => ("the whole run", "same process; memory, descriptors, threads, processes as before"),
        };
        let (id, title, wants) = (id.to_owned(), title.to_owned(), wants.to_owned());
        Self { id, title, wants, outcome, figure, took, rss_kib: None }
    }

    /// For people who wait.
    pub fn print(&self, colours: bool) {
        let word = self.outcome.word();
        let word = match colours {
            true => format!("\x1b[{}m{word:<7}\x1b[0m", self.outcome.colour()),
            false => format!("{word:<7}"),
        };
        println!("{:<6} {word} {:>6} ms  {}", self.id, self.took.as_millis(), self.figure);
    }

    fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "id": self.id, "title": self.title, "expected": self.wants, "outcome": self.outcome.word(),
            "figure": self.figure, "rss_kib": self.rss_kib, "ms": u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
        })
    }
}

/// The rows as JSON.
pub fn write_json(file: &Path, seed: u64, rows: &[Row]) -> std::io::Result<()> {
    let cases: Vec<serde_json::Value> = rows.iter().map(Row::json).collect();
    let report = serde_json::json!({ "seed": seed, "cases": cases });
    std::fs::write(file, serde_json::to_vec_pretty(&report)?)
}

/// Puts the table between the markers of a file, or makes a file of it.
pub fn write_table(file: &Path, rows: &[Row]) -> Result<(), String> {
    let table = table(rows);
    let text = match std::fs::read_to_string(file) {
        Ok(text) => {
            let (before, rest) = text.split_once(BEGIN).ok_or(format!("{BEGIN} is not in {}", file.display()))?;
            let (_, after) = rest.split_once(END).ok_or(format!("{END} is not in {}", file.display()))?;
            format!("{before}{table}{after}")
        }
        Err(_) => table,
    };
    std::fs::write(file, text).map_err(|why| why.to_string())
}

fn table(rows: &[Row]) -> String {
    let cell = |text: &str| text.replace('|', "\\|").replace('\n', " ");
    let mut table =
        format!("{BEGIN}\n\n| Case | What it does | Expected | Outcome | Figure |\n|---|---|---|---|---|\n");
    for row in rows {
        let (id, title, wants) = (cell(&row.id), cell(&row.title), cell(&row.wants));
        let _ = writeln!(table, "| {id} | {title} | {wants} | {} | {} |", row.outcome.word(), cell(&row.figure));
    }
    table.push('\n');
    table.push_str(END);
    table
}
