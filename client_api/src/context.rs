//! Single events and what is around them (Client-Server API §"Getting events for a room", §"Event context").

use std::time::Duration;

use axum::extract::State;
use rooms::{Cursor, Direction, Event, EventFormat, Renderer, RoomError, Rooms};
use serde_json::json;
use spec::ids::{EventId, RoomId};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, answer, answer_bytes};
use crate::membership::Everywhere;
use crate::messages::{find_senders, page_backward, parse_direction, parse_filter, write_cursor};
use crate::query::Query;

const DEFAULT_EVENTS: usize = 10;
const MAX_EVENTS: usize = 200;

/// `GET /rooms/{roomId}/event/{eventId}`.
pub(crate) async fn get_event(
    user: User,
    Args((room, event)): Args<(RoomId, EventId)>,
    State(rooms): State<Rooms>,
) -> Answer {
    let view = rooms.as_user(&room, user.user).map_err(hide_room)?;
    let event = view.event(&event)?;
    let mut body = Vec::with_capacity(1024);
    Renderer::new(&view, Some(&user.device_id), EventFormat::Client).render(&event, &mut body)?;
    answer_bytes(body)
}

/// For a single event, a room that one is not in is an event that one may not see.
fn hide_room(error: RoomError) -> RoomError {
    match error {
        RoomError::NotInRoom => RoomError::EventNotFound,
        error => error,
    }
}

/// `GET /rooms/{roomId}/context/{eventId}`.
pub(crate) async fn get_context(
    user: User,
    Args((room, event)): Args<(RoomId, EventId)>,
    query: Query,
    State(everywhere): State<Everywhere>,
) -> Answer {
    let rooms = &everywhere.rooms;
    let filter = parse_filter(&query)?;
    let limit = match query.parsed::<usize>("limit")? {
        Some(limit) => limit.min(MAX_EVENTS),
        None => DEFAULT_EVENTS,
    };
    let view = rooms.as_user(&room, user.user)?;
    let event = view.event(&event)?;
    let wanted = |event: &Event| filter.matches_in(&view, event);
    let after = Cursor::after(&event);
    let before = after.before();
    let (mut earlier, mut later) = (Vec::new(), Vec::new());
    let (mut start, mut end) = (before, after);
    if limit > 1 {
        let page = page_backward(&everywhere, &view, before, None, limit / 2, &wanted).await?;
        start = page.end.unwrap_or(Cursor::START);
        earlier = page.events;
    }
    if limit > 0 {
        let page = view.page(after, None, Direction::Forward, limit - limit / 2, &wanted)?;
        end = match page.end {
            Some(end) => end,
            None => view.newest()?,
        };
        later = page.events;
    }
    let renderer = Renderer::new(&view, Some(&user.device_id), EventFormat::Client);
    let mut body = Vec::with_capacity(4096);
    body.extend_from_slice(b"{\"event\":");
    renderer.render(&event, &mut body)?;
    body.extend_from_slice(b",\"events_before\":");
    renderer.render_all(&earlier, &mut body)?;
    body.extend_from_slice(b",\"events_after\":");
    renderer.render_all(&later, &mut body)?;
    body.extend_from_slice(b",\"start\":");
    write_cursor(&mut body, start);
    body.extend_from_slice(b",\"end\":");
    write_cursor(&mut body, end);
    body.extend_from_slice(b",\"state\":");
    let shown: Vec<Event> = earlier.into_iter().chain([event]).chain(later).collect();
    let newest = shown.iter().max_by_key(|event| Cursor::after(event));
    let mut state = match newest {
        Some(newest) => view.state_events_at(newest.state_after())?,
        None => Vec::new(),
    };
    state.retain(wanted);
    if filter.lazy_load_members {
        state.retain(|event| event.kind() != "m.room.member");
        state.extend(find_senders(rooms, &view, &shown)?);
    }
    renderer.render_all(&state, &mut body)?;
    body.push(b'}');
    answer_bytes(body)
}

/// How long a client waits for other servers that may have an event closer to a time.
const NEAR_WAIT: Duration = Duration::from_secs(10);

/// `GET /rooms/{roomId}/timestamp_to_event`.
pub(crate) async fn get_by_timestamp(
    user: User,
    Args(room): Args<RoomId>,
    query: Query,
    State(Everywhere { rooms, remote, .. }): State<Everywhere>,
) -> Answer {
    let direction = parse_direction(&query)?;
    let timestamp = query.parsed::<i64>("ts")?.ok_or_else(|| ApiError::missing_param("ts"))?;
    let view = rooms.as_user(&room, user.user)?;
    let found = match view.event_near(timestamp, direction) {
        Err(RoomError::EventNotFound) => None,
        found => Some(found?),
    };
    let ends = rooms.backward_extremities(view.room())?;
    // Beside a gap, others may have an event that is closer.
    let beside_gap = |event: &Event| ends.iter().any(|(_, depth)| *depth == event.depth());
    let mut best = found.as_ref().map(|event| (event.event_id().to_owned(), event.origin_server_ts()));
    if !ends.is_empty() && found.as_ref().is_none_or(beside_gap) {
        let asking = remote.event_near(view.room(), timestamp, direction);
        if let Ok(Ok(Some((id, _)))) = tokio::time::timeout(NEAR_WAIT, asking).await
            && let Ok(event) = view.event(&id)
        {
            let distance = |ts: i64| ts.abs_diff(timestamp);
            if best.as_ref().is_none_or(|(_, ts)| distance(event.origin_server_ts()) < distance(*ts)) {
                best = Some((event.event_id().to_owned(), event.origin_server_ts()));
            }
        }
    }
    let (event_id, origin_server_ts) = best.ok_or(RoomError::EventNotFound)?;
    answer(&json!({"event_id": event_id, "origin_server_ts": origin_server_ts}))
}
