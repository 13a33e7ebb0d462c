//! Statements made of a query. Pure: the same query gives the same text, and all values of the caller are bound to it.

use super::filter::Filter;
use super::index::{Indexed, keys_tell};
use super::order::{self, By, Part, Place, Walk, bound};
use super::{Layout, io};
use crate::store::{Compare, Condition, Query, Scalar, StoreError, Test};
use rusqlite::types::Value;
use std::borrow::Cow;

/// Most values bound for the sake of indexes. The limit of a connection is 2,000; what is beyond is looked up.
const VARIABLES_MAX: usize = 1_900;
/// Most bytes of a statement for the sake of conditions on indexes. The limit of a connection is 64 KiB, of which keys of an
/// order may need most; what is beyond is looked up.
const SQL_MAX: usize = 16 * 1024;

/// Bytes that a bound value takes in a statement, at most: `?1234, `.
const VARIABLE_BYTES: usize = 7;

/// A statement and what is bound to it.
#[derive(Debug)]
pub(super) struct Statement {
    pub(super) sql: String,
    pub(super) values: Vec<Value>,
}

/// A query, with what has been found out about it.
pub(super) struct Question<'q> {
    pub(super) layout: &'q Layout,
    pub(super) query: &'q Query,
    pub(super) walk: Walk,
    /// The text in FTS5's language.
    pub(super) matching: Option<String>,
    /// What `score` takes.
    pub(super) weights: Vec<u8>,
    /// The vector, as bytes.
    pub(super) wanted: Option<Vec<u8>>,
    /// Whether the text is in so many records that an index is to be asked first.
    pub(super) common: bool,
}

/// Writes one statement.
pub(super) struct Writer<'q> {
    question: &'q Question<'q>,
    values: Vec<Value>,
    score: Option<String>,
}

/// What a record has to be, in two halves.
struct Halves<'q> {
    /// What indexes know: expressions.
    indexed: Vec<String>,
    /// What is to be looked up.
    rest: Filter<'q>,
}

