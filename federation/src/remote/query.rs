//! What is asked about rooms of other servers without entering them (Server-Server API §Querying for information,
//! §Published Room Directory, §Spaces).

use std::sync::Arc;
use std::time::Duration;

use rooms::RoomError;
use serde::Deserialize;
use serde_json::{Map, Value};
use spec::ids::{RoomAlias, RoomId, ServerName};

use crate::Federation;
use crate::client::{Ask, encode_path, encode_query};
use crate::remote::candidates::order_candidates;
use crate::remote::failure::{Attempts, into_room_error};

/// The answer for an alias: a room and some servers.
const MAX_ALIAS: usize = 256 * 1024;
/// The most servers of an alias that are told.
const MAX_SERVERS: usize = 50;
/// A page of a public room list.
const MAX_LIST: usize = 4 * 1024 * 1024;
/// A room and its children.
const MAX_HIERARCHY: usize = 4 * 1024 * 1024;
/// The most servers that are asked about one room.
const MAX_ASKED: usize = 4;
/// How long a hierarchy answer is good for.
const HIERARCHY_LIFE: Duration = Duration::from_secs(300);
/// How long a client waits for one server.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Deserialize)]
struct AliasAnswer {
    room_id: RoomId,
    #[serde(default)]
    servers: Vec<String>,
}

/// Asks an alias's server for the room and for servers that are in it.
///
/// # Errors
/// [`RoomError::AliasNotFound`] if that server says so.
pub(crate) async fn resolve_alias(
    federation: &Federation,
    alias: &RoomAlias,
) -> Result<(RoomId, Vec<ServerName>), RoomError> {
    let server = ServerName::parse(alias.server_name()).map_err(|_| RoomError::Invalid("the alias names no server"))?;
    if server == federation.server_name {
        let (room, _) = federation.rooms.find_alias(alias)?;
        return Ok((room, vec![server]));
    }
    let path = encode_path(&["_matrix", "federation", "v1", "query", "directory"]);
    let path = format!("{path}{}", encode_query(&[("room_alias", alias.as_str())]));
    let ask = Ask::get(path).within(PATIENCE).at_most(MAX_ALIAS);
    let answer: AliasAnswer = match federation.client.ask_json(&server, ask).await {
        Ok(answer) => answer,
        Err(crate::RemoteError::Refused { status: http::StatusCode::NOT_FOUND, errcode, .. })
            if errcode == "M_NOT_FOUND" =>
        {
            return Err(RoomError::AliasNotFound);
        }
        Err(error) => return Err(into_room_error(error)),
    };
    let named = answer.servers.iter().filter_map(|server| ServerName::parse(server).ok());
    let mut servers: Vec<ServerName> = Vec::new();
    for server in named.chain([server]) {
        if servers.len() < MAX_SERVERS && !servers.contains(&server) {
            servers.push(server);
        }
    }
    Ok((answer.room_id, servers))
}

/// A page of another server's public room list.
///
/// # Errors
/// What that server says.
pub(crate) async fn ask_public_rooms(
    federation: &Federation,
    server: &ServerName,
    query: Map<String, Value>,
) -> Result<Map<String, Value>, RoomError> {
    let path = encode_path(&["_matrix", "federation", "v1", "publicRooms"]);
    let ask = if query.contains_key("filter") {
        Ask::post(path, &query)
    } else {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let pairs: Vec<(&str, String)> = query.iter().map(|(key, value)| (key.as_str(), text(value))).collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(key, value)| (*key, value.as_str())).collect();
        Ask::get(format!("{path}{}", encode_query(&pairs)))
    };
    let ask = ask.within(PATIENCE).at_most(MAX_LIST);
    let mut answer: Map<String, Value> = federation.client.ask_json(server, ask).await.map_err(into_room_error)?;
    let Some(Value::Array(chunk)) = answer.get_mut("chunk") else {
        return Err(RoomError::RemoteUnavailable(server.as_str().to_owned()));
    };
    chunk.retain(|room| room.get("room_id").and_then(Value::as_str).is_some_and(|id| RoomId::parse(id).is_ok()));
    answer.retain(|key, value| match key.as_str() {
        "chunk" => true,
        "next_batch" | "prev_batch" => value.is_string(),
        "total_room_count_estimate" => value.is_u64(),
        _ => false,
    });
    Ok(answer)
}

