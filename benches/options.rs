//! The command line.

use clap::Parser;
use std::path::PathBuf;

/// Rounds of a whole run. 7: the median of an odd number, and two outliers on either side of it do not move it.
const ROUNDS: usize = 7;

/// Measures the node beside the floors under it and its peers.
#[derive(Debug, Parser)]
#[command(name = "collector-bench")]
pub(crate) struct Options {
    /// `all`, `list`, or names of groups
    #[arg(value_name = "GROUP")]
    pub(crate) groups: Vec<String>,
    /// Few calls in one round: shows that everything runs, says nothing about speed
    #[arg(long)]
    pub(crate) quick: bool,
    /// The largest sizes too: 10,000 components and services, 1,000,000 records; takes long
    #[arg(long, conflicts_with = "quick")]
    pub(crate) full: bool,
    /// Interleaved rounds [default: 7; 1 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    rounds: Option<u16>,
    /// Writes what was measured as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Writes a chart per group
    #[arg(long, value_name = "FOLDER")]
    pub(crate) svg: Option<PathBuf>,
    /// Flags what is worse than in an earlier --json by more than the noise; the exit code is 1 if anything is
    #[arg(long, value_name = "FILE")]
    pub(crate) compare: Option<PathBuf>,
    /// Only the quiet namespace beside one neighbour (group `tenancy`): `Hello` or a method of `misbehave.v1.Misbehave`
    #[arg(long, value_name = "METHOD")]
    pub(crate) beside: Option<String>,
    /// What cargo adds
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    pub(crate) fn wants_list(&self) -> bool {
        self.groups.iter().any(|name| name == "list")
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.map_or(if self.quick { 1 } else { ROUNDS }, usize::from)
    }

    /// The one that fits how much is to be measured.
    pub(crate) fn pick<T>(&self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }
}