impl Question<'_> {
    /// Rows and scores in order, at most `limit`; after a place only those of one part.
    pub(super) fn page(&self, after: Option<(&Place, Part)>, limit: usize) -> Result<Statement, StoreError> {
        let mut writer = Writer::new(self);
        let (row, score) = (writer.row(), writer.score());
        let mut from = writer.from(matches!(self.walk, Walk::Keys(_)), true)?;
        from.push_str(&self.beyond(after, &mut writer));
        let order = match &self.walk {
            Walk::Keys(keys) => {
                let keys = keys.get(after.map_or(0, |(_, part)| part.settled())..).unwrap_or(&[]);
                keys.iter().map(|key| (key.by.expression(&mut writer), key.descending)).collect()
            }
            Walk::Row { descending } => vec![(row.clone(), *descending)],
            Walk::Ranked => vec![(score.clone(), true), (row.clone(), true)],
        };
        let order = order.into_iter().map(|(key, descending)| key + if descending { " DESC" } else { "" });
        let order = order.collect::<Vec<_>>().join(", ");
        let limit = writer.bind(Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX)));
        Ok(writer.done(format!("SELECT {row}, {score} FROM {from} ORDER BY {order} LIMIT {limit}")))
    }

    /// Rows and scores of all matches, in no order; after a place only those of one part. Scores may be NULL or too low:
    /// those are no matches.
    pub(super) fn all(&self, after: Option<(&Place, Part)>) -> Result<Statement, StoreError> {
        let mut writer = Writer::new(self);
        let (row, score) = (writer.row(), writer.score());
        let mut from = writer.from(false, false)?;
        from.push_str(&self.beyond(after, &mut writer));
        Ok(writer.done(format!("SELECT {row}, {score} FROM {from}")))
    }

    fn beyond(&self, after: Option<(&Place, Part)>, writer: &mut Writer<'_>) -> String {
        after.map_or_else(String::new, |(place, part)| {
            format!(" AND {}", order::within(&self.walk, place, part, writer))
        })
    }

    /// Whether the matches come out of an index of a field, and so in no order of rows.
    pub(super) fn is_indexed(&self) -> bool {
        self.matching.is_none() && !self.halves(&mut Writer::new(self)).indexed.is_empty()
    }

    /// Whether documents have to be read for it, as no index knows all that is asked.
    pub(super) fn looks_into_documents(&self) -> bool {
        let by_document =
            matches!(&self.walk, Walk::Keys(keys) if keys.iter().any(|key| matches!(key.by, By::Path(_))));
        by_document || !self.halves(&mut Writer::new(self)).rest.is_empty()
    }

    /// How many matches there are.
    pub(super) fn count(&self) -> Result<Statement, StoreError> {
        let mut writer = Writer::new(self);
        let from = writer.from(false, true)?;
        Ok(writer.done(format!("SELECT count(*) FROM {from}")))
    }

    /// The values of the keys that a position carries, of one record.
    pub(super) fn keys(&self, row: i64) -> Statement {
        let mut writer = Writer::new(self);
        let keys = self.walk.carried().map(|key| key.by.expression(&mut writer)).collect::<Vec<_>>();
        let (number, row) = (self.layout.number, writer.bind(Value::Integer(row)));
        writer.done(format!("SELECT {} FROM r{number} WHERE row = {row}", keys.join(", ")))
    }

    /// Whether matches have a score.
    pub(super) fn is_scored(&self) -> bool {
        self.matching.is_some() || self.wanted.is_some()
    }

    /// Whether nothing is asked but nearness: vectors are gone through without their records.
    fn is_near_alone(&self) -> bool {
        let Query { text, conditions, labels, nearest, .. } = self.query;
        nearest.is_some() && text.is_none() && conditions.is_empty() && labels.is_empty()
    }

    /// Whether every record matches.
    pub(super) fn is_all(&self) -> bool {
        !self.is_scored() && self.query.conditions.is_empty() && self.query.labels.is_empty()
    }

    /// Splits what is asked of fields and labels. What an index knows exactly is not looked up again.
    fn halves(&self, writer: &mut Writer<'_>) -> Halves<'_> {
        let (mut indexed, mut ranges, mut rest) = (Vec::new(), Vec::new(), Filter::default());
        let mut bytes = 0;
        for condition in &self.query.conditions {
            let Some(paths) = self.paths(condition, writer, &mut bytes) else {
                rest.conditions.push(Cow::Borrowed(condition));
                continue;
            };
            if paths.iter().any(|(index, _)| index.spread.is_some()) {
                rest.conditions.push(Cow::Borrowed(condition));
            }
            if let [(index, test)] = paths.as_slice() {
                Range::add(&mut ranges, index, test, writer);
            } else {
                let any = paths.iter().map(|(index, test)| Range::of(index, test, writer).expression());
                indexed.push(joined(&any.collect::<Vec<_>>(), " OR "));
            }
        }
        indexed.extend(ranges.iter().map(Range::expression));
        rest.labels = Cow::Borrowed(&self.query.labels);
        Halves { indexed, rest }
    }

    /// The indexes of a condition that indexes can tell about, and of which they fit into a statement.
    fn paths<'c>(
        &self,
        condition: &'c Condition,
        writer: &Writer<'_>,
        bytes: &mut usize,
    ) -> Option<Vec<(Indexed, &'c Test)>> {
        if condition.negate {
            return None;
        }
        let paths = condition.any.iter().map(|(path, test)| {
            let index = self.layout.indexed(path)?;
            (can_tell(&index, test) && keys_tell(test)).then_some((index, test))
        });
        let paths = paths.collect::<Option<Vec<_>>>()?;
        let values = paths.iter().map(|(_, test)| if let Test::In(values) = test { values.len() } else { 1 });
        let values = values.sum::<usize>();
        let size = paths.iter().map(|(index, _)| 3 * index.value.len() + index.spread.as_ref().map_or(0, String::len));
        let size = size.sum::<usize>() + values * VARIABLE_BYTES;
        if writer.values.len() + values > VARIABLES_MAX || *bytes + size > SQL_MAX {
            return None;
        }
        *bytes += size;
        Some(paths)
    }
}

