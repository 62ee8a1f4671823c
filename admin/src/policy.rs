//! Policy lists that the server itself follows (Client-Server API §Moderation policy lists; MSC4204, MSC4205).
//!
//! The server's user joins a list's room; [`follow`] keeps its rules compiled as the room's state changes. [`gate`]
//! refuses invitations, joins and knocks of and by those whom a rule names, and into rooms that one names. What is here
//! already: [`deeds`] says what the rules want done to rooms and to users of this server, [`enforce`] does it and undoes
//! it when the rule is gone; [`people`] withdraws invitations and has users of other servers banned, for all users when
//! rules change ([`sweep`]) and for each whose membership does. All of it is in the audit log.

mod deeds;
mod enforce;
mod follow;
mod gate;
mod join;
mod operations;
mod people;
mod present;
pub(crate) mod rows;
mod sweep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use rooms::{RoomNid, TOPIC_MEMBERSHIP, TOPIC_ROOM, UserNid};
use spec::policy_list::PolicyRules;
use storage::{Committed, StreamPos};
use tokio::sync::Notify;

pub(crate) use follow::start;
pub(crate) use gate::PolicyGate;
pub use operations::{Follow, List, Show, Test, Unfollow};
pub use present::{ActAs, Present};
pub(crate) use sweep::SweepPeople;

use gate::Refusals;

/// How many users are kept in mind whose memberships changed; after more, all users are looked at.
const MAX_MOVED: usize = 10_000;

/// What is in memory of the lists.
#[derive(Default)]
pub(crate) struct PolicyLists {
    rules: RwLock<Arc<PolicyRules>>,
    refusals: Refusals,
    /// The rooms that are followed, and how many rules each has.
    followed: RwLock<BTreeMap<RoomNid, usize>>,
    /// Followed rooms in which something happened.
    touched: Mutex<BTreeSet<RoomNid>>,
    /// Users whose memberships changed, as long as lists are followed.
    moved: Mutex<BTreeSet<UserNid>>,
    /// Whether there were too many of them.
    lost_track: AtomicBool,
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
        let mut is_news = false;
        for topic in group.iter().flat_map(|committed| &committed.topics) {
            match topic.kind() {
                TOPIC_ROOM if followed.contains_key(&RoomNid(topic.id())) => {
                    is_news |= self.touched.lock().insert(RoomNid(topic.id()));
                }
                TOPIC_MEMBERSHIP => {
                    self.note_moved(UserNid(topic.id()));
                    is_news = true;
                }
                _ => {}
            }
        }
        if is_news {
            self.news.notify_one();
        }
    }

    fn note_moved(&self, user: UserNid) {
        let mut moved = self.moved.lock();
        if moved.len() < MAX_MOVED {
            moved.insert(user);
        } else {
            self.lost_track.store(true, Ordering::Release);
        }
    }
}
