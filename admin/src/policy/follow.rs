//! Keeping the rules up to date.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rooms::{Membership, RoomError, RoomNid, Rooms, UserNid};
use serde_json::json;
use spec::ids::RoomId;
use spec::policy_list::{PolicyRule, PolicyRules, PolicySubject};
use storage::{Read, StreamPos};

use super::rows::POLICY_LISTS;
use super::{PolicyGate, enforce, sweep};
use crate::admin::Admin;
use crate::audit::{Ending, NewRecord};
use crate::caller::Caller;
use crate::error::AdminError;

/// The most rules that are taken from one list.
const MAX_RULES: usize = 100_000;
/// How long changes gather before they are read.
const GATHER: Duration = Duration::from_millis(500);
/// How long the follower waits after something failed.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Sets the gate, and follows the lists until shutdown.
pub(crate) fn start(admin: &Admin) {
    let lists = admin.policy().clone();
    let server_name = admin.rooms().server_name().clone();
    admin.rooms().set_gate(Arc::new(PolicyGate { lists: lists.clone(), server_name }));
    let observed = Arc::downgrade(&lists);
    admin.store().on_visible(Arc::new(move |group| {
        if let Some(lists) = observed.upgrade() {
            lists.observe(group);
        }
    }));
    lists.mark_stale();
    admin.tasks().spawn("policy lists", follow(admin.clone()));
}

async fn follow(admin: Admin) {
    let shutdown = admin.tasks().shutdown_token();
    loop {
        if let Err(error) = look(&admin).await {
            tracing::error!(%error, "policy lists cannot be followed; it is tried again");
            admin.policy().is_stale.store(true, Ordering::Release);
            if shutdown.run_until_cancelled(admin.clock().sleep(RETRY_AFTER)).await.is_none() {
                return;
            }
            continue;
        }
        tokio::select! {
            () = admin.policy().news.notified() => {}
            () = shutdown.cancelled() => return,
        }
        if shutdown.run_until_cancelled(admin.clock().sleep(GATHER)).await.is_none() {
            return;
        }
    }
}

async fn look(admin: &Admin) -> Result<(), AdminError> {
    record_refusals(admin).await?;
    let lists = admin.policy();
    let touched = std::mem::take(&mut *lists.touched.lock());
    let is_stale = lists.is_stale.swap(false, Ordering::AcqRel);
    let since = *lists.read_to.lock();
    if is_stale || has_new_rules(admin.rooms(), touched, since)? {
        refresh(admin).await?;
    }
    look_at_moved(admin).await
}

/// Looks at the users whose memberships have changed: those of other servers may have come into a room by another one.
async fn look_at_moved(admin: &Admin) -> Result<(), AdminError> {
    let lists = admin.policy();
    let moved = std::mem::take(&mut *lists.moved.lock());
    let rules = lists.rules();
    let looked = match lists.lost_track.swap(false, Ordering::AcqRel) {
        false => sweep::look_at(admin, &rules, moved.iter().copied()).await,
        true => sweep::start(admin).await,
    };
    if looked.is_err() {
        // They are looked at again.
        moved.into_iter().for_each(|user| lists.note_moved(user));
    }
    looked
}

/// Whether a rule, or who is in the room, changed in one of these rooms.
fn has_new_rules(
    rooms: &Rooms,
    touched: impl IntoIterator<Item = RoomNid>,
    since: StreamPos,
) -> Result<bool, RoomError> {
    for room in touched {
        for seq in rooms.state_changes(room, since, rooms.store().visible())? {
            let event = rooms.event_at(room, seq)?;
            let is_own = event.kind() == "m.room.member"
                && event.state_key().is_some_and(|user| user.ends_with(&format!(":{}", rooms.server_name().as_str())));
            if is_own || PolicySubject::of_type(event.kind()).is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Reads all lists and does what their rules say. When it returns, what was committed before it was called counts.
/// Cancel-safe: the follower completes it.
///
/// # Errors
/// Storage errors; `Unavailable` while the server stops.
pub(super) async fn refresh(admin: &Admin) -> Result<(), AdminError> {
    let lists = admin.policy();
    let _alone = lists.reading.lock().await;
    let Some(user) = server_user(admin)? else { return Ok(()) };
    let read_to = admin.store().visible();
    let rooms = admin.rooms().clone();
    let read = admin.tasks().compute("policy lists", move || read_lists(&rooms, user)).await;
    let (rules, followed) = read.map_err(|_| AdminError::unavailable("the server is shutting down"))??;
    let rules = Arc::new(rules);
    *lists.rules.write() = rules.clone();
    *lists.followed.write() = followed;
    *lists.read_to.lock() = read_to;
    tracing::debug!(rules = rules.len(), "policy lists were read");
    let enforced = enforce::enforce(admin, &rules).await;
    sweep::start_if_needed(admin, &rules).await?;
    enforced
}

/// The server's user, once it was made.
fn server_user(admin: &Admin) -> Result<Option<UserNid>, AdminError> {
    let user = admin.users().parse_local_user(&admin.config().localpart)?;
    Ok(admin.rooms().user_nid(&user)?)
}

fn read_lists(rooms: &Rooms, user: UserNid) -> Result<(PolicyRules, BTreeMap<RoomNid, usize>), RoomError> {
    let (mut rules, mut followed) = (PolicyRules::default(), BTreeMap::new());
    for list in rooms.store().scan(&POLICY_LISTS, &()).keys() {
        let list = list?;
        let Some(room) = RoomId::parse(&list).ok().map(|id| rooms.room_nid(&id)).transpose()?.flatten() else {
            continue;
        };
        let membership = rooms.membership(room, user)?.map(|row| row.membership);
        if membership != Some(Membership::Join) {
            tracing::warn!(room_id = list, "the server is not in the room of a policy list that it follows");
            continue;
        }
        let count = read_list(rooms, room, &Arc::from(list), &mut rules)?;
        followed.insert(room, count);
    }
    Ok((rules, followed))
}

fn read_list(rooms: &Rooms, room: RoomNid, list: &Arc<str>, rules: &mut PolicyRules) -> Result<usize, RoomError> {
    let mut count = 0;
    let state = rooms.head(room)?.state();
    for seq in rooms.plain_state_seqs(room, state)? {
        let event = rooms.event_at(room, seq)?;
        let Some(rule) = PolicyRule::read(event.kind(), event.content()) else { continue };
        if count == MAX_RULES {
            tracing::warn!(room_id = &**list, MAX_RULES, "a policy list has more rules than are looked at");
            break;
        }
        rules.add(list, rule);
        count += 1;
    }
    Ok(count)
}

async fn record_refusals(admin: &Admin) -> Result<(), AdminError> {
    let (refusals, left_out) = admin.policy().refusals.take();
    let caller = Caller::server();
    for arguments in refusals {
        let record = NewRecord { caller: &caller, operation: "policy refuse", arguments: &arguments };
        admin.audit().note(record, Ending::Refused, None).await?;
    }
    if left_out > 0 {
        let record = NewRecord { caller: &caller, operation: "policy refuse", arguments: &json!({"others": left_out}) };
        admin.audit().note(record, Ending::Refused, None).await?;
    }
    Ok(())
}
