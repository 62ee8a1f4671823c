//! What was there before `/sync` (Client-Server API, deprecated), and peeking into rooms, which still works by it (§Room
//! previews).

use std::time::Duration;

use ::sync::{Sync, SyncError, SyncToken};
use axum::extract::State;
use rooms::{EventFormat, Renderer, RoomError, Rooms};
use runtime::{TaskFailed, Tasks};
use spec::ids::{EventId, RoomId};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, answer_bytes};
use crate::query::Query;

/// How many events of a room are shown if the client does not say.
const DEFAULT_EVENTS: usize = 10;
const MAX_EVENTS: usize = 100;

/// `GET /events`: of all rooms or, with `room_id`, of one that the caller need not be in.
pub(crate) async fn get_events(user: User, query: Query, State(sync): State<Sync>) -> Answer {
    let from = query.text("from")?.map(|from| SyncToken::parse(&from)).transpose()?;
    let timeout = Duration::from_millis(query.parsed("timeout")?.unwrap_or(0));
    match query.text("room_id")? {
        Some(room) => {
            let room = RoomId::parse(&room).map_err(|error| ApiError::invalid_param(format!("room_id: {error}")))?;
            answer_bytes(sync.events_in(&user, &room, from, timeout).await?)
        }
        None => answer_bytes(sync.events(&user, from, timeout).await?),
    }
}

/// `GET /events/{eventId}`.
pub(crate) async fn get_event(user: User, Args(event): Args<EventId>, State(rooms): State<Rooms>) -> Answer {
    let room = rooms.room_of_event(&event)?.ok_or(RoomError::EventNotFound)?;
    let view = rooms.view(room, user.user)?;
    let event = view.event(&event)?;
    let mut body = Vec::with_capacity(1024);
    Renderer::new(&view, Some(&user.device_id), EventFormat::Client).render(&event, &mut body)?;
    answer_bytes(body)
}

/// `GET /initialSync`.
pub(crate) async fn get_initial(
    user: User,
    query: Query,
    State(sync): State<Sync>,
    State(tasks): State<Tasks>,
) -> Answer {
    let limit = query.limit(DEFAULT_EVENTS, MAX_EVENTS)?;
    let archived = query.parsed("archived")?.unwrap_or(false);
    // All rooms with all of their state: too much for a thread that others wait for.
    answer_snapshot(tasks.compute("snapshot of all rooms", move || sync.initial(&user, limit, archived)).await)
}

/// `GET /rooms/{roomId}/initialSync`.
pub(crate) async fn get_room(
    user: User,
    Args(room): Args<RoomId>,
    query: Query,
    State(sync): State<Sync>,
    State(tasks): State<Tasks>,
) -> Answer {
    let limit = query.limit(DEFAULT_EVENTS, MAX_EVENTS)?;
    answer_snapshot(tasks.compute("snapshot of a room", move || sync.room_initial(&user, &room, limit)).await)
}

/// The answer once it is made on a thread of its own: not at shutdown.
fn answer_snapshot(made: Result<Result<Vec<u8>, SyncError>, TaskFailed>) -> Answer {
    answer_bytes(made.map_err(|_| ApiError::limit_exceeded(1000))??)
}
