//! The host side of `config`, `secret`, `collections`, `files`, `dispatch` and `http`: words of the guest interface into words of
//! [`HostCalls`] and back. Time that passes in here is waiting, not the guest's.

use super::exchange::noting_waits;
use super::imports::bindings::collector::plugin::{collections, config, dispatch, files, http, secret};
use super::imports::{Fault, Guest};
use crate::domain;
use crate::exec::host_calls::{
    Comparison, Entry, FetchRequest, FileAt, FileChange, FileInfo, FileQuery, HeaderText, HostCalls, RecordQuery,
    RecordWrite,
};
use std::sync::Arc;
use wasmtime::component::Resource;

/// A secret as a guest holds it: its name.
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct Secret(String);

type Answer<T> = wasmtime::Result<Result<T, Fault>>;

impl Guest {
    fn calls(&self) -> Result<Arc<dyn HostCalls>, Fault> {
        self.calls.clone().ok_or_else(|| {
            let message = "only deployments are granted anything beside log and context: deploy this code".to_owned();
            domain::Fault { code: domain::FaultCode::PermissionDenied, message, details: Vec::new() }.into()
        })
    }
}

/// Asks the node and waits for its answer, noting the wait: `ask!(self.get(id))`.
macro_rules! ask {
    ($guest:ident . $call:ident ( $($argument:expr),* )) => {
        match $guest.calls() {
            Ok(calls) => noting_waits(calls.$call($($argument),*), &mut $guest.pace).await.map_err(Fault::from),
            Err(fault) => Err(fault),
        }
    };
}

impl config::Host for Guest {
    fn get(&mut self, key: String) -> Option<String> {
        self.calls.as_ref().and_then(|calls| calls.config(&key))
    }

    fn keys(&mut self) -> Vec<String> {
        self.calls.as_ref().map(|calls| calls.config_keys()).unwrap_or_default()
    }
}

impl secret::Host for Guest {}

impl secret::HostSecret for Guest {
    fn open(&mut self, name: String) -> Answer<Resource<Secret>> {
        let may = self.calls().and_then(|calls| calls.secret(&name).map_err(Fault::from));
        match may {
            Ok(()) => Ok(Ok(self.table.push(Secret(name))?)),
            Err(fault) => Ok(Err(fault)),
        }
    }

    fn drop(&mut self, secret: Resource<Secret>) -> wasmtime::Result<()> {
        self.table.delete(secret)?;
        Ok(())
    }
}

impl collections::Host for Guest {
    async fn get(&mut self, collection: String, id: String) -> Answer<collections::Entry> {
        let found = ask!(self.get(collection, id));
        Ok(found.map(collections::Entry::from))
    }

    async fn create(
        &mut self,
        collection: String,
        id: Option<String>,
        item: collections::Item,
        labels: Vec<(String, String)>,
    ) -> Answer<(String, u64)> {
        let write = RecordWrite::Create { id, item: (item.type_url, item.value.into()), labels };
        let made = ask!(self.write(collection, write));
        Ok(made.map(Option::unwrap_or_default))
    }

    async fn update(
        &mut self,
        collection: String,
        id: String,
        item: collections::Item,
        labels: Vec<(String, String)>,
        revision: Option<u64>,
    ) -> Answer<u64> {
        let write = RecordWrite::Update { id, item: (item.type_url, item.value.into()), labels, revision };
        let made = ask!(self.write(collection, write));
        Ok(made.map(|made| made.unwrap_or_default().1))
    }

    async fn delete(&mut self, collection: String, id: String, revision: Option<u64>) -> Answer<()> {
        let write = RecordWrite::Delete { id, revision };
        let made = ask!(self.write(collection, write));
        Ok(made.map(drop))
    }

    async fn list(
        &mut self,
        collection: String,
        filters: Vec<collections::Filter>,
        order_by: String,
        size: u32,
        token: String,
    ) -> Answer<collections::Page> {
        let filters = filters.into_iter().map(filter).collect();
        let query = RecordQuery { filters, order_by, size: count(size), token, ..RecordQuery::default() };
        let page = ask!(self.list(collection, query));
        Ok(page.map(|page| collections::Page {
            entries: page.entries.into_iter().map(collections::Entry::from).collect(),
            next: page.next,
            total: page.total,
        }))
    }

