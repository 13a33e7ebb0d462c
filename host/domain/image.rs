//! Names of container images, parsed once.

use super::Digest;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A container image by digest: `<repository>@sha256:<64 hex digits>`. A tag names something else tomorrow, so there is
/// none. Source: design.md section 2; OCI distribution specification, "Pulling manifests".
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ImageRef {
    repository: Arc<str>,
    digest: Digest,
}

/// Why a text names no image that may run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No `@sha256:<digest>` at its end: a tag, or nothing.
    #[error("names no image by digest; use image:<repository>@sha256:<64 hex digits>")]
    NoDigest,
    /// The part before the digest is no repository name.
    #[error("has no repository name before the digest: lower-case letters, digits and . _ - / and a host's :port")]
    Repository,
}

/// Longest repository name. 255: the distribution specification's own advice.
const REPOSITORY_MAX: usize = 255;

impl ImageRef {
    /// The repository with its registry: `registry.example:5000/team/tool`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Digest of the image's manifest.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

impl FromStr for ImageRef {
    type Err = ImageError;

    fn from_str(raw: &str) -> Result<Self, ImageError> {
        let (repository, hex) = raw.split_once("@sha256:").ok_or(ImageError::NoDigest)?;
        let digest = hex.parse().map_err(|_bad| ImageError::NoDigest)?;
        if !is_repository(repository) {
            return Err(ImageError::Repository);
        }
        Ok(Self { repository: repository.into(), digest })
    }
}

/// Whether it names a repository: path components of `[a-z0-9]` with single separators between; the first may be a host
/// with a port.
pub fn is_repository(name: &str) -> bool {
    let fits = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b))
            && part.starts_with(|c: char| c.is_ascii_alphanumeric())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
    };
    let (host, rest) = match name.split_once('/') {
        Some((host, rest)) => (host, Some(rest)),
        None => (name, None),
    };
    let host_fits = match (host.split_once(':'), rest) {
        (Some((host, port)), Some(_)) => fits(host) && is_port(port),
        (Some(_), None) => false, // a tag
        (None, _) => fits(host),
    };
    name.len() <= REPOSITORY_MAX && host_fits && rest.is_none_or(|rest| rest.split('/').all(fits))
}

/// 1 to 65,535 in digits, as registries write it: one place has one name.
fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0') && text.parse::<u16>().is_ok()
}

impl fmt::Display for ImageRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@sha256:{}", self.repository, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k03_images_go_by_digest_only() {
        let hex = "0".repeat(64);
        for good in ["tool", "team/tool", "registry.example:5000/team/my-tool", "127.0.0.1:5000/a.b/c_d"] {
            let image: ImageRef = format!("{good}@sha256:{hex}").parse().unwrap();
            assert_eq!((image.repository(), image.to_string()), (good, format!("{good}@sha256:{hex}")));
        }
        for bad in ["tool", "tool:latest", "tool@sha256:12", "tool@md5:00"] {
            assert_eq!(bad.parse::<ImageRef>(), Err(ImageError::NoDigest), "{bad}");
        }
        for bad in ["", "Tool", "tool:latest", "/tool", "tool/", "a//b", "a/../b", "-a", "a b", "a/b:c"] {
            assert_eq!(format!("{bad}@sha256:{hex}").parse::<ImageRef>(), Err(ImageError::Repository), "{bad}");
        }
        let at = |port: &str| format!("host:{port}/a@sha256:{hex}").parse::<ImageRef>();
        for good in ["1", "80", "65535"] {
            assert!(at(good).is_ok(), "{good}");
        }
        for bad in ["", "port", "0", "00080", "080", "+5000", "-1", "65536", "100000", "5 ", "٥"] {
            assert_eq!(at(bad), Err(ImageError::Repository), "{bad}");
        }
    }
}
