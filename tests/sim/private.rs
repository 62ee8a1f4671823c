//! Small private rooms that are entered before their members are known: what two people do first must work at once, and
//! all servers agree in the end.

use std::time::Duration;

use rooms::{CreateRoom, Draft, Membership, MembershipChange, Preset, RoomError};
use serde_json::{Map, Value, json};
use spec::ids::{RoomId, ServerName, UserId};
use spec::version::RoomVersion;
use sync::{Filter, Sync, SyncConfig, SyncParts, V3Request};
use testkit::sim::{
    Member, Picture, SimNetwork, SimRuntime, SimServer, compare_pictures, compare_present, introduce, join,
};
use users::{DeviceLogin, PresenceState};

const NAMES: [&str; 3] = ["one.test", "two.test", "three.test"];
/// How long the members of rooms are held back: longer than all that is tried until then.
const HELD: Duration = Duration::from_secs(120);
const LIMIT: Duration = Duration::from_secs(300);
/// How long transactions are on their way where they are held back.
const TRANSIT: Duration = Duration::from_secs(2);
/// For how long nothing is carried until all is said.
const SILENCE: Duration = Duration::from_secs(9);

/// Alice and Anna of one, Bob and Beth of two, Carol of three.
struct Town {
    runtime: SimRuntime,
    network: SimNetwork,
    servers: Vec<SimServer>,
    alice: Member,
    anna: Member,
    bob: Member,
    beth: Member,
    carol: Member,
}

