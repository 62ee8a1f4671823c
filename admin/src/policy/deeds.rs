//! What rules want done to the rooms and users of this server. What is named by a wildcard is refused at the gate only:
//! one rule that says too much must not close a server.

use std::collections::BTreeMap;

use rooms::{RoomError, Rooms};
use spec::ids::{RoomAlias, RoomId};
use spec::policy_list::{ListedRule, PolicyRules, PolicySubject, Recommendation};
use storage::Read;
use users::{Account, Role};

use super::rows::POLICY_LISTS;
use crate::admin::Admin;
use crate::error::AdminError;

/// How many accounts are read at a time.
const CHUNK: usize = 500;

/// Something that is done once because of a rule. They are done in this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Deed {
    /// A room is blocked.
    Block(String),
    /// The users of this server leave a room.
    Empty(String),
    /// A room is deleted with all that is stored of it.
    Delete(String),
    /// An account is suspended.
    Suspend(String),
    /// An account is locked.
    Lock(String),
    /// What a user has uploaded is hidden.
    Quarantine(String),
    /// Administrators are told that a user of this server is named.
    Tell(String),
}

/// Why something is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// The list of the rule.
    pub list: String,
    /// What the rule says of it.
    pub reason: Option<String>,
}

pub(super) type Wanted = BTreeMap<Deed, Cause>;

impl Deed {
    /// Under which key it is stored. The first two kinds were there before the others.
    pub fn key(&self) -> String {
        match self {
            Deed::Block(id) | Deed::Suspend(id) => id.clone(),
            Deed::Empty(id) => format!("empty {id}"),
            Deed::Delete(id) => format!("delete {id}"),
            Deed::Lock(id) => format!("lock {id}"),
            Deed::Quarantine(id) => format!("quarantine {id}"),
            Deed::Tell(id) => format!("tell {id}"),
        }
    }

    /// Reads a stored key.
    pub fn parse(key: &str) -> Option<Deed> {
        if key.starts_with('!') {
            return Some(Deed::Block(key.to_owned()));
        }
        if key.starts_with('@') {
            return Some(Deed::Suspend(key.to_owned()));
        }
        let (kind, id) = key.split_once(' ')?;
        let id = id.to_owned();
        Some(match kind {
            "empty" => Deed::Empty(id),
            "delete" => Deed::Delete(id),
            "lock" => Deed::Lock(id),
            "quarantine" => Deed::Quarantine(id),
            "tell" => Deed::Tell(id),
            _ => return None,
        })
    }

    /// The room or user that it is about.
    pub fn id(&self) -> &str {
        match self {
            Deed::Block(id)
            | Deed::Empty(id)
            | Deed::Delete(id)
            | Deed::Suspend(id)
            | Deed::Lock(id)
            | Deed::Quarantine(id)
            | Deed::Tell(id) => id,
        }
    }
}

impl Cause {
    /// Why a rule of a list has something done.
    pub fn of(listed: &ListedRule) -> Cause {
        Cause { list: listed.list.to_string(), reason: listed.rule.reason().map(str::to_owned) }
    }

    /// For people.
    pub fn text(&self) -> String {
        match &self.reason {
            Some(reason) => format!("named by the policy list {}: {reason}", self.list),
            None => format!("named by the policy list {}", self.list),
        }
    }
}

/// All that is to be done. Looks at all accounts, and where a rule has a hash at the ids of all rooms.
///
/// # Errors
/// Storage errors only.
pub(super) fn find_wanted(admin: &Admin, rules: &PolicyRules) -> Result<Wanted, AdminError> {
    let mut wanted = Wanted::new();
    want_for_rooms(admin, rules, &mut wanted)?;
    want_for_users(admin, rules, &mut wanted)?;
    Ok(wanted)
}

fn want_for_rooms(admin: &Admin, rules: &PolicyRules, wanted: &mut Wanted) -> Result<(), AdminError> {
    let rooms = admin.rooms();
    for listed in rules.all() {
        if listed.rule.subject() == PolicySubject::Room && !listed.rule.is_glob() && !listed.rule.is_hash() {
            let Some(room) = named_room(rooms, listed.rule.entity())? else { continue };
            want_for_room(admin, &room, listed, wanted)?;
        }
    }
    if rules.all().iter().any(|listed| listed.rule.subject() == PolicySubject::Room && listed.rule.is_hash()) {
        for room in rooms.room_ids()? {
            if let Some(listed) = rules.find_exact(PolicySubject::Room, room.as_str()) {
                want_for_room(admin, &room, listed, wanted)?;
            }
        }
    }
    Ok(())
}

