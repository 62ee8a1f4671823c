//! What carries the messages of a client: datagrams, or a connection on which they follow each other.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UdpSocket;

use crate::codec::frame_len;

/// The largest message that is taken in, in bytes.
const MAX_MESSAGE: usize = 4096;

/// A connection: TCP, or TLS over it.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// How messages follow each other on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// One after the other, each says its length (RFC 8489 §6.2.2): TURN servers.
    Bare,
    /// Each behind its length in two bytes (RFC 4571): media servers.
    Counted,
}

/// The way to the server.
pub enum Carrier {
    /// A socket that is connected to it.
    Datagrams(UdpSocket),
    /// A connection, and what was read from it of the next message.
    Connection(Box<dyn Stream>, Framing, Vec<u8>),
}

impl Carrier {
    /// A connection of which nothing was read yet.
    #[must_use]
    pub fn connection(stream: impl Stream + 'static, framing: Framing) -> Carrier {
        Carrier::Connection(Box::new(stream), framing, Vec::new())
    }

    pub(super) fn is_reliable(&self) -> bool {
        matches!(self, Carrier::Connection(..))
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> io::Result<()> {
        match self {
            Carrier::Datagrams(socket) => socket.send(message).await.map(drop),
            Carrier::Connection(stream, framing, _) => {
                if *framing == Framing::Counted {
                    let length = u16::try_from(message.len()).map_err(|_| io::Error::from(ErrorKind::InvalidInput))?;
                    stream.write_all(&length.to_be_bytes()).await?;
                }
                stream.write_all(message).await?;
                stream.flush().await
            }
        }
    }

    /// The next message. Cancel-safe: what was read of one is kept.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<u8>> {
        match self {
            Carrier::Datagrams(socket) => {
                let mut bytes = vec![0; MAX_MESSAGE];
                let length = socket.recv(&mut bytes).await?;
                bytes.truncate(length);
                Ok(bytes)
            }
            Carrier::Connection(stream, framing, read) => loop {
                let (head, whole) = frame(*framing, read)?;
                if let Some(end) = whole.filter(|end| *end <= read.len()) {
                    let rest = read.split_off(end);
                    let mut message = std::mem::replace(read, rest);
                    return Ok(message.split_off(head));
                }
                if read.len() >= MAX_MESSAGE {
                    return Err(ErrorKind::InvalidData.into());
                }
                if stream.read_buf(read).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            },
        }
    }
}

/// Where the first message in `read` begins, and where it ends if that can be told yet.
fn frame(framing: Framing, read: &[u8]) -> io::Result<(usize, Option<usize>)> {
    match framing {
        Framing::Bare => Ok((0, frame_len(read).map_err(|_| io::Error::from(ErrorKind::InvalidData))?)),
        Framing::Counted => {
            let length = read.first_chunk::<2>().map(|length| usize::from(u16::from_be_bytes(*length)));
            Ok((2, length.map(|length| length + 2)))
        }
    }
}

impl std::fmt::Debug for Carrier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_reliable() { "Carrier::Connection" } else { "Carrier::Datagrams" })
    }
}
