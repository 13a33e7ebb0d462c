//! Where a command goes: the node and the namespace, the same flags and variables everywhere.

use super::client::{Access, ClientError, NodeClient};

/// Which node, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct At {
    /// Address of the node
    #[arg(long, env = "COLLECTOR_NODE", default_value = NODE, value_name = "URL")]
    node: String,
    #[command(flatten)]
    access: Access,
}

impl At {
    /// Connects to the node.
    pub(super) async fn connect(&self) -> Result<NodeClient, ClientError> {
        NodeClient::connect_with(&self.node, &self.access).await
    }
}

/// Which node, and where in it.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Place {
    /// Address of the node
    #[arg(long, env = "COLLECTOR_NODE", default_value = NODE, value_name = "URL")]
    pub(super) node: String,
    #[command(flatten)]
    pub(super) access: Access,
    /// Namespace on the node
    #[arg(long, short, env = "COLLECTOR_NAMESPACE", default_value = NAMESPACE, value_name = "NS")]
    pub(super) namespace: String,
}

impl Place {
    /// Connects to the node.
    pub(super) async fn connect(&self) -> Result<NodeClient, ClientError> {
        NodeClient::connect_with(&self.node, &self.access).await
    }
}

/// Whether a text names a container image instead of a file.
pub(super) fn is_image(text: &str) -> bool {
    text.starts_with("image:")
}

/// What `collector dev` listens on.
pub(super) const NODE: &str = "http://127.0.0.1:50051";
/// Where things go when nobody says otherwise.
pub(super) const NAMESPACE: &str = "default";
