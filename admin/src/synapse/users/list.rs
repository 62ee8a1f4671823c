//! `GET /_synapse/admin/v2/users` and `v3`.

use axum::extract::State;
use serde_json::{Map, Value, json};
use users::{AccountKind, AccountOrder, AccountQuery, AccountSummary};

use super::action;
use crate::admin::Admin;
use crate::http::{Answer, Query, Refusal, SynapseCaller, answer};
use crate::operation::Effect;

const DEFAULT_LIMIT: usize = 100;

/// `GET /_synapse/admin/v2/users`: deactivated accounts only if asked for.
pub(in crate::synapse) async fn list_v2(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    query: Query,
) -> Answer {
    let deactivated = if query.flag("deactivated")?.unwrap_or(false) { None } else { Some(false) };
    list(&admin, &caller, &query, deactivated).await
}

/// `GET /_synapse/admin/v3/users`: deactivated accounts, the others, or both.
pub(in crate::synapse) async fn list_v3(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    query: Query,
) -> Answer {
    let deactivated = query.flag("deactivated")?;
    list(&admin, &caller, &query, deactivated).await
}

async fn list(admin: &Admin, caller: &crate::Caller, query: &Query, deactivated: Option<bool>) -> Answer {
    let wanted = read_query(query, deactivated)?;
    let work = async { Ok(admin.users().find_accounts(&wanted)?) };
    let page = admin.audited(caller, action("user list", Effect::Reads, json!({})), work).await?;
    let users: Vec<Value> = page.accounts.iter().map(|entry| describe(entry)).collect();
    let mut body = Map::new();
    body.insert("users".to_owned(), users.into());
    body.insert("total".to_owned(), page.total.into());
    if let Some(next) = page.next {
        body.insert("next_token".to_owned(), next.to_string().into());
    }
    answer(&body)
}

fn read_query(query: &Query, deactivated: Option<bool>) -> Result<AccountQuery, Refusal> {
    let text = |name| Ok::<_, Refusal>(query.text(name)?.filter(|text| !text.is_empty()).map(|text| text.into_owned()));
    let mut not_user_types = Vec::new();
    for pair in query.pairs() {
        let (key, value) = pair?;
        if key == "not_user_type" {
            not_user_types.push((!value.is_empty()).then(|| value.into_owned()));
        }
    }
    let order = match query.text("order_by")?.as_deref() {
        None | Some("name") => AccountOrder::Name,
        Some("is_guest") => AccountOrder::Guest,
        Some("admin") => AccountOrder::Admin,
        Some("user_type") => AccountOrder::UserType,
        Some("deactivated") => AccountOrder::Deactivated,
        Some("shadow_banned") => AccountOrder::ShadowBanned,
        Some("displayname") => AccountOrder::DisplayName,
        Some("avatar_url") => AccountOrder::AvatarUrl,
        Some("creation_ts") => AccountOrder::Created,
        Some("last_seen_ts") => AccountOrder::LastSeen,
        Some("locked") => AccountOrder::Locked,
        Some("suspended") => AccountOrder::Suspended,
        Some(_) => return Err(Refusal::invalid_param("order_by is unknown")),
    };
    let reverse = match query.text("dir")?.as_deref() {
        None | Some("f") => false,
        Some("b") => true,
        Some(_) => return Err(Refusal::invalid_param("dir is f or b")),
    };
    let excluded = |shown: Option<bool>| if shown.unwrap_or(false) { None } else { Some(false) };
    Ok(AccountQuery {
        name: text("name")?,
        user_id: text("user_id")?,
        guests: if query.flag("guests")?.unwrap_or(true) { None } else { Some(false) },
        admins: query.flag("admins")?,
        deactivated,
        locked: excluded(query.flag("locked")?),
        approved: if query.flag("approved")?.unwrap_or(true) { None } else { Some(false) },
        not_user_types,
        order,
        reverse,
        from: query.parsed("from")?.unwrap_or(0),
        limit: query.limit(DEFAULT_LIMIT)?,
        ..AccountQuery::default()
    })
}

fn describe(entry: &AccountSummary) -> Value {
    let account = &entry.account;
    json!({
        "name": account.user_id,
        "user_type": entry.user_type,
        "is_guest": account.kind == AccountKind::Guest,
        "admin": account.is_admin,
        "deactivated": account.is_deactivated,
        "shadow_banned": entry.is_shadow_banned,
        "displayname": entry.display_name,
        "avatar_url": entry.avatar_url,
        "creation_ts": account.created_ms,
        "approved": !entry.awaits_approval,
        "erased": entry.is_erased,
        "last_seen_ts": entry.last_seen_ms,
        "locked": account.is_locked,
        "suspended": account.is_suspended,
    })
}
