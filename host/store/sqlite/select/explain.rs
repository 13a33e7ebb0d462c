//! How a query would be carried out, in words that name none of our tables.

use super::super::fault::from_sqlite;
use super::{Layout, find, question};
use crate::store::{Path, Plan, Query, StoreError};
use rusqlite::{Connection, params_from_iter};

/// How a query would be carried out.
///
/// * errors: as [`super::query`].
pub(in crate::store::sqlite) fn explain(
    connection: &Connection,
    layout: &Layout,
    query: &Query,
) -> Result<Plan, StoreError> {
    let question = question(connection, layout, query)?;
    let statements = find::statements(&question)?;
    let mut plan = Plan::default();
    for statement in &statements {
        let mut explained =
            connection.prepare(&format!("EXPLAIN QUERY PLAN {}", statement.sql)).map_err(from_sqlite)?;
        let details = explained.query_map(params_from_iter(&statement.values), |row| row.get::<_, String>(3));
        for detail in details.map_err(from_sqlite)? {
            add(layout, &detail.map_err(from_sqlite)?, &mut plan);
        }
    }
    Ok(plan)
}

/// Adds a step, as SQLite names it: `SEARCH r7 USING INDEX x7_2 (<expr>=?)`.
fn add(layout: &Layout, detail: &str, plan: &mut Plan) {
    // What follows is FTS5's own way of saying what was asked of it.
    let detail = detail.split_once(" VIRTUAL TABLE").map_or(detail, |(before, _)| before);
    let words = detail.split(' ').map(|word| match named(layout, word) {
        None => word.to_owned(),
        Some(Named::Table(name)) => name.to_owned(),
        Some(Named::Index(path, arrays)) => {
            if !plan.indexes.contains(path) {
                plan.indexes.push(path.clone());
            }
            format!("on {}{path}", if arrays { "arrays in " } else { "" })
        }
    });
    let step = words.collect::<Vec<_>>().join(" ");
    plan.steps.push(step);
}

enum Named<'l> {
    Table(&'static str),
    /// And whether it is the one for arrays on the way.
    Index(&'l Path, bool),
}

fn named<'l>(layout: &'l Layout, word: &str) -> Option<Named<'l>> {
    let number = layout.number;
    let tables = [
        (format!("r{number}"), "record"),
        (format!("f{number}"), "text"),
        (format!("v{number}"), "vector"),
        (format!("r{number}_id"), "on id"),
    ];
    if let Some((_, name)) = tables.into_iter().find(|(table, _)| table == word) {
        return Some(Named::Table(name));
    }
    layout.indexes.iter().find_map(|(index, path)| match word {
        _ if word == format!("x{number}_{index}") => Some(Named::Index(path, false)),
        _ if word == format!("s{number}_{index}") => Some(Named::Index(path, true)),
        _ => None,
    })
}
