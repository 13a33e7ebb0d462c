//! Forwarding between nodes. The place for it: whoever builds the mesh measures it here.

use crate::Failure;
use crate::options::Options;
use crate::report::Row;

#[expect(clippy::unused_async, reason = "the shape of a group")]
pub(crate) async fn rows(_: &Options) -> Result<Vec<Row>, Failure> {
    Ok(vec![Row::skipped("forwarding", "nothing is measured of it yet")])
}
