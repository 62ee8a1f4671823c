//! Putting a transaction together (Server-Server API §Transactions).

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use super::rows::Acks;

#[cfg(test)]
mod tests;

/// The most PDUs in a transaction.
pub(crate) const MAX_PDUS: usize = 50;
/// The most EDUs in a transaction.
pub(crate) const MAX_EDUS: usize = 100;
/// About how large a transaction gets, in bytes. One PDU or EDU always fits.
pub(crate) const MAX_BYTES: usize = 4 * 1024 * 1024;
/// With more of our events waiting in a room after an outage, only the newest are sent.
pub(crate) const CATCH_UP_ABOVE: usize = 50;
/// How many of them.
pub(crate) const CATCH_UP_NEWEST: usize = 10;

/// A transaction on its way to a server.
#[derive(Clone, Debug)]
pub(crate) struct Transaction {
    pub id: String,
    pub body: Vec<u8>,
    pub pdus: usize,
    pub edus: usize,
    pub acks: Acks,
    /// Whether messages may be left in the outbox once it has arrived.
    pub outbox_left: bool,
}

/// A transaction being put together.
#[derive(Debug)]
pub(crate) struct Packer {
    pdus: Vec<Box<RawValue>>,
    edus: Vec<Box<RawValue>>,
    bytes: usize,
    max_pdus: usize,
    max_edus: usize,
    pub acks: Acks,
    /// Whether messages stay in the outbox that did not fit.
    pub outbox_left: bool,
}

#[derive(Serialize)]
struct Body<'a> {
    origin: &'a str,
    origin_server_ts: u64,
    pdus: &'a [Box<RawValue>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    edus: &'a [Box<RawValue>],
}

impl Packer {
    /// An empty transaction for at most so many PDUs; the limits of the protocol hold all the same.
    pub fn new(max_pdus: usize, max_edus: usize) -> Packer {
        Packer {
            pdus: Vec::new(),
            edus: Vec::new(),
            bytes: 0,
            max_pdus: max_pdus.min(MAX_PDUS),
            max_edus: max_edus.min(MAX_EDUS),
            acks: Acks::default(),
            outbox_left: false,
        }
    }

    /// How many PDUs still fit in number.
    pub fn pdus_left(&self) -> usize {
        self.max_pdus - self.pdus.len().min(self.max_pdus)
    }

    /// How many EDUs still fit in number.
    pub fn edus_left(&self) -> usize {
        self.max_edus - self.edus.len().min(self.max_edus)
    }

    /// How many bytes still fit.
    pub fn bytes_left(&self) -> usize {
        MAX_BYTES.saturating_sub(self.bytes)
    }

    /// Whether nothing was added yet.
    pub fn is_empty(&self) -> bool {
        self.pdus.is_empty() && self.edus.is_empty()
    }

    /// Adds a PDU as it is stored. False if it does not fit any more; one that is not JSON is left out.
    pub fn add_pdu(&mut self, json: &str) -> bool {
        if self.pdus_left() == 0 || !self.has_room_for(json.len()) {
            return false;
        }
        if let Ok(pdu) = RawValue::from_string(json.to_owned()) {
            self.bytes += json.len();
            self.pdus.push(pdu);
        }
        true
    }

    /// Adds an EDU. False if it does not fit any more.
    pub fn add_edu(&mut self, edu: &impl Serialize) -> bool {
        let Ok(edu) = to_raw_value(edu) else { return true };
        if self.edus_left() == 0 || !self.has_room_for(edu.get().len()) {
            return false;
        }
        self.bytes += edu.get().len();
        self.edus.push(edu);
        true
    }

    fn has_room_for(&self, bytes: usize) -> bool {
        self.is_empty() || self.bytes.saturating_add(bytes) <= MAX_BYTES
    }

    /// Ends it. The body is empty if there is nothing to send; what it acknowledges counts all the same.
    pub fn finish(self, id: String, origin: &str, now_ms: u64) -> Transaction {
        let body = Body { origin, origin_server_ts: now_ms, pdus: &self.pdus, edus: &self.edus };
        // What was parsed as JSON serialises.
        let body = if self.is_empty() { Vec::new() } else { serde_json::to_vec(&body).unwrap_or_default() };
        Transaction {
            id,
            body,
            pdus: self.pdus.len(),
            edus: self.edus.len(),
            acks: self.acks,
            outbox_left: self.outbox_left,
        }
    }
}

/// Of what waits in one room after an outage, oldest first: all, or only the newest if that is very much. The other
/// server fetches what is between (§Backfilling and retrieving missing events).
pub(crate) fn choose_after_outage<T>(mut waiting: Vec<T>) -> Vec<T> {
    if waiting.len() > CATCH_UP_ABOVE {
        waiting.drain(..waiting.len() - CATCH_UP_NEWEST);
    }
    waiting
}
