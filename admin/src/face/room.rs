//! The admin room: `!admin …` in any Matrix client.
//!
//! The server's own user makes the room, invites administrators and removes those who are none any more. A follower
//! ([`follow`]) reads what is said, from a position that is stored before a command runs: a command runs at most once, and
//! one without an answer is told so after a restart. Each administrator has a line of their own ([`mod@line`]), in which
//! their commands run one after the other.

mod announce;
mod follow;
mod line;
mod members;
mod page;
mod passing;
mod progress;
pub(crate) mod rows;
mod voice;
pub(crate) mod words;

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::admin::Admin;

/// How many announcements wait at most; older ones give way.
const MAX_ANNOUNCEMENTS: usize = 100;
/// The first message of the room.
const GUIDE: &str = "This is the admin room of this server. Write commands here:\n\
    !admin --help — what there is\n\
    !admin user --help — what there is for users; so with every word\n\
    !admin user list — for example\n\
    A file for a command, such as a list of users, goes into a code block below it. What cannot be undone is asked \
    about first. Commands with passwords in them are removed from the room once they were read.\n\
    Administrators of this server are invited here and moderators may be; everything they do is in the audit log.";

/// What the server has to say in the admin room without having been asked.
#[derive(Debug, Default)]
pub(crate) struct Announcements {
    waiting: Mutex<VecDeque<String>>,
    news: Notify,
}

impl Announcements {
    /// Says a text as soon as may be. Of what cannot be said, the newest are kept.
    pub fn add(&self, text: String) {
        let mut waiting = self.waiting.lock();
        if waiting.len() >= MAX_ANNOUNCEMENTS {
            waiting.pop_front();
        }
        waiting.push_back(text);
        drop(waiting);
        self.news.notify_one();
    }

    fn first(&self) -> Option<String> {
        self.waiting.lock().front().cloned()
    }

    fn remove_first(&self) {
        self.waiting.lock().pop_front();
    }
}

/// The admin room of a server.
#[derive(Clone)]
pub(crate) struct AdminRoom {
    admin: Admin,
}

/// Follows the admin room until shutdown, if the configuration wants one.
pub(crate) fn start(admin: &Admin) {
    if admin.config().room {
        let room = AdminRoom { admin: admin.clone() };
        admin.tasks().spawn("admin room", room.follow());
        admin.tasks().spawn("admin room announcements", announce::announce(admin.clone()));
    }
}
