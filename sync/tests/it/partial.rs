//! Rooms that were entered without their members: who is shown them, and what is told once the members are known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use rooms::{CheckedPdu, Draft, Event, Finish, GivenState, RoomNid, RoomSeq};
use serde_json::{Value, json};
use spec::ids::{EventId, RoomId, ServerName};
use spec::pdu::Pdu;
use spec::signing::SigningKey;
use spec::version::RoomVersion;
use storage::Backend;
use sync::{SyncConfig, V3Request};
use users::Session;

use crate::server::{Server, filtered, object, request, run, token};

/// Charlie and Derek are in a room of another server's, which Alice has entered without knowing of them.
struct Far {
    server: Server,
    charlie: Arc<Session>,
    derek: Arc<Session>,
    room: RoomId,
    join: EventId,
    before: Vec<EventId>,
}

impl Far {
    async fn enter(here: &Server, alice: &Session, encrypted: bool) -> Far {
        let server = Server::named("far.test", Backend::Memory, SyncConfig::default());
        let (charlie, derek) = (server.login("charlie", "C").await, server.login("derek", "D").await);
        let room = server.create(&charlie, |request| request.name = Some("Tea".into())).await;
        if encrypted {
            server.set(&charlie, &room, "m.room.encryption", "", json!({"algorithm": "m.megolm.v1.aes-sha2"})).await;
        }
        server.join(&room, &derek).await;
        let nid = server.nid(&room);
        let before = server.rooms.events_after(nid, RoomSeq(0), 100).unwrap();
        server.rooms.intern_user(&alice.user_id).await.unwrap();
        let member = object(json!({"membership": "join"}));
        let draft = Draft::state(alice.user_id.clone(), "m.room.member", alice.user_id.as_str(), member);
        let (name, key) = (ServerName::parse("hs.test").unwrap(), SigningKey::from_seed([1; 32], "1").unwrap());
        let template = server.rooms.prepare(nid, draft).unwrap();
        let join = CheckedPdu::of_ours(Pdu::sign(template, &name, &key, RoomVersion::V11.rules()).unwrap().into());
        server.rooms.receive(join.clone()).await.unwrap();

        let id = |event: &Event| EventId::parse(event.event_id()).unwrap();
        let told = before.iter().filter(|event| event.kind() != "m.room.member").map(id).collect();
        let nid = here.rooms.begin_room(&room, RoomVersion::V11).await.unwrap();
        let outliers = before.iter().map(check).collect();
        here.rooms.receive_outliers(nid, outliers).await.unwrap();
        let via = server.rooms.server_name().clone();
        let before = before.iter().map(id).collect();
        let join_id = join.pdu().event_id.clone();
        here.rooms.enter_partial(nid, join, told, &via, vec![via.clone()]).await.unwrap();
        Far { server, charlie, derek, room, join: join_id, before }
    }

    /// Somebody there says something, and it arrives here.
    async fn say(&self, here: &Server, who: &Session, body: &str) {
        let id = self.server.say(who, &self.room, body).await;
        let nid = self.server.nid(&self.room);
        let events = self.server.rooms.events_after(nid, RoomSeq(0), 100).unwrap();
        let event = events.iter().find(|event| event.event_id() == id.as_str()).unwrap();
        here.rooms.receive(check(event)).await.unwrap();
    }

    async fn resync(&self, here: &Server) {
        let nid = here.nid(&self.room);
        let given = GivenState { state: self.before.clone(), then: None };
        here.rooms.begin_replay(nid, &self.join, vec![given]).await.unwrap();
        let marked = here.rooms.partial_events(nid).unwrap().iter().map(|event| event.seq).collect();
        here.rooms.replay(nid, marked, Vec::new()).await.unwrap();
        assert_eq!(here.rooms.finish_partial(nid).await.unwrap(), Finish::Done);
    }
}

fn check(event: &Event) -> CheckedPdu {
    CheckedPdu::of_ours(event.to_pdu().unwrap().into())
}

fn lazily(since: Option<&str>) -> V3Request {
    filtered(since, json!({"room": {"state": {"lazy_load_members": true}}}))
}

fn members(events: &Value) -> BTreeSet<&str> {
    let members = events.as_array().unwrap().iter().filter(|event| event["type"] == "m.room.member");
    members.map(|event| event["state_key"].as_str().unwrap()).collect()
}

fn nid_of(here: &Server, far: &Far) -> RoomNid {
    here.nid(&far.room)
}

