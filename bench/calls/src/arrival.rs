//! When datagrams came, by the kernel's clock: a generator with much to do reads them later.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use mio::net::UdpSocket;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt::ReceiveTimestampns,
};

/// A datagram that was read.
pub struct Datagram {
    pub length: usize,
    pub source: SocketAddr,
    /// When it came, in nanoseconds since the Unix epoch; `None` where the kernel does not say.
    pub at: Option<u64>,
}

/// Has the kernel note when datagrams come.
pub fn ask(socket: &impl AsFd) -> io::Result<()> {
    Ok(setsockopt(socket, ReceiveTimestampns, &true)?)
}

/// Reads a datagram.
pub fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Datagram> {
    let mut parts = [io::IoSliceMut::new(buffer)];
    let mut control = nix::cmsg_space!(nix::sys::time::TimeSpec);
    let message = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
    let at = message.cmsgs()?.find_map(|part| match part {
        ControlMessageOwned::ScmTimestampns(at) => {
            Some(u64::try_from(at.tv_sec()).ok()? * 1_000_000_000 + u64::try_from(at.tv_nsec()).ok()?)
        }
        _ => None,
    });
    let address = message.address.as_ref();
    let v4 = address.and_then(|address| address.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into())));
    let source = v4.or_else(|| address?.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())));
    let source = source.ok_or_else(|| io::Error::other("a datagram from nowhere"))?;
    Ok(Datagram { length: message.bytes, source, at })
}
