//! The other end of a socket to the node: packets with files beside them, and word of ended children.

use super::super::protocol::{FILES_MAX, PACKET_MAX};
use super::sys;
use rustix::cmsg_space;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A socket to the node, and this process' children.
pub(super) struct Wire {
    socket: BorrowedFd<'static>,
    children: OwnedFd,
    packet: Vec<u8>,
}

/// What happened.
pub(super) enum Event<T> {
    /// The node says something, with files.
    Packet(T, Vec<OwnedFd>),
    /// Children may have ended.
    Children,
    /// The node is gone, or wants no more.
    Closed,
}

impl Wire {
    /// From now on children that end are told here.
    pub(super) fn new(socket: BorrowedFd<'static>) -> io::Result<Self> {
        Ok(Self { socket, children: sys::child_events()?, packet: vec![0; PACKET_MAX] })
    }

    /// Waits.
    ///
    /// * errors: what came is no packet of this protocol; there is nothing to go on with.
    pub(super) fn next<T: DeserializeOwned>(&mut self) -> io::Result<Event<T>> {
        if sys::wait_readable(self.children.as_fd(), self.socket)? {
            rustix::io::read(&self.children, &mut [0; sys::CHILD_EVENT])?;
            return Ok(Event::Children);
        }
        let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(FILES_MAX))];
        let mut beside = RecvAncillaryBuffer::new(&mut space);
        let into = &mut [IoSliceMut::new(&mut self.packet)];
        let got = match recvmsg(self.socket, into, &mut beside, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::CONNRESET) => return Ok(Event::Closed),
            other => other?,
        };
        let files = beside.drain().flat_map(|one| match one {
            RecvAncillaryMessage::ScmRights(files) => files.collect(),
            _ => Vec::new(),
        });
        let files: Vec<OwnedFd> = files.collect();
        if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
            return Err(unexpected());
        }
        match self.packet.get(..got.bytes).unwrap_or_default() {
            [] => Ok(Event::Closed),
            packet => Ok(Event::Packet(serde_json::from_slice(packet)?, files)),
        }
    }

    /// Sends one packet; waits if the node does not read.
    pub(super) fn send(&self, packet: &impl Serialize) -> io::Result<()> {
        send(self.socket, packet)
    }
}

/// Sends one packet on any socket.
pub(super) fn send(socket: impl AsFd, packet: &impl Serialize) -> io::Result<()> {
    let bytes = serde_json::to_vec(packet)?;
    sendmsg(socket, &[IoSlice::new(&bytes)], &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The node says what this protocol does not have.
pub(super) fn unexpected() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the node and its launcher are not of the same version")
}
