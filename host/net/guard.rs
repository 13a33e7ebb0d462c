//! Which addresses this node connects to on somebody else's word. Source: IANA's special-purpose address registries;
//! threats.md B8.

use super::Target;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address that the node does not connect to for others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this node does not connect to such an address; whoever operates it may allow its network (setting net.allow)")]
pub struct Forbidden;

/// A network: `10.0.0.0/8`, `fd00::/8`, or one address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: IpAddr,
    bits: u8,
}

impl FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no network, write it as 10.1.0.0/16 or fd00::/8");
        let (base, bits) = match text.split_once('/') {
            Some((base, bits)) => (base, Some(bits)),
            None => (text, None),
        };
        let base: IpAddr = base.parse().map_err(|_| wrong())?;
        let most = if base.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| wrong())?;
        (bits <= most).then_some(Self { base, bits }).ok_or_else(wrong)
    }
}

impl Cidr {
    /// A network whose text stands in this file.
    const fn v4(a: u8, b: u8, c: u8, d: u8, bits: u8) -> Self {
        Self { base: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), bits }
    }

    fn holds(&self, address: IpAddr) -> bool {
        let (base, address, width) = match (self.base, address) {
            (IpAddr::V4(base), IpAddr::V4(one)) => (u128::from(base.to_bits()), u128::from(one.to_bits()), 32),
            (IpAddr::V6(base), IpAddr::V6(one)) => (base.to_bits(), one.to_bits(), 128),
            _ => return false,
        };
        let away = width - u32::from(self.bits);
        // A shift by all 128 bits is none; such a network holds everything.
        base.checked_shr(away) == address.checked_shr(away)
    }
}

/// IPv4 that is not the public internet.
const SPECIAL: [Cidr; 16] = [
    Cidr::v4(0, 0, 0, 0, 8),        // this host
    Cidr::v4(10, 0, 0, 0, 8),       // private
    Cidr::v4(100, 64, 0, 0, 10),    // carrier-grade NAT, and a metadata service
    Cidr::v4(127, 0, 0, 0, 8),      // loopback
    Cidr::v4(168, 63, 129, 16, 32), // the metadata service of a cloud, at a public address
    Cidr::v4(169, 254, 0, 0, 16),   // link-local, and most metadata services
    Cidr::v4(172, 16, 0, 0, 12),    // private
    Cidr::v4(192, 0, 0, 0, 24),     // protocol assignments
    Cidr::v4(192, 0, 2, 0, 24),     // documentation
    Cidr::v4(192, 88, 99, 0, 24),   // 6to4 relays
    Cidr::v4(192, 168, 0, 0, 16),   // private
    Cidr::v4(198, 18, 0, 0, 15),    // benchmarks
    Cidr::v4(198, 51, 100, 0, 24),  // documentation
    Cidr::v4(203, 0, 113, 0, 24),   // documentation
    Cidr::v4(224, 0, 0, 0, 4),      // multicast
    Cidr::v4(240, 0, 0, 0, 4),      // reserved, broadcast
];

/// Decides which addresses may be reached.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    allowed: Vec<Cidr>,
}

impl Guard {
    /// * `allowed`: networks that may be reached whatever they are.
    pub fn new(allowed: Vec<Cidr>) -> Self {
        Self { allowed }
    }

    /// Whether the node connects to this address for others.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical(); // ::ffff:a.b.c.d is a.b.c.d
        self.allowed.iter().any(|network| network.holds(address)) || is_public(address)
    }

    /// Looks at an address that the node is given, to be kept or used later: a URL, or `host:port`. A name is not resolved
    /// here; whoever connects asks [`Guard::admits`] of what it resolves to.
    ///
    /// * errors: it is none, or is in itself one that nobody is connected to.
    pub fn check(&self, address: &str) -> Result<(), Forbidden> {
        let target = match address.contains("://") {
            true => Target::parse(address),
            false if address.contains(['/', '\\', '?', '#', '@']) => return Err(Forbidden),
            false => Target::parse(&format!("http://{address}/")),
        };
        let target = target.map_err(|_| Forbidden)?;
        match target.literal() {
            Some(literal) if self.admits(literal) => Ok(()),
            Some(_) => Err(Forbidden),
            None if is_local_name(target.host()) && !self.admits(Ipv4Addr::LOCALHOST.into()) => Err(Forbidden),
            None => Ok(()),
        }
    }
}

