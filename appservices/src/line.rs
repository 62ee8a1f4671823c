//! What waits for one service, in memory: places in the log, and what is told only to those who are there.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use rooms::{Receipt, ReceiptKind, RoomNid, RoomSeq, UserNid};
use runtime::CancellationToken;
use storage::StreamPos;
use tokio::sync::Notify;
use users::{AppService, DeviceNid};

use crate::rows::Place;

/// The most events that are noted for a service. Further ones are found in the log when these are through.
pub(crate) const MAX_NOTED: usize = 10_000;
/// The most of each kind of ephemeral data that waits; more are dropped.
const MAX_EPHEMERAL: usize = 1_000;

/// An event that is of interest: where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Noted {
    pub pos: StreamPos,
    pub room: RoomNid,
    pub seq: RoomSeq,
}

impl Noted {
    pub fn place(&self) -> Place {
        Place { pos: self.pos, seq: self.seq }
    }
}

/// Whose receipt, where.
pub(crate) type ReceiptKey = (RoomNid, UserNid, ReceiptKind, Option<Box<str>>);

/// What waits.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub events: VecDeque<Noted>,
    /// Everything up to here is in `events`, or through, or of no interest.
    pub upto: Place,
    /// Whether the follower adds to it. If not, what comes after `upto` is found in the log.
    pub is_live: bool,
    /// Whether the last attempt at a transaction succeeded: what is ephemeral is told only then.
    pub is_reachable: bool,
    pub typing: BTreeSet<RoomNid>,
    pub receipts: BTreeMap<ReceiptKey, Receipt>,
    pub presence: BTreeSet<UserNid>,
    /// Devices of the service with messages, or other key counts.
    pub devices: BTreeSet<DeviceNid>,
    /// Users whose device lists have changed.
    pub lists: BTreeSet<UserNid>,
    /// Up to which position these are all.
    pub lists_upto: StreamPos,
}

impl Waiting {
    fn new(from: Place, lists_upto: StreamPos) -> Waiting {
        Waiting {
            events: VecDeque::new(),
            upto: from,
            is_live: false,
            is_reachable: true,
            typing: BTreeSet::new(),
            receipts: BTreeMap::new(),
            presence: BTreeSet::new(),
            devices: BTreeSet::new(),
            lists: BTreeSet::new(),
            lists_upto,
        }
    }

    /// Adds what the follower found up to a position, unless the log has to be read anyway.
    pub fn extend(&mut self, found: &[Noted], upto: StreamPos) {
        if !self.is_live {
            return;
        }
        let began = self.upto;
        // A new service begins where it was registered, which may be further than the follower was.
        for noted in found.iter().filter(|noted| noted.place() > began) {
            if self.events.len() >= MAX_NOTED {
                self.is_live = false;
                return;
            }
            self.events.push_back(*noted);
            self.upto = noted.place();
        }
        self.upto = began.max(Place::after(upto));
    }

    /// Drops what nobody is there to hear.
    pub fn drop_ephemeral(&mut self) {
        self.typing.clear();
        self.receipts.clear();
        self.presence.clear();
    }

    fn hears(&self, length: usize) -> bool {
        self.is_reachable && length < MAX_EPHEMERAL
    }

    pub fn note_typing(&mut self, room: RoomNid) {
        if self.hears(self.typing.len()) {
            self.typing.insert(room);
        }
    }

    pub fn note_receipt(&mut self, room: RoomNid, receipt: Receipt) {
        if self.hears(self.receipts.len()) {
            let key = (room, receipt.user, receipt.kind, receipt.thread.clone());
            self.receipts.insert(key, receipt);
        }
    }

    pub fn note_presence(&mut self, user: UserNid) {
        if self.hears(self.presence.len()) {
            self.presence.insert(user);
        }
    }
}

/// One service, and what waits for it.
#[derive(Debug)]
pub(crate) struct Line {
    pub service: Arc<AppService>,
    pub waiting: Mutex<Waiting>,
    /// Something waits.
    pub news: Notify,
    /// The service is back: no need to wait any longer before the next attempt.
    pub back: Notify,
    pub stop: CancellationToken,
}

impl Line {
    pub fn new(service: Arc<AppService>, from: Place, lists_upto: StreamPos, stop: CancellationToken) -> Line {
        let waiting = Mutex::new(Waiting::new(from, lists_upto));
        Line { service, waiting, news: Notify::new(), back: Notify::new(), stop }
    }
}
