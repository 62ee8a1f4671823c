//! What the thread polls, and the tokens by which polling tells it apart.

use mio::Token;

/// Tokens of the relay sockets begin here, after those of the listeners.
const RELAYS: usize = 1 << 16;
/// Tokens of the connections begin here: there are fewer relay sockets than ports in both families.
const STREAMS: usize = 1 << 20;

/// One thing that is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// Letters have come.
    Waker,
    /// A socket for clients, by its place in the list.
    Listener(u16),
    /// A relay socket, by the slot of its allocation.
    Relay(usize),
    /// A connection, by its slot.
    Stream(usize),
}

impl Source {
    pub(super) fn token(self) -> Token {
        Token(match self {
            Source::Waker => 0,
            Source::Listener(index) => 1 + usize::from(index),
            Source::Relay(slot) => RELAYS + slot,
            Source::Stream(slot) => STREAMS + slot,
        })
    }

    pub(super) fn of(token: Token) -> Source {
        match token.0 {
            0 => Source::Waker,
            number @ STREAMS.. => Source::Stream(number - STREAMS),
            number @ RELAYS.. => Source::Relay(number - RELAYS),
            // Below the relay sockets, so it fits.
            number => Source::Listener(u16::try_from(number - 1).unwrap_or(u16::MAX)),
        }
    }
}
