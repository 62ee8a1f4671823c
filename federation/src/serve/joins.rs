//! Server-Server API §Joining Rooms, §Restricted rooms: letting users of other servers in.

use axum::extract::State;
use rooms::{Membership, RestrictedJoin};
use serde_json::{Map, Value, json};
use spec::hash;
use spec::ids::{EventId, RoomId, ServerName, UserId};
use spec::pdu::ReceivedPdu;

use crate::Federation;
use crate::inbound::error::ServeError;
use crate::inbound::origin::{Origin, PlaceHolder, SignedJson};
use crate::serve::access::joined_servers;
use crate::serve::answer::{Answer, StateStream};
use crate::serve::arguments::{Args, Query};
use crate::serve::handshake::Handshake;

/// Names the user who vouches for a restricted join.
const AUTHORISED_VIA: &str = "join_authorised_via_users_server";

/// `GET /make_join/{roomId}/{userId}`.
pub(crate) async fn make_join(
    Origin(origin): Origin,
    Args((room_id, user)): Args<(RoomId, UserId)>,
    query: Query,
    State(federation): State<Federation>,
) -> Answer {
    let handshake = Handshake::begin(&federation, &origin, &room_id, Membership::Join)?;
    handshake.check_user(&user)?;
    handshake.check_versions(&query)?;
    let mut content = Map::new();
    match federation.rooms.judge_restricted_join(handshake.room, &user)? {
        RestrictedJoin::Granted(authoriser) => drop(content.insert(AUTHORISED_VIA.into(), authoriser.as_str().into())),
        verdict => check_restricted(&verdict)?,
    }
    handshake.answer_template(&user, content)
}

/// Refuses what a restricted join rule does not allow, by the errors of §Restricted rooms.
fn check_restricted(verdict: &RestrictedJoin) -> Result<(), ServeError> {
    match verdict {
        RestrictedJoin::NotNeeded | RestrictedJoin::Granted(_) => Ok(()),
        RestrictedJoin::NobodyMay => Err(ServeError::unable_to_grant_join()),
        RestrictedJoin::Unknown => Err(ServeError::unable_to_authorise_join()),
        RestrictedJoin::NotAllowed => {
            Err(ServeError::forbidden("the user is in none of the rooms whose members may join"))
        }
    }
}

/// `PUT /v2/send_join/{roomId}/{eventId}`.
pub(crate) async fn send_join(
    Args((room_id, event_id)): Args<(RoomId, EventId)>,
    query: Query,
    place: PlaceHolder,
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<Map<String, Value>>,
) -> Answer {
    let omit_members = query.parsed("omit_members")?.unwrap_or(false);
    let join = take_in_join(&federation, &origin, &room_id, &event_id, body).await?;
    Ok(join.answer(&federation, omit_members, ["", ""])?.into_response(&place))
}

/// `PUT /v1/send_join/{roomId}/{eventId}`.
pub(crate) async fn send_join_v1(
    Args((room_id, event_id)): Args<(RoomId, EventId)>,
    place: PlaceHolder,
    State(federation): State<Federation>,
    SignedJson { origin, body, .. }: SignedJson<Map<String, Value>>,
) -> Answer {
    let join = take_in_join(&federation, &origin, &room_id, &event_id, body).await?;
    Ok(join.answer(&federation, false, ["[200,", "]"])?.into_response(&place))
}

/// A join that was taken in.
struct TakenJoin {
    event: rooms::Event,
    /// The servers that were in the room before.
    servers: Vec<ServerName>,
}

async fn take_in_join(
    federation: &Federation,
    origin: &ServerName,
    room_id: &RoomId,
    event_id: &EventId,
    mut raw: Map<String, Value>,
) -> Result<TakenJoin, ServeError> {
    let handshake = Handshake::begin(federation, origin, room_id, Membership::Join)?;
    let mut received = handshake.read_event(raw.clone(), event_id)?;
    if vouch(&handshake, &received, &mut raw)? {
        received = ReceivedPdu::check(raw, handshake.head.rules())?;
    }
    let servers = joined_servers(federation, handshake.room)?;
    handshake.take_in(received).await?;
    // The other server is in the room now, unless this is an old join of one who has left since.
    let event = federation.rooms.as_server(room_id, origin)?.event(event_id)?;
    Ok(TakenJoin { event, servers })
}

/// Signs a restricted join for which a user of this server is said to vouch, if it may do so. False if nobody is.
fn vouch(handshake: &Handshake<'_>, join: &ReceivedPdu, raw: &mut Map<String, Value>) -> Result<bool, ServeError> {
    let Handshake { federation, room, head, .. } = handshake;
    let authoriser = raw.get("content").and_then(|content| content.get(AUTHORISED_VIA)).and_then(Value::as_str);
    let authoriser = authoriser.and_then(|user| UserId::parse(user).ok());
    let is_ours = authoriser.is_some_and(|user| user.server_name() == federation.server_name.as_str());
    if !is_ours || !head.rules().restricted_join {
        return Ok(false);
    }
    check_restricted(&federation.rooms.judge_restricted_join(*room, &join.unverified().sender)?)?;
    hash::countersign(raw, &federation.server_name, &federation.signing_key, head.rules())
        .map_err(|error| ServeError::invalid_param(error.to_string()))?;
    Ok(true)
}

impl TakenJoin {
    /// The room as it was before the join, without its members if the other server takes that, as an object with
    /// something around it.
    fn answer(
        &self,
        federation: &Federation,
        omit_members: bool,
        [before, after]: [&'static str; 2],
    ) -> Result<StateStream, ServeError> {
        let event = &self.event;
        let state = if omit_members {
            federation.rooms.events_for_partial_join(event)?
        } else {
            federation.rooms.events_for_join(event.room(), event.state_before())?
        };
        let events = state.state_left();
        tracing::info!(event_id = event.event_id(), events, omit_members, "sending a room to a joining server");
        let origin = json!(federation.server_name.as_str());
        let mut head = format!("\"event\":{},\"members_omitted\":{omit_members},\"origin\":{origin}", event.json());
        if omit_members {
            head.push_str(&format!(",\"servers_in_room\":{}", json!(self.servers)));
        }
        Ok(StateStream::new(state, before, &head, "state", after))
    }
}
