//! The statements on the tables of one collection: templates with `$` for its number. A number is all that is ever put
//! into them; everything else is bound.

/// The statements of one collection.
#[derive(Debug)]
pub(super) struct Tables {
    pub(super) current: String,
    pub(super) insert: String,
    pub(super) replace: String,
    pub(super) relocate: String,
    pub(super) index: String,
    pub(super) delete: String,
    pub(super) text_put: String,
    pub(super) text_delete: String,
    pub(super) vector_put: String,
    pub(super) vector_delete: String,
}

impl Tables {
    pub(super) fn new(number: i64) -> Self {
        let of = |template| fill(template, number);
        Self {
            current: of(include_str!("../sql/current.sql")),
            insert: of(include_str!("../sql/insert.sql")),
            replace: of(include_str!("../sql/replace.sql")),
            relocate: of(include_str!("../sql/move.sql")),
            index: of(include_str!("../sql/index.sql")),
            delete: of(include_str!("../sql/delete.sql")),
            text_put: of(include_str!("../sql/text_put.sql")),
            text_delete: of(include_str!("../sql/text_delete.sql")),
            vector_put: of(include_str!("../sql/vector_put.sql")),
            vector_delete: of(include_str!("../sql/vector_delete.sql")),
        }
    }
}

/// A template for the collection of this number.
pub(super) fn fill(template: &str, number: i64) -> String {
    template.replace('$', &number.to_string())
}

/// The script that makes the tables of a collection; its indexes are `select`'s.
pub(super) fn make(number: i64, full_text: bool) -> String {
    let tables = fill(include_str!("../sql/collection.sql"), number);
    if full_text { tables + &fill(include_str!("../sql/text.sql"), number) } else { tables }
}

/// The script that drops them, and their indexes with them.
pub(super) fn drop(number: i64, full_text: bool) -> String {
    let tables = fill(include_str!("../sql/drop.sql"), number);
    if full_text { tables + &fill(include_str!("../sql/text_drop.sql"), number) } else { tables }
}
