//! Where keys are managed: on a running node, as somebody who may, or in a data folder that no node uses.

use super::super::client::{Channel, ClientError, NodeClient};
use super::super::place::NODE;
use crate::rpc::pb::admin::v1::keys_client::KeysClient;
use anyhow::bail;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use tonic::Request;

/// Which node, and as whom.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct At {
    /// Address of the node
    #[arg(long, env = "COLLECTOR_NODE", default_value = NODE, value_name = "URL")]
    node: String,
    /// Key or token to show; better given in the variable, where other users do not see it
    #[arg(long, env = "COLLECTOR_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<Token>,
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

/// A secret: it is in no output.
#[derive(Clone)]
struct Token(String);

impl FromStr for Token {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

impl At {
    /// Connects to the node.
    pub(super) async fn connect(&self) -> Result<KeysClient<Channel>, ClientError> {
        Ok(NodeClient::connect(&self.node).await?.keys())
    }

    /// One request as whoever the token is of.
    pub(super) fn request<T>(&self, message: T) -> anyhow::Result<Request<T>> {
        let mut request = Request::new(message);
        if let Some(Token(token)) = &self.token {
            let Ok(bearer) = format!("Bearer {token}").parse() else {
                bail!("the token has characters that no token has; give it as the node printed it");
            };
            request.metadata_mut().insert("authorization", bearer);
        }
        Ok(request)
    }
}
