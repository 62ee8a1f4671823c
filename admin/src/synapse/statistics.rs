//! Statistics.

use std::collections::BTreeMap;

use ::media::Usage;
use axum::extract::State;
use serde_json::{Value, json};
use spec::ids::UserId;

use super::{is_backwards, reading};
use crate::admin::Admin;
use crate::error::AdminError;
use crate::http::{Answer, Query, Refusal, SynapseCaller, answer};

/// How many of the largest rooms are told.
const LARGEST: usize = 10;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    UserId,
    DisplayName,
    Length,
    Count,
}

struct Wanted {
    order: Order,
    descending: bool,
    from: usize,
    limit: usize,
    from_ms: u64,
    until_ms: Option<u64>,
    term: Option<String>,
}

impl Wanted {
    fn read(query: &Query) -> Result<Wanted, Refusal> {
        let order = match query.text("order_by")?.as_deref() {
            None | Some("user_id") => Order::UserId,
            Some("displayname") => Order::DisplayName,
            Some("media_length") => Order::Length,
            Some("media_count") => Order::Count,
            Some(_) => return Err(Refusal::invalid_param("users cannot be ordered by this")),
        };
        let (from_ms, until_ms) = (query.parsed::<u64>("from_ts")?.unwrap_or(0), query.parsed::<u64>("until_ts")?);
        if until_ms.is_some_and(|until| until <= from_ms) {
            return Err(Refusal::invalid_param("until_ts must be later than from_ts"));
        }
        let term = query.text("search_term")?.map(|term| term.to_lowercase());
        if term.as_deref() == Some("") {
            return Err(Refusal::invalid_param("search_term must not be empty"));
        }
        Ok(Wanted {
            order,
            descending: is_backwards(query, false)?,
            from: query.parsed("from")?.unwrap_or(0),
            limit: query.limit(100)?,
            from_ms,
            until_ms,
            term,
        })
    }

    /// The users who match, in order, with their names as far as those matter for it.
    fn find(&self, admin: &Admin) -> Result<Vec<(String, Usage)>, AdminError> {
        let usage: BTreeMap<String, Usage> = match (self.from_ms, self.until_ms) {
            (0, None) => admin.media().all_usage()?,
            (from, until) => admin.media().usage_between(from, until.unwrap_or(u64::MAX))?,
        };
        let mut users = Vec::new();
        let with_names = self.order == Order::DisplayName || self.term.is_some();
        for (user, usage) in usage {
            let name = if with_names { display_name(admin, &user)? } else { None };
            if self.matches(&user, name.as_deref()) {
                users.push((user, usage, name));
            }
        }
        match self.order {
            // They come by user id.
            Order::UserId => {}
            Order::DisplayName => users.sort_by(|a, b| a.2.cmp(&b.2)),
            Order::Length => users.sort_by_key(|(_, usage, _)| usage.bytes),
            Order::Count => users.sort_by_key(|(_, usage, _)| usage.count),
        }
        if self.descending {
            users.reverse();
        }
        Ok(users.into_iter().map(|(user, usage, _)| (user, usage)).collect())
    }

    fn matches(&self, user: &str, name: Option<&str>) -> bool {
        let Some(term) = &self.term else { return true };
        let localpart = user.trim_start_matches('@').split(':').next().unwrap_or_default();
        localpart.to_lowercase().contains(term) || name.is_some_and(|name| name.to_lowercase().contains(term))
    }
}

fn display_name(admin: &Admin, user: &str) -> Result<Option<String>, AdminError> {
    let Ok(user_id) = UserId::parse(user) else { return Ok(None) };
    match admin.rooms().user_nid(&user_id)? {
        Some(user) => Ok(admin.users().display_name(user)?),
        None => Ok(None),
    }
}

/// `GET /_synapse/admin/v1/statistics/users/media`.
pub(super) async fn users_media(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    query: Query,
) -> Answer {
    let wanted = Wanted::read(&query)?;
    let action = reading("media usage", json!({"from": wanted.from}));
    let users = admin.audited(&caller, action, async { wanted.find(&admin) }).await?;
    let total = users.len();
    let mut page = Vec::new();
    for (user, usage) in users.into_iter().skip(wanted.from).take(wanted.limit) {
        page.push(json!({
            "user_id": user,
            "displayname": display_name(&admin, &user)?,
            "media_count": usage.count,
            "media_length": usage.bytes,
        }));
    }
    let next = wanted.from.saturating_add(page.len());
    let has_more = !page.is_empty() && next < total;
    let mut found = json!({"users": page, "total": total});
    if has_more {
        found["next_token"] = next.into();
    }
    answer(&found)
}

/// `GET /_synapse/admin/v1/statistics/database/rooms`.
pub(super) async fn largest_rooms(State(admin): State<Admin>, SynapseCaller(caller): SynapseCaller) -> Answer {
    let action = reading("server largest-rooms", json!({}));
    let work = async {
        let mut rooms = Vec::new();
        for (room, bytes) in admin.rooms().largest_rooms(LARGEST)? {
            rooms.push(json!({"room_id": admin.rooms().room_id(room)?.as_str(), "estimated_size": bytes}));
        }
        Ok(rooms)
    };
    let rooms: Vec<Value> = admin.audited(&caller, action, work).await?;
    answer(&json!({"rooms": rooms}))
}
