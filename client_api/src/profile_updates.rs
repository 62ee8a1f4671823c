//! Repeating a changed profile in the member events of all joined rooms, after the request that changed it.
//!
//! One update a user at a time: a change that comes while one runs makes it run once more, and each event is built
//! from the profile as it then is. So the last event of each room has the last profile.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use rooms::{Rooms, UserNid};
use runtime::Tasks;
use spec::ids::UserId;
use users::Users;

use crate::profile::member_content;

/// The updates that are running.
#[derive(Clone)]
pub(crate) struct ProfileUpdates(Arc<Shared>);

struct Shared {
    rooms: Rooms,
    users: Users,
    tasks: Tasks,
    /// Users with an update under way, and whether it must run again.
    running: Mutex<HashMap<UserNid, bool>>,
}

impl ProfileUpdates {
    pub fn new(rooms: Rooms, users: Users, tasks: Tasks) -> ProfileUpdates {
        ProfileUpdates(Arc::new(Shared { rooms, users, tasks, running: Mutex::default() }))
    }

    /// Brings the user's member events up to date, in the background.
    pub fn start(&self, user: UserNid, user_id: UserId) {
        {
            let mut running = self.0.running.lock();
            if let Some(again) = running.get_mut(&user) {
                *again = true;
                return;
            }
            running.insert(user, false);
        }
        let updates = self.clone();
        self.0.tasks.spawn("profile update", async move {
            loop {
                updates.update_rooms(user, &user_id).await;
                let mut running = updates.0.running.lock();
                if running.remove(&user) != Some(true) {
                    return;
                }
                running.insert(user, false);
            }
        });
    }

    async fn update_rooms(&self, user: UserNid, user_id: &UserId) {
        let Shared { rooms, users, tasks, .. } = &*self.0;
        let joined = match rooms.joined_rooms(user) {
            Ok(joined) => joined,
            Err(error) => {
                tracing::error!(%error, "a profile change was not told to rooms");
                return;
            }
        };
        for room in joined {
            if tasks.is_shutting_down() {
                return;
            }
            let Ok(content) = member_content(rooms, users, user_id) else { continue };
            if let Err(error) = rooms.update_member(room, user_id, content).await {
                tracing::debug!(room = room.0, %error, "a profile change was not told to a room");
            }
        }
    }
}
