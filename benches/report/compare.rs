//! This run beside an earlier one.

use super::row::{Figure, Unit};
use super::stats::{mad, median};
use crate::Failure;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What two runs of the same differ by at least on a shared machine.
const NOISE: f64 = 0.10;
/// Spreads of both runs, added, that are noise too: with normal errors one row in hundreds is outside by chance.
const SPREADS: f64 = 3.0;

/// What is noise of figures that were taken so seldom that their spread says nothing.
const SELDOM: f64 = 0.30;
/// Rounds from which on it does.
const ROUNDS: usize = 3;

/// An earlier run.
pub(crate) struct Before {
    name: String,
    header: Value,
    rows: BTreeMap<(String, String), Value>,
}

/// What came of it.
#[derive(Default)]
pub(crate) struct Compared {
    pub(crate) lines: Vec<String>,
    pub(crate) worse: usize,
    pub(crate) better: usize,
    pub(crate) alike: usize,
}

impl Before {
    /// * `file`: what `--json` wrote.
    pub(crate) fn read(file: &Path) -> Result<Self, Failure> {
        let text = std::fs::read(file).map_err(|why| format!("{}: {why}", file.display()))?;
        let mut all: Value = serde_json::from_slice(&text)?;
        let rows = all["rows"].as_array().ok_or("no rows: give a file that --json wrote")?;
        let key = |row: &Value| Some((row["group"].as_str()?.to_owned(), row["name"].as_str()?.to_owned()));
        let rows = rows.iter().filter_map(|row| Some((key(row)?, row.clone()))).collect();
        Ok(Self { name: file.display().to_string(), header: all["header"].take(), rows })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// By the ratio to the floor, which the same machine has paid; memory by itself. Times and rates without a floor are
    /// the machine's as much as the node's, and left out.
    pub(crate) fn beside<'a>(
        &self,
        header: &Value,
        figures: impl Iterator<Item = (&'static str, &'a Figure)>,
    ) -> Compared {
        let mut compared = Compared::default();
        for what in ["processor", "profile", "size"].into_iter().filter(|what| self.header[what] != header[what]) {
            compared.lines.push(format!("careful: the {what} was {}, and is {}", self.header[what], header[what]));
        }
        for (group, figure) in figures {
            let Some(now) = Ratio::of(figure) else { continue };
            let found = self.rows.get(&(group.to_owned(), figure.name.clone()));
            let Some(then) = found.and_then(|row| Ratio::read(row, figure)) else {
                compared.lines.push(format!("new:    {group}: {}", figure.name));
                continue;
            };
            compared.note(group, figure, &then, &now);
        }
        compared
    }
}

impl Compared {
    fn note(&mut self, group: &str, figure: &Figure, then: &Ratio, now: &Ratio) {
        let least = if then.rounds.min(now.rounds) < ROUNDS { SELDOM } else { NOISE };
        let noise = least.max(SPREADS * (then.spread + now.spread));
        // By how much it is worse: 0.5 is half as much again, or two thirds of the rate.
        let change = match figure.unit.more_is_better() {
            true => then.median / now.median - 1.0,
            false => now.median / then.median - 1.0,
        };
        let word = match change {
            worse if worse > noise => {
                self.worse += 1;
                "WORSE: "
            }
            better if 1.0 / (1.0 + better) - 1.0 > noise => {
                self.better += 1;
                "better:"
            }
            _ => {
                self.alike += 1;
                return;
            }
        };
        let (then, now, noise) = (then.median, now.median, noise * 100.0);
        self.lines.push(format!("{word} {group}: {}: {then:.3} then, {now:.3} now, noise {noise:.0} %", figure.name));
    }
}

/// A median and its spread, as part of it.
struct Ratio {
    median: f64,
    spread: f64,
    rounds: usize,
}

impl Ratio {
    fn of(figure: &Figure) -> Option<Self> {
        let values = match (figure.ratios(), &figure.floor, figure.unit) {
            (Some(_), Some((floor, _)), _) if *floor == figure.name => return None, // the floor itself
            (Some(ratios), ..) => ratios,
            (None, _, Unit::Memory) => figure.rounds.clone(),
            (None, ..) => return None,
        };
        Self::new(median(&values), mad(&values), values.len())
    }

    /// * errors: `None` where the row was about something else.
    fn read(row: &Value, figure: &Figure) -> Option<Self> {
        if row["floor"].as_str() != figure.floor.as_ref().map(|(floor, _)| floor.as_str()) {
            return None;
        }
        let rounds = row["rounds"].as_array()?.len();
        match figure.floor {
            Some(_) => Self::new(row["ratio"].as_f64()?, row["ratio_mad"].as_f64()?, rounds),
            None => Self::new(row["median"].as_f64()?, row["mad"].as_f64()?, rounds),
        }
    }

    fn new(median: f64, mad: f64, rounds: usize) -> Option<Self> {
        (median > 0.0).then(|| Self { median, spread: mad / median, rounds })
    }
}
