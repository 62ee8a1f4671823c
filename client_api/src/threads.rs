//! Client-Server API §"Threading": the threads of a room.

use axum::extract::State;
use rooms::{EventFormat, Renderer, Rooms};
use spec::ids::RoomId;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, answer_bytes};
use crate::messages::write_cursor;
use crate::query::Query;

const DEFAULT_THREADS: usize = 20;
const MAX_THREADS: usize = 100;

/// `GET /rooms/{roomId}/threads`.
pub(crate) async fn get_threads(
    user: User,
    Args(room): Args<RoomId>,
    query: Query,
    State(rooms): State<Rooms>,
) -> Answer {
    let participated = match query.text("include")?.as_deref() {
        None | Some("all") => false,
        Some("participated") => true,
        Some(_) => return Err(ApiError::invalid_param("include is all or participated")),
    };
    let limit = query.limit(DEFAULT_THREADS, MAX_THREADS)?;
    let from = query.parsed("from")?;
    let view = rooms.as_user(&room, user.user)?;
    let page = view.threads(from, limit, participated)?;
    let mut body = b"{\"chunk\":".to_vec();
    Renderer::new(&view, Some(&user.device_id), EventFormat::Client).render_all(&page.events, &mut body)?;
    if let Some(end) = page.end {
        body.extend_from_slice(b",\"next_batch\":");
        write_cursor(&mut body, end);
    }
    body.push(b'}');
    answer_bytes(body)
}
