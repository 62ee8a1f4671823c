//! What is in a room, in the form of the client API, whoever is in it.

use std::collections::HashSet;

use ::sync::RoomEventFilter;
use axum::extract::State;
use rooms::{Cursor, Direction, Event};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, RoomId};

use super::{parse_room, reading, view};
use crate::admin::Admin;
use crate::error::AdminError;
use crate::http::{Answer, Args, Query, Refusal, SynapseCaller, answer};
use crate::room::{find_event, render};

/// How many events are shown unless it is said.
const DEFAULT_EVENTS: usize = 10;
/// How many rooms of a space are shown unless it is said.
const DEFAULT_ROOMS: usize = 50;
/// How many rooms of a space are visited at most.
const MAX_WALK: usize = 2000;

fn parse_direction(query: &Query, default: Direction) -> Result<Direction, Refusal> {
    match query.text("dir")?.as_deref() {
        None => Ok(default),
        Some("b") => Ok(Direction::Backward),
        Some("f") => Ok(Direction::Forward),
        Some(_) => Err(Refusal::invalid_param("dir is f or b")),
    }
}

fn parse_filter(query: &Query) -> Result<RoomEventFilter, Refusal> {
    match query.text("filter")? {
        Some(text) => {
            RoomEventFilter::parse(text.as_bytes()).map_err(|error| Refusal::invalid_param(format!("filter: {error}")))
        }
        None => Ok(RoomEventFilter::default()),
    }
}

fn parse_cursor(query: &Query, name: &str) -> Result<Option<Cursor>, Refusal> {
    let Some(text) = query.text(name)? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Refusal::invalid_param(format!("{name} is no place in a room")))
}

