//! Client-Server API §"Server-side key backups": the keys themselves.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use users::{BackupEtag, KeyBackupData, RoomKeys, Users};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, LARGE_BODY, answer};
use crate::query::Query;
use crate::room_keys::parse_version;

type Sessions = BTreeMap<String, KeyBackupData>;

#[derive(Deserialize, Serialize)]
pub(crate) struct SessionsBody {
    sessions: Sessions,
}

#[derive(Deserialize)]
pub(crate) struct RoomsBody {
    rooms: BTreeMap<String, SessionsBody>,
}

fn version_of(query: &Query) -> Result<u64, ApiError> {
    parse_version(&query.required("version")?)
}

fn describe_etag(etag: &BackupEtag) -> Answer {
    answer(&json!({"count": etag.count, "etag": etag.etag.to_string()}))
}

async fn store(user: User, query: Query, users: Users, keys: RoomKeys) -> Answer {
    describe_etag(&users.put_backup_keys(user.user, version_of(&query)?, &keys).await?)
}

async fn remove(user: User, query: Query, users: Users, room: Option<&str>, session: Option<&str>) -> Answer {
    describe_etag(&users.delete_backup_keys(user.user, version_of(&query)?, room, session).await?)
}

/// `GET /room_keys/keys`.
pub(crate) async fn get_all(user: User, query: Query, State(users): State<Users>) -> Answer {
    let keys = users.backup_keys(user.user, version_of(&query)?, None, None)?;
    let rooms: BTreeMap<_, _> = keys.into_iter().map(|(room, sessions)| (room, SessionsBody { sessions })).collect();
    answer(&json!({"rooms": rooms}))
}

/// `GET /room_keys/keys/{roomId}`.
pub(crate) async fn get_room(user: User, Args(room): Args<String>, query: Query, State(users): State<Users>) -> Answer {
    let mut keys = users.backup_keys(user.user, version_of(&query)?, Some(&room), None)?;
    answer(&SessionsBody { sessions: keys.remove(&room).unwrap_or_default() })
}

/// `GET /room_keys/keys/{roomId}/{sessionId}`.
pub(crate) async fn get_one(
    user: User,
    Args((room, session)): Args<(String, String)>,
    query: Query,
    State(users): State<Users>,
) -> Answer {
    let mut keys = users.backup_keys(user.user, version_of(&query)?, Some(&room), Some(&session))?;
    let key = keys.get_mut(&room).and_then(|sessions| sessions.remove(&session));
    answer(&key.ok_or_else(|| ApiError::not_found("no such key in the backup"))?)
}

/// `PUT /room_keys/keys`.
pub(crate) async fn put_all(
    user: User,
    query: Query,
    State(users): State<Users>,
    JsonBody(body): JsonBody<RoomsBody, LARGE_BODY>,
) -> Answer {
    let keys = body.rooms.into_iter().map(|(room, body)| (room, body.sessions)).collect();
    store(user, query, users, keys).await
}

/// `PUT /room_keys/keys/{roomId}`.
pub(crate) async fn put_room(
    user: User,
    Args(room): Args<String>,
    query: Query,
    State(users): State<Users>,
    JsonBody(body): JsonBody<SessionsBody, LARGE_BODY>,
) -> Answer {
    store(user, query, users, RoomKeys::from([(room, body.sessions)])).await
}

/// `PUT /room_keys/keys/{roomId}/{sessionId}`.
pub(crate) async fn put_one(
    user: User,
    Args((room, session)): Args<(String, String)>,
    query: Query,
    State(users): State<Users>,
    JsonBody(key): JsonBody<KeyBackupData>,
) -> Answer {
    store(user, query, users, RoomKeys::from([(room, Sessions::from([(session, key)]))])).await
}

/// `DELETE /room_keys/keys`.
pub(crate) async fn delete_all(user: User, query: Query, State(users): State<Users>) -> Answer {
    remove(user, query, users, None, None).await
}

/// `DELETE /room_keys/keys/{roomId}`.
pub(crate) async fn delete_room(
    user: User,
    Args(room): Args<String>,
    query: Query,
    State(users): State<Users>,
) -> Answer {
    remove(user, query, users, Some(&room), None).await
}

/// `DELETE /room_keys/keys/{roomId}/{sessionId}`.
pub(crate) async fn delete_one(
    user: User,
    Args((room, session)): Args<(String, String)>,
    query: Query,
    State(users): State<Users>,
) -> Answer {
    remove(user, query, users, Some(&room), Some(&session)).await
}
