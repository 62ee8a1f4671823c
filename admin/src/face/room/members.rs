//! The room itself and who is in it: administrators, whom the server invites, and moderators, whom they may invite.

use std::collections::BTreeSet;

use rooms::{CreateRoom, Membership, MembershipChange, Preset, RoomError, RoomNid, UserNid};
use serde_json::{Map, json};
use spec::ids::{RoomAlias, UserId};
use storage::{Batch, Read};
use users::{Account, Role};

use super::rows::{ADMIN_ROOM, ADMIN_ROOM_INVITED, AdminRoomRow};
use super::voice::{Voice, object};
use super::{AdminRoom, GUIDE, page::Page};
use crate::administrators::{is_administrator, list_administrators};
use crate::error::AdminError;

impl AdminRoom {
    /// The server in its room, which is made once there is an administrator. `None` before.
    ///
    /// # Errors
    /// `Forbidden` if the account for the server is somebody's; what making the room refuses.
    pub(super) async fn enter(&self) -> Result<Option<Voice>, AdminError> {
        let (rooms, config) = (self.admin.rooms(), self.admin.config());
        let stored = self.admin.store().get(&ADMIN_ROOM, &())?;
        if stored.is_none() && list_administrators(&self.admin)?.is_empty() {
            return Ok(None);
        }
        let display_name = Some(config.display_name.as_str()).filter(|name| !name.is_empty());
        let (user, user_id) = self.admin.users().ensure_server_user(&config.localpart, display_name, None).await?;
        let is_in = |room| -> Result<bool, RoomError> {
            Ok(rooms.membership(room, user)?.is_some_and(|row| row.membership == Membership::Join))
        };
        let voice =
            |room| Voice { rooms: rooms.clone(), media: self.admin.media().clone(), room, user: user_id.clone() };
        if let Some(row) = stored
            && is_in(row.room)?
        {
            return Ok(Some(voice(row.room)));
        }
        // It may have been made just before the server stopped.
        let alias = RoomAlias::parse(format!("#{}:{}", config.alias, rooms.server_name().as_str()));
        let alias = alias.map_err(|_| AdminError::invalid("admin.alias makes no alias"))?;
        let made = match rooms.find_alias(&alias) {
            Ok((room, _)) => rooms.room_nid(&room)?.filter(|room| is_in(*room).unwrap_or(false)),
            Err(RoomError::AliasNotFound) => None,
            Err(error) => return Err(error.into()),
        };
        let room = match made {
            Some(room) => room,
            None => self.make(&user_id, alias).await?,
        };
        self.remember(room).await?;
        Ok(Some(voice(room)))
    }

    async fn make(&self, creator: &UserId, alias: RoomAlias) -> Result<RoomNid, AdminError> {
        let (rooms, config) = (self.admin.rooms(), self.admin.config());
        let profile = [("displayname".to_owned(), config.display_name.as_str().into())];
        let state = |kind: &str, content| (kind.to_owned(), String::new(), object(content));
        let request = CreateRoom {
            creator_profile: Map::from_iter(profile),
            alias: Some(alias.clone()),
            name: Some(format!("Administration of {}", rooms.server_name().as_str())),
            topic: Some("Commands begin with !admin. !admin --help lists them.".to_owned()),
            creation_content: Map::from_iter([("m.federate".to_owned(), false.into())]),
            initial_state: vec![state("m.room.guest_access", json!({"guest_access": "forbidden"}))],
            // What the room is, and who stays in it, the server alone decides.
            power_levels: object(json!({
                "state_default": 100, "ban": 100, "kick": 100, "redact": 100, "invite": 0, "events": {},
            })),
            ..CreateRoom::new(creator.clone(), rooms.default_version(), Preset::PrivateChat)
        };
        let made = match rooms.create_room(request.clone()).await {
            Err(RoomError::AliasTaken) => {
                tracing::warn!(%alias, "the alias of the admin room is taken: the room is made without one");
                rooms.create_room(CreateRoom { alias: None, ..request }).await?
            }
            made => made?,
        };
        tracing::info!(room_id = made.as_str(), "the admin room was made");
        Ok(rooms.known_room(&made)?)
    }