fn object(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn content_of(member: &Member, room: &RoomId, kind: &str, key: &str) -> Option<Value> {
    let nid = member.rooms.room_nid(room).unwrap()?;
    let state = member.rooms.head(nid).unwrap().state();
    member.rooms.state_event(nid, state, kind, key).unwrap()?.content_as()
}

fn membership(of: &Member, as_seen_by: &Member, room: &RoomId) -> Option<Membership> {
    let rooms = &as_seen_by.rooms;
    let (room, user) = (rooms.room_nid(room).unwrap()?, rooms.user_nid(&of.user).unwrap()?);
    rooms.membership(room, user).unwrap().map(|row| row.membership)
}

fn has_heard(member: &Member, room: &RoomId, text: &str) -> bool {
    count_shown(member, room, text) > 0
}

/// How many events with a text are shown, those among them that came as history.
fn count_shown(member: &Member, room: &RoomId, text: &str) -> usize {
    let nid = member.rooms.known_room(room).unwrap();
    let events = member.rooms.events_after(nid, rooms::RoomSeq(i64::MIN), 1000).unwrap();
    events.iter().filter(|event| event.content().contains(text) && event.flags().is_visible()).count()
}

impl Town {
    fn new(seed: u64) -> Town {
        let runtime = SimRuntime::new();
        let network = SimNetwork::new(seed, runtime.clock().clone());
        let start = |(index, name): (usize, &&str)| {
            SimServer::start(name, seed * 10 + index as u64 + 1, &NAMES, true, &runtime, &network)
        };
        let servers: Vec<SimServer> = NAMES.iter().enumerate().map(start).collect();
        introduce(&servers, &runtime);
        let member = |server: usize, name: &str| servers[server].member(&servers[server].add_user(name, &runtime));
        let (alice, anna, bob, beth, carol) =
            (member(0, "alice"), member(0, "anna"), member(1, "bob"), member(1, "beth"), member(2, "carol"));
        Town { runtime, network, servers, alice, anna, bob, beth, carol }
    }

    /// From now on nobody learns of the members of a room that they enter.
    fn hold_members(&self) {
        self.network.hold("/_matrix/federation/v1/state_ids/", HELD);
    }

    fn run<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> T {
        self.runtime.run(LIMIT, work)
    }

    fn create(&self, by: &Member, version: RoomVersion, preset: Preset, state: Value) -> RoomId {
        let (by, state) = (by.clone(), object(state));
        let state = state.into_iter().map(|(kind, content)| (kind, String::new(), object(content)));
        let request = CreateRoom {
            creator_profile: object(json!({"displayname": "The creator"})),
            name: Some("Between us".to_owned()),
            is_direct: true,
            initial_state: state.collect(),
            ..CreateRoom::new(by.user.clone(), version, preset)
        };
        self.run(async move { by.rooms.create_room(request).await.unwrap() })
    }

    fn change(&self, by: &Member, room: &RoomId, of: &UserId, to: Membership) -> Result<(), RoomError> {
        let (by, room, target) = (by.clone(), room.clone(), of.clone());
        self.run(async move {
            let change = MembershipChange { sender: by.user, target, membership: to, content: Map::new() };
            by.rooms.change_membership(&room, change).await
        })
    }

    /// Invites as a client's request does, and waits until all servers in the room know of it.
    fn invite(&self, by: &Member, room: &RoomId, whom: &Member) {
        if by.user.server_name() == whom.user.server_name() {
            self.change(by, room, &whom.user, Membership::Invite).unwrap();
        } else {
            let (by, room_id, target) = (by.clone(), room.clone(), whom.user.clone());
            let content = object(json!({"is_direct": true}));
            self.run(async move { by.port().invite(&by.user, &room_id, &target, content).await }).unwrap();
        }
        // Servers in the room hear of it a moment later.
        self.runtime.pass(Duration::from_secs(2));
        assert_eq!(membership(whom, whom, room), Some(Membership::Invite));
    }

    /// Joins as a client's request does.
    fn enter(&self, who: &Member, room: &RoomId, via: usize) -> Result<(), RoomError> {
        let (who, room) = (who.clone(), room.clone());
        let via = vec![ServerName::parse(NAMES[via]).unwrap()];
        self.run(async move { join(&who, &room, &via).await })
    }

    fn say(&self, who: &Member, room: &RoomId, text: &str) {
        let (who, room, body) = (who.clone(), room.clone(), text.to_owned());
        self.run(async move {
            let content = object(json!({"algorithm": "m.megolm.v1.aes-sha2", "ciphertext": body}));
            let draft = Draft::message(who.user.clone(), "m.room.encrypted", content);
            who.rooms.append(who.rooms.known_room(&room).unwrap(), vec![draft], None).await.unwrap();
        });
    }

    fn hear(&self, who: &Member, room: &RoomId, text: &str) {
        for _ in 0..60 {
            if has_heard(who, room, text) {
                return;
            }
            self.runtime.pass(Duration::from_millis(500));
        }
        panic!("{} never hears {text:?}", who.user);
    }

    /// What a client that loads members lazily is told of a room in its first answer.
    fn sync(&self, server: usize, who: &Member, room: &RoomId) -> Value {
        let (server, user) = (&self.servers[server], who.user.clone());
        let parts = SyncParts {
            store: server.store().clone(),
            rooms: server.rooms().clone(),
            users: server.users().clone(),
            clock: self.runtime.clock().clone(),
            tasks: server.tasks().clone(),
            config: SyncConfig::default(),
        };
        let users = server.users().clone();
        let filter = Filter::parse(br#"{"room": {"state": {"lazy_load_members": true}}}"#).unwrap();
        let answer = self.run(async move {
            let account = users.account_by_id(&user).unwrap().unwrap();
            let login = DeviceLogin { device_id: Some("TEST"), ..DeviceLogin::default() };
            let session = users.start_session(account.user, login).await.unwrap();
            let session = users.authenticate(&session.tokens.access_token).await.unwrap();
            let request = V3Request {
                since: None,
                filter: filter.into(),
                full_state: false,
                set_presence: PresenceState::Offline,
                timeout: Duration::ZERO,
                state_after: None,
            };
            Sync::new(parts).v3(&session, &request).await.unwrap()
        });
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        answer["rooms"]["join"][room.as_str()].clone()
    }

    /// The members come, and nothing is left to say. All servers in the room then have the same.
    fn agree(&self, room: &RoomId, present: &[&Member]) {
        self.network.release();
        let clock = self.runtime.clock();
        let until = clock.monotonic() + Duration::from_secs(900);
        loop {
            self.runtime.pass(Duration::from_secs(1));
            let is_whole = present.iter().all(|member| !member.is_partial(room));
            if is_whole && self.network.idle_for() >= SILENCE {
                break;
            }
            assert!(clock.monotonic() < until, "the servers never fall silent");
        }
        let pictures: Vec<Picture> =
            self.servers.iter().filter_map(|server| Picture::take(server, room)).filter(|of| of.is_resident).collect();
        let mut problems = compare_pictures(&pictures);
        problems.extend(compare_present(&pictures));
        assert!(problems.is_empty(), "{problems:#?}");
        for one in present {
            for other in present {
                assert_eq!(membership(one, other, room), Some(Membership::Join), "{} for {}", one.user, other.user);
            }
        }
        for server in &self.servers {
            let found = rooms::fsck::check(server.store(), &mut |_| {}).unwrap().problems;
            assert!(found.is_empty(), "{found:#?}");
        }
    }
}

fn encrypted() -> Value {
    json!({"m.room.encryption": {"algorithm": "m.megolm.v1.aes-sha2"}})
}

/// Two people, whose servers have never met in a room.
fn talk_in_a_private_room(version: RoomVersion) {
    let town = Town::new(41);
    let Town { alice, anna, bob, beth, carol, .. } = &town;
    let room = town.create(alice, version, Preset::PrivateChat, encrypted());
    town.say(alice, &room, "before");
    town.invite(alice, &room, bob);
    town.hold_members();
    assert!(town.enter(beth, &room, 0).is_err(), "who is not invited does not come in");
    town.enter(bob, &room, 0).unwrap();
    assert!(bob.is_partial(&room));
    // Both ways, at once.
    town.say(bob, &room, "from bob");
    town.say(alice, &room, "from alice");
    town.hear(alice, &room, "from bob");
    town.hear(bob, &room, "from alice");
    assert_eq!(membership(bob, alice, &room), Some(Membership::Join));
    assert!(content_of(bob, &room, "m.room.encryption", "").is_some());
    // The client of the one who was invited knows whom it talks to.
    let told = town.sync(1, bob, &room);
    let senders: Vec<&str> = told["state"]["events"]
        .as_array()
        .into_iter()
        .flatten()
        .chain(told["timeline"]["events"].as_array().into_iter().flatten())
        .filter(|event| event["type"] == "m.room.member")
        .filter_map(|event| event["state_key"].as_str())
        .collect();
    assert!(senders.contains(&alice.user.as_str()) && senders.contains(&bob.user.as_str()), "{told}");
    // Whoever was invited can have others come: of their own server, of the other one, and of a third.
    town.invite(bob, &room, beth);
    town.enter(beth, &room, 0).unwrap();
    town.invite(bob, &room, anna);
    town.invite(bob, &room, carol);
    let is_invited = || membership(carol, alice, &room) == Some(Membership::Invite);
    for _ in 0..60 {
        if is_invited() {
            break;
        }
        town.runtime.pass(Duration::from_millis(500));
    }
    assert!(is_invited(), "the server in between has not heard of the invitation");
    town.enter(carol, &room, 0).unwrap();
    town.say(carol, &room, "from carol");
    town.hear(alice, &room, "from carol");
    town.agree(&room, &[alice, bob, beth, carol]);
    assert_eq!(membership(anna, alice, &room), Some(Membership::Invite));
    assert!(has_heard(bob, &room, "from carol") && has_heard(carol, &room, "from carol"));
}

#[test]
fn two_people_talk_in_a_private_room_of_version_11() {
    talk_in_a_private_room(RoomVersion::V11);
}

#[test]
fn two_people_talk_in_a_private_room_of_version_12() {
    talk_in_a_private_room(RoomVersion::V12);
}

#[test]
fn whoever_was_invited_may_have_the_power_of_the_creator() {
    for version in [RoomVersion::V11, RoomVersion::V12] {
        let town = Town::new(42);
        let Town { alice, bob, .. } = &town;
        let room = town.create(alice, version, Preset::TrustedPrivateChat, encrypted());
        town.invite(alice, &room, bob);
        town.hold_members();
        town.enter(bob, &room, 0).unwrap();
        assert!(bob.is_partial(&room));
        // Leaving and coming back, before anybody else is known.
        town.say(bob, &room, "hello");
        town.hear(alice, &room, "hello");
        town.change(bob, &room, &bob.user, Membership::Leave).unwrap();
        town.runtime.pass(Duration::from_secs(2));
        assert_eq!(membership(bob, alice, &room), Some(Membership::Leave), "{version}");
        town.invite(alice, &room, bob);
        town.enter(bob, &room, 0).unwrap();
        town.say(bob, &room, "again");
        town.hear(alice, &room, "again");
        town.agree(&room, &[alice, bob]);
    }
}

#[test]
fn a_member_of_another_room_comes_into_a_restricted_one() {
    for version in [RoomVersion::V11, RoomVersion::V12] {
        let town = Town::new(43);
        let Town { alice, bob, beth, carol, .. } = &town;
        let club = town.create(alice, version, Preset::PrivateChat, json!({}));
        town.invite(alice, &club, bob);
        town.enter(bob, &club, 0).unwrap();
        town.agree(&club, &[alice, bob]);
        let rule =
            json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club.as_str()}]});
        let room = town.create(alice, version, Preset::PrivateChat, json!({"m.room.join_rules": rule}));
        town.hold_members();
        assert!(town.enter(carol, &room, 0).is_err(), "who is in no such room does not come in");
        town.enter(bob, &room, 0).unwrap();
        assert!(bob.is_partial(&room));
        town.say(bob, &room, "let in");
        town.hear(alice, &room, "let in");
        // Beth is of a server in the room, which does not know who may come: the other one decides.
        assert!(town.enter(beth, &room, 0).is_err());
        town.invite(bob, &room, beth);
        town.enter(beth, &room, 0).unwrap();
        town.agree(&room, &[alice, bob, beth]);
    }
}

