//! A whole message, checked once.

use super::attributes::attribute;
use super::{COOKIE, FINGERPRINT_MASK, HEADER, Transaction};

/// Request, indication or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    Request,
    Indication,
    Success,
    Error,
}

/// What a message asks for; other methods are kept as their number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Binding,
    Allocate,
    Refresh,
    Send,
    Data,
    CreatePermission,
    ChannelBind,
    Other(u16),
}

impl Method {
    fn from_number(number: u16) -> Method {
        match number {
            1 => Method::Binding,
            3 => Method::Allocate,
            4 => Method::Refresh,
            6 => Method::Send,
            7 => Method::Data,
            8 => Method::CreatePermission,
            9 => Method::ChannelBind,
            other => Method::Other(other),
        }
    }

    pub(super) fn number(self) -> u16 {
        match self {
            Method::Binding => 1,
            Method::Allocate => 3,
            Method::Refresh => 4,
            Method::Send => 6,
            Method::Data => 7,
            Method::CreatePermission => 8,
            Method::ChannelBind => 9,
            Method::Other(other) => other,
        }
    }
}

/// The bytes are no message; the sender's mistake, not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("no STUN header")]
    Header,
    #[error("the length does not fit")]
    Length,
    #[error("an attribute reaches beyond the end")]
    Attribute,
    #[error("the fingerprint is wrong")]
    Fingerprint,
}

/// A message whose header, length, attribute boundaries and fingerprint (if it has one) are right.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    bytes: &'a [u8],
    kind: u16,
    transaction: Transaction,
}

impl<'a> Message<'a> {
    /// Reads one message that fills `bytes`.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Malformed> {
        let (header, _) = bytes.split_first_chunk::<HEADER>().ok_or(Malformed::Header)?;
        let [k0, k1, l0, l1, c0, c1, c2, c3, transaction @ ..] = *header;
        if k0 & 0xc0 != 0 || [c0, c1, c2, c3] != COOKIE {
            return Err(Malformed::Header);
        }
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if !length.is_multiple_of(4) || length + HEADER != bytes.len() {
            return Err(Malformed::Length);
        }
        let message = Message { bytes, kind: u16::from_be_bytes([k0, k1]), transaction };
        message.check_attributes()?;
        Ok(message)
    }

    fn check_attributes(&self) -> Result<(), Malformed> {
        let mut end = HEADER;
        for (kind, value, offset) in self.attributes() {
            end = offset + 4 + value.len().next_multiple_of(4);
            if kind == attribute::FINGERPRINT {
                let covered = self.bytes.get(..offset).ok_or(Malformed::Attribute)?;
                let expected = crc32fast::hash(covered) ^ FINGERPRINT_MASK;
                // It has to be the last one.
                if value != expected.to_be_bytes() || end != self.bytes.len() {
                    return Err(Malformed::Fingerprint);
                }
            }
        }
        if end == self.bytes.len() { Ok(()) } else { Err(Malformed::Attribute) }
    }

    pub(crate) fn class(&self) -> Class {
        match (self.kind & 0x100 != 0, self.kind & 0x10 != 0) {
            (false, false) => Class::Request,
            (false, true) => Class::Indication,
            (true, false) => Class::Success,
            (true, true) => Class::Error,
        }
    }

    pub(crate) fn method(&self) -> Method {
        Method::from_number((self.kind & 0xf) | ((self.kind & 0xe0) >> 1) | ((self.kind & 0x3e00) >> 2))
    }

    pub(crate) fn transaction(&self) -> &Transaction {
        &self.transaction
    }

    pub(crate) fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Kind, value without padding, and offset of the attribute, in their order.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = (u16, &'a [u8], usize)> + use<'a> {
        let bytes = self.bytes;
        let mut offset = HEADER;
        std::iter::from_fn(move || {
            let (head, rest) = bytes.get(offset..)?.split_first_chunk::<4>()?;
            let [k0, k1, l0, l1] = *head;
            let length = usize::from(u16::from_be_bytes([l0, l1]));
            let padded = rest.get(..length.next_multiple_of(4))?;
            let start = offset;
            offset += 4 + padded.len();
            Some((u16::from_be_bytes([k0, k1]), padded.get(..length)?, start))
        })
    }
}

/// The two bytes that say method and class (RFC 8489 §5).
pub(super) fn message_kind(class: Class, method: Method) -> u16 {
    let number = method.number();
    let class = match class {
        Class::Request => 0,
        Class::Indication => 0x10,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    (number & 0xf) | ((number & 0x70) << 1) | ((number & 0xf80) << 2) | class
}
