//! Joining, leaving, inviting, knocking, kicking and banning (Client-Server API §"Room membership").

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::{FromRef, State};
use http::StatusCode;
use rooms::{Membership, MembershipChange, RemoteRooms, RestrictedJoin, RoomError, RoomNid, Rooms};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId, ServerName, UserId};
use users::{AppServiceQueries, InvitePermission, Right, Signal, SpamRule, Users};

use crate::Edge;
use crate::aliases::find_local;
use crate::error::ApiError;
use crate::extract::{Args, User};
use crate::guests::check_guest_access;
use crate::json::{Answer, JsonBody, answer, answer_empty};
use crate::members::full_state_for;
use crate::newcomers::Newcomers;
use crate::profile::member_content;
use crate::query::Query;
use crate::send::find_room;
use crate::succession::take_rules_along;

#[derive(Deserialize)]
pub(crate) struct ReasonBody {
    reason: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct TargetBody {
    user_id: UserId,
    reason: Option<String>,
}

/// Rooms here, other servers for those that are elsewhere, and application services for those that they would make.
#[derive(Clone)]
pub(crate) struct Everywhere {
    pub(crate) rooms: Rooms,
    pub(crate) remote: Arc<dyn RemoteRooms>,
    pub(crate) users: Users,
    pub(crate) services: Arc<dyn AppServiceQueries>,
    pub(crate) newcomers: Newcomers,
}

impl FromRef<Edge> for Everywhere {
    fn from_ref(edge: &Edge) -> Everywhere {
        Everywhere {
            rooms: edge.rooms.clone(),
            remote: edge.remote_rooms.clone(),
            users: edge.users.clone(),
            services: edge.appservices.clone(),
            newcomers: edge.newcomers.clone(),
        }
    }
}

/// The most servers of a request that are looked at.
const MAX_VIA: usize = 50;

/// The servers through which the client wants to enter a room: `via`, or `server_name` as it was called before
/// specification v1.12. What is no server name is passed over.
///
/// # Errors
/// `M_INVALID_PARAM` for what is not UTF-8.
pub(crate) fn parse_via(query: &Query) -> Result<Vec<ServerName>, ApiError> {
    let mut servers = Vec::new();
    for name in ["via", "server_name"] {
        for server in query.all(name).take(MAX_VIA) {
            servers.extend(ServerName::parse(server?));
        }
        if !servers.is_empty() {
            break;
        }
    }
    Ok(servers)
}

impl Everywhere {
    /// The room of an id or an alias, and the servers that its alias names.
    ///
    /// # Errors
    /// `M_INVALID_PARAM` for neither; `M_NOT_FOUND`; what the alias's server says.
    pub(crate) async fn find_room_id(&self, text: &str) -> Result<(RoomId, Vec<ServerName>), ApiError> {
        let malformed = |error: spec::ids::IdError| ApiError::invalid_param(format!("roomIdOrAlias: {error}"));
        if !text.starts_with('#') {
            return Ok((RoomId::parse(text).map_err(malformed)?, Vec::new()));
        }
        let alias = RoomAlias::parse(text).map_err(malformed)?;
        if alias.server_name() == self.rooms.server_name().as_str() {
            return Ok((find_local(&self.rooms, &self.users, &*self.services, &alias).await?, Vec::new()));
        }
        Ok(self.remote.resolve_alias(&alias).await?)
    }

    /// Whether what is known here of a room is its present: this server is in it, or nobody else is.
    ///
    /// # Errors
    /// Storage errors only.
    pub(crate) fn is_here(&self, room: RoomNid) -> Result<bool, RoomError> {
        let stays = self.rooms.room_servers(room)?;
        let in_room = |server: &ServerName| stays.get(server).is_some_and(|stay| stay.joined > 0);
        let elsewhere = stays.values().any(|stay| stay.joined > 0);
        Ok(in_room(self.rooms.server_name()) || (!elsewhere && self.rooms.head(room)?.create().is_some()))
    }

