//! Which protocol a request speaks: its content type says so, whatever the HTTP version.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// What a caller may send, for answers that refuse something else (`Accept-Post`).
pub(super) const ACCEPTED: &str = "application/json, application/proto, application/connect+json, \
     application/connect+proto, application/grpc, application/grpc-web, application/grpc-web-text";

/// The protocol of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// gRPC itself.
    Grpc,
    /// gRPC-Web; the content type without parameters, as tonic-web compares it.
    GrpcWeb(&'static str),
    /// Connect with one message each way. Source: connectrpc.com/docs/protocol, Unary-Request.
    Unary(Codec),
    /// Connect with enveloped messages. Source: ibid., Streaming-Request.
    Stream(Codec),
    /// A content type that nothing here takes.
    Unknown,
    /// No content type: nothing was sent.
    None,
}

/// How a Connect message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Codec {
    /// Binary protobuf: passed on as it is.
    Proto,
    /// The proto3 JSON mapping.
    Json,
}

impl Codec {
    /// Content type of one bare message.
    pub(super) fn unary(self) -> &'static str {
        match self {
            Self::Proto => "application/proto",
            Self::Json => "application/json",
        }
    }

    /// Content type of enveloped messages.
    pub(super) fn stream(self) -> &'static str {
        match self {
            Self::Proto => "application/connect+proto",
            Self::Json => "application/connect+json",
        }
    }
}

impl Kind {
    /// Reads the content type. Parameters mean nothing here but `charset`, which JSON allows to be UTF-8 only.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(CONTENT_TYPE) else { return Self::None };
        let Ok(value) = value.to_str() else { return Self::Unknown };
        let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
        let essence = essence.trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/grpc-web" | "application/grpc-web+proto" => Self::GrpcWeb("application/grpc-web+proto"),
            "application/grpc-web-text" | "application/grpc-web-text+proto" => {
                Self::GrpcWeb("application/grpc-web-text+proto")
            }
            "application/proto" => Self::Unary(Codec::Proto),
            "application/connect+proto" => Self::Stream(Codec::Proto),
            "application/json" if is_utf8(parameters) => Self::Unary(Codec::Json),
            "application/connect+json" if is_utf8(parameters) => Self::Stream(Codec::Json),
            grpc if grpc == "application/grpc" || grpc.starts_with("application/grpc+") => Self::Grpc,
            _ => Self::Unknown,
        }
    }
}

/// Whether no parameter names a character set other than UTF-8.
fn is_utf8(parameters: &str) -> bool {
    parameters.split(';').filter_map(|one| one.split_once('=')).all(|(name, value)| {
        let value = value.trim().trim_matches('"');
        !name.trim().eq_ignore_ascii_case("charset") || value.eq_ignore_ascii_case("utf-8")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_content_type_decides() {
        for (value, kind) in [
            ("application/grpc", Kind::Grpc),
            ("application/grpc+proto", Kind::Grpc),
            ("application/grpc-web", Kind::GrpcWeb("application/grpc-web+proto")),
            ("application/grpc-web-text", Kind::GrpcWeb("application/grpc-web-text+proto")),
            ("application/grpc-web+json", Kind::Unknown),
            ("application/grpc-webx", Kind::Unknown),
            ("application/json", Kind::Unary(Codec::Json)),
            ("Application/JSON; charset=\"UTF-8\"", Kind::Unary(Codec::Json)),
            ("application/json; charset=latin1", Kind::Unknown),
            ("application/proto", Kind::Unary(Codec::Proto)),
            ("application/connect+json;charset=utf-8", Kind::Stream(Codec::Json)),
            ("application/connect+proto", Kind::Stream(Codec::Proto)),
            ("application/connect+xml", Kind::Unknown),
            ("text/plain", Kind::Unknown),
            ("", Kind::Unknown),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(Kind::of(&headers), kind, "{value}");
        }
        assert_eq!(Kind::of(&HeaderMap::new()), Kind::None);
    }
}
