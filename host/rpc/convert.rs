//! Between messages on the wire and domain words. Names are parsed here; nothing behind this file sees a raw one.

use super::pb;
use crate::domain::{Call, CodeSource, Deadline, Digest, ImageError, ImageRef, LimitRequest, MetadataEntry, Namespace};
use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use tonic::metadata::{KeyAndValueRef, MetadataMap};

/// What is wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BadRequest {
    /// A field that has to be there is not.
    Required(&'static str),
    /// A field does not follow its grammar.
    Field {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// An image by its tag, or by nothing: it may be another one tomorrow.
    ImageTag(&'static str),
    /// A `service_uri` whose scheme this node does not serve.
    Scheme(String),
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Required(field) => write!(f, "{field} is required"),
            Self::Field { field, problem } => write!(f, "{field} {problem}"),
            Self::ImageTag(field) => write!(f, "{field} {}", ImageError::NoDigest),
            Self::Scheme(scheme) => {
                write!(f, "service_uri: this node does not serve the scheme {scheme}:, only sha256: and image:")
            }
        }
    }
}

/// Metadata that belongs to the transport or carries credentials: never shown to a guest.
const WITHHELD: [&str; 9] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "content-type",
    "te",
    "grpc-timeout",
    "grpc-encoding",
    "grpc-accept-encoding",
    "host",
];

/// Type URL of a message by its full name. Source: google/protobuf/any.proto.
pub(super) fn type_url(full_name: &str) -> String {
    format!("type.googleapis.com/{full_name}")
}

/// A call as `Serve` brings it.
pub(super) fn call(request: pb::ServeRequest, metadata: &MetadataMap, deadline: Deadline) -> Result<Call, BadRequest> {
    let service = request.service.unwrap_or_default();
    let (input_type_url, input) = request.input.map(|any| (any.type_url, any.value)).unzip();
    require(&request.namespace, "namespace")?;
    require(&service.service_name, "service")?;
    require(&request.method_name, "method_name")?;
    let namespace = parse("namespace", &request.namespace)?;
    if !service.namespace.is_empty() && service.namespace != request.namespace {
        return Err(field("service.namespace", "differs from namespace; leave it empty"));
    }
    Ok(Call {
        namespace,
        service: parse("service.service_name", &service.service_name)?,
        method: parse("method_name", &request.method_name)?,
        input_type_url,
        input: input.unwrap_or_default().into(),
        code: code_source(request.service_def)?,
        limits: limits(&request.execution_context)?,
        metadata: visible_metadata(metadata),
        deadline,
    })
}

/// A call as `Dispatch` brings it, of whatever is deployed.
pub(super) fn dispatched(
    request: &pb::DispatchRequest,
    metadata: &MetadataMap,
    deadline: Deadline,
) -> Result<Call, BadRequest> {
    let request = pb::ServeRequest {
        namespace: request.namespace.clone(),
        service: request.service.clone(),
        method_name: request.method_name.clone(),
        input: request.input.clone(),
        ..Default::default()
    };
    call(request, metadata, deadline)
}

/// Metadata that says where a call is made, for calls whose message does not.
pub(super) const NAMESPACE: &str = "collector-namespace";

/// The namespace that the metadata names, else `default`. Source: semantics.md section 5.
pub(super) fn namespace(metadata: &HeaderMap, default: &Namespace) -> Result<Namespace, BadRequest> {
    const FIELD: &str = "metadata collector-namespace";
    let mut values = metadata.get_all(NAMESPACE).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(default.clone()),
        (Some(name), None) => parse(FIELD, name.to_str().map_err(|_| field(FIELD, "is not printable ASCII"))?),
        (Some(_), Some(_)) => Err(field(FIELD, "is there more than once")),
    }
}

/// A name that has to be there.
pub(super) fn required<T: FromStr<Err: ToString>>(name: &'static str, text: &str) -> Result<T, BadRequest> {
    require(text, name)?;
    parse(name, text)
}

/// `sha256:` and 64 hex digits, or the digits alone.
pub(super) fn digest(name: &str, text: &str) -> Result<Digest, BadRequest> {
    parse(name, text.strip_prefix("sha256:").unwrap_or(text))
}

/// An image by its digest, with or without `image:` before it.
pub(super) fn image(name: &'static str, text: &str) -> Result<ImageRef, BadRequest> {
    let text = text.strip_prefix("image:").unwrap_or(text);
    text.parse().map_err(|why| match why {
        ImageError::NoDigest => BadRequest::ImageTag(name),
        ImageError::Repository => field(name, &why.to_string()),
    })
}

