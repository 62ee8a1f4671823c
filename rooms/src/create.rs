//! Creating a room: one command of several events (Client-Server API §Creation).

use std::sync::Arc;

use serde_json::{Map, Value, json};
use spec::ids::{RoomAlias, RoomId, UserId};
use spec::version::RoomVersion;
use storage::{CommitError, Read, Topic};

use crate::append::Append;
use crate::draft::Draft;
use crate::error::RoomError;
use crate::gate::Deed;
use crate::head::Head;
use crate::ids::{RoomNid, TOPIC_ALIASES, UserNid};
use crate::keyspaces::{ALIASES, AliasRow, EVENT_IDS, HEADS, PUBLIC_ROOMS, ROOM_ALIASES, ROOM_NIDS};
use crate::membership::Membership;
use crate::memory::Pending;
use crate::rooms::Rooms;

/// How often a creation is tried whose create event exists already.
const MAX_ATTEMPTS: i64 = 16;

/// The ready-made sets of rules for a new room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// By invitation.
    PrivateChat,
    /// By invitation, and the invited have the creator's power.
    TrustedPrivateChat,
    /// Open to all.
    PublicChat,
}

/// What a new room is to be.
#[derive(Clone, Debug)]
pub struct CreateRoom {
    /// Who makes it.
    pub creator: UserId,
    /// Content of the creator's member event besides `membership`: their profile.
    pub creator_profile: Map<String, Value>,
    /// The room version.
    pub version: RoomVersion,
    /// The rules to begin with.
    pub preset: Preset,
    /// Whether to list it in the public room list.
    pub public: bool,
    /// The alias to give it.
    pub alias: Option<RoomAlias>,
    /// Its name.
    pub name: Option<String>,
    /// Its topic.
    pub topic: Option<String>,
    /// Users to invite, each with the content of their member event besides `membership`.
    pub invites: Vec<(UserId, Map<String, Value>)>,
    /// Whether the invitations are to a direct chat.
    pub is_direct: bool,
    /// More of the create event's content.
    pub creation_content: Map<String, Value>,
    /// State events: type, state key, content.
    pub initial_state: Vec<(String, String, Map<String, Value>)>,
    /// Replaces keys of the power levels.
    pub power_levels: Map<String, Value>,
}

impl CreateRoom {
    /// A room with what the preset says and nothing more: no name, nobody invited, listed nowhere.
    #[must_use]
    pub fn new(creator: UserId, version: RoomVersion, preset: Preset) -> CreateRoom {
        CreateRoom {
            creator,
            creator_profile: Map::new(),
            version,
            preset,
            public: false,
            alias: None,
            name: None,
            topic: None,
            invites: Vec::new(),
            is_direct: false,
            creation_content: Map::new(),
            initial_state: Vec::new(),
            power_levels: Map::new(),
        }
    }
}

impl Rooms {
    /// Creates a room: all of its first events in one commit. Users of other servers get the power that invited users
    /// get, but no invitation yet: their servers have to sign it ([`crate::RemoteRooms::invite`]). Cancel-safe: it is made, or it is not.
    ///
    /// # Errors
    /// [`RoomError::AliasTaken`]; what the authorisation rules forbid; malformed content.
    pub async fn create_room(&self, request: CreateRoom) -> Result<RoomId, RoomError> {
        for (user, _) in &request.invites {
            let (membership, sender) = (Membership::Invite, &request.creator);
            self.check_gate(&Deed { membership, sender, target: user, room: None })?;
            self.intern_user(user).await?;
        }
        let creator = self.intern_user(&request.creator).await?;
        if let Some(alias) = &request.alias
            && self.store.contains(&ALIASES, &alias.as_str().to_owned())?
        {
            return Err(RoomError::AliasTaken);
        }
        for attempt in 0..MAX_ATTEMPTS {
            match self.try_create(request.clone(), creator, attempt).await {
                // From version 12 on the room id is the hash of the create event, and two equal ones were
                // made within a millisecond: claim the next.
                Err(RoomError::Commit(CommitError::Expectation { keyspace })) if keyspace == EVENT_IDS.name() => {}
                result => return result,
            }
        }
        Err(RoomError::Busy)
    }

    async fn try_create(&self, request: CreateRoom, creator: UserNid, attempt: i64) -> Result<RoomId, RoomError> {
        let room = self.new_room_nid();
        let alias = request.alias.clone();
        let public = request.public;
        let mut drafts = draft_events(request.clone(), self.server_name.as_str());
        if let Some(create) = drafts.first_mut() {
            create.timestamp = Some(self.clock.now_ms() as i64 + attempt);
        }
        let provisional = RoomId::parse(format!("!{}:{}", self.random.token(18), self.server_name.as_str()))
            .map_err(|_| RoomError::Inconsistent("the server name makes no room ids"))?;
        let mut append = Append::new(self, Head::empty(room, provisional, request.version));
        append.add_command(drafts, None)?;
        let added = append.added();
        let mut change = append.finish().ok_or(RoomError::Inconsistent("a room without events"))?;
        let id = change.head.room_id().clone();
        change.batch.expect_absent(&ROOM_NIDS, &id.as_str().to_owned()).expect_absent(&HEADS, &room);
        change.batch.put(&ROOM_NIDS, &id.as_str().to_owned(), &room);
        if let Some(alias) = &alias {
            change.batch.expect_absent(&ALIASES, &alias.as_str().to_owned());
            change.batch.put(&ALIASES, &alias.as_str().to_owned(), &AliasRow { room, creator });
            change.batch.put(&ROOM_ALIASES, &(room, alias.as_str().to_owned()), &());
            change.batch.touch(Topic::new(TOPIC_ALIASES, room.0));
        }
        if public {
            change.batch.put(&PUBLIC_ROOMS, &room, &());
        }
        self.commit_new(room, change.head, change.batch).await?;
        self.meters.sent.add(added as u64);
        Ok(id)
    }

