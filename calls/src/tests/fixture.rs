//! A server with calls whose media server, TURN server and other homeservers only do what a test says.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rooms::{CreateRoom, Draft, Membership, MembershipChange, Preset, Rooms, RoomsConfig, RoomsParts, UserNid};
use runtime::{Clock, Metrics, Random, Tasks};
use serde_json::Map;
use spec::ids::{RoomId, ServerName, UserId};
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::{Backend, MemoryDisk, Options, Store};
use users::{AccountKind, AdminRights, DeviceLogin, NewAccount, Users, UsersConfig};

use super::recording::FakeRecorder;
use crate::{
    CALL_SLOT, CallAddresses, CallAnswer, CallError, CallEvents, Calls, CallsConfig, CallsParts, Grant, LiveLeg,
    MediaServer, Member, OpenIdProof, RemoteCalls, RemoteSeat, Seat,
};

pub const PHONE: &str = "PHONE";

pub fn user(name: &str) -> UserId {
    match name.contains(':') {
        true => UserId::parse(format!("@{name}")).unwrap(),
        false => UserId::parse(format!("@{name}:us")).unwrap(),
    }
}

/// A media server of which nothing is real.
#[derive(Default)]
pub struct FakeMedia {
    grants: Mutex<Vec<Grant>>,
    disconnected: Mutex<Vec<String>>,
    live: Mutex<Vec<(String, LiveLeg)>>,
    muted: Mutex<Vec<String>>,
}

impl FakeMedia {
    /// The last grant for which a token was made.
    pub fn last(&self) -> Grant {
        self.grants.lock().last().cloned().unwrap()
    }

    /// What is shown of a participant of a call.
    pub fn set_live(&self, room: &str, leg: LiveLeg) {
        self.live.lock().push((room.to_owned(), leg));
    }

    /// The tracks that were muted since this was asked last.
    pub fn take_muted(&self) -> Vec<String> {
        std::mem::take(&mut *self.muted.lock())
    }

    /// Who was put out since this was asked last.
    pub fn take_disconnected(&self) -> Vec<String> {
        std::mem::take(&mut *self.disconnected.lock())
    }
}

impl MediaServer for FakeMedia {
    fn token(&self, grant: &Grant) -> String {
        self.grants.lock().push(grant.clone());
        format!("token of {}", grant.identity)
    }

    fn disconnect(&self, _: &str, identity: &str) {
        self.disconnected.lock().push(identity.to_owned());
    }

    fn participants(&self, room: &str) -> Vec<LiveLeg> {
        self.live.lock().iter().filter(|(name, _)| name == room).map(|(_, leg)| leg.clone()).collect()
    }

    fn mute(&self, _: &str, _: &str, track: &str) {
        self.muted.lock().push(track.to_owned());
    }
}

/// Other homeservers: whose OpenID tokens are whose, and who was asked for a token.
#[derive(Default)]
pub struct Elsewhere {
    pub openid: Mutex<BTreeMap<String, UserId>>,
    pub asked: Mutex<Vec<(ServerName, RemoteSeat)>>,
}

impl RemoteCalls for Elsewhere {
    fn openid_user<'a>(&'a self, server: &'a ServerName, proof: &'a OpenIdProof) -> CallAnswer<'a, UserId> {
        let found = self.openid.lock().get(&proof.access_token).cloned();
        Box::pin(async move { found.ok_or_else(|| CallError::RemoteUnavailable(server.as_str().to_owned())) })
    }

    fn token<'a>(&'a self, server: &'a ServerName, wanted: &'a RemoteSeat) -> CallAnswer<'a, String> {
        self.asked.lock().push((server.clone(), wanted.clone()));
        Box::pin(async { Ok("token from there".to_owned()) })
    }
}

pub struct Fixture {
    pub calls: Calls,
    pub recorder: Arc<FakeRecorder>,
    pub rooms: Rooms,
    pub users: Users,
    pub clock: Clock,
    pub media: Arc<FakeMedia>,
    pub elsewhere: Arc<Elsewhere>,
    pub events: CallEvents,
    store: Store,
    tasks: Tasks,
    disk: MemoryDisk,
}

impl Fixture {
    pub fn new() -> Fixture {
        Fixture::with_config(CallsConfig::default())
    }

    pub fn with_config(config: CallsConfig) -> Fixture {
        Fixture::open(MemoryDisk::new(), Clock::fake(1_700_000_000_000), config, Arc::default())
    }

    fn open(disk: MemoryDisk, clock: Clock, config: CallsConfig, recorder: Arc<FakeRecorder>) -> Fixture {
        assert!(disk.wait_until_free());
        let keyspaces = [crate::KEYSPACES, rooms::KEYSPACES, users::KEYSPACES].concat();
        let store = Store::open(Options::new(Backend::MemoryDisk(disk.clone()), keyspaces)).unwrap();
        let (tasks, random) = (Tasks::new(&Metrics::new()), Random::seeded(clock.now_ms()));
        let rooms = Rooms::new(RoomsParts {
            store: store.clone(),
            clock: clock.clone(),
            random: random.clone(),
            tasks: tasks.clone(),
            server_name: ServerName::parse("us").unwrap(),
            signing_key: Arc::new(SigningKey::from_seed([7; 32], "1").unwrap()),
            config: RoomsConfig::default(),
            policy_servers: None,
        })
        .unwrap();
        let users = Users::open(store.clone(), rooms.clone(), clock.clone(), random, UsersConfig::default()).unwrap();
        let (media, elsewhere, events) =
            (Arc::<FakeMedia>::default(), Arc::<Elsewhere>::default(), CallEvents::default());
        let calls = Calls::new(CallsParts {
            store: store.clone(),
            rooms: rooms.clone(),
            users: users.clone(),
            clock: clock.clone(),
            tasks: tasks.clone(),
            config,
            addresses: CallAddresses::below("https://us.example"),
            media: Some(media.clone()),
            turn: None,
            recorder: Some(recorder.clone()),
            remote: elsewhere.clone(),
            events: events.clone(),
        });
        calls.start();
        Fixture { calls, recorder, rooms, users, clock, media, elsewhere, events, store, tasks, disk }
    }

