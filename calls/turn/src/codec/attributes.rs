//! The attributes that a STUN or TURN server reads, from one walk over a message.

use std::net::SocketAddr;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::message::Message;
use super::{HEADER, address};

/// Numbers of attributes (RFC 8489 §18.3, RFC 8656 §18).
pub(crate) mod attribute {
    pub(crate) const USERNAME: u16 = 0x0006;
    pub(crate) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(crate) const ERROR_CODE: u16 = 0x0009;
    pub(crate) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(crate) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(crate) const LIFETIME: u16 = 0x000d;
    pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(crate) const DATA: u16 = 0x0013;
    pub(crate) const REALM: u16 = 0x0014;
    pub(crate) const NONCE: u16 = 0x0015;
    pub(crate) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(crate) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub(crate) const EVEN_PORT: u16 = 0x0018;
    pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(crate) const DONT_FRAGMENT: u16 = 0x001a;
    pub(crate) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub(crate) const PASSWORD_ALGORITHM: u16 = 0x001d;
    pub(crate) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(crate) const RESERVATION_TOKEN: u16 = 0x0022;
    pub(crate) const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    pub(crate) const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub(crate) const PASSWORD_ALGORITHMS: u16 = 0x8002;
    pub(crate) const FINGERPRINT: u16 = 0x8028;
}

/// How many attributes that nobody knows are named in the answer.
const MAX_UNKNOWN: usize = 8;

