//! What rules make the server do by itself, beyond refusing: done once, and undone when the rule is gone.

use std::collections::BTreeMap;

use rooms::Membership;
use serde_json::{Value, json};
use spec::ids::{RoomId, UserId};
use spec::policy_list::PolicyRules;
use storage::{Batch, Read};
use users::{Account, AccountFlags};

use super::deeds::{Cause, Deed, find_wanted};
use super::rows::{POLICY_DEEDS, PolicyDeedRow};
use crate::admin::{Action, Admin};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::media::{Deed as MediaDeed, Source, Sweep, SweepMedia};
use crate::operation::{Effect, Needs};
use crate::room::{DeleteArguments, DeleteRoom};

/// Does what the rules want and was not done, and undoes what was done for rules that are gone. Each deed is in the
/// audit log. One that fails keeps no other from being done.
///
/// # Errors
/// The last thing that failed: it is to be tried again.
pub(super) async fn enforce(admin: &Admin, rules: &PolicyRules) -> Result<(), AdminError> {
    let wanted = find_wanted(admin, rules)?;
    let rows = admin.store().scan(&POLICY_DEEDS, &()).iter().collect::<Result<Vec<_>, _>>()?;
    let done: BTreeMap<Deed, PolicyDeedRow> =
        rows.into_iter().filter_map(|(key, row)| Some((Deed::parse(&key)?, row))).collect();
    let mut outcome = Ok(());
    for (deed, cause) in wanted.iter().filter(|(deed, _)| !done.contains_key(deed)) {
        if let Err(error) = begin(admin, deed, cause).await {
            tracing::warn!(deed = deed.key(), %error, "what a policy list wants could not be done");
            outcome = Err(error);
        }
    }
    for (deed, row) in done.iter().filter(|(deed, _)| !wanted.contains_key(deed)) {
        if let Err(error) = end(admin, deed, &row.list).await {
            tracing::warn!(deed = deed.key(), %error, "what a policy list wanted could not be undone");
            outcome = Err(error);
        }
    }
    outcome
}

async fn begin(admin: &Admin, deed: &Deed, cause: &Cause) -> Result<(), AdminError> {
    if act(admin, deed, cause).await? {
        let mut batch = Batch::new();
        let row = PolicyDeedRow { list: cause.list.clone(), at_ms: admin.clock().now_ms() };
        batch.put(&POLICY_DEEDS, &deed.key(), &row);
        admin.store().commit(batch).await?;
    }
    Ok(())
}

/// Says whether it is the list's doing: what was so before is not undone with the rule.
async fn act(admin: &Admin, deed: &Deed, cause: &Cause) -> Result<bool, AdminError> {
    let (id, list) = (deed.id(), cause.list.as_str());
    match deed {
        Deed::Block(_) => {
            let room = parse_room(id)?;
            if admin.rooms().blocked(&room)?.is_some() {
                return Ok(false);
            }
            let work = async { Ok(admin.rooms().block_room(&room, None, Some(&cause.text())).await?) };
            audited(admin, "policy block-room", about(id, list), work).await?;
        }
        Deed::Empty(_) | Deed::Delete(_) => {
            let (room, purge) = (parse_room(id)?, matches!(deed, Deed::Delete(_)));
            if !has_work(admin, &room, purge)? {
                return Ok(false);
            }
            let arguments = DeleteArguments { purge, ..DeleteArguments::of(room, &Caller::server()) };
            let name = if purge { "policy delete-room" } else { "policy empty-room" };
            let starting = async { admin.jobs().start::<DeleteRoom>(&Caller::server(), &arguments).await.map(drop) };
            audited(admin, name, about(id, list), starting).await?;
        }
        Deed::Suspend(_) => {
            let Some(account) = find_account(admin, id)?.filter(|account| !account.is_suspended) else {
                return Ok(false);
            };
            audited(admin, "policy suspend-user", about(id, list), set_flags(admin, &account, suspended(true))).await?;
        }
        Deed::Lock(_) => {
            let Some(account) = find_account(admin, id)?.filter(|account| !account.is_locked) else {
                return Ok(false);
            };
            audited(admin, "policy lock-user", about(id, list), set_flags(admin, &account, locked(true))).await?;
        }
        Deed::Quarantine(_) => {
            let Some(account) = find_account(admin, id)? else { return Ok(false) };
            let (source, by) = (Source::User(account.user_id), Caller::server().who.to_string());
            let sweep = Sweep { source, deed: MediaDeed::Quarantine, by, names: false };
            let starting = async { admin.jobs().start::<SweepMedia>(&Caller::server(), &sweep).await.map(drop) };
            audited(admin, "policy quarantine-media", about(id, list), starting).await?;
        }
        Deed::Tell(_) => {
            tracing::warn!(user = id, list, "a followed policy list names a user of this server");
            admin.announce(format!("{id} of this server is {}\n!admin user show {id}", cause.text()));
        }
    }
    Ok(true)
}