    /// Joins or knocks: here if this server is in the room, else through another one.
    async fn enter(
        &self,
        room: &RoomId,
        via: &[ServerName],
        user: &UserId,
        membership: Membership,
        content: Map<String, Value>,
    ) -> Result<(), RoomError> {
        let (sender, target) = (user.clone(), user.clone());
        let change = MembershipChange { sender, target, membership, content: content.clone() };
        let refusal = match self.rooms.change_membership(room, change).await {
            Err(error @ (RoomError::NotResident | RoomError::RoomNotFound)) => error,
            Err(error @ RoomError::Forbidden(_)) if membership == Membership::Join => {
                let nid = self.rooms.known_room(room)?;
                if self.rooms.judge_restricted_join(nid, user)? != RestrictedJoin::NobodyMay {
                    return Err(error);
                }
                error
            }
            result => return result,
        };
        let entered = match membership {
            Membership::Knock => self.remote.knock(user, room, via, content).await,
            _ => self.remote.join(user, room, via, content).await,
        };
        match entered {
            // Nobody is known who could be asked: the reason is that which was found here.
            Err(RoomError::RoomNotFound) if !matches!(refusal, RoomError::NotResident) => Err(refusal),
            entered => entered,
        }
    }
}

fn insert_reason(content: &mut Map<String, Value>, reason: Option<String>) {
    if let Some(reason) = reason {
        content.insert("reason".into(), reason.into());
    }
}

/// What a client adds to its own member event: the reason, and whatever else is in the body of the request, but for what
/// the server answers for.
///
/// # Errors
/// `M_BAD_JSON` for a reason that is no string.
fn added_content(mut body: Map<String, Value>) -> Result<Map<String, Value>, ApiError> {
    for key in ["membership", "displayname", "avatar_url", "join_authorised_via_users_server", "third_party_signed"] {
        body.remove(key);
    }
    match body.get("reason") {
        Some(Value::Null) => drop(body.remove("reason")),
        Some(reason) if !reason.is_string() => return Err(ApiError::bad_json("reason: not a string")),
        _ => {}
    }
    Ok(body)
}

/// Joins or knocks, with the caller's profile.
async fn enter(
    user: &User,
    room: &RoomId,
    via: &[ServerName],
    membership: Membership,
    more: Map<String, Value>,
    everywhere: &Everywhere,
    users: &Users,
) -> Answer {
    let rooms = &everywhere.rooms;
    check_may_enter(user, room, rooms, &everywhere.newcomers).await?;
    let mut content = more;
    content.extend(member_content(rooms, users, &user.user_id)?);
    everywhere.enter(room, via, &user.user_id, membership, content).await?;
    if membership == Membership::Join {
        users.count_signal(user.user, Signal::Joins, 1).await;
        take_rules_along(user, room, rooms, users).await;
    }
    answer(&json!({"room_id": room}))
}

/// Refuses to let a user into a room that lets no guests in, or that their role or the age of their account keeps them
/// from. Who is in it already is not asked.
///
/// # Errors
/// `M_GUEST_ACCESS_FORBIDDEN`, `M_FORBIDDEN`, `M_LIMIT_EXCEEDED`.
pub(crate) async fn check_may_enter(
    user: &User,
    room: &RoomId,
    rooms: &Rooms,
    newcomers: &Newcomers,
) -> Result<(), ApiError> {
    check_guest_access(user, rooms, room)?;
    if membership_of(rooms, room, &user.user_id)? == Some(Membership::Join) {
        return Ok(());
    }
    if reaches_others(rooms, room)? {
        user.check_may(Right::Federate)?;
    }
    newcomers.check(user, SpamRule::Joins).await
}

/// Whether users of other servers are in a room, or may be: also of one that this server does not know.
fn reaches_others(rooms: &Rooms, room: &RoomId) -> Result<bool, ApiError> {
    let Some(nid) = rooms.room_nid(room)? else { return Ok(true) };
    let stays = rooms.room_servers(nid)?;
    let is_elsewhere = stays.iter().any(|(server, stay)| stay.joined > 0 && server != rooms.server_name());
    Ok(is_elsewhere || !rooms.is_resident(nid)?)
}

/// What the client names, then what the alias names.
fn merge_via(named: Vec<ServerName>, of_alias: Vec<ServerName>) -> Vec<ServerName> {
    let mut seen = BTreeSet::new();
    named.into_iter().chain(of_alias).filter(|server| seen.insert(server.clone())).collect()
}

/// `POST /join/{roomIdOrAlias}`.
pub(crate) async fn join_any(
    user: User,
    Args(room): Args<String>,
    query: Query,
    State(everywhere): State<Everywhere>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Answer {
    let (room, servers) = everywhere.find_room_id(&room).await?;
    let via = merge_via(parse_via(&query)?, servers);
    enter(&user, &room, &via, Membership::Join, added_content(body)?, &everywhere, &users).await
}

/// `POST /rooms/{roomId}/join`.
pub(crate) async fn join(
    user: User,
    Args(room): Args<RoomId>,
    query: Query,
    State(everywhere): State<Everywhere>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Answer {
    let via = parse_via(&query)?;
    enter(&user, &room, &via, Membership::Join, added_content(body)?, &everywhere, &users).await
}

/// `POST /knock/{roomIdOrAlias}`.
pub(crate) async fn knock(
    user: User,
    Args(room): Args<String>,
    query: Query,
    State(everywhere): State<Everywhere>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<Map<String, Value>>,
) -> Answer {
    let (room, servers) = everywhere.find_room_id(&room).await?;
    let via = merge_via(parse_via(&query)?, servers);
    enter(&user, &room, &via, Membership::Knock, added_content(body)?, &everywhere, &users).await
}

/// `POST /rooms/{roomId}/leave`.
pub(crate) async fn leave(
    user: User,
    Args(room): Args<RoomId>,
    State(Everywhere { rooms, remote, users, .. }): State<Everywhere>,
    JsonBody(body): JsonBody<ReasonBody>,
) -> Answer {
    let nid = find_room(&rooms, &room)?;
    match rooms.membership(nid, user.user)?.map(|row| row.membership) {
        None => return Err(RoomError::NotInRoom.into()),
        // Who has left already has what they asked for.
        Some(Membership::Leave) => return answer_empty(),
        Some(_) => users.check_may_leave(user.user, nid)?,
    }
    let mut content = Map::new();
    insert_reason(&mut content, body.reason);
    let (sender, target) = (user.user_id.clone(), user.user_id.clone());
    let change = MembershipChange { sender, target, membership: Membership::Leave, content: content.clone() };
    match rooms.change_membership(&room, change).await {
        Err(RoomError::NotResident) => remote.leave(&user.user_id, &room, content).await?,
        result => result?,
    }
    answer_empty()
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
    State(Everywhere { rooms, remote, services, newcomers, .. }): State<Everywhere>,
    State(users): State<Users>,
    JsonBody(body): JsonBody<InviteBody>,
) -> Answer {
    let Some(target) = body.user_id else {
        if body.medium.is_some() {
            return Err(refuse_third_party());
        }
        return Err(ApiError::missing_param("user_id"));
    };
    check_may_invite(&user, [&target], &rooms)?;
    if user.is_shadow_banned {
        return answer_empty();
    }
    newcomers.check_invitations(&user, [&target]).await?;
    users.count_signal(user.user, Signal::Invitations, 1).await;
    full_state_for(&user, &room, &rooms).await?;
    if is_remote(&rooms, &target) {
        let nid = find_room(&rooms, &room)?;
        if !rooms.is_resident(nid)? {
            return Err(RoomError::NotInRoom.into());
        }
        let mut content = Map::new();
        insert_reason(&mut content, body.reason);
        remote.invite(&user.user_id, &room, &target, content).await?;
        return answer_empty();
    }
    // An application service may have to make the user first.
    users.find_or_ask_for_user(&*services, &target).await?;
    check_invitable(&rooms, &users, &user.user_id, &target)?;
    let content = member_content(&rooms, &users, &target)?;
    act(&user, &room, TargetBody { user_id: target, reason: body.reason }, Membership::Invite, content, &rooms).await
}

/// Refuses invitations that the caller's role may not send.
///
/// # Errors
/// `M_FORBIDDEN`.
pub(crate) fn check_may_invite<'a>(
    user: &User,
    targets: impl IntoIterator<Item = &'a UserId>,
    rooms: &Rooms,
) -> Result<(), ApiError> {
    for target in targets {
        user.check_may(Right::Invite)?;
        if is_remote(rooms, target) {
            user.check_may(Right::Federate)?;
        }
    }
    Ok(())
}

/// Whether the user is another server's, so that that has to sign their invitation.
pub(crate) fn is_remote(rooms: &Rooms, user: &UserId) -> bool {
    user.server_name() != rooms.server_name().as_str()
}

/// The answer to invitations by e-mail address or telephone number.
pub(crate) fn refuse_third_party() -> ApiError {
    let message = "this server does not invite by e-mail address or telephone number";
    ApiError::new(StatusCode::FORBIDDEN, "M_THREEPID_DENIED", message)
}

/// Refuses invitations to those who want none of the sender's (Client-Server API §"Invite permission", MSC4155).
///
/// # Errors
/// `M_INVITE_BLOCKED`.
pub(crate) fn check_invitable(rooms: &Rooms, users: &Users, sender: &UserId, target: &UserId) -> Result<(), ApiError> {
    let Some(target) = rooms.user_nid(target)? else { return Ok(()) };
    match users.invite_rules(target)?.judge(sender) {
        InvitePermission::Allow | InvitePermission::Ignore => Ok(()),
        InvitePermission::Block => {
            let message = "this user does not accept invitations of yours";
            Err(ApiError::new(StatusCode::FORBIDDEN, "M_INVITE_BLOCKED", message))
        }
    }
}

/// `POST /rooms/{roomId}/kick`.
pub(crate) async fn kick(
    user: User,
    Args(room): Args<RoomId>,
    State(Everywhere { rooms, users, .. }): State<Everywhere>,
    JsonBody(body): JsonBody<TargetBody>,
) -> Answer {
    if body.user_id == user.user_id {
        users.check_may_leave(user.user, find_room(&rooms, &room)?)?;
    }
    full_state_for(&user, &room, &rooms).await?;
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
    full_state_for(&user, &room, &rooms).await?;
    act(&user, &room, body, Membership::Ban, Map::new(), &rooms).await
}

/// `POST /rooms/{roomId}/unban`.
pub(crate) async fn unban(
    user: User,
    Args(room): Args<RoomId>,
    State(rooms): State<Rooms>,
    JsonBody(body): JsonBody<TargetBody>,
) -> Answer {
    full_state_for(&user, &room, &rooms).await?;
    if membership_of(&rooms, &room, &body.user_id)? != Some(Membership::Ban) {
        return Err(ApiError::forbidden("this user is not banned"));
    }
    act(&user, &room, body, Membership::Leave, Map::new(), &rooms).await
}

fn membership_of(rooms: &Rooms, room: &RoomId, user: &UserId) -> Result<Option<Membership>, ApiError> {
    let (Some(room), Some(user)) = (rooms.room_nid(room)?, rooms.user_nid(user)?) else { return Ok(None) };
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
    if user.is_shadow_banned && target.user_id != user.user_id {
        return answer_empty();
    }
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
