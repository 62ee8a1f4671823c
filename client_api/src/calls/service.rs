//! The service that clients of all homeservers get their tokens from, by showing an OpenID token (MSC4195, older forms):
//! what is advertised as `livekit_service_url`.

use ::calls::{CALL_SLOT, CallError, Calls, Entrance, Member, OpenIdProof, Seat};
use serde::Deserialize;
use serde_json::json;
use spec::ids::{RoomId, UserId};

use super::{BODY, Offered};
use crate::error::ApiError;
use crate::extract::Anybody;
use crate::json::{Answer, JsonBody, answer, answer_empty};

#[derive(Deserialize)]
struct OpenIdFields {
    access_token: String,
    matrix_server_name: String,
}

impl From<OpenIdFields> for OpenIdProof {
    fn from(fields: OpenIdFields) -> OpenIdProof {
        OpenIdProof { access_token: fields.access_token, matrix_server_name: fields.matrix_server_name }
    }
}

/// A leave event that is handed over together with the request for a token. Where it could be restarted is also said,
/// and not used: it is restarted in process, so it is of this server or of none.
#[derive(Deserialize)]
struct DelayFields {
    delay_id: Option<String>,
    delay_timeout: Option<i64>,
}

impl DelayFields {
    /// The event, if one is handed over.
    fn read(self) -> Result<Option<String>, ApiError> {
        match (self.delay_id.filter(|id| !id.is_empty()), self.delay_timeout.filter(|time| *time > 0)) {
            (Some(id), Some(_)) => Ok(Some(id)),
            (None, None) => Ok(None),
            _ => Err(ApiError::bad_json("delay_id and delay_timeout belong together")),
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct DeviceBody {
    room: RoomId,
    openid_token: OpenIdFields,
    device_id: String,
    #[serde(flatten)]
    delay: DelayFields,
}

/// `POST /sfu/get`: as a device, for clients whose membership is in the state of the room.
pub(crate) async fn get_for_device(
    Offered(calls): Offered,
    _: Anybody,
    JsonBody(body): JsonBody<DeviceBody, BODY>,
) -> Answer {
    let DeviceBody { room, openid_token, device_id, delay } = body;
    let delay = delay.read()?;
    let user = calls.verify_openid(&openid_token.into()).await?;
    let seat = Seat { room, slot: CALL_SLOT.to_owned(), member: Member::Device(device_id), device: None };
    give_token(&calls, &user, &seat, delay).await
}

#[derive(Deserialize)]
struct MemberFields {
    id: String,
    claimed_user_id: UserId,
    claimed_device_id: String,
}

impl MemberFields {
    fn read(self, user: &UserId) -> Result<Member, ApiError> {
        if self.claimed_user_id != *user {
            return Err(CallError::NotVerified("the OpenID token is not that of claimed_user_id").into());
        }
        Ok(Member::Claimed { id: self.id, device: self.claimed_device_id })
    }
}

#[derive(Deserialize)]
pub(crate) struct MemberBody {
    room_id: RoomId,
    slot_id: String,
    openid_token: OpenIdFields,
    member: MemberFields,
    #[serde(flatten)]
    delay: DelayFields,
}

/// `POST /get_token`: as a member, for clients whose membership is a sticky event.
pub(crate) async fn get_for_member(
    Offered(calls): Offered,
    _: Anybody,
    JsonBody(body): JsonBody<MemberBody, BODY>,
) -> Answer {
    let MemberBody { room_id, slot_id, openid_token, member, delay } = body;
    let delay = delay.read()?;
    let user = calls.verify_openid(&openid_token.into()).await?;
    let seat = Seat { room: room_id, slot: slot_id, member: member.read(&user)?, device: None };
    give_token(&calls, &user, &seat, delay).await
}

/// `POST /delegate_delayed_leave`.
pub(crate) async fn delegate_leave(
    Offered(calls): Offered,
    _: Anybody,
    JsonBody(body): JsonBody<MemberBody, BODY>,
) -> Answer {
    let MemberBody { room_id, slot_id, openid_token, member, delay } = body;
    let delay = delay.read()?.ok_or_else(|| ApiError::bad_json("delay_id and delay_timeout are missing"))?;
    let user = calls.verify_openid(&openid_token.into()).await?;
    let seat = Seat { room: room_id, slot: slot_id, member: member.read(&user)?, device: None };
    calls.delegate_leave(&user, &seat, &delay, Entrance::Service).await?;
    answer_empty()
}

/// `GET /healthz`.
pub(crate) async fn get_health(Offered(_): Offered) -> Answer {
    answer_empty()
}

async fn give_token(calls: &Calls, user: &UserId, seat: &Seat, delay: Option<String>) -> Answer {
    // First: who is given a token counts on the rest, too.
    if let Some(delay) = delay {
        calls.delegate_leave(user, seat, &delay, Entrance::Service).await.map_err(|error| match error {
            // By this code clients know that they have to look after the event themselves.
            CallError::UnknownDelay | CallError::TooMany => ApiError::bad_json(error.to_string()),
            error => error.into(),
        })?;
    }
    let access = calls.admit(user, seat, Entrance::Service).await?;
    answer(&json!({"url": access.url, "jwt": access.jwt}))
}