impl<'q> Writer<'q> {
    fn new(question: &'q Question<'q>) -> Self {
        Self { question, values: Vec::new(), score: None }
    }

    fn done(self, sql: String) -> Statement {
        Statement { sql, values: self.values }
    }

    /// Stands for a value in the statement.
    pub(super) fn bind(&mut self, value: Value) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    /// The number of a match's row.
    pub(super) fn row(&self) -> String {
        let (question, number) = (self.question, self.question.layout.number);
        if question.matching.is_some() {
            format!("f{number}.rowid")
        } else if question.is_near_alone() {
            format!("v{number}.row")
        } else {
            format!("r{number}.row")
        }
    }

    /// How well a match matches.
    pub(super) fn score(&mut self) -> String {
        if let Some(score) = &self.score {
            return score.clone();
        }
        let number = self.question.layout.number;
        let score = if let Some(wanted) = &self.question.wanted {
            format!("nearness(vector, {})", self.bind(Value::Blob(wanted.clone())))
        } else if self.question.matching.is_some() {
            format!("score(f{number}, {})", self.bind(Value::Blob(self.question.weights.clone())))
        } else {
            "0.0".to_owned()
        };
        self.score = Some(score.clone());
        score
    }

    /// Tables and conditions of the statement: texts first, then records, then vectors.
    ///
    /// * `records`: whether the table of records is needed in any case.
    /// * `near`: whether those that are not near are to be left out.
    fn from(&mut self, records: bool, near: bool) -> Result<String, StoreError> {
        let question = self.question;
        let number = question.layout.number;
        let row = self.row();
        let (mut tables, mut wanted) = (Vec::new(), Vec::new());
        if let Some(matching) = &question.matching {
            tables.push(format!("f{number}"));
            wanted.push(format!("f{number} MATCH {}", self.bind(Value::Text(matching.clone()))));
        }
        let Halves { indexed, rest } = question.halves(self);
        let has_index = !indexed.is_empty();
        let searched = question.matching.is_some() && question.common && has_index;
        if searched {
            // Rows of a common word are looked up in what the index has, before their records are read.
            wanted.push(format!("+{row} IN (SELECT row FROM r{number} WHERE {})", joined(&indexed, " AND ")));
        } else {
            wanted.extend(indexed);
        }
        let vectors = |tables: &mut Vec<String>, wanted: &mut Vec<String>| {
            wanted.extend((!tables.is_empty()).then(|| format!("v{number}.row = {row}")));
            tables.push(format!("v{number}"));
        };
        let alone = question.is_near_alone();
        if alone {
            vectors(&mut tables, &mut wanted);
        }
        if tables.is_empty() || records || !rest.is_empty() || (has_index && !searched) {
            wanted.extend((!tables.is_empty()).then(|| format!("r{number}.row = {row}")));
            tables.push(format!("r{number}"));
        }
        if !rest.is_empty() {
            wanted.push(self.holds(&rest)?);
        }
        if let Some(nearest) = &question.query.nearest {
            if !alone {
                vectors(&mut tables, &mut wanted);
            }
            if near {
                let least = nearest.at_least.map_or(LEAST_COSINE, f64::from);
                wanted.push(format!("{} >= {}", self.score(), self.bind(Value::Real(least))));
            }
        }
        let wanted = if wanted.is_empty() { "1".to_owned() } else { joined(&wanted, " AND ") };
        Ok(format!("{} WHERE {wanted}", tables.join(" CROSS JOIN ")))
    }

