//! Users who are here already: invitations of users whom rules name are withdrawn, and in rooms where somebody of this
//! server bans for the list they are banned. Whoever is in rooms all the same is noted, for administrators to see.

use std::collections::BTreeMap;

use rooms::{Membership, MembershipChange, RoomError, RoomNid, UserNid, UserRoom};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use spec::ids::UserId;
use spec::policy_list::{ListedRule, PolicyRules, PolicySubject};
use storage::{Batch, Read};

use super::enforce::audited;
use super::gate::{find_rule_for_user, rules_naming};
use super::rows::{POLICY_BANS, POLICY_FOUND, POLICY_MODERATORS, PolicyBanRow, PolicyDeedRow};
use crate::admin::Admin;
use crate::error::AdminError;

/// How many of the users who were found are named.
const NAMED: usize = 20;

/// What a look at users has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// How many invitations were withdrawn.
    pub withdrawn: u64,
    /// How many users were banned, counted in each room.
    pub banned: u64,
    /// How many bans were lifted because their rule is gone.
    pub lifted: u64,
    /// How many users are in rooms all the same who were not found before, and the first of them.
    pub found: u64,
    pub named: Vec<String>,
}

/// The rules, and who bans for which list.
pub(super) struct Judge<'a> {
    admin: &'a Admin,
    rules: &'a PolicyRules,
    moderators: BTreeMap<String, UserId>,
}

impl Tally {
    /// What administrators are told, if there is anything new.
    pub fn announcement(&self) -> Option<String> {
        if self.found == 0 {
            return None;
        }
        let named = self.named.join(", ");
        let more = if self.found > self.named.len() as u64 { ", …" } else { "" };
        Some(format!(
            "Policy lists name {} users of other servers who are in rooms of this server: {named}{more}\n\
             !admin policy present",
            self.found
        ))
    }
}

