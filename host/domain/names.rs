//! Names as the wire brings them, parsed once.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a name was refused: what was wanted and where the text departs from it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing there.
    #[error("is empty")]
    Empty,
    /// Longer than the grammar allows.
    #[error("has {len} bytes, at most {max} are allowed")]
    TooLong {
        /// Bytes found.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A byte that the grammar has no place for.
    #[error("has byte 0x{byte:02x} at offset {at}, allowed are {allowed}")]
    BadByte {
        /// The byte found.
        byte: u8,
        /// Where, from 0.
        at: usize,
        /// The grammar in words.
        allowed: &'static str,
    },
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = NameError;

            fn from_str(raw: &str) -> Result<Self, NameError> {
                $check(raw)?;
                Ok(Self(raw.into()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:?})"), &self.0)
            }
        }
    };
}

name!(
    /// Scope of every name that a tenant can see: 1 to 63 bytes of `[A-Za-z0-9_.-]`, the first a letter or digit.
    /// Compared byte for byte. Source: semantics.md section 1.
    Namespace,
    |raw| check_label(raw, 63)
);
name!(
    /// A protobuf service name: the full name `shop.v1.Orders` or only its last segment. At most 255 bytes.
    ServiceName,
    |raw| check_identifiers(raw, true)
);
name!(
    /// A protobuf method name: one identifier of at most 255 bytes.
    MethodName,
    |raw| check_identifiers(raw, false)
);

name!(
    /// Name of a deployment within its namespace: a namespace's grammar, up to 128 bytes.
    DeploymentName,
    |raw| check_label(raw, 128)
);
name!(
    /// Id of a collector, its own or a peer's: a namespace's grammar. A collector makes a UUID at its first start.
    CollectorId,
    |raw| check_label(raw, 63)
);
name!(
    /// Name of a secret within its namespace: a namespace's grammar.
    SecretName,
    |raw| check_label(raw, 63)
);
name!(
    /// Name of a collection within its namespace: a namespace's grammar, up to 128 bytes. Source: semantics.md section 1.
    CollectionName,
    |raw| check_label(raw, 128)
);
name!(
    /// Name of a folder of files within its namespace: a namespace's grammar.
    FolderName,
    |raw| check_label(raw, 63)
);
name!(
    /// Name of a file within its folder: 1 to 8 parts joined by `/`, each of 1 to 255 bytes of UTF-8 and neither `.` nor
    /// `..`, without backslashes and control characters. Compared byte for byte.
    FileName,
    check_file_name
);
name!(
    /// Id of a record: any UTF-8 without NUL, 1 to 1,024 bytes, compared byte for byte. Source: semantics.md section 1.
    RecordId,
    check_record_id
);

impl Namespace {
    /// The node's own namespace. Source: semantics.md section 1.
    pub fn system() -> Self {
        Self(SYSTEM.into())
    }

    /// Whether it is that one.
    pub fn is_system(&self) -> bool {
        self.as_str() == SYSTEM
    }
}

/// Name of the node's own namespace.
const SYSTEM: &str = "system";

impl ServiceName {
    /// Whether this name means the service with this full name: equal to it, or to its last segment.
    pub fn means(&self, full_name: &str) -> bool {
        self.as_str() == full_name || full_name.rsplit('.').next() == Some(self.as_str())
    }
}

fn check_record_id(raw: &str) -> Result<(), NameError> {
    if raw.is_empty() {
        return Err(NameError::Empty);
    }
    if raw.len() > 1_024 {
        return Err(NameError::TooLong { len: raw.len(), max: 1_024 });
    }
    match raw.bytes().position(|byte| byte == 0) {
        Some(at) => Err(NameError::BadByte { byte: 0, at, allowed: "all but NUL" }),
        None => Ok(()),
    }
}

/// Parts of a file's name. 8: deeper than people sort files; every part is a folder to open, to count and to keep.
const PARTS_MAX: usize = 8;
/// Longest part. Source: NAME_MAX of Linux.
const PART_MAX: usize = 255;

fn check_file_name(raw: &str) -> Result<(), NameError> {
    const ALLOWED: &str =
        "1 to 8 parts joined by `/`, none of them `.` or `..`, without backslashes and control characters";
    let bad = |at: usize| {
        let byte = raw.as_bytes().get(at).copied().unwrap_or_default();
        Err(NameError::BadByte { byte, at, allowed: ALLOWED })
    };
    if raw.is_empty() {
        return Err(NameError::Empty);
    }
    if let Some((at, _)) = raw.char_indices().find(|(_, c)| c.is_control() || *c == '\\') {
        return bad(at);
    }
    let mut at = 0;
    for (count, part) in raw.split('/').enumerate() {
        if count == PARTS_MAX {
            return bad(at - 1);
        }
        match part {
            "" => return bad(at.min(raw.len() - 1)),
            "." | ".." => return bad(at),
            _ if part.len() > PART_MAX => return Err(NameError::TooLong { len: part.len(), max: PART_MAX }),
            _ => at += part.len() + 1,
        }
    }
    Ok(())
}

