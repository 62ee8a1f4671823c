//! Restricted joins: whether being in another room lets a user in, and who of this server may vouch for it
//! (Client-Server API §Restricted rooms, Server-Server API §Restricted rooms).

use serde_json::{Map, Value};
use spec::ids::{RoomId, UserId};
use spec::power::PowerLevels;
use storage::Read;

use crate::error::RoomError;
use crate::head::Head;
use crate::ids::RoomNid;
use crate::keyspaces::SERVER_MEMBERS;
use crate::membership::Membership;
use crate::rooms::Rooms;

/// What this server can say of a join under a restricted join rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestrictedJoin {
    /// Nobody has to vouch: the join rule is another one, or the user is invited or in the room already.
    NotNeeded,
    /// A condition is met, and this user of this server may vouch for it.
    Granted(UserId),
    /// A condition is met, but nobody of this server has the power to let others in.
    NobodyMay,
    /// No condition is met.
    NotAllowed,
    /// No condition is met as far as this server knows, but it is not in all of the rooms that are named, or does not
    /// know all of their members.
    Unknown,
}

impl Rooms {
    /// Whether a user may join by a restricted join rule.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn judge_restricted_join(&self, room: RoomNid, user: &UserId) -> Result<RestrictedJoin, RoomError> {
        let head = self.head(room)?;
        if !head.rules().restricted_join {
            return Ok(RestrictedJoin::NotNeeded);
        }
        if matches!(self.membership_of(room, user)?, Some(Membership::Join | Membership::Invite)) {
            return Ok(RestrictedJoin::NotNeeded);
        }
        let summary = self.summary(room)?;
        match summary.join_rule.as_str() {
            "restricted" => {}
            "knock_restricted" if head.rules().knock_restricted => {}
            _ => return Ok(RestrictedJoin::NotNeeded),
        }
        let mut verdict = RestrictedJoin::NotAllowed;
        for allowed in &summary.allowed_room_ids {
            let Ok(allowed) = RoomId::parse(allowed) else { continue };
            let known = match self.room_nid(&allowed)? {
                Some(allowed) if self.is_resident(allowed)? => Some(allowed),
                _ => None,
            };
            let membership = known.map(|allowed| self.membership_of(allowed, user)).transpose()?.flatten();
            match known {
                Some(_) if membership == Some(Membership::Join) => {
                    let authoriser = self.find_authoriser(room, &head)?;
                    return Ok(authoriser.map_or(RestrictedJoin::NobodyMay, RestrictedJoin::Granted));
                }
                Some(allowed) if membership.is_none() && self.head(allowed)?.is_partial() => {
                    verdict = RestrictedJoin::Unknown;
                }
                // Of its own users a server knows every room.
                None if user.server_name() != self.server_name().as_str() => verdict = RestrictedJoin::Unknown,
                _ => {}
            }
        }
        Ok(verdict)
    }

    fn membership_of(&self, room: RoomNid, user: &UserId) -> Result<Option<Membership>, RoomError> {
        let Some(user) = self.user_nid(user)? else { return Ok(None) };
        Ok(self.membership(room, user)?.map(|row| row.membership))
    }

    /// A joined user of this server with the power to invite.
    fn find_authoriser(&self, room: RoomNid, head: &Head) -> Result<Option<UserId>, RoomError> {
        let create = head.create().ok_or(RoomError::Inconsistent("room without a create event"))?;
        let levels = PowerLevels::from_state(head.power_levels().map(|event| &**event), create, head.rules());
        for key in self.store.scan(&SERVER_MEMBERS, &(room, self.server_name().as_str().to_owned())).keys() {
            let (_, _, user) = key?;
            let user_id = self.user_id(user)?;
            if levels.user(&user_id).at_least(levels.invite())
                && self.membership(room, user)?.is_some_and(|row| row.membership == Membership::Join)
            {
                return Ok(Some(user_id));
            }
        }
        Ok(None)
    }

    /// Adds to a join's content the user of this server who vouches for it, if only a restricted join rule lets it in.
    pub(crate) fn authorise_restricted_join(
        &self,
        room: RoomNid,
        user: &UserId,
        content: &mut Map<String, Value>,
    ) -> Result<(), RoomError> {
        content.remove("join_authorised_via_users_server");
        if let RestrictedJoin::Granted(authoriser) = self.judge_restricted_join(room, user)? {
            content.insert("join_authorised_via_users_server".into(), authoriser.as_str().into());
        }
        Ok(())
    }
}