    fn holds(&mut self, rest: &Filter<'_>) -> Result<String, StoreError> {
        let part = |used: bool, column| if used { column } else { "NULL" };
        let document = part(!rest.conditions.is_empty(), "document");
        let labels = part(!rest.labels.is_empty(), "labels");
        let filter = serde_json::to_string(rest).map_err(io)?;
        Ok(format!("holds({document}, {labels}, {})", self.bind(Value::Text(filter))))
    }
}

/// Below every cosine.
const LEAST_COSINE: f64 = -2.0;

/// Whether an index leaves out much of what does not match. Where no array can be on the way it tells exactly what does.
fn can_tell(index: &Indexed, test: &Test) -> bool {
    match test {
        Test::Compare(Compare::NotEqual, _) | Test::Present => index.spread.is_none(),
        Test::Compare(..) | Test::In(_) => true,
        Test::Substring(_) => false,
    }
}

/// What is asked of the values in one index: all of it.
struct Range {
    index: Indexed,
    tests: Vec<String>,
    /// Whether it begins, and ends, somewhere.
    least: bool,
    most: bool,
    /// Of what kind its values are, where only those of one kind match.
    text: Option<bool>,
}

impl Range {
    fn of(index: &Indexed, test: &Test, writer: &mut Writer<'_>) -> Self {
        let mut range = Self { index: index.clone(), tests: Vec::new(), least: false, most: false, text: None };
        range.narrow(test, writer);
        range
    }

    /// Narrows the range of the same index, if there is one: an index is gone through once, between the narrowest bounds.
    fn add(ranges: &mut Vec<Self>, index: &Indexed, test: &Test, writer: &mut Writer<'_>) {
        match ranges.iter_mut().find(|range| range.index == *index) {
            Some(range) => range.narrow(test, writer),
            None => ranges.push(Self::of(index, test, writer)),
        }
    }

    fn narrow(&mut self, test: &Test, writer: &mut Writer<'_>) {
        let value = &self.index.value;
        let test = match test {
            Test::Present => format!("{value} IS NOT NULL"),
            Test::In(values) if values.is_empty() => "0".to_owned(),
            Test::In(values) => {
                (self.least, self.most) = (true, true);
                let values = values.iter().map(|value| writer.bind(bound(value))).collect::<Vec<_>>();
                format!("{value} IN ({})", values.join(", "))
            }
            Test::Compare(compare, with) => {
                if self.index.spread.is_some() {
                    self.text = Some(matches!(with, Scalar::Text(_)));
                }
                let with = writer.bind(bound(with));
                let operator = match compare {
                    Compare::Equal => "=",
                    Compare::NotEqual => "<>",
                    Compare::Greater => ">",
                    Compare::Less => "<",
                    Compare::GreaterEqual => ">=",
                    Compare::LessEqual => "<=",
                };
                self.least |= matches!(compare, Compare::Equal | Compare::Greater | Compare::GreaterEqual);
                self.most |= matches!(compare, Compare::Equal | Compare::Less | Compare::LessEqual);
                format!("{value} {operator} {with}")
            }
            // Not asked of an index: see `can_tell`.
            Test::Substring(_) => return,
        };
        self.tests.push(test);
    }

    /// With an end on both sides, so that values of other kinds are not gone through: numbers are below text.
    fn expression(&self) -> String {
        let Indexed { value, spread } = &self.index;
        let mut tests = self.tests.clone();
        match self.text {
            Some(true) if !self.least => tests.push(format!("{value} >= ''")),
            Some(false) if !self.most => tests.push(format!("{value} < ''")),
            _ => {}
        }
        let known = joined(&tests, " AND ");
        match spread {
            Some(spread) => format!("({known} OR {spread} = 1)"),
            None => known,
        }
    }
}

/// Joined so that they nest no deeper than need be.
fn joined(expressions: &[String], operator: &str) -> String {
    match expressions {
        [] => "0".to_owned(),
        [one] => one.clone(),
        _ => {
            let (one, other) = expressions.split_at(expressions.len() / 2);
            format!("({}{operator}{})", joined(one, operator), joined(other, operator))
        }
    }
}
