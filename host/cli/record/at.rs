//! Which collection a command is about.

use super::super::client::{ClientError, NodeClient, request};
use super::super::place::Place;
use crate::rpc::pb;
use anyhow::bail;
use tonic::Request;

/// A collection on the command line.
#[derive(Debug, Clone, clap::Args)]
pub(in crate::cli) struct At {
    /// The collection: NAMESPACE/NAME, or NAME in the namespace of --namespace
    #[arg(value_name = "NS/NAME")]
    collection: String,
    #[command(flatten)]
    place: Place,
}

/// A collection on a node that answers.
#[derive(Debug, Clone)]
pub(in crate::cli) struct Collection {
    pub(in crate::cli) client: NodeClient,
    pub(in crate::cli) namespace: String,
    pub(in crate::cli) name: String,
}

impl At {
    /// Connects to the node. Whether it has such a collection shows later.
    pub(in crate::cli) async fn open(&self) -> anyhow::Result<Collection> {
        let (namespace, name) = self.split()?;
        Ok(Collection { client: self.place.connect().await?, namespace, name })
    }

    fn split(&self) -> anyhow::Result<(String, String)> {
        let (namespace, name) = self.collection.split_once('/').unwrap_or((&self.place.namespace, &self.collection));
        if namespace.is_empty() || name.is_empty() || name.contains('/') {
            bail!("{} is no collection; write NAMESPACE/NAME or NAME", self.collection);
        }
        Ok((namespace.to_owned(), name.to_owned()))
    }
}

impl Collection {
    /// One request in the collection's namespace.
    pub(in crate::cli) fn request<T>(&self, message: T) -> Result<Request<T>, ClientError> {
        request(&self.namespace, message)
    }

    /// `namespace/name`.
    pub(in crate::cli) fn id(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }

    /// The definition, without the work of counting.
    pub(in crate::cli) async fn definition(&self) -> Result<pb::Collection, ClientError> {
        let name = pb::NamespacedName { namespace: self.namespace.clone(), name: self.name.clone() };
        let wanted = self.request(pb::RouteRequest { collection: Some(name) })?;
        let found = self.client.repo().route(wanted).await?.into_inner();
        Ok(found.collection.unwrap_or_default())
    }
}

/// `key=value`, for labels.
pub(in crate::cli) fn pair(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    pair.map(|(key, value)| (key.to_owned(), value.to_owned())).ok_or_else(|| "write key=value".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_goes_with_or_without_its_namespace() {
        let split = |collection: &str| {
            let place = Place { namespace: "default".into(), ..Place::default() };
            At { collection: collection.into(), place }.split().map_err(|why| why.to_string())
        };
        assert_eq!(split("acme/notes"), Ok(("acme".into(), "notes".into())));
        assert_eq!(split("notes"), Ok(("default".into(), "notes".into())));
        for bad in ["", "/", "acme/", "/notes", "a/b/c"] {
            assert!(split(bad).unwrap_err().contains("NAMESPACE/NAME"), "{bad}");
        }
        assert_eq!(pair("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert!(pair("=b").is_err() && pair("a").is_err());
    }
}
