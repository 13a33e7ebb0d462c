//! A record as one line of JSON: what listings print, what export writes and import reads.

use super::item::{Detail, Items};
use crate::domain::one_line;
use crate::rpc::pb;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use prost_types::Any;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// A record on its way out, its keys in this order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::cli) struct Line {
    pub(super) id: String,
    etag: String,
    pub(super) created_at: String,
    updated_at: String,
    labels: BTreeMap<String, String>,
    /// Empty where it is the one that the collection's items have anyway.
    #[serde(skip_serializing_if = "String::is_empty")]
    type_url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    distance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item: Option<Box<RawValue>>,
    /// Base64, where JSON cannot say what the record holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<String>,
}

impl Line {
    pub(in crate::cli) fn new(items: &Items, item: &Any, info: pb::RecordInfo, detail: Detail) -> Self {
        let shown = items.decode(item, detail);
        let metadata = info.metadata.unwrap_or_default();
        let time = |time: Option<prost_types::Timestamp>| time.map(|time| time.to_string()).unwrap_or_default();
        Self {
            id: info.id,
            etag: info.etag,
            created_at: time(metadata.created_at),
            updated_at: time(metadata.updated_at),
            labels: metadata.labels.into_iter().collect(),
            type_url: if item.type_url == items.type_url() { String::new() } else { item.type_url.clone() },
            score: None,
            distance: None,
            raw: if shown.is_some() { None } else { Some(BASE64.encode(&item.value)) },
            item: shown,
        }
    }

    /// The same with what a search says of it.
    pub(in crate::cli) fn found(self, score: f64, distance: Option<f64>) -> Self {
        Self { score: Some(score), distance, ..self }
    }

    pub(in crate::cli) fn text(&self) -> anyhow::Result<String> {
        serde_json::to_string(self).context("a record does not become JSON")
    }

    /// For people who get one record: the item alone, over several lines.
    pub(super) fn pretty(&self) -> String {
        let item = self.item.as_ref().and_then(|item| serde_json::from_str::<serde_json::Value>(item.get()).ok());
        let pretty = item.and_then(|item| serde_json::to_string_pretty(&item).ok());
        pretty.unwrap_or_else(|| format!("{} {}", self.type_url, self.raw.as_deref().unwrap_or_default()))
    }

    /// Score, id and item on one line of a terminal.
    pub(in crate::cli) fn brief(&self) -> String {
        let item = self.item.as_ref().map(|item| item.get()).or(self.raw.as_deref()).unwrap_or_default();
        format!("{:>8.4}  {}  {}", self.score.unwrap_or_default(), one_line(&self.id, 64), one_line(item, 160))
    }

    /// Times, etag and labels in a few words.
    pub(super) fn about(&self) -> String {
        let labels = self.labels.iter().map(|(key, value)| format!(" {key}={value}")).collect::<String>();
        let Self { id, etag, created_at, updated_at, .. } = self;
        let changed = if created_at == updated_at { String::new() } else { format!(", changed {updated_at}") };
        one_line(&format!("{id}  etag {etag}  created {created_at}{changed}{labels}"), 1_024)
    }
}

/// A record on its way in.
#[derive(Debug)]
pub(in crate::cli) struct Entry {
    /// Empty: the node makes one.
    pub(in crate::cli) id: String,
    pub(in crate::cli) labels: BTreeMap<String, String>,
    pub(in crate::cli) item: Any,
}

/// A line that export wrote. Only with these keys: anything else is an item itself.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Exported<'a> {
    id: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    type_url: Option<String>,
    #[serde(default, borrow)]
    item: Option<&'a RawValue>,
    #[serde(default)]
    raw: Option<String>,
    // The node sets these itself, so they are read over.
    #[serde(default, rename = "etag")]
    _etag: Option<String>,
    #[serde(default, rename = "createdAt")]
    _created_at: Option<String>,
    #[serde(default, rename = "updatedAt")]
    _updated_at: Option<String>,
    #[serde(default, rename = "score")]
    _score: Option<f64>,
    #[serde(default, rename = "distance")]
    _distance: Option<f64>,
}

