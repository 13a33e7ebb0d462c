//! The cases, a module per group of threats.md.

mod callers;
mod descriptors;
mod files;
mod host_calls;
mod overload;
mod payloads;
mod runtime;
mod transport;
mod uploads;

use crate::case::Case;

/// All of them, in the order of threats.md.
pub fn all() -> Vec<Case> {
    [
        transport::cases(),
        payloads::cases(),
        descriptors::cases(),
        uploads::cases(),
        runtime::cases(),
        host_calls::cases(),
        callers::cases(),
        overload::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What threats.md lists in groups T, P, D, W, R, H, U and O, by hand: a case that is dropped is missed.
const LISTED: &str = "D01 D02 D04 D05 D06 D07 D09 D10 D11 H01 H02 H03 H04 H05 H07 H08 H09 H10 O01 O02 O03 O04 O05 P01 P02 \
                      P03 P04 P05 P06 R01 R02 R03 R04 R05 R07 R08 R09 R10 R11 T01 T02 T03 T04 T05 T06 T07 T09 T10 T11 T13 \
                      T14 U01 U02 U03 U04 U05 U08 U09 W01 W02 W03 W04 W06 W07 W09";

/// Ids that have no case.
pub fn missing() -> Vec<&'static str> {
    let all = all();
    LISTED.split_whitespace().filter(|id| !all.iter().any(|case| case.id == *id)).collect()
}
