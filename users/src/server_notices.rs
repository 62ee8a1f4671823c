//! Messages of the server itself to its users (Client-Server API §"Server Notices").
//!
//! Each user has one notice room, made for the first notice; its row is written before the user is invited, so that no
//! user ever sees two. An invitation and the notice it is for are one commit.

use rooms::{CreateRoom, Draft, Membership, Preset, RoomError, RoomNid, Transaction, UserNid};
use serde_json::{Map, Value, json};
use spec::ids::{EventId, UserId};
use storage::{Batch, Keyspace, Profile, Read};
use tokio::sync::{Mutex, OnceCell};

use crate::{UserError, Users};

/// User → their notice room.
pub(crate) const NOTICE_ROOMS: Keyspace<UserNid, RoomNid> = Keyspace::new("server_notice_rooms", Profile::Points);

/// The tag by which clients know the room.
const NOTICE_TAG: &str = "m.server_notice";
/// The power of whoever is not the sender: too little to say anything.
const READER_POWER: i64 = -10;
/// How often a notice is tried when its target joins or leaves meanwhile.
const MAX_ATTEMPTS: usize = 3;

runtime::config_section! {
    /// Messages that administrators send to users in the name of the server
    /// (`/_synapse/admin/v1/send_server_notice`), each user's in a room of their own.
    pub struct ServerNoticesConfig {
        /// The user who sends them: the part of the user id before the colon. Without it there are no
        /// server notices. It must not be anybody's account; with the first notice it is made, without a
        /// password.
        pub localpart: Option<String> = None, example("\"_server\"");
        /// The display name of that user.
        pub display_name: Option<String> = None, example("\"Server Notices\"");
        /// The avatar of that user.
        pub avatar_url: Option<String> = None, example("\"mxc://example.org/notices\"");
        /// The name of the rooms. A change is for rooms made after it, as for the next two.
        pub room_name: String = "Server Notices".to_owned();
        /// The topic of the rooms.
        pub room_topic: Option<String> = None, example("\"What the administrators of this server have to tell you\"");
        /// The avatar of the rooms.
        pub room_avatar_url: Option<String> = None, example("\"mxc://example.org/notices\"");
    }
}

impl ServerNoticesConfig {
    /// What cannot be: the key with its section, and the reason.
    ///
    /// # Errors
    /// The first one found.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        if self.localpart.as_deref().is_some_and(|localpart| !UserId::is_valid_new_localpart(localpart)) {
            return Err(("server_notices.localpart", "use a-z, 0-9 and . _ = - / + only".to_owned()));
        }
        let avatars = [
            ("server_notices.avatar_url", &self.avatar_url),
            ("server_notices.room_avatar_url", &self.room_avatar_url),
        ];
        match avatars.into_iter().find(|(_, url)| url.as_deref().is_some_and(|url| !url.starts_with("mxc://"))) {
            Some((key, _)) => Err((key, "an avatar is an mxc:// address".to_owned())),
            None => Ok(()),
        }
    }
}

/// What an administrator has to say.
#[derive(Clone, Debug)]
pub struct ServerNotice {
    /// The event type.
    pub kind: Box<str>,
    /// Present for state events.
    pub state_key: Option<Box<str>>,
    /// The content.
    pub content: Map<String, Value>,
}

/// What is known of the sender, and who may make rooms.
#[derive(Debug, Default)]
pub(crate) struct ServerNotices {
    sender: OnceCell<(UserNid, UserId)>,
    making_room: Mutex<()>,
}

impl Users {
    /// The local account that server notices can be sent to.
    ///
    /// # Errors
    /// `ServerNoticesOff`; `InvalidParam` for users of other servers and the sender of the notices; `NotFound`.
    pub fn notice_target(&self, target: &UserId) -> Result<UserNid, UserError> {
        if self.config().server_notices.localpart.is_none() {
            return Err(UserError::ServerNoticesOff);
        }
        if target.server_name() != self.rooms().server_name().as_str() {
            return Err(UserError::InvalidParam("server notices are for users of this server"));
        }
        if self.is_server_user(target) {
            return Err(UserError::InvalidParam("this user is the server itself"));
        }
        self.active_user(target)?.ok_or(UserError::NotFound("account"))
    }

    /// Sends a notice to a user, in their notice room, which is made and to which they are invited as need be. With a
    /// transaction that was used before for this user, gives the event that it made then. Cancel-safe: what was begun
    /// is completed by the next notice.
    ///
    /// # Errors
    /// Those of [`Users::notice_target`]; `Forbidden` if the sender's account is somebody's; `InvalidParam` for types
    /// that are no notice; what the room refuses.
    pub async fn send_server_notice(
        &self,
        target: &UserId,
        notice: ServerNotice,
        transaction: Option<Transaction>,
    ) -> Result<EventId, UserError> {
        if matches!(&*notice.kind, "m.room.member" | "m.room.redaction") {
            return Err(UserError::InvalidParam("an event of this type is no notice"));
        }
        let user = self.notice_target(target)?;
        let (sender, sender_id) = self.notice_sender().await?;
        let room = self.find_or_make_notice_room(user, *sender, sender_id).await?;
        if !self.tags(user, room)?.contains_key(NOTICE_TAG) {
            self.set_tag(user, room, NOTICE_TAG, Map::new()).await?;
        }
        let transaction = transaction.map(|transaction| {
            let scope = format!("server notice {} {}", user.0, transaction.scope);
            (*sender, Transaction { scope: scope.into(), ..transaction })
        });
        let event =
            Draft { state_key: notice.state_key, ..Draft::message(sender_id.clone(), &notice.kind, notice.content) };
        for _ in 1..MAX_ATTEMPTS {
            let drafts = self.notice_drafts(room, (user, target), sender_id, &event)?;
            match self.rooms().append(room, drafts, transaction.clone()).await {
                // Whoever has joined meanwhile cannot be invited.
                Err(RoomError::Forbidden(_)) => {}
                result => return last_event(result?),
            }
        }
        let drafts = self.notice_drafts(room, (user, target), sender_id, &event)?;
        last_event(self.rooms().append(room, drafts, transaction).await?)
    }

