//! What a running guest may ask of the node beside `context` and `log`. Who answers knows grants and tenants; whoever runs
//! the guest only carries the words over.

use super::BoxFuture;
use crate::domain::Fault;
use bytes::Bytes;
use std::fmt;

/// Answers the host calls of one running call, with the rights of the deployment that it runs for. Every right is looked
/// up anew by every call, so what is revoked is gone at once.
///
/// Cancel, of all: dropping the future loses only the answer; a write that had begun is made whole.
pub trait HostCalls: fmt::Debug + Send + Sync {
    /// Inside of how many other calls this one runs: 0 for a client's own.
    fn depth(&self) -> usize;

    /// The value under a key of the configuration.
    fn config(&self, key: &str) -> Option<String>;

    /// The keys that have one.
    fn config_keys(&self) -> Vec<String>;

    /// Whether there is such a secret and it may be used.
    fn secret(&self, name: &str) -> Result<(), Fault>;

    /// Reads a record.
    fn get(&self, collection: String, id: String) -> BoxFuture<'_, Result<Entry, Fault>>;

    /// Makes one write. Returns id and revision of a record that is there afterwards.
    fn write(&self, collection: String, write: RecordWrite) -> BoxFuture<'_, Result<Option<(String, u64)>, Fault>>;

    /// Lists records.
    fn list(&self, collection: String, query: RecordQuery) -> BoxFuture<'_, Result<EntryPage, Fault>>;

    /// Finds records.
    fn search(&self, collection: String, query: RecordQuery) -> BoxFuture<'_, Result<Vec<Entry>, Fault>>;

    /// Reads part of a file.
    fn read_file(&self, file: FileAt, offset: u64, length: usize) -> BoxFuture<'_, Result<Bytes, Fault>>;

    /// What a file is.
    fn stat_file(&self, file: FileAt) -> BoxFuture<'_, Result<FileInfo, Fault>>;

    /// Lists files.
    fn list_files(&self, query: FileQuery) -> BoxFuture<'_, Result<FilePage, Fault>>;

    /// Makes one change to a file.
    fn change_file(&self, file: FileAt, change: FileChange) -> BoxFuture<'_, Result<(), Fault>>;

    /// Calls another service.
    fn dispatch(&self, service: String, method: String, input: Bytes) -> BoxFuture<'_, Result<Bytes, Fault>>;

    /// Makes one HTTP request.
    fn fetch(&self, request: FetchRequest) -> BoxFuture<'_, Result<FetchResponse, Fault>>;
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// What `bytes` is.
    pub type_url: String,
    /// The encoded message.
    pub bytes: Bytes,
    /// Its labels.
    pub labels: Vec<(String, String)>,
    /// Names this version.
    pub revision: u64,
}

/// Records of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPage {
    /// In order.
    pub entries: Vec<Entry>,
    /// For the next one; empty: no more.
    pub next: String,
    /// All matches.
    pub total: u64,
}

/// A write of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordWrite {
    /// A new record.
    Create {
        /// `None`: one is made.
        id: Option<String>,
        /// Type URL and bytes.
        item: (String, Bytes),
        /// Its labels.
        labels: Vec<(String, String)>,
    },
    /// Another version.
    Update {
        /// Which.
        id: String,
        /// Type URL and bytes.
        item: (String, Bytes),
        /// Instead of its labels; empty: they stay.
        labels: Vec<(String, String)>,
        /// The version that it must be.
        revision: Option<u64>,
    },
    /// Its end.
    Delete {
        /// Which.
        id: String,
        /// The version that it must be.
        revision: Option<u64>,
    },
}

/// What a listing or search asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecordQuery {
    /// FTS5, of a search only.
    pub text: String,
    /// ANDed: path, operator, JSON of the value or empty.
    pub filters: Vec<(String, Comparison, String)>,
    /// As `ListRequest.order_by`.
    pub order_by: String,
    /// Most records; 0: 100.
    pub size: usize,
    /// Where the page before ended, of a listing only.
    pub token: String,
}

/// How a filter compares. Source: `operator`, guest-sdk/wit/collector.wit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are those of the guest interface")]
pub enum Comparison {
    Equals,
    NotEquals,
    GreaterThan,
    LessThan,
    GreaterEqual,
    LessEqual,
    Contains,
    In,
    Exists,
    NotExists,
}

/// A file as a guest names it; nothing of it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileAt {
    /// Of the namespace.
    pub folder: String,
    /// In the folder.
    pub name: String,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileInfo {
    /// Bytes.
    pub size: u64,
    /// When it was last written, in milliseconds since 1970.
    pub modified_ms: u64,
}

/// Which files to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileQuery {
    /// Of the namespace.
    pub folder: String,
    /// That their names begin with.
    pub prefix: String,
    /// Most files; 0: 100.
    pub size: usize,
    /// Where the page before ended.
    pub token: String,
}

/// Files of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilePage {
    /// By name.
    pub files: Vec<(String, FileInfo)>,
    /// For the next one; empty: no more.
    pub next: String,
}

/// A change of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChange {
    /// Bytes of it, or all.
    Write {
        /// `None`: all of it.
        offset: Option<u64>,
        /// The bytes.
        bytes: Bytes,
    },
    /// Another name.
    Rename {
        /// In the same folder.
        to: String,
    },
    /// Its end.
    Delete,
}

/// One HTTP request as a guest stated it; nothing of it is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchRequest {
    /// `GET`.
    pub method: String,
    /// With scheme and host.
    pub url: String,
    /// In order.
    pub headers: Vec<(String, HeaderText)>,
    /// The body.
    pub body: Bytes,
}

/// What a guest wants in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderText {
    /// These words.
    Plain(String),
    /// A secret, by name: its value never comes this way.
    Secret {
        /// Before it.
        prefix: String,
        /// Which.
        name: String,
    },
}

/// The answer to one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchResponse {
    /// HTTP status.
    pub status: u16,
    /// In order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body.
    pub body: Bytes,
}