#[test]
fn an_invitation_of_the_own_server_lets_in_before_it_has_travelled() {
    for version in [RoomVersion::V11, RoomVersion::V12] {
        let town = Town::new(45);
        let Town { alice, bob, beth, .. } = &town;
        let club = town.create(alice, version, Preset::PrivateChat, json!({}));
        let rule =
            json!({"join_rule": "restricted", "allow": [{"type": "m.room_membership", "room_id": club.as_str()}]});
        let room = town.create(alice, version, Preset::PrivateChat, json!({"m.room.join_rules": rule}));
        town.invite(alice, &room, bob);
        town.hold_members();
        town.enter(bob, &room, 0).unwrap();
        assert!(bob.is_partial(&room));
        // Who is not invited is told so at once.
        let begun = town.runtime.clock().monotonic();
        assert!(town.enter(beth, &room, 0).is_err());
        assert!(town.runtime.clock().monotonic() - begun < TRANSIT);
        town.network.hold("/_matrix/federation/v1/send/", TRANSIT);
        town.change(bob, &room, &beth.user, Membership::Invite).unwrap();
        town.enter(beth, &room, 0).unwrap();
        assert!(bob.is_partial(&room));
        town.agree(&room, &[alice, bob, beth]);
    }
}

#[test]
fn a_kick_that_comes_late_does_not_hide_the_invitation_after_it() {
    for version in [RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        let town = Town::new(46);
        let Town { alice, bob, .. } = &town;
        let room = town.create(alice, version, Preset::PrivateChat, json!({}));
        town.invite(alice, &room, bob);
        town.hold_members();
        town.enter(bob, &room, 0).unwrap();
        town.network.hold("/_matrix/federation/v1/send/", TRANSIT);
        town.change(alice, &room, &bob.user, Membership::Leave).unwrap();
        let (by, of, target) = (alice.clone(), room.clone(), bob.user.clone());
        town.run(async move { by.port().invite(&by.user, &of, &target, Map::new()).await }).unwrap();
        assert_eq!(membership(bob, bob, &room), Some(Membership::Join), "{version}: the kick is on its way");
        town.runtime.pass(5 * TRANSIT);
        assert_eq!(membership(bob, bob, &room), Some(Membership::Invite), "{version}");
        town.enter(bob, &room, 0).unwrap();
        town.agree(&room, &[alice, bob]);
    }
}

