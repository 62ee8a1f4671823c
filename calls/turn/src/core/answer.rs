//! Answers: how they are written, and those that need no allocation.

use super::{Core, Link, Now, Outside, Request};
use crate::auth::{ALGORITHMS, Caller, Unproven};
use crate::codec::{Attributes, Class, Message, Method, Writer, attribute};

impl Core {
    /// RFC 8489 §6.3.1.
    pub(super) fn answer_binding(
        &mut self,
        link: &Link,
        message: &Message<'_>,
        attributes: &Attributes<'_>,
        out: &mut impl Outside,
    ) {
        if !attributes.unknown().is_empty() {
            self.refuse_unknown(link, message, attributes, None, out);
            return;
        }
        self.meters.bindings.add(1);
        self.write(link, message, Class::Success, None, out, |writer| {
            writer.add_address(attribute::XOR_MAPPED_ADDRESS, link.remote());
        });
    }

    pub(super) fn grant(&mut self, request: &Request<'_>, out: &mut impl Outside, fill: impl FnOnce(&mut Writer<'_>)) {
        self.write(&request.link, request.message, Class::Success, Some(request.caller), out, fill);
    }

    pub(super) fn refuse(
        &mut self,
        link: &Link,
        message: &Message<'_>,
        caller: Option<&Caller<'_>>,
        code: u16,
        out: &mut impl Outside,
    ) {
        self.meters.count_refusal(code);
        self.write(link, message, Class::Error, caller, out, |writer| add_error(writer, code));
    }

    pub(super) fn refuse_unknown(
        &mut self,
        link: &Link,
        message: &Message<'_>,
        attributes: &Attributes<'_>,
        caller: Option<&Caller<'_>>,
        out: &mut impl Outside,
    ) {
        self.meters.count_refusal(420);
        let names: Vec<u8> = attributes.unknown().iter().flat_map(|kind| kind.to_be_bytes()).collect();
        self.write(link, message, Class::Error, caller, out, |writer| {
            add_error(writer, 420);
            writer.add(attribute::UNKNOWN_ATTRIBUTES, &names);
        });
    }

    /// Tells a stranger how to prove who they are (RFC 8489 §9.2.4).
    pub(super) fn challenge(
        &mut self,
        now: Now,
        link: &Link,
        message: &Message<'_>,
        unproven: Unproven,
        out: &mut impl Outside,
    ) {
        let code = unproven_code(unproven);
        if unproven == Unproven::Bad {
            self.refuse(link, message, None, code, out);
            return;
        }
        self.meters.count_refusal(code);
        let nonce = self.auth.nonce(now.unix, link.remote());
        let realm = self.auth.realm().to_owned();
        self.write(link, message, Class::Error, None, out, |writer| {
            add_error(writer, code);
            writer.add(attribute::REALM, realm.as_bytes());
            writer.add(attribute::NONCE, nonce.as_bytes());
            writer.add(attribute::PASSWORD_ALGORITHMS, &ALGORITHMS);
        });
    }

    fn write(
        &mut self,
        link: &Link,
        message: &Message<'_>,
        class: Class,
        caller: Option<&Caller<'_>>,
        out: &mut impl Outside,
        fill: impl FnOnce(&mut Writer<'_>),
    ) {
        let mut writer = Writer::new(&mut self.scratch, class, message.method(), message.transaction());
        fill(&mut writer);
        if let Some(caller) = caller {
            writer.protect(caller.integrity, caller.key.bytes());
        }
        writer.finish();
        out.send_to_client(link, [&self.scratch, &[], &[]]);
    }

    /// Writes the start of a Data indication into `scratch`; the data comes after it.
    pub(super) fn begin_data_indication(&mut self, peer: std::net::SocketAddr, len: usize) {
        self.indications = self.indications.wrapping_add(1);
        let mut transaction = [0; 12];
        if let Some(part) = transaction.first_chunk_mut() {
            *part = self.indications.to_be_bytes();
        }
        let mut writer = Writer::new(&mut self.scratch, Class::Indication, Method::Data, &transaction);
        writer.add_address(attribute::XOR_PEER_ADDRESS, peer);
        writer.finish_before_data(len);
    }
}

/// The status of a request that is not proven.
fn unproven_code(unproven: Unproven) -> u16 {
    match unproven {
        Unproven::Bad => 400,
        Unproven::Unauthorized => 401,
        Unproven::StaleNonce => 438,
    }
}

/// Reasons are short: some of these go to strangers.
fn add_error(writer: &mut Writer<'_>, code: u16) {
    let reason = match code {
        401 => "Unauthorized",
        403 => "Forbidden",
        420 => "Unknown Attribute",
        437 => "Allocation Mismatch",
        438 => "Stale Nonce",
        440 => "Address Family not Supported",
        441 => "Wrong Credentials",
        442 => "Unsupported Transport",
        443 => "Peer Address Family Mismatch",
        486 => "Allocation Quota Reached",
        508 => "Insufficient Capacity",
        _ => "Bad Request",
    };
    writer.add_error(attribute::ERROR_CODE, [0, 0], code, reason);
}
