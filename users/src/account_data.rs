//! Account data, global and per room, with a log by position so that "what changed" costs what changed.
//!
//! Spec: Client-Server API §"Client Config", §"Room Tagging", §"Fully read markers", §"Ignoring Users".
//!
//! `m.push_rules` is stored as the user's edits and rendered when read, so that changed defaults reach everybody.
//! Data that was deleted stays as an empty object, so that clients are told of it; it is not found any more and is no
//! part of what a new client gets (MSC3391).
//! The log may hold entries of rows that were overwritten at the same moment; readers skip an entry whose row has
//! another position.

use std::{collections::BTreeSet, sync::Arc};

use rooms::{RoomNid, UserNid};
use serde_json::{Map, Value, value::RawValue};
use spec::ids::UserId;
use storage::{Batch, Keyspace, Profile, Read, Stamped, StreamPos};

use crate::{UserError, Users, cache::ReadCache, push_rules::PUSH_RULES_TYPE, topics::user_topic};

pub(crate) const GLOBAL_DATA: Keyspace<(UserNid, String), Stamped<Vec<u8>>> =
    Keyspace::new("account_data", Profile::Points);
pub(crate) const GLOBAL_DATA_LOG: Keyspace<(UserNid, StreamPos, String), ()> =
    Keyspace::new("account_data_log", Profile::Log);
pub(crate) const ROOM_DATA: Keyspace<(UserNid, RoomNid, String), Stamped<Vec<u8>>> =
    Keyspace::new("room_account_data", Profile::Points);
pub(crate) const ROOM_DATA_LOG: Keyspace<(UserNid, StreamPos, RoomNid, String), ()> =
    Keyspace::new("room_account_data_log", Profile::Log);

const FULLY_READ_TYPE: &str = "m.fully_read";
const IGNORED_TYPE: &str = "m.ignored_user_list";
const TAG_TYPE: &str = "m.tag";
/// What stands where data was deleted.
const DELETED: &[u8] = b"{}";
/// Before a device's id: the types that say whether it is silenced (MSC3890).
const DEVICE_SETTINGS_TYPES: [&str; 2] =
    ["org.matrix.msc3890.local_notification_settings.", "m.local_notification_settings."];
const MAX_TYPE_BYTES: usize = 255;
const MAX_CONTENT_BYTES: usize = 64 * 1024;
const MAX_TAG_BYTES: usize = 255;

/// One piece of global account data.
#[derive(Clone, Debug)]
pub struct AccountDataEvent {
    /// Its type.
    pub kind: String,
    /// Its content.
    pub content: Box<RawValue>,
    /// When it was last set; 0 for data that exists without having been set.
    pub pos: StreamPos,
}

/// One piece of room account data.
#[derive(Clone, Debug)]
pub struct RoomAccountDataEvent {
    /// For which room.
    pub room: RoomNid,
    /// Its type.
    pub kind: String,
    /// Its content.
    pub content: Box<RawValue>,
    /// When it was last set.
    pub pos: StreamPos,
}

/// Whom each user ignores.
pub(crate) struct IgnoreLists(ReadCache<UserNid, Arc<BTreeSet<UserId>>>);

impl IgnoreLists {
    pub(crate) fn new() -> Self {
        Self(ReadCache::new(10_000))
    }

    pub(crate) fn forget(&self, user: UserNid) {
        self.0.forget(&user);
    }
}

impl Users {
    /// One piece of global account data.
    pub fn account_data(&self, user: UserNid, kind: &str) -> Result<Option<Box<RawValue>>, UserError> {
        if kind == PUSH_RULES_TYPE {
            return self.push_rules_content(user).map(Some);
        }
        let row = self.store().get(&GLOBAL_DATA, &(user, kind.to_owned()))?;
        row.filter(|row| !is_deleted(&row.value)).map(|row| into_raw(row.value)).transpose()
    }

    /// All global account data, `m.push_rules` included.
    pub fn all_account_data(&self, user: UserNid) -> Result<Vec<AccountDataEvent>, UserError> {
        let mut events = Vec::new();
        let mut push_rules_pos = StreamPos::ZERO;
        for row in self.store().scan(&GLOBAL_DATA, &user).iter() {
            let ((_, kind), row) = row?;
            if kind == PUSH_RULES_TYPE {
                push_rules_pos = row.pos;
            } else if !is_deleted(&row.value) {
                events.push(AccountDataEvent { kind, content: into_raw(row.value)?, pos: row.pos });
            }
        }
        events.push(AccountDataEvent {
            kind: PUSH_RULES_TYPE.to_owned(),
            content: self.push_rules_content(user)?,
            pos: push_rules_pos,
        });
        Ok(events)
    }

