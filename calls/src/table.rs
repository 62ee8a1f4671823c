//! Who is in which call, in memory.

use std::collections::{BTreeMap, HashMap};

use parking_lot::Mutex;
use rooms::{RoomNid, TOPIC_MEMBERSHIP, TOPIC_USER, UserNid};
use spec::ids::{RoomId, UserId};
use storage::Committed;

use crate::calls::Calls;
use crate::error::CallError;
use crate::grants::GrantRow;
use crate::seat::LegKey;

/// Everybody who is in a call.
#[derive(Debug, Default)]
pub(crate) struct Table(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    legs: BTreeMap<LegKey, Leg>,
    /// How many legs each user has.
    users: HashMap<UserNid, usize>,
}

/// One participation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leg {
    pub grant: GrantRow,
    /// Since when, in milliseconds since the Unix epoch.
    pub joined_ms: u64,
    /// Since when anybody is in the call.
    pub call_ms: u64,
    /// Whether an operator ends it: its token is not renewed.
    pub is_revoked: bool,
}

/// A call that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOverview {
    /// The Matrix room.
    pub room: RoomId,
    /// The slot.
    pub slot: String,
    /// The media server's name of it.
    pub name: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Who is in it.
    pub legs: Vec<LegOverview>,
}

/// A participant of a call that goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegOverview {
    /// Who.
    pub user: UserId,
    /// On which device, as far as that is known.
    pub device: Option<String>,
    /// The media server's name of the participant.
    pub identity: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

impl Table {
    /// Notes a participant who has come; answers whom it replaces.
    pub fn insert(&self, key: LegKey, grant: GrantRow, now_ms: u64) -> Option<Leg> {
        let mut inner = self.0.lock();
        let replaced = inner.remove(&key);
        let first = inner.legs_of(&key.room).map(|(_, leg)| leg.call_ms).next();
        *inner.users.entry(grant.user).or_default() += 1;
        inner.legs.insert(key, Leg { grant, joined_ms: now_ms, call_ms: first.unwrap_or(now_ms), is_revoked: false });
        replaced
    }

    /// Notes that a participant has gone.
    pub fn remove(&self, key: &LegKey) -> Option<Leg> {
        self.0.lock().remove(key)
    }

    /// Notes that an operator ends a participation.
    pub fn revoke(&self, key: &LegKey) {
        if let Some(leg) = self.0.lock().legs.get_mut(key) {
            leg.is_revoked = true;
        }
    }

    /// Whether the participant is in the call.
    pub fn contains(&self, key: &LegKey) -> bool {
        self.0.lock().legs.contains_key(key)
    }

    /// Whether anybody is in the call.
    pub fn has_call(&self, room: &str) -> bool {
        self.0.lock().legs_of(room).next().is_some()
    }

    /// All participants.
    pub fn keys(&self) -> Vec<LegKey> {
        self.0.lock().legs.keys().cloned().collect()
    }

    /// The participants that are these users.
    pub fn legs_of_users(&self, users: &[UserNid]) -> Vec<(LegKey, Leg)> {
        let inner = self.0.lock();
        let theirs = inner.legs.iter().filter(|(_, leg)| users.contains(&leg.grant.user));
        theirs.map(|(key, leg)| (key.clone(), leg.clone())).collect()
    }

    /// Everything, in the order of calls.
    pub fn legs(&self) -> Vec<(LegKey, Leg)> {
        self.0.lock().legs.iter().map(|(key, leg)| (key.clone(), leg.clone())).collect()
    }

    /// The users in calls whose memberships, devices or account a group of commits changed.
    pub fn concerned(&self, group: &[Committed]) -> Vec<UserNid> {
        let inner = self.0.lock();
        if inner.users.is_empty() {
            return Vec::new();
        }
        let topics = group.iter().flat_map(|committed| &committed.topics);
        let users = topics.filter(|topic| matches!(topic.kind(), TOPIC_MEMBERSHIP | TOPIC_USER));
        users.map(|topic| UserNid(topic.id())).filter(|user| inner.users.contains_key(user)).collect()
    }
}

impl Inner {
    fn legs_of<'a>(&'a self, room: &'a str) -> impl Iterator<Item = (&'a LegKey, &'a Leg)> {
        let first = LegKey { room: room.to_owned(), identity: String::new() };
        self.legs.range(first..).take_while(move |(key, _)| key.room == room)
    }

    fn remove(&mut self, key: &LegKey) -> Option<Leg> {
        let leg = self.legs.remove(key)?;
        if let Some(count) = self.users.get_mut(&leg.grant.user) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.users.remove(&leg.grant.user);
            }
        }
        Some(leg)
    }
}

impl Calls {
    /// The calls that go on, with who is in them: for administration.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn overview(&self) -> Result<Vec<CallOverview>, CallError> {
        let mut calls: Vec<CallOverview> = Vec::new();
        for (key, leg) in self.table.legs() {
            let Some(room) = self.room_of(leg.grant.room)? else { continue };
            let shown = LegOverview {
                user: self.rooms.user_id(leg.grant.user)?,
                device: leg.grant.device,
                identity: key.identity,
                since_ms: leg.joined_ms,
            };
            match calls.last_mut().filter(|call| call.name == key.room) {
                Some(call) => call.legs.push(shown),
                None => calls.push(CallOverview {
                    room,
                    slot: leg.grant.slot,
                    name: key.room,
                    since_ms: leg.call_ms,
                    legs: vec![shown],
                }),
            }
        }
        Ok(calls)
    }

    /// The room of a number; none once it is deleted.
    pub(crate) fn room_of(&self, room: RoomNid) -> Result<Option<RoomId>, CallError> {
        match self.rooms.is_deleting(room)? {
            true => Ok(None),
            false => Ok(Some(self.rooms.room_id(room)?)),
        }
    }
}
