//! The UDP sockets: many datagrams with each call of the system, in both directions.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};

use mio::net::UdpSocket;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use super::metrics::MediaMetrics;

/// What the system may hold for us in each direction, in bytes.
const SYSTEM_BUFFER: usize = 4 * 1024 * 1024;
/// Room for one receive of datagrams joined by the system.
const SLOT: usize = 64 * 1024;
/// The most bytes of one send of joined datagrams.
const MAX_JOINED: usize = 60_000;

/// A bound socket.
pub struct UdpPort {
    pub socket: UdpSocket,
    state: UdpSocketState,
    pub local: SocketAddr,
}

impl UdpPort {
    /// Binds `address`.
    pub fn bind(address: SocketAddr) -> io::Result<UdpPort> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        let socket: std::net::UdpSocket = socket.into();
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        // The system may give less; that is enough for most.
        let _ = state.set_recv_buffer_size(UdpSockRef::from(&socket), SYSTEM_BUFFER);
        let _ = state.set_send_buffer_size(UdpSockRef::from(&socket), SYSTEM_BUFFER);
        let local = socket.local_addr()?;
        Ok(UdpPort { socket: UdpSocket::from_std(socket), state, local })
    }

    /// Receives into `buffers`; how many of them were filled.
    pub fn receive(&self, buffers: &mut Buffers) -> io::Result<usize> {
        let mut slots = buffers.bytes.chunks_mut(SLOT).map(IoSliceMut::new).collect::<Vec<_>>();
        self.state.recv(UdpSockRef::from(&self.socket), &mut slots, &mut buffers.metas)
    }

    fn send(&self, run: &Run, metrics: &MediaMetrics) {
        let transmit = Transmit {
            destination: run.destination,
            ecn: None,
            contents: &run.bytes,
            segment_size: (run.count > 1).then_some(run.segment),
            src_ip: run.source,
        };
        // What finds no room is lost, as it would be on the way.
        if self.state.try_send(UdpSockRef::from(&self.socket), &transmit).is_ok() {
            metrics.datagrams_out.add(run.count as u64);
            metrics.bytes_out.add(run.bytes.len() as u64);
        }
    }
}

/// Where datagrams are received.
pub struct Buffers {
    bytes: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Buffers {
    pub fn new() -> Buffers {
        Buffers { bytes: vec![0; SLOT * BATCH_SIZE], metas: [RecvMeta::default(); BATCH_SIZE] }
    }

    /// The datagrams of the first `filled` slots: source, the address they came to, contents.
    pub fn datagrams(&self, filled: usize) -> impl Iterator<Item = (SocketAddr, Option<IpAddr>, &[u8])> {
        self.bytes.chunks(SLOT).zip(&self.metas).take(filled).flat_map(|(slot, meta)| {
            let received = slot.get(..meta.len).unwrap_or_default();
            received.chunks(meta.stride.max(1)).map(move |datagram| (meta.addr, meta.dst_ip, datagram))
        })
    }
}

/// Datagrams of one size to one receiver, the last perhaps smaller: one call of the system.
struct Run {
    bytes: Vec<u8>,
    destination: SocketAddr,
    source: Option<IpAddr>,
    segment: usize,
    count: usize,
}

/// Joins datagrams into runs and sends them.
pub struct Sender {
    run: Run,
    /// The addresses told to clients that are this machine's: answers have to leave from them.
    own: Vec<IpAddr>,
}

impl Sender {
    pub fn new(own: Vec<IpAddr>) -> Sender {
        let destination = SocketAddr::from(([0, 0, 0, 0], 0));
        let bytes = Vec::with_capacity(MAX_JOINED);
        Sender { run: Run { bytes, destination, source: None, segment: 0, count: 0 }, own }
    }

    /// Sends one datagram, now or with those that follow.
    pub fn push(
        &mut self,
        ports: &[UdpPort],
        source: SocketAddr,
        destination: SocketAddr,
        contents: &[u8],
        metrics: &MediaMetrics,
    ) {
        let source = Some(source.ip()).filter(|ip| self.own.contains(ip));
        let run = &mut self.run;
        let segments = port_for(ports, run.destination).map_or(1, |port| port.state.max_gso_segments());
        let joins = run.count > 0
            && run.count < segments
            && run.destination == destination
            && run.source == source
            && run.bytes.len() == run.segment.saturating_mul(run.count)
            && contents.len() <= run.segment
            && run.bytes.len() + contents.len() <= MAX_JOINED;
        if !joins {
            self.flush(ports, metrics);
            let run = &mut self.run;
            (run.destination, run.source) = (destination, source);
            run.segment = contents.len();
        }
        self.run.bytes.extend_from_slice(contents);
        self.run.count += 1;
    }

    /// Sends one datagram from whichever address the system chooses.
    pub fn answer(&mut self, ports: &[UdpPort], destination: SocketAddr, contents: &[u8], metrics: &MediaMetrics) {
        self.flush(ports, metrics);
        let run = &mut self.run;
        (run.destination, run.source, run.segment, run.count) = (destination, None, contents.len(), 1);
        run.bytes.extend_from_slice(contents);
        self.flush(ports, metrics);
    }

    /// Sends what was held back to be joined.
    pub fn flush(&mut self, ports: &[UdpPort], metrics: &MediaMetrics) {
        if self.run.count > 0
            && let Some(port) = port_for(ports, self.run.destination)
        {
            port.send(&self.run, metrics);
        }
        self.run.bytes.clear();
        self.run.count = 0;
    }
}

fn port_for(ports: &[UdpPort], destination: SocketAddr) -> Option<&UdpPort> {
    ports.iter().find(|port| port.local.is_ipv4() == destination.is_ipv4())
}
