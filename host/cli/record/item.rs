//! What records hold, as JSON and as bytes: by the collection's message type, or JSON objects as they are.

use super::super::json::JsonError;
use super::super::reflect::Reflection;
use super::at::Collection;
use anyhow::{Context as _, bail};
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use prost_types::Any;
use serde_json::value::RawValue;

/// What a type_url has before the name of the type, by convention.
const PREFIX: &str = "type.googleapis.com/";

/// What the items of a collection are.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Items {
    /// `None`: JSON objects, or bytes that nobody here knows.
    message: Option<MessageDescriptor>,
}

/// How much of a message is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Detail {
    /// All that is known of it, every field present; for people.
    Everything,
    /// Only what gives the same record when it is read again.
    Exact,
}

impl Items {
    /// * `given`: full name of the type, instead of the collection's own.
    /// * errors: no such collection; a type that was given and is not registered.
    pub(in crate::cli) async fn of(collection: &Collection, given: Option<&str>) -> anyhow::Result<Self> {
        let name = match given {
            Some(given) => given.trim_start_matches('.').to_owned(),
            None => collection.definition().await?.message_type.unwrap_or_default().message_name,
        };
        if name.is_empty() {
            return Ok(Self { message: None });
        }
        let reflection = Reflection::open(&collection.client, &collection.namespace).await?;
        let message = match reflection.symbol(&name).await? {
            Some(files) => reflection.pool(files).await?.get_message_by_name(&name),
            None => None,
        };
        if given.is_some() && message.is_none() {
            bail!("no message {name} is registered in {}; add it with `collector schema push`", collection.namespace);
        }
        Ok(Self { message })
    }

    /// JSON objects.
    #[cfg(test)]
    pub(super) fn json() -> Self {
        Self { message: None }
    }

    /// The message that items are; `None` for JSON objects.
    pub(super) fn message(&self) -> Option<&MessageDescriptor> {
        self.message.as_ref()
    }

    /// What items have as type_url unless somebody said otherwise.
    pub(super) fn type_url(&self) -> String {
        self.message.as_ref().map(|message| format!("{PREFIX}{}", message.full_name())).unwrap_or_default()
    }

    /// An item from JSON.
    pub(in crate::cli) fn encode(&self, json: &str) -> anyhow::Result<Any> {
        let value = match &self.message {
            Some(message) => parse(message, json)?.encode_to_vec(),
            None => {
                let item: &RawValue = serde_json::from_str(json).context("the item is no JSON")?;
                if !item.get().starts_with('{') {
                    bail!("the item is no JSON object, which a collection without a registered type takes");
                }
                item.get().as_bytes().to_vec()
            }
        };
        Ok(Any { type_url: self.type_url(), value })
    }

    /// An item as JSON on one line; `None` where JSON cannot say it.
    pub(super) fn decode(&self, item: &Any, detail: Detail) -> Option<Box<RawValue>> {
        let typed = |message: &&MessageDescriptor| item.type_url.rsplit('/').next() == Some(message.full_name());
        let text = match self.message.as_ref().filter(typed) {
            Some(message) => known(message, &item.value, detail)?,
            None => object(&item.value, detail)?,
        };
        RawValue::from_string(text).ok()
    }
}

fn parse(message: &MessageDescriptor, json: &str) -> Result<DynamicMessage, JsonError> {
    let fit = |why| JsonError::Fit { message: message.full_name().to_owned(), why };
    let mut text = serde_json::Deserializer::from_str(json);
    let parsed = DynamicMessage::deserialize(message.clone(), &mut text).map_err(fit)?;
    text.end().map_err(fit)?;
    Ok(parsed)
}

