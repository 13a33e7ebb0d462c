//! Where a request goes.

use super::FetchError;
use std::net::IpAddr;
use url::{Host, Url};

/// Longest URL. 8 KiB: what servers take.
const URL_MAX: usize = 8 << 10;

/// A URL of a web server, in the one form that it is compared, resolved and connected in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    url: Url,
    host: String,
    port: u16,
}

impl Target {
    /// Reads a URL. Percent signs, letters of other scripts and odd forms of IPv4 addresses (`0x7f.1`) are read as browsers
    /// read them, so that a host has one name only. Source: url.spec.whatwg.org.
    ///
    /// * errors: `Request`: no http or https URL, or one with a user or password.
    pub fn parse(text: &str) -> Result<Self, FetchError> {
        let wrong = |problem: &str| Err(FetchError::Request(format!("the url {problem}")));
        if text.len() > URL_MAX {
            return wrong("is longer than 8 KiB");
        }
        // The parser would leave such bytes out in silence.
        if text.bytes().any(|byte| byte.is_ascii_control() || byte == b' ') {
            return wrong("has spaces or control characters in it");
        }
        let Ok(url) = Url::parse(text) else { return wrong("is none") };
        if !matches!(url.scheme(), "http" | "https") {
            return wrong("must begin with http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return wrong("must not hold a user or password; send a header with a secret");
        }
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return wrong("names no host");
        };
        if port == 0 {
            return wrong("names port 0");
        }
        Ok(Self { host: host.to_owned(), port, url })
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &str {
        self.url.scheme()
    }

    /// Name in lower case and ASCII, or address; IPv6 in brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Never 0.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host where it is an address.
    pub(super) fn literal(&self) -> Option<IpAddr> {
        match self.url.host() {
            Some(Host::Ipv4(address)) => Some(address.into()),
            Some(Host::Ipv6(address)) => Some(address.into()),
            Some(Host::Domain(_)) | None => None,
        }
    }

    /// What stands in the `Host` header: with the port where it is not the scheme's own.
    pub(super) fn authority(&self) -> String {
        match self.url.port() {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// Path and query, as they go over the wire.
    pub(super) fn path(&self) -> String {
        let query = self.url.query().map(|query| format!("?{query}")).unwrap_or_default();
        format!("{}{query}", self.url.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_one_form() {
        let parts = |text: &str| {
            let target = Target::parse(text).unwrap();
            (target.scheme().to_owned(), target.host().to_owned(), target.port(), target.authority(), target.path())
        };
        let of = |scheme: &str, host: &str, port, authority: &str, path: &str| {
            (scheme.to_owned(), host.to_owned(), port, authority.to_owned(), path.to_owned())
        };
        assert_eq!(parts("HTTPS://API.Example.com"), of("https", "api.example.com", 443, "api.example.com", "/"));
        assert_eq!(parts("http://a:80/x?y#z"), of("http", "a", 80, "a", "/x?y"));
        assert_eq!(parts("http://a:8080/%2e%2e/b"), of("http", "a", 8080, "a:8080", "/b"));
        assert_eq!(
            parts("https://bücher.example/"),
            of("https", "xn--bcher-kva.example", 443, "xn--bcher-kva.example", "/")
        );
        assert_eq!(parts("http://0x7f.1/"), of("http", "127.0.0.1", 80, "127.0.0.1", "/"));
        assert_eq!(parts("http://[::1]:1/"), of("http", "[::1]", 1, "[::1]:1", "/"));
        assert_eq!(parts("http://a\\@b/").1, "a", "a backslash is a slash");
        for bad in ["", "a", "//a", "https:", "http://", "http://a:0/", "http://a b/", "http://a/\r\nX: y"] {
            assert!(Target::parse(bad).is_err(), "{bad}");
        }
        assert!(Target::parse(&format!("http://a/{}", "x".repeat(URL_MAX - 9))).is_ok());
        assert!(Target::parse(&format!("http://a/{}", "x".repeat(URL_MAX - 8))).is_err());
    }
}
