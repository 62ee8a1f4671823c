//! What followed policy lists do to rooms and users that are here already.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use rooms::{CheckedPdu, Draft, Membership, RoomNid, Verdict};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use spec::ids::{RoomId, ServerName, UserId};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use testkit::{Account, TestServer, encode_path_segment};

use crate::admin_room::{events, wait_for};
use crate::policy::{List, invite, join, send};

/// A user of a server that exists by its key alone.
struct Stranger {
    server: ServerName,
    user: UserId,
    key: SigningKey,
}

impl Stranger {
    fn new(user: &str) -> Stranger {
        let user = UserId::parse(user).unwrap();
        let server = ServerName::parse(user.server_name()).unwrap();
        Stranger { server, user, key: SigningKey::from_seed([9; 32], "1").unwrap() }
    }

    fn member(&self, target: &UserId, membership: Membership) -> Draft {
        let content = Map::from_iter([("membership".to_owned(), membership.as_str().into())]);
        Draft::state(self.user.clone(), "m.room.member", target.as_str(), content)
    }

    /// Joins a public room of the server's, as if another server had let them in.
    fn join(&self, server: &TestServer, room: &str) {
        let rooms = server.admin().rooms();
        let nid = nid(server, room);
        let rules = rooms.head(nid).unwrap().rules();
        let verdict = server.block_on(async {
            rooms.intern_user(&self.user).await.unwrap();
            let event = rooms.prepare(nid, self.member(&self.user, Membership::Join)).unwrap();
            let pdu = Pdu::sign(event, &self.server, &self.key, rules).unwrap();
            rooms.receive(CheckedPdu::of_ours(pdu.into())).await.unwrap()
        });
        assert_eq!(verdict, Verdict::Accepted);
    }

    /// Invites somebody into a room that this server is not in.
    fn invite(&self, server: &TestServer, room: &str, user: &str) {
        let content = json!({"membership": "invite"});
        let event = json!({
            "type": "m.room.member", "room_id": room, "sender": self.user, "state_key": user, "content": content,
            "auth_events": [], "prev_events": [], "depth": 5, "origin_server_ts": 1_700_000_000_000_u64,
        });
        let Value::Object(event) = event else { unreachable!() };
        let pdu = Pdu::sign(event, &self.server, &self.key, RoomVersion::V11.rules()).unwrap();
        let invited = server.admin().rooms().receive_invite(CheckedPdu::of_ours(pdu.into()), RoomVersion::V11, vec![]);
        server.block_on(invited).unwrap();
    }
}

fn nid(server: &TestServer, room: &str) -> RoomNid {
    server.admin().rooms().known_room(&RoomId::parse(room).unwrap()).unwrap()
}

fn membership(server: &TestServer, room: &str, user: &UserId) -> Option<Membership> {
    let rooms = server.admin().rooms();
    let room = rooms.room_nid(&RoomId::parse(room).unwrap()).unwrap()?;
    let user = rooms.user_nid(user).unwrap()?;
    rooms.membership(room, user).unwrap().map(|row| row.membership)
}

fn wait_for_membership(server: &TestServer, room: &str, user: &str, wanted: Membership) {
    let user = UserId::parse(user).unwrap();
    wait_for(wanted.as_str(), || (membership(server, room, &user) == Some(wanted)).then_some(()));
}

fn records(list: &mut List, operation: &str) -> usize {
    let audit = list.room.ask(&format!("!admin audit list --operation '{operation}' --json"));
    audit.matches(&format!("\"{operation}\"")).count()
}

/// What the server said in the admin room unasked.
fn announced(list: &mut List, part: &str) -> bool {
    let events = events(&mut list.room.admin, &list.room.id);
    let unasked = events.iter().filter(|event| event["content"]["m.relates_to"].is_null());
    unasked.filter_map(|event| event["content"]["body"].as_str()).any(|body| body.contains(part))
}

fn takedown(entity: &str) -> Value {
    json!({"entity": entity, "recommendation": "org.matrix.msc4204.takedown"})
}