fn known(descriptor: &MessageDescriptor, bytes: &[u8], detail: Detail) -> Option<String> {
    let message = DynamicMessage::decode(descriptor.clone(), bytes).ok()?;
    let mut text = Vec::new();
    let options = SerializeOptions::new().skip_default_fields(detail == Detail::Exact);
    message.serialize_with_options(&mut serde_json::Serializer::new(&mut text), &options).ok()?;
    let text = String::from_utf8(text).ok()?;
    // Unknown fields, for one, are not in JSON.
    let same = detail == Detail::Everything || parse(descriptor, &text).is_ok_and(|again| again == message);
    same.then_some(text)
}

fn object(bytes: &[u8], detail: Detail) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    let item: &RawValue = serde_json::from_str(text).ok()?;
    let one_line = !item.get().contains(['\n', '\r']);
    match detail {
        _ if !item.get().starts_with('{') => None,
        Detail::Exact => (one_line && item.get() == text).then(|| text.to_owned()),
        Detail::Everything if one_line => Some(item.get().to_owned()),
        Detail::Everything => serde_json::from_str::<serde_json::Value>(text).ok().map(|value| value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::render::tests::compile;
    use super::*;

    const PROTO: &str = r#"
        syntax = "proto3";
        package t.v1;
        message M { int64 n = 1; string s = 2; optional bool b = 3; map<string, int32> m = 4; }
    "#;

    fn typed() -> Items {
        Items { message: compile(PROTO).get_message_by_name("t.v1.M") }
    }

    fn shown(items: &Items, item: &Any, detail: Detail) -> Option<String> {
        items.decode(item, detail).map(|text| text.get().to_owned())
    }

    #[test]
    fn items_of_a_type_go_by_their_type() {
        let items = typed();
        let item = items.encode(r#"{"n":"9007199254740993","m":{"a":1,"b":2}}"#).unwrap();
        assert_eq!(item.type_url, "type.googleapis.com/t.v1.M");
        let exact = shown(&items, &item, Detail::Exact).unwrap();
        assert!(exact.starts_with(r#"{"n":"9007199254740993","m":{"#), "{exact}");
        assert!(shown(&items, &item, Detail::Everything).unwrap().contains(r#""s":"""#));
        let why = items.encode(r#"{"nope":1}"#).unwrap_err().to_string();
        assert!(why.contains("t.v1.M") && why.contains("nope"), "{why}");
        assert!(items.encode(r#"{"n":1} {}"#).is_err() && items.encode("[]").is_err());
    }

    #[test]
    fn what_json_would_lose_is_not_json() {
        let items = typed();
        let unknown = Any { type_url: "x/t.v1.M".into(), value: vec![0x78, 1] };
        assert_eq!(shown(&items, &unknown, Detail::Exact), None);
        assert!(shown(&items, &unknown, Detail::Everything).is_some());
        let broken = Any { type_url: "x/t.v1.M".into(), value: vec![8] };
        assert_eq!(shown(&items, &broken, Detail::Everything), None);
    }

    #[test]
    fn json_objects_stay_byte_for_byte() {
        let items = Items { message: None };
        let text = r#"{"b":1.0,"a":18446744073709551616, "c" : "\u00e4"}"#;
        let item = items.encode(&format!(" {text}\n")).unwrap();
        assert_eq!((item.type_url.as_str(), item.value.as_slice()), ("", text.as_bytes()));
        assert_eq!(shown(&items, &item, Detail::Exact).as_deref(), Some(text));
        let pretty = Any { type_url: String::new(), value: b"{\n \"a\": 1}".to_vec() };
        assert_eq!(shown(&items, &pretty, Detail::Exact), None, "a line of JSONL has no line breaks");
        assert_eq!(shown(&items, &pretty, Detail::Everything).as_deref(), Some(r#"{"a":1}"#));
        for bad in ["[1]", "1", "{", "", "{}{}"] {
            assert!(items.encode(bad).is_err(), "{bad}");
            let item = Any { type_url: String::new(), value: bad.into() };
            assert_eq!(shown(&items, &item, Detail::Everything), None, "{bad}");
        }
    }
}
