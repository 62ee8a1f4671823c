//! Where datagrams are received.

use std::io::IoSliceMut;

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSockRef};

use super::sockets::Socket;

/// Room for one datagram of any size, or for several that the kernel has put together.
const SIZE: usize = 64 * 1024;

/// The buffers of one batch, used for all sockets in turn.
pub(super) struct Buffers {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
    filled: usize,
}

impl Buffers {
    pub(super) fn new() -> Buffers {
        Buffers { bytes: vec![0; SIZE * BATCH_SIZE], metas: [RecvMeta::default(); BATCH_SIZE], filled: 0 }
    }

    /// Receives a batch; whether there may be more. When not, the next datagram makes the socket readable again.
    pub(super) fn receive(&mut self, socket: &Socket) -> bool {
        let mut chunks = self.bytes.chunks_exact_mut(SIZE);
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
        let received = socket.state.recv(UdpSockRef::from(&socket.inner), &mut slices, &mut self.metas);
        // An error is that there is nothing, or news of a datagram sent earlier that did not arrive.
        self.filled = received.unwrap_or(0);
        self.filled == BATCH_SIZE
    }

    /// What has been received.
    pub(super) fn datagrams(&self) -> impl Iterator<Item = (&RecvMeta, &[u8])> {
        let filled = self.metas.iter().zip(self.bytes.chunks_exact(SIZE)).take(self.filled);
        filled.flat_map(|(meta, bytes)| {
            let bytes = bytes.get(..meta.len).unwrap_or_default();
            bytes.chunks(meta.stride.max(1)).map(move |datagram| (meta, datagram))
        })
    }
}
