//! Who is let into which call.

use std::time::Duration;

use rooms::Membership;
use serde_json::json;

use super::fixture::{Fixture, PHONE, member, seat, server, user};
use crate::{CallError, CallsConfig, Entrance, OpenIdProof, RemoteSeat, room_name};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_all_generations_meet() {
    let here = Fixture::new();
    here.account("alice").await;
    here.account("bob").await;
    let room = here.room(&["alice", "bob"]).await;
    let access = here.calls.admit(&user("alice"), &seat(&room), Entrance::Service).await.unwrap();
    assert_eq!(access.url, "wss://us.example/_rtc/sfu");
    let first = here.media.last();
    assert_eq!(access.jwt, format!("token of {}", first.identity));
    assert_eq!(first.identity, "@alice:us:PHONE");
    here.calls.admit(&user("bob"), &member(&room, "m1", Some(PHONE)), Entrance::Service).await.unwrap();
    let second = here.media.last();
    here.calls.admit(&user("bob"), &member(&room, "m1", None), Entrance::Client).await.unwrap();
    let third = here.media.last();
    assert_eq!(first.room, room_name(&room, "m.call#ROOM"));
    assert_eq!((&second.room, &third.room), (&first.room, &first.room));
    assert_ne!(second.identity, third.identity);
    assert!([first, second, third].iter().all(|grant| grant.can_publish && grant.may_create));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_members_of_the_room_with_a_device_of_theirs_come_in() {
    let here = Fixture::new();
    here.account("alice").await;
    let bob = here.account("bob").await;
    let room = here.room(&["alice"]).await;
    let refused = async |name: &str, seat| here.calls.admit(&user(name), &seat, Entrance::Service).await.unwrap_err();
    assert!(matches!(refused("bob", seat(&room)).await, CallError::NotInRoom));
    assert!(matches!(refused("nobody:far", seat(&room)).await, CallError::NotInRoom));
    let elsewhere = spec::ids::RoomId::parse("!other:far").unwrap();
    assert!(matches!(refused("alice", seat(&elsewhere)).await, CallError::NotInRoom));
    assert!(matches!(refused("alice", member(&room, "m", Some("OTHER"))).await, CallError::Forbidden(_)));
    assert!(matches!(refused("alice", member(&room, "", None)).await, CallError::BadRequest(_)));
    assert!(matches!(refused("alice", member(&room, &"x".repeat(256), None)).await, CallError::BadRequest(_)));
    here.change(&room, "bob", "bob", Membership::Join).await;
    here.calls.admit(&user("bob"), &seat(&room), Entrance::Service).await.unwrap();
    here.users.deactivate(bob).await.unwrap();
    assert!(matches!(refused("bob", seat(&room)).await, CallError::Forbidden(_)));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_of_other_servers_join_calls_that_are_open() {
    let here = Fixture::new();
    here.account("alice").await;
    let room = here.room(&["alice", "carol:far"]).await;
    let carol = async || {
        here.calls.admit(&user("carol:far"), &seat(&room), Entrance::Service).await.unwrap();
        here.media.last()
    };
    let grant = carol().await;
    assert!(grant.can_publish && !grant.may_create, "the call is not hers to begin");
    // Who was let in is expected: she may be faster.
    here.calls.admit(&user("alice"), &seat(&room), Entrance::Service).await.unwrap();
    assert!(carol().await.may_create);
    here.clock.advance(Duration::from_secs(301));
    assert!(!carol().await.may_create);
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_servers_ask_for_their_own_users_who_only_listen() {
    let here = Fixture::new();
    here.account("alice").await;
    let room = here.room(&["alice", "carol:far"]).await;
    let url = "wss://us.example/_rtc/sfu".to_owned();
    let wanted = RemoteSeat { user: user("carol:far"), url, seat: member(&room, "m", None) };
    here.calls.admit_for(&server("far"), &wanted).await.unwrap();
    let grant = here.media.last();
    assert!(!grant.can_publish && grant.may_create);
    let refused = here.calls.admit_for(&server("near"), &wanted).await.unwrap_err();
    assert!(matches!(refused, CallError::Forbidden(_)));
    let other = RemoteSeat { url: "wss://far.example/".to_owned(), ..wanted.clone() };
    assert!(matches!(here.calls.admit_for(&server("far"), &other).await.unwrap_err(), CallError::OtherMediaServer));
    here.change(&room, "alice", "carol:far", Membership::Ban).await;
    assert!(matches!(here.calls.admit_for(&server("far"), &wanted).await.unwrap_err(), CallError::NotInRoom));
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_media_servers_are_asked_for_by_their_homeserver() {
    let here = Fixture::new();
    here.account("alice").await;
    let room = here.room(&["alice"]).await;
    let url = "wss://far.example/sfu".to_owned();
    let wanted = RemoteSeat { user: user("alice"), url, seat: member(&room, "m", None) };
    assert_eq!(here.calls.ask_for_token(&server("far"), &wanted).await.unwrap(), "token from there");
    assert_eq!(*here.elsewhere.asked.lock(), [(server("far"), wanted.clone())]);
    here.change(&room, "alice", "alice", Membership::Leave).await;
    assert!(matches!(here.calls.ask_for_token(&server("far"), &wanted).await.unwrap_err(), CallError::NotInRoom));
    assert_eq!(here.elsewhere.asked.lock().len(), 1, "nobody is asked for who is not in the room");
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn identities_are_confirmed_by_the_server_that_is_named() {
    let here = Fixture::new();
    here.account("alice").await;
    let proof = here.proof("alice").await;
    assert_eq!(here.calls.verify_openid(&proof).await.unwrap(), user("alice"));
    let refused = async |proof: &OpenIdProof| here.calls.verify_openid(proof).await.unwrap_err();
    let forged = OpenIdProof { access_token: "guess".to_owned(), ..proof.clone() };
    assert!(matches!(refused(&forged).await, CallError::NotVerified(_)));
    let empty = OpenIdProof { access_token: String::new(), ..proof.clone() };
    assert!(matches!(refused(&empty).await, CallError::BadRequest(_)));
    let nowhere = OpenIdProof { matrix_server_name: "not a name".to_owned(), ..proof.clone() };
    assert!(matches!(refused(&nowhere).await, CallError::BadRequest(_)));
    here.clock.advance(HOUR);
    assert!(matches!(refused(&proof).await, CallError::NotVerified(_)), "it has expired");
    let far = OpenIdProof { access_token: "t".to_owned(), matrix_server_name: "far".to_owned() };
    assert!(matches!(refused(&far).await, CallError::NotVerified(_)));
    here.elsewhere.openid.lock().insert("t".to_owned(), user("carol:far"));
    assert_eq!(here.calls.verify_openid(&far).await.unwrap(), user("carol:far"));
    // No server speaks for users of another one, least of all for ours.
    for claimed in ["alice", "dave:near"] {
        here.elsewhere.openid.lock().insert("t".to_owned(), user(claimed));
        assert!(matches!(refused(&far).await, CallError::NotVerified(_)), "{claimed}");
    }
    here.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_told_where_to_go() {
    let here = Fixture::new();
    let service = json!({"type": "livekit", "livekit_service_url": "https://us.example/_rtc/jwt"});
    assert_eq!(here.calls.transports().unwrap(), [service]);
    assert!(here.calls.check_url("wss://us.example/_rtc/sfu/").is_ok());
    assert!(matches!(here.calls.check_url("wss://us.example/").unwrap_err(), CallError::OtherMediaServer));
    here.stop().await;
    let here = Fixture::with_config(CallsConfig { advertise_url: true, ..CallsConfig::default() });
    let transports = here.calls.transports().unwrap();
    assert_eq!(transports[0]["url"], "wss://us.example/_rtc/sfu");
    here.stop().await;
    let here = Fixture::with_config(CallsConfig { enabled: false, ..CallsConfig::default() });
    assert!(matches!(here.calls.transports().unwrap_err(), CallError::Off));
    let seat = seat(&spec::ids::RoomId::parse("!r:us").unwrap());
    let refused = here.calls.admit(&user("alice"), &seat, Entrance::Client).await.unwrap_err();
    assert!(matches!(refused, CallError::Off));
    here.stop().await;
}
