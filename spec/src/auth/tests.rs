use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::*;
use crate::{ids::EventId, signing::SigningKey, version::RoomVersion};

mod levels;
mod member;

pub(crate) const ALICE: &str = "@alice:a.example";
pub(crate) const BOB: &str = "@bob:b.example";
pub(crate) const CAROL: &str = "@carol:c.example";

/// An event with the id `$name`. `origin_server_ts` and `depth` are 1.
pub(crate) fn event(
    version: RoomVersion,
    name: &str,
    sender: &str,
    kind: &str,
    state_key: Option<&str>,
    content: Value,
) -> Value {
    let mut event = json!({
        "sender": sender, "type": kind, "content": content, "origin_server_ts": 1, "depth": 1,
        "prev_events": ["$previous"], "auth_events": [], "event_id": format!("${name}"),
        "room_id": if version == RoomVersion::V12 { "!create" } else { "!room:a.example" },
    });
    if let Some(state_key) = state_key {
        event["state_key"] = state_key.into();
    }
    if kind == CREATE {
        event["prev_events"] = json!([]);
    }
    event
}

/// The parsed event; create events of version 12 lose their room id.
pub(crate) fn pdu(version: RoomVersion, mut event: Value) -> Arc<Pdu> {
    if version == RoomVersion::V12 && event["type"] == CREATE {
        event.as_object_mut().unwrap().remove("room_id");
    }
    let id = EventId::parse(event["event_id"].as_str().unwrap()).unwrap();
    Arc::new(Pdu::from_trusted(id, &serde_json::to_vec(&event).unwrap()).unwrap())
}

/// A state to check events against: `create` by Alice, who is joined.
struct Room {
    version: RoomVersion,
    state: Vec<Arc<Pdu>>,
}

impl Room {
    fn new(version: RoomVersion) -> Self {
        let mut room = Self { version, state: Vec::new() };
        room.set(ALICE, CREATE, "", json!({ "creator": ALICE, "room_version": version.as_str() }));
        room.set(ALICE, MEMBER, ALICE, json!({ "membership": "join" }));
        room
    }

    fn set(&mut self, sender: &str, kind: &str, state_key: &str, content: Value) {
        let name = if kind == CREATE { "create" } else { "state" };
        let new = pdu(self.version, event(self.version, name, sender, kind, Some(state_key), content));
        self.state.retain(|old| old.kind != new.kind || old.state_key != new.state_key);
        self.state.push(new);
    }

    fn member(mut self, user: &str, membership: &str) -> Self {
        self.set(user, MEMBER, user, json!({ "membership": membership }));
        self
    }

    fn join_rule(mut self, rule: &str) -> Self {
        self.set(ALICE, JOIN_RULES, "", json!({ "join_rule": rule }));
        self
    }

    fn levels(mut self, content: Value) -> Self {
        self.set(ALICE, POWER_LEVELS, "", content);
        self
    }

    fn check_event(&self, event: Value) -> Result<(), AuthFailure> {
        let state = |kind: &str, key: &str| {
            self.state.iter().find(|event| &*event.kind == kind && event.state_key.as_deref() == Some(key)).cloned()
        };
        check_state(self.version.rules(), &pdu(self.version, event), &state)
    }

    fn check(&self, sender: &str, kind: &str, state_key: Option<&str>, content: Value) -> Result<(), AuthFailure> {
        self.check_event(event(self.version, "new", sender, kind, state_key, content))
    }

    fn check_member(&self, sender: &str, target: &str, membership: &str) -> Result<(), AuthFailure> {
        self.check(sender, MEMBER, Some(target), json!({ "membership": membership }))
    }
}

fn check_create(version: RoomVersion, change: impl FnOnce(&mut Value)) -> Result<(), AuthFailure> {
    let content = json!({ "creator": ALICE, "room_version": version.as_str() });
    let mut create = event(version, "create", ALICE, CREATE, Some(""), content);
    change(&mut create);
    check_auth_events(version.rules(), &pdu(version, create), &[])
}