    async fn search(
        &mut self,
        collection: String,
        text: String,
        filters: Vec<collections::Filter>,
        order_by: String,
        limit: u32,
    ) -> Answer<Vec<collections::Entry>> {
        let filters = filters.into_iter().map(filter).collect();
        let query = RecordQuery { text, filters, order_by, size: count(limit), ..RecordQuery::default() };
        let found = ask!(self.search(collection, query));
        Ok(found.map(|found| found.into_iter().map(collections::Entry::from).collect()))
    }
}

impl files::Host for Guest {
    async fn read(&mut self, folder: String, name: String, offset: u64, length: u32) -> Answer<Vec<u8>> {
        let bytes = ask!(self.read_file(FileAt { folder, name }, offset, count(length)));
        Ok(bytes.map(Vec::from))
    }

    async fn write(&mut self, folder: String, name: String, offset: Option<u64>, bytes: Vec<u8>) -> Answer<()> {
        let change = FileChange::Write { offset, bytes: bytes.into() };
        Ok(ask!(self.change_file(FileAt { folder, name }, change)))
    }

    async fn stat(&mut self, folder: String, name: String) -> Answer<files::Info> {
        let info = ask!(self.stat_file(FileAt { folder, name }));
        Ok(info.map(files::Info::from))
    }

    async fn list(&mut self, folder: String, prefix: String, size: u32, token: String) -> Answer<files::Page> {
        let page = ask!(self.list_files(FileQuery { folder, prefix, size: count(size), token }));
        let entry = |(name, info): (String, FileInfo)| files::Entry { name, info: info.into() };
        Ok(page.map(|page| files::Page { entries: page.files.into_iter().map(entry).collect(), next: page.next }))
    }

    async fn delete(&mut self, folder: String, name: String) -> Answer<()> {
        Ok(ask!(self.change_file(FileAt { folder, name }, FileChange::Delete)))
    }

    async fn rename(&mut self, folder: String, name: String, to: String) -> Answer<()> {
        Ok(ask!(self.change_file(FileAt { folder, name }, FileChange::Rename { to })))
    }
}

impl From<FileInfo> for files::Info {
    fn from(info: FileInfo) -> Self {
        Self { size: info.size, modified_ms: info.modified_ms }
    }
}

impl dispatch::Host for Guest {
    async fn call(&mut self, service: String, method: String, input: Vec<u8>) -> Answer<Vec<u8>> {
        let answer = ask!(self.dispatch(service, method, input.into()));
        Ok(answer.map(Vec::from))
    }
}

impl http::Host for Guest {
    async fn fetch(&mut self, request: http::Request) -> Answer<http::Response> {
        let mut headers = Vec::with_capacity(request.headers.len());
        for (name, value) in request.headers {
            let value = match value {
                http::HeaderValue::Text(text) => HeaderText::Plain(text),
                http::HeaderValue::Secret(http::WithSecret { prefix, secret }) => {
                    HeaderText::Secret { prefix, name: self.table.get(&secret)?.0.clone() }
                }
            };
            headers.push((name, value));
        }
        let request = FetchRequest { method: request.method, url: request.url, headers, body: request.body.into() };
        let answer = ask!(self.fetch(request));
        Ok(answer.map(|answer| http::Response {
            status: answer.status,
            headers: answer.headers,
            body: answer.body.into(),
        }))
    }
}

fn count(size: u32) -> usize {
    usize::try_from(size).unwrap_or(usize::MAX)
}

fn filter(filter: collections::Filter) -> (String, Comparison, String) {
    use collections::Operator;
    let comparison = match filter.operator {
        Operator::Equals => Comparison::Equals,
        Operator::NotEquals => Comparison::NotEquals,
        Operator::GreaterThan => Comparison::GreaterThan,
        Operator::LessThan => Comparison::LessThan,
        Operator::GreaterEqual => Comparison::GreaterEqual,
        Operator::LessEqual => Comparison::LessEqual,
        Operator::Contains => Comparison::Contains,
        Operator::InList => Comparison::In,
        Operator::Exists => Comparison::Exists,
        Operator::NotExists => Comparison::NotExists,
    };
    (filter.path, comparison, filter.value)
}

impl From<Entry> for collections::Entry {
    fn from(entry: Entry) -> Self {
        Self {
            id: entry.id,
            item: collections::Item { type_url: entry.type_url, value: entry.bytes.into() },
            labels: entry.labels,
            revision: entry.revision,
        }
    }
}