/// Names that mean this machine whatever a resolver says. Source: RFC 6761 section 6.3.
fn is_local_name(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    host == "localhost" || host.ends_with(".localhost")
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(_) => !SPECIAL.iter().any(|network| network.holds(address)),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

/// Only what is handed out as global unicast, without the ways in which an IPv4 address can be written as one.
fn is_public_v6(address: Ipv6Addr) -> bool {
    match address.segments() {
        // NAT64: reaches the IPv4 address at its end. Source: RFC 6052.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let v4 = Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
            is_public(v4.into())
        }
        [0x2001, second, ..] if second < 0x200 => false, // Teredo, benchmarks, ORCHID and the like
        [0x2001, 0xdb8, ..] => false,                    // documentation
        [0x2002, ..] => false,                           // 6to4
        [0x3fff, second, ..] if second < 0x1000 => false, // documentation
        [first, ..] => first & 0xe000 == 0x2000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h09_m05_only_the_public_internet_is_reached() {
        let guard = Guard::default();
        for public in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.1",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "::ffff:8.8.8.8",
            "64:ff9b::808:808",
            "2a00::1",
        ] {
            assert!(guard.admits(public.parse().unwrap()), "{public}");
        }
        for refused in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "10.255.255.255",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::8.8.8.8",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::ffff:0:127.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::808:808",
            "100::1",
            "2001::1",
            "2001:0:4136:e378:8000:63bf:3fff:fdd2",
            "2001:db8::1",
            "2002:7f00:1::",
            "2002:808:808::",
            "3fff::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!guard.admits(refused.parse().unwrap()), "{refused}");
        }
    }

    #[test]
    fn m05_addresses_that_the_node_is_given() {
        let guard = Guard::default();
        for good in ["https://api.example.com/x", "api.example.com:443", "8.8.8.8:53", "http://[2606:4700::1111]/"] {
            assert_eq!(guard.check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ":80",
            "localhost:1",
            "LOCALHOST:1",
            "a.localhost:1",
            "localhost.:1",
            "127.0.0.1:1",
            "127.1:1",
            "0x7f.1:1",
            "0177.0.0.1:1",
            "2130706433:1",
            "http://0/",
            "http://%31%32%37.0.0.1/",
            "http://①②⑦.0.0.1/",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "http://169.254.169.254/latest/meta-data",
            "http://u:p@example.com/",
            "http://u@example.com/",
            "unix:/var/run/docker.sock",
            "file:///etc/passwd",
            "ftp://example.com/",
            "example.com:80\r\nHost: x",
            "http://exa mple.com/",
            "gopher://example.com/",
            "http://[fe80::1%25eth0]/",
        ] {
            assert_eq!(guard.check(bad), Err(Forbidden), "{bad}");
        }
    }

    #[test]
    fn an_operator_may_open_a_network_and_no_more() {
        let guard = Guard::new(vec!["127.0.0.1/32".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for open in ["127.0.0.1", "::ffff:127.0.0.1", "fd12::1"] {
            assert!(guard.admits(open.parse().unwrap()), "{open}");
        }
        for closed in ["127.0.0.2", "::1", "fc00::1", "10.0.0.1"] {
            assert!(!guard.admits(closed.parse().unwrap()), "{closed}");
        }
        let all = Guard::new(vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()]);
        assert!(all.admits("10.0.0.1".parse().unwrap()) && all.admits("::1".parse().unwrap()));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/-1", "a/8", "10.0.0/8"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
    }
}
