//! Joining, leaving, inviting, knocking, kicking and banning (Client-Server API §"Room membership").

use axum::extract::State;
use http::StatusCode;
use rooms::{Membership, MembershipChange, RoomError, Rooms};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId, UserId};
use users::Users;

use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::guests::check_guest_access;
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::profile::member_content;
use crate::send::find_room;

#[derive(Deserialize)]
pub(crate) struct ReasonBody {
    reason: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct TargetBody {
    user_id: UserId,
    reason: Option<String>,
}

/// The room of an id or an alias.
///
/// # Errors
/// `M_INVALID_PARAM` for neither; `M_NOT_FOUND`.
pub(crate) fn find_room_id(rooms: &Rooms, text: &str) -> Result<RoomId, ApiError> {
    let malformed = |error: spec::ids::IdError| ApiError::invalid_param(format!("roomIdOrAlias: {error}"));
    if text.starts_with('#') {
        return Ok(rooms.find_alias(&RoomAlias::parse(text).map_err(malformed)?)?.0);
    }
    RoomId::parse(text).map_err(malformed)
}

fn insert_reason(content: &mut Map<String, Value>, reason: Option<String>) {
    if let Some(reason) = reason {
        content.insert("reason".into(), reason.into());
    }
}

/// Joins or knocks, with the caller's profile.
async fn enter(
    user: &User,
    room: &RoomId,
    membership: Membership,
    reason: Option<String>,
    rooms: &Rooms,
    users: &Users,
) -> Answer {
    check_guest_access(user, rooms, room)?;
    let mut content = member_content(rooms, users, &user.user_id)?;
    insert_reason(&mut content, reason);
    let (sender, target) = (user.user_id.clone(), user.user_id.clone());
    rooms.change_membership(room, MembershipChange { sender, target, membership, content }).await?;
    answer(&json!({"room_id": room}))
}

/// `POST /join/{roomIdOrAlias}`.
pub(crate) async fn join_any(
    user: User,
    Args(room): Args<String>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ReasonBody>,
) -> Answer {
    let room = find_room_id(&rooms, &room)?;
    enter(&user, &room, Membership::Join, body.reason, &rooms, &users).await
}

/// `POST /rooms/{roomId}/join`.
pub(crate) async fn join(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ReasonBody>,
) -> Answer {
    enter(&user, &room, Membership::Join, body.reason, &rooms, &users).await
}

/// `POST /knock/{roomIdOrAlias}`.
pub(crate) async fn knock(
    user: User,
    Args(room): Args<String>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<ReasonBody>,
) -> Answer {
    let room = find_room_id(&rooms, &room)?;
    enter(&user, &room, Membership::Knock, body.reason, &rooms, &users).await
}

/// `POST /rooms/{roomId}/leave`.
pub(crate) async fn leave(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<ReasonBody>,
) -> Answer {
    let nid = find_room(&rooms, &room)?;
    match rooms.membership(nid, user.user)?.map(|row| row.membership) {
        None => return Err(RoomError::NotInRoom.into()),
        // Who has left already has what they asked for.
        Some(Membership::Leave) => return answer_empty(),
        Some(_) => {}
    }
    let target = TargetBody { user_id: user.user_id.clone(), reason: body.reason };
    act(&user, &room, target, Membership::Leave, Map::new(), &rooms).await
}

/// `POST /rooms/{roomId}/forget`.
pub(crate) async fn forget(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    JsonBody(_): JsonBody<Map<String, Value>>,
) -> Answer {
    match rooms.forget(&room, user.user).await {
        Ok(()) => answer_empty(),
        Err(error @ RoomError::Refused(_)) => Err(ApiError::bad_request(error.to_string())),
        Err(error) => Err(error.into()),
    }
}

#[derive(Deserialize)]
pub(crate) struct InviteBody {
    user_id: Option<UserId>,
    reason: Option<String>,
    /// Present in invitations by e-mail address or telephone number.
    medium: Option<String>,
}

/// `POST /rooms/{roomId}/invite`.
pub(crate) async fn invite(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<InviteBody>,
) -> Answer {
    let Some(target) = body.user_id else {
        if body.medium.is_some() {
            return Err(refuse_third_party());
        }
        return Err(ApiError::missing_param("user_id"));
    };
    check_invitable(&rooms, &users, &target)?;
    let content = member_content(&rooms, &users, &target)?;
    act(&user, &room, TargetBody { user_id: target, reason: body.reason }, Membership::Invite, content, &rooms).await
}

/// The answer to invitations by e-mail address or telephone number.
pub(crate) fn refuse_third_party() -> ApiError {
    let message = "this server does not invite by e-mail address or telephone number";
    ApiError::new(StatusCode::FORBIDDEN, "M_THREEPID_DENIED", message)
}

/// Refuses invitations to those who want none (Client-Server API §"Invite permission").
///
/// # Errors
/// `M_INVITE_BLOCKED`.
pub(crate) fn check_invitable(rooms: &Rooms, users: &Users, target: &UserId) -> Result<(), ApiError> {
    #[derive(Deserialize)]
    struct Permission<'a> {
        default_action: Option<&'a str>,
    }
    let Some(target) = rooms.user_nid(target)? else { return Ok(()) };
    let Some(content) = users.account_data(target, "m.invite_permission_config")? else { return Ok(()) };
    let permission = serde_json::from_str::<Permission<'_>>(content.get()).ok();
    if permission.and_then(|permission| permission.default_action) == Some("block") {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", "this user does not accept invitations"));
    }
    Ok(())
}

/// `POST /rooms/{roomId}/kick`.
pub(crate) async fn kick(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<TargetBody>,
) -> Answer {
    match membership_of(&rooms, &room, &body.user_id)? {
        Some(Membership::Join | Membership::Invite | Membership::Knock) => {}
        _ => return Err(ApiError::forbidden("this user is not in the room")),
    }
    act(&user, &room, body, Membership::Leave, Map::new(), &rooms).await
}

/// `POST /rooms/{roomId}/ban`.
pub(crate) async fn ban(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<TargetBody>,
) -> Answer {
    act(&user, &room, body, Membership::Ban, Map::new(), &rooms).await
}

/// `POST /rooms/{roomId}/unban`.
pub(crate) async fn unban(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<TargetBody>,
) -> Answer {
    if membership_of(&rooms, &room, &body.user_id)? != Some(Membership::Ban) {
        return Err(ApiError::forbidden("this user is not banned"));
    }
    act(&user, &room, body, Membership::Leave, Map::new(), &rooms).await
}

fn membership_of(rooms: &Rooms, room: &RoomId, user: &UserId) -> Result<Option<Membership>, ApiError> {
    let room = find_room(rooms, room)?;
    let Some(user) = rooms.user_nid(user)? else { return Ok(None) };
    Ok(rooms.membership(room, user)?.map(|row| row.membership))
}

async fn act(
    user: &User,
    room: &RoomId,
    target: TargetBody,
    membership: Membership,
    mut content: Map<String, Value>,
    rooms: &Rooms,
) -> Answer {
    find_room(rooms, room)?;
    let TargetBody { user_id: target, reason } = target;
    insert_reason(&mut content, reason);
    if membership != Membership::Invite {
        // A ban may come before its target was ever heard of.
        rooms.intern_user(&target).await?;
    }
    let sender = user.user_id.clone();
    rooms.change_membership(room, MembershipChange { sender, target, membership, content }).await?;
    answer_empty()
}
