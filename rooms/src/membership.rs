//! Memberships: who is in which room, and how a user's membership changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use spec::ids::{RoomId, UserId};
use storage::{Batch, Read, StreamPos, Topic};

use crate::draft::Draft;
use crate::error::RoomError;
use crate::gate::Deed;
use crate::ids::{RoomNid, RoomSeq, TOPIC_MEMBERSHIP, UserNid};
use crate::keyspaces::{MembershipRow, ROOM_MEMBERS, SERVER_MEMBERS, USER_ROOMS};
use crate::rooms::Rooms;

/// `content.membership` of a member event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// In the room.
    Join,
    /// Asked to come.
    Invite,
    /// Asking to come.
    Knock,
    /// Left, was kicked, or refused.
    Leave,
    /// Banned.
    Ban,
}

impl Membership {
    /// As it stands in events.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Membership::Join => "join",
            Membership::Invite => "invite",
            Membership::Knock => "knock",
            Membership::Leave => "leave",
            Membership::Ban => "ban",
        }
    }

    /// Reads what stands in events.
    #[must_use]
    pub fn parse(text: &str) -> Option<Membership> {
        Some(match text {
            "join" => Membership::Join,
            "invite" => Membership::Invite,
            "knock" => Membership::Knock,
            "leave" => Membership::Leave,
            "ban" => Membership::Ban,
            _ => return None,
        })
    }
}

/// One room of a user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UserRoom {
    /// Their membership now.
    pub membership: Membership,
    /// The member event.
    pub seq: RoomSeq,
    /// When it changed last.
    pub pos: StreamPos,
    /// The user wants to see it no more (`POST /rooms/{roomId}/forget`).
    pub forgotten: bool,
    /// The member event that last ended their being joined.
    pub left_at: Option<RoomSeq>,
}

impl UserRoom {
    /// Whether the user is, or ever was, joined.
    #[must_use]
    pub fn was_joined(&self) -> bool {
        self.membership == Membership::Join || self.left_at.is_some()
    }
}

/// A user of this server in a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalMember {
    /// Who.
    pub user: UserNid,
    /// Their membership now.
    pub membership: Membership,
    /// The member event that last ended their being joined.
    pub left_at: Option<RoomSeq>,
}

/// A change of membership, as the endpoints of Client-Server API §Room membership ask for it.
#[derive(Clone, Debug)]
pub struct MembershipChange {
    /// Who acts.
    pub sender: UserId,
    /// Whose membership changes.
    pub target: UserId,
    /// The new membership.
    pub membership: Membership,
    /// Further content: reason, profile of the target, `is_direct`, …
    pub content: Map<String, Value>,
}

