//! One connection of a client, TCP or TLS, of which the thread reads and to which it writes without waiting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry};
use rustls::ServerConnection;

use super::places::Place;
use super::source::Source;
use crate::Transport;
use crate::core::Link;

/// How many bytes are read of a connection before another one has its turn.
const READ: usize = 8 * 1024;
/// How many bytes may wait for a client that reads slowly. More frames are dropped, but for one that is alone.
const MAX_WAITING: usize = 64 * 1024;
/// How long a connection may be without an allocation: whoever wants a relay address asks for it at once.
const IDLE: Duration = Duration::from_secs(30);
/// How long a client may leave what was sent to it unread before its connection is closed.
const STUCK: Duration = Duration::from_secs(10);

/// A connection that has been made, its handshake done if it is over TLS.
pub(crate) struct Connected {
    pub(super) socket: std::net::TcpStream,
    pub(super) remote: SocketAddr,
    /// With TLS.
    pub(super) session: Option<Box<ServerConnection>>,
    pub(super) place: Place,
}

/// What was read of a connection; one for all, in turn.
pub(super) struct Incoming {
    /// As it came from the socket.
    raw: Vec<u8>,
    /// Frames, whole but for the last one.
    frames: Vec<u8>,
}

impl Incoming {
    pub(super) fn new() -> Incoming {
        Incoming { raw: vec![0; READ], frames: Vec::new() }
    }

    pub(super) fn frames(&self) -> &[u8] {
        &self.frames
    }
}

/// What may follow what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There may be more at once.
    More,
    /// An event tells when there is more.
    Later,
    /// Nothing: the client has ended the connection.
    End,
}

/// A connection.
pub(super) struct Stream {
    pub(super) link: Link,
    socket: TcpStream,
    session: Option<Box<ServerConnection>>,
    /// The beginning of a frame of which the rest has not come.
    partial: Vec<u8>,
    /// Frames that have not been written.
    waiting: Vec<u8>,
    /// Whether the socket takes nothing more until an event tells.
    blocked: bool,
    /// Whether it is in the thread's list of what to read.
    readable: bool,
    /// Whether the client's end has been announced, perhaps with data before it.
    ending: bool,
    /// Since when it has had no allocation.
    idle_since: Duration,
    /// Whether something was written since the last look.
    moved: bool,
    /// When all was written, or something at least.
    moved_at: Duration,
    _place: Place,
}

impl Stream {
    /// Has the connection polled. It is to be read at once, for TLS may have brought data with its handshake.
    pub(super) fn register(
        connected: Connected,
        slot: usize,
        registry: &Registry,
        now: Duration,
    ) -> io::Result<Stream> {
        let Connected { socket, remote, session, place } = connected;
        let mut socket = TcpStream::from_std(socket);
        // An event tells only what has changed, so that room for writing is no news as long as there is some.
        registry.register(&mut socket, Source::Stream(slot).token(), Interest::READABLE | Interest::WRITABLE)?;
        let transport = if session.is_some() { Transport::Tls } else { Transport::Tcp };
        Ok(Stream {
            link: Link::Stream { connection: slot, remote, transport },
            socket,
            session,
            partial: Vec::new(),
            waiting: Vec::new(),
            blocked: false,
            readable: true,
            ending: false,
            idle_since: now,
            moved: false,
            moved_at: now,
            _place: place,
        })
    }

    /// Takes note of an event; whether that makes the connection readable, which it was not.
    pub(super) fn notice(&mut self, event: &Event) -> bool {
        if event.is_writable() && std::mem::take(&mut self.blocked) {
            self.write();
        }
        self.ending |= event.is_read_closed();
        let readable = event.is_readable() || event.is_read_closed() || event.is_error();
        readable && !std::mem::replace(&mut self.readable, true)
    }

    pub(super) fn mark_drained(&mut self) {
        self.readable = false;
    }

