//! The event closest to a time, where this server's own history does not reach (Server-Server API
//! `GET /timestamp_to_event/{roomId}`).

use rooms::{Direction, RoomError, RoomNid};
use serde::Deserialize;
use spec::ids::{EventId, RoomId, ServerName};

use crate::Federation;
use crate::client::{Ask, encode_path, encode_query};
use crate::remote::Deadline;
use crate::remote::failure::Failure;

/// The most servers that are asked.
const MAX_SERVERS: usize = 3;
/// The answer is an id and a time.
const MAX_ANSWER: usize = 64 * 1024;

#[derive(Deserialize)]
struct NearAnswer {
    event_id: EventId,
    origin_server_ts: i64,
}

/// Asks those servers that have been in the room longest, and stores the event that they name. `None` if none of them
/// has one that can be stored.
///
/// # Errors
/// Storage errors only.
pub(crate) async fn find_event_near(
    federation: Federation,
    nid: RoomNid,
    timestamp: i64,
    direction: Direction,
) -> Result<Option<(EventId, i64)>, RoomError> {
    federation.wait_for_history(nid).await?;
    let room = federation.rooms.room_id(nid)?;
    let _turn = federation.remote.take_turn(&room).await;
    // As for history: in a partial room the state before an event would be all members.
    if !federation.rooms.is_resident(nid)? || federation.rooms.head(nid)?.is_partial() {
        return Ok(None);
    }
    let deadline = Deadline::after(&federation.clock, federation.config.request_timeout.duration());
    let servers = federation.sort_by_reach(federation.servers_of_room(nid)?);
    for server in servers.into_iter().take(MAX_SERVERS) {
        if deadline.is_over() {
            break;
        }
        match ask_near(&federation, &server, nid, &room, timestamp, direction, &deadline).await {
            Ok(found) => return Ok(Some(found)),
            Err(Failure::Local(error)) => return Err(error),
            Err(Failure::Remote(error)) => {
                tracing::debug!(room_id = room.as_str(), destination = server.as_str(), %error, "no event was found");
            }
        }
    }
    Ok(None)
}

async fn ask_near(
    federation: &Federation,
    server: &ServerName,
    nid: RoomNid,
    room: &RoomId,
    timestamp: i64,
    direction: Direction,
    deadline: &Deadline,
) -> Result<(EventId, i64), Failure> {
    let path = encode_path(&["_matrix", "federation", "v1", "timestamp_to_event", room.as_str()]);
    let (ts, backward) = (timestamp.to_string(), direction == Direction::Backward);
    let query = encode_query(&[("ts", &ts), ("dir", if backward { "b" } else { "f" })]);
    let timeout = deadline.left(federation.config.request_timeout.duration());
    let ask = Ask::get(format!("{path}{query}")).within(timeout).at_most(MAX_ANSWER);
    let NearAnswer { event_id, origin_server_ts } = federation.client.ask_json(server, ask).await?;
    let fits = if backward { origin_server_ts <= timestamp } else { origin_server_ts >= timestamp };
    if !fits {
        return Err(Failure::malformed(server, "the event is on the other side of the time"));
    }
    if !federation.rooms.unknown_events(nid, std::slice::from_ref(&event_id), false)?.is_empty() {
        federation.fetch_event(server, nid, room, &event_id, deadline).await?;
    }
    Ok((event_id, origin_server_ts))
}
