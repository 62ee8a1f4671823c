//! Client-Server API §"Reporting Content": reports are stored for the administrators of this server (`users/src/reports.rs`).

use axum::extract::State;
use rooms::Rooms;
use serde::Deserialize;
use spec::ids::{EventId, RoomId, UserId};
use users::{Report, Users};

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer_empty};

#[derive(Deserialize)]
pub(crate) struct ReportBody {
    reason: Option<String>,
    score: Option<i64>,
}

fn new_report(user: &User, rooms: &Rooms, body: ReportBody) -> Report {
    Report {
        reporter: user.user,
        at_ms: rooms.clock().now_ms(),
        room: None,
        event_id: None,
        user_id: None,
        reason: body.reason.unwrap_or_default(),
        score: body.score,
    }
}

async fn store_report(users: &Users, report: &Report) -> Answer {
    users.store_report(report).await?;
    answer_empty()
}

/// `POST /rooms/{roomId}/report/{eventId}`.
pub(crate) async fn report_event(
    user: User,
    Args((room, event)): Args<(RoomId, EventId)>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ReportBody>,
) -> Answer {
    let report = new_report(&user, &rooms, body);
    let view = rooms.as_user(&room, user.user).map_err(|_| rooms::RoomError::EventNotFound)?;
    view.event(&event)?;
    let event_id = Some(event.as_str().to_owned());
    store_report(&users, &Report { room: Some(view.room()), event_id, ..report }).await
}

/// `POST /rooms/{roomId}/report`: also by those who are not in the room.
pub(crate) async fn report_room(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ReportBody>,
) -> Answer {
    let report = new_report(&user, &rooms, body);
    let room = rooms.known_room(&room)?;
    store_report(&users, &Report { room: Some(room), ..report }).await
}

/// `POST /users/{userId}/report`.
pub(crate) async fn report_user(
    user: User,
    Args(subject): Args<UserId>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ReportBody>,
) -> Answer {
    let report = new_report(&user, &rooms, body);
    let local = subject.server_name() == rooms.server_name().as_str();
    let known = if local { users.active_user(&subject)?.is_some() } else { rooms.user_nid(&subject)?.is_some() };
    if !known {
        return Err(ApiError::not_found("this server does not know the user"));
    }
    store_report(&users, &Report { user_id: Some(subject.as_str().to_owned()), ..report }).await
}