fn check_label(raw: &str, max: usize) -> Result<(), NameError> {
    if raw.is_empty() {
        return Err(NameError::Empty);
    }
    if raw.len() > max {
        return Err(NameError::TooLong { len: raw.len(), max });
    }
    for (at, byte) in raw.bytes().enumerate() {
        let inner = at > 0 && matches!(byte, b'_' | b'.' | b'-');
        if !byte.is_ascii_alphanumeric() && !inner {
            return Err(NameError::BadByte { byte, at, allowed: "letters, digits and, after the first, `_.-`" });
        }
    }
    Ok(())
}

/// Longest protobuf name that we take. protoc has no limit; gRPC paths and log lines need one.
const IDENTIFIER_MAX: usize = 255;

fn check_identifiers(raw: &str, dotted: bool) -> Result<(), NameError> {
    if raw.is_empty() {
        return Err(NameError::Empty);
    }
    if raw.len() > IDENTIFIER_MAX {
        return Err(NameError::TooLong { len: raw.len(), max: IDENTIFIER_MAX });
    }
    let mut starts = true;
    for (at, byte) in raw.bytes().enumerate() {
        let fits = match byte {
            b'.' => dotted && !starts && at + 1 < raw.len(),
            b'0'..=b'9' => !starts,
            _ => byte.is_ascii_alphabetic() || byte == b'_',
        };
        if !fits {
            let allowed = if dotted { "protobuf identifiers joined by dots" } else { "one protobuf identifier" };
            return Err(NameError::BadByte { byte, at, allowed });
        }
        starts = byte == b'.';
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_at_below_and_above_the_limit() {
        for good in ["a", "Acme", "0-9_.x", &"n".repeat(63)] {
            assert_eq!(good.parse::<Namespace>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<Namespace>(), Err(NameError::Empty));
        assert_eq!("n".repeat(64).parse::<Namespace>(), Err(NameError::TooLong { len: 64, max: 63 }));
        for bad in [".a", "-a", "a/b", "a b", "ä", "*", "a\0"] {
            assert!(matches!(bad.parse::<Namespace>(), Err(NameError::BadByte { .. })), "{bad:?}");
        }
    }

    #[test]
    fn files_have_parts_and_no_way_out() {
        let part = "p".repeat(255);
        let deep = ["a"; 8].join("/");
        for good in ["a", "a.txt", ".hidden", "...", "a/b", "ä/ö ü", "a..b", "-rf", "a:b", "C:", &part, &deep] {
            assert_eq!(good.parse::<FileName>().unwrap().as_str(), good);
        }
        let long = format!("a/{part}p");
        assert_eq!(long.parse::<FileName>(), Err(NameError::TooLong { len: 256, max: 255 }));
        assert_eq!("".parse::<FileName>(), Err(NameError::Empty));
        let deeper = format!("{deep}/a");
        for (bad, offset) in [
            ("/", 0),
            ("/a", 0),
            ("a/", 1),
            ("a//b", 2),
            (".", 0),
            ("..", 0),
            ("../a", 0),
            ("a/..", 2),
            ("a/./b", 2),
            ("a\\b", 1),
            ("a\0", 1),
            ("a\nb", 1),
            ("a\u{7f}", 1),
            ("a\u{85}", 1),
            (deeper.as_str(), 15),
        ] {
            match bad.parse::<FileName>() {
                Err(NameError::BadByte { at, .. }) => assert_eq!(at, offset, "{bad:?}"),
                other => panic!("{bad:?}: {other:?}"),
            }
        }
        assert!("..".parse::<FolderName>().is_err() && "a/b".parse::<FolderName>().is_err());
    }

    #[test]
    fn services_are_dotted_and_methods_are_not() {
        for good in ["Orders", "shop.v1.Orders", "_a.b2"] {
            assert!(good.parse::<ServiceName>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "a.", "a..b", "1a", "a.1b", "a/b", "a-b"] {
            assert!(bad.parse::<ServiceName>().is_err(), "{bad}");
        }
        assert!("Get".parse::<MethodName>().is_ok());
        assert!("a.Get".parse::<MethodName>().is_err());
        assert!("m".repeat(255).parse::<MethodName>().is_ok());
        assert!("m".repeat(256).parse::<MethodName>().is_err());
    }

    #[test]
    fn a_short_service_name_means_the_last_segment_only() {
        let short: ServiceName = "Orders".parse().unwrap();
        assert!(short.means("shop.v1.Orders") && short.means("Orders"));
        assert!(!short.means("shop.v1.MyOrders") && !short.means("Orders.v1.Shop"));
    }
}