#[test]
fn a_room_that_is_taken_down_is_left_and_opened_again_without_the_rule() {
    let mut list = List::start_with(|_| {});
    let mut bob = Account::register(list.room.server.client(), "bob");
    let mut carol = Account::register(list.room.server.client(), "carol");
    let named = bob.create_room(&json!({"preset": "public_chat"}));
    let hashed = bob.create_room(&json!({"preset": "public_chat"}));
    let banned = bob.create_room(&json!({"preset": "public_chat"}));
    let waiting = bob.create_room(&json!({"invite": [carol.user_id]}));
    carol.join(&named);
    list.rule("m.policy.rule.room", "a", &takedown(&named));
    let hash = STANDARD_NO_PAD.encode(Sha256::digest(hashed.as_bytes()));
    let by_hash = json!({"org.matrix.msc4205.hashes": {"sha256": hash}, "recommendation": "m.takedown"});
    list.rule("m.policy.rule.room", "b", &by_hash);
    list.ban("m.policy.rule.room", "c", &banned);
    list.ban("m.policy.rule.room", "d", &waiting);
    // Wildcards close no room that is here, and nothing closes the rooms that the server needs.
    list.rule("m.policy.rule.room", "e", &takedown("!*"));
    let (own, admin_room) = (list.list.clone(), list.room.id.clone());
    list.rule("m.policy.rule.room", "f", &takedown(&own));
    list.rule("m.policy.rule.room", "g", &takedown(&admin_room));
    let spared = bob.create_room(&json!({"preset": "public_chat"}));
    list.follow();
    for room in [&named, &hashed] {
        wait_for_membership(&list.room.server, room, &bob.user_id, Membership::Leave);
    }
    wait_for_membership(&list.room.server, &named, &carol.user_id, Membership::Leave);
    wait_for_membership(&list.room.server, &waiting, &carol.user_id, Membership::Leave);
    // Who is in a banned room stays, and nobody else comes.
    assert_eq!((send(&mut bob, &banned, "1"), join(&mut carol, &banned)), (200, 403));
    assert_eq!((send(&mut bob, &spared, "1"), join(&mut carol, &spared)), (200, 403));
    let blocked = list.room.ask("!admin room blocked");
    for (room, is_blocked) in
        [(&named, true), (&hashed, true), (&banned, true), (&spared, false), (&own, false), (&admin_room, false)]
    {
        assert_eq!(blocked.lines().any(|line| line.starts_with(room.as_str())), is_blocked, "{room}: {blocked}");
    }
    assert_eq!((records(&mut list, "policy empty-room"), records(&mut list, "policy block-room")), (2, 4));
    // What was done is not done again.
    list.room.restart();
    (bob.client, carol.client) = (list.room.server.client(), list.room.server.client());
    wait_for("the reading", || list.room.ask("!admin policy show").contains(&named).then_some(()));
    assert_eq!((records(&mut list, "policy empty-room"), records(&mut list, "policy block-room")), (2, 4));
    for key in ["a", "b", "c", "d", "e"] {
        list.rule("m.policy.rule.room", key, &json!({}));
    }
    for room in [&named, &hashed, &banned, &spared] {
        wait_for("the opening", || (join(&mut carol, room) != 403).then_some(()));
    }
}

#[test]
fn rooms_are_left_or_deleted_if_it_is_configured() {
    let mut list = List::start_with(|config| {
        config.admin.empty_listed_rooms = true;
        config.admin.delete_taken_down_rooms = true;
    });
    let mut bob = Account::register(list.room.server.client(), "bob");
    let banned = bob.create_room(&json!({"preset": "public_chat"}));
    let gone = bob.create_room(&json!({"preset": "public_chat", "room_alias_name": "gone"}));
    list.ban("m.policy.rule.room", "a", &banned);
    list.rule("m.policy.rule.room", "b", &takedown("#gone:hs.test"));
    list.follow();
    wait_for_membership(&list.room.server, &banned, &bob.user_id, Membership::Leave);
    let rooms = list.room.server.admin().rooms().clone();
    wait_for("the deletion", || rooms.room_nid(&RoomId::parse(&*gone).unwrap()).unwrap().is_none().then_some(()));
    assert_eq!(records(&mut list, "policy delete-room"), 1);
}

#[test]
fn a_user_named_for_takedown_is_locked_and_their_media_are_hidden() {
    let mut list = List::start_with(|config| config.admin.suspend_listed_users = true);
    let mut bob = Account::register(list.room.server.client(), "bob");
    let mut carol = Account::register(list.room.server.client(), "carol");
    let room = carol.create_room(&json!({}));
    let upload = bob.client.request_bytes("POST", "/_matrix/media/v3/upload", Some(&bob.token), Some(b"content"));
    let mxc = upload.unwrap().json()["content_uri"].as_str().unwrap().to_owned();
    list.room.ask("!admin user role carol moderator");
    list.rule("m.policy.rule.user", "a", &takedown(&bob.user_id));
    list.rule("m.policy.rule.user", "b", &takedown(&carol.user_id));
    list.rule("m.policy.rule.user", "c", &takedown("@conduit:hs.test"));
    list.follow();
    assert_eq!(bob.request("GET", "/account/whoami", None).unwrap().status, 401);
    let path = format!("/_matrix/client/v1/media/download/{}", mxc.strip_prefix("mxc://").unwrap());
    let mut fetch = || carol.client.request("GET", &path, Some(&carol.token), None).unwrap().status;
    wait_for("the quarantine", || (fetch() == 404).then_some(()));
    // Whoever moderates the server is only told of.
    assert_eq!(send(&mut carol, &room, "1"), 200);
    let named = format!("{} of this server is named", carol.user_id);
    wait_for("the announcement", || announced(&mut list, &named).then_some(()));
    assert!(!announced(&mut list, "@conduit:hs.test of"));
    list.rule("m.policy.rule.user", "a", &json!({}));
    wait_for("the unlocking", || (bob.request("GET", "/account/whoami", None).unwrap().status == 200).then_some(()));
    for (operation, times) in [("policy lock-user", 1), ("policy quarantine-media", 1), ("policy unlock-user", 1)] {
        assert_eq!(records(&mut list, operation), times, "{operation}");
    }
}

