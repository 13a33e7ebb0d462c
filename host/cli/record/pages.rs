//! A listing, page by page.

use super::super::client::ClientError;
use super::at::Collection;
use crate::rpc::pb;
use prost_types::Struct;

/// Records in a page: what a node gives at most.
pub(in crate::cli) const PAGE_MAX: u16 = 1_000;

/// Where a listing is.
#[derive(Debug)]
pub(in crate::cli) struct Pages<'a> {
    collection: &'a Collection,
    request: pb::ListRequest,
    done: bool,
}

impl<'a> Pages<'a> {
    pub(in crate::cli) fn new(collection: &'a Collection, filter: Option<Struct>, order_by: String, size: u16) -> Self {
        let request = pb::ListRequest {
            namespace: collection.namespace.clone(),
            collection_name: collection.name.clone(),
            filter,
            order_by,
            page_size: size.into(),
            page_token: String::new(),
        };
        Self { collection, request, done: false }
    }

    /// What the next page is asked for by.
    pub(super) fn request(&self) -> &pb::ListRequest {
        &self.request
    }

    /// The next page; `None` after the last.
    pub(in crate::cli) async fn next(&mut self) -> Result<Option<pb::ListResponse>, ClientError> {
        if self.done {
            return Ok(None);
        }
        let wanted = self.collection.request(self.request.clone())?;
        let page = self.collection.client.records().list(wanted).await?.into_inner();
        self.request.page_token.clone_from(&page.next_page_token);
        self.done = page.next_page_token.is_empty();
        Ok(Some(page))
    }
}
