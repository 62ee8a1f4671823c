//! Calls between servers: tokens for the media server of the other one, and whose OpenID token it is.

use calls::{CALL_SLOT, CallError, Member, OpenIdProof, RemoteSeat, Seat};
use federation::Ask;
use rooms::{Membership, Preset};
use serde_json::{Value, json};
use spec::ids::{RoomId, UserId};
use spec::version::RoomVersion;

use crate::bed::{Server, assert_refused, run};

const STABLE: &str = "/_matrix/federation/v1/rtc/livekit/get_token";
const UNSTABLE: &str = "/_matrix/federation/unstable/io.element.msc4195/rtc/livekit/get_token";

/// A room of this server that somebody of the other one has joined.
async fn share_room(here: &Server, there: &Server) -> (UserId, UserId, RoomId) {
    let ((alice, _), (bob, _)) = (here.user("alice").await, there.user("bob").await);
    let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
    there.join(here, &room, &bob).await.unwrap();
    (alice, bob, room)
}

fn body(user: &UserId, room: &RoomId) -> Value {
    json!({
        "user_id": user, "url": "wss://hs.test/_rtc/sfu", "room_id": room, "slot_id": CALL_SLOT, "member_id": "m",
    })
}

#[test]
fn other_servers_get_tokens_for_their_users() {
    run(async |here, there| {
        let (alice, bob, room) = share_room(&here, &there).await;
        let ask = async |path: &str, body: &Value| there.ask(&here, Ask::post(path.to_owned(), body)).await;
        let good = body(&bob, &room);
        let answer = ask(STABLE, &good).await.unwrap();
        let token: Value = serde_json::from_str(answer["jwt"].as_str().unwrap()).unwrap();
        assert_eq!((&token["publish"], &token["create"]), (&json!(false), &json!(true)), "they publish at home");
        assert_eq!(ask(UNSTABLE, &good).await.unwrap(), answer);
        let with = |key: &str, value: Value| {
            let mut body = good.clone();
            body[key] = value;
            body
        };
        let mut older = with("member", json!({"id": "m"}));
        older.as_object_mut().unwrap().remove("member_id");
        assert_eq!(ask(STABLE, &older).await.unwrap(), answer);
        older.as_object_mut().unwrap().remove("member");
        assert_refused(ask(STABLE, &older).await, 400, "M_BAD_JSON");
        assert_refused(ask(STABLE, &with("url", "wss://remote.test".into())).await, 400, "M_INVALID_PARAM");
        assert_refused(ask(STABLE, &with("user_id", json!(alice))).await, 403, "M_FORBIDDEN");
        assert_refused(ask(STABLE, &with("user_id", "@nobody:remote.test".into())).await, 403, "M_FORBIDDEN");
        assert_refused(ask(STABLE, &with("room_id", "!other:hs.test".into())).await, 403, "M_FORBIDDEN");
        here.change(&room, &alice, &bob, Membership::Ban).await.unwrap();
        assert_refused(ask(STABLE, &good).await, 403, "M_FORBIDDEN");
    });
}

#[test]
fn servers_that_the_room_keeps_out_get_none() {
    run(async |here, there| {
        let (alice, bob, room) = share_room(&here, &there).await;
        let acl = json!({"allow": ["*"], "deny": ["remote.test"]});
        here.set(&room, &alice, "m.room.server_acl", "", acl).await;
        let answer = there.ask(&here, Ask::post(STABLE.to_owned(), &body(&bob, &room))).await;
        assert_refused(answer, 403, "M_FORBIDDEN");
    });
}

#[test]
fn calls_of_two_servers_ask_each_other() {
    run(async |here, there| {
        let (alice, bob, room) = share_room(&here, &there).await;
        // The other server does not know its own room here, so it asks nobody.
        let seat =
            Seat { room: room.clone(), slot: CALL_SLOT.to_owned(), member: Member::Id("m".into()), device: None };
        let wanted = RemoteSeat { user: bob.clone(), url: "wss://hs.test/_rtc/sfu".to_owned(), seat };
        let refused = there.calls.ask_for_token(&here.name, &wanted).await.unwrap_err();
        assert!(matches!(refused, CallError::NotInRoom));
        let room = here.create(&alice, RoomVersion::V11, Preset::PublicChat).await;
        let seat = Seat { room, ..wanted.seat };
        let wanted = RemoteSeat { user: alice.clone(), url: "wss://remote.test/_rtc/sfu".to_owned(), seat };
        let refused = here.calls.ask_for_token(&there.name, &wanted).await.unwrap_err();
        assert!(matches!(refused, CallError::RemoteRefused { status: 403, .. }), "{refused}");

        let (_, bob_nid) = (bob, there.rooms.user_nid(&there.user_id("bob")).unwrap().unwrap());
        let token = there.users.create_openid_token(bob_nid).await.unwrap();
        let proof = OpenIdProof { access_token: token.access_token, matrix_server_name: token.matrix_server_name };
        assert_eq!(here.calls.verify_openid(&proof).await.unwrap(), there.user_id("bob"));
        let forged = OpenIdProof { access_token: "guess".to_owned(), ..proof };
        assert!(matches!(here.calls.verify_openid(&forged).await.unwrap_err(), CallError::NotVerified(_)));
    });
}