    /// Commits the first events of a room; its head is in memory from the moment they are visible.
    pub(crate) async fn commit_new(
        &self,
        room: RoomNid,
        head: Arc<Head>,
        batch: storage::Batch,
    ) -> Result<(), RoomError> {
        self.memory.pending.lock().insert(room, Pending { head, members_changed: true, sent_at: None });
        match self.store.commit(batch).await {
            Ok(_) => Ok(()),
            Err(error) => {
                self.memory.pending.lock().remove(&room);
                match error {
                    CommitError::Expectation { keyspace } if keyspace == ALIASES.name() => Err(RoomError::AliasTaken),
                    error => Err(error.into()),
                }
            }
        }
    }
}

/// The events of a new room, in the order the specification gives; invitations of users of this server only.
fn draft_events(request: CreateRoom, server: &str) -> Vec<Draft> {
    let creator = request.creator.clone();
    let state = |kind: &str, key: &str, content: Map<String, Value>| Draft::state(creator.clone(), kind, key, content);
    let (join_rule, guest_access) = match request.preset {
        Preset::PublicChat => ("public", "forbidden"),
        Preset::PrivateChat | Preset::TrustedPrivateChat => ("invite", "can_join"),
    };
    let power_levels = power_levels(&request);
    let mut drafts = vec![state("m.room.create", "", create_content(&request))];
    let mut join = request.creator_profile;
    join.insert("membership".into(), "join".into());
    drafts.push(state("m.room.member", creator.as_str(), join));
    drafts.push(state("m.room.power_levels", "", power_levels));
    if let Some(alias) = &request.alias {
        drafts.push(state("m.room.canonical_alias", "", object(json!({"alias": alias.as_str()}))));
    }
    let given = |kind: &str| request.initial_state.iter().any(|(given, key, _)| given == kind && key.is_empty());
    let presets = [
        ("m.room.join_rules", json!({"join_rule": join_rule})),
        ("m.room.history_visibility", json!({"history_visibility": "shared"})),
        ("m.room.guest_access", json!({"guest_access": guest_access})),
    ];
    for (kind, content) in presets {
        if !given(kind) {
            drafts.push(state(kind, "", object(content)));
        }
    }
    drafts.extend(request.initial_state.iter().map(|(kind, key, content)| state(kind, key, content.clone())));
    if let Some(name) = request.name {
        drafts.push(state("m.room.name", "", object(json!({"name": name}))));
    }
    if let Some(topic) = request.topic {
        let content = json!({"topic": topic, "m.topic": {"m.text": [{"body": topic, "mimetype": "text/plain"}]}});
        drafts.push(state("m.room.topic", "", object(content)));
    }
    for (user, mut content) in request.invites.into_iter().filter(|(user, _)| user.server_name() == server) {
        content.insert("membership".into(), "invite".into());
        if request.is_direct {
            content.insert("is_direct".into(), true.into());
        }
        drafts.push(state("m.room.member", user.as_str(), content));
    }
    drafts
}

fn create_content(request: &CreateRoom) -> Map<String, Value> {
    let rules = request.version.rules();
    let mut content = request.creation_content.clone();
    content.insert("room_version".into(), request.version.as_str().into());
    if !rules.use_room_create_sender {
        content.insert("creator".into(), request.creator.as_str().into());
    }
    if rules.additional_creators && request.preset == Preset::TrustedPrivateChat && !request.invites.is_empty() {
        let mut creators: Vec<Value> =
            content.get("additional_creators").and_then(Value::as_array).cloned().unwrap_or_default();
        for (user, _) in &request.invites {
            let user = Value::from(user.as_str());
            if !creators.contains(&user) {
                creators.push(user);
            }
        }
        content.insert("additional_creators".into(), creators.into());
    }
    content
}

fn power_levels(request: &CreateRoom) -> Map<String, Value> {
    let privileged = request.version.rules().explicitly_privilege_room_creators;
    let mut users = Map::new();
    if !privileged {
        users.insert(request.creator.as_str().into(), 100.into());
        if request.preset == Preset::TrustedPrivateChat {
            users.extend(request.invites.iter().map(|(user, _)| (user.as_str().to_owned(), 100.into())));
        }
    }
    let invite = if request.preset == Preset::PublicChat { 50 } else { 0 };
    let tombstone = if privileged { 150 } else { 100 };
    let mut levels = object(json!({
        "ban": 50, "events_default": 0, "invite": invite, "kick": 50, "redact": 50, "state_default": 50,
        "users_default": 0, "users": users, "notifications": {"room": 50},
        "events": {
            "m.room.avatar": 50, "m.room.canonical_alias": 50, "m.room.encryption": 100,
            "m.room.history_visibility": 100, "m.room.name": 50, "m.room.power_levels": 100,
            "m.room.server_acl": 100, "m.room.tombstone": tombstone, "m.room.topic": 50,
            // Calls are for everybody: being in one is state, or a slot of the room is.
            "org.matrix.msc3401.call": 0, "org.matrix.msc3401.call.member": 0, "org.matrix.msc4143.rtc.member": 0,
            "org.matrix.msc4143.rtc.slot": 0,
        },
    }));
    levels.extend(request.power_levels.clone());
    levels
}

pub(crate) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
