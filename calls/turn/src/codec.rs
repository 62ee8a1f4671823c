//! STUN messages (RFC 8489 §5, §14), what TURN adds to them (RFC 8656 §12, §18), and ChannelData.
//!
//! Reading borrows from the datagram; writing appends to a buffer that the caller keeps. Nothing is allocated for a
//! datagram that is only relayed.

mod address;
mod attributes;
mod frames;
mod message;
mod write;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

pub(crate) use address::read as read_address;
pub(crate) use attributes::{Attributes, attribute, peers};
pub(crate) use frames::{channel_data, channel_header, frame_len, padding};
pub(crate) use message::{Class, Message, Method};
pub(crate) use write::{Integrity, Writer};

/// The magic cookie of every message.
const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// Bytes before the attributes.
const HEADER: usize = 20;
/// What the CRC of a fingerprint is combined with (RFC 8489 §14.7).
const FINGERPRINT_MASK: u32 = 0x5354_554e;

/// A transaction id.
pub(crate) type Transaction = [u8; 12];
