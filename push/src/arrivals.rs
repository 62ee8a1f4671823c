//! What was committed and waits for the follower. The commit observer does no more than write it down here.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use rooms::{RoomNid, TOPIC_EPHEMERAL, TOPIC_MEMBERSHIP, TOPIC_PUSHERS, TOPIC_ROOM, TOPIC_USER, UserNid};
use storage::{Committed, StreamPos};
use tokio::sync::Notify;

/// What was committed and not looked at yet.
#[derive(Debug, Default)]
pub(crate) struct Arrivals {
    arrived: Mutex<Arrived>,
    news: Notify,
}

/// What one round of the follower looks at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrived {
    /// Rooms whose timeline changed.
    pub rooms: BTreeSet<RoomNid>,
    /// Users whose pushers changed.
    pub pushers: BTreeSet<UserNid>,
    /// Users whose memberships changed.
    pub members: BTreeSet<UserNid>,
    /// Users whose receipts changed.
    pub readers: BTreeSet<UserNid>,
    /// The users are everybody with pushers, after a start: their badges are as they were.
    pub is_start: bool,
    /// All of the above is from batches up to here, and all of theirs is above.
    pub upto: StreamPos,
}

impl Arrivals {
    /// Called with each group of commits.
    pub fn observe(&self, group: &[Committed]) {
        let mut arrived = self.arrived.lock();
        let mut is_news = false;
        for committed in group {
            arrived.upto = arrived.upto.max(committed.pos);
            let has_receipt = committed.topics.iter().any(|topic| topic.kind() == TOPIC_EPHEMERAL);
            for topic in &committed.topics {
                is_news |= match topic.kind() {
                    TOPIC_ROOM => arrived.rooms.insert(RoomNid(topic.id())),
                    TOPIC_PUSHERS => arrived.pushers.insert(UserNid(topic.id())),
                    TOPIC_MEMBERSHIP => arrived.members.insert(UserNid(topic.id())),
                    TOPIC_USER if has_receipt => arrived.readers.insert(UserNid(topic.id())),
                    _ => false,
                };
            }
        }
        drop(arrived);
        if is_news {
            self.news.notify_one();
        }
    }

    /// Notes what was missed before a start: these rooms, and all users with pushers.
    pub fn begin(&self, rooms: Vec<RoomNid>, users: impl Iterator<Item = UserNid>, upto: StreamPos) {
        let mut arrived = self.arrived.lock();
        arrived.rooms.extend(rooms);
        arrived.members.extend(users);
        arrived.is_start = true;
        arrived.upto = arrived.upto.max(upto);
        drop(arrived);
        self.news.notify_one();
    }

    /// Waits until something comes. Cancel-safe.
    pub async fn wait(&self) {
        self.news.notified().await;
    }

    /// Takes all that has come.
    pub fn take(&self) -> Arrived {
        let mut arrived = self.arrived.lock();
        let upto = arrived.upto;
        std::mem::replace(&mut *arrived, Arrived { upto, ..Arrived::default() })
    }

    /// Whether everything that came was taken.
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        let arrived = self.arrived.lock();
        arrived.rooms.is_empty() && arrived.pushers.is_empty() && arrived.members.is_empty()
    }

    /// Puts back what could not be worked on.
    pub fn put_back(&self, taken: Arrived) {
        let mut arrived = self.arrived.lock();
        arrived.rooms.extend(taken.rooms);
        arrived.pushers.extend(taken.pushers);
        arrived.members.extend(taken.members);
        arrived.readers.extend(taken.readers);
        arrived.is_start |= taken.is_start;
    }
}
