//! One line of the log, and what chains it to the one before.

use super::Entry;
use crate::domain::one_line;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::net::IpAddr;
use std::time::SystemTime;
use uuid::Uuid;

/// Longest text in a line. 256: four times a namespace; a path longer than that names nothing.
const TEXT_MAX: usize = 256;
/// Longest line, in bytes: eight texts, each at most doubled by escapes. A reader need not take more.
pub(super) const LINE_MAX: usize = 8 << 10;
/// What stands before the hash, and after it.
const BEFORE: &str = ",\"hash\":\"";
const AFTER: &str = "\"}";

/// A hash of the chain.
pub(super) type Hash = [u8; 32];

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// A file begins: `prev` is the hash before its first line.
    File,
    /// The node has opened the log.
    Start,
    /// A change is about to be made.
    Begin,
    /// It was answered.
    End,
    /// Somebody was refused.
    Denied,
    /// Old files were removed; `of` is the last record that was in them.
    Removed,
    /// What the node found wrong with the log.
    Note,
}

/// A line to be written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub(super) kind: Kind,
    pub(super) request: Option<Uuid>,
    pub(super) of: Option<u64>,
    pub(super) caller: Option<&'a str>,
    pub(super) source: Option<IpAddr>,
    pub(super) action: Option<&'a str>,
    pub(super) verb: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) outcome: Option<&'a str>,
    pub(super) left_out: Option<u64>,
    pub(super) note: Option<&'a str>,
    pub(super) prev: Option<Hash>,
}

impl<'a> Line<'a> {
    pub(super) fn new(kind: Kind) -> Self {
        Self {
            kind,
            request: None,
            of: None,
            caller: None,
            source: None,
            action: None,
            verb: None,
            namespace: None,
            outcome: None,
            left_out: None,
            note: None,
            prev: None,
        }
    }

    pub(super) fn of(kind: Kind, entry: &Entry<'a>) -> Self {
        Self {
            request: entry.request,
            caller: Some(entry.caller),
            source: entry.source,
            action: Some(entry.action),
            verb: Some(entry.verb),
            namespace: Some(entry.namespace),
            ..Self::new(kind)
        }
    }

    /// The bytes of it as record `seq`, and their hash.
    pub(super) fn seal(&self, seq: u64, before: &Hash) -> serde_json::Result<(Vec<u8>, Hash)> {
        let text = |text: Option<&str>| text.map(|text| one_line(text, TEXT_MAX));
        let body = serde_json::to_vec(&Record {
            seq,
            time: prost_types::Timestamp::from(SystemTime::now()).to_string(),
            kind: self.kind,
            request: self.request.map(|id| id.to_string()),
            of: self.of,
            caller: text(self.caller),
            source: self.source,
            action: text(self.action),
            verb: text(self.verb),
            namespace: text(self.namespace),
            outcome: text(self.outcome),
            left_out: self.left_out,
            note: text(self.note),
            prev: self.prev.map(hex::encode),
        })?;
        let hash = hash(before, &body);
        let open = body.strip_suffix(b"}").unwrap_or(&body);
        let line = [open, BEFORE.as_bytes(), hex::encode(hash).as_bytes(), AFTER.as_bytes(), b"\n"].concat();
        Ok((line, hash))
    }
}

/// A line as it stands in the log, but for its hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Counts up from 1.
    pub seq: u64,
    /// When it was written, as this machine's clock had it.
    pub time: String,
    pub(super) kind: Kind,
    /// The request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The record that this one belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<u64>,
    /// Who.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// From where.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The path of the RPC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// What it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verb: Option<String>,
    /// In which namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<String>,
    /// Refusals of this caller that were only counted since its last record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<u64>,
    /// What the node has to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) prev: Option<String>,
}

impl Record {
    /// Reads a line without checking its hash.
    pub fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// What it is about, in a word.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::File => "file",
            Kind::Start => "start",
            Kind::Begin => "begin",
            Kind::End => "end",
            Kind::Denied => "denied",
            Kind::Removed => "removed",
            Kind::Note => "note",
        }
    }
}

fn hash(before: &Hash, body: &[u8]) -> Hash {
    Sha256::new().chain_update(before).chain_update(body).finalize().into()
}

/// A line as it stands in the log, its newline cut off.
pub(super) struct Sealed {
    pub(super) record: Record,
    /// The hash that it has.
    pub(super) hash: Hash,
    body: Vec<u8>,
}

impl Sealed {
    /// `None` for what is no line of ours.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let rest = line.strip_suffix(AFTER.as_bytes())?;
        let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let open = rest.strip_suffix(BEFORE.as_bytes())?;
        let body = [open, b"}"].concat();
        Some(Self { record: Record::read(&body)?, hash: parse(digits)?, body })
    }

    /// Whether its hash is what it should be after `before`.
    pub(super) fn follows(&self, before: &Hash) -> bool {
        hash(before, &self.body) == self.hash
    }

    /// The hash before it that it names: that of a file's first line does.
    pub(super) fn prev(&self) -> Option<Hash> {
        parse(self.record.prev.as_ref()?.as_bytes())
    }
}

pub(super) fn parse(digits: &[u8]) -> Option<Hash> {
    let mut hash = [0; 32];
    hex::decode_to_slice(digits, &mut hash).ok()?;
    Some(hash)
}