    /// Ends in good order, and starts on the same disk.
    pub async fn restart(self) -> Fixture {
        assert!(self.tasks.drain(Duration::from_secs(60)).await);
        self.store.close().unwrap();
        let (disk, clock, config) = (self.disk.clone(), self.clock.clone(), self.calls.config.clone());
        let recorder = self.recorder.clone();
        drop(self);
        Fixture::open(disk, clock, config, recorder)
    }

    /// Waits until something is so, at this time of the clock.
    pub async fn until(&self, mut is_so: impl FnMut() -> bool) {
        for _ in 0..12_000 {
            if is_so() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("it never came to be");
    }

    /// A user of this server with one device.
    pub async fn account(&self, name: &str) -> UserNid {
        let account = NewAccount {
            localpart: name,
            password: None,
            kind: AccountKind::User,
            admin: AdminRights::Denied,
            registration_token: None,
        };
        let account = self.users.create_account(account).await.unwrap();
        let login = DeviceLogin { device_id: Some(PHONE), ..DeviceLogin::default() };
        self.users.start_session(account.user, login).await.unwrap();
        account.user
    }

    /// A room of the first, whom the others have joined; users of other servers, too.
    pub async fn room(&self, members: &[&str]) -> RoomId {
        let (creator, others) = members.split_first().unwrap();
        let request = CreateRoom::new(user(creator), RoomVersion::V10, Preset::PublicChat);
        let room = self.rooms.create_room(request).await.unwrap();
        for member in others {
            self.rooms.intern_user(&user(member)).await.unwrap();
            self.change(&room, member, member, Membership::Join).await;
        }
        room
    }

    pub async fn change(&self, room: &RoomId, sender: &str, target: &str, membership: Membership) {
        let change = MembershipChange { sender: user(sender), target: user(target), membership, content: Map::new() };
        self.rooms.change_membership(room, change).await.unwrap();
    }

    /// Schedules a state event that stands for a leave, and answers its id.
    pub async fn schedule(&self, room: &RoomId, name: &str, delay_ms: u64) -> String {
        let event = rooms::NewDelayedEvent {
            kind: "org.matrix.msc3401.call.member".into(),
            state_key: Some(user(name).as_str().into()),
            content: Map::new(),
            delay_ms,
            sticky_ms: None,
        };
        let (room, owner) = (self.rooms.known_room(room).unwrap(), self.nid(name));
        self.rooms.delay_event(room, owner, event, None).await.unwrap()
    }

    /// Announces a user as a member of the call.
    pub async fn announce(&self, room: &RoomId, name: &str) {
        let content = serde_json::json!({"application": "m.call"}).as_object().unwrap().clone();
        let draft = Draft::state(user(name), "org.matrix.msc3401.call.member", user(name).as_str(), content);
        self.rooms.append(self.rooms.known_room(room).unwrap(), vec![draft], None).await.unwrap();
    }

    /// Whether a delayed event has been sent.
    pub fn was_sent(&self, delay_id: &str) -> bool {
        let event = self.rooms.delayed_event(delay_id).unwrap().unwrap();
        matches!(event.outcome, Some(rooms::DelayedOutcome::Sent { .. }))
    }

    /// Since when the time of a delayed event runs.
    pub fn since_ms(&self, delay_id: &str) -> u64 {
        self.rooms.delayed_event(delay_id).unwrap().unwrap().since_ms
    }

    pub fn nid(&self, name: &str) -> UserNid {
        self.rooms.user_nid(&user(name)).unwrap().unwrap()
    }

    /// An OpenID token of a user of this server.
    pub async fn proof(&self, name: &str) -> OpenIdProof {
        let token = self.users.create_openid_token(self.nid(name)).await.unwrap();
        OpenIdProof { access_token: token.access_token, matrix_server_name: token.matrix_server_name }
    }

    /// How many are in calls.
    pub fn present(&self) -> usize {
        self.calls.overview().unwrap().iter().map(|call| call.legs.len()).sum()
    }

    pub async fn stop(self) {
        assert!(self.tasks.drain(Duration::from_secs(60)).await, "a task does not end");
    }
}

/// Lets a user in, who joins: the media server's names of the call and of the participant.
pub async fn join(here: &Fixture, room: &RoomId, name: &str) -> (String, String) {
    here.calls.admit(&user(name), &seat(room), crate::Entrance::Service).await.unwrap();
    let grant = here.media.last();
    assert!(here.calls.may_join(&grant.room, &grant.identity));
    let before = here.present();
    here.events.joined(&grant.room, &grant.identity);
    here.until(|| here.present() == before + 1).await;
    (grant.room, grant.identity)
}

/// A place as the first generation of clients asks for it.
pub fn seat(room: &RoomId) -> Seat {
    Seat { room: room.clone(), slot: CALL_SLOT.to_owned(), member: Member::Device(PHONE.to_owned()), device: None }
}

/// A place as later generations ask for it.
pub fn member(room: &RoomId, id: &str, device: Option<&str>) -> Seat {
    let member = match device {
        Some(device) => Member::Claimed { id: id.to_owned(), device: device.to_owned() },
        None => Member::Id(id.to_owned()),
    };
    Seat { room: room.clone(), slot: CALL_SLOT.to_owned(), member, device: None }
}

pub fn server(name: &str) -> ServerName {
    ServerName::parse(name).unwrap()
}
