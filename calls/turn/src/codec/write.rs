//! Writing messages.

use std::net::SocketAddr;

use hmac::digest::KeyInit;
use hmac::{Hmac, Mac};
use sha1::Sha1;
use sha2::Sha256;

use super::attributes::attribute;
use super::message::{Class, Method, message_kind};
use super::{COOKIE, FINGERPRINT_MASK, HEADER, Transaction, address};

/// With which hash a message is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Integrity {
    Sha1,
    Sha256,
}

/// A message being written into a buffer, which is emptied first.
pub(crate) struct Writer<'a> {
    out: &'a mut Vec<u8>,
    transaction: Transaction,
}

impl<'a> Writer<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>, class: Class, method: Method, transaction: &Transaction) -> Writer<'a> {
        out.clear();
        out.extend_from_slice(&message_kind(class, method).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&COOKIE);
        out.extend_from_slice(transaction);
        Writer { out, transaction: *transaction }
    }

    pub(crate) fn add(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        self.head(kind, value.len());
        self.out.extend_from_slice(value);
        self.pad()
    }

    pub(crate) fn add_address(&mut self, kind: u16, address: SocketAddr) -> &mut Self {
        self.head(kind, if address.is_ipv4() { 8 } else { 20 });
        address::write(self.out, address, &self.transaction);
        self
    }

    /// ERROR-CODE, or as `kind` another attribute of its form (RFC 8489 §14.8).
    pub(crate) fn add_error(&mut self, kind: u16, head: [u8; 2], code: u16, reason: &str) -> &mut Self {
        self.head(kind, 4 + reason.len());
        let [class, number] = [code / 100, code % 100].map(|part| u8::try_from(part).unwrap_or_default());
        self.out.extend_from_slice(&head);
        self.out.extend_from_slice(&[class, number]);
        self.out.extend_from_slice(reason.as_bytes());
        self.pad()
    }

    /// The head of a DATA attribute, last in the message, whose `len` bytes and padding the caller sends after it.
    pub(crate) fn finish_before_data(mut self, len: usize) {
        self.head(attribute::DATA, len);
        self.set_length(len.next_multiple_of(4));
    }

    /// Protects what has been written so far.
    pub(crate) fn protect(&mut self, integrity: Integrity, key: &[u8]) -> &mut Self {
        match integrity {
            Integrity::Sha1 => self.add_mac::<Hmac<Sha1>>(attribute::MESSAGE_INTEGRITY, 20, key),
            Integrity::Sha256 => self.add_mac::<Hmac<Sha256>>(attribute::MESSAGE_INTEGRITY_SHA256, 32, key),
        }
    }

    fn add_mac<M: Mac + KeyInit>(&mut self, kind: u16, len: usize, key: &[u8]) -> &mut Self {
        self.set_length(4 + len);
        // A MAC takes a key of any length.
        if let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) {
            mac.update(self.out);
            self.add(kind, &mac.finalize().into_bytes());
        }
        self
    }

    /// Adds the fingerprint and ends the message.
    pub(crate) fn finish(mut self) {
        self.set_length(8);
        let fingerprint = crc32fast::hash(self.out) ^ FINGERPRINT_MASK;
        self.add(attribute::FINGERPRINT, &fingerprint.to_be_bytes());
    }

    fn head(&mut self, kind: u16, len: usize) {
        self.out.extend_from_slice(&kind.to_be_bytes());
        // Every value written here is shorter than a datagram.
        self.out.extend_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    }

    fn pad(&mut self) -> &mut Self {
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        self
    }

    /// Sets the message's length to what is there and `more` bytes.
    fn set_length(&mut self, more: usize) {
        let length = u16::try_from((self.out.len() + more).saturating_sub(HEADER)).unwrap_or(u16::MAX);
        if let Some(field) = self.out.get_mut(2..4) {
            field.copy_from_slice(&length.to_be_bytes());
        }
    }
}
