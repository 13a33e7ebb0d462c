//! Addresses of nodes, as people write them.

use std::net::{IpAddr, Ipv6Addr};

/// Longest, in bytes: the longest host name, and a port.
const ENDPOINT_MAX: usize = 256;

/// Whether this is `host:port`: a name, an IPv4 address, or an IPv6 address in brackets.
pub fn is_endpoint(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':').filter(|_| text.len() <= ENDPOINT_MAX) else { return false };
    let port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    let name = |host: &str| !host.is_empty() && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => name(host),
    };
    host && port
}

/// Whether what is sent to this host, an address or a name, without brackets or with, stays on this machine.
pub fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_have_a_host_and_a_port() {
        for good in ["localhost:50051", "10.0.0.1:1", "node-1.eu.example:65535", "[::1]:80"] {
            assert!(is_endpoint(good), "{good}");
        }
        let long = format!("{}:1", "h".repeat(255));
        for bad in
            ["", ":1", "host", "host:", "host:0", "host:65536", "host:+1", "a b:1", "::1:80", "http://a:1", &long]
        {
            assert!(!is_endpoint(bad), "{bad}");
        }
    }
}