    /// Reads the room from here on.
    async fn remember(&self, room: RoomNid) -> Result<(), AdminError> {
        let seen = self.admin.rooms().head(room)?.last_seq();
        let mut batch = Batch::new();
        batch.put(&ADMIN_ROOM, &(), &AdminRoomRow { room, seen });
        for user in self.admin.store().scan(&ADMIN_ROOM_INVITED, &()).keys() {
            batch.delete(&ADMIN_ROOM_INVITED, &user?);
        }
        self.admin.store().commit(batch).await?;
        Ok(())
    }

    /// Brings those who are in the room into agreement with who administers the server.
    ///
    /// # Errors
    /// Storage errors. Who cannot be invited or removed is logged.
    pub(super) async fn reconcile(&self, voice: &Voice) -> Result<(), AdminError> {
        let store = self.admin.store();
        let administrators = list_administrators(&self.admin)?;
        let is_first = store.scan(&ADMIN_ROOM_INVITED, &()).keys().next().is_none();
        for account in &administrators {
            if store.contains(&ADMIN_ROOM_INVITED, &account.user)? {
                continue;
            }
            self.invite(voice, account).await?;
        }
        if is_first && !administrators.is_empty() {
            voice.say(&Page::text(GUIDE), None).await?;
        }
        let current: BTreeSet<UserNid> = administrators.iter().map(|account| account.user).collect();
        let mut batch = Batch::new();
        for user in store.scan(&ADMIN_ROOM_INVITED, &()).keys() {
            let user = user?;
            if !current.contains(&user) {
                batch.delete(&ADMIN_ROOM_INVITED, &user);
            }
        }
        if !batch.is_empty() {
            store.commit(batch).await?;
        }
        for (user, membership, _) in voice.rooms.members(voice.room)? {
            let is_here = matches!(membership, Membership::Join | Membership::Invite | Membership::Knock);
            let user_id = voice.rooms.user_id(user)?;
            if is_here && user_id != voice.user && !self.may_be_here(user)? {
                self.set_membership(voice, &user_id, Membership::Leave, Map::new()).await;
            }
        }
        Ok(())
    }

    async fn invite(&self, voice: &Voice, account: &Account) -> Result<(), AdminError> {
        let membership = voice.rooms.membership(voice.room, account.user)?.map(|row| row.membership);
        if !matches!(membership, Some(Membership::Join | Membership::Invite)) {
            let mut content = Map::new();
            for key in ["displayname", "avatar_url"] {
                if let Some(value) = self.admin.users().profile_field(account.user, key)? {
                    content.insert(key.to_owned(), value);
                }
            }
            self.set_membership(voice, &account.user_id, Membership::Invite, content).await;
        }
        let mut batch = Batch::new();
        batch.put(&ADMIN_ROOM_INVITED, &account.user, &());
        self.admin.store().commit(batch).await?;
        Ok(())
    }

    async fn set_membership(
        &self,
        voice: &Voice,
        target: &UserId,
        membership: Membership,
        content: Map<String, serde_json::Value>,
    ) {
        let (sender, target) = (voice.user.clone(), target.clone());
        let change = MembershipChange { sender, target: target.clone(), membership, content };
        let room = match voice.rooms.head(voice.room) {
            Ok(head) => head.room_id().clone(),
            Err(error) => return tracing::error!(%error, "the admin room cannot be read"),
        };
        match voice.rooms.change_membership(&room, change).await {
            Ok(()) => tracing::info!(user_id = %target, membership = membership.as_str(), "member of the admin room"),
            Err(error) => tracing::warn!(user_id = %target, %error, "a member of the admin room was not changed"),
        }
    }

    /// Whether somebody may be in the room, and their commands are heard: administrators and moderators. What each may
    /// do is decided when it is done.
    ///
    /// # Errors
    /// Storage errors only.
    pub(super) fn may_be_here(&self, user: UserNid) -> Result<bool, AdminError> {
        let users = self.admin.users();
        let Some(account) = users.account(user)? else { return Ok(false) };
        Ok(is_administrator(&account) || users.role(user)? == Some(Role::Moderator))
    }
}