#[test]
fn a_room_begins_with_a_well_formed_create_event() {
    for version in RoomVersion::ALL {
        let is_v12 = version == RoomVersion::V12;
        assert_eq!(check_create(version, |_| ()), Ok(()), "{version}");
        let with_parent = check_create(version, |create| create["prev_events"] = json!(["$before"]));
        assert_eq!(with_parent, Err(AuthFailure::CreateWithPrevEvents));
        let unknown = check_create(version, |create| create["content"]["room_version"] = "unknown".into());
        assert_eq!(unknown, Err(AuthFailure::CreateUnknownVersion));
        let no_creator = check_create(version, |create| create["content"] = json!({}));
        let needs_creator = version < RoomVersion::V11;
        assert_eq!(no_creator, if needs_creator { Err(AuthFailure::CreateWithoutCreator) } else { Ok(()) });
        let other_domain = check_create(version, |create| create["room_id"] = "!room:b.example".into());
        assert_eq!(other_domain, if is_v12 { Ok(()) } else { Err(AuthFailure::CreateRoomIdDomain) });
        for creators in [json!("@x:y"), json!(null), json!([1]), json!(["alice"])] {
            let more = check_create(version, |create| create["content"]["additional_creators"] = creators);
            assert_eq!(more, if is_v12 { Err(AuthFailure::CreateBadAdditionalCreators) } else { Ok(()) });
        }
    }
}

#[test]
fn a_create_event_of_version_12_has_no_room_id() {
    let mut create = event(RoomVersion::V12, "create", ALICE, CREATE, Some(""), json!({}));
    create["room_id"] = "!create".into();
    let create = Pdu::from_trusted(EventId::parse("$create").unwrap(), &serde_json::to_vec(&create).unwrap()).unwrap();
    assert_eq!(check_auth_events(RoomVersion::V12.rules(), &create, &[]), Err(AuthFailure::CreateWithRoomId));
}

fn check_listed(version: RoomVersion, auth: &[Value]) -> Result<(), AuthFailure> {
    let mut message = event(version, "message", ALICE, "m.room.message", None, json!({}));
    message["auth_events"] = auth.iter().map(|event| event["event_id"].clone()).collect();
    let auth: Vec<_> = auth.iter().map(|event| pdu(version, event.clone())).collect();
    check_auth_events(version.rules(), &pdu(version, message), &auth)
}

#[test]
fn auth_events_are_those_that_the_selection_asks_for() {
    for version in RoomVersion::ALL {
        let create = event(version, "create", ALICE, CREATE, Some(""), json!({}));
        let member = |name: &str, user: &str| event(version, name, user, MEMBER, Some(user), json!({}));
        let alice = member("alice", ALICE);
        if version == RoomVersion::V12 {
            assert_eq!(check_listed(version, std::slice::from_ref(&alice)), Ok(()));
            assert_eq!(check_listed(version, &[create]), Err(AuthFailure::AuthEventUnexpected));
            continue;
        }
        assert_eq!(check_listed(version, &[create.clone(), alice.clone()]), Ok(()));
        assert_eq!(check_listed(version, std::slice::from_ref(&alice)), Err(AuthFailure::AuthEventsWithoutCreate));
        let duplicate = check_listed(version, &[create.clone(), alice.clone(), member("again", ALICE)]);
        assert_eq!(duplicate, Err(AuthFailure::AuthEventDuplicate));
        let unexpected = check_listed(version, &[create.clone(), member("bob", BOB)]);
        assert_eq!(unexpected, Err(AuthFailure::AuthEventUnexpected));
        let mut elsewhere = alice.clone();
        elsewhere["room_id"] = "!other:a.example".into();
        assert_eq!(check_listed(version, &[create, elsewhere]), Err(AuthFailure::AuthEventOfOtherRoom));
    }
}

#[test]
fn a_missing_auth_event_is_reported() {
    let version = RoomVersion::V11;
    let mut message = event(version, "message", ALICE, "m.room.message", None, json!({}));
    message["auth_events"] = json!(["$nowhere"]);
    let result = check_auth_events(version.rules(), &pdu(version, message), &[]);
    assert_eq!(result, Err(AuthFailure::AuthEventMissing));
}

#[test]
fn selects_auth_types_for_memberships() {
    let sender = UserId::parse(BOB).unwrap();
    let select = |version: RoomVersion, state_key: &str, content: Value| {
        let content = serde_json::value::to_raw_value(&content).unwrap();
        let types = auth_types(version.rules(), MEMBER, &sender, Some(state_key), &content);
        types.into_iter().map(|(kind, key)| format!("{}|{key}", kind.trim_start_matches("m.room."))).collect::<Vec<_>>()
    };
    let join = json!({ "membership": "join", "join_authorised_via_users_server": ALICE });
    let base = ["create|", "power_levels|", "member|@bob:b.example"];
    assert_eq!(select(RoomVersion::V7, BOB, join.clone()), [&base[..], &["join_rules|"]].concat());
    let restricted = [&base[..], &["join_rules|", "member|@alice:a.example"]].concat();
    assert_eq!(select(RoomVersion::V8, BOB, join.clone()), restricted);
    assert_eq!(select(RoomVersion::V12, BOB, join), restricted[1..]);
    let invite = json!({ "membership": "invite", "third_party_invite": { "signed": { "token": "t" } } });
    let expected = [&base[..], &["member|@carol:c.example", "join_rules|", "third_party_invite|t"]].concat();
    assert_eq!(select(RoomVersion::V6, CAROL, invite), expected);
    let kick = json!({ "membership": "leave" });
    assert_eq!(select(RoomVersion::V6, CAROL, kick), [&base[..], &["member|@carol:c.example"]].concat());
}