impl Entry {
    /// Reads a line: one that export wrote, else an item.
    ///
    /// * `id_field`: lines are items, whatever they look like, and this dotted path in them is the id.
    /// * errors: for the reject file.
    pub(in crate::cli) fn read(items: &Items, line: &str, id_field: Option<&str>) -> anyhow::Result<Self> {
        if let Some(path) = id_field {
            let id = member(line, path)?;
            return Ok(Self { id, labels: BTreeMap::new(), item: items.encode(line)? });
        }
        let read = serde_json::from_str::<Exported<'_>>(line).ok();
        let Some(exported) = read.filter(|read| read.item.is_some() != read.raw.is_some()) else {
            return Ok(Self { id: String::new(), labels: BTreeMap::new(), item: items.encode(line)? });
        };
        let mut item = match (exported.item, exported.raw) {
            (Some(json), _) => items.encode(json.get())?,
            (None, raw) => {
                let bytes = BASE64.decode(raw.unwrap_or_default()).context("raw is no base64")?;
                Any { type_url: items.type_url(), value: bytes }
            }
        };
        if let Some(type_url) = exported.type_url {
            item.type_url = type_url;
        }
        Ok(Self { id: exported.id, labels: exported.labels, item })
    }
}

/// The text or number at a dotted path of a JSON object.
fn member(line: &str, path: &str) -> anyhow::Result<String> {
    let item: serde_json::Value = serde_json::from_str(line).context("the line is no JSON")?;
    let found = path.split('.').try_fold(&item, |value, name| value.get(name));
    match found {
        Some(serde_json::Value::String(id)) if !id.is_empty() => Ok(id.clone()),
        Some(serde_json::Value::Number(id)) => Ok(id.to_string()),
        _ => anyhow::bail!("there is no text or number in {path}, which is to be the id"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str, id_field: Option<&str>) -> anyhow::Result<(String, String, Vec<u8>)> {
        let entry = Entry::read(&Items::json(), line, id_field)?;
        Ok((entry.id, entry.item.type_url, entry.item.value))
    }

    #[test]
    fn what_goes_out_comes_in_again() {
        let items = Items::json();
        for item in [
            Any { type_url: String::new(), value: br#"{"b":1.0,"a":[]}"#.to_vec() },
            Any { type_url: "x/odd".into(), value: br#"{"b":1}"#.to_vec() },
            Any { type_url: "x/odd".into(), value: vec![0, 255] },
            Any { type_url: String::new(), value: Vec::new() },
        ] {
            let metadata = pb::Metadata { labels: [("k".to_owned(), "v".to_owned())].into(), ..Default::default() };
            let info = pb::RecordInfo { id: "1\n\"".into(), etag: "e".into(), metadata: Some(metadata) };
            let text = Line::new(&items, &item, info, Detail::Exact).found(1.0, None).text().unwrap();
            let entry = Entry::read(&items, &text, None).unwrap();
            assert_eq!((entry.id.as_str(), entry.item), ("1\n\"", item), "{text}");
            assert_eq!(entry.labels.get("k").map(String::as_str), Some("v"));
        }
    }

    #[test]
    fn other_lines_are_items_themselves() {
        for plain in [r#"{"id":"a","item":{},"more":1}"#, r#"{"id":"a"}"#, r#"{"id":1,"item":{}}"#, r#"{"item":{}}"#] {
            let (id, _, bytes) = read(plain, None).unwrap();
            assert_eq!((id.as_str(), bytes.as_slice()), ("", plain.as_bytes()));
        }
        let (id, _, bytes) = read(r#"{"id":"a","item":{"k":7}}"#, Some("item.k")).unwrap();
        assert_eq!((id.as_str(), bytes.len()), ("7", 25));
        let said = |line, path| read(line, path).unwrap_err().to_string();
        assert!(said("{}", Some("id")).contains("to be the id"));
        assert!(said("{", None).contains("no JSON"));
        assert!(said(r#"{"id":"a","raw":"*"}"#, None).contains("base64"));
    }
}