/// Whether a call is to be checked only. Source: semantics.md section 1.
pub(super) fn validate_only(metadata: &MetadataMap) -> bool {
    metadata.get("collector-validate-only").is_some_and(|value| value.as_encoded_bytes() != b"false")
}

/// The `status` of a reply that arrives.
pub(super) fn ok() -> Option<pb::Status> {
    Some(pb::Status { code: pb::status::Code::Ok.into(), ..Default::default() })
}

/// The `name` of an encoded file, service or message descriptor: field 1 of each.
pub(super) fn descriptor_name(descriptor: &Bytes) -> Option<String> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    Named::decode(descriptor.clone()).ok().map(|named| named.name)
}

/// Entries of one page. Source: semantics.md section 1.
pub(super) fn page_size(asked: i32) -> Result<usize, BadRequest> {
    match usize::try_from(asked) {
        Ok(0) => Ok(100),
        Ok(asked) => Ok(asked.min(1_000)),
        Err(_) => Err(field("page_size", "must not be negative")),
    }
}

fn require(text: &str, field: &'static str) -> Result<(), BadRequest> {
    if text.is_empty() { Err(BadRequest::Required(field)) } else { Ok(()) }
}

fn parse<T: FromStr<Err: ToString>>(name: &str, text: &str) -> Result<T, BadRequest> {
    text.parse().map_err(|why: T::Err| field(name, &why.to_string()))
}

fn field(field: &str, problem: &str) -> BadRequest {
    BadRequest::Field { field: field.to_owned(), problem: problem.to_owned() }
}

fn code_source(definition: Option<pb::serve_request::ServiceDef>) -> Result<CodeSource, BadRequest> {
    use pb::serve_request::ServiceDef;
    let uri = match definition {
        None => return Ok(CodeSource::Deployed),
        Some(ServiceDef::ServiceBinary(bytes)) => return Ok(CodeSource::Bytes(bytes)),
        Some(ServiceDef::ServiceUri(uri)) => uri,
    };
    match uri.split_once(':') {
        Some(("sha256", hex)) => Ok(CodeSource::Artifact(parse("service_uri", hex)?)),
        Some(("image", name)) => Ok(CodeSource::Image(image("service_uri", name)?)),
        Some((scheme, _))
            if !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)) =>
        {
            Err(BadRequest::Scheme(crate::domain::one_line(scheme, 32)))
        }
        _ => Err(field(
            "service_uri",
            "is no URI; use sha256:<64 hex digits> or image:<repository>@sha256:<64 hex digits>",
        )),
    }
}

/// Reads `execution_context`. Source: semantics.md section 5.
fn limits(context: &HashMap<String, String>) -> Result<LimitRequest, BadRequest> {
    let mut asked = LimitRequest::default();
    for (key, value) in context {
        let path = || format!("execution_context[\"{}\"]", crate::domain::one_line(key, 64));
        let slot = match key.as_str() {
            "timeout_ms" => &mut asked.timeout_ms,
            "memory_mib" => &mut asked.memory_mib,
            "fuel" => &mut asked.fuel,
            _ => return Err(field(&path(), "is not known; known are timeout_ms, memory_mib, fuel")),
        };
        match value.parse::<u64>() {
            Ok(number) if number > 0 => *slot = Some(number),
            _ => return Err(field(&path(), "must be a whole number above 0")),
        }
    }
    Ok(asked)
}

