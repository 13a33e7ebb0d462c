//! Page tokens of requests.

use super::convert::BadRequest;
use crate::domain::PageTokens;

/// Makes and reads tokens.
#[derive(Debug, Clone)]
pub struct Pages(PageTokens);

impl Pages {
    /// * `node_key`: tokens survive a restart of the node that made them.
    pub fn new(node_key: &[u8; 32]) -> Self {
        Self(PageTokens::new(node_key))
    }

    /// The token for what comes after `last` in `query`.
    pub(super) fn token(&self, query: &str, last: &str) -> String {
        self.0.token(query, last)
    }

    /// What the listing got to; `None` for the first page.
    pub(super) fn read(&self, query: &str, token: &str) -> Result<Option<String>, BadRequest> {
        let bad = |why: crate::domain::BadToken| BadRequest::Field {
            field: "page_token".to_owned(),
            problem: why.to_string(),
        };
        self.0.read(query, token).map_err(bad)
    }
}