#[test]
fn strangers_are_reported_and_their_invitations_withdrawn() {
    let mut list = List::start_with(|config| config.federation.enabled = false);
    let mut bob = Account::register(list.room.server.client(), "bob");
    let room = bob.create_room(&json!({"preset": "public_chat"}));
    let (spam, friend) = (Stranger::new("@spam:evil.test"), Stranger::new("@friend:good.test"));
    for stranger in [&spam, &friend] {
        stranger.join(&list.room.server, &room);
        stranger.invite(&list.room.server, &format!("!elsewhere:{}", stranger.server), &bob.user_id);
    }
    list.ban("m.policy.rule.server", "a", "evil.*");
    list.follow();
    wait_for_membership(&list.room.server, "!elsewhere:evil.test", &bob.user_id, Membership::Leave);
    wait_for_membership(&list.room.server, "!elsewhere:good.test", &bob.user_id, Membership::Invite);
    wait_for("the announcement", || announced(&mut list, "in rooms of this server: @spam:evil.test").then_some(()));
    let present = list.room.ask("!admin policy present");
    assert!(present.contains("@spam:evil.test") && !present.contains("@friend:good.test"), "{present}");
    // Nobody's power was used.
    assert_eq!(membership(&list.room.server, &room, &spam.user), Some(Membership::Join));
    assert_eq!(records(&mut list, "policy withdraw-invite"), 1);
    // What the server is not told by events it does not hear from there.
    assert!(!list.room.server.admin().rooms().hears(&spam.user));
    assert!(list.room.server.admin().rooms().hears(&friend.user));
    list.rule("m.policy.rule.server", "a", &json!({}));
    wait_for("that nobody is named", || (list.room.ask("!admin policy present") == "none").then_some(()));
}

#[test]
fn a_user_bans_for_a_list_where_they_may_and_unbans_when_the_rule_is_gone() {
    let mut list = List::start_with(|config| config.federation.enabled = false);
    let mut bob = Account::register(list.room.server.client(), "bob");
    let mut guard = Account::register(list.room.server.client(), "guard");
    let powers = Map::from_iter([(bob.user_id.clone(), json!(100)), (guard.user_id.clone(), json!(50))]);
    let guarded = bob.create_room(&json!({
        "preset": "public_chat", "room_version": "11", "power_level_content_override": {"users": powers},
    }));
    let unguarded = bob.create_room(&json!({"preset": "public_chat"}));
    guard.join(&guarded);
    guard.join(&unguarded);
    let (spam, late) = (Stranger::new("@spam:evil.test"), Stranger::new("@late:evil.test"));
    for room in [&guarded, &unguarded] {
        spam.join(&list.room.server, room);
    }
    list.ban("m.policy.rule.user", "a", "@spam:evil.test");
    list.ban("m.policy.rule.user", "b", "@late:*");
    let command = format!("!admin policy act-as '{}' guard", list.list);
    assert!(list.room.ask(&command).contains("is not followed"));
    list.follow();
    assert!(list.room.ask(&command).contains("bans for the list"));
    wait_for_membership(&list.room.server, &guarded, spam.user.as_str(), Membership::Ban);
    // Who comes later is banned too, for the list's reason.
    late.join(&list.room.server, &guarded);
    wait_for_membership(&list.room.server, &guarded, late.user.as_str(), Membership::Ban);
    let path = format!("/rooms/{}/state/m.room.member/{}", encode_path_segment(&guarded), "%40late%3Aevil.test");
    assert_eq!(bob.expect("GET", &path, None)["reason"], "<b>spam</b>");
    // Where the guard has no power the user stays, and is shown.
    assert_eq!(membership(&list.room.server, &unguarded, &spam.user), Some(Membership::Join));
    assert!(list.room.ask("!admin policy present").contains("@spam:evil.test"));
    assert_eq!(invite(&mut bob, &unguarded, "@late:evil.test").0, 403);
    assert!(list.room.ask("!admin policy list").contains(&guard.user_id));
    list.rule("m.policy.rule.user", "a", &json!({}));
    wait_for_membership(&list.room.server, &guarded, spam.user.as_str(), Membership::Leave);
    assert_eq!(membership(&list.room.server, &guarded, &late.user), Some(Membership::Ban));
    assert_eq!((records(&mut list, "policy ban-member"), records(&mut list, "policy unban-member")), (2, 1));
    // A ban of somebody else's is not the list's to lift.
    let body = json!({"user_id": late.user, "reason": "again"});
    for action in ["unban", "ban"] {
        bob.expect("POST", &format!("/rooms/{}/{action}", encode_path_segment(&guarded)), Some(&body));
    }
    assert!(list.room.ask(&format!("!admin policy unfollow '{}'", list.list)).contains("not followed any more"));
    wait_for("the end of the sweep", || {
        let jobs = list.room.ask("!admin job list --kind policy-sweep --active --json");
        jobs.contains("[]").then_some(())
    });
    assert_eq!(membership(&list.room.server, &guarded, &late.user), Some(Membership::Ban));
}
