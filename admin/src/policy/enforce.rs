//! What rules make the server do by itself, beyond refusing.

use std::collections::BTreeMap;

use serde_json::json;
use spec::ids::{RoomId, UserId};
use spec::policy_list::{ListedRule, PolicyRules, PolicySubject, Recommendation};
use storage::{Batch, Read};
use users::{Account, AccountFlags};

use super::rows::{POLICY_DEEDS, PolicyDeedRow};
use crate::admin::{Action, Admin};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs};

/// How many accounts are read at a time.
const CHUNK: usize = 500;

/// Does what the rules want and was not done, and undoes what was done for rules that are gone. Each deed is in the
/// audit log.
///
/// # Errors
/// Storage errors only.
pub(super) async fn enforce(admin: &Admin, rules: &PolicyRules) -> Result<(), AdminError> {
    let mut wanted = rooms_to_block(rules);
    if admin.config().suspend_listed_users {
        wanted.extend(users_to_suspend(admin, rules)?);
    }
    let done: BTreeMap<String, PolicyDeedRow> =
        admin.store().scan(&POLICY_DEEDS, &()).iter().collect::<Result<_, _>>()?;
    for (id, list) in &wanted {
        if !done.contains_key(id) {
            begin(admin, id, list).await?;
        }
    }
    for (id, deed) in done {
        if !wanted.contains_key(&id) {
            end(admin, &id, &deed).await?;
        }
    }
    Ok(())
}

/// Rooms that are to be taken down, by their ids: what is named by a wildcard or a hash is refused at the gate.
fn rooms_to_block(rules: &PolicyRules) -> BTreeMap<String, String> {
    let is_wanted = |listed: &&ListedRule| {
        listed.rule.subject() == PolicySubject::Room
            && listed.rule.recommendation() == Recommendation::Takedown
            && !listed.rule.is_glob()
            && RoomId::parse(listed.rule.entity()).is_ok()
    };
    let wanted = rules.all().iter().filter(is_wanted);
    wanted.map(|listed| (listed.rule.entity().to_owned(), listed.list.to_string())).collect()
}

/// Users of this server who are named, not by a wildcard.
fn users_to_suspend(admin: &Admin, rules: &PolicyRules) -> Result<BTreeMap<String, String>, AdminError> {
    let (mut wanted, mut after) = (BTreeMap::new(), None);
    loop {
        let accounts = admin.users().list_accounts(after, CHUNK)?;
        let Some(last) = accounts.last() else { return Ok(wanted) };
        after = Some(last.user);
        for account in accounts {
            let named = rules.matching(PolicySubject::User, account.user_id.as_str());
            let rule = named.into_iter().find(|listed| !listed.rule.is_glob());
            if let Some(rule) = rule.filter(|_| may_be_suspended(admin, &account)) {
                wanted.insert(account.user_id.to_string(), rule.list.to_string());
            }
        }
    }
}

fn may_be_suspended(admin: &Admin, account: &Account) -> bool {
    !account.is_admin && !account.is_deactivated && !admin.users().is_server_user(&account.user_id)
}

async fn begin(admin: &Admin, id: &str, list: &str) -> Result<(), AdminError> {
    let reason = format!("named by the policy list {list}");
    if let Ok(room) = RoomId::parse(id) {
        if admin.rooms().blocked(&room)?.is_some() {
            return Ok(());
        }
        let work = async { Ok(admin.rooms().block_room(&room, None, Some(&reason)).await?) };
        audited(admin, "policy block-room", id, list, work).await?;
    } else {
        let Some(account) = find_account(admin, id)?.filter(|account| !account.is_suspended) else { return Ok(()) };
        audited(admin, "policy suspend-user", id, list, suspend(admin, &account, true)).await?;
    }
    let mut batch = Batch::new();
    let row = PolicyDeedRow { list: list.to_owned(), at_ms: admin.clock().now_ms() };
    batch.put(&POLICY_DEEDS, &id.to_owned(), &row);
    admin.store().commit(batch).await?;
    Ok(())
}

async fn end(admin: &Admin, id: &str, deed: &PolicyDeedRow) -> Result<(), AdminError> {
    if let Ok(room) = RoomId::parse(id) {
        let work = async { Ok(admin.rooms().unblock_room(&room).await?) };
        audited(admin, "policy unblock-room", id, &deed.list, work).await?;
    } else if let Some(account) = find_account(admin, id)?.filter(|account| account.is_suspended) {
        audited(admin, "policy unsuspend-user", id, &deed.list, suspend(admin, &account, false)).await?;
    }
    let mut batch = Batch::new();
    batch.delete(&POLICY_DEEDS, &id.to_owned());
    admin.store().commit(batch).await?;
    Ok(())
}

async fn suspend(admin: &Admin, account: &Account, suspended: bool) -> Result<(), AdminError> {
    let flags = AccountFlags { suspended: Some(suspended), ..AccountFlags::default() };
    Ok(admin.users().set_account_flags(account.user, flags).await?)
}

fn find_account(admin: &Admin, id: &str) -> Result<Option<Account>, AdminError> {
    let Ok(user) = UserId::parse(id) else { return Ok(None) };
    Ok(admin.users().account_by_id(&user)?.filter(|account| !account.is_deactivated))
}

async fn audited(
    admin: &Admin,
    name: &str,
    id: &str,
    list: &str,
    work: impl Future<Output = Result<(), AdminError>>,
) -> Result<(), AdminError> {
    let action = Action {
        name: name.to_owned(),
        needs: Needs::Administrator,
        effect: Effect::Changes,
        arguments: json!({"id": id, "list": list}),
    };
    admin.audited(&Caller::server(), action, work).await
}