/// The room of a rule: by its id, also of one that is not known here, or by an alias of this server.
fn named_room(rooms: &Rooms, entity: &str) -> Result<Option<RoomId>, AdminError> {
    let Ok(alias) = RoomAlias::parse(entity) else { return Ok(RoomId::parse(entity).ok()) };
    if alias.server_name() != rooms.server_name().as_str() {
        return Ok(None);
    }
    match rooms.find_alias(&alias) {
        Ok((room, _)) => Ok(Some(room)),
        Err(error) if error.is_of_store() => Err(error.into()),
        Err(_) => Ok(None),
    }
}

fn want_for_room(admin: &Admin, room: &RoomId, listed: &ListedRule, wanted: &mut Wanted) -> Result<(), AdminError> {
    if is_needed(admin, room)? {
        return Ok(());
    }
    let config = admin.config();
    let is_takedown = listed.rule.recommendation() == Recommendation::Takedown;
    let id = || room.as_str().to_owned();
    let mut want = |deed: Deed| {
        wanted.entry(deed).or_insert_with(|| Cause::of(listed));
    };
    want(Deed::Block(id()));
    if is_takedown && config.delete_taken_down_rooms {
        want(Deed::Delete(id()));
    } else if is_takedown || config.empty_listed_rooms {
        want(Deed::Empty(id()));
    }
    Ok(())
}

/// Whether the server itself needs the room: the admin room, and those of the lists.
fn is_needed(admin: &Admin, room: &RoomId) -> Result<bool, RoomError> {
    let is_admin_room = match (admin.admin_room(), admin.rooms().room_nid(room)?) {
        (Ok(admin_room), Some(nid)) => admin_room == Some(nid),
        _ => false,
    };
    Ok(is_admin_room || admin.store().contains(&POLICY_LISTS, &room.as_str().to_owned())?)
}

fn want_for_users(admin: &Admin, rules: &PolicyRules, wanted: &mut Wanted) -> Result<(), AdminError> {
    let mut after = None;
    loop {
        let accounts = admin.users().list_accounts(after, CHUNK)?;
        let Some(last) = accounts.last() else { return Ok(()) };
        after = Some(last.user);
        for account in &accounts {
            if let Some(listed) = rules.find_exact(PolicySubject::User, account.user_id.as_str()) {
                want_for_user(admin, account, listed, wanted)?;
            }
        }
    }
}

fn want_for_user(admin: &Admin, account: &Account, listed: &ListedRule, wanted: &mut Wanted) -> Result<(), AdminError> {
    if account.is_deactivated || admin.users().is_server_user(&account.user_id) {
        return Ok(());
    }
    let role = admin.users().role(account.user)?;
    let may_act = admin.config().suspend_listed_users
        && !account.is_admin
        && !matches!(role, Some(Role::Administrator | Role::Moderator));
    let id = || account.user_id.to_string();
    let deeds = match listed.rule.recommendation() {
        _ if !may_act => vec![Deed::Tell(id())],
        Recommendation::Ban => vec![Deed::Suspend(id())],
        Recommendation::Takedown => vec![Deed::Lock(id()), Deed::Quarantine(id())],
    };
    wanted.extend(deeds.into_iter().map(|deed| (deed, Cause::of(listed))));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written() {
        let id = || "!a b:c".to_owned();
        let user = || "@x:y".to_owned();
        for deed in [
            Deed::Block(id()),
            Deed::Empty(id()),
            Deed::Delete(id()),
            Deed::Suspend(user()),
            Deed::Lock(user()),
            Deed::Quarantine(user()),
            Deed::Tell(user()),
        ] {
            assert_eq!(Deed::parse(&deed.key()), Some(deed));
        }
        assert_eq!((Deed::parse("else !a:b"), Deed::parse("x"), Deed::parse("")), (None, None, None));
    }
}
