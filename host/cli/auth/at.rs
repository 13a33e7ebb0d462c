//! Where keys are managed: on a running node, as somebody who may, or in a data folder that no node uses.

use super::super::client::{Access, Channel, ClientError, NodeClient};
use super::super::place::NODE;
use crate::rpc::pb::admin::v1::keys_client::KeysClient;
use std::path::PathBuf;

/// Which node, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct At {
    /// Address of the node
    #[arg(long, env = "COLLECTOR_NODE", default_value = NODE, value_name = "URL")]
    node: String,
    #[command(flatten)]
    access: Access,
}

/// Which node, or which data folder.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct Where {
    #[command(flatten)]
    pub(super) at: At,
    /// Data folder of a node that is not running, instead of a node: for the first key
    #[arg(long, value_name = "DIR")]
    pub(super) data: Option<PathBuf>,
}

impl At {
    /// Connects to the node.
    pub(super) async fn connect(&self) -> Result<KeysClient<Channel>, ClientError> {
        Ok(NodeClient::connect_with(&self.node, &self.access).await?.keys())
    }
}
