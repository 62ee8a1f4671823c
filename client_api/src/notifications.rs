//! Client-Server API §"Listing notifications".

use axum::extract::State;
use rooms::{EventFormat, Renderer, RoomNid, RoomView, Rooms};
use runtime::Tasks;
use serde_json::json;
use users::{NotificationPlace, Users};

use crate::error::ApiError;
use crate::extract::User;
use crate::json::{Answer, answer_bytes};
use crate::query::Query;

const DEFAULT_NOTIFICATIONS: usize = 20;
const MAX_NOTIFICATIONS: usize = 100;

/// `GET /notifications`.
pub(crate) async fn get_notifications(
    user: User,
    query: Query,
    State(users): State<Users>,
    State(rooms): State<Rooms>,
    State(tasks): State<Tasks>,
) -> Answer {
    let limit = query.limit(DEFAULT_NOTIFICATIONS, MAX_NOTIFICATIONS)?;
    let from = query.parsed("from")?;
    // Other filters are none that a server has to know.
    let only_highlights = query.text("only")?.as_deref() == Some("highlight");
    // Thousands of events may have to be judged.
    let listing = tasks.compute("list of notifications", move || {
        list_notifications(&user, &users, &rooms, from.as_ref(), limit, only_highlights)
    });
    answer_bytes(listing.await.map_err(|error| ApiError::internal(&error))??)
}

fn list_notifications(
    user: &User,
    users: &Users,
    rooms: &Rooms,
    from: Option<&NotificationPlace>,
    limit: usize,
    only_highlights: bool,
) -> Result<Vec<u8>, ApiError> {
    let page = users.notifications(user.user, from, limit, only_highlights)?;
    let mut body = b"{\"notifications\":[".to_vec();
    let mut view: Option<(RoomNid, RoomView)> = None;
    for (index, notification) in page.notifications.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        let event = &notification.event;
        let (_, view) = match view.take().filter(|(room, _)| *room == event.room()) {
            Some(same) => view.insert(same),
            None => view.insert((event.room(), rooms.view(event.room(), user.user)?)),
        };
        body.extend_from_slice(b"{\"event\":");
        Renderer::new(view, Some(&user.device_id), EventFormat::Sync).render(event, &mut body)?;
        // Everything but the event is small: it is written as one object, of which the opening brace is left out.
        let rest = json!({
            "actions": notification.actions,
            "read": notification.read,
            "room_id": view.head().room_id(),
            "ts": event.origin_server_ts(),
        });
        body.push(b',');
        body.extend_from_slice(rest.to_string().get(1..).unwrap_or("}").as_bytes());
    }
    body.push(b']');
    if let Some(next) = &page.next {
        body.extend_from_slice(b",\"next_token\":");
        serde_json::to_writer(&mut body, &next.to_string()).map_err(|error| ApiError::internal(&error))?;
    }
    body.push(b'}');
    Ok(body)
}
