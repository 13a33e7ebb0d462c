//! Orders.

use super::path::{End, resolve};
use crate::collections::form::Holds;
use crate::collections::{BadField, Form};
use crate::domain::one_line;
use crate::store::{Key, ORDER_MAX, Order};
use prost_reflect::Kind;

const FIELD: &str = "order_by";

/// What `order_by` comes to: field paths between commas, each with ` asc` or ` desc` after it if need be. `created_at`,
/// `updated_at` and `id` are the record's own; a field of such a name stands in quotes: `"id"`.
///
/// * `descending`: of entries that do not say.
/// * errors: `order_by`: a path that leads nowhere or to what has no order, one twice, more than [`ORDER_MAX`].
pub(in crate::collections) fn order(form: &Form, order_by: &str, descending: bool) -> Result<Vec<Order>, BadField> {
    if order_by.trim().is_empty() {
        return Ok(Vec::new());
    }
    let mut all: Vec<Order> = Vec::new();
    let mut quoted = false;
    let between = |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    };
    for entry in order_by.split(between) {
        if all.len() == ORDER_MAX {
            return Err(BadField::new(FIELD, format!("has more than {ORDER_MAX} entries")));
        }
        let (path, descending) = direction(entry.trim(), descending);
        let bad = |why| BadField::new(FIELD, format!("has {:?}: {why}", one_line(path, 256)));
        let key = key(form, path).map_err(bad)?;
        if all.iter().any(|order| order.key == key) {
            return Err(bad("it stands there twice".to_owned()));
        }
        all.push(Order { key, descending });
    }
    Ok(all)
}

fn direction(entry: &str, descending: bool) -> (&str, bool) {
    match entry.rsplit_once(char::is_whitespace) {
        Some((path, word)) if word.eq_ignore_ascii_case("desc") => (path.trim_end(), true),
        Some((path, word)) if word.eq_ignore_ascii_case("asc") => (path.trim_end(), false),
        _ => (entry, descending),
    }
}

fn key(form: &Form, path: &str) -> Result<Key, String> {
    match path {
        "created_at" => return Ok(Key::CreatedAt),
        "updated_at" => return Ok(Key::UpdatedAt),
        "id" => return Ok(Key::Id),
        _ => {}
    }
    let found = resolve(form, path)?;
    match &found.end {
        End::Each(_) => return Err("a repeated field or a map has no order".to_owned()),
        End::One(Holds::Message(_), _) => return Err("a message has no order".to_owned()),
        End::One(Holds::Scalar(Kind::Bytes) | Holds::Wrapper(Kind::Bytes), _) => {
            return Err("bytes have no order".to_owned());
        }
        End::Open | End::One(..) => {}
    }
    let key = found.path()?;
    // Something repeated on the way leads to several values, unless nobody declared it: there it is only a possibility.
    if found.is_repeated() { Err("it leads through a repeated field".to_owned()) } else { Ok(Key::Field(key)) }
}
