//! Who is in a room and who has the power there, by the power of this server's users.

use clap::Args;
use rooms::{Membership, MembershipChange, RoomError, RoomNid, Rooms};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use spec::ids::{RoomAlias, RoomId, ServerName, UserId};

use crate::admin::Admin;
use crate::arguments::{RoomArg, UserArg};
use crate::caller::Caller;
use crate::error::AdminError;
use crate::operation::{Effect, Needs, Operation};
use crate::outcome::Outcome;

/// Make a user an administrator of a room
///
/// The most powerful member of this server gives them as much power as they have themselves, and lets them in.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MakeAdmin {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// A user of this server; without, the one who asks
    pub user: Option<UserArg>,
}

impl Operation for MakeAdmin {
    const NAME: (&'static str, &'static str) = ("room", "make-admin");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room} {other}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let (room, room_id) = self.room.known_room(admin)?;
        let user = match (&self.user, caller.user()) {
            (Some(user), _) => user.account(admin)?.user_id,
            (None, Some((_, user))) => user.clone(),
            (None, None) => return Err(AdminError::invalid("say who")),
        };
        let giver = admin.rooms().make_room_admin(room, &user).await?;
        Ok(Outcome::line(format!("{user} has the power of {giver} in {room_id}")))
    }
}

/// Join a user of this server to a room
///
/// Where the room is not open to all, a member of this server invites them first.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The room: its id or an alias
    pub room: String,
    /// A user of this server
    pub user: UserArg,
    /// Servers that are in the room, for one that is not known here
    #[arg(long)]
    #[serde(default)]
    pub via: Vec<String>,
}

impl Operation for Join {
    const NAME: (&'static str, &'static str) = ("room", "join");
    const NEEDS: Needs = Needs::Administrator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room} {other}";

    async fn run(self, admin: &Admin, caller: &Caller) -> Result<Outcome, AdminError> {
        let user = self.user.account(admin)?.user_id;
        let via = self.via.iter().filter_map(|server| ServerName::parse(server).ok()).collect();
        let room = join(admin, caller, &self.room, &user, via).await?;
        Ok(Outcome::line(format!("{user} is in {room}")))
    }
}

/// The room of an id or alias, also of other servers.
async fn find_room(admin: &Admin, text: &str, via: &mut Vec<ServerName>) -> Result<RoomId, AdminError> {
    if !text.starts_with('#') {
        return RoomId::parse(text).map_err(|error| AdminError::invalid(format!("this is no room id: {error}")));
    }
    let alias = RoomAlias::parse(text).map_err(|error| AdminError::invalid(format!("this is no alias: {error}")))?;
    if alias.server_name() == admin.rooms().server_name().as_str() {
        return Ok(admin.rooms().find_alias(&alias)?.0);
    }
    let remote = admin.ports().remote_rooms.as_ref();
    let remote = remote.ok_or_else(|| AdminError::unavailable("other servers cannot be asked"))?;
    let (room, servers) = remote.resolve_alias(&alias).await?;
    via.extend(servers);
    Ok(room)
}

/// Joins a user of this server to a room: invited by the one who asks, or by the most powerful member of this server,
/// where that is needed.
pub(crate) async fn join(
    admin: &Admin,
    caller: &Caller,
    room: &str,
    user: &UserId,
    mut via: Vec<ServerName>,
) -> Result<RoomId, AdminError> {
    let room_id = find_room(admin, room, &mut via).await?;
    let rooms = admin.rooms();
    let known = rooms.room_nid(&room_id)?;
    if let Some(room) = known
        && rooms.is_resident(room)?
    {
        let inviter = match caller.user() {
            Some((nid, asker)) if is_joined(rooms, room, nid)? => Some(asker.clone()),
            _ => rooms.most_powerful_local(room)?,
        };
        let inviter = inviter.ok_or(RoomError::NotResident)?;
        if let Some(nid) = rooms.user_nid(user)?
            && is_joined(rooms, room, nid)?
        {
            return Ok(room_id);
        }
        rooms.let_in(room, &inviter, user).await?;
        return Ok(room_id);
    }
    let (sender, target, membership) = (user.clone(), user.clone(), Membership::Join);
    let change = MembershipChange { sender, target, membership, content: Map::new() };
    match (rooms.change_membership(&room_id, change).await, &admin.ports().remote_rooms) {
        (Err(RoomError::NotResident | RoomError::RoomNotFound), Some(remote)) => {
            remote.join(user, &room_id, &via, Map::new()).await?;
        }
        (result, _) => result?,
    }
    Ok(room_id)
}

fn is_joined(rooms: &Rooms, room: RoomNid, user: rooms::UserNid) -> Result<bool, RoomError> {
    Ok(rooms.membership(room, user)?.is_some_and(|row| row.membership == Membership::Join))
}

/// Remove a user from a room, or ban them
///
/// The most powerful member of this server does it. A user of this server leaves where nobody can.
#[derive(Debug, Args, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kick {
    /// The room: its id or an alias
    pub room: RoomArg,
    /// The user, also of another server
    pub user: UserArg,
    /// Why
    #[arg(long)]
    #[serde(default)]
    pub reason: Option<String>,
    /// Ban them
    #[arg(long)]
    #[serde(default)]
    pub ban: bool,
}

impl Operation for Kick {
    const NAME: (&'static str, &'static str) = ("room", "kick");
    const NEEDS: Needs = Needs::Moderator;
    const EFFECT: Effect = Effect::Changes;
    const EXAMPLE: &'static str = "{room} {user} --reason rude";

    async fn run(self, admin: &Admin, _: &Caller) -> Result<Outcome, AdminError> {
        let (room, room_id) = self.room.known_room(admin)?;
        let user = self.user.user_id(admin)?;
        admin.rooms().remove_member(room, &user, self.reason.as_deref(), self.ban).await?;
        Ok(Outcome::line(format!("{user} is not in {room_id}")))
    }
}