    /// Reads once into `incoming`, whose frames begin with what was [kept](Stream::keep) of the last time.
    ///
    /// # Errors
    /// The connection is broken, or what came over it is no TLS.
    pub(super) fn read(&mut self, incoming: &mut Incoming) -> io::Result<Next> {
        incoming.frames.clear();
        incoming.frames.append(&mut self.partial);
        let (length, mut next) = match (&self.socket).read(&mut incoming.raw) {
            Ok(0) => return Ok(Next::End),
            // When there was less than asked for, there is no more before the next event; but the end has no other.
            Ok(length) if length == READ || self.ending => (length, Next::More),
            Ok(length) => (length, Next::Later),
            Err(error) if error.kind() == ErrorKind::WouldBlock => (0, Next::Later),
            Err(error) if error.kind() == ErrorKind::Interrupted => (0, Next::More),
            Err(error) => return Err(error),
        };
        let raw = incoming.raw.get(..length).unwrap_or_default();
        if let Some(session) = &mut self.session {
            let ended = decrypt(session, raw, &mut incoming.frames);
            if session.wants_write() {
                self.write();
            }
            if ended? {
                next = Next::End;
            }
        } else {
            incoming.frames.extend_from_slice(raw);
        }
        Ok(next)
    }

    /// Keeps the beginning of a frame until the rest of it comes.
    pub(super) fn keep(&mut self, partial: &[u8]) {
        self.partial.extend_from_slice(partial);
    }

    /// Adds a frame, given in parts, to what is to be written; `false` if too much is waiting.
    pub(super) fn queue(&mut self, parts: [&[u8]; 3]) -> bool {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        let full = |waiting: &Vec<u8>| !waiting.is_empty() && waiting.len() + length > MAX_WAITING;
        if full(&self.waiting) {
            self.write();
            if full(&self.waiting) {
                return false;
            }
        }
        parts.iter().for_each(|part| self.waiting.extend_from_slice(part));
        true
    }

    /// Writes what is waiting, as far as the socket takes it.
    pub(super) fn write(&mut self) {
        if self.blocked {
            return;
        }
        match self.try_write() {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.blocked = true,
            // Reading tells that, too, and ends the connection.
            Err(_) => self.waiting.clear(),
        }
    }

    fn try_write(&mut self) -> io::Result<()> {
        let mut socket = &self.socket;
        loop {
            let written = match &mut self.session {
                // First what is encrypted already.
                Some(session) if session.wants_write() => session.write_tls(&mut socket)?,
                _ if self.waiting.is_empty() => return Ok(()),
                Some(session) => {
                    let encrypted = session.writer().write(&self.waiting)?;
                    self.waiting.drain(..encrypted);
                    continue;
                }
                None => {
                    let written = socket.write(&self.waiting)?;
                    self.waiting.drain(..written);
                    written
                }
            };
            if written == 0 {
                return Err(ErrorKind::WriteZero.into());
            }
            self.moved = true;
        }
    }

    /// Whether the connection is to be closed: it has had no allocation for too long, or the client does not read.
    pub(super) fn is_overdue(&mut self, now: Duration, has_allocation: bool) -> bool {
        if has_allocation {
            self.idle_since = now;
        }
        if std::mem::take(&mut self.moved) || !self.blocked {
            self.moved_at = now;
        }
        now.saturating_sub(self.idle_since) >= IDLE || now.saturating_sub(self.moved_at) >= STUCK
    }
}

/// Decrypts what came, and appends it to `out`; whether the client has ended the session.
fn decrypt(session: &mut ServerConnection, mut raw: &[u8], out: &mut Vec<u8>) -> io::Result<bool> {
    loop {
        if !raw.is_empty() && session.read_tls(&mut raw)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let state = session.process_new_packets().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        let start = out.len();
        out.resize(start + state.plaintext_bytes_to_read(), 0);
        session.reader().read_exact(out.get_mut(start..).unwrap_or_default())?;
        if raw.is_empty() || state.peer_has_closed() {
            return Ok(state.peer_has_closed());
        }
    }
}