/// What a server in a space says of it and its children: `room`, `children`, `inaccessible_children`. Answers are kept
/// for some minutes.
///
/// # Errors
/// What the servers say; [`RoomError::RoomNotFound`] if nobody could be asked.
pub(crate) async fn ask_hierarchy(
    federation: &Federation,
    room: &RoomId,
    via: &[ServerName],
    suggested_only: bool,
) -> Result<Map<String, Value>, RoomError> {
    let key = (room.clone(), suggested_only);
    let now = federation.clock.monotonic();
    if let Some((came, answer)) = federation.remote.hierarchies.get(&key)
        && now.saturating_sub(came) < HIERARCHY_LIFE
    {
        return Ok((*answer).clone());
    }
    let path = encode_path(&["_matrix", "federation", "v1", "hierarchy", room.as_str()]);
    let suggested = if suggested_only { "true" } else { "false" };
    let path = format!("{path}{}", encode_query(&[("suggested_only", suggested)]));
    let mut attempts = Attempts::default();
    let servers = federation.sort_by_reach(order_candidates(&federation.server_name, via, None, room, []));
    for server in servers.into_iter().take(MAX_ASKED) {
        let ask = Ask::get(path.clone()).within(PATIENCE).at_most(MAX_HIERARCHY);
        let error = match federation.client.ask_json(&server, ask).await {
            Ok(answer) => match check_hierarchy(room, answer) {
                Ok(answer) => {
                    federation.remote.hierarchies.insert(key, (now, Arc::new(answer.clone())));
                    return Ok(answer);
                }
                Err(reason) => crate::RemoteError::Malformed { server, reason: reason.to_owned() },
            },
            Err(error) => error,
        };
        if !attempts.go_on_after(error) {
            break;
        }
    }
    Err(attempts.into_error())
}

/// Checks the shape of a hierarchy answer: a summary of the room that was asked for, with the events of its children,
/// and summaries of other rooms.
fn check_hierarchy(room: &RoomId, mut answer: Map<String, Value>) -> Result<Map<String, Value>, &'static str> {
    let id_of = |summary: &Value| summary.get("room_id").and_then(Value::as_str).map(str::to_owned);
    let Some(root) = answer.remove("room").filter(|root| id_of(root).as_deref() == Some(room.as_str())) else {
        return Err("the answer is about another room");
    };
    let Value::Object(mut root) = root else { return Err("room is no object") };
    check_summary(&root)?;
    let is_child = |event: &Value| {
        event.get("type").and_then(Value::as_str) == Some("m.space.child")
            && event.get("state_key").is_some_and(Value::is_string)
            && event.get("content").is_some_and(Value::is_object)
            && event.get("sender").is_some_and(Value::is_string)
            && event.get("origin_server_ts").is_some_and(Value::is_number)
    };
    match root.get_mut("children_state") {
        Some(Value::Array(events)) => events.retain(is_child),
        Some(_) => return Err("children_state is no list"),
        None => drop(root.insert("children_state".into(), Value::Array(Vec::new()))),
    }
    let children = match answer.remove("children") {
        Some(Value::Array(mut children)) => {
            children.retain(|child| {
                let valid = id_of(child).is_some_and(|id| RoomId::parse(id).is_ok());
                valid && child.as_object().is_some_and(|child| check_summary(child).is_ok())
            });
            children
        }
        Some(_) => return Err("children is no list"),
        None => Vec::new(),
    };
    let inaccessible = match answer.remove("inaccessible_children") {
        Some(Value::Array(mut ids)) => {
            ids.retain(Value::is_string);
            ids
        }
        _ => Vec::new(),
    };
    let checked = [
        ("room", Value::Object(root)),
        ("children", Value::Array(children)),
        ("inaccessible_children", Value::Array(inaccessible)),
    ];
    Ok(checked.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// The required properties of a summary, and the types of those that clients read without looking.
fn check_summary(summary: &Map<String, Value>) -> Result<(), &'static str> {
    let is = |key: &str, check: fn(&Value) -> bool| summary.get(key).is_none_or(check);
    let texts = ["name", "topic", "avatar_url", "canonical_alias", "join_rule", "room_type", "room_version"];
    let required = summary.get("num_joined_members").is_some_and(Value::is_u64)
        && summary.get("world_readable").is_some_and(Value::is_boolean)
        && summary.get("guest_can_join").is_some_and(Value::is_boolean);
    if required
        && is("allowed_room_ids", Value::is_array)
        && texts.into_iter().all(|key| is(key, |value| value.is_string() || value.is_null()))
    {
        Ok(())
    } else {
        Err("a summary is malformed")
    }
}

#[cfg(test)]
mod tests;
