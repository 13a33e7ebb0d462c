//! Filters, orders, texts and paths of a request, resolved against what the records are.

mod filter;
mod indexes;
mod literal;
mod order;
mod path;
mod text;

pub(super) use filter::conditions;
pub use filter::{FieldFilter, Operator, list_filter};
pub(super) use indexes::indexes;
pub(super) use order::order;
pub(super) use path::{find, into_scalar, map_key, map_kinds, segment};
pub(super) use text::text;

#[cfg(test)]
mod on_store;
#[cfg(test)]
pub(super) mod oracle;
#[cfg(test)]
mod tests;
