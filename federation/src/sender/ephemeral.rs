//! What servers are told once, if they can be reached: typing, receipts and presence. In memory only, the latest of each
//! kind, and bounded.

use std::collections::{BTreeMap, BTreeSet};

use rooms::{RoomNid, UserNid};
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, UserId};
use users::Presence;

#[cfg(test)]
mod tests;

/// How many of a kind are remembered for a server; what is over it is not told.
const MAX_OF_A_KIND: usize = 1000;
/// How many users' presence one EDU tells.
const PRESENCE_PER_EDU: usize = 100;

/// A receipt as other servers are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReceiptMark {
    pub event_id: Box<str>,
    pub at_ms: i64,
}

/// Whose receipt it is: room, user, thread.
pub(crate) type ReceiptKey = (RoomNid, UserNid, Option<Box<str>>);

/// What a server is told next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ephemeral {
    typing: BTreeMap<(RoomNid, UserNid), bool>,
    receipts: BTreeMap<ReceiptKey, ReceiptMark>,
    presence: BTreeSet<UserNid>,
}

impl Ephemeral {
    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        self.typing.is_empty() && self.receipts.is_empty() && self.presence.is_empty()
    }

    /// Whether the user types in the room.
    pub fn note_typing(&mut self, room: RoomNid, user: UserNid, is_typing: bool) {
        if self.typing.len() < MAX_OF_A_KIND || self.typing.contains_key(&(room, user)) {
            self.typing.insert((room, user), is_typing);
        }
    }

    /// Up to where the user has read.
    pub fn note_receipt(&mut self, key: ReceiptKey, mark: ReceiptMark) {
        if self.receipts.len() < MAX_OF_A_KIND || self.receipts.contains_key(&key) {
            self.receipts.insert(key, mark);
        }
    }

    /// The user's presence changed; what it is, is looked up when it is told.
    pub fn note_presence(&mut self, user: UserNid) {
        if self.presence.len() < MAX_OF_A_KIND {
            self.presence.insert(user);
        }
    }

    /// Takes what fits into `limit` EDUs; the rest stays.
    pub fn take(&mut self, limit: usize) -> Ephemeral {
        let mut taken = Ephemeral::default();
        let mut left = limit;
        if left > 0 && !self.presence.is_empty() {
            while taken.presence.len() < PRESENCE_PER_EDU
                && let Some(user) = self.presence.pop_first()
            {
                taken.presence.insert(user);
            }
            left -= 1;
        }
        // A user's receipts in one room take an EDU each, those of different users and rooms share one.
        let most = left.div_ceil(2);
        let mut of_user: BTreeMap<(RoomNid, UserNid), usize> = BTreeMap::new();
        for (key, mark) in std::mem::take(&mut self.receipts) {
            let count = of_user.entry((key.0, key.1)).or_default();
            if *count < most {
                *count += 1;
                taken.receipts.insert(key, mark);
            } else {
                self.receipts.insert(key, mark);
            }
        }
        left -= of_user.values().max().copied().unwrap_or(0);
        while left > 0
            && let Some((key, is_typing)) = self.typing.pop_first()
        {
            taken.typing.insert(key, is_typing);
            left -= 1;
        }
        taken
    }
}

/// What names numbers when EDUs are written.
pub(crate) trait Names {
    /// The room's id.
    fn room(&self, room: RoomNid) -> Option<RoomId>;
    /// The user's id.
    fn user(&self, user: UserNid) -> Option<UserId>;
    /// The user's presence now, and what time it is now in milliseconds.
    fn presence(&self, user: UserNid) -> Option<(Presence, u64)>;
}

impl Ephemeral {
    /// The EDUs. What has no name any more is left out.
    pub fn render(&self, names: &dyn Names) -> Vec<Value> {
        let mut edus = Vec::new();
        for ((room, user), is_typing) in &self.typing {
            if let (Some(room), Some(user)) = (names.room(*room), names.user(*user)) {
                let content = json!({ "room_id": room, "user_id": user, "typing": is_typing });
                edus.push(edu("m.typing", content));
            }
        }
        edus.extend(self.render_presence(names));
        edus.extend(render_receipts(&self.receipts, names));
        edus
    }

    fn render_presence(&self, names: &dyn Names) -> Option<Value> {
        let told = self.presence.iter().filter_map(|user| {
            let (presence, now_ms) = names.presence(*user)?;
            let mut told = Map::new();
            told.insert("user_id".to_owned(), json!(names.user(*user)?));
            told.insert("presence".to_owned(), json!(presence.state));
            told.insert("last_active_ago".to_owned(), json!(now_ms.saturating_sub(presence.last_active_ms)));
            told.insert("currently_active".to_owned(), json!(presence.currently_active));
            if let Some(text) = &presence.status_msg {
                told.insert("status_msg".to_owned(), json!(**text));
            }
            Some(Value::Object(told))
        });
        let push: Vec<Value> = told.collect();
        if push.is_empty() { None } else { Some(edu("m.presence", json!({ "push": push }))) }
    }
}

/// An EDU holds one receipt of a user in a room, so those of several threads take several EDUs.
fn render_receipts(receipts: &BTreeMap<ReceiptKey, ReceiptMark>, names: &dyn Names) -> Vec<Value> {
    let mut layers: Vec<BTreeMap<RoomId, BTreeMap<UserId, Value>>> = Vec::new();
    for ((room, user, thread), mark) in receipts {
        let (Some(room), Some(user)) = (names.room(*room), names.user(*user)) else { continue };
        let mut data = Map::from_iter([("ts".to_owned(), json!(mark.at_ms))]);
        if let Some(thread) = thread {
            data.insert("thread_id".to_owned(), json!(thread));
        }
        let receipt = json!({ "event_ids": [mark.event_id], "data": data });
        let is_free = |layer: &&mut BTreeMap<RoomId, BTreeMap<UserId, Value>>| {
            layer.get(&room).is_none_or(|users| !users.contains_key(&user))
        };
        match layers.iter_mut().find(is_free) {
            Some(layer) => drop(layer.entry(room).or_default().insert(user, receipt)),
            None => layers.push(BTreeMap::from([(room, BTreeMap::from([(user, receipt)]))])),
        }
    }
    layers
        .into_iter()
        .map(|layer| {
            let rooms = layer.into_iter().map(|(room, users)| {
                let users: Map<String, Value> =
                    users.into_iter().map(|(user, receipt)| (user.as_str().to_owned(), receipt)).collect();
                (room.as_str().to_owned(), json!({ "m.read": users }))
            });
            edu("m.receipt", Value::Object(rooms.collect()))
        })
        .collect()
}

/// An EDU of a type (Server-Server API §EDUs).
pub(crate) fn edu(kind: &str, content: Value) -> Value {
    json!({ "edu_type": kind, "content": content })
}