#[test]
fn what_happened_between_two_short_stays_is_read_after_the_second() {
    for version in [RoomVersion::V6, RoomVersion::V11, RoomVersion::V12] {
        let town = Town::new(47);
        let Town { alice, bob, .. } = &town;
        let room = town.create(alice, version, Preset::PrivateChat, json!({}));
        town.invite(alice, &room, bob);
        town.hold_members();
        town.enter(bob, &room, 0).unwrap();
        town.change(bob, &room, &bob.user, Membership::Leave).unwrap();
        town.runtime.pass(Duration::from_secs(2));
        town.say(alice, &room, "while bob is away");
        town.invite(alice, &room, bob);
        town.enter(bob, &room, 0).unwrap();
        town.agree(&room, &[alice, bob]);
        let (reader, nid) = (bob.clone(), bob.rooms.known_room(&room).unwrap());
        town.run(async move { while reader.port().backfill(nid, 100).await.unwrap() {} });
        assert!(has_heard(bob, &room, "while bob is away"), "{version}");
        let invitations = |member: &Member| count_shown(member, &room, "\"membership\":\"invite\"");
        assert_eq!((invitations(alice), invitations(bob)), (2, 2), "{version}");
    }
}

#[test]
fn who_comes_late_knows_the_names_of_members_where_history_is_hidden() {
    for version in [RoomVersion::V11, RoomVersion::V12] {
        let town = Town::new(48);
        let Town { alice, anna, bob, .. } = &town;
        let hidden = json!({"m.room.history_visibility": {"history_visibility": "joined"}});
        let room = town.create(alice, version, Preset::PublicChat, hidden);
        let (joining, of) = (anna.clone(), room.clone());
        town.run(async move {
            let (sender, target, content) =
                (joining.user.clone(), joining.user.clone(), object(json!({"displayname": "Anna"})));
            let change = MembershipChange { sender, target, membership: Membership::Join, content };
            joining.rooms.change_membership(&of, change).await.unwrap();
        });
        town.say(anna, &room, "before bob");
        town.hold_members();
        town.enter(bob, &room, 0).unwrap();
        assert!(bob.is_partial(&room));
        town.agree(&room, &[alice, anna, bob]);
        let told = content_of(bob, &room, "m.room.member", anna.user.as_str()).unwrap();
        assert_eq!(told["displayname"], "Anna", "{version}");
        assert_eq!(count_shown(bob, &room, "before bob"), 0, "{version}");
    }
}

