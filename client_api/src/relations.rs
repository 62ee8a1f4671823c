//! Client-Server API §"Forming relationships between events": events that relate to another.

use axum::extract::State;
use rooms::{Cursor, Direction, EventFormat, RelationQuery, Renderer, Rooms};
use spec::ids::{EventId, RoomId};

use crate::extract::{Args, User};
use crate::json::{Answer, answer_bytes};
use crate::members::parse_place;
use crate::messages::{parse_direction, write_cursor};
use crate::query::Query;

const DEFAULT_EVENTS: usize = 50;
const MAX_EVENTS: usize = 200;

/// `GET /rooms/{roomId}/relations/{eventId}`.
pub(crate) async fn get_all(
    user: User,
    Args((room, parent)): Args<(RoomId, EventId)>,
    query: Query,
    State(rooms): State<Rooms>,
) -> Answer {
    list_relations(&user, &room, &parent, None, None, &query, &rooms)
}

/// `GET /rooms/{roomId}/relations/{eventId}/{relType}`.
pub(crate) async fn get_of_type(
    user: User,
    Args((room, parent, rel_type)): Args<(RoomId, EventId, String)>,
    query: Query,
    State(rooms): State<Rooms>,
) -> Answer {
    list_relations(&user, &room, &parent, Some(rel_type), None, &query, &rooms)
}

/// `GET /rooms/{roomId}/relations/{eventId}/{relType}/{eventType}`.
pub(crate) async fn get_of_types(
    user: User,
    Args((room, parent, rel_type, kind)): Args<(RoomId, EventId, String, String)>,
    query: Query,
    State(rooms): State<Rooms>,
) -> Answer {
    list_relations(&user, &room, &parent, Some(rel_type), Some(kind), &query, &rooms)
}

fn list_relations(
    user: &User,
    room: &RoomId,
    parent: &EventId,
    rel_type: Option<String>,
    kind: Option<String>,
    query: &Query,
    rooms: &Rooms,
) -> Answer {
    let view = rooms.as_user(room, user.user)?;
    let direction = if query.text("dir")?.is_some() { parse_direction(query)? } else { Direction::Backward };
    let place = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| parse_place(&view, &text)).transpose();
    let (from, to): (Option<Cursor>, Option<Cursor>) = (place(query.text("from")?)?, place(query.text("to")?)?);
    let limit = query.limit(DEFAULT_EVENTS, MAX_EVENTS)?;
    let recurse = query.parsed::<bool>("recurse")?.unwrap_or(false);
    let wanted = RelationQuery { rel_type, kind, recurse };
    let page = view.relations(parent, &wanted, from, to, direction, limit)?;
    let mut body = b"{\"chunk\":".to_vec();
    Renderer::new(&view, Some(&user.device_id), EventFormat::Client).render_all(&page.events, &mut body)?;
    if let Some(end) = page.end {
        body.extend_from_slice(b",\"next_batch\":");
        write_cursor(&mut body, end);
    }
    if let Some(from) = from {
        body.extend_from_slice(b",\"prev_batch\":");
        write_cursor(&mut body, from);
    }
    if recurse {
        body.extend_from_slice(b",\"recursion_depth\":3");
    }
    body.push(b'}');
    answer_bytes(body)
}