impl<'a> Judge<'a> {
    /// As of now.
    ///
    /// # Errors
    /// Storage errors only.
    pub fn new(admin: &'a Admin, rules: &'a PolicyRules) -> Result<Judge<'a>, AdminError> {
        let mut moderators = BTreeMap::new();
        for row in admin.store().scan(&POLICY_MODERATORS, &()).iter() {
            let (list, user) = row?;
            moderators.extend(UserId::parse(user).ok().map(|user| (list, user)));
        }
        Ok(Judge { admin, rules, moderators })
    }

    /// Who bans for which list.
    pub fn moderators(&self) -> &BTreeMap<String, UserId> {
        &self.moderators
    }

    /// Does what the rules want with a user. Doing it again changes nothing.
    ///
    /// # Errors
    /// Storage errors, and what is to be tried again.
    pub async fn look_at(&self, user: UserNid, user_id: &UserId, tally: &mut Tally) -> Result<(), AdminError> {
        if user_id.server_name() == self.admin.rooms().server_name().as_str() {
            return self.withdraw_invitations(user, user_id, tally).await;
        }
        let naming = rules_naming(self.rules, user_id);
        match naming.first() {
            None => self.release(user, user_id, tally).await,
            Some(first) => {
                let mut left = false;
                for (room, row) in self.admin.rooms().user_rooms(user)?.iter() {
                    let is_in = matches!(row.membership, Membership::Join | Membership::Invite | Membership::Knock);
                    if is_in && self.admin.rooms().is_resident(*room)? {
                        let is_banned = self.ban(*room, (user, user_id), &naming, tally).await?;
                        left |= !is_banned && row.membership == Membership::Join;
                    }
                }
                self.note_found(user, user_id, first, left, tally).await
            }
        }
    }

    async fn withdraw_invitations(&self, user: UserNid, user_id: &UserId, tally: &mut Tally) -> Result<(), AdminError> {
        let rooms = self.admin.rooms();
        for (room, row) in rooms.user_rooms(user)?.iter().filter(|(_, row)| row.membership == Membership::Invite) {
            let Some(listed) = self.find_rule_for_invitation(*room, row)? else { continue };
            let about = json!({"room": rooms.room_id(*room)?, "user": user_id, "list": &*listed.list});
            let work = async { Ok(rooms.remove_local_user(*room, user).await?) };
            if succeeded(audited(self.admin, "policy withdraw-invite", about, work).await)? {
                tally.withdrawn += 1;
            }
        }
        Ok(())
    }

    fn find_rule_for_invitation(&self, room: RoomNid, row: &UserRoom) -> Result<Option<&ListedRule>, AdminError> {
        let rooms = self.admin.rooms();
        if let Some(listed) = self.rules.find(PolicySubject::Room, rooms.room_id(room)?.as_str()) {
            return Ok(Some(listed));
        }
        let inviter = UserId::parse(rooms.event_at(room, row.seq)?.sender()).ok();
        let inviter = inviter.filter(|inviter| inviter.server_name() != rooms.server_name().as_str());
        Ok(inviter.and_then(|inviter| find_rule_for_user(self.rules, &inviter)))
    }

    /// Has the one ban the user who does so for a list that names them and has the power. Says whether they are gone.
    async fn ban(
        &self,
        room: RoomNid,
        (user, user_id): (UserNid, &UserId),
        naming: &[&ListedRule],
        tally: &mut Tally,
    ) -> Result<bool, AdminError> {
        let rooms = self.admin.rooms();
        for listed in naming {
            let Some(moderator) = self.moderators.get(&*listed.list) else { continue };
            if !rooms.may_ban(room, moderator, user_id)? {
                continue;
            }
            let (list, by) = (listed.list.to_string(), moderator.to_string());
            let about = json!({"room": rooms.room_id(room)?, "user": user_id, "list": list, "as": by});
            // First of all, so that whatever happens the ban is known to be the list's.
            let mut batch = Batch::new();
            let row = PolicyBanRow { list, by, at_ms: self.admin.clock().now_ms() };
            batch.put(&POLICY_BANS, &(user, room), &row);
            self.admin.store().commit(batch).await?;
            let reason = listed.rule.reason();
            let work = self.change(room, moderator, user_id, Membership::Ban, reason);
            if succeeded(audited(self.admin, "policy ban-member", about, work).await)? {
                tally.banned += 1;
                return Ok(true);
            }
            self.forget_ban(user, room).await?;
        }
        Ok(false)
    }

    async fn change(
        &self,
        room: RoomNid,
        by: &UserId,
        of: &UserId,
        membership: Membership,
        reason: Option<&str>,
    ) -> Result<(), AdminError> {
        let reason = reason.map(|reason| ("reason".to_owned(), Value::from(reason)));
        let content: Map<String, Value> = reason.into_iter().collect();
        let change = MembershipChange { sender: by.clone(), target: of.clone(), membership, content };
        let room = self.admin.rooms().room_id(room)?;
        Ok(self.admin.rooms().change_membership(&room, change).await?)
    }

    /// No rule names the user any more: the bans of lists are lifted.
    async fn release(&self, user: UserNid, user_id: &UserId, tally: &mut Tally) -> Result<(), AdminError> {
        let (rooms, store) = (self.admin.rooms(), self.admin.store());
        let bans = store.scan(&POLICY_BANS, &user).iter().collect::<Result<Vec<_>, _>>()?;
        for ((_, room), row) in bans {
            if let Some(by) = self.find_own_ban(user, room, &row)? {
                let about = json!({"room": rooms.room_id(room)?, "user": user_id, "list": row.list, "as": row.by});
                let work = self.change(room, &by, user_id, Membership::Leave, None);
                if succeeded(audited(self.admin, "policy unban-member", about, work).await)? {
                    tally.lifted += 1;
                }
            }
            self.forget_ban(user, room).await?;
        }
        if store.contains(&POLICY_FOUND, &user)? {
            let mut batch = Batch::new();
            batch.delete(&POLICY_FOUND, &user);
            store.commit(batch).await?;
        }
        Ok(())
    }

    /// Who made the ban, if it is still the one that a list had made.
    fn find_own_ban(&self, user: UserNid, room: RoomNid, row: &PolicyBanRow) -> Result<Option<UserId>, AdminError> {
        let rooms = self.admin.rooms();
        let banned = rooms.membership(room, user)?.filter(|row| row.membership == Membership::Ban);
        let Some(banned) = banned else { return Ok(None) };
        let is_own = rooms.event_at(room, banned.seq)?.sender() == row.by;
        Ok(UserId::parse(row.by.as_str()).ok().filter(|_| is_own))
    }

    async fn forget_ban(&self, user: UserNid, room: RoomNid) -> Result<(), AdminError> {
        let mut batch = Batch::new();
        batch.delete(&POLICY_BANS, &(user, room));
        self.admin.store().commit(batch).await?;
        Ok(())
    }

    async fn note_found(
        &self,
        user: UserNid,
        user_id: &UserId,
        listed: &ListedRule,
        is_there: bool,
        tally: &mut Tally,
    ) -> Result<(), AdminError> {
        let store = self.admin.store();
        let mut batch = Batch::new();
        match (is_there, store.contains(&POLICY_FOUND, &user)?) {
            (true, false) => {
                let row = PolicyDeedRow { list: listed.list.to_string(), at_ms: self.admin.clock().now_ms() };
                batch.put(&POLICY_FOUND, &user, &row);
                tally.found += 1;
                if tally.named.len() < NAMED {
                    tally.named.push(user_id.to_string());
                }
            }
            (false, true) => drop(batch.delete(&POLICY_FOUND, &user)),
            _ => return Ok(()),
        }
        store.commit(batch).await?;
        Ok(())
    }
}

/// Whether something was done. What cannot be done is left; what may be possible later is an error.
fn succeeded(outcome: Result<(), AdminError>) -> Result<bool, AdminError> {
    match outcome {
        Ok(()) => Ok(true),
        Err(error) if error.is_temporary() => Err(error),
        Err(error) => {
            tracing::warn!(%error, "what a policy list wants could not be done");
            Ok(false)
        }
    }
}

/// The rooms of this server that a user is joined to.
///
/// # Errors
/// Storage errors only.
pub(super) fn joined_here(admin: &Admin, user: UserNid) -> Result<usize, RoomError> {
    let mut count = 0;
    for room in admin.rooms().joined_rooms(user)? {
        count += usize::from(admin.rooms().is_resident(room)?);
    }
    Ok(count)
}
