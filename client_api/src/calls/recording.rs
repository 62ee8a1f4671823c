//! Recording of calls that are not encrypted. No proposal defines endpoints for it, so these are Conduit's own.

use ::calls::{CALL_SLOT, Recording};
use serde::Deserialize;
use serde_json::json;
use spec::ids::RoomId;

use super::{BODY, Offered};
use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::json::{Answer, JsonBody, answer, answer_empty};

/// `GET /_conduit/client/v1/rooms/{roomId}/call/recording`: whether a call of the room is being recorded, by whom, since
/// when.
pub(crate) async fn get_state(Offered(calls): Offered, user: User, Args(room): Args<RoomId>) -> Answer {
    match calls.recording(&user.user_id, &room)? {
        Some(recording) => answer(&shown(&recording)),
        None => answer(&json!({"recording": false})),
    }
}

#[derive(Deserialize)]
pub(crate) struct ChangeBody {
    action: String,
    /// Of which slot the call is; without it, that of clients that know no slots.
    slot_id: Option<String>,
}

/// `POST /_conduit/client/v1/rooms/{roomId}/call/recording`: begins or ends a recording.
pub(crate) async fn change(
    Offered(calls): Offered,
    user: User,
    Args(room): Args<RoomId>,
    JsonBody(body): JsonBody<ChangeBody, BODY>,
) -> Answer {
    match body.action.as_str() {
        "start" => {
            let slot = body.slot_id.as_deref().unwrap_or(CALL_SLOT);
            answer(&shown(&calls.start_recording(&user.user_id, &room, slot).await?))
        }
        "stop" => {
            calls.stop_recording(&user.user_id, &room).await?;
            answer_empty()
        }
        _ => Err(ApiError::invalid_param("action is start or stop")),
    }
}

fn shown(recording: &Recording) -> serde_json::Value {
    json!({
        "recording": true,
        "user_id": recording.user,
        "started_ts": recording.since_ms,
        "slot_id": recording.slot,
    })
}