/// `GET /_synapse/admin/v1/fetch_event/{event_id}`.
pub(crate) async fn fetch_event(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(event): Args<String>,
) -> Answer {
    let finding = async {
        let (room, event) = find_event(&admin, &event)?;
        let view = admin.rooms().as_operator(room)?;
        render(&view, &[event])
    };
    let found = admin.audited(&caller, reading("room event", json!({"event": event})), finding).await?;
    answer(&json!({"event": found.into_iter().next()}))
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/messages`.
pub(crate) async fn get_messages(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    query: Query,
) -> Answer {
    let id = parse_room(&room)?;
    let direction = parse_direction(&query, Direction::Forward)?;
    let (from, to) = (parse_cursor(&query, "from")?, parse_cursor(&query, "to")?);
    let (filter, limit) = (parse_filter(&query)?, query.limit(DEFAULT_EVENTS)?);
    let paging = async {
        let view = view(&admin, &id)?;
        let from = match (from, direction) {
            (Some(from), _) => from,
            (None, Direction::Backward) => view.newest()?,
            (None, Direction::Forward) => Cursor::START,
        };
        let page = view.page(from, to, direction, limit, &|event| filter.matches_in(&view, event))?;
        let mut body = json!({"start": from.to_string(), "chunk": render(&view, &page.events)?});
        if let Some(end) = page.end {
            body["end"] = end.to_string().into();
        }
        Ok::<_, AdminError>(body)
    };
    answer(&admin.audited(&caller, reading("room messages", json!({"room": room})), paging).await?)
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/context/{event_id}`.
pub(crate) async fn get_context(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args((room, event)): Args<(String, String)>,
    query: Query,
) -> Answer {
    let id = parse_room(&room)?;
    let event_id = EventId::parse(&event).map_err(|error| Refusal::invalid_param(format!("event_id: {error}")))?;
    let (filter, limit) = (parse_filter(&query)?, query.limit(DEFAULT_EVENTS)?);
    let looking = async {
        let view = view(&admin, &id)?;
        let event = view.event(&event_id)?;
        let wanted = |event: &Event| filter.matches_in(&view, event);
        let after = Cursor::after(&event);
        let earlier = view.page(after.before(), None, Direction::Backward, limit / 2, &wanted)?;
        let later = view.page(after, None, Direction::Forward, limit.div_ceil(2), &wanted)?;
        let end = later.end.map_or_else(|| view.newest(), Ok)?;
        let newest = later.events.last().unwrap_or(&event);
        let state = view.state_events_at(newest.state_after())?;
        Ok::<_, AdminError>(json!({
            "event": render(&view, std::slice::from_ref(&event))?.into_iter().next(),
            "events_before": render(&view, &earlier.events)?,
            "events_after": render(&view, &later.events)?,
            "state": render(&view, &state)?,
            "start": earlier.end.unwrap_or(Cursor::START).to_string(),
            "end": end.to_string(),
        }))
    };
    let recorded = json!({"room": room, "event": event});
    answer(&admin.audited(&caller, reading("room context", recorded), looking).await?)
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/timestamp_to_event`.
pub(crate) async fn get_timestamp(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    query: Query,
) -> Answer {
    let id = parse_room(&room)?;
    let time = query.parsed::<i64>("ts")?.ok_or_else(|| Refusal::missing_param("ts"))?;
    let direction = parse_direction(&query, Direction::Forward)?;
    let looking = async { Ok::<_, AdminError>(view(&admin, &id)?.event_near(time, direction)?) };
    let recorded = json!({"room": room, "time": time});
    let event = admin.audited(&caller, reading("room timestamp-to-event", recorded), looking).await?;
    answer(&json!({"event_id": event.event_id(), "origin_server_ts": event.origin_server_ts()}))
}

/// `GET /_synapse/admin/v1/rooms/{room_id}/hierarchy`: the rooms of a space that this server knows, depth first.
pub(crate) async fn get_hierarchy(
    State(admin): State<Admin>,
    SynapseCaller(caller): SynapseCaller,
    Args(room): Args<String>,
    query: Query,
) -> Answer {
    let id = parse_room(&room)?;
    let limit = query.limit(DEFAULT_ROOMS)?.max(1);
    let depth = query.parsed::<usize>("max_depth")?.unwrap_or(usize::MAX);
    let skip = match query.text("from")? {
        Some(from) => from.parse::<usize>().map_err(|_| Refusal::invalid_param("from is malformed"))?,
        None => 0,
    };
    let walking = async { walk(&admin, &id, (skip, limit), depth) };
    let recorded = reading("room hierarchy", json!({"room": room}));
    let (rooms, next) = admin.audited(&caller, recorded, walking).await?;
    let mut body = json!({"rooms": rooms});
    if let Some(next) = next {
        body["next_batch"] = next.to_string().into();
    }
    answer(&body)
}

type Walked = (Vec<Map<String, Value>>, Option<usize>);

fn walk(admin: &Admin, root: &RoomId, (skip, limit): (usize, usize), max_depth: usize) -> Result<Walked, AdminError> {
    let rooms = admin.rooms();
    let mut stack = vec![(rooms.known_room(root)?, 0)];
    let mut seen = HashSet::from([root.clone()]);
    let (mut found, mut index) = (Vec::new(), 0);
    while let Some((room, depth)) = stack.pop() {
        let children = rooms.space_children(room, false)?;
        if index >= skip {
            let mut entry = match serde_json::to_value(rooms.summary(room)?).map_err(AdminError::internal)? {
                Value::Object(entry) => entry,
                _ => Map::new(),
            };
            let events: Vec<_> = children.iter().map(|(_, event)| event).collect();
            entry.insert("children_state".into(), serde_json::to_value(events).map_err(AdminError::internal)?);
            found.push(entry);
        }
        index += 1;
        if depth < max_depth {
            for (child, _) in children.iter().rev() {
                let Ok(child) = RoomId::parse(child) else { continue };
                let known = rooms.room_nid(&child)?;
                if let Some(nid) = known.filter(|_| seen.len() < MAX_WALK && seen.insert(child)) {
                    stack.push((nid, depth + 1));
                }
            }
        }
        if found.len() >= limit {
            return Ok((found, (!stack.is_empty()).then_some(index)));
        }
    }
    Ok((found, None))
}
