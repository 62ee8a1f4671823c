//! Client-Server API §"Reporting Content": reports are stored for the administrators of this server.

use axum::extract::State;
use rooms::{RoomNid, Rooms, UserNid};
use serde::{Deserialize, Serialize};
use spec::ids::{EventId, RoomId, UserId};
use storage::{Batch, Keyspace, KeyspaceInfo, Profile, Read, StorageError, Store, StreamPos, stored};
use users::Users;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer_empty};

const REPORTS: Keyspace<StreamPos, Report> = Keyspace::new("reports", Profile::Log);

/// The keyspaces of this crate, to be declared when the store is opened.
pub const KEYSPACES: &[KeyspaceInfo] = &[REPORTS.info()];

const MAX_REASON_BYTES: usize = 4096;

/// A user's report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who reports.
    pub reporter: UserNid,
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// The room that is reported, or that the event is in.
    pub room: Option<RoomNid>,
    /// The event that is reported.
    pub event_id: Option<String>,
    /// The user who is reported.
    pub user_id: Option<String>,
    /// Why.
    pub reason: String,
    /// From -100 (most offensive) to 0, where older clients say so.
    pub score: Option<i64>,
}
stored!(Report, 1);

/// The reports after a position, oldest first, at most `limit`.
///
/// # Errors
/// Storage errors only.
pub fn reports(store: &Store, after: StreamPos, limit: usize) -> Result<Vec<(StreamPos, Report)>, StorageError> {
    store.scan(&REPORTS, &()).after(&after).iter().take(limit).collect()
}

#[derive(Deserialize)]
pub(crate) struct ReportBody {
    reason: Option<String>,
    score: Option<i64>,
}

fn new_report(user: &User, rooms: &Rooms, body: ReportBody) -> Result<Report, ApiError> {
    let reason = body.reason.unwrap_or_default();
    if reason.len() > MAX_REASON_BYTES {
        return Err(ApiError::too_large("the reason is longer than 4096 bytes"));
    }
    if body.score.is_some_and(|score| !(-100..=0).contains(&score)) {
        return Err(ApiError::invalid_param("score lies between -100 and 0"));
    }
    Ok(Report {
        reporter: user.user,
        at_ms: rooms.clock().now_ms(),
        room: None,
        event_id: None,
        user_id: None,
        reason,
        score: body.score,
    })
}

async fn store_report(rooms: &Rooms, report: Report) -> Answer {
    let mut batch = Batch::new();
    batch.put(&REPORTS, &StreamPos::PENDING, &report);
    rooms.store().commit(batch).await?;
    answer_empty()
}

/// `POST /rooms/{roomId}/report/{eventId}`.
pub(crate) async fn report_event(
    user: User,
    Args((room, event)): Args<(RoomId, EventId)>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<ReportBody>,
) -> Answer {
    let report = new_report(&user, &rooms, body)?;
    let view = rooms.as_user(&room, user.user).map_err(|_| rooms::RoomError::EventNotFound)?;
    view.event(&event)?;
    store_report(&rooms, Report { room: Some(view.room()), event_id: Some(event.as_str().to_owned()), ..report }).await
}

/// `POST /rooms/{roomId}/report`: also by those who are not in the room.
pub(crate) async fn report_room(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<ReportBody>,
) -> Answer {
    let report = new_report(&user, &rooms, body)?;
    let room = rooms.known_room(&room)?;
    store_report(&rooms, Report { room: Some(room), ..report }).await
}

/// `POST /users/{userId}/report`.
pub(crate) async fn report_user(
    user: User,
    Args(subject): Args<UserId>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ReportBody>,
) -> Answer {
    let report = new_report(&user, &rooms, body)?;
    let local = subject.server_name() == rooms.server_name().as_str();
    let known = if local { users.active_user(&subject)?.is_some() } else { rooms.user_nid(&subject)?.is_some() };
    if !known {
        return Err(ApiError::not_found("this server does not know the user"));
    }
    store_report(&rooms, Report { user_id: Some(subject.as_str().to_owned()), ..report }).await
}
