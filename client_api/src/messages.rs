//! Paging through a room (Client-Server API §`GET /rooms/{roomId}/messages`).

use std::collections::BTreeSet;
use std::time::Duration;

use ::sync::RoomEventFilter;
use axum::extract::State;
use rooms::{Cursor, Direction, Event, EventFormat, Page, Renderer, RoomView, Rooms};
use spec::ids::RoomId;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, answer_bytes};
use crate::members::parse_place;
use crate::membership::Everywhere;
use crate::query::Query;

const DEFAULT_EVENTS: usize = 10;
const MAX_EVENTS: usize = 1000;

/// Reads `dir`.
///
/// # Errors
/// `M_INVALID_PARAM`; `M_MISSING_PARAM`.
pub(crate) fn parse_direction(query: &Query) -> Result<Direction, ApiError> {
    match &*query.required("dir")? {
        "b" => Ok(Direction::Backward),
        "f" => Ok(Direction::Forward),
        _ => Err(ApiError::invalid_param("dir is b or f")),
    }
}

/// Reads `filter`, a JSON object.
///
/// # Errors
/// `M_BAD_JSON`.
pub(crate) fn parse_filter(query: &Query) -> Result<RoomEventFilter, ApiError> {
    match query.text("filter")? {
        Some(json) => {
            RoomEventFilter::parse(json.as_bytes()).map_err(|error| ApiError::bad_json(format!("filter: {error}")))
        }
        None => Ok(RoomEventFilter::default()),
    }
}

/// `GET /rooms/{roomId}/messages`.
pub(crate) async fn get_messages(
    user: User,
    Args(room): Args<RoomId>,
    query: Query,
    State(everywhere): State<Everywhere>,
) -> Answer {
    let rooms = &everywhere.rooms;
    let direction = parse_direction(&query)?;
    let filter = parse_filter(&query)?;
    let limit = query.limit(DEFAULT_EVENTS, MAX_EVENTS)?;
    let view = rooms.as_user(&room, user.user)?;
    let place = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| parse_place(&view, &text)).transpose();
    let from = match (place(query.text("from")?)?, direction) {
        (Some(from), _) => from,
        (None, Direction::Backward) => view.newest()?,
        (None, Direction::Forward) => Cursor::START,
    };
    let to = place(query.text("to")?)?;
    let mut body = Vec::with_capacity(1024 * limit.min(64));
    body.extend_from_slice(b"{\"start\":");
    write_cursor(&mut body, from);
    body.extend_from_slice(b",\"chunk\":");
    if !filter.matches_room(room.as_str()) {
        body.extend_from_slice(b"[]}");
        return answer_bytes(body);
    }
    let trivial = filter.is_trivial();
    let wanted = |event: &Event| trivial || filter.matches_in(&view, event);
    let page = match direction {
        Direction::Forward => view.page(from, to, direction, limit, &wanted)?,
        Direction::Backward => page_backward(&everywhere, &view, from, to, limit, &wanted).await?,
    };
    let renderer = Renderer::new(&view, Some(&user.device_id), EventFormat::Client);
    renderer.render_all(&page.events, &mut body)?;
    if let Some(end) = page.end {
        body.extend_from_slice(b",\"end\":");
        write_cursor(&mut body, end);
    }
    if filter.lazy_load_members {
        let members = find_senders(rooms, &view, &page.events)?;
        body.extend_from_slice(b",\"state\":");
        renderer.render_all(&members, &mut body)?;
    }
    body.push(b'}');
    answer_bytes(body)
}

/// How often one request fetches history from other servers.
const MAX_BACKFILLS: usize = 2;
/// How long a client waits for history from other servers.
const BACKFILL_WAIT: Duration = Duration::from_secs(10);
/// How many events are fetched at least: the next page will want them too.
const MIN_BACKFILL: usize = 50;

/// A page to older events; history that is missing here is fetched from other servers first.
///
/// # Errors
/// Storage errors only.
pub(crate) async fn page_backward(
    everywhere: &Everywhere,
    view: &RoomView,
    from: Cursor,
    to: Option<Cursor>,
    limit: usize,
    wanted: &(dyn Fn(&Event) -> bool + Send + Sync),
) -> Result<Page, ApiError> {
    let mut fetched = 0;
    loop {
        let mut page = view.page(from, to, Direction::Backward, limit, &|event| wanted(event))?;
        let lowest = page.end.or(to).unwrap_or(Cursor::START);
        if !lacks_history(everywhere, view, from, lowest)? {
            return Ok(page);
        }
        let asking = everywhere.remote.backfill(view.room(), limit.max(MIN_BACKFILL));
        if fetched < MAX_BACKFILLS && matches!(tokio::time::timeout(BACKFILL_WAIT, asking).await, Ok(Ok(true))) {
            fetched += 1;
            continue;
        }
        // There is more, which may come another time.
        if page.end.is_none() && to.is_none() {
            page.end = page.events.last().map(|event| Cursor::after(event).before());
        }
        return Ok(page);
    }
}

/// Whether between two places an event follows one that is not stored. What the last of them follows is for the next
/// page.
fn lacks_history(everywhere: &Everywhere, view: &RoomView, from: Cursor, lowest: Cursor) -> Result<bool, ApiError> {
    let ends = everywhere.rooms.backward_extremities(view.room())?;
    Ok(ends.iter().any(|(_, depth)| *depth > lowest.depth && *depth <= from.depth))
}

/// Appends a cursor as a JSON string: it has no character that needs escaping.
pub(crate) fn write_cursor(body: &mut Vec<u8>, cursor: Cursor) {
    body.extend_from_slice(format!("\"{cursor}\"").as_bytes());
}

/// The member events of those who sent `events`, as they were at the newest of them.
///
/// # Errors
/// Storage errors only.
pub(crate) fn find_senders(rooms: &Rooms, view: &RoomView, events: &[Event]) -> Result<Vec<Event>, ApiError> {
    let Some(newest) = events.iter().max_by_key(|event| Cursor::after(event)) else { return Ok(Vec::new()) };
    let senders: BTreeSet<&str> = events.iter().map(Event::sender).collect();
    let mut members = Vec::with_capacity(senders.len());
    for sender in senders {
        members.extend(rooms.state_event(view.room(), newest.state_after(), "m.room.member", sender)?);
    }
    Ok(members)
}
