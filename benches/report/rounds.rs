//! What is measured, round by round, until it becomes rows.

use super::row::{Figure, Row, Unit};
use super::stats::{median, micros, quantile, ratios};
use std::collections::BTreeMap;
use std::time::Duration;

/// What was measured, by name.
#[derive(Default)]
pub(crate) struct Rounds(BTreeMap<String, Series>);

struct Series {
    unit: Unit,
    rounds: Vec<f64>,
    samples: usize,
    more: BTreeMap<String, Vec<f64>>,
}

impl Rounds {
    /// A round of calls, one after the other: the median is the figure, the mean and p99 stand beside it.
    pub(crate) fn calls(&mut self, what: &str, took: &[Duration]) {
        self.value(what, Unit::Time, micros(quantile(took, 0.5)), took.len());
        self.beside(what, "p99 us", micros(quantile(took, 0.99)));
        let count = u32::try_from(took.len().max(1)).unwrap_or(u32::MAX);
        self.beside(what, MEAN, micros(took.iter().sum::<Duration>() / count));
    }

    /// A round that has one figure.
    pub(crate) fn value(&mut self, what: &str, unit: Unit, value: f64, samples: usize) {
        let series = self.0.entry(what.to_owned()).or_insert_with(|| Series::new(unit));
        series.rounds.push(value);
        series.samples += samples;
    }

    /// A figure beside the last.
    pub(crate) fn beside(&mut self, what: &str, name: &str, value: f64) {
        if let Some(series) = self.0.get_mut(what) {
            series.more.entry(name.to_owned()).or_default().push(value);
        }
    }

    /// A line that sets one beside another.
    pub(crate) fn row(&self, what: &str, beside: &str) -> Row {
        self.row_over(what, beside, &self.of(beside).rounds)
    }

    /// A line that sets one beside the sum of others.
    pub(crate) fn row_beside_sum(&self, what: &str, beside: [&str; 2]) -> Row {
        let [one, other] = beside.map(|name| &self.of(name).rounds);
        let sums: Vec<f64> = one.iter().zip(other).map(|(one, other)| one + other).collect();
        self.row_over(what, &beside.join(" + "), &sums)
    }

    /// A line that sets one beside rounds measured elsewhere.
    pub(crate) fn row_over(&self, what: &str, beside: &str, floor: &[f64]) -> Row {
        self.figure(what, Some((beside.to_owned(), floor.to_vec())))
    }

    /// A line beside nothing.
    pub(crate) fn alone(&self, what: &str) -> Row {
        self.figure(what, None)
    }

    fn figure(&self, what: &str, floor: Option<(String, Vec<f64>)>) -> Row {
        let series = self.of(what);
        let more = series.more.iter().map(|(name, rounds)| (name.clone(), median(rounds))).collect();
        let (rounds, samples) = (series.rounds.clone(), series.samples);
        Row::Figure(Figure { name: what.to_owned(), unit: series.unit, rounds, samples, floor, more })
    }

    /// How many times one is the other.
    pub(crate) fn ratio(&self, what: &str, beside: &str) -> f64 {
        median(&ratios(&self.of(what).rounds, &self.of(beside).rounds))
    }

    /// The same of means instead of medians of calls.
    pub(crate) fn ratio_of_means(&self, what: &str, beside: &str) -> f64 {
        median(&ratios(&self.of(what).more[MEAN], &self.of(beside).more[MEAN]))
    }

    pub(crate) fn median(&self, what: &str) -> f64 {
        median(&self.of(what).rounds)
    }

    /// Of each round.
    pub(crate) fn each(&self, what: &str) -> &[f64] {
        &self.of(what).rounds
    }

    fn of(&self, what: &str) -> &Series {
        &self.0[what]
    }
}

/// Name of the mean beside a figure.
pub(crate) const MEAN: &str = "mean us";

impl Series {
    fn new(unit: Unit) -> Self {
        Self { unit, rounds: Vec::new(), samples: 0, more: BTreeMap::new() }
    }
}
