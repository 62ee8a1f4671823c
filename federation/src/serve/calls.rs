//! Tokens for the media server of this homeserver, for users of others (MSC4195, federation API).

use ::calls::{CallError, Member, RemoteSeat, Seat};
use axum::extract::State;
use serde::Deserialize;
use serde_json::json;
use spec::ids::{RoomId, UserId};

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::SignedJson;
use crate::serve::answer::{Answer, answer};

#[derive(Debug, Deserialize)]
pub(crate) struct TokenBody {
    user_id: UserId,
    url: String,
    room_id: RoomId,
    slot_id: String,
    member_id: Option<String>,
    member: Option<OlderMember>,
}

/// As servers say it that follow an older form of the proposal.
#[derive(Debug, Deserialize)]
struct OlderMember {
    id: String,
    claimed_device_id: Option<String>,
}

/// `POST /rtc/livekit/get_token`.
pub(crate) async fn get_token(
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<TokenBody>,
) -> Answer {
    let TokenBody { user_id, url, room_id, slot_id, member_id, member } = body;
    let member = match (member_id, member) {
        (Some(id), _) => Member::Id(id),
        (None, Some(OlderMember { id, claimed_device_id: Some(device) })) => Member::Claimed { id, device },
        (None, Some(OlderMember { id, .. })) => Member::Id(id),
        (None, None) => return Err(ServeError::bad_json("member_id is missing")),
    };
    let seat = Seat { room: room_id, slot: slot_id, member, device: None };
    let calls = federation.calls.as_ref().ok_or(CallError::Off)?;
    let access = calls.admit_for(&origin, &RemoteSeat { user: user_id, url, seat }).await?;
    answer(&json!({"jwt": access.jwt}))
}
