//! What a group says: figures, bars, and words where there is no figure.

use super::stats::{mad, median, ratios};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// What a figure counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Microseconds; less is better.
    Time,
    /// Per second; more is better.
    Rate,
    /// KiB; less is better.
    Memory,
}

impl Unit {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Time => "us",
            Self::Rate => "/s",
            Self::Memory => "KiB",
        }
    }

    pub(crate) fn more_is_better(self) -> bool {
        self == Self::Rate
    }

    /// With as many digits as mean something.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Time if value < 1.0 => format!("{:.0} ns", value * 1e3),
            Self::Time if value < 1e4 => format!("{value:.1} us"),
            Self::Time if value < 1e7 => format!("{:.1} ms", value / 1e3),
            Self::Time => format!("{:.1} s", value / 1e6),
            Self::Rate => format!("{value:.0} /s"),
            Self::Memory if value.abs() < 1e4 => format!("{value:.1} KiB"),
            Self::Memory => format!("{:.1} MiB", value / 1024.0),
        }
    }
}

/// A figure, measured in rounds.
#[derive(Debug, Clone)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// Of each round: the median of its calls, its rate, its memory.
    pub(crate) rounds: Vec<f64>,
    /// In all rounds together.
    pub(crate) samples: usize,
    /// What the ratio is to, measured in the same rounds.
    pub(crate) floor: Option<(String, Vec<f64>)>,
    /// Figures beside it, e.g. the p99 in microseconds.
    pub(crate) more: Vec<(String, f64)>,
}

impl Figure {
    pub(crate) fn median(&self) -> f64 {
        median(&self.rounds)
    }

    fn range(&self) -> (f64, f64) {
        let fold = |start, pick: fn(f64, f64) -> f64| self.rounds.iter().copied().fold(start, pick);
        (fold(f64::INFINITY, f64::min), fold(f64::NEG_INFINITY, f64::max))
    }

    pub(crate) fn ratios(&self) -> Option<Vec<f64>> {
        self.floor.as_ref().map(|(_, floor)| ratios(&self.rounds, floor))
    }

    pub(crate) fn ratio(&self) -> Option<f64> {
        self.ratios().map(|ratios| median(&ratios))
    }

    fn text(&self) -> String {
        let ((least, most), show) = (self.range(), |value| self.unit.show(value));
        let mut text = format!(
            "{:<60} {:>10}   {:>7}  {} .. {}, mad {}, {} in {} rounds",
            self.name,
            show(self.median()),
            self.ratio().map(|ratio| format!("{ratio:.2}x")).unwrap_or_default(),
            show(least),
            show(most),
            show(mad(&self.rounds)),
            self.samples,
            self.rounds.len(),
        );
        if let Some((floor, _)) = self.floor.as_ref().filter(|(floor, _)| *floor != self.name) {
            let _ = write!(text, "; floor: {floor}");
        }
        for (what, value) in &self.more {
            let _ = write!(text, "; {what} {value:.1}");
        }
        text
    }

    fn value(&self, group: &str) -> Value {
        let ((least, most), ratios) = (self.range(), self.ratios());
        json!({
            "group": group, "name": self.name, "unit": self.unit.name(), "median": self.median(),
            "least": least, "most": most, "mad": mad(&self.rounds), "rounds": self.rounds, "samples": self.samples,
            "floor": self.floor.as_ref().map(|(floor, _)| floor), "ratio": self.ratio(),
            "ratio_mad": ratios.as_deref().map(mad), "ratios": ratios,
            "more": self.more.iter().map(|(what, value)| (what.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
        })
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub(crate) enum Row {
    Figure(Figure),
    /// A ratio or figure that has to be on one side of a bar.
    Bar {
        what: String,
        value: f64,
        bar: f64,
        at_most: bool,
    },
    /// Words, and the same for programs.
    Note {
        text: String,
        value: Value,
    },
    /// What is not here, and why.
    Skipped {
        what: String,
        why: String,
    },
}

impl Row {
    pub(crate) fn note(text: String, value: Value) -> Self {
        Self::Note { text, value }
    }

    pub(crate) fn skipped(what: &str, why: &str) -> Self {
        Self::Skipped { what: what.to_owned(), why: why.to_owned() }
    }

    pub(crate) fn at_most(what: &str, value: f64, bar: f64) -> Self {
        Self::Bar { what: what.to_owned(), value, bar, at_most: true }
    }

    pub(crate) fn at_least(what: &str, value: f64, bar: f64) -> Self {
        Self::Bar { what: what.to_owned(), value, bar, at_most: false }
    }

    /// Memory that was read once.
    pub(crate) fn memory(what: &str, kib: u64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "KiB below 2^53")]
        let rounds = vec![kib as f64];
        let (name, unit) = (what.to_owned(), Unit::Memory);
        Self::Figure(Figure { name, unit, rounds, samples: 1, floor: None, more: Vec::new() })
    }

    /// With one more figure beside it.
    pub(crate) fn with(mut self, what: &str, value: f64) -> Self {
        if let Self::Figure(figure) = &mut self {
            figure.more.push((what.to_owned(), value));
        }
        self
    }

    /// The figure, where it is one.
    pub(crate) fn figure(&self) -> Option<&Figure> {
        if let Self::Figure(figure) = self { Some(figure) } else { None }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Self::Figure(figure) => figure.text(),
            Self::Bar { what, value, bar, at_most } => {
                let kept = if self.kept() { "kept" } else { "MISSED" };
                let side = if *at_most { "at most" } else { "at least" };
                format!("bar: {what:<55} {value:>10.4}            {side} {bar}: {kept}")
            }
            Self::Note { text, .. } => text.clone(),
            Self::Skipped { what, why } => format!("skipped: {what}: {why}"),
        }
    }

    fn kept(&self) -> bool {
        match self {
            Self::Bar { value, bar, at_most: true, .. } => value <= bar,
            Self::Bar { value, bar, at_most: false, .. } => value >= bar,
            _ => true,
        }
    }

    pub(super) fn value(&self, group: &str) -> Value {
        match self {
            Self::Figure(figure) => figure.value(group),
            Self::Bar { what, value, bar, at_most } => {
                let side = if *at_most { "at_most" } else { "at_least" };
                json!({ "group": group, "bar": what, "value": value, side: bar, "kept": self.kept() })
            }
            Self::Note { text, value } => json!({ "group": group, "note": text, "value": value }),
            Self::Skipped { what, why } => json!({ "group": group, "skipped": what, "why": why }),
        }
    }
}
