//! The item of a command: JSON, or bytes of any type.

use super::super::call::read;
use super::item::Items;
use anyhow::{Context as _, bail};
use prost_types::Any;

/// `-d`, `-f`, `-` and what they are.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Data {
    /// `-`: the item comes from stdin
    #[arg(value_name = "-", value_parser = ["-"])]
    stdin: Option<String>,
    /// The item as JSON, @FILE or - for stdin
    #[arg(long, short, value_name = "JSON", conflicts_with_all = ["stdin", "file"])]
    data: Option<String>,
    /// File with the item
    #[arg(long, short, value_name = "FILE", conflicts_with = "stdin")]
    file: Option<String>,
    /// Type of the item, where it is not the collection's
    #[arg(long = "type", value_name = "MESSAGE")]
    given: Option<String>,
    /// The item is bytes of this type_url, stored as they are
    #[arg(long, value_name = "TYPE_URL", conflicts_with = "given")]
    raw: Option<String>,
}

impl Data {
    /// The bytes, read.
    pub(super) fn read(&self) -> anyhow::Result<Vec<u8>> {
        match (&self.stdin, &self.data, &self.file) {
            (Some(_), ..) => read("-"),
            (_, Some(data), _) => read(data),
            (.., Some(file)) if file == "-" => read("-"),
            (.., Some(file)) => std::fs::read(file).with_context(|| format!("cannot read {file}")),
            _ => bail!("there is no item; give one with -d JSON or -f FILE, or `-` for stdin"),
        }
    }

    /// The type_url of bytes that stay as they are.
    pub(super) fn opaque(&self) -> Option<&str> {
        self.raw.as_deref()
    }

    /// Full name of the type that was given.
    pub(super) fn given(&self) -> Option<&str> {
        self.given.as_deref()
    }
}

/// JSON bytes as an item.
pub(super) fn item(items: &Items, bytes: &[u8]) -> anyhow::Result<Any> {
    items.encode(std::str::from_utf8(bytes).context("the item is not UTF-8; for bytes as they are: --raw TYPE_URL")?)
}