/// What a message says. Of an attribute that comes twice the first one counts (RFC 8489 §14).
#[derive(Debug, Default)]
pub(crate) struct Attributes<'a> {
    pub(crate) username: Option<&'a [u8]>,
    pub(crate) realm: Option<&'a [u8]>,
    pub(crate) nonce: Option<&'a [u8]>,
    pub(crate) lifetime: Option<u32>,
    pub(crate) channel: Option<u16>,
    pub(crate) data: Option<&'a [u8]>,
    /// The first XOR-PEER-ADDRESS; all of them are in [`peers`].
    pub(crate) peer: Option<SocketAddr>,
    pub(crate) family: Option<u8>,
    pub(crate) additional_family: Option<u8>,
    /// Whether a pair of ports is asked for.
    pub(crate) even_port: Option<bool>,
    pub(crate) transport: Option<u8>,
    pub(crate) reservation: bool,
    pub(crate) algorithm: Option<&'a [u8]>,
    pub(crate) algorithms: Option<&'a [u8]>,
    /// Value and offset.
    integrity: Option<(&'a [u8], usize)>,
    integrity_sha256: Option<(&'a [u8], usize)>,
    unknown: [u16; MAX_UNKNOWN],
    unknown_count: usize,
}

impl<'a> Attributes<'a> {
    /// Reads the attributes of `message`. `None` when a value has the wrong form.
    pub(crate) fn read(message: &Message<'a>) -> Option<Attributes<'a>> {
        let mut read = Attributes::default();
        for (kind, value, offset) in message.attributes() {
            let covered = read.integrity.is_none() && read.integrity_sha256.is_none();
            match kind {
                attribute::MESSAGE_INTEGRITY if covered => read.integrity = Some((value, offset)),
                attribute::MESSAGE_INTEGRITY_SHA256 if read.integrity_sha256.is_none() => {
                    read.integrity_sha256 = Some((value, offset));
                }
                // What comes after the integrity is not protected by it and does not count (RFC 8489 §14.5).
                _ if covered => read.add(kind, value, message)?,
                _ => {}
            }
        }
        Some(read)
    }

    fn add(&mut self, kind: u16, value: &'a [u8], message: &Message<'a>) -> Option<()> {
        fn first<T>(slot: &mut Option<T>, value: T) {
            slot.get_or_insert(value);
        }
        match kind {
            attribute::USERNAME => first(&mut self.username, value),
            attribute::REALM => first(&mut self.realm, value),
            attribute::NONCE => first(&mut self.nonce, value),
            attribute::LIFETIME => first(&mut self.lifetime, u32::from_be_bytes(value.try_into().ok()?)),
            attribute::CHANNEL_NUMBER => {
                first(&mut self.channel, u16::from_be_bytes(*value.first_chunk::<4>()?.first_chunk()?));
            }
            attribute::DATA => first(&mut self.data, value),
            attribute::XOR_PEER_ADDRESS => first(&mut self.peer, address::read(value, message.transaction())?),
            attribute::REQUESTED_ADDRESS_FAMILY => first(&mut self.family, *value.first()?),
            attribute::ADDITIONAL_ADDRESS_FAMILY => first(&mut self.additional_family, *value.first()?),
            attribute::EVEN_PORT => first(&mut self.even_port, value.first()? & 0x80 != 0),
            attribute::REQUESTED_TRANSPORT => first(&mut self.transport, *value.first()?),
            attribute::RESERVATION_TOKEN => self.reservation = true,
            attribute::PASSWORD_ALGORITHM => first(&mut self.algorithm, value),
            attribute::PASSWORD_ALGORITHMS => first(&mut self.algorithms, value),
            // Relay sockets never let datagrams be split, so there is nothing to remember.
            attribute::DONT_FRAGMENT => {}
            // Below 0x8000 an attribute has to be understood (RFC 8489 §14).
            0..0x8000 => self.add_unknown(kind),
            _ => {}
        }
        Some(())
    }

    fn add_unknown(&mut self, kind: u16) {
        if let Some(slot) = self.unknown.get_mut(self.unknown_count) {
            *slot = kind;
            self.unknown_count += 1;
        }
    }

    /// Attributes that have to be understood and are not.
    pub(crate) fn unknown(&self) -> &[u16] {
        self.unknown.get(..self.unknown_count).unwrap_or_default()
    }

    /// Whether the message carries an integrity of either kind.
    pub(crate) fn is_signed(&self) -> bool {
        self.integrity.is_some() || self.integrity_sha256.is_some()
    }

    /// Whether the stronger integrity is there, which then is the one that counts.
    pub(crate) fn uses_sha256(&self) -> bool {
        self.integrity_sha256.is_some()
    }

    /// Whether the message's integrity was made with `key`; compared in constant time (RFC 8489 §14.5, §14.6).
    pub(crate) fn verify(&self, message: &Message<'_>, key: &[u8]) -> bool {
        if let Some((value, offset)) = self.integrity_sha256 {
            let whole = (16..=32).contains(&value.len()) && value.len().is_multiple_of(4);
            return whole
                && covered_mac::<Hmac<Sha256>>(message, offset, value.len(), key)
                    .is_some_and(|mac| mac.verify_truncated_left(value).is_ok());
        }
        self.integrity.is_some_and(|(value, offset)| {
            covered_mac::<Hmac<Sha1>>(message, offset, value.len(), key)
                .is_some_and(|mac| mac.verify_slice(value).is_ok())
        })
    }
}

/// A MAC over the message up to the integrity at `offset`, with the length as if the message ended with it.
fn covered_mac<M: Mac + KeyInit>(message: &Message<'_>, offset: usize, value: usize, key: &[u8]) -> Option<M> {
    let bytes = message.bytes();
    let length = u16::try_from((offset + 4 + value).checked_sub(HEADER)?).ok()?;
    let mut mac = <M as KeyInit>::new_from_slice(key).ok()?;
    mac.update(bytes.get(..2)?);
    mac.update(&length.to_be_bytes());
    mac.update(bytes.get(4..offset)?);
    Some(mac)
}

/// All peers that a message names; `None` for one in a wrong form.
pub(crate) fn peers<'a>(message: &Message<'a>) -> impl Iterator<Item = Option<SocketAddr>> + use<'a> {
    let transaction = *message.transaction();
    let addresses = message.attributes().filter(|(kind, ..)| *kind == attribute::XOR_PEER_ADDRESS);
    addresses.map(move |(_, value, _)| address::read(value, &transaction))
}
