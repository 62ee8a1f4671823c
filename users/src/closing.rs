//! Closing an account completely, with the rooms it is in, and opening it again.

use rooms::{Membership, MembershipChange, RoomNid, Rooms, UserNid};
use runtime::Tasks;
use serde_json::Map;
use spec::ids::UserId;

use crate::{UserError, Users};

impl Users {
    /// Deactivates an account: see [`Users::deactivate`]. What it had scheduled is cancelled, and the rooms are left
    /// afterwards, in the background. `erase` notes that its owner wants everything erased that can be. The work goes
    /// on if the call is dropped, so that no account stays half closed.
    ///
    /// # Errors
    /// `NotFound`; `ShuttingDown` when the server stops meanwhile.
    pub async fn close_account(&self, tasks: &Tasks, user: UserNid, erase: bool) -> Result<(), UserError> {
        let user_id = self.account(user)?.ok_or(UserError::NotFound("account"))?.user_id;
        let (users, closing) = (self.clone(), tasks.clone());
        let (done, outcome) = tokio::sync::oneshot::channel();
        tasks.spawn("account deactivation", async move {
            let closed = users.close(&closing, user, user_id, erase).await;
            // Nobody listens any more if the request was dropped.
            drop(done.send(closed));
        });
        outcome.await.map_err(|_| UserError::ShuttingDown)?
    }

    async fn close(&self, tasks: &Tasks, user: UserNid, user_id: UserId, erase: bool) -> Result<(), UserError> {
        let rooms = self.rooms().clone();
        let open = |membership| matches!(membership, Membership::Invite | Membership::Knock);
        let invited = rooms.user_rooms(user)?;
        let invited = invited.iter().filter(|(_, row)| open(row.membership)).map(|(room, _)| *room);
        let mut left: Vec<RoomNid> = invited.collect();
        left.extend(self.deactivate_noting(user, erase).await?);
        if let Err(error) = rooms.cancel_all_delayed(user).await {
            tracing::warn!(%error, "what a deactivated user had scheduled was not cancelled");
        }
        tasks.spawn("leaving rooms", leave_rooms(rooms, user_id, left));
        Ok(())
    }

    /// Opens a deactivated account again, with a new password or without one; what was erased stays so. Cancel-safe.
    ///
    /// # Errors
    /// `NotFound`, `WeakPassword`, `Busy`; `InvalidParam` for an account that is not deactivated.
    pub async fn reactivate(&self, user: UserNid, password: Option<&str>) -> Result<(), UserError> {
        let hash = match password {
            Some(password) => {
                self.check_password_strength(password)?;
                Some(self.hash_password(password).await?)
            }
            None => None,
        };
        self.update_account(user, |row, facts| {
            if !row.is_deactivated {
                return Err(UserError::InvalidParam("this account is not deactivated"));
            }
            row.is_deactivated = false;
            row.password.clone_from(&hash);
            facts.is_erased = false;
            Ok(())
        })
        .await
    }
}

async fn leave_rooms(rooms: Rooms, user: UserId, left: Vec<RoomNid>) {
    for room in left {
        let Ok(room_id) = rooms.room_id(room) else { continue };
        let change = MembershipChange {
            sender: user.clone(),
            target: user.clone(),
            membership: Membership::Leave,
            content: Map::new(),
        };
        if let Err(error) = rooms.change_membership(&room_id, change).await {
            tracing::warn!(room_id = room_id.as_str(), %error, "a deactivated user could not leave a room");
        }
    }
}