/// Metadata that the guest may see.
pub(super) fn visible_metadata(metadata: &MetadataMap) -> Vec<MetadataEntry> {
    let entry = |pair: KeyAndValueRef<'_>| match pair {
        KeyAndValueRef::Ascii(key, value) => {
            Some(MetadataEntry { key: key.as_str().to_owned(), value: value.as_encoded_bytes().to_vec() })
        }
        KeyAndValueRef::Binary(key, value) => {
            let value = value.to_bytes().ok()?.to_vec();
            Some(MetadataEntry { key: key.as_str().to_owned(), value })
        }
    };
    metadata.iter().filter_map(entry).filter(|entry| !WITHHELD.contains(&entry.key.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn convert(change: impl FnOnce(&mut pb::ServeRequest)) -> Result<Call, BadRequest> {
        let mut request = pb::ServeRequest {
            namespace: "acme".into(),
            service: Some(pb::ServiceTypeRef { namespace: String::new(), service_name: "a.v1.B".into() }),
            method_name: "Get".into(),
            ..Default::default()
        };
        change(&mut request);
        call(request, &MetadataMap::new(), Deadline::after(Duration::from_secs(1)))
    }

    fn uri(uri: &str) -> Option<pb::serve_request::ServiceDef> {
        Some(pb::serve_request::ServiceDef::ServiceUri(uri.into()))
    }

    #[tokio::test]
    async fn required_fields_are_named() {
        assert!(convert(|_| ()).is_ok());
        let missing = |change: fn(&mut pb::ServeRequest)| convert(change).err();
        assert_eq!(missing(|r| r.namespace.clear()), Some(BadRequest::Required("namespace")));
        assert_eq!(missing(|r| r.service = None), Some(BadRequest::Required("service")));
        assert_eq!(missing(|r| r.method_name.clear()), Some(BadRequest::Required("method_name")));
    }

    #[test]
    fn the_namespace_of_metadata_is_one_name_or_the_default() {
        let default: Namespace = "default".parse().unwrap();
        let read = |values: &[&'static str]| {
            let mut metadata = MetadataMap::new();
            for value in values {
                metadata.append(NAMESPACE, value.parse().unwrap());
            }
            namespace(metadata.as_ref(), &default).ok().map(|found| found.to_string())
        };
        assert_eq!(read(&[]).as_deref(), Some("default"));
        assert_eq!(read(&["acme"]).as_deref(), Some("acme"));
        for bad in [&["acme", "acme"][..], &[""], &["../x"], &["a b"]] {
            assert_eq!(read(bad), None, "{bad:?}");
        }
    }

    #[tokio::test]
    async fn names_and_uris_follow_their_grammar() {
        let bad = |change: fn(&mut pb::ServeRequest)| matches!(convert(change), Err(BadRequest::Field { .. }));
        assert!(bad(|r| r.namespace = "../x".into()));
        assert!(bad(|r| r.method_name = "a/b".into()));
        assert!(bad(|r| r.service.as_mut().unwrap().namespace = "other".into()));
        assert!(bad(|r| r.service_def = uri("sha256:abc")));
        assert!(bad(|r| r.service_def = uri("no uri")));
        assert!(bad(|r| r.service_def = uri(":x")));
        assert!(bad(|r| r.service_def = uri(&format!("image:Not A Name@sha256:{}", "0".repeat(64)))));
        for tag in ["image:tool", "image:tool:latest", "image:tool@sha256:12", "image:"] {
            assert_eq!(convert(|r| r.service_def = uri(tag)).err(), Some(BadRequest::ImageTag("service_uri")), "{tag}");
        }
        let image = convert(|r| r.service_def = uri(&format!("image:tool@sha256:{}", "0".repeat(64))));
        assert!(matches!(image.unwrap().code, CodeSource::Image(_)));
        let scheme = convert(|r| r.service_def = uri("oci:example/x")).err();
        assert_eq!(scheme, Some(BadRequest::Scheme("oci".into())));
    }

    #[tokio::test]
    async fn execution_context_takes_known_keys_and_whole_numbers() {
        let ask = |key: &str, value: &str| {
            convert(|r| drop(r.execution_context.insert(key.into(), value.into()))).map(|call| call.limits)
        };
        assert_eq!(ask("timeout_ms", "5").unwrap().timeout_ms, Some(5));
        assert_eq!(ask("memory_mib", "1").unwrap().memory_mib, Some(1));
        assert_eq!(ask("fuel", "9").unwrap().fuel, Some(9));
        for (key, value) in [("fuel", "0"), ("fuel", "-1"), ("fuel", "1.5"), ("fuel", ""), ("cores", "1")] {
            assert!(ask(key, value).is_err(), "{key}={value}");
        }
    }

    #[test]
    fn credentials_and_transport_stay_out_of_guests() {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", "Bearer secret".parse().unwrap());
        metadata.insert("grpc-timeout", "1S".parse().unwrap());
        metadata.insert("x-tenant", "blue".parse().unwrap());
        metadata.insert_bin("x-key-bin", tonic::metadata::MetadataValue::from_bytes(&[0, 255]));
        let mut seen = visible_metadata(&metadata);
        seen.sort_by(|a, b| a.key.cmp(&b.key));
        let expected = [("x-key-bin", vec![0, 255]), ("x-tenant", b"blue".to_vec())];
        assert_eq!(seen, expected.map(|(key, value)| MetadataEntry { key: key.into(), value }));
    }
}
