//! Where keys are managed: on a running node, as somebody who may, or in a data folder that no node uses.

use super::super::place::At;
use std::path::PathBuf;

/// Which node, or which data folder.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Where {
    #[command(flatten)]
    pub(super) at: At,
    /// Data folder of a node that is not running, instead of a node: for the first key
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}
