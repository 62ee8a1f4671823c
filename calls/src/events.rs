//! What the media server and the commits tell, in their order, until the task of calls looks at it.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rooms::UserNid;
use tokio::sync::Notify;

use crate::history::LegStatistics;
use crate::seat::LegKey;

/// How the media server tells who came and went. Made before both it and [`crate::Calls`]; clones are one. Its length is
/// bounded by how fast the media server lets participants in.
#[derive(Clone, Default)]
pub struct CallEvents(Arc<Queue>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<VecDeque<Notice>>,
    news: Notify,
}

/// Something that was told.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A participant is in a call.
    Joined(LegKey),
    /// A participant is in it no more.
    Left(LegKey, LegStatistics),
    /// Something of these users has changed who are in calls.
    Changed(Vec<UserNid>),
}

impl CallEvents {
    /// A participant has joined a call. Does not block.
    pub fn joined(&self, room: &str, identity: &str) {
        self.push(Notice::Joined(LegKey { room: room.to_owned(), identity: identity.to_owned() }));
    }

    /// A participant has left a call, in whatever way, and does not come back to this leg. If it is followed by another
    /// of the same name, that one is told of after this. Does not block.
    pub fn left(&self, room: &str, identity: &str, statistics: LegStatistics) {
        self.push(Notice::Left(LegKey { room: room.to_owned(), identity: identity.to_owned() }, statistics));
    }

    /// The rooms, devices or accounts of these users have changed.
    pub(crate) fn look_at(&self, users: Vec<UserNid>) {
        self.push(Notice::Changed(users));
    }

    /// The next that was told. Cancel-safe.
    pub(crate) async fn next(&self) -> Notice {
        loop {
            let notice = self.0.waiting.lock().pop_front();
            match notice {
                Some(notice) => return notice,
                None => self.0.news.notified().await,
            }
        }
    }

    fn push(&self, notice: Notice) {
        self.0.waiting.lock().push_back(notice);
        self.0.news.notify_one();
    }
}

impl std::fmt::Debug for CallEvents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CallEvents").finish_non_exhaustive()
    }
}