/// Undoes what can be: who left a room is not brought back, a deleted room is gone, and hidden media stay hidden.
async fn end(admin: &Admin, deed: &Deed, list: &str) -> Result<(), AdminError> {
    let id = deed.id();
    match deed {
        Deed::Block(_) => {
            let room = parse_room(id)?;
            let work = async { Ok(admin.rooms().unblock_room(&room).await?) };
            audited(admin, "policy unblock-room", about(id, list), work).await?;
        }
        Deed::Suspend(_) => {
            if let Some(account) = find_account(admin, id)?.filter(|account| account.is_suspended) {
                audited(admin, "policy unsuspend-user", about(id, list), set_flags(admin, &account, suspended(false)))
                    .await?;
            }
        }
        Deed::Lock(_) => {
            if let Some(account) = find_account(admin, id)?.filter(|account| account.is_locked) {
                audited(admin, "policy unlock-user", about(id, list), set_flags(admin, &account, locked(false)))
                    .await?;
            }
        }
        Deed::Empty(_) | Deed::Delete(_) | Deed::Quarantine(_) | Deed::Tell(_) => {}
    }
    let mut batch = Batch::new();
    batch.delete(&POLICY_DEEDS, &deed.key());
    admin.store().commit(batch).await?;
    Ok(())
}

/// Whether a room is known here, and, unless all of it goes, somebody of this server is to leave it.
fn has_work(admin: &Admin, room: &RoomId, purge: bool) -> Result<bool, AdminError> {
    let Some(nid) = admin.rooms().room_nid(room)? else { return Ok(false) };
    let is_in = |membership| matches!(membership, Membership::Join | Membership::Invite | Membership::Knock);
    Ok(purge || admin.rooms().local_members(nid)?.iter().any(|member| is_in(member.membership)))
}

fn parse_room(id: &str) -> Result<RoomId, AdminError> {
    RoomId::parse(id).map_err(AdminError::internal)
}

fn suspended(is: bool) -> AccountFlags {
    AccountFlags { suspended: Some(is), ..AccountFlags::default() }
}

fn locked(is: bool) -> AccountFlags {
    AccountFlags { locked: Some(is), ..AccountFlags::default() }
}

async fn set_flags(admin: &Admin, account: &Account, flags: AccountFlags) -> Result<(), AdminError> {
    Ok(admin.users().set_account_flags(account.user, flags).await?)
}

fn find_account(admin: &Admin, id: &str) -> Result<Option<Account>, AdminError> {
    let Ok(user) = UserId::parse(id) else { return Ok(None) };
    Ok(admin.users().account_by_id(&user)?.filter(|account| !account.is_deactivated))
}

fn about(id: &str, list: &str) -> Value {
    json!({"id": id, "list": list})
}

/// Does something because of a list, on record.
pub(super) async fn audited(
    admin: &Admin,
    name: &str,
    arguments: Value,
    work: impl Future<Output = Result<(), AdminError>>,
) -> Result<(), AdminError> {
    let (needs, effect) = (Needs::Administrator, Effect::Changes);
    let action = Action { name: name.to_owned(), needs, effect, arguments };
    admin.audited(&Caller::server(), action, work).await
}
