//! N04, N05 and N06: questions that the kernel must not answer.
//!
//! The list of questions is the hostile binary's own (`List`). A jail may kill for one instead of refusing it, so there
//! each gets a call of its own.

use super::{Host, Sin, host, on_every_native_executor};
use crate::contract::{How, marker};
use crate::support::*;
use collector::rpc::pb::serve_request::ServiceDef;
use futures_util::StreamExt as _;
use std::io::ErrorKind;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use tonic::Code;

on_every_native_executor! {
    n04_n05_n06_nothing_else_is_allowed,
    n04_n05_nobody_is_seen_and_nobody_is_reached,
}

/// Questions under way at once.
const AT_ONCE: usize = 8;

/// A jail's root is there, with nothing in it.
const IN_A_JAIL: [&str; 3] = ["stat /", "stat .", "stat .."];
/// A container has a system of its own, which is as empty: its processes (an init, and what it forks), a small `/tmp`
/// that runs no programs, sockets that lead nowhere, and memory that it may turn into code.
const IN_A_CONTAINER: [&str; 43] = [
    "open /",
    "open .",
    "open ..",
    "open /dev/null",
    "open /proc",
    "open /proc/1/cmdline",
    "open /proc/self/environ",
    "open /proc/self/exe",
    "open /proc/self/maps",
    "open /sys",
    "open /tmp",
    "stat /",
    "stat .",
    "stat ..",
    "stat /dev/null",
    "stat /proc",
    "stat /proc/1/cmdline",
    "stat /proc/self/environ",
    "stat /proc/self/exe",
    "stat /proc/self/maps",
    "stat /sys",
    "stat /tmp",
    "create in /tmp",
    "readlink /proc/self/exe",
    "kill the parent",
    "tgkill the parent",
    "pidfd_open the parent",
    "fork",
    "vfork by clone",
    "socket 1 stream",
    "socket 1 datagram",
    "socket 1 raw",
    "socket 1 sequenced",
    "socket 2 stream",
    "socket 2 datagram",
    "socket 10 stream",
    "socket 10 datagram",
    "socketpair",
    "inotify_init1",
    "map RWX",
    "map shared",
    "written memory made executable",
    "own code made writable",
];

async fn n04_n05_n06_nothing_else_is_allowed(how: How) {
    let host = host!(how);
    let marker = marker();
    let names = host.commit(Sin::new("List")).await.unwrap();
    assert!(names.lines().count() > 300, "{names}");
    // In the place of the hostile program another would run: those are asked one by one.
    let (replacing, others): (Vec<&str>, Vec<&str>) = names.lines().partition(|name| name.starts_with("execve "));
    let wrong: Vec<String> = match how {
        How::Container | How::ColdContainer => {
            let said = host.commit(Sin::new("Try").input(others.join("\n")).marked(&marker)).await.unwrap();
            assert_eq!(said.lines().count(), others.len());
            let worked = said.lines().filter_map(|line| line.strip_suffix(": ok"));
            worked.filter(|name| !IN_A_CONTAINER.contains(name)).map(str::to_owned).collect()
        }
        _ => {
            let one_by_one = names.lines().filter(|name| !IN_A_JAIL.contains(name));
            let asked = one_by_one.map(|name| ask(&host, name, &marker));
            futures_util::stream::iter(asked).buffer_unordered(AT_ONCE).filter_map(async |wrong| wrong).collect().await
        }
    };
    assert!(wrong.is_empty(), "{} are allowed: {wrong:#?}", wrong.len());
    for name in replacing.into_iter().filter(|name| !name.ends_with("/plugin") && !name.ends_with("/exe")) {
        assert_eq!(ask(&host, name, &marker).await, None);
    }
    host.is_unharmed(&marker).await;
}

/// Asks one question, which is killed for or answered with an error.
async fn ask(host: &Host, name: &str, marker: &str) -> Option<String> {
    match host.commit(Sin::new("Try").input(name).marked(marker)).await {
        Ok(said) => {
            let outcome = said.strip_prefix(name).and_then(|rest| rest.strip_prefix(": "));
            (outcome.is_none_or(|outcome| outcome == "ok\n")).then(|| format!("{name} said {said:?}"))
        }
        Err(status) => {
            let killed =
                verdict(&status) == (Code::Unknown, "GUEST_EXIT".into()) && status.message().contains("SIGSYS");
            (!killed).then(|| format!("{name} ended in {status:?}"))
        }
    }
}

async fn n04_n05_nobody_is_seen_and_nobody_is_reached(how: How) {
    let host = host!(how);
    let marker = marker();
    sees_nothing(&host, &marker).await;
    reaches_nobody(&host, &marker).await;
    host.is_unharmed(&marker).await;
}

/// Nothing but its call.
async fn sees_nothing(host: &Host, marker: &str) {
    let how = host.how;
    let open = host.commit(Sin::new("Descriptors").marked(marker)).await.unwrap();
    assert_eq!(open, "0 1 2\n");
    let contract = ServiceDef::ServiceBinary(how.bytes("contract"));
    let given = host.commit(Sin::new("Given").code(contract).marked(marker)).await.unwrap();
    let names: Vec<&str> =
        given.lines().skip(4).filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    let engines = ["HOME", "HOSTNAME", "PATH"];
    let known = |name: &&str| name.starts_with("COLLECTOR_") || (how.is_container() && engines.contains(name));
    assert!(names.iter().all(known) && names.len() >= 4, "{given}");
}

async fn reaches_nobody(host: &Host, marker: &str) {
    let tcp = TcpListener::bind("0.0.0.0:0").unwrap();
    let udp = UdpSocket::bind("0.0.0.0:0").unwrap();
    let unix = UnixListener::bind_addr(&SocketAddr::from_abstract_name(marker).unwrap()).unwrap();
    tcp.set_nonblocking(true).unwrap();
    udp.set_nonblocking(true).unwrap();
    unix.set_nonblocking(true).unwrap();
    let (tcp_port, udp_port) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
    let mut addresses = vec![format!("abstract {marker}")];
    for ip in ["127.0.0.1", "172.17.0.1", "169.254.169.254"] {
        addresses.extend([format!("tcp {ip}:{tcp_port}"), format!("udp {ip}:{udp_port}")]);
    }
    // A container refuses and goes on; a jail may kill for the first.
    let calls = if host.how.is_container() { vec![addresses.join("\n")] } else { addresses };
    for call in calls {
        match host.commit(Sin::new("Connect").input(call).marked(marker)).await {
            // A datagram into an empty network is lost, and nobody is told.
            Ok(said) => assert!(said.lines().all(|line| !line.ends_with(": ok") || line.starts_with("udp ")), "{said}"),
            Err(status) => assert!(status.message().contains("SIGSYS"), "{status:?}"),
        }
    }
    assert_eq!(tcp.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(udp.recv_from(&mut [0; 16]).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(unix.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}
