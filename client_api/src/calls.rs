//! Calls: where the media server is (MSC4143), tokens for it and leave events that are handed over (MSC4195, newest form),
//! and TURN servers for calls between two clients (Client-Server API §Voice over IP).

pub(crate) mod recording;
pub(crate) mod service;

use ::calls::{Calls, Entrance, Member, RemoteSeat, Seat};
use axum::extract::{FromRequestParts, State};
use http::request::Parts;
use serde::Deserialize;
use serde_json::json;
use spec::ids::{RoomId, ServerName};
use users::Right;

use crate::Edge;
use crate::error::ApiError;
use crate::extract::User;
use crate::json::{Answer, JsonBody, answer, answer_empty};

/// The largest body of these endpoints, in bytes.
const BODY: usize = 16 * 1024;

/// Calls, where they are offered. Where they are not, the endpoints do not exist, also for who shows no token: clients
/// find out by the status whether leave events can be handed over, and rely on it.
pub(crate) struct Offered(pub Calls);

impl FromRequestParts<Edge> for Offered {
    type Rejection = ApiError;

    async fn from_request_parts(_: &mut Parts, edge: &Edge) -> Result<Self, ApiError> {
        if edge.calls.is_offered() { Ok(Offered(edge.calls.clone())) } else { Err(ApiError::unrecognized()) }
    }
}

/// `GET /voip/turnServer`.
pub(crate) async fn get_turn_server(user: User, State(calls): State<Calls>) -> Answer {
    user.check_may(Right::Call)?;
    let credentials = calls.turn_credentials(&user);
    answer(&credentials.ok_or_else(|| ApiError::not_found("this server has no TURN server"))?.to_json())
}

/// `GET /rtc/transports`.
pub(crate) async fn get_transports(_: User, State(calls): State<Calls>) -> Answer {
    answer(&json!({"rtc_transports": calls.transports()?}))
}

/// Who a client is in a call: by `member_id`, or by `member` as older clients say it.
#[derive(Deserialize)]
struct MemberFields {
    member_id: Option<String>,
    member: Option<OlderMember>,
}

#[derive(Deserialize)]
struct OlderMember {
    id: String,
    claimed_device_id: Option<String>,
}

impl MemberFields {
    fn read(self) -> Result<Member, ApiError> {
        match self {
            MemberFields { member_id: Some(id), .. } => Ok(Member::Id(id)),
            MemberFields { member: Some(OlderMember { id, claimed_device_id: Some(device) }), .. } => {
                Ok(Member::Claimed { id, device })
            }
            MemberFields { member: Some(OlderMember { id, .. }), .. } => Ok(Member::Id(id)),
            MemberFields { .. } => Err(ApiError::bad_json("member_id is missing")),
        }
    }
}

fn seat_of(user: &User, room: RoomId, slot: String, member: MemberFields) -> Result<Seat, ApiError> {
    let device = (!user.device_id.is_empty()).then(|| user.device_id.to_string());
    Ok(Seat { room, slot, member: member.read()?, device })
}

#[derive(Deserialize)]
pub(crate) struct TokenBody {
    server_name: Option<ServerName>,
    url: String,
    room_id: RoomId,
    slot_id: String,
    #[serde(flatten)]
    member: MemberFields,
}

/// `POST /rtc/livekit/get_token`: for the media server of this homeserver, or of another one.
pub(crate) async fn get_token(
    Offered(calls): Offered,
    user: User,
    JsonBody(body): JsonBody<TokenBody, BODY>,
) -> Answer {
    let TokenBody { server_name, url, room_id, slot_id, member } = body;
    let seat = seat_of(&user, room_id, slot_id, member)?;
    let jwt = match server_name.filter(|server| server.as_str() != user.user_id.server_name()) {
        None => {
            calls.check_url(&url)?;
            calls.admit(&user.user_id, &seat, Entrance::Client).await?.jwt
        }
        Some(server) => {
            let wanted = RemoteSeat { user: user.user_id.clone(), url, seat };
            calls.ask_for_token(&server, &wanted).await?
        }
    };
    answer(&json!({"jwt": jwt}))
}

#[derive(Deserialize)]
pub(crate) struct LeaveBody {
    url: Option<String>,
    room_id: RoomId,
    slot_id: String,
    delay_id: String,
    #[serde(flatten)]
    member: MemberFields,
}

/// `POST /rtc/livekit/delegate_delayed_leave`.
pub(crate) async fn delegate_leave(
    Offered(calls): Offered,
    user: User,
    JsonBody(body): JsonBody<LeaveBody, BODY>,
) -> Answer {
    let LeaveBody { url, room_id, slot_id, delay_id, member } = body;
    if let Some(url) = url {
        calls.check_url(&url)?;
    }
    let seat = seat_of(&user, room_id, slot_id, member)?;
    calls.delegate_leave(&user.user_id, &seat, &delay_id, Entrance::Client).await?;
    answer_empty()
}