#[test]
fn a_room_without_a_create_event_accepts_nothing() {
    for version in RoomVersion::ALL {
        let room = Room { version, state: Vec::new() };
        assert_eq!(room.check(ALICE, "m.room.message", None, json!({})), Err(AuthFailure::NoCreateEvent));
    }
}

#[test]
fn version_12_ties_the_room_to_its_create_event() {
    let room = Room::new(RoomVersion::V12);
    let mut message = event(RoomVersion::V12, "new", ALICE, "m.room.message", None, json!({}));
    assert_eq!(room.check_event(message.clone()), Ok(()));
    message["room_id"] = "!elsewhere".into();
    assert_eq!(room.check_event(message), Err(AuthFailure::RoomIdNotCreateEvent));
}

#[test]
fn unfederated_rooms_keep_other_servers_out() {
    for version in RoomVersion::ALL {
        for (federate, expected) in [(json!(true), Ok(())), (json!(false), Err(AuthFailure::NotFederated))] {
            let mut room = Room::new(version).join_rule("public");
            room.set(ALICE, CREATE, "", json!({ "creator": ALICE, "m.federate": federate }));
            assert_eq!(room.check_member(BOB, BOB, "join"), expected);
            assert_eq!(room.check(ALICE, "m.room.message", None, json!({})), Ok(()));
        }
    }
}

#[test]
fn aliases_belong_to_their_server_up_to_version_5() {
    for version in RoomVersion::ALL {
        let room = Room::new(version);
        let set = |key| room.check(BOB, "m.room.aliases", key, json!({}));
        if version <= RoomVersion::V5 {
            assert_eq!(set(Some("b.example")), Ok(()));
            assert_eq!(set(Some("a.example")), Err(AuthFailure::AliasesOfOtherServer));
            assert_eq!(set(None), Err(AuthFailure::AliasesWithoutStateKey));
        } else {
            assert_eq!(set(Some("b.example")), Err(AuthFailure::SenderNotJoined));
        }
    }
}

#[test]
fn only_members_with_enough_power_send() {
    for version in RoomVersion::ALL {
        let levels = json!({ "events": { "m.room.name": 20, "org.example.loud": 30 }, "users": { BOB: 20 } });
        let room = Room::new(version).member(BOB, "join").levels(levels);
        let send = |kind, key| room.check(BOB, kind, key, json!({}));
        assert_eq!(room.check(CAROL, "m.room.message", None, json!({})), Err(AuthFailure::SenderNotJoined));
        assert_eq!(send("m.room.message", None), Ok(()));
        assert_eq!(send("m.room.name", Some("")), Ok(()));
        assert_eq!(send("org.example.loud", None), Err(AuthFailure::EventLevel { required: 30 }));
        assert_eq!(send("m.room.topic", Some("")), Err(AuthFailure::EventLevel { required: 50 }));
        assert_eq!(send("m.room.name", Some(BOB)), Ok(()));
        assert_eq!(send("m.room.name", Some(ALICE)), Err(AuthFailure::StateKeyOfOtherUser));
        assert_eq!(send(THIRD_PARTY_INVITE, Some("token")), Ok(()));
        let strict = room.levels(json!({ "invite": 10 }));
        let invite = strict.check(BOB, THIRD_PARTY_INVITE, Some("token"), json!({}));
        assert_eq!(invite, Err(AuthFailure::ThirdPartyInviteLevel));
    }
}

#[test]
fn redactions_are_authorised_by_domain_or_level_in_versions_1_and_2() {
    for version in RoomVersion::ALL {
        let room = Room::new(version).member(BOB, "join").levels(json!({ "users": { ALICE: 50 } }));
        let redact = |sender: &str, own: &str, target: &str| {
            let mut redaction = event(version, "new", sender, "m.room.redaction", None, json!({}));
            redaction["event_id"] = own.into();
            redaction["redacts"] = target.into();
            room.check_event(redaction)
        };
        assert_eq!(redact(BOB, "$1:b.example", "$2:b.example"), Ok(()));
        assert_eq!(redact(ALICE, "$1:a.example", "$2:b.example"), Ok(()));
        let foreign = redact(BOB, "$1:b.example", "$2:a.example");
        assert_eq!(foreign, if version <= RoomVersion::V2 { Err(AuthFailure::RedactionLevel) } else { Ok(()) });
    }
}
