//! Reaching others: sockets of every family, connections.

#![allow(unsafe_code, reason = "asks for sockets that the standard library has no types for")]

use crate::attempt::{Attempt, check, outcome};
use std::io;
use std::net::{TcpStream, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

/// One above the last family. Source: linux/socket.h, AF_MAX.
const FAMILIES: i32 = 46;
/// Source: socket(2).
const TYPES: [(&str, i32); 5] = [
    ("stream", libc::SOCK_STREAM),
    ("datagram", libc::SOCK_DGRAM),
    ("raw", libc::SOCK_RAW),
    ("sequenced", libc::SOCK_SEQPACKET),
    ("reliable", libc::SOCK_RDM),
];
const PATIENCE: Duration = Duration::from_secs(2);

pub(crate) fn attempts() -> Vec<Attempt> {
    let of_family = |family| TYPES.map(|(name, kind)| (format!("socket {family} {name}"), family, kind));
    let sockets = (0..FAMILIES).flat_map(of_family);
    let mut all: Vec<Attempt> =
        sockets.map(|(name, family, kind)| Attempt::new(name, move || socket(family, kind))).collect();
    all.push(Attempt::new("socketpair", || UnixStream::pair().map(drop)));
    all
}

fn socket(family: i32, kind: i32) -> io::Result<()> {
    // SAFETY: numbers only; the descriptor is closed once.
    unsafe {
        let socket = check(libc::socket(family, kind | libc::SOCK_CLOEXEC, 0))?;
        check(libc::close(i32::try_from(socket).unwrap_or(-1))).map(drop)
    }
}

/// Connects to every address, a line each: `tcp 127.0.0.1:80`, `udp 127.0.0.1:53`, `abstract name`.
pub(crate) fn connect(addresses: &str) -> String {
    addresses.lines().map(|line| format!("{line}: {}\n", outcome(&connect_one(line)))).collect()
}

fn connect_one(line: &str) -> io::Result<()> {
    let (kind, address) = line.split_once(' ').unwrap_or_default();
    match kind {
        "tcp" => {
            let address = address.parse().map_err(io::Error::other)?;
            TcpStream::connect_timeout(&address, PATIENCE).map(drop)
        }
        "udp" => UdpSocket::bind("0.0.0.0:0")?.send_to(b"hello", address).map(drop),
        "abstract" => UnixStream::connect_addr(&SocketAddr::from_abstract_name(address)?).map(drop),
        other => Err(io::Error::other(format!("no address: {other:?}"))),
    }
}