#[test]
fn who_wants_all_members_sees_the_room_once_they_are_known() {
    run(|here| async move {
        let here = Arc::new(here);
        let alice = here.login("alice", "A").await;
        let start = token(&here.v3(&alice, None).await).to_owned();
        let far = Far::enter(&here, &alice, false).await;
        far.say(&here, &far.derek, "hello").await;
        assert!(here.v3(&alice, None).await.get("rooms").is_none());
        let hidden = here.v3(&alice, Some(&start)).await;
        assert!(hidden.get("rooms").is_none(), "{hidden}");
        // Nothing that happens there wakes the client, but that all is known.
        let sleeper = tokio::spawn({
            let (here, alice, mut since) = (here.clone(), alice.clone(), start.clone());
            async move {
                loop {
                    let asked = V3Request { timeout: Duration::from_secs(3600), ..request(Some(&since)) };
                    let answer = here.v3_with(&alice, asked).await.unwrap();
                    // The members are written just before the room is whole: who looks in between is told of their
                    // devices first.
                    if answer.get("rooms").is_some() || answer.get("device_lists").is_none() {
                        return answer;
                    }
                    since = token(&answer).to_owned();
                }
            }
        });
        tokio::time::sleep(Duration::from_millis(50)).await;
        far.say(&here, &far.charlie, "hello too").await;
        here.rooms.set_typing(nid_of(&here, &far), alice.user, Some(Duration::from_secs(9)));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!sleeper.is_finished());
        far.resync(&here).await;
        let answer = tokio::time::timeout(Duration::from_secs(60), sleeper).await.unwrap().unwrap();
        let after = here.v3(&alice, Some(token(&hidden))).await;
        // Nobody has to be encrypted for.
        assert!(after.get("device_lists").is_none(), "{after}");
        for answer in [after, answer, here.v3(&alice, None).await] {
            let room = &answer["rooms"]["join"][far.room.as_str()];
            let shown = members(&room["state"]["events"]);
            assert!(shown.is_superset(&BTreeSet::from(["@charlie:far.test", "@derek:far.test"])), "{room}");
            assert_eq!(room["summary"]["m.joined_member_count"], 3);
        }
        let since = here.v3(&alice, Some(&start)).await;
        assert!(here.v3(&alice, Some(token(&since))).await.get("rooms").is_none());
    });
}

#[test]
fn who_loads_members_lazily_sees_the_room_at_once() {
    run(|here| async move {
        let alice = here.login("alice", "A").await;
        let start = here.v3_with(&alice, lazily(None)).await.unwrap();
        let far = Far::enter(&here, &alice, false).await;
        far.say(&here, &far.derek, "hello").await;
        for since in [None, Some(token(&start))] {
            let answer = here.v3_with(&alice, lazily(since)).await.unwrap();
            let room = &answer["rooms"]["join"][far.room.as_str()];
            assert!(members(&room["state"]["events"]).contains("@derek:far.test"), "{room}");
            assert_eq!(room["summary"]["m.joined_member_count"], 1);
        }
        let before = here.v3_with(&alice, lazily(None)).await.unwrap();
        far.resync(&here).await;
        let answer = here.v3_with(&alice, lazily(Some(token(&before)))).await.unwrap();
        let room = &answer["rooms"]["join"][far.room.as_str()];
        assert_eq!(room["summary"]["m.joined_member_count"], 3, "{answer}");
        far.say(&here, &far.charlie, "hello too").await;
        let answer = here.v3_with(&alice, lazily(Some(token(&answer)))).await.unwrap();
        let room = &answer["rooms"]["join"][far.room.as_str()];
        assert_eq!(members(&room["state"]["events"]), BTreeSet::from(["@charlie:far.test"]));
    });
}

#[test]
fn the_devices_of_members_who_come_to_be_known_are_news_in_an_encrypted_room() {
    run(|here| async move {
        let alice = here.login("alice", "A").await;
        let far = Far::enter(&here, &alice, true).await;
        let since = here.v3(&alice, None).await;
        let before = here.rooms.store().visible();
        far.resync(&here).await;
        let answer = here.v3(&alice, Some(token(&since))).await;
        assert_eq!(answer["device_lists"]["changed"], json!(["@charlie:far.test", "@derek:far.test"]));
        let (met, parted) = here.rooms.encounters_since(alice.user, before, here.rooms.store().visible()).unwrap();
        assert_eq!((met.len(), parted.len()), (2, 0));
        let again = here.v3(&alice, Some(token(&answer))).await;
        assert!(again.get("device_lists").is_none(), "{again}");
    });
}

#[test]
fn sliding_sync_shows_the_room_at_once_and_again_once_all_is_known() {
    run(|here| async move {
        let alice = here.login("alice", "A").await;
        let far = Far::enter(&here, &alice, false).await;
        far.say(&here, &far.derek, "hello").await;
        let wish = json!({"all": {"ranges": [[0, 9]], "timeline_limit": 5,
            "required_state": [["m.room.name", ""], ["m.room.member", "$LAZY"]]}});
        let first = here.sliding(&alice, json!({"lists": wish})).await.unwrap();
        let room = &first["rooms"][far.room.as_str()];
        assert!(members(&room["required_state"]).contains("@derek:far.test"), "{room}");
        assert_eq!(room["joined_count"], 1);
        let nothing = here.sliding(&alice, json!({"lists": wish, "pos": first["pos"]})).await.unwrap();
        assert!(nothing["rooms"].get(far.room.as_str()).is_none(), "{nothing}");
        far.resync(&here).await;
        let second = here.sliding(&alice, json!({"lists": wish, "pos": nothing["pos"]})).await.unwrap();
        assert_eq!(second["rooms"][far.room.as_str()]["joined_count"], 3, "{second}");
        let third = here.sliding(&alice, json!({"lists": wish, "pos": second["pos"]})).await.unwrap();
        assert!(third["rooms"].get(far.room.as_str()).is_none(), "{third}");
    });
}