    /// Refuses to let a user reject the invitation to their notice room. They may leave it once they have joined.
    ///
    /// # Errors
    /// `CannotLeaveNotices`.
    pub fn check_may_leave(&self, user: UserNid, room: RoomNid) -> Result<(), UserError> {
        if self.store().get(&NOTICE_ROOMS, &user)? != Some(room) {
            return Ok(());
        }
        match self.rooms().membership(room, user)?.map(|row| row.membership) {
            Some(Membership::Invite) => Err(UserError::CannotLeaveNotices),
            _ => Ok(()),
        }
    }

    /// The sender, its account made and its profile set as configured.
    async fn notice_sender(&self) -> Result<&(UserNid, UserId), UserError> {
        let config = &self.config().server_notices;
        let Some(localpart) = &config.localpart else { return Err(UserError::ServerNoticesOff) };
        let make = || self.ensure_server_user(localpart, config.display_name.as_deref(), config.avatar_url.as_deref());
        self.inner.server_notices.sender.get_or_try_init(make).await
    }

    /// The user's notice room. A new one is made for the first notice, or if the sender is not in it any more.
    async fn find_or_make_notice_room(
        &self,
        user: UserNid,
        sender: UserNid,
        sender_id: &UserId,
    ) -> Result<RoomNid, UserError> {
        let _alone = self.inner.server_notices.making_room.lock().await;
        if let Some(room) = self.store().get(&NOTICE_ROOMS, &user)? {
            let membership = self.rooms().membership(room, sender)?.map(|row| row.membership);
            if membership == Some(Membership::Join) {
                return Ok(room);
            }
        }
        let config = &self.config().server_notices;
        let avatar = config.room_avatar_url.as_ref().map(|url| {
            let content = Map::from_iter([("url".to_owned(), url.as_str().into())]);
            ("m.room.avatar".to_owned(), String::new(), content)
        });
        let request = CreateRoom {
            creator_profile: self.notice_profile(),
            name: Some(config.room_name.clone()).filter(|name| !name.is_empty()),
            topic: config.room_topic.clone(),
            creation_content: Map::from_iter([("m.federate".to_owned(), false.into())]),
            initial_state: avatar.into_iter().collect(),
            power_levels: Map::from_iter([("users_default".to_owned(), READER_POWER.into())]),
            ..CreateRoom::new(sender_id.clone(), self.rooms().default_version(), Preset::PrivateChat)
        };
        let room = self.rooms().create_room(request).await?;
        let room = self.rooms().known_room(&room)?;
        let mut batch = Batch::new();
        batch.put(&NOTICE_ROOMS, &user, &room);
        self.store().commit(batch).await?;
        Ok(room)
    }

    /// What the sender's member events repeat of its profile.
    fn notice_profile(&self) -> Map<String, Value> {
        let config = &self.config().server_notices;
        let fields = [("displayname", &config.display_name), ("avatar_url", &config.avatar_url)];
        let given = fields.into_iter().filter_map(|(key, value)| Some((key.to_owned(), value.clone()?.into())));
        given.collect()
    }

    /// The notice, before it the invitation if the user is not in the room, and the sender's profile where it changed.
    fn notice_drafts(
        &self,
        room: RoomNid,
        (user, target): (UserNid, &UserId),
        sender: &UserId,
        notice: &Draft,
    ) -> Result<Vec<Draft>, UserError> {
        let mut profile = self.notice_profile();
        profile.insert("membership".into(), Membership::Join.as_str().into());
        let profile = Draft {
            skip_if_unchanged: true,
            ..Draft::state(sender.clone(), "m.room.member", sender.as_str(), profile)
        };
        let mut drafts = vec![profile];
        let membership = self.rooms().membership(room, user)?.map(|row| row.membership);
        if !matches!(membership, Some(Membership::Join | Membership::Invite)) {
            let mut content = Map::from_iter([("membership".to_owned(), json!(Membership::Invite.as_str()))]);
            for key in ["displayname", "avatar_url"] {
                if let Some(value) = self.profile_field(user, key)? {
                    content.insert(key.to_owned(), value);
                }
            }
            let invite = Draft::state(sender.clone(), "m.room.member", target.as_str(), content);
            // Two notices at once invite once.
            drafts.push(Draft { skip_if_unchanged: true, ..invite });
        }
        drafts.push(notice.clone());
        Ok(drafts)
    }
}

fn last_event(ids: Vec<EventId>) -> Result<EventId, UserError> {
    ids.into_iter().next_back().ok_or(UserError::Inconsistent("a notice made no event"))
}

#[cfg(test)]
mod tests;
