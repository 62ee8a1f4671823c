//! Client-Server API §"Receipts", §"Read and unread markers".

use axum::extract::State;
use rooms::{ReceiptKind, RoomView, Rooms};
use serde::Deserialize;
use spec::ids::{EventId, RoomId};
use users::Users;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer_empty};

#[derive(Deserialize)]
pub(crate) struct ReceiptBody {
    thread_id: Option<String>,
}

/// `POST /rooms/{roomId}/receipt/{receiptType}/{eventId}`.
pub(crate) async fn set_receipt(
    user: User,
    Args((room, kind, event)): Args<(RoomId, String, EventId)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ReceiptBody>,
) -> Answer {
    let thread = body.thread_id.as_deref();
    if thread.is_some_and(|thread| thread != "main" && EventId::parse(thread).is_err()) {
        return Err(ApiError::invalid_param("thread_id must be main or the id of an event"));
    }
    let view = view_event(&user, &room, &event, &rooms)?;
    let kind = match kind.as_str() {
        "m.read" => ReceiptKind::Read,
        "m.read.private" => ReceiptKind::ReadPrivate,
        "m.fully_read" if thread.is_some() => {
            return Err(ApiError::invalid_param("m.fully_read has no thread"));
        }
        "m.fully_read" => {
            users.set_fully_read(user.user, view.room(), event.as_str()).await?;
            return answer_empty();
        }
        _ => return Err(ApiError::invalid_param("receiptType is m.read, m.read.private or m.fully_read")),
    };
    rooms.set_receipts(view.room(), user.user, &[(kind, thread, &event)]).await?;
    users.record_activity(user.user);
    answer_empty()
}

/// The room, if the caller is in it and may see the event.
fn view_event(user: &User, room: &RoomId, event: &EventId, rooms: &Rooms) -> Result<RoomView, ApiError> {
    let view = rooms.as_user(room, user.user)?;
    if !view.is_joined() {
        return Err(rooms::RoomError::NotInRoom.into());
    }
    view.event(event)?;
    Ok(view)
}

#[derive(Deserialize)]
pub(crate) struct MarkersBody {
    #[serde(rename = "m.fully_read")]
    fully_read: Option<EventId>,
    #[serde(rename = "m.read")]
    read: Option<EventId>,
    #[serde(rename = "m.read.private")]
    read_private: Option<EventId>,
}

/// `POST /rooms/{roomId}/read_markers`.
pub(crate) async fn set_read_markers(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<MarkersBody>,
) -> Answer {
    let view = rooms.as_user(&room, user.user)?;
    if !view.is_joined() {
        return Err(rooms::RoomError::NotInRoom.into());
    }
    for event in [&body.fully_read, &body.read, &body.read_private].into_iter().flatten() {
        view.event(event)?;
    }
    let mut receipts = Vec::with_capacity(2);
    if let Some(event) = &body.read {
        receipts.push((ReceiptKind::Read, None, event));
    }
    if let Some(event) = &body.read_private {
        receipts.push((ReceiptKind::ReadPrivate, None, event));
    }
    rooms.set_receipts(view.room(), user.user, &receipts).await?;
    if let Some(event) = &body.fully_read {
        users.set_fully_read(user.user, view.room(), event.as_str()).await?;
    }
    users.record_activity(user.user);
    answer_empty()
}