impl Rooms {
    /// Every room the user has a membership of, forgotten ones included, as of now or later than any
    /// visible position. Cheap: shared with the cache.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn user_rooms(&self, user: UserNid) -> Result<Arc<BTreeMap<RoomNid, UserRoom>>, RoomError> {
        self.memory.user_rooms.get_or_load(user, || {
            let mut rooms = BTreeMap::new();
            for row in self.store.scan(&USER_ROOMS, &user).iter() {
                let ((_, room), row) = row?;
                let MembershipRow { membership, seq, forgotten, left_at } = row.value;
                rooms.insert(room, UserRoom { membership, seq, pos: row.pos, forgotten, left_at });
            }
            Ok(Arc::new(rooms))
        })
    }

    /// The user's membership of the room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn membership(&self, room: RoomNid, user: UserNid) -> Result<Option<UserRoom>, RoomError> {
        Ok(self.user_rooms(user)?.get(&room).copied())
    }

    /// The rooms the user is joined to.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn joined_rooms(&self, user: UserNid) -> Result<Vec<RoomNid>, RoomError> {
        let rooms = self.user_rooms(user)?;
        Ok(rooms.iter().filter(|(_, row)| row.membership == Membership::Join).map(|(room, _)| *room).collect())
    }

    /// The users joined to the room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn joined_members(&self, room: RoomNid) -> Result<Arc<Vec<UserNid>>, RoomError> {
        self.memory.joined_members.get_or_load(room, || {
            let mut members = Vec::new();
            for row in self.store.scan(&ROOM_MEMBERS, &room).iter() {
                let ((_, user), row) = row?;
                if row.membership == Membership::Join {
                    members.push(user);
                }
            }
            Ok(Arc::new(members))
        })
    }

    /// Every member of the room, of whatever membership, with their member event.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn members(&self, room: RoomNid) -> Result<Vec<(UserNid, Membership, RoomSeq)>, RoomError> {
        let mut members = Vec::new();
        for row in self.store.scan(&ROOM_MEMBERS, &room).iter() {
            let ((_, user), row) = row?;
            members.push((user, row.membership, row.seq));
        }
        Ok(members)
    }

    /// The users of this server who have, or had, a membership of the room. Costs what their number is.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn local_members(&self, room: RoomNid) -> Result<Vec<LocalMember>, RoomError> {
        let mut members = Vec::new();
        for key in self.store.scan(&SERVER_MEMBERS, &(room, self.server_name().as_str().to_owned())).keys() {
            let (_, _, user) = key?;
            if let Some(MembershipRow { membership, left_at, .. }) = self.store.get(&ROOM_MEMBERS, &(room, user))? {
                members.push(LocalMember { user, membership, left_at });
            }
        }
        Ok(members)
    }

    /// Whether two users are joined to a common room.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn shares_room(&self, a: UserNid, b: UserNid) -> Result<bool, RoomError> {
        let (a, b) = (self.user_rooms(a)?, self.user_rooms(b)?);
        let (few, many) = if a.len() <= b.len() { (&a, &b) } else { (&b, &a) };
        let joined = |row: &UserRoom| row.membership == Membership::Join;
        Ok(few.iter().any(|(room, row)| joined(row) && many.get(room).is_some_and(joined)))
    }

    /// All users who are joined to a room with this one, the user included.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn users_sharing_rooms(&self, user: UserNid) -> Result<std::collections::BTreeSet<UserNid>, RoomError> {
        let mut users = std::collections::BTreeSet::from([user]);
        for room in self.joined_rooms(user)? {
            users.extend(self.joined_members(room)?.iter());
        }
        Ok(users)
    }

    /// Changes a membership: join, leave, invite, knock, kick, ban, unban. Joining a room one is in,
    /// and leaving one that one has left, change nothing. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Forbidden`] with the rule that forbids it; [`RoomError::Refused`] by the gate;
    /// [`RoomError::NotResident`] where another
    /// server has to do it; [`RoomError::RemoteUnavailable`] where another one would have to take part.
    pub async fn change_membership(&self, room: &RoomId, change: MembershipChange) -> Result<(), RoomError> {
        self.change_membership_at(room, change, None).await
    }

    /// As [`Rooms::change_membership`], with a time to claim instead of now, in milliseconds (Application Service API
    /// §Timestamp massaging).
    ///
    /// # Errors
    /// As [`Rooms::change_membership`].
    pub async fn change_membership_at(
        &self,
        room: &RoomId,
        change: MembershipChange,
        timestamp: Option<i64>,
    ) -> Result<(), RoomError> {
        let MembershipChange { sender, target, membership, .. } = &change;
        self.check_gate(&Deed { membership: *membership, sender, target, room: Some(room) })?;
        let nid = self.known_room(room)?;
        if matches!(change.membership, Membership::Join | Membership::Knock) {
            self.expect_full_state_to_join(nid, &change.target)?;
        }
        self.expect_resident(nid)?;
        if change.target.server_name() != self.server_name().as_str() {
            if matches!(change.membership, Membership::Invite) {
                return Err(RoomError::RemoteUnavailable(change.target.server_name().to_owned()));
            }
        } else {
            self.intern_user(&change.target).await?;
        }
        let MembershipChange { sender, target, membership, mut content } = change;
        content.insert("membership".into(), membership.as_str().into());
        if membership == Membership::Join {
            self.authorise_restricted_join(nid, &target, &mut content)?;
        }
        let draft = Draft {
            skip_if_unchanged: membership == Membership::Join,
            timestamp,
            ..Draft::state(sender, "m.room.member", target.as_str(), content)
        };
        self.append(nid, vec![draft], None).await.map(drop)
    }

    /// Whether this server may let a user into a room: not into a partial one, whose state does not say who may join.
    /// Another server does that, unless a ban was seen here.
    fn expect_full_state_to_join(&self, room: RoomNid, user: &UserId) -> Result<(), RoomError> {
        if !self.head(room)?.is_partial() {
            return Ok(());
        }
        let row = match self.user_nid(user)? {
            Some(user) => self.membership(room, user)?,
            None => None,
        };
        match row.map(|row| row.membership) {
            Some(Membership::Join) => Ok(()),
            Some(Membership::Ban) => Err(RoomError::Refused("you are banned from this room")),
            _ => Err(RoomError::NotResident),
        }
    }

    /// Gives a member's event another content (their profile). Does nothing where it has that content
    /// already; who has left meanwhile does not come back by it. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::NotInRoom`] if the user is not joined.
    pub async fn update_member(
        &self,
        room: RoomNid,
        user: &UserId,
        mut content: Map<String, Value>,
    ) -> Result<(), RoomError> {
        content.insert("membership".into(), Membership::Join.as_str().into());
        let draft = Draft {
            skip_if_unchanged: true,
            only_if_joined: true,
            ..Draft::state(user.clone(), "m.room.member", user.as_str(), content)
        };
        self.append(room, vec![draft], None).await.map(drop)
    }

    /// Forgets a room that the user has left, so that it is no longer shown to them. Cancel-safe.
    ///
    /// # Errors
    /// [`RoomError::Refused`] while the user is in the room.
    pub async fn forget(&self, room: &RoomId, user: UserNid) -> Result<(), RoomError> {
        let nid = self.known_room(room)?;
        let row = self.membership(nid, user)?.ok_or(RoomError::NotInRoom)?;
        if !matches!(row.membership, Membership::Leave | Membership::Ban) {
            return Err(RoomError::Refused("you must leave the room before you can forget it"));
        }
        let stored = self.store.get(&USER_ROOMS, &(user, nid))?.ok_or(RoomError::NotInRoom)?;
        let mut batch = Batch::new();
        batch.expect_equals(&USER_ROOMS, &(user, nid), &stored);
        let forgotten = MembershipRow { forgotten: true, ..stored.value };
        batch.put(&USER_ROOMS, &(user, nid), &storage::Stamped { pos: stored.pos, value: forgotten });
        batch.touch(Topic::new(TOPIC_MEMBERSHIP, user.0));
        self.store.commit(batch).await?;
        Ok(())
    }
}
