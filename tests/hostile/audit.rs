//! What the node wrote down of its callers (invariant I6).

use crate::node::Node;
use collector::tenancy::audit::files;
use serde_json::Value;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Seek as _, SeekFrom};
use std::path::PathBuf;

/// Calls that leave a record each time that they are made.
pub const CHANGES: [&str; 7] = [
    "collector.CollectionRepo/CreateCollection",
    "collector.CollectionService/Batch",
    "collector.CollectionService/Create",
    "collector.CollectionService/Delete",
    "collector.CollectionService/Update",
    "collector.CollectorRegistry/RegisterProto",
    "collector.plugin.v1.Plugins/Deploy",
];
/// Refusals of one caller that get a line each in ten seconds. Source: host/tenancy/audit/denials.rs.
const DENIALS: usize = 10;

/// The node's log, read on from where it was left.
#[derive(Debug)]
pub struct Journal {
    folder: Option<PathBuf>,
    read: BTreeMap<PathBuf, u64>,
    /// Whose records are not the attacker's doing.
    bystander: String,
    /// Lines about refusals so far.
    denials: usize,
}

/// What was written since the last look.
#[derive(Debug, Default)]
pub struct Written {
    /// Changes by path.
    pub changes: BTreeMap<String, u64>,
    /// Request ids of changes, and of refusals.
    pub begun: Vec<String>,
    pub denied: Vec<String>,
    /// Refusals were too many for a line each.
    pub crowded: bool,
}

impl Journal {
    pub fn new(node: Option<&Node>, bystander: &str) -> Self {
        let folder = node.map(Node::audit);
        Self { folder, read: BTreeMap::new(), bystander: bystander.to_owned(), denials: 0 }
    }

    /// Reads on.
    pub fn read(&mut self) -> Result<Written, String> {
        let mut written = Written::default();
        let Some(folder) = &self.folder else { return Ok(written) };
        for path in files(folder).map_err(|why| format!("I6: no audit log: {why}"))? {
            let at = self.read.entry(path.clone()).or_default();
            let mut file = File::open(&path).map_err(|why| why.to_string())?;
            file.seek(SeekFrom::Start(*at)).map_err(|why| why.to_string())?;
            let mut lines = BufReader::new(file);
            let mut line = Vec::new();
            while matches!(lines.read_until(b'\n', &mut line), Ok(read) if read > 0) && line.ends_with(b"\n") {
                *at += line.len() as u64;
                let record: Value = serde_json::from_slice(&line).map_err(|why| format!("I6: a broken line: {why}"))?;
                written.note(&record, &self.bystander);
                line.clear();
            }
        }
        self.denials += written.denied.len();
        written.crowded = self.denials >= DENIALS;
        Ok(written)
    }
}

impl Written {
    pub fn note(&mut self, record: &Value, bystander: &str) {
        let text = |key: &str| record[key].as_str().unwrap_or_default().to_owned();
        match record["kind"].as_str() {
            Some("begin") if text("namespace") != bystander => {
                *self.changes.entry(text("action").trim_start_matches('/').to_owned()).or_default() += 1;
                self.begun.push(text("request"));
            }
            Some("denied") => self.denied.push(text("request")),
            _ => {}
        }
    }

    pub fn has_change(&self, request: &str) -> Result<(), String> {
        let records = self.begun.iter().filter(|id| *id == request).count();
        crate::case::check(records == 1, || format!("I6: {records} records of the change by request {request}"))
    }

    /// Of refusals in a crowd only the number is written.
    pub fn has_refusal(&self, request: &str) -> Result<(), String> {
        let records = self.denied.iter().filter(|id| *id == request).count();
        crate::case::check(records == 1 || records == 0 && self.crowded, || {
            format!("I6: {records} records of the refusal of request {request}")
        })
    }

    /// Whether there are as many records as changes that somebody was told were made.
    pub fn covers(&self, made: &BTreeMap<String, u64>) -> Result<(), String> {
        let missing = made.iter().find(|(path, made)| self.changes.get(*path).copied().unwrap_or_default() < **made);
        match missing {
            Some((path, made)) => {
                let records = self.changes.get(path).copied().unwrap_or_default();
                Err(format!("I6: {path} was done {made} times and has {records} records"))
            }
            None => Ok(()),
        }
    }
}
