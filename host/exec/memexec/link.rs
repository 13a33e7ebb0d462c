//! The node's end of a socket to the launcher or to a jail: whole packets, with files beside them.

use super::protocol::{FILES_MAX, PACKET_MAX};
use rustix::cmsg_space;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixDatagram;

/// Largest packet that comes back: a few words of why something failed. More is no packet of ours.
const REPLY_MAX: usize = 4 << 10;

/// Whether a failed packet means that nobody is there to get it.
pub(super) fn is_gone(why: &io::Error) -> bool {
    matches!(why.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected)
}

/// One end of a socket. Dropping it ends whoever has the other.
///
/// Tokio knows datagram sockets and no socket of packets; they are polled, sent to and received from in the same way.
#[derive(Debug)]
pub(super) struct Link(UnixDatagram);

impl Link {
    /// A new socket: the node's end, and the other one, which blocks.
    pub(super) fn pair() -> io::Result<(Self, OwnedFd)> {
        let (own, other) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        rustix::io::ioctl_fionbio(&own, true)?;
        // Room for the largest packet whatever the system's default (sysctl net.core.wmem_default).
        rustix::net::sockopt::set_socket_send_buffer_size(&own, 2 * PACKET_MAX)?;
        Ok((Self(UnixDatagram::from_std(own.into())?), other))
    }

    /// Sends one packet.
    ///
    /// * errors: `BrokenPipe` or `ConnectionReset` if nobody is there any more.
    /// * cancel: safe; the packet went out whole or not at all.
    pub(super) async fn send(&self, packet: &impl Serialize, files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = serde_json::to_vec(packet)?;
        let send = || {
            let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_MAX))];
            let mut beside = SendAncillaryBuffer::new(&mut space);
            if !files.is_empty() && !beside.push(SendAncillaryMessage::ScmRights(files)) {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            rustix::net::sendmsg(&self.0, &[io::IoSlice::new(&bytes)], &mut beside, SendFlags::NOSIGNAL)?;
            Ok(())
        };
        self.0.async_io(Interest::WRITABLE, send).await
    }

    /// The next packet; `None` once the other end is closed.
    ///
    /// * cancel: safe; no packet is lost.
    pub(super) async fn receive<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        let mut packet = [0; REPLY_MAX];
        let length = match self.0.recv(&mut packet).await {
            Err(why) if why.kind() == io::ErrorKind::ConnectionReset => 0,
            other => other?,
        };
        match packet.get(..length).unwrap_or_default() {
            [] => Ok(None),
            packet => Ok(Some(serde_json::from_slice(packet)?)),
        }
    }

    /// Tells the other end that nothing more comes, so that it ends; what it still says can be received.
    pub(super) fn close(&self) {
        if let Err(why) = rustix::net::shutdown(&self.0, Shutdown::Write) {
            tracing::debug!(%why, "the other end of a jail's socket is gone already");
        }
    }
}