    /// Global account data set after `since`, up to and including `until`, in order of change.
    pub fn account_data_changes(
        &self,
        user: UserNid,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Vec<AccountDataEvent>, UserError> {
        let mut events = Vec::new();
        let from = (user, since.next(), String::new());
        for entry in self.store().scan(&GLOBAL_DATA_LOG, &user).from(&from).iter() {
            let ((_, pos, kind), ()) = entry?;
            if pos > until {
                break;
            }
            let key = (user, kind);
            let Some(row) = self.store().get(&GLOBAL_DATA, &key)?.filter(|row| row.pos == pos) else { continue };
            let content = if key.1 == PUSH_RULES_TYPE { self.push_rules_content(user)? } else { into_raw(row.value)? };
            events.push(AccountDataEvent { kind: key.1, content, pos });
        }
        Ok(events)
    }

    /// Sets global account data on a client's behalf. Cancel-safe.
    ///
    /// # Errors
    /// `ReservedAccountData`, `BadJson` if the content is not an object, `TooLarge`.
    pub async fn set_account_data(&self, user: UserNid, kind: &str, content: &RawValue) -> Result<(), UserError> {
        check_client_data(kind, content)?;
        let key = (user, kind.to_owned());
        let old = self.store().get(&GLOBAL_DATA, &key)?;
        let mut batch = Batch::new();
        put_global(&mut batch, &key, old.as_ref(), to_stored(content));
        self.store().commit(batch).await?;
        Ok(())
    }

    /// Deletes global account data, if it is there. Cancel-safe.
    ///
    /// # Errors
    /// `ReservedAccountData`.
    pub async fn delete_account_data(&self, user: UserNid, kind: &str) -> Result<(), UserError> {
        check_client_type(kind)?;
        let key = (user, kind.to_owned());
        let Some(old) = self.store().get(&GLOBAL_DATA, &key)?.filter(|row| !is_deleted(&row.value)) else {
            return Ok(());
        };
        let mut batch = Batch::new();
        put_global(&mut batch, &key, Some(&old), DELETED.to_vec());
        self.store().commit(batch).await?;
        Ok(())
    }

    /// Deletes what the user's account data say of a device that ends: whether it is silenced (MSC3890).
    pub(crate) fn delete_device_settings(
        &self,
        batch: &mut Batch,
        user: UserNid,
        device_id: &str,
    ) -> Result<(), UserError> {
        for prefix in DEVICE_SETTINGS_TYPES {
            let key = (user, format!("{prefix}{device_id}"));
            if let Some(old) = self.store().get(&GLOBAL_DATA, &key)?.filter(|row| !is_deleted(&row.value)) {
                put_global(batch, &key, Some(&old), DELETED.to_vec());
            }
        }
        Ok(())
    }

    /// Whom `user` ignores (`m.ignored_user_list`). In memory after the first call.
    pub fn ignored_users(&self, user: UserNid) -> Result<Arc<BTreeSet<UserId>>, UserError> {
        self.inner.ignored.0.get_or_read(&user, || {
            let Some(content) = self.account_data(user, IGNORED_TYPE)? else { return Ok(Arc::default()) };
            // Whatever a client stored here that is not an ignore list ignores nobody.
            let content: Value = serde_json::from_str(content.get()).unwrap_or_default();
            let ids = content.get("ignored_users").and_then(Value::as_object);
            Ok(Arc::new(ids.into_iter().flatten().filter_map(|(id, _)| UserId::parse(id).ok()).collect()))
        })
    }

    /// One piece of room account data.
    pub fn room_account_data(
        &self,
        user: UserNid,
        room: RoomNid,
        kind: &str,
    ) -> Result<Option<Box<RawValue>>, UserError> {
        let row = self.store().get(&ROOM_DATA, &(user, room, kind.to_owned()))?;
        row.filter(|row| !is_deleted(&row.value)).map(|row| into_raw(row.value)).transpose()
    }

    /// All account data of one room.
    pub fn all_room_account_data(&self, user: UserNid, room: RoomNid) -> Result<Vec<RoomAccountDataEvent>, UserError> {
        let mut events = Vec::new();
        for row in self.store().scan(&ROOM_DATA, &(user, room)).iter() {
            let ((_, room, kind), row) = row?;
            if is_deleted(&row.value) {
                continue;
            }
            events.push(RoomAccountDataEvent { room, kind, content: into_raw(row.value)?, pos: row.pos });
        }
        Ok(events)
    }

    /// Room account data of all rooms set after `since`, up to and including `until`, in order of change.
    pub fn room_account_data_changes(
        &self,
        user: UserNid,
        since: StreamPos,
        until: StreamPos,
    ) -> Result<Vec<RoomAccountDataEvent>, UserError> {
        let mut events = Vec::new();
        let from = (user, since.next(), RoomNid(0), String::new());
        for entry in self.store().scan(&ROOM_DATA_LOG, &user).from(&from).iter() {
            let ((_, pos, room, kind), ()) = entry?;
            if pos > until {
                break;
            }
            let key = (user, room, kind);
            let Some(row) = self.store().get(&ROOM_DATA, &key)?.filter(|row| row.pos == pos) else { continue };
            events.push(RoomAccountDataEvent { room, kind: key.2, content: into_raw(row.value)?, pos });
        }
        Ok(events)
    }

    /// Sets room account data on a client's behalf. Cancel-safe.
    ///
    /// # Errors
    /// `ReservedAccountData`, `BadJson` if the content is not an object, `TooLarge`.
    pub async fn set_room_account_data(
        &self,
        user: UserNid,
        room: RoomNid,
        kind: &str,
        content: &RawValue,
    ) -> Result<(), UserError> {
        check_client_data(kind, content)?;
        let content = to_stored(content);
        self.change_room_data(user, room, kind, |_| Ok(Some(content.clone()))).await
    }

    /// Deletes room account data, if it is there. Cancel-safe.
    ///
    /// # Errors
    /// `ReservedAccountData`.
    pub async fn delete_room_account_data(&self, user: UserNid, room: RoomNid, kind: &str) -> Result<(), UserError> {
        check_client_type(kind)?;
        let is_there = |old: Option<&[u8]>| old.is_some_and(|old| !is_deleted(old));
        self.change_room_data(user, room, kind, |old| Ok(is_there(old).then(|| DELETED.to_vec()))).await
    }

    /// Moves the fully read marker (`m.fully_read`). Cancel-safe.
    pub async fn set_fully_read(&self, user: UserNid, room: RoomNid, event_id: &str) -> Result<(), UserError> {
        let content = serde_json::json!({ "event_id": event_id }).to_string().into_bytes();
        self.change_room_data(user, room, FULLY_READ_TYPE, |_| Ok(Some(content.clone()))).await
    }

    /// The tags of a room: name → content.
    pub fn tags(&self, user: UserNid, room: RoomNid) -> Result<Map<String, Value>, UserError> {
        let row = self.store().get(&ROOM_DATA, &(user, room, TAG_TYPE.to_owned()))?;
        Ok(read_tags(row.as_ref().map(|row| &*row.value)))
    }

    /// Adds or replaces a tag. Two concurrent calls keep both tags. Cancel-safe.
    ///
    /// # Errors
    /// `InvalidParam`, `TooLarge`.
    pub async fn set_tag(
        &self,
        user: UserNid,
        room: RoomNid,
        tag: &str,
        content: Map<String, Value>,
    ) -> Result<(), UserError> {
        if tag.is_empty() || tag.len() > MAX_TAG_BYTES {
            return Err(UserError::InvalidParam("a tag has 1 to 255 bytes"));
        }
        if content.get("order").is_some_and(|order| !order.is_number()) {
            return Err(UserError::InvalidParam("the order of a tag is a number"));
        }
        self.change_room_data(user, room, TAG_TYPE, |old| {
            let mut tags = read_tags(old);
            tags.insert(tag.to_owned(), Value::Object(content.clone()));
            render_tags(tags).map(Some)
        })
        .await
    }

    /// Removes a tag, if it is there. Cancel-safe.
    pub async fn delete_tag(&self, user: UserNid, room: RoomNid, tag: &str) -> Result<(), UserError> {
        self.change_room_data(user, room, TAG_TYPE, |old| {
            let mut tags = read_tags(old);
            match tags.remove(tag) {
                Some(_) => render_tags(tags).map(Some),
                None => Ok(None),
            }
        })
        .await
    }

    /// Replaces one row by what `change` makes of it (`None`: leave it), again if somebody else was faster.
    async fn change_room_data(
        &self,
        user: UserNid,
        room: RoomNid,
        kind: &str,
        change: impl Fn(Option<&[u8]>) -> Result<Option<Vec<u8>>, UserError>,
    ) -> Result<(), UserError> {
        let key = (user, room, kind.to_owned());
        loop {
            let old = self.store().get(&ROOM_DATA, &key)?;
            let Some(content) = change(old.as_ref().map(|row| &*row.value))? else { return Ok(()) };
            let mut batch = Batch::new();
            match &old {
                Some(old) => {
                    batch.expect_equals(&ROOM_DATA, &key, old);
                    batch.delete(&ROOM_DATA_LOG, &(user, old.pos, room, kind.to_owned()));
                }
                None => {
                    batch.expect_absent(&ROOM_DATA, &key);
                }
            }
            batch.put(&ROOM_DATA, &key, &Stamped::pending(content));
            batch.put(&ROOM_DATA_LOG, &(user, StreamPos::PENDING, room, kind.to_owned()), &());
            batch.touch(user_topic(user));
            if self.try_commit(batch).await?.is_some() {
                return Ok(());
            }
        }
    }
}

/// Adds the replacement of a global row, and of its log entry, to `batch`.
pub(crate) fn put_global(batch: &mut Batch, key: &(UserNid, String), old: Option<&Stamped<Vec<u8>>>, content: Vec<u8>) {
    if let Some(old) = old {
        batch.delete(&GLOBAL_DATA_LOG, &(key.0, old.pos, key.1.clone()));
    }
    batch.put(&GLOBAL_DATA, key, &Stamped::pending(content));
    batch.put(&GLOBAL_DATA_LOG, &(key.0, StreamPos::PENDING, key.1.clone()), &());
    batch.touch(user_topic(key.0));
}

/// Whether a stored content says that the data was deleted.
fn is_deleted(content: &[u8]) -> bool {
    content == DELETED
}

/// The content as it is stored: every empty object alike.
fn to_stored(content: &RawValue) -> Vec<u8> {
    let inside = content.get().strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
    match inside {
        Some(inside) if inside.trim_ascii().is_empty() => DELETED.to_vec(),
        _ => content.get().as_bytes().to_vec(),
    }
}

fn check_client_type(kind: &str) -> Result<(), UserError> {
    if kind == PUSH_RULES_TYPE || kind == FULLY_READ_TYPE {
        return Err(UserError::ReservedAccountData);
    }
    if kind.is_empty() || kind.len() > MAX_TYPE_BYTES {
        return Err(UserError::InvalidParam("an account data type has 1 to 255 bytes"));
    }
    Ok(())
}

fn check_client_data(kind: &str, content: &RawValue) -> Result<(), UserError> {
    check_client_type(kind)?;
    if content.get().len() > MAX_CONTENT_BYTES {
        return Err(UserError::TooLarge("the account data"));
    }
    if !content.get().starts_with('{') {
        return Err(UserError::BadJson("account data is an object"));
    }
    Ok(())
}

fn into_raw(json: Vec<u8>) -> Result<Box<RawValue>, UserError> {
    String::from_utf8(json)
        .ok()
        .and_then(|json| RawValue::from_string(json).ok())
        .ok_or(UserError::Inconsistent("account data is not JSON"))
}

fn read_tags(content: Option<&[u8]>) -> Map<String, Value> {
    // A client may have put anything under this type: what is not a map of tags counts as none.
    let content: Value = content.and_then(|json| serde_json::from_slice(json).ok()).unwrap_or_default();
    match content {
        Value::Object(mut content) => match content.remove("tags") {
            Some(Value::Object(tags)) => tags,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}

fn render_tags(tags: Map<String, Value>) -> Result<Vec<u8>, UserError> {
    let content = serde_json::json!({ "tags": tags }).to_string().into_bytes();
    if content.len() > MAX_CONTENT_BYTES { Err(UserError::TooLarge("the tags of the room")) } else { Ok(content) }
}

#[cfg(test)]
mod tests;
