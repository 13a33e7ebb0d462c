//! JSON in and out by a plugin's own descriptors.

use crate::dispatch::artifacts::{Artifact, ArtifactError, inspect};
use crate::domain::{Digest, one_line};
use crate::registry::{Method, Service};
use bytes::Bytes;
use prost::Message as _;
use prost_reflect::{DynamicMessage, MessageDescriptor, ReflectMessage as _, SerializeOptions};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A plugin file, a component or a native binary, read and looked into.
#[derive(Debug)]
pub struct Plugin {
    /// The bytes.
    pub bytes: Bytes,
    /// What they are.
    pub artifact: Artifact,
}

/// A file or a JSON text that does not do.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The file cannot be read.
    #[error("cannot read {path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: std::io::Error,
    },
    /// The file is no plugin that runs here.
    #[error("{path}: {why}")]
    Artifact {
        /// Which.
        path: PathBuf,
        /// Why.
        why: ArtifactError,
    },
    /// The plugin does not have what was asked for.
    #[error("{0}")]
    NoMethod(String),
    /// The JSON does not fit the message.
    #[error("the JSON does not fit {message}: {why}")]
    Fit {
        /// Full name of the message.
        message: String,
        /// Where and why.
        why: serde_json::Error,
    },
    /// The reply is not the message that it should be.
    #[error("the reply is no {message}: {why}")]
    Reply {
        /// Full name of the message.
        message: String,
        /// Why.
        why: String,
    },
}

impl Plugin {
    /// Reads a plugin file.
    pub fn read(path: &Path) -> Result<Self, JsonError> {
        let bytes = std::fs::read(path).map_err(|why| JsonError::File { path: path.to_owned(), why })?;
        Self::of(bytes.into()).map_err(|why| JsonError::Artifact { path: path.to_owned(), why })
    }

    /// Looks into a plugin.
    pub fn of(bytes: Bytes) -> Result<Self, ArtifactError> {
        let artifact = inspect(Digest::of(&bytes), &bytes)?;
        Ok(Self { bytes, artifact })
    }

    /// Finds a method by full or short service name; `None` where the plugin carries no descriptors.
    pub fn method(&self, service: &str, method: &str) -> Result<Option<(&Service, &Method)>, JsonError> {
        let Some(schema) = &self.artifact.schema else { return Ok(None) };
        let all = schema.services();
        let short = |found: &&Arc<Service>| found.short_name() == service;
        let found = all.iter().find(|found| &*found.name == service).or_else(|| all.iter().find(short));
        // The names are the plugin's own words.
        let names = |names: Vec<&str>| one_line(&names.join(", "), 1_024);
        let Some(found) = found else {
            let known = names(all.iter().map(|service| &*service.name).collect());
            return Err(JsonError::NoMethod(format!("the plugin has no service {service}; it has {known}")));
        };
        let Some(wanted) = found.methods.iter().find(|known| known.name == method) else {
            let known = names(found.methods.iter().map(|method| method.name.as_str()).collect());
            return Err(JsonError::NoMethod(format!(
                "{} has no method {method}; it has {known}",
                one_line(&found.name, 256)
            )));
        };
        Ok(Some((found, wanted)))
    }

    /// Encodes JSON as the message with this full name.
    pub fn encode(&self, message: &str, json: &str) -> Result<Vec<u8>, JsonError> {
        encode(self.descriptor(message)?, json.as_bytes())
    }

    /// Decodes bytes as the message with this full name, into JSON with every field present.
    pub fn decode(&self, message: &str, bytes: &[u8]) -> Result<Value, JsonError> {
        decode(self.descriptor(message)?, bytes)
    }

    /// The message with this full name.
    pub(super) fn descriptor(&self, message: &str) -> Result<MessageDescriptor, JsonError> {
        let found = self.artifact.schema.as_ref().and_then(|schema| schema.pool()?.get_message_by_name(message));
        found.ok_or_else(|| JsonError::NoMethod(format!("the plugin does not describe {message}")))
    }
}

/// Encodes a JSON text as a message.
pub(super) fn encode(message: MessageDescriptor, json: &[u8]) -> Result<Vec<u8>, JsonError> {
    let name = message.full_name().to_owned();
    let fit = |why| JsonError::Fit { message: name.clone(), why };
    let mut text = serde_json::Deserializer::from_slice(json);
    let value = DynamicMessage::deserialize(message, &mut text).map_err(fit)?;
    text.end().map_err(fit)?;
    Ok(value.encode_to_vec())
}

/// Decodes bytes as a message, into JSON with every field present.
pub(super) fn decode(message: MessageDescriptor, bytes: &[u8]) -> Result<Value, JsonError> {
    let name = message.full_name().to_owned();
    let value = DynamicMessage::decode(message, bytes);
    to_json(&value.map_err(|why| JsonError::Reply { message: name, why: why.to_string() })?)
}

/// A message as JSON with every field present.
pub(super) fn to_json(message: &DynamicMessage) -> Result<Value, JsonError> {
    let options = SerializeOptions::new().skip_default_fields(false);
    let json = message.serialize_with_options(serde_json::value::Serializer, &options);
    json.map_err(|why| JsonError::Reply { message: message.descriptor().full_name().to_owned(), why: why.to_string() })
}

/// The messages in a JSON text that holds one value after the other.
pub(super) fn parse_all(message: &MessageDescriptor, json: &[u8]) -> Result<Vec<DynamicMessage>, JsonError> {
    let mut text = serde_json::Deserializer::from_slice(json);
    let mut all = Vec::new();
    while let Some(one) = next_message(message, &mut text)? {
        all.push(one);
    }
    Ok(all)
}

/// The next message of a JSON text that holds one value after the other; `None` at its end.
pub(super) fn next_message<'de>(
    message: &MessageDescriptor,
    text: &mut serde_json::Deserializer<impl serde_json::de::Read<'de>>,
) -> Result<Option<DynamicMessage>, JsonError> {
    if text.end().is_ok() {
        return Ok(None);
    }
    let fit = |why| JsonError::Fit { message: message.full_name().to_owned(), why };
    DynamicMessage::deserialize(message.clone(), text).map(Some).map_err(fit)
}
