//! Policy lists that the server itself follows (Client-Server API §Moderation policy lists; MSC4204, MSC4205).
//!
//! The server's user joins a list's room; [`follow`] keeps its rules compiled as the room's state changes. [`gate`]
//! refuses invitations, joins and knocks of and by those whom a rule names, and into rooms that one names; [`enforce`]
//! blocks rooms that are to be taken down and, if configured, suspends users of this server. What it did is undone when
//! the rule is gone. All of it is in the audit log.

mod enforce;
mod follow;
mod gate;
mod join;
mod operations;
pub(crate) mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use rooms::{RoomNid, TOPIC_ROOM};
use spec::policy_list::PolicyRules;
use storage::{Committed, StreamPos};
use tokio::sync::Notify;

pub(crate) use follow::start;
pub(crate) use gate::PolicyGate;
pub use operations::{Follow, List, Show, Test, Unfollow};

use gate::Refusals;

/// What is in memory of the lists.
#[derive(Default)]
pub(crate) struct PolicyLists {
    rules: RwLock<Arc<PolicyRules>>,
    refusals: Refusals,
    /// The rooms that are followed, and how many rules each has.
    followed: RwLock<BTreeMap<RoomNid, usize>>,
    /// Followed rooms in which something happened.
    touched: Mutex<BTreeSet<RoomNid>>,
    /// Up to where the rooms' states were read.
    read_to: Mutex<StreamPos>,
    /// Whether everything is to be read again.
    is_stale: AtomicBool,
    news: Notify,
    /// Held while the lists are read, so that an older reading never replaces a newer one.
    reading: tokio::sync::Mutex<()>,
}

impl PolicyLists {
    /// The rules of all followed lists.
    pub fn rules(&self) -> Arc<PolicyRules> {
        self.rules.read().clone()
    }

    /// How many rules a followed list has.
    fn rules_of(&self, room: RoomNid) -> Option<usize> {
        self.followed.read().get(&room).copied()
    }

    /// Has everything read again.
    fn mark_stale(&self) {
        self.is_stale.store(true, Ordering::Release);
        self.news.notify_one();
    }

    fn observe(&self, group: &[Committed]) {
        let followed = self.followed.read();
        if followed.is_empty() {
            return;
        }
        let rooms = group.iter().flat_map(|committed| &committed.topics).filter(|topic| topic.kind() == TOPIC_ROOM);
        let rooms: Vec<RoomNid> =
            rooms.map(|topic| RoomNid(topic.id())).filter(|room| followed.contains_key(room)).collect();
        if !rooms.is_empty() {
            self.touched.lock().extend(rooms);
            self.news.notify_one();
        }
    }
}
