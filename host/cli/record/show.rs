//! Records as a table, as one JSON value, or as a JSON value a line.

use super::super::output::{Output, table};
use super::item::Items;
use super::line::Line;
use crate::domain::one_line;
use prost_reflect::Kind;
use serde::Serialize;
use serde_json::{Map, Value};

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(in crate::cli) enum Format {
    /// Columns for people, cut to the terminal
    Table,
    /// One JSON value
    Json,
    /// A JSON value a line, as they come
    Jsonl,
}

/// `-o`
#[derive(Debug, Clone, Copy, clap::Args)]
pub(in crate::cli) struct Shape {
    /// How to print it [default: table]
    #[arg(short = 'o', long = "output", value_name = "FORMAT")]
    format: Option<Format>,
}

impl Shape {
    /// --json stands for `-o json` where nothing else is said.
    pub(in crate::cli) fn format(self, output: &Output) -> Format {
        self.format.unwrap_or(if output.is_json() { Format::Json } else { Format::Table })
    }
}

/// Characters of a cell: with more, one field takes the line.
const CELL: usize = 40;
/// Columns for fields: with more, nobody finds the header of one.
const COLUMNS: usize = 16;

/// Records as one JSON value.
#[derive(Serialize)]
struct Page<'a> {
    records: &'a [Line],
    total: i64,
}

/// Records on their way to the user.
pub(super) struct Shown<'a> {
    format: Format,
    output: &'a Output,
    items: &'a Items,
    lines: Vec<Line>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(format: Format, output: &'a Output, items: &'a Items) -> Self {
        Self { format, output, items, lines: Vec::new() }
    }

    /// Takes the next record; a stream's is printed at once.
    ///
    /// * returns: false if nobody reads any more.
    pub(super) fn take(&mut self, line: Line) -> anyhow::Result<bool> {
        if self.format == Format::Jsonl {
            return self.output.line(&line.text()?);
        }
        self.lines.push(line);
        Ok(true)
    }

    /// Prints what is not printed yet.
    ///
    /// * `total`: all there are, shown here or not.
    pub(super) fn finish(self, total: i64) -> anyhow::Result<()> {
        match self.format {
            Format::Jsonl => {}
            Format::Json => {
                self.output.line(&serde_json::to_string(&Page { records: &self.lines, total })?)?;
            }
            Format::Table if self.lines.is_empty() => {
                self.output.line("no records")?;
            }
            Format::Table => {
                self.output.line(&fit(&self.table()))?;
            }
        }
        Ok(())
    }

    fn table(&self) -> String {
        let items: Vec<Map<String, Value>> = self.lines.iter().map(members).collect();
        let columns = self.columns(&items);
        let scored = self.lines.iter().any(|line| line.score.is_some());
        let mut header = vec!["ID", "CREATED"];
        header.extend(scored.then_some("SCORE"));
        header.extend(columns.iter().map(String::as_str));
        let rows = self.lines.iter().zip(&items).map(|(line, item)| {
            // Seconds are enough for people.
            let created = line.created_at.get(..19).unwrap_or(&line.created_at);
            let mut row = vec![one_line(&line.id, CELL), one_line(created, CELL)];
            row.extend(scored.then(|| line.score.map(|score| format!("{score:.4}")).unwrap_or_default()));
            row.extend(columns.iter().map(|column| item.get(column).map(cell).unwrap_or_default()));
            row
        });
        table(&header, &rows.collect::<Vec<_>>())
    }

    /// Fields with a column: a type's own that hold one value, else whatever the items have.
    fn columns(&self, items: &[Map<String, Value>]) -> Vec<String> {
        if let Some(message) = self.items.message() {
            let fields = message.fields().filter(|field| {
                let message = matches!(field.kind(), Kind::Message(of) if !is_one_value(of.full_name()));
                !field.is_list() && !field.is_map() && !message
            });
            return fields.take(COLUMNS).map(|field| field.json_name().to_owned()).collect();
        }
        let mut columns: Vec<String> = Vec::new();
        for (name, value) in items.iter().flatten() {
            if !value.is_object() && !value.is_array() && columns.len() < COLUMNS && !columns.contains(name) {
                columns.push(name.clone());
            }
        }
        columns
    }
}

/// Messages that JSON writes as one value.
fn is_one_value(name: &str) -> bool {
    const NAMES: [&str; 3] = ["google.protobuf.Timestamp", "google.protobuf.Duration", "google.protobuf.FieldMask"];
    NAMES.contains(&name) || (name.starts_with("google.protobuf.") && name.ends_with("Value"))
}

fn members(line: &Line) -> Map<String, Value> {
    line.item.as_ref().and_then(|item| serde_json::from_str(item.get()).ok()).unwrap_or_default()
}

fn cell(value: &Value) -> String {
    match value {
        Value::String(text) => one_line(text, CELL),
        Value::Null | Value::Array(_) | Value::Object(_) => String::new(),
        value => value.to_string(),
    }
}

/// Lines cut to the terminal; whole where there is none.
fn fit(text: &str) -> String {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok();
    match size.map(|size| usize::from(size.ws_col)).filter(|&width| width > 0) {
        Some(width) => text.lines().map(|line| cut(line, width)).collect::<Vec<_>>().join("\n"),
        None => text.to_owned(),
    }
}

fn cut(line: &str, width: usize) -> String {
    match line.chars().count() <= width {
        true => line.to_owned(),
        false => line.chars().take(width.saturating_sub(1)).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::item::Detail;
    use super::*;
    use crate::rpc::pb;

    #[test]
    fn columns_are_what_records_have() {
        let items = Items::json();
        let output = Output::new(false);
        let mut shown = Shown::new(Format::Table, &output, &items);
        for (id, item) in [("1", r#"{"a":1,"deep":{"x":1}}"#), ("2", r#"{"b":"two\nlines","a":null}"#)] {
            let item = prost_types::Any { type_url: String::new(), value: item.into() };
            let info = pb::RecordInfo { id: id.into(), ..Default::default() };
            shown.take(Line::new(&items, &item, info, Detail::Everything)).unwrap();
        }
        assert_eq!(shown.table(), "ID  CREATED  a  b\n1            1\n2               two\\nlines");
        assert_eq!((cut("größe", 5), cut("größer", 5)), ("größe".into(), "größ…".into()));
    }
}
