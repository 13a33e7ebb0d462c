//! Figures as a table for people, as JSON for programs, as charts, and beside those of an earlier run.
//!
//! A line: name, median of the rounds, ratio to the floor (the median of each round's ratio), least and most round, median
//! absolute deviation, samples and rounds, the floor's name, figures beside it.

mod chart;
mod compare;
mod rounds;
mod row;
mod stats;

pub(crate) use compare::Before;
pub(crate) use rounds::{MEAN, Rounds};
pub(crate) use row::{Figure, Row, Unit};
pub(crate) use stats::{micros, quantile};

use crate::Failure;
use serde_json::{Value, json};
use std::path::Path;

/// A whole run.
pub(crate) struct Report {
    header: Value,
    groups: Vec<(&'static str, Vec<Row>)>,
    failed: Vec<(&'static str, String)>,
}

impl Report {
    /// * `header`: names and values of one level.
    pub(crate) fn new(header: Value) -> Self {
        Self { header, groups: Vec::new(), failed: Vec::new() }
    }

    pub(crate) fn print_header(&self) {
        for (name, value) in self.header.as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            println!("{name:<12} {text}");
        }
    }

    /// What comes next belongs to this group.
    pub(crate) fn begin(&mut self, group: &'static str, about: &str) {
        println!("\n== {group}: {about}");
        self.groups.push((group, Vec::new()));
    }

    pub(crate) fn rows(&mut self, rows: Vec<Row>) {
        for row in &rows {
            println!("{}", row.text());
        }
        if let Some((_, all)) = self.groups.last_mut() {
            all.extend(rows);
        }
    }

    /// The group could not be measured.
    pub(crate) fn failed(&mut self, why: &str) {
        println!("FAILED: {why}");
        if let Some((group, _)) = self.groups.last() {
            self.failed.push((group, why.to_owned()));
        }
    }

    pub(crate) fn all_ran(&self) -> bool {
        self.failed.is_empty()
    }

    pub(crate) fn write_json(&self, file: &Path) -> Result<(), Failure> {
        let all = self.groups.iter().flat_map(|(group, rows)| rows.iter().map(|row| row.value(group)));
        let failed = self.failed.iter().map(|(group, why)| json!({ "group": group, "failed": why }));
        let rows: Vec<Value> = all.chain(failed).collect();
        std::fs::write(file, serde_json::to_string_pretty(&json!({ "header": self.header, "rows": rows }))?)?;
        println!("\njson: {}", file.display());
        Ok(())
    }

    pub(crate) fn write_charts(&self, folder: &Path) -> Result<(), Failure> {
        std::fs::create_dir_all(folder)?;
        for (group, rows) in &self.groups {
            if let Some(text) = chart::svg(group, rows) {
                let file = folder.join(format!("{group}.svg"));
                std::fs::write(&file, text)?;
                println!("chart: {}", file.display());
            }
        }
        Ok(())
    }

    /// Prints what is worse than before. Returns how many rows are.
    pub(crate) fn compare(&self, before: &Before) -> usize {
        let figures = self
            .groups
            .iter()
            .flat_map(|(group, rows)| rows.iter().filter_map(move |row| row.figure().map(|figure| (*group, figure))));
        let compared = before.beside(&self.header, figures);
        println!("\n== compared with {}", before.name());
        compared.lines.iter().for_each(|line| println!("{line}"));
        println!("{} rows worse, {} better, {} alike", compared.worse, compared.better, compared.alike);
        compared.worse
    }
}