#[test]
fn history_waits_a_little_for_the_members() {
    let town = Town::new(49);
    let Town { alice, bob, .. } = &town;
    let room = town.create(alice, RoomVersion::V12, Preset::PublicChat, json!({}));
    town.say(alice, &room, "before bob");
    town.network.hold("/_matrix/federation/v1/state_ids/", TRANSIT);
    town.enter(bob, &room, 0).unwrap();
    assert!(bob.is_partial(&room));
    let (reader, nid) = (bob.clone(), bob.rooms.known_room(&room).unwrap());
    assert!(town.run(async move { reader.port().backfill(nid, 100).await.unwrap() }));
    assert!(has_heard(bob, &room, "before bob"));
    town.agree(&room, &[alice, bob]);
}

#[test]
fn a_knock_is_answered() {
    for version in [RoomVersion::V11, RoomVersion::V12] {
        let town = Town::new(44);
        let Town { alice, bob, .. } = &town;
        let room =
            town.create(alice, version, Preset::PrivateChat, json!({"m.room.join_rules": {"join_rule": "knock"}}));
        assert!(town.enter(bob, &room, 0).is_err());
        let (knocking, of) = (bob.clone(), room.clone());
        let via = vec![ServerName::parse(NAMES[0]).unwrap()];
        town.run(async move { knocking.port().knock(&knocking.user, &of, &via, Map::new()).await }).unwrap();
        assert_eq!(membership(bob, alice, &room), Some(Membership::Knock));
        assert_eq!(membership(bob, bob, &room), Some(Membership::Knock));
        town.hold_members();
        town.invite(alice, &room, bob);
        town.enter(bob, &room, 0).unwrap();
        assert!(bob.is_partial(&room));
        town.say(alice, &room, "welcome");
        town.hear(bob, &room, "welcome");
        town.agree(&room, &[alice, bob]);
    }
}
